//! What is read of a topic until it is written: rows, dead letters for what does not fit, and the position they reach.

use std::collections::HashMap;
use std::sync::Arc;

use iceberg::spec::Schema;
use tokio::time::Instant;

use super::datum::Avro;
use super::error::Unfit;
use super::letters::{Letter, letter};
use super::memory::{Place, Slabs};
use super::plan::{Keys, Plan};
use super::position::Position;
use crate::config::Commit;
use crate::kafka::codec::split;
use crate::kafka::group::Incoming;
use crate::kafka::registry::{Registry, RegistryError};

/// A record on its way into a table.
pub(super) struct Row {
    /// Topic without prefix.
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) keys: Keys,
    pub(super) plan: Arc<Plan>,
    /// Where the record lies, as it stands in Kafka, behind the frame.
    pub(super) place: Place,
}

/// Bytes that a row takes beside its record: a list of them has room for up to twice as many.
const ROW_BYTES: usize = 2 * size_of::<Row>();

/// Rows with the records that they are of.
pub(super) struct Rows {
    pub(super) list: Vec<Row>,
    pub(super) slabs: Slabs,
}

impl Rows {
    /// None yet.
    pub(super) const fn new(slabs: Slabs) -> Self {
        Self { list: Vec::new(), slabs }
    }

    /// Takes in a record of this place in Kafka that was checked.
    pub(super) fn add(&mut self, topic: &Arc<str>, at: (i32, i64), (keys, plan): (Keys, Arc<Plan>), datum: &[u8]) {
        let place = self.slabs.put(datum);
        self.slabs.count(ROW_BYTES);
        self.list.push(Row { topic: Arc::clone(topic), partition: at.0, offset: at.1, keys, plan, place });
    }
}

/// What was read since the last commit.
pub(super) struct Batch {
    pub(super) rows: Rows,
    pub(super) letters: Vec<Letter>,
    /// Of rows and letters, as they stand in Kafka.
    pub(super) bytes: usize,
    pub(super) began: Option<Instant>,
    /// The position behind all of it.
    pub(super) to: Position,
}

impl Batch {
    /// Nothing yet behind this position; `slabs`: for its records.
    pub(super) const fn new(to: Position, slabs: Slabs) -> Self {
        Self { rows: Rows::new(slabs), letters: Vec::new(), bytes: 0, began: None, to }
    }

    /// What was read, and in its place a batch that begins behind it.
    pub(super) fn take(&mut self) -> Self {
        let next = Self::new(self.to.clone(), self.rows.slabs.another());
        std::mem::replace(self, next)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.began.is_none()
    }

    /// Whether it is to be committed by now.
    pub(super) fn is_due(&self, limits: &Commit, now: Instant) -> bool {
        self.began.is_some_and(|began| now.saturating_duration_since(began) >= limits.every)
            || self.rows.list.len() + self.letters.len() >= limits.rows
            || u64::try_from(self.bytes).unwrap_or(u64::MAX) >= limits.bytes
    }

    /// Takes a record of `topic` (without prefix) in: as a row, or as what does not fit.
    pub(super) fn add(&mut self, topic: &Arc<str>, record: Incoming, way: Result<Arc<Plan>, Unfit>, now: Instant) {
        self.began.get_or_insert(now);
        let (partition, offset) = (record.partition.number, record.offset);
        if let Some(at) = self.to.topics.get_mut(&**topic) {
            at.next.insert(partition, offset + 1);
        }
        let value = record.value.unwrap_or_default();
        // Behind the frame.
        let datum = value.get(5..).unwrap_or_default();
        self.bytes += value.len();
        match way.and_then(|plan| Ok((plan.check(datum)?, plan))) {
            Ok(checked) => self.rows.add(topic, (partition, offset), checked, datum),
            Err(unfit) => {
                tracing::warn!(%topic, partition, offset, %unfit, "a record does not fit its table and goes to the dead letters");
                let letter = letter(topic, (partition, offset), record.key.unwrap_or_default(), value, &unfit);
                self.rows.slabs.count(letter.bytes());
                self.letters.push(letter);
            }
        }
    }
}

/// The ways of records into one table, by the id of the schema they were written with.
pub(super) struct Ways {
    registry: Arc<Registry>,
    known: HashMap<u32, Result<Arc<Plan>, Unfit>>,
}

impl Ways {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        Self { registry, known: HashMap::new() }
    }

    /// The way of a framed value into the table, where it was found before.
    pub(super) fn known(&self, value: Option<&[u8]>) -> Option<Result<Arc<Plan>, Unfit>> {
        split(value).ok().and_then(|(id, _)| self.known.get(&id)).cloned()
    }

    /// The way of a framed value into the table; why there is none goes into the dead letter.
    ///
    /// # Errors
    /// When the registry is away: waiting may help.
    pub(super) async fn of(
        &mut self,
        value: Option<&[u8]>,
        table: &Schema,
    ) -> Result<Result<Arc<Plan>, Unfit>, RegistryError> {
        let id = match split(value) {
            Ok((id, _)) => id,
            Err(error) => return Ok(Err(Unfit::Undecodable(error.to_string()))),
        };
        if let Some(known) = self.known.get(&id) {
            return Ok(known.clone());
        }
        let way = match self.registry.schema(id).await {
            Ok(schema) => Avro::parse(schema.tree()).and_then(|avro| Plan::new(&avro, table)).map(Arc::new),
            Err(error) if error.is_away() => return Err(error),
            Err(error) => Err(Unfit::Undecodable(error.to_string())),
        };
        // Ids come from records, which a stranger on the topic could invent.
        if self.known.len() >= 1000 {
            self.known.clear();
        }
        self.known.insert(id, way.clone());
        Ok(way)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::kafka::headers::Headers;
    use crate::lake::memory::Memory;

    /// A batch with so many dead letters of ten bytes.
    fn batch(letters: usize, at: Instant) -> Batch {
        let mut batch = Batch::new(Position::default(), Memory::new(1 << 20, 1).slabs(0));
        for offset in 0..letters {
            let record = Incoming {
                partition: crate::kafka::group::Partition { topic: "p.t".to_owned(), number: 0 },
                offset: i64::try_from(offset).unwrap(),
                timestamp_ms: None,
                key: None,
                value: Some(vec![0; 10]),
                headers: Headers::default(),
            };
            batch.add(&"t".into(), record, Err(Unfit::Short), at);
        }
        batch
    }

    #[test]
    fn a_batch_is_due_by_rows_bytes_or_time() {
        let (at, second) = (Instant::now(), Duration::from_secs(1));
        let limits = |rows, bytes| Commit { rows, bytes, every: 10 * second };
        for (letters, limits, after, due) in [
            (0, limits(1, 1), 100, false),
            (2, limits(3, 100), 9, false),
            (3, limits(3, 100), 0, true),
            (3, limits(100, 30), 0, true),
            (1, limits(100, 100), 10, true),
        ] {
            assert_eq!(batch(letters, at).is_due(&limits, at + after * second), due, "{letters} of {limits:?}");
        }
        let mut full = batch(3, at);
        let taken = full.take();
        assert_eq!((taken.letters.len(), full.is_empty(), full.bytes), (3, true, 0));
    }
}
