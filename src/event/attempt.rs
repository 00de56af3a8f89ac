//! What delivery leaves behind: one [`Attempt`] per try, a [`DeadLetter`] per record given up.

use serde::{Deserialize, Serialize};

use super::json::{wire_enum, wire_record};
use super::{Record, Timestamp, ToJson};

/// Most bytes of a target's answer that an [`Attempt`] keeps.
pub const MAX_ANSWER_BYTES: usize = 2048;
/// Most attempts a [`DeadLetter`] carries, the newest ones.
pub const MAX_ATTEMPTS_IN_DEAD_LETTER: usize = 20;

wire_enum! {
    /// How a target's answer was classified.
    AttemptOutcome {
        /// The target has the record.
        Delivered = "DELIVERED",
        /// The target had it already.
        Duplicate = "DUPLICATE",
        /// Transient fault: try again.
        Retry = "RETRY",
        /// The target said to slow down.
        RateLimited = "RATE_LIMITED",
        /// The target refused our credentials.
        Credentials = "CREDENTIALS",
        /// The target refused the record for good.
        Rejected = "REJECTED",
        /// No answer: the target may or may not have the record.
        Unresolved = "UNRESOLVED",
        /// The record is not for this target: nothing was sent.
        Filtered = "FILTERED",
    }
}

wire_record! {
    /// One try to deliver one record to one target. Schema: `schemas/Attempt.avsc`.
    Attempt {
        /// Name of the target.
        target: String,
        /// Event id of the record.
        event_id: String,
        /// Source of the record.
        source: String,
        /// Topic of the record, without prefix.
        record_topic: String,
        /// Partition of the record.
        record_partition: i32,
        /// Offset of the record.
        record_offset: i64,
        /// Key of the record.
        record_key: String,
        /// Number of the try, from 1.
        n: i32,
        /// When the try began.
        started_at: Timestamp,
        /// How long it took, in microseconds.
        duration_us: i64,
        /// HTTP status of the answer.
        status: Option<i32>,
        /// How the answer was classified.
        outcome: AttemptOutcome,
        /// Stable reason, e.g. `http_503`.
        reason: String,
        /// Excerpt of the answer, at most [`MAX_ANSWER_BYTES`].
        answer: Option<String>,
        /// What the target's description did to the record's fields, e.g. that one was cut to fit.
        #[serde(default)]
        notes: Option<String>,
        /// When the next try is due; none when there is none.
        next_try_at: Option<Timestamp>,
        /// Replay this try belongs to; none for live records.
        replay_id: Option<String>,
        /// Id of the delivery instance.
        worker_id: String,
    }
}

impl Attempt {
    /// When the try was over.
    #[must_use]
    pub fn ended_at(&self) -> Timestamp {
        self.started_at.plus(std::time::Duration::from_micros(u64::try_from(self.duration_us).unwrap_or(0)))
    }
}

/// A record that could not be delivered to one target. Schema: `schemas/DeadLetter.avsc`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Name of the target.
    pub target: String,
    /// Event id of the record; empty where it cannot be decoded.
    pub event_id: String,
    /// Source of the record; empty where it cannot be decoded.
    pub source: String,
    /// Topic of the record, without prefix.
    pub record_topic: String,
    /// Partition of the record.
    pub record_partition: i32,
    /// Offset of the record.
    pub record_offset: i64,
    /// The record; none only where it cannot be decoded, or in a row that settles.
    pub record: Option<Record>,
    /// The record's bytes as they stand in the topic, where they cannot be decoded.
    #[serde(with = "serde_bytes")]
    pub undecodable: Option<Vec<u8>>,
    /// Stable reason (a [`crate::outcome::DeadLetterReason`] by name).
    pub reason: String,
    /// The last fault in words.
    pub detail: Option<String>,
    /// When delivery was given up.
    pub dead_at: Timestamp,
    /// How many tries were made.
    pub attempts_total: i32,
    /// The last tries, oldest first, at most [`MAX_ATTEMPTS_IN_DEAD_LETTER`].
    pub attempts: Vec<Attempt>,
    /// Replay that was given up; none for live records.
    pub replay_id: Option<String>,
    /// What became of it (a [`crate::outcome::DeadLetterEnd`] by name), in a row without record and attempts; none while
    /// it waits. The newest row of a target and record counts.
    #[serde(default)]
    pub settled: Option<String>,
}

impl DeadLetter {
    /// Cuts the bytes of an undecodable record down to the first `room`, and says so in the detail: with its names, they
    /// can be more than Kafka takes. The record's place tells where all of them stand.
    pub fn shorten(&mut self, room: usize) {
        let Some(bytes) = self.undecodable.as_mut().filter(|bytes| bytes.len() > room) else { return };
        let whole = bytes.len();
        bytes.truncate(room);
        let detail = self.detail.take().unwrap_or_default();
        self.detail = Some(format!("{detail} (the first {room} of {whole} bytes; all stand in the record topic)"));
    }
}

impl ToJson for DeadLetter {
    fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "target": self.target,
            "event_id": self.event_id,
            "source": self.source,
            "record_topic": self.record_topic,
            "record_partition": self.record_partition,
            "record_offset": self.record_offset,
            "record": self.record.as_ref().map(ToJson::to_json),
            "undecodable": self.undecodable.as_ref().map(hex::encode),
            "reason": self.reason,
            "detail": self.detail,
            "dead_at": self.dead_at.to_json(),
            "attempts_total": self.attempts_total,
            "attempts": self.attempts.to_json(),
            "replay_id": self.replay_id,
            "settled": self.settled,
        })
    }
}
