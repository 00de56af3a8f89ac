//! What delivery writes down: a row of `attempts` per try, of `dead-letters` per record given up, of `parked` per
//! record that waits, of `progress` per partition that got on.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::attempt::Tried;
use super::clock::Clock;
use super::commit::Row;
use super::error::Stopped;
use super::lane::{Change, Lane};
use super::progress::Position;
use super::queue::Standing;
use super::task::{TRACEPARENT, Task};
use crate::event::{self, Attempt, DeadLetter, MAX_ATTEMPTS_IN_DEAD_LETTER, Parked, Progress, Redelivery, Timestamp};
use crate::kafka::codec::Encoder;
use crate::kafka::group::Incoming;
use crate::kafka::headers::Headers;
use crate::kafka::produce::Outgoing;
use crate::outcome::{DeadLetterEnd, DeadLetterReason};
use crate::topics::{self, ATTEMPTS, DEAD_LETTERS, FRAME_BYTES, MAX_VALUE_BYTES};

/// Encoders of one target's rows.
#[derive(Clone, Debug)]
pub(super) struct RowEncoders {
    /// Of `attempts`.
    pub(super) attempts: Encoder,
    /// Of `dead-letters`.
    pub(super) dead_letters: Encoder,
    /// Of `parked.<target>`.
    pub(super) parked: Encoder,
    /// Of `progress.<target>`.
    pub(super) progress: Encoder,
}

/// Makes rows for one target.
pub(super) struct Rows {
    target: String,
    worker_id: String,
    prefix: String,
    encoders: RowEncoders,
    parked_topic: String,
    progress_topic: String,
    /// The last tries of each lane's head.
    history: HashMap<Arc<Lane>, VecDeque<Attempt>>,
}

impl Rows {
    /// Rows of this target, made by this instance, for topics with this prefix.
    pub(super) fn new(target: &str, worker_id: &str, prefix: &str, encoders: RowEncoders) -> Self {
        Self {
            target: target.to_owned(),
            worker_id: worker_id.to_owned(),
            prefix: prefix.to_owned(),
            encoders,
            parked_topic: format!("{prefix}{}", topics::parked(target)),
            progress_topic: format!("{prefix}{}", topics::progress(target)),
            history: HashMap::new(),
        }
    }

    /// Forgets every head's tries.
    pub(super) fn clear(&mut self) {
        self.history.clear();
    }

    /// Takes over the tries of a head that was fetched.
    pub(super) fn remember(&mut self, lane: &Arc<Lane>, attempts: Vec<Attempt>) {
        self.history.insert(Arc::clone(lane), attempts.into());
    }

    /// Forgets the tries of a head that is finished, or no longer in memory.
    pub(super) fn forget(&mut self, lane: &Lane) {
        self.history.remove(lane);
    }

    /// The row of a try. Where it is not the `last` word on its record, later rows will tell of it.
    ///
    /// # Errors
    /// When it does not fit the schema.
    pub(super) fn attempt(
        &mut self,
        tried: &Tried,
        next_try_at: Option<Timestamp>,
        last: bool,
    ) -> Result<Row, Stopped> {
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
            notes: (!tried.answer.notes.is_empty()).then(|| tried.answer.notes.join("; ")),
            next_try_at,
            replay_id: task.replay_id(),
            worker_id: self.worker_id.clone(),
        };
        let row = Outgoing {
            topic: format!("{}{ATTEMPTS}", self.prefix),
            partition: None,
            key: format!("{}/{}", self.target, attempt.event_id).into_bytes(),
            value: self.encoders.attempts.encode(&attempt).map_err(|cause| Stopped::Row { topic: ATTEMPTS, cause })?,
            headers: task.headers(),
            timestamp_ms: None,
        };
        if last {
            return Ok(Row::Write(row));
        }
        let history = self.history.entry(Arc::clone(&tried.ticket.lane)).or_default();
        if history.len() == MAX_ATTEMPTS_IN_DEAD_LETTER {
            history.pop_front();
        }
        history.push_back(attempt);
        Ok(Row::Write(row))
    }

    /// The row of a record given up after `tried`, whose own row was made before.
    ///
    /// # Errors
    /// When it does not fit the schema.
    pub(super) fn dead_letter(&self, tried: &Tried, reason: DeadLetterReason, now: Timestamp) -> Result<Row, Stopped> {
        let task = &tried.task;
        let last = &tried.answer.verdict.reason;
        let letter = DeadLetter {
            target: self.target.clone(),
            event_id: task.record.event_id().to_owned(),
            source: task.record.source().to_owned(),
            record_topic: task.topic.clone(),
            record_partition: task.partition,
            record_offset: task.offset,
            record: Some((*task.record).clone()),
            undecodable: None,
            reason: reason.name().to_owned(),
            detail: Some(match &tried.answer.fault {
                Some(fault) => format!("{last}: {fault}"),
                None => last.to_string(),
            }),
            dead_at: now,
            attempts_total: i32::try_from(tried.n).unwrap_or(i32::MAX),
            attempts: self.history.get(&tried.ticket.lane).into_iter().flatten().cloned().collect(),
            replay_id: task.replay_id(),
            settled: None,
        };
        self.letter(letter, task.key.clone(), task.headers())
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
    ) -> Result<Row, Stopped> {
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
            settled: None,
        };
        self.letter(letter, incoming.key.unwrap_or_default(), incoming.headers)
    }

    /// The row of a redelivery that came back without a try.
    ///
    /// # Errors
    /// When it does not fit the schema.
    pub(super) fn returned(
        &self,
        row: Redelivery,
        headers: Headers,
        reason: DeadLetterReason,
        why: String,
        now: Timestamp,
    ) -> Result<Row, Stopped> {
        let letter = DeadLetter {
            target: self.target.clone(),
            event_id: headers.get("ce_id").unwrap_or_default().to_owned(),
            source: headers.get("ce_source").unwrap_or_default().to_owned(),
            record_topic: row.record_topic,
            record_partition: row.record_partition,
            record_offset: row.record_offset,
            record: None,
            undecodable: Some(row.value),
            reason: reason.name().to_owned(),
            detail: Some(why),
            dead_at: now,
            attempts_total: 0,
            attempts: Vec::new(),
            replay_id: Some(row.replay_id),
            settled: None,
        };
        self.letter(letter, row.key.unwrap_or_default().into_bytes(), headers)
    }

    /// The row that settles the dead letter of a record which a replay brought to this end.
    ///
    /// # Errors
    /// When it does not fit the schema.
    pub(super) fn settled(&self, task: &Task, n: u32, end: DeadLetterEnd, now: Timestamp) -> Result<Row, Stopped> {
        let letter = DeadLetter {
            target: self.target.clone(),
            event_id: task.record.event_id().to_owned(),
            source: task.record.source().to_owned(),
            record_topic: task.topic.clone(),
            record_partition: task.partition,
            record_offset: task.offset,
            record: None,
            undecodable: None,
            reason: end.name().to_owned(),
            detail: None,
            dead_at: now,
            attempts_total: i32::try_from(n).unwrap_or(i32::MAX),
            attempts: Vec::new(),
            replay_id: task.replay_id(),
            settled: Some(end.name().to_owned()),
        };
        self.letter(letter, task.key.clone(), task.headers())
    }

    fn letter(&self, letter: DeadLetter, key: Vec<u8>, headers: Headers) -> Result<Row, Stopped> {
        Ok(Row::Write(Outgoing {
            topic: format!("{}{DEAD_LETTERS}", self.prefix),
            partition: None,
            key,
            value: self.fitting(letter)?,
            headers,
            timestamp_ms: None,
        }))
    }

    /// What has to be written to `parked`.
    ///
    /// # Errors
    /// When it does not fit the schema.
    pub(super) fn change(&self, change: &Change<Task>, clock: &Clock) -> Result<Row, Stopped> {
        let (lane, seat) = match change {
            Change::Park { lane, seat, .. } | Change::Release { lane, seat } => (lane, *seat),
        };
        let (topic, partition) = (self.parked_topic.clone(), lane.partition.number);
        let short = lane.partition.topic.strip_prefix(&self.prefix).unwrap_or(&lane.partition.topic);
        let key = seat.key(short, partition, &self.target).into_bytes();
        let Change::Park { record, leads, standing, .. } = change else {
            return Ok(Row::Erase { topic, partition, key });
        };
        let row = self.parked(record, *standing, self.history.get(lane).filter(|_| *leads), *leads, clock);
        let value = self.encoders.parked.encode(&row).map_err(|cause| Stopped::Row { topic: "parked", cause })?;
        let headers = Headers::default();
        Ok(Row::Write(Outgoing { topic, partition: Some(partition), key, value, headers, timestamp_ms: None }))
    }

    fn parked(
        &self,
        task: &Task,
        standing: Standing,
        history: Option<&VecDeque<Attempt>>,
        leads: bool,
        clock: &Clock,
    ) -> Parked {
        let count = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        let now = leads.then_some(clock.at);
        let traceparent =
            task.traceparent.as_ref().map(|value| (TRACEPARENT.to_owned(), value.clone().into_bytes().into()));
        Parked {
            target: self.target.clone(),
            key: Some(String::from_utf8_lossy(&task.key).into_owned()),
            record_topic: task.topic.clone(),
            record_partition: task.partition,
            record_offset: task.offset,
            value: task.value.clone(),
            headers: traceparent.into_iter().collect::<BTreeMap<_, _>>(),
            parked_at: clock.at,
            tries: count(standing.tries),
            next_try_at: standing.due.map(|due| clock.wall(due)).or(now),
            reason: history.and_then(VecDeque::back).map(|last| last.reason.clone()),
            failures: count(standing.failures),
            spent_us: i64::try_from(standing.spent.as_micros()).unwrap_or(i64::MAX),
            doubt_first_at: standing.doubt.and_then(|doubt| doubt.first).map(|first| clock.wall(first)),
            doubt_last_at: standing.doubt.map(|doubt| clock.wall(doubt.last)),
            attempts: history.into_iter().flatten().cloned().collect(),
            redelivery: task.replay.clone(),
        }
    }

    /// The row of a partition's progress.
    ///
    /// # Errors
    /// When it does not fit the schema.
    pub(super) fn progress(&self, position: Position, now: Timestamp) -> Result<Row, Stopped> {
        let Position { partition, next, end, open, tried, sent_below, handed_over } = position;
        let topic = partition.topic.strip_prefix(&self.prefix).unwrap_or(&partition.topic);
        let tried = tried.into_iter().map(|(offset, tries)| {
            let tries = i32::try_from(tries).unwrap_or(i32::MAX);
            event::Tried { offset, tries }
        });
        let row = Progress {
            record_topic: topic.to_owned(),
            record_partition: partition.number,
            next_offset: next,
            end_offset: end,
            open,
            tried: tried.collect(),
            sent_below,
            handed_over,
            at: now,
            worker_id: self.worker_id.clone(),
            entity: None,
            delivered_to: None,
        };
        self.progress_row(&row)
    }

    /// The row that says up to which time the target has had an entity's records.
    ///
    /// # Errors
    /// When it does not fit the schema.
    pub(super) fn latest(&self, task: &Task, occurred: Timestamp, now: Timestamp) -> Result<Row, Stopped> {
        self.progress_row(&Progress {
            record_topic: task.topic.clone(),
            record_partition: task.partition,
            next_offset: 0,
            end_offset: 0,
            open: Vec::new(),
            tried: Vec::new(),
            sent_below: 0,
            handed_over: false,
            at: now,
            worker_id: self.worker_id.clone(),
            entity: Some(String::from_utf8_lossy(&task.key).into_owned()),
            delivered_to: Some(occurred),
        })
    }

    fn progress_row(&self, row: &Progress) -> Result<Row, Stopped> {
        let place = format!("{}/{}", row.record_topic, row.record_partition);
        Ok(Row::Write(Outgoing {
            topic: self.progress_topic.clone(),
            partition: Some(if row.entity.is_some() { row.record_partition } else { topics::POSITIONS }),
            key: row.entity.as_ref().map_or_else(|| place.clone(), |entity| format!("{place}/{entity}")).into_bytes(),
            value: self.encoders.progress.encode(row).map_err(|cause| Stopped::Row { topic: "progress", cause })?,
            headers: Headers::default(),
            timestamp_ms: None,
        }))
    }

    /// The letter's value, small enough for its topic: without the answers, or with less of the raw bytes, where it
    /// would not be. One that Kafka refuses would stop its partition for good.
    fn fitting(&self, mut letter: DeadLetter) -> Result<Vec<u8>, Stopped> {
        let encode = |letter: &DeadLetter| {
            self.encoders.dead_letters.encode(letter).map_err(|cause| Stopped::Row { topic: DEAD_LETTERS, cause })
        };
        let value = encode(&letter)?;
        if value.len() <= MAX_VALUE_BYTES {
            return Ok(value);
        }
        letter.attempts.iter_mut().for_each(|attempt| attempt.answer = None);
        letter.shorten(MAX_VALUE_BYTES - FRAME_BYTES);
        encode(&letter)
    }
}
