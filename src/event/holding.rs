//! What delivery keeps for itself: records that wait, and how far it has come. Internal; nobody else reads them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{Attempt, Timestamp};

/// A record that waits for another try, or behind one that does. Schema: `schemas/Parked.avsc`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// Name of the target.
    pub target: String,
    /// Key of the record.
    pub key: Option<String>,
    /// Topic of the record, without prefix.
    pub record_topic: String,
    /// Partition of the record.
    pub record_partition: i32,
    /// Offset of the record.
    pub record_offset: i64,
    /// The record's value as it stands in its topic.
    #[serde(with = "serde_bytes")]
    pub value: Vec<u8>,
    /// The record's headers, as far as they are needed.
    pub headers: BTreeMap<String, ByteBuf>,
    /// When this row was written.
    pub parked_at: Timestamp,
    /// Tries made so far.
    pub tries: i32,
    /// When the next try is due; none for a successor.
    pub next_try_at: Option<Timestamp>,
    /// Last fault, as a stable reason; none for a successor.
    pub reason: Option<String>,
    /// Tries that failed for the record's own sake.
    #[serde(default)]
    pub failures: i32,
    /// Time that counts against giving the record up, in microseconds.
    #[serde(default)]
    pub spent_us: i64,
    /// When the first try began that the target may have acted on; none where it is not known.
    #[serde(default)]
    pub doubt_first_at: Option<Timestamp>,
    /// When the last such try began; none where there is none.
    #[serde(default)]
    pub doubt_last_at: Option<Timestamp>,
    /// The last tries, oldest first, at most [`super::MAX_ATTEMPTS_IN_DEAD_LETTER`].
    #[serde(default)]
    pub attempts: Vec<Attempt>,
}

/// How far one target has come in one partition. Schema: `schemas/Progress.avsc`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Record topic, without prefix.
    pub record_topic: String,
    /// Its partition.
    pub record_partition: i32,
    /// Everything below is delivered, given up or parked.
    pub next_offset: i64,
    /// So is everything below this, but what is in `open`.
    #[serde(default)]
    pub end_offset: i64,
    /// Unfinished offsets below `end_offset`, ascending.
    #[serde(default)]
    pub open: Vec<i64>,
    /// Open records that were tried.
    #[serde(default)]
    pub tried: Vec<Tried>,
    /// Of the open and later records, only those below may have been sent.
    #[serde(default)]
    pub sent_below: i64,
    /// Whether nothing was under way any more when this was written.
    #[serde(default)]
    pub handed_over: bool,
    /// When this was written.
    pub at: Timestamp,
    /// Id of the delivery instance.
    pub worker_id: String,
}

/// Tries of an open record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// Its offset.
    pub offset: i64,
    /// Tries that said nothing of the record itself.
    pub tries: i32,
}
