//! Topics read for a ledger: from a time on, each row as far as the ledger needs it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::runtime::Handle;

use super::error::LedgerError;
use super::report::Held;
use crate::event::{ControlKind, Finished, Progress, Timestamp};
use crate::kafka::codec::{DecodeError, Decoder};
use crate::kafka::control;
use crate::kafka::group::Incoming;
use crate::kafka::layout::Ground;
use crate::kafka::places;
use crate::kafka::restore::{self, Read};
use crate::topics;

/// Longest time in which nothing comes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Reads topics.
pub(super) struct Reader<'a> {
    pub(super) ground: &'a Ground,
    pub(super) runtime: &'a Handle,
    pub(super) decoder: Decoder,
}

impl<'a> Reader<'a> {
    pub(super) fn new(ground: &'a Ground, runtime: &'a Handle) -> Self {
        Self { ground, runtime, decoder: ground.decoder() }
    }

    /// Every committed row of a topic (without prefix) from this time on, to its end; what came first in a partition that
    /// has lost rows is said before it. `each` hears no more after its first error.
    pub(super) fn each(
        &self,
        topic: &str,
        from: Option<Timestamp>,
        mut each: impl FnMut(Read) -> Result<(), LedgerError>,
    ) -> Result<(), LedgerError> {
        let partitions = self.ground.partitions_of(topic)?;
        let mut starts: BTreeMap<i32, Option<i64>> = partitions.iter().map(|p| (p.number, Some(0))).collect();
        if let Some(from) = from {
            let since = |time| places::since(&self.ground.cluster, &partitions, time);
            let kept = since(Timestamp::default())?;
            for (partition, offset) in since(from)? {
                // Where the time begins with the first row that is kept, earlier ones of that time may be gone.
                let may_be_gone = kept.get(&partition) == Some(&offset);
                starts.insert(partition.number, Some(if may_be_gone { (offset - 1).max(0) } else { offset }));
            }
        }
        let mut fault = None;
        let name = self.ground.cluster.topic(topic);
        restore::read(&self.ground.cluster, &name, &starts, PATIENCE, &|| false, |read| {
            if fault.is_none() {
                fault = each(read).err();
            }
        })?;
        fault.map_or(Ok(()), Err)
    }

    /// What a target is done with.
    pub(super) fn finished(&self, target: &str) -> Result<Finished, LedgerError> {
        let mut finished = Finished::default();
        self.each(&topics::progress(target), None, |read| {
            if let Read::Record(row) = read {
                let progress: Progress = self.decode(&row)?;
                drop(finished.take(progress, row.partition.number == topics::POSITIONS));
            }
            Ok(())
        })?;
        Ok(finished)
    }

    /// Receivers whose spools hold events, as far as they said so to `control`.
    pub(super) fn spooled(&self) -> Result<Vec<Held>, LedgerError> {
        let (facts, _) = control::read(self.ground, self.runtime, ControlKind::Spool)?;
        let held = facts.into_values().filter_map(|fact| {
            let said: Value = serde_json::from_str(&fact.body).ok()?;
            let events = said.get("events")?.as_u64().filter(|events| *events > 0)?;
            Some(Held { receiver: fact.name, events, at: fact.at })
        });
        Ok(held.collect())
    }

    /// The row as `T`, which may name some of its fields only.
    pub(super) fn decode<T: DeserializeOwned>(&self, row: &Incoming) -> Result<T, LedgerError> {
        self.decoder.decode_blocking(self.runtime, row.value.as_deref()).map_err(|cause| undecodable(row, cause))
    }

    /// The same; none where the row is no such thing, rather than the registry away.
    pub(super) fn readable<T: DeserializeOwned>(&self, row: &Incoming) -> Result<Option<T>, LedgerError> {
        match self.decoder.decode_blocking(self.runtime, row.value.as_deref()) {
            Ok(decoded) => Ok(Some(decoded)),
            Err(cause) if cause.is_away() => Err(undecodable(row, cause)),
            Err(_) => Ok(None),
        }
    }
}

/// When Kafka says the row was written.
pub(super) fn written_at(row: &Incoming) -> Timestamp {
    Timestamp::from_micros(row.timestamp_ms.unwrap_or_default().saturating_mul(1000))
}

fn undecodable(row: &Incoming, cause: DecodeError) -> LedgerError {
    let (topic, partition, offset) = (row.partition.topic.clone(), row.partition.number, row.offset);
    LedgerError::Decode { topic, partition, offset, cause }
}
