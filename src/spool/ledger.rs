//! What is known of every segment: shared by the writer, which appends, and the reader, which drains.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::status::{SetAside, Status};
use crate::avro::Schema;
use crate::event::Timestamp;

/// A disk that takes longer for one group is of no use: providers' deadlines begin at 5 s.
const HANGS: Duration = Duration::from_secs(3);

/// One event's place: first by segment, then by sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Number of the segment.
    pub segment: u64,
    /// Number of the event within it.
    pub sequence: u64,
}

/// How to read a segment: what its head says.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) salt: [u8; 16],
    pub(super) schema: Arc<Schema>,
}

/// One segment that holds, or may hold, events.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) key: Key,
    /// Length of its file.
    pub(super) bytes: u64,
    /// Where its records begin.
    pub(super) start: u64,
    /// Up to where it was made durable; for one of an earlier process the file's length.
    pub(super) durable: u64,
    /// Whether more may be appended.
    pub(super) is_open: bool,
    /// Whether its records were counted: at once while it is written, by a survey where an earlier process wrote it.
    pub(super) is_counted: bool,
    /// Sequence of the next event; known once counted.
    pub(super) next: u64,
    /// Events not acknowledged.
    pub(super) left: u64,
    /// All events before this sequence are acknowledged.
    pub(super) acknowledged: u64,
    /// When its first event not acknowledged was received, or a little before.
    pub(super) received_at: Option<Timestamp>,
    /// Why the file is kept under another name when its events are acknowledged.
    pub(super) keep: Option<String>,
}

impl Segment {
    /// Whether nothing in it has to be kept for draining.
    pub(super) const fn is_drained(&self) -> bool {
        self.is_counted && self.left == 0
    }
}

/// Everything that is known.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) segments: BTreeMap<u64, Segment>,
    /// Why nothing can be appended now.
    pub(super) failing: Option<String>,
    pub(super) is_full: bool,
    /// Since when the disk has been busy with one group.
    pub(super) writing_since: Option<Instant>,
    pub(super) set_aside: Vec<SetAside>,
    /// Events that were set aside.
    pub(super) undrainable: u64,
    pub(super) lost_events: u64,
    pub(super) damaged_bytes: u64,
}

/// The shared form.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Known>);

impl Ledger {
    pub(super) fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Bytes on the disk that `max_size` bounds.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.bytes).sum()
    }

    /// Marks one event as acknowledged; those of a segment come in their order. Whether the segment has nothing left.
    pub(super) fn acknowledged(&mut self, at: Position, received_at: Timestamp) -> bool {
        let Some(segment) = self.segments.get_mut(&at.segment) else { return false };
        // Sent again after a failure: counted once.
        if at.sequence < segment.acknowledged {
            return false;
        }
        segment.acknowledged = at.sequence + 1;
        segment.left = segment.left.saturating_sub(1);
        segment.received_at = segment.received_at.max(Some(received_at));
        segment.is_drained()
    }

    /// Why nothing can be appended now.
    fn failing(&self) -> Option<String> {
        let hangs = || self.writing_since.is_some_and(|since| since.elapsed() > HANGS);
        match &self.failing {
            Some(why) => Some(why.clone()),
            None if self.is_full => Some("spool full (`receiver.spool.max_size`)".to_owned()),
            None => hangs().then(|| format!("the spool's disk has not answered for {HANGS:?}")),
        }
    }

    pub(super) fn status(&self) -> Status {
        let holding = || self.segments.values().filter(|segment| !segment.is_drained());
        Status {
            events: self.segments.values().map(|segment| segment.left).sum(),
            bytes: self.bytes(),
            segments: u64::try_from(holding().count()).unwrap_or(u64::MAX),
            oldest_received_at: holding().filter_map(|segment| segment.received_at).min(),
            uncounted: u64::try_from(holding().filter(|segment| !segment.is_counted).count()).unwrap_or(u64::MAX),
            set_aside: self.set_aside.clone(),
            undrainable: self.undrainable,
            lost_events: self.lost_events,
            damaged_bytes: self.damaged_bytes,
            failing: self.failing(),
        }
    }
}
