//! Reads what a trace is made of.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::runtime::Handle;

use super::{Placed, Standing, Trace};
use crate::event::{Attempt, DeadLetter, Envelope, Finished, Mark, Quarantined, Record, Seen, Timestamp};
use crate::kafka::codec::{DecodeError, Decoder};
use crate::kafka::group::{Incoming, Partition};
use crate::kafka::identity;
use crate::kafka::layout::Ground;
use crate::kafka::partition;
use crate::kafka::restore;
use crate::ledger::error::LedgerError;
use crate::ledger::rows;
use crate::lifecycle;
use crate::outcome::DeliveryState;
use crate::topics;

/// Bound on reading one part of the trace.
const READ_BOUND: Duration = Duration::from_secs(120);

pub(super) struct Reader<'a> {
    pub(super) ground: &'a std::sync::Arc<Ground>,
    pub(super) decoder: Decoder,
    pub(super) event_id: &'a str,
}

impl Reader<'_> {
    /// What is known of the event at this source; none where it was never received there.
    pub(super) async fn of_source(
        &self,
        source: &str,
        targets: &[(String, Vec<String>)],
    ) -> Result<Option<Trace>, LedgerError> {
        let seen = self.seen(source).await?;
        let received = self.received(source, seen.as_ref().map(|seen| seen.value.first_routed_at)).await?;
        if received.is_empty() {
            return Ok(None);
        }
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
            past: Vec::new(),
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
        let open = trace.states().into_iter().filter(|(_, at)| *at == Standing::State(DeliveryState::Waiting));
        for target in open.map(|(target, _)| target.to_owned()).collect::<Vec<_>>() {
            let finished = self.finished(&target).await?;
            if trace.records.iter().all(|r| finished.has(r.value.topic(), r.partition, r.offset)) {
                trace.past.push(target);
            }
        }
        Ok(Some(trace))
    }

    /// The newest marker: where its id has its place, which partitions that were added since do not change.
    async fn seen(&self, source: &str) -> Result<Option<Placed<Seen>>, LedgerError> {
        let (ground, topic) = (std::sync::Arc::clone(self.ground), topics::received(source));
        let runtime = Handle::current();
        let read = move || identity::read(&ground, &runtime).map(|known| known.get(&topic).map(|id| id.partitions));
        let counted = lifecycle::on_thread("trace", read).await??;
        let counted = counted.and_then(|count| i32::try_from(count).ok()).filter(|count| *count > 0);
        let place = counted.map(|count| partition::of_key(self.event_id.as_bytes(), count));
        let place = place.map_or(Where::OfKey, Where::Partition);
        let row = self.rows_in(&topics::seen(source), place, self.event_id).await?.pop();
        let Some(row) = row.filter(|row| row.value.is_some()) else { return Ok(None) };
        let value = self.decoder.decode(row.value.as_deref()).await;
        placed(&row, value).map(Some)
    }

    /// Each time it was received. Rows stand where they were written: by how many partitions there were then. So all are
    /// read where its place of today does not have the one that was routed first.
    async fn received(&self, source: &str, routed: Option<Timestamp>) -> Result<Vec<Placed<Envelope>>, LedgerError> {
        let topic = topics::received(source);
        let mut rows = self.rows(&topic, self.event_id).await?;
        let is_first = |row: &Incoming| routed.is_none_or(|at| row.timestamp_ms.is_some_and(|ms| ms <= at.as_millis()));
        if !rows.iter().any(is_first) {
            rows = self.rows_in(&topic, Where::Anywhere, self.event_id).await?;
            rows.sort_by_key(|row| (row.timestamp_ms, row.partition.number, row.offset));
        }
        let mut received = Vec::new();
        for row in rows {
            let value = self.decoder.decode(row.value.as_deref()).await;
            received.push(placed(&row, value)?);
        }
        Ok(received)
    }

    /// What a target is done with.
    async fn finished(&self, target: &str) -> Result<Finished, LedgerError> {
        let (ground, target, runtime) = (std::sync::Arc::clone(self.ground), target.to_owned(), Handle::current());
        let read = move || rows::Reader::new(&ground, &runtime).finished(&target);
        lifecycle::on_thread("trace", read).await?
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
            let rows = self.rows_in(&topics::parked(target), Where::Partition(record.partition), &key).await?;
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

    /// The rows of this key where it belongs, in order.
    async fn rows(&self, topic: &str, key: &str) -> Result<Vec<Incoming>, LedgerError> {
        self.rows_in(topic, Where::OfKey, key).await
    }

    /// The rows of this key that stand there, in order of each partition.
    async fn rows_in(&self, topic: &str, place: Where, key: &str) -> Result<Vec<Incoming>, LedgerError> {
        let (ground, topic, key) = (std::sync::Arc::clone(self.ground), topic.to_owned(), key.as_bytes().to_vec());
        lifecycle::on_thread("trace", move || {
            let mut partitions: Vec<Partition> = ground.partitions_of(&topic)?;
            let number = match place {
                Where::OfKey => Some(partition::of_key(&key, i32::try_from(partitions.len()).unwrap_or(i32::MAX))),
                Where::Partition(number) => Some(number),
                Where::Anywhere => None,
            };
            partitions.retain(|partition| number.is_none_or(|number| partition.number == number));
            let mut rows = Vec::new();
            restore::read_to_end(&ground.cluster, &partitions, READ_BOUND, |row| {
                if row.key.as_deref() == Some(&key) {
                    rows.push(row);
                }
            })?;
            Ok(rows)
        })
        .await?
    }
}

/// Where rows of a key are looked for.
#[derive(Clone, Copy)]
enum Where {
    /// Where the key belongs, by how many partitions there are.
    OfKey,
    /// In this one.
    Partition(i32),
    /// In all.
    Anywhere,
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
