//! What delivery writes down: a row of `attempts` per try, a row of `dead-letters` per record given up.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::attempt::Tried;
use super::error::Stopped;
use super::plan::Lane;
use crate::event::{Attempt, DeadLetter, MAX_ATTEMPTS_IN_DEAD_LETTER, Timestamp};
use crate::kafka::codec::Encoder;
use crate::kafka::group::Incoming;
use crate::kafka::produce::Outgoing;
use crate::outcome::DeadLetterReason;
use crate::topics::{ATTEMPTS, DEAD_LETTERS, MAX_RECORD_BYTES};

/// Room for key, headers and Kafka's own framing beside a row's value.
const FRAME_BYTES: usize = 64 * 1024;
const MAX_VALUE_BYTES: usize = MAX_RECORD_BYTES as usize - FRAME_BYTES;

/// Makes rows for one target.
pub(super) struct Rows {
    target: String,
    worker_id: String,
    prefix: String,
    attempts: Encoder,
    dead_letters: Encoder,
    /// The last tries of each lane's head.
    history: HashMap<Arc<Lane>, VecDeque<Attempt>>,
}

impl Rows {
    /// Rows of this target, made by this instance, for topics with this prefix.
    pub(super) fn new(
        target: &str,
        worker_id: &str,
        prefix: &str,
        (attempts, dead_letters): (Encoder, Encoder),
    ) -> Self {
        Self {
            target: target.to_owned(),
            worker_id: worker_id.to_owned(),
            prefix: prefix.to_owned(),
            attempts,
            dead_letters,
            history: HashMap::new(),
        }
    }

    /// Forgets every head's tries.
    pub(super) fn clear(&mut self) {
        self.history.clear();
    }

    /// Forgets the tries of a head that is finished.
    pub(super) fn finished(&mut self, lane: &Lane) {
        self.history.remove(lane);
    }

    /// The row of a try.
    ///
    /// # Errors
    /// When it does not fit the schema.
    pub(super) fn attempt(&mut self, tried: &Tried, next_try_at: Option<Timestamp>) -> Result<Outgoing, Stopped> {
        let task = &tried.task;
        let attempt = Attempt {
            target: self.target.clone(),
            event_id: task.record.event_id().to_owned(),
            source: task.record.source().to_owned(),
            record_topic: task.topic.clone(),
            record_partition: task.partition,
            record_offset: task.offset,
            record_key: String::from_utf8_lossy(&task.key).into_owned(),
            n: i32::try_from(tried.n).unwrap_or(i32::MAX),
            started_at: tried.started_at,
            duration_us: i64::try_from(tried.took.as_micros()).unwrap_or(i64::MAX),
            status: tried.answer.status.map(i32::from),
            outcome: tried.answer.verdict.outcome,
            reason: tried.answer.verdict.reason.to_string(),
            answer: tried.answer.excerpt.clone(),
            next_try_at,
            replay_id: None,
            worker_id: self.worker_id.clone(),
        };
        let row = Outgoing {
            topic: format!("{}{ATTEMPTS}", self.prefix),
            partition: None,
            key: format!("{}/{}", self.target, attempt.event_id).into_bytes(),
            value: self.attempts.encode(&attempt).map_err(|cause| Stopped::Row { topic: ATTEMPTS, cause })?,
            headers: task.headers(),
            timestamp_ms: None,
        };
        let history = self.history.entry(Arc::clone(&tried.ticket.lane)).or_default();
        if history.len() == MAX_ATTEMPTS_IN_DEAD_LETTER {
            history.pop_front();
        }
        history.push_back(attempt);
        Ok(row)
    }

    /// The row of a record given up after `tried`, whose own row was made before.
    ///
    /// # Errors
    /// When it does not fit the schema.
    pub(super) fn dead_letter(
        &self,
        tried: &Tried,
        reason: DeadLetterReason,
        now: Timestamp,
    ) -> Result<Outgoing, Stopped> {
        let task = &tried.task;
        let last = &tried.answer.verdict.reason;
        let letter = DeadLetter {
            target: self.target.clone(),
            event_id: task.record.event_id().to_owned(),
            source: task.record.source().to_owned(),
            record_topic: task.topic.clone(),
            record_partition: task.partition,
            record_offset: task.offset,
            record: Some(task.record.clone()),
            undecodable: None,
            reason: reason.name().to_owned(),
            detail: Some(match &tried.answer.fault {
                Some(fault) => format!("{last}: {fault}"),
                None => last.to_string(),
            }),
            dead_at: now,
            attempts_total: i32::try_from(tried.n).unwrap_or(i32::MAX),
            attempts: self.history.get(&tried.ticket.lane).into_iter().flatten().cloned().collect(),
            replay_id: None,
        };
        Ok(Outgoing {
            topic: format!("{}{DEAD_LETTERS}", self.prefix),
            partition: None,
            key: task.key.clone(),
            value: self.fitting(letter)?,
            headers: task.headers(),
            timestamp_ms: None,
        })
    }

    /// The row of a record of `topic` (without prefix) that cannot be decoded, for this reason.
    ///
    /// # Errors
    /// When it does not fit the schema.
    pub(super) fn undecodable(
        &self,
        topic: &str,
        incoming: Incoming,
        why: &str,
        now: Timestamp,
    ) -> Result<Outgoing, Stopped> {
        let letter = DeadLetter {
            target: self.target.clone(),
            event_id: String::new(),
            source: String::new(),
            record_topic: topic.to_owned(),
            record_partition: incoming.partition.number,
            record_offset: incoming.offset,
            record: None,
            undecodable: Some(incoming.value.unwrap_or_default()),
            reason: DeadLetterReason::Undecodable.name().to_owned(),
            detail: Some(why.to_owned()),
            dead_at: now,
            attempts_total: 0,
            attempts: Vec::new(),
            replay_id: None,
        };
        Ok(Outgoing {
            topic: format!("{}{DEAD_LETTERS}", self.prefix),
            partition: None,
            key: incoming.key.unwrap_or_default(),
            value: self.fitting(letter)?,
            headers: incoming.headers,
            timestamp_ms: None,
        })
    }

    /// The letter's value, small enough for its topic: without the answers, or with less of the raw bytes, where it
    /// would not be. One that Kafka refuses would stop its partition for good.
    fn fitting(&self, mut letter: DeadLetter) -> Result<Vec<u8>, Stopped> {
        let encode = |letter: &DeadLetter| {
            self.dead_letters.encode(letter).map_err(|cause| Stopped::Row { topic: DEAD_LETTERS, cause })
        };
        let value = encode(&letter)?;
        if value.len() <= MAX_VALUE_BYTES {
            return Ok(value);
        }
        letter.attempts.iter_mut().for_each(|attempt| attempt.answer = None);
        if let Some(bytes) = &mut letter.undecodable {
            let (whole, room) = (bytes.len(), MAX_VALUE_BYTES - FRAME_BYTES);
            bytes.truncate(room);
            let detail = letter.detail.take().unwrap_or_default();
            letter.detail =
                Some(format!("{detail} (the first {room} of {whole} bytes; all stand in the record topic)"));
        }
        encode(&letter)
    }
}
