//! Records to be delivered to one target again: which, whether each may, and the rows of `redeliver.<target>` that ask
//! for it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use serde_json::json;
use tokio::runtime::Handle;

use super::audit;
use super::dlq;
use super::error::OperateError;
use super::read::{each, rows, undecodable};
use super::selection::Selection;
use super::write::{Done, Writer};
use crate::avro::AvroError;
use crate::event::{Finished, Progress, REPLAY_HEADER, Redelivery, Timestamp, ToJson as _};
use crate::kafka::group::{Incoming, Partition};
use crate::kafka::headers::{CloudEvent, Headers};
use crate::kafka::layout::{Encoders, Ground};
use crate::kafka::produce::Outgoing;
use crate::kafka::records;
use crate::topics;

/// The header of trace contexts.
pub(super) const TRACEPARENT: &str = "traceparent";

/// Place of a record: its topic without prefix, partition, offset.
pub type Place = (String, i32, i64);
/// An entity: topic of its records without prefix, their partition and key.
type Entity = (String, i32, Vec<u8>);

/// Which records of a target's topics. Everything given has to hold.
#[derive(Clone, Debug, Default)]
pub struct Range {
    /// These events; any where there are none.
    pub ids: Vec<String>,
    /// Recorded at this time or later.
    pub from: Option<Timestamp>,
    /// Recorded before this time.
    pub to: Option<Timestamp>,
    /// Of this entity: its id, or `<source>/<id>`.
    pub entity: Option<String>,
}

/// A record that may be delivered again.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// Where it stands.
    pub place: Place,
    /// Its event.
    pub event_id: String,
    /// When it happened.
    pub occurred_at: Option<Timestamp>,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// Whether it stands among the dead letters of the target.
    pub is_dead: bool,
    /// Whether the target has had a newer record of its entity.
    pub is_stale: bool,
    pub(super) key: Vec<u8>,
}

/// What a replay would do.
#[derive(Clone, Debug, Default)]
pub struct Planned {
    /// Records, in the order of their topics.
    pub chosen: Vec<Chosen>,
    /// Records of the range that the target has still to be sent: they come by themselves.
    pub unfinished: usize,
}

/// How a replay goes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Whether records go although the target has had newer ones of their entity.
    pub allow_stale: bool,
    /// Time between two records, in all instances together.
    pub interval: Duration,
}

/// What a target has done with its records.
struct History {
    finished: Finished,
    parked: HashSet<String>,
    dead: HashSet<Place>,
    latest: HashMap<Entity, Timestamp>,
}

impl History {
    fn read(ground: &Ground, runtime: &Handle, target: &str) -> Result<Self, OperateError> {
        let mut history = Self {
            finished: Finished::default(),
            parked: HashSet::new(),
            dead: HashSet::new(),
            latest: HashMap::new(),
        };
        each(ground, runtime, &topics::progress(target), |read, row: Progress| {
            let of_entity = history.finished.take(row, read.partition.number == topics::POSITIONS);
            let latest = of_entity.and_then(|row| {
                Some(((row.record_topic, row.record_partition, row.entity?.into_bytes()), row.delivered_to?))
            });
            history.latest.extend(latest);
            Ok(())
        })?;
        rows(ground, &ground.partitions_of(&topics::parked(target))?, |row| {
            let key = String::from_utf8_lossy(row.key.as_deref().unwrap_or_default()).into_owned();
            if row.value.is_some() {
                history.parked.insert(key)
            } else {
                history.parked.remove(&key)
            };
            Ok(())
        })?;
        let letters = Selection { target: Some(target.to_owned()), ..Selection::default() };
        history.dead = dlq::waiting(ground, runtime, &letters)?.into_iter().map(|letter| letter.place).collect();
        Ok(history)
    }

    /// Whether nothing is left to be done with this record.
    fn is_finished(&self, (topic, partition, offset): &Place) -> bool {
        self.finished.has(topic, *partition, *offset)
            && !self.parked.contains(&topics::parked_key(topic, *partition, *offset))
    }

    /// Marks what the target has had newer records of.
    fn mark_stale(&mut self, ground: &Ground, runtime: &Handle, chosen: &mut [Chosen]) -> Result<(), OperateError> {
        let entity = |one: &Chosen| (one.place.0.clone(), one.place.1, one.key.clone());
        let wanted: HashSet<Entity> = chosen.iter().map(entity).collect();
        let topics: BTreeSet<&str> = wanted.iter().map(|(topic, ..)| topic.as_str()).collect();
        let decoder = ground.decoder();
        for topic in topics {
            let partitions = ground.partitions_of(topic)?;
            let theirs = |p: &Partition| wanted.iter().any(|(name, number, _)| name == topic && *number == p.number);
            let partitions: Vec<Partition> = partitions.into_iter().filter(theirs).collect();
            rows(ground, &partitions, |row| {
                let place = (topic.to_owned(), row.partition.number, row.offset);
                let entity = (topic.to_owned(), place.1, row.key.clone().unwrap_or_default());
                if !wanted.contains(&entity) || !self.is_finished(&place) || self.dead.contains(&place) {
                    return Ok(());
                }
                // One that cannot be decoded was not delivered.
                let record = records::decode(&decoder, runtime, topic, row.value.as_deref()).ok();
                if let Some(occurred) = record.and_then(|record| record.occurred_at()) {
                    let latest = self.latest.entry(entity).or_insert(occurred);
                    *latest = occurred.max(*latest);
                }
                Ok(())
            })?;
        }
        for one in chosen {
            let latest = self.latest.get(&entity(one));
            one.is_stale = one.occurred_at.zip(latest).is_some_and(|(occurred, latest)| occurred < *latest);
        }
        Ok(())
    }
}

/// Which of a target's records a replay of this range is about. Blocks.
///
/// # Errors
/// When a topic cannot be read or a row not be decoded.
pub fn plan(
    ground: &Ground,
    runtime: &Handle,
    target: &str,
    takes: &[String],
    range: &Range,
) -> Result<Planned, OperateError> {
    let mut history = History::read(ground, runtime, target)?;
    let decoder = ground.decoder();
    let mut planned = Planned::default();
    for topic in takes {
        rows(ground, &ground.partitions_of(topic)?, |row| {
            let Some((key, recorded_at)) = range.looks(&row) else { return Ok(()) };
            let record = records::decode(&decoder, runtime, topic, row.value.as_deref());
            let place = (topic.clone(), row.partition.number, row.offset);
            let is_dead = history.dead.contains(&place);
            let record = match record {
                Ok(record) => record,
                Err(error) if error.is_away() => return Err(undecodable(&row, error)),
                // It became a dead letter of its own, and can be had from there.
                Err(_) => return Ok(()),
            };
            if !range.ids.is_empty() && !range.ids.iter().any(|id| id == record.event_id()) {
                return Ok(());
            }
            if !history.is_finished(&place) {
                planned.unfinished += 1;
                return Ok(());
            }
            planned.chosen.push(Chosen {
                place,
                event_id: record.event_id().to_owned(),
                occurred_at: record.occurred_at(),
                recorded_at,
                is_dead,
                is_stale: false,
                key,
            });
            Ok(())
        })?;
    }
    history.mark_stale(ground, runtime, &mut planned.chosen)?;
    Ok(planned)
}

impl Range {
    /// Whether a row has to be looked at, by what is outside of its value: its key, and when it was recorded.
    fn looks(&self, row: &Incoming) -> Option<(Vec<u8>, Timestamp)> {
        let at = Timestamp::from_micros(row.timestamp_ms.unwrap_or_default().saturating_mul(1000));
        let key = row.key.clone().unwrap_or_default();
        let is_theirs = self.entity.as_ref().is_none_or(|entity| {
            let key = String::from_utf8_lossy(&key);
            key == *entity || key.split_once('/').is_some_and(|(_, id)| id == entity)
        });
        let is_then = self.from.is_none_or(|from| at >= from) && self.to.is_none_or(|to| at < to);
        (is_theirs && is_then).then_some((key, at))
    }
}

/// Marks dead letters whose target has had newer records of their entity. Blocks.
///
/// # Errors
/// As [`plan`].
pub fn mark_stale(ground: &Ground, runtime: &Handle, target: &str, letters: &mut [Chosen]) -> Result<(), OperateError> {
    History::read(ground, runtime, target)?.mark_stale(ground, runtime, letters)
}

/// One operation that asks for records again.
pub(super) struct Replay {
    /// Its id.
    pub(super) id: String,
    /// Who asks.
    pub(super) actor: String,
    at: Timestamp,
    pace: Pace,
}

/// What a redelivery's row is made of.
pub(super) struct Repeat<'a> {
    pub(super) target: &'a str,
    pub(super) place: &'a Place,
    pub(super) key: &'a [u8],
    pub(super) value: Vec<u8>,
    pub(super) traceparent: Option<&'a str>,
    pub(super) event_id: &'a str,
    pub(super) source: &'a str,
    pub(super) event_type: &'a str,
    pub(super) settles: bool,
    pub(super) tried_at: Option<Timestamp>,
}

impl Replay {
    /// One of now, by whoever runs this program.
    pub(super) fn new(pace: Pace) -> Self {
        Self { id: uuid::Uuid::now_v7().to_string(), actor: audit::actor(), at: Timestamp::now(), pace }
    }

    /// The row, for the partition of its record.
    pub(super) fn row(&self, repeat: Repeat<'_>, ground: &Ground, encoders: &Encoders) -> Result<Outgoing, AvroError> {
        let topic = topics::redeliver(repeat.target);
        let (record_topic, record_partition, record_offset) = repeat.place.clone();
        let traceparent = repeat.traceparent.map(|value| (TRACEPARENT.to_owned(), value.as_bytes().to_vec().into()));
        let row = Redelivery {
            replay_id: self.id.clone(),
            target: repeat.target.to_owned(),
            key: Some(String::from_utf8_lossy(repeat.key).into_owned()),
            record_topic,
            record_partition,
            record_offset,
            value: repeat.value,
            headers: traceparent.into_iter().collect::<BTreeMap<_, _>>(),
            requested_at: self.at,
            actor: self.actor.clone(),
            allow_stale: self.pace.allow_stale,
            settles: repeat.settles,
            tried_at: repeat.tried_at,
            interval_us: i64::try_from(self.pace.interval.as_micros()).unwrap_or(i64::MAX),
        };
        let headers = Headers::cloud_event(&CloudEvent {
            id: repeat.event_id,
            source: repeat.source,
            event_type: repeat.event_type,
            time: None,
            subject: None,
            traceparent: repeat.traceparent,
        });
        let encoder = encoders.of(&topic).ok_or_else(|| AvroError::Unknown(topic.clone()))?;
        Ok(Outgoing {
            value: encoder.encode(&row)?,
            topic: ground.cluster.topic(&topic),
            partition: Some(record_partition),
            key: repeat.key.to_vec(),
            headers: headers.with(REPLAY_HEADER, self.id.as_str()),
            timestamp_ms: Some(self.at.as_millis()),
        })
    }
}

/// Asks for these records again, in transactions that hold their entries in `audit` too. Blocks.
///
/// # Errors
/// When Kafka does not take them. What was written before stays.
pub fn act(
    ground: &Ground,
    encoders: &Encoders,
    runtime: &Handle,
    target: &str,
    chosen: &[Chosen],
    range: &Range,
    pace: Pace,
) -> Result<Done, OperateError> {
    let replay = Replay::new(pace);
    let entry = |count: usize| {
        let detail = json!({
            "operation": replay.id,
            "events": count,
            "allow_stale": pace.allow_stale,
            "interval_us": u64::try_from(pace.interval.as_micros()).unwrap_or(u64::MAX),
            "ids": range.ids.iter().take(20).collect::<Vec<_>>(),
            "from": range.from.to_json(),
            "to": range.to.to_json(),
            "entity": range.entity,
        });
        audit::entry(replay.actor.clone(), "target.replay", target.to_owned(), &detail)
    };
    let by_place: HashMap<&Place, &Chosen> = chosen.iter().map(|one| (&one.place, one)).collect();
    let names: BTreeSet<&str> = chosen.iter().map(|one| one.place.0.as_str()).collect();
    let decoder = ground.decoder();
    let mut writer = Writer::open(ground, encoders, &replay.id, &entry)?;
    for topic in names {
        rows(ground, &ground.partitions_of(topic)?, |row| {
            let place = (topic.to_owned(), row.partition.number, row.offset);
            let Some(one) = by_place.get(&place) else { return Ok(()) };
            let record = records::decode(&decoder, runtime, topic, row.value.as_deref());
            let record = record.map_err(|cause| undecodable(&row, cause))?;
            let repeat = Repeat {
                target,
                place: &place,
                key: &one.key,
                value: row.value.clone().unwrap_or_default(),
                traceparent: row.headers.get(TRACEPARENT),
                event_id: record.event_id(),
                source: record.source(),
                event_type: record.event_type(),
                settles: one.is_dead,
                tried_at: None,
            };
            writer.push(replay.row(repeat, ground, encoders)?)
        })?;
    }
    writer.finish()
}
