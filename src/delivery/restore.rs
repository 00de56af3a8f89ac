//! What is known of partitions that were gained: progress and parked records, read to their true end.
//!
//! Of a parked record its place, its key and how it stands are kept, not its contents: a start costs little memory
//! however much is parked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::runtime::Handle;

use super::clock::Clock;
use super::lane::{Lane, Seat, Waiting};
use super::progress::Position;
use super::queue::Standing;
use super::repeat::Doubt;
use crate::event::{Parked, Progress, Timestamp};
use crate::kafka::codec::{DecodeError, Decoder};
use crate::kafka::group::{Incoming, Partition};
use crate::kafka::layout::Ground;
use crate::kafka::restore::{RestoreError, read_to_end};
use crate::topics::{self, POSITIONS};

/// Bound on reading what is known; under `max.poll.interval.ms` (5 min).
const BOUND: Duration = Duration::from_secs(240);

/// Why it cannot be known.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnknownState {
    /// A topic could not be read.
    #[error(transparent)]
    Read(#[from] RestoreError),
    /// A row could not be decoded: it may be the one that keeps a record from being sent again.
    #[error("the row at {}/{}@{offset} cannot be read: {cause}", partition.topic, partition.number)]
    Row {
        /// Where it stands.
        partition: Partition,
        /// Its offset there.
        offset: i64,
        /// What is wrong with it.
        cause: DecodeError,
    },
}

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Progress of each partition that has some, with the instance that wrote it.
    pub(super) positions: HashMap<Partition, (Position, String)>,
    /// When the newest record happened that an entity's target has had.
    pub(super) latest: Vec<(Lane, Timestamp)>,
    /// Parked records, each lane's in order.
    pub(super) waiting: Vec<(Lane, Waiting)>,
    /// Where the log of `parked` ends, or before, by partition number.
    pub(super) ends: HashMap<i32, i64>,
}

/// Reads what is known of the partitions `gained` by `target`. Blocks.
///
/// # Errors
/// When something cannot be read; without it nothing may be sent.
pub(super) fn read(
    ground: &Ground,
    target: &str,
    gained: &[Partition],
    (decoder, runtime): (&Decoder, &Handle),
    clock: &Clock,
) -> Result<Known, UnknownState> {
    let cluster = &ground.cluster;
    let numbers: BTreeSet<i32> = gained.iter().map(|partition| partition.number).collect();
    let of =
        |topic: &str| numbers.iter().map(|number| Partition { topic: topic.to_owned(), number: *number }).collect();
    let ours = |topic: &str, number: i32| {
        let partition = Partition { topic: cluster.topic(topic), number };
        gained.contains(&partition).then_some(partition)
    };
    let mut known = Known::default();

    let topic = cluster.topic(&topics::progress(target));
    let mut partitions: Vec<Partition> = of(&topic);
    if !numbers.contains(&POSITIONS) {
        partitions.push(Partition { topic: topic.clone(), number: POSITIONS });
    }
    let mut fault = None;
    let mut elsewhere: HashMap<Partition, (Position, String)> = HashMap::new();
    read_to_end(cluster, &partitions, BOUND, |row| {
        match decoder.decode_blocking::<Progress>(runtime, row.value.as_deref()) {
            Ok(progress) => {
                let Some(partition) = ours(&progress.record_topic, progress.record_partition) else { return };
                if let Some(entity) = progress.entity {
                    let lane = Lane { partition, key: entity.into_bytes() };
                    known.latest.extend(progress.delivered_to.map(|time| (lane, time)));
                } else {
                    let is_home = row.partition.number == POSITIONS;
                    let positions = if is_home { &mut known.positions } else { &mut elsewhere };
                    positions.insert(partition.clone(), position(partition, progress));
                }
            }
            Err(cause) => fault = fault.take().or(Some(unreadable(&row, cause))),
        }
    })?;
    if let Some(fault) = fault.take() {
        return Err(fault);
    }
    // Earlier versions wrote a position where its records stand: older than any that stands at home.
    for (partition, position) in elsewhere {
        known.positions.entry(partition).or_insert(position);
    }

    let topic = cluster.topic(&topics::parked(target));
    let partitions: Vec<Partition> = of(&topic);
    let mut parked: BTreeMap<Vec<u8>, (Lane, Row)> = BTreeMap::new();
    read_to_end(cluster, &partitions, BOUND, |row| {
        known.ends.insert(row.partition.number, row.offset + 1);
        let Some(key) = &row.key else { return };
        match decoder.decode_blocking::<Parked>(runtime, row.value.as_deref()) {
            Ok(waits) => {
                if let Some(partition) = ours(&waits.record_topic, waits.record_partition) {
                    parked.insert(key.clone(), waiting(partition, row.offset, &waits, clock));
                }
            }
            Err(DecodeError::Empty) => drop(parked.remove(key)),
            Err(cause) => fault = fault.take().or(Some(unreadable(&row, cause))),
        }
    })?;
    if let Some(fault) = fault {
        return Err(fault);
    }
    let mut waiting: Vec<(Lane, Row)> = parked.into_values().collect();
    // Rows stand in the order of the lane, but for the head's, which is written anew with each of its tries.
    waiting.sort_by_key(|(_, row)| (!row.leads, row.waiting.place));
    known.waiting = waiting.into_iter().map(|(lane, row)| (lane, row.waiting)).collect();
    Ok(known)
}

fn unreadable(row: &Incoming, cause: DecodeError) -> UnknownState {
    UnknownState::Row { partition: row.partition.clone(), offset: row.offset, cause }
}

fn position(partition: Partition, progress: Progress) -> (Position, String) {
    let count = |tries: i32| u32::try_from(tries).unwrap_or(0);
    let position = Position {
        partition,
        next: progress.next_offset,
        end: progress.end_offset,
        open: progress.open,
        tried: progress.tried.iter().map(|tried| (tried.offset, count(tried.tries))).collect(),
        sent_below: progress.sent_below,
        handed_over: progress.handed_over,
    };
    (position, progress.worker_id)
}

/// A parked record, and whether its row was written as that of its lane's head.
struct Row {
    waiting: Waiting,
    leads: bool,
}

fn waiting(partition: Partition, place: i64, row: &Parked, clock: &Clock) -> (Lane, Row) {
    let doubt = row
        .doubt_last_at
        .map(|last| Doubt { first: row.doubt_first_at.map(|first| clock.instant(first)), last: clock.instant(last) });
    let standing = Standing {
        tries: u32::try_from(row.tries).unwrap_or(0),
        failures: u32::try_from(row.failures).unwrap_or(0),
        spent: Duration::from_micros(u64::try_from(row.spent_us).unwrap_or(0)),
        due: row.next_try_at.map(|due| clock.instant(due)),
        doubt,
    };
    let lane = Lane { partition, key: row.key.clone().unwrap_or_default().into_bytes() };
    let seat = row.redelivery.as_ref().map_or(Seat::Record(row.record_offset), |again| Seat::Redelivery(again.offset));
    (lane, Row { waiting: Waiting { seat, place, standing }, leads: row.next_try_at.is_some() })
}
