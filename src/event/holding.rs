//! What delivery keeps for itself: records that wait, and how far it has come. Internal; nobody else reads them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

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
    /// What a replay asked for; none for a record that came by its topic.
    #[serde(default)]
    pub redelivery: Option<Redelivered>,
}

/// What a replay asked for, beside a record that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redelivered {
    /// Offset in `redeliver.<target>`.
    pub offset: i64,
    /// Id of the replay.
    pub replay_id: String,
    /// Deliver it even when a newer record of its entity was delivered.
    #[serde(default)]
    pub allow_stale: bool,
    /// Whether the record stands among the dead letters.
    #[serde(default)]
    pub settles: bool,
}

/// A record to be delivered to one target again. Schema: `schemas/Redelivery.avsc`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redelivery {
    /// Id of the replay.
    pub replay_id: String,
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
    /// When the replay was asked for.
    pub requested_at: Timestamp,
    /// By whom.
    pub actor: String,
    /// Deliver it even when a newer record of its entity was delivered.
    #[serde(default)]
    pub allow_stale: bool,
    /// Whether the record stands among the dead letters: its delivery settles that.
    #[serde(default)]
    pub settles: bool,
    /// When the last try before the replay began, at the latest; none for when the replay was asked for.
    #[serde(default)]
    pub tried_at: Option<Timestamp>,
    /// Time between this record of the replay and the next, in all instances together, in microseconds; 0 for as fast
    /// as they go.
    #[serde(default)]
    pub interval_us: i64,
}

/// How far one target has come in one partition, or with one entity of it. Schema: `schemas/Progress.avsc`.
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
    /// Key of a record; the row then says nothing of the partition, but which of the entity's records the target has had.
    #[serde(default)]
    pub entity: Option<String>,
    /// When the newest record of the entity that the target has had happened.
    #[serde(default)]
    pub delivered_to: Option<Timestamp>,
}

/// Tries of an open record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// Its offset.
    pub offset: i64,
    /// Tries that said nothing of the record itself.
    pub tries: i32,
}

/// Which records a target is done with, or has parked: from the rows of `progress.<target>`.
#[derive(Debug, Default)]
pub struct Finished {
    /// By topic and partition: everything below the end but what is open.
    partitions: HashMap<(String, i32), (i64, BTreeSet<i64>)>,
}

impl Finished {
    /// Takes a row about a partition, or gives back one about an entity. Those `in_place` stand where positions belong;
    /// elsewhere stands what earlier versions wrote, which counts where there is nothing else.
    #[must_use]
    pub fn take(&mut self, row: Progress, in_place: bool) -> Option<Progress> {
        if row.entity.is_some() {
            return Some(row);
        }
        let finished = (row.end_offset, row.open.into_iter().collect());
        let partition = (row.record_topic, row.record_partition);
        if in_place {
            self.partitions.insert(partition, finished);
        } else {
            self.partitions.entry(partition).or_insert(finished);
        }
        None
    }

    /// Whether nothing is left to be done with the record at this place, unless it is parked.
    #[must_use]
    pub fn has(&self, topic: &str, partition: i32, offset: i64) -> bool {
        let finished = self.partitions.get(&(topic.to_owned(), partition));
        finished.is_some_and(|(end, open)| offset < *end && !open.contains(&offset))
    }
}
