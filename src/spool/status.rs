//! What a spool holds, for metrics, `control` and people.

use serde::Serialize;

use crate::event::Timestamp;

/// What a spool holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Events not known to be on Kafka.
    pub events: u64,
    /// Bytes of its segments' files.
    pub bytes: u64,
    /// Segments with such events.
    pub segments: u64,
    /// Segments of an earlier process whose events are not counted in `events` yet.
    pub uncounted: u64,
    /// When the oldest event in it was received, or a little before; none where it is empty.
    pub oldest_received_at: Option<Timestamp>,
    /// Files kept under another name, since something in them could not be drained.
    pub set_aside: Vec<SetAside>,
    /// Events that could not be drained since this process began: their files are among those kept.
    pub undrainable: u64,
    /// Events known to be unreadable: between others that are not.
    pub lost_events: u64,
    /// Bytes that hold no whole record.
    pub damaged_bytes: u64,
    /// Why nothing can be appended now.
    pub failing: Option<String>,
}

/// A file kept for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SetAside {
    /// Its name in the spool's folder.
    pub file: String,
    /// Why it was kept; empty for one that an earlier process set aside.
    pub reason: String,
}

impl Status {
    /// Whether it holds nothing, as far as is known.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.events == 0 && self.uncounted == 0
    }

    /// As JSON, names as in this type.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "events": self.events,
            "bytes": self.bytes,
            "segments": self.segments,
            "uncounted_segments": self.uncounted,
            "oldest_received_at": self.oldest_received_at.map(|at| at.to_string()),
            "set_aside": self.set_aside,
            "undrainable_events": self.undrainable,
            "lost_events": self.lost_events,
            "damaged_bytes": self.damaged_bytes,
            "failing": self.failing,
        })
    }
}
