//! One event's life, straight from the topics. Keys say in which partition each part stands, so a handful of
//! partitions is read, not the topics.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::error::LedgerError;
use super::state::Latest;
use crate::event::{Attempt, DeadLetter, Envelope, Mark, Quarantined, Record, Seen, Timestamp, ToJson};
use crate::kafka::codec::{DecodeError, Decoder};
use crate::kafka::group::{Incoming, Partition};
use crate::kafka::layout::Ground;
use crate::kafka::partition;
use crate::kafka::restore;
use crate::lifecycle;
use crate::outcome::DeliveryState;
use crate::topics;

/// Bound on reading one part of the trace.
const READ_BOUND: Duration = Duration::from_secs(120);

/// Something with the place where it stands.
#[derive(Debug)]
pub struct Placed<T> {
    /// Kafka's name of the topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Kafka's time of the row.
    pub at: Option<Timestamp>,
    /// An operator's mark, on a row that came back from quarantine.
    pub mark: Option<Mark>,
    /// What stands there.
    pub value: T,
}

/// Everything known of one event id of one source.
#[derive(Debug)]
pub struct Trace {
    /// The source.
    pub source: String,
    /// Each time it was received.
    pub received: Vec<Placed<Envelope>>,
    /// The newest marker of its id.
    pub seen: Option<Placed<Seen>>,
    /// Its record: exactly one once it is routed, and one for each revision that an operator accepted.
    pub records: Vec<Placed<Record>>,
    /// Each time it was set aside.
    pub quarantined: Vec<Placed<Quarantined>>,
    /// Tries to deliver it, all targets, oldest first.
    pub attempts: Vec<Placed<Attempt>>,
    /// Where it was given up.
    pub dead_letters: Vec<Placed<DeadLetter>>,
    /// Targets that take its record.
    pub targets: Vec<String>,
    /// Those of them at which it is parked.
    pub parked: Vec<String>,
}

/// Looks an event id up in every source. `targets` are names with the record topics each takes.
///
/// # Errors
/// When a topic cannot be read or a row not be decoded.
pub async fn trace(
    ground: &std::sync::Arc<Ground>,
    sources: &[String],
    targets: &[(String, Vec<String>)],
    event_id: &str,
) -> Result<Vec<Trace>, LedgerError> {
    let mut traces = Vec::new();
    for source in sources {
        let reader = Reader { ground, decoder: ground.decoder(), event_id };
        if let Some(trace) = reader.of_source(source, targets).await? {
            traces.push(trace);
        }
    }
    Ok(traces)
}

struct Reader<'a> {
    ground: &'a std::sync::Arc<Ground>,
    decoder: Decoder,
    event_id: &'a str,
}

impl Reader<'_> {
    async fn of_source(&self, source: &str, targets: &[(String, Vec<String>)]) -> Result<Option<Trace>, LedgerError> {
        let received = self.decoded::<Envelope>(&topics::received(source), self.event_id).await?;
        if received.is_empty() {
            return Ok(None);
        }
        let seen = self.decoded::<Seen>(&topics::seen(source), self.event_id).await?.pop();
        let mut quarantined = self.decoded::<Quarantined>(topics::QUARANTINE, self.event_id).await?;
        quarantined.retain(|q| q.value.envelope.source == source);
        let mut trace = Trace {
            source: source.to_owned(),
            received,
            seen,
            records: Vec::new(),
            quarantined,
            attempts: Vec::new(),
            dead_letters: Vec::new(),
            targets: Vec::new(),
            parked: Vec::new(),
        };
        let places: BTreeSet<(String, String)> = trace
            .seen
            .iter()
            .flat_map(|seen| seen.value.places().map(|(topic, key)| (topic.to_owned(), key.to_owned())))
            .collect();
        for (topic, key) in &places {
            trace.records.append(&mut self.records(topic, key).await?);
            let mut dead = self.decoded::<DeadLetter>(topics::DEAD_LETTERS, key).await?;
            dead.retain(|d| {
                d.value.event_id == self.event_id && d.value.source == source && d.value.record_topic == *topic
            });
            trace.dead_letters.append(&mut dead);
        }
        for (target, takes) in targets {
            if !places.iter().any(|(topic, _)| takes.contains(topic)) {
                continue;
            }
            trace.targets.push(target.clone());
            if self.is_parked(&trace.records, target).await? {
                trace.parked.push(target.clone());
            }
            let attempts = format!("{target}/{}", self.event_id);
            let mut attempts = self.decoded::<Attempt>(topics::ATTEMPTS, &attempts).await?;
            attempts.retain(|a| a.value.source == source);
            trace.attempts.append(&mut attempts);
        }
        Ok(Some(trace))
    }

    async fn records(&self, topic: &str, key: &str) -> Result<Vec<Placed<Record>>, LedgerError> {
        let mut records = Vec::new();
        for row in self.rows(topic, key).await? {
            let value = row.value.as_deref();
            let record: Result<Record, DecodeError> = match topic {
                "invoices" => self.decoder.decode(value).await.map(Record::Invoice),
                "contracts" => self.decoder.decode(value).await.map(Record::Contract),
                "cases" => self.decoder.decode(value).await.map(Record::Case),
                "compliance" => self.decoder.decode(value).await.map(Record::Compliance),
                "transactions" => self.decoder.decode(value).await.map(Record::Transaction),
                "reviews" => self.decoder.decode(value).await.map(Record::Review),
                _ => self.decoder.decode(value).await.map(Record::Feed),
            };
            records.push(placed(&row, record)?);
        }
        records.retain(|record| record.value.event_id() == self.event_id);
        Ok(records)
    }

    /// Whether a target has a row of one of the records, and no tombstone behind it.
    async fn is_parked(&self, records: &[Placed<Record>], target: &str) -> Result<bool, LedgerError> {
        for record in records {
            let key = topics::parked_key(record.value.topic(), record.partition, record.offset);
            let rows = self.rows_in(&topics::parked(target), Some(record.partition), &key).await?;
            if rows.last().is_some_and(|row| row.value.is_some()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn decoded<T: serde::de::DeserializeOwned>(
        &self,
        topic: &str,
        key: &str,
    ) -> Result<Vec<Placed<T>>, LedgerError> {
        let mut decoded = Vec::new();
        for row in self.rows(topic, key).await? {
            let value = self.decoder.decode(row.value.as_deref()).await;
            decoded.push(placed(&row, value)?);
        }
        Ok(decoded)
    }

    /// The rows of this key, in order.
    async fn rows(&self, topic: &str, key: &str) -> Result<Vec<Incoming>, LedgerError> {
        self.rows_in(topic, None, key).await
    }

    /// The rows of this key in this partition, or in the one where the key belongs.
    async fn rows_in(&self, topic: &str, number: Option<i32>, key: &str) -> Result<Vec<Incoming>, LedgerError> {
        let (ground, topic, key) = (std::sync::Arc::clone(self.ground), topic.to_owned(), key.as_bytes().to_vec());
        lifecycle::on_thread("trace", move || {
            let all = ground.partitions_of(&topic)?;
            let own = || partition::of_key(&key, i32::try_from(all.len()).unwrap_or(i32::MAX));
            let number = number.unwrap_or_else(own);
            let one: Vec<Partition> = all.into_iter().filter(|p| p.number == number).collect();
            let mut rows = Vec::new();
            restore::read_to_end(&ground.cluster, &one, READ_BOUND, |row| {
                if row.key.as_deref() == Some(&key) {
                    rows.push(row);
                }
            })?;
            Ok(rows)
        })
        .await?
    }
}

fn placed<T>(row: &Incoming, value: Result<T, DecodeError>) -> Result<Placed<T>, LedgerError> {
    let (topic, partition, offset) = (row.partition.topic.clone(), row.partition.number, row.offset);
    match value {
        Ok(value) => {
            let at = row.timestamp_ms.map(|ms| Timestamp::from_micros(ms.saturating_mul(1000)));
            let mark = Mark::read(|name| row.headers.get(name));
            Ok(Placed { topic, partition, offset, at, mark, value })
        }
        Err(cause) => Err(LedgerError::Decode { topic, partition, offset, cause }),
    }
}

impl Trace {
    /// State of the record at each target that takes it.
    #[must_use]
    pub fn states(&self) -> Vec<(&str, DeliveryState)> {
        let state = |target: &String| {
            let mut latest = Latest::default();
            for try_ in self.attempts.iter().filter(|attempt| attempt.value.target == *target) {
                latest.attempt(try_.value.ended_at(), try_.value.outcome);
            }
            for letter in self.dead_letters.iter().filter(|letter| letter.value.target == *target) {
                latest.letter(letter.value.dead_at, letter.value.settled.as_deref());
            }
            let open = if self.parked.contains(target) { DeliveryState::Parked } else { DeliveryState::Waiting };
            latest.state().unwrap_or(open)
        };
        let routed = self.targets.iter().filter(|_| !self.records.is_empty());
        routed.map(|target| (target.as_str(), state(target))).collect()
    }

    /// The whole trace for programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "source": self.source,
            "received": all(&self.received),
            "seen": self.seen.as_ref().map(Placed::to_json),
            "records": all(&self.records),
            "quarantined": all(&self.quarantined),
            "attempts": all(&self.attempts),
            "dead_letters": all(&self.dead_letters),
            "targets": self.states().iter().map(|(t, s)| ((*t).to_owned(), Value::from(s.name()))).collect::<serde_json::Map<_, _>>(),
        })
    }
}

fn all<T: ToJson>(rows: &[Placed<T>]) -> Value {
    rows.iter().map(Placed::to_json).collect()
}

impl<T: ToJson> Placed<T> {
    fn to_json(&self) -> Value {
        let mut shown = json!({
            "topic": self.topic, "partition": self.partition, "offset": self.offset, "value": self.value.to_json()
        });
        // Headers of the row, under their own names.
        for (name, value) in self.mark.iter().flat_map(Mark::headers) {
            shown[name] = value.into();
        }
        shown
    }
}
