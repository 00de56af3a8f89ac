//! Dead letters: which wait, and an operator's word on them.
//!
//! A record's letters at one target are rows of `dead-letters`; the newest counts. One with an end is settled: delivery
//! writes that with the replay that delivered it, and a discard writes it here.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::audit;
use super::error::OperateError;
use super::read::{Newest, at, unsettled};
use super::replay::{self, Chosen, Pace, Place, Repeat, Replay, TRACEPARENT};
use super::selection::{Candidate, Selection};
use super::write::{Done, Writer};
use crate::avro::AvroError;
use crate::event::{AuditEntry, DeadLetter, Timestamp};
use crate::kafka::group::Incoming;
use crate::kafka::headers::Headers;
use crate::kafka::layout::{Encoders, Ground};
use crate::kafka::produce::Outgoing;
use crate::kafka::records;
use crate::outcome::DeadLetterEnd;
use crate::topics::DEAD_LETTERS;

/// A dead letter that waits, without its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The target that it was for.
    pub target: String,
    /// Its event; empty where the record cannot be decoded.
    pub event_id: String,
    /// Source of the event; empty likewise.
    pub source: String,
    /// The record's place.
    pub place: Place,
    /// When it happened.
    pub occurred_at: Option<Timestamp>,
    /// Why it was given up the last time.
    pub reason: String,
    /// The last fault in words.
    pub detail: Option<String>,
    /// When that was.
    pub dead_at: Timestamp,
    /// How many tries were made.
    pub attempts: i32,
    /// The replay that was given up.
    pub replay_id: Option<String>,
    key: Vec<u8>,
    /// Where its newest row stands in `dead-letters`: partition and offset.
    row: (i32, i64),
}

impl Letter {
    fn of(row: &Incoming, letter: DeadLetter) -> Self {
        Self {
            target: letter.target,
            event_id: letter.event_id,
            source: letter.source,
            place: (letter.record_topic, letter.record_partition, letter.record_offset),
            occurred_at: letter.record.and_then(|record| record.occurred_at()),
            reason: letter.reason,
            detail: letter.detail,
            dead_at: letter.dead_at,
            attempts: letter.attempts_total,
            replay_id: letter.replay_id,
            key: row.key.clone().unwrap_or_default(),
            row: (row.partition.number, row.offset),
        }
    }

    fn candidate(&self) -> Candidate<'_> {
        let Self { event_id, source, target, reason, dead_at, .. } = self;
        Candidate { event_id, source, target: Some(target), reason, at: *dead_at }
    }

    /// The record behind it, to be delivered again.
    fn chosen(&self) -> Chosen {
        Chosen {
            place: self.place.clone(),
            event_id: self.event_id.clone(),
            occurred_at: self.occurred_at,
            recorded_at: self.dead_at,
            is_dead: true,
            is_stale: false,
            key: self.key.clone(),
        }
    }

    /// For programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (topic, partition, offset) = &self.place;
        json!({
            "target": self.target,
            "event_id": self.event_id,
            "source": self.source,
            "record_topic": topic,
            "record_partition": partition,
            "record_offset": offset,
            "reason": self.reason,
            "detail": self.detail,
            "dead_at": self.dead_at.to_string(),
            "attempts_total": self.attempts,
            "replay_id": self.replay_id,
        })
    }
}

/// Dead letters that wait, oldest first. Blocks.
///
/// # Errors
/// When the topic cannot be read or a row not be decoded.
pub fn waiting(ground: &Ground, runtime: &Handle, selection: &Selection) -> Result<Vec<Letter>, OperateError> {
    let mut waiting = unsettled(ground, runtime, DEAD_LETTERS, |row, letter: DeadLetter| {
        let is_settled = letter.settled.is_some();
        let what = Letter::of(row, letter);
        Newest { name: (what.target.clone(), what.place.clone()), is_settled, what }
    })?;
    waiting.retain(|letter| selection.takes(letter.candidate()));
    waiting.sort_by_key(|letter| (letter.dead_at, letter.row));
    Ok(waiting)
}

/// The rows of these letters, with record and attempts. Blocks.
///
/// # Errors
/// As [`waiting`].
pub fn bodies(ground: &Ground, runtime: &Handle, wanted: &[Letter]) -> Result<Vec<DeadLetter>, OperateError> {
    let mut found = Vec::new();
    at(ground, runtime, DEAD_LETTERS, &rows_of(wanted), |_, letter| {
        found.push(letter);
        Ok(())
    })?;
    Ok(found)
}

fn rows_of(letters: &[Letter]) -> HashSet<(i32, i64)> {
    letters.iter().map(|letter| letter.row).collect()
}

/// Splits off those whose target has had a newer record of their entity. Blocks.
///
/// # Errors
/// When a topic cannot be read or a row not be decoded.
pub fn part_stale(
    ground: &Ground,
    runtime: &Handle,
    letters: Vec<Letter>,
) -> Result<(Vec<Letter>, Vec<Letter>), OperateError> {
    let mut by_target: BTreeMap<String, Vec<Letter>> = BTreeMap::new();
    for letter in letters {
        by_target.entry(letter.target.clone()).or_default().push(letter);
    }
    let (mut fresh, mut stale) = (Vec::new(), Vec::new());
    for (target, letters) in by_target {
        let mut chosen: Vec<Chosen> = letters.iter().map(Letter::chosen).collect();
        replay::mark_stale(ground, runtime, &target, &mut chosen)?;
        for (letter, one) in letters.into_iter().zip(chosen) {
            if one.is_stale { stale.push(letter) } else { fresh.push(letter) }
        }
    }
    Ok((fresh, stale))
}

/// Asks for the records of these letters again, each at its own target. Blocks.
///
/// # Errors
/// When Kafka does not take them. What was written before stays.
pub fn replay(
    ground: &Ground,
    encoders: &Encoders,
    runtime: &Handle,
    wanted: &[Letter],
    selection: &Selection,
    pace: Pace,
) -> Result<Done, OperateError> {
    let replay = Replay::new(pace);
    let entry = |count| entry("dlq.replay", &replay.id, &replay.actor, selection, count);
    let mut writer = Writer::open(ground, encoders, &replay.id, &entry)?;
    at(ground, runtime, DEAD_LETTERS, &rows_of(wanted), |row, letter: DeadLetter| {
        let place = (letter.record_topic, letter.record_partition, letter.record_offset);
        let value = match &letter.record {
            Some(record) => {
                let encoder = encoders.of(&place.0).ok_or_else(|| AvroError::Unknown(place.0.clone()))?;
                records::encode(encoder, record)?
            }
            None => letter.undecodable.unwrap_or_default(),
        };
        let repeat = Repeat {
            target: &letter.target,
            place: &place,
            key: row.key.as_deref().unwrap_or_default(),
            value,
            traceparent: row.headers.get(TRACEPARENT),
            event_id: &letter.event_id,
            source: &letter.source,
            event_type: letter.record.as_ref().map_or("", |record| record.event_type()),
            settles: true,
            tried_at: Some(letter.dead_at),
        };
        writer.push(replay.row(repeat, ground, encoders)?)
    })?;
    writer.finish()
}

/// Lets these letters go for good. Blocks.
///
/// # Errors
/// When Kafka does not take it. What was written before stays.
pub fn discard(
    ground: &Ground,
    encoders: &Encoders,
    wanted: &[Letter],
    selection: &Selection,
) -> Result<Done, OperateError> {
    let id = uuid::Uuid::now_v7().to_string();
    let actor = audit::actor();
    let entry = |count| entry("dlq.discard", &id, &actor, selection, count);
    let mut writer = Writer::open(ground, encoders, &id, &entry)?;
    let encoder = encoders.of(DEAD_LETTERS).ok_or_else(|| AvroError::Unknown(DEAD_LETTERS.to_owned()))?;
    for letter in wanted {
        let (record_topic, record_partition, record_offset) = letter.place.clone();
        let settled = DeadLetter {
            target: letter.target.clone(),
            event_id: letter.event_id.clone(),
            source: letter.source.clone(),
            record_topic,
            record_partition,
            record_offset,
            record: None,
            undecodable: None,
            reason: letter.reason.clone(),
            detail: Some(format!("let go by {actor}, operation {id}")),
            dead_at: Timestamp::now(),
            attempts_total: letter.attempts,
            attempts: Vec::new(),
            replay_id: None,
            settled: Some(DeadLetterEnd::Discarded.name().to_owned()),
        };
        writer.push(Outgoing {
            topic: ground.cluster.topic(DEAD_LETTERS),
            // Behind the letter itself.
            partition: Some(letter.row.0),
            key: letter.key.clone(),
            value: encoder.encode(&settled)?,
            headers: Headers::default(),
            timestamp_ms: None,
        })?;
    }
    writer.finish()
}

fn entry(action: &str, id: &str, actor: &str, selection: &Selection, count: usize) -> AuditEntry {
    let detail = json!({ "operation": id, "events": count, "selection": selection.to_json() });
    audit::entry(actor.to_owned(), action, selection.subject(count), &detail)
}
