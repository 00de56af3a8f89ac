//! Both ledgers closed: every row of `received` with its outcome, every record with its state at each target, or named.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::runtime::Handle;

use super::error::LedgerError;
use super::fault::Fault;
use super::report::{Report, Scope, Target};
use super::rows::{Reader, written_at};
use super::source::{Received, SourceLedger, Tie};
use super::target::{Place, TargetLedger};
use crate::event::{Attempt, Envelope, Mark, Seen, Sha256, Timestamp};
use crate::kafka::layout::Ground;
use crate::kafka::places;
use crate::kafka::restore::Read;
use crate::lifecycle;
use crate::topics;

/// Clocks of receivers, routers and brokers that much apart are allowed for where a time is looked for.
const APART: Duration = Duration::from_secs(3600);
/// On a running installation what is read first is older than what is read last: what does not fit only for that is gone
/// in the next pass.
const PASSES: usize = 3;

/// Closes the ledgers. Reads topics from the span's beginning on, and `seen` whole; keeps about 270 bytes in memory for
/// each event and for each record and target.
///
/// # Errors
/// When a topic cannot be read or a row not be decoded.
pub async fn reconcile(ground: &Arc<Ground>, scope: Scope) -> Result<Report, LedgerError> {
    let (ground, runtime) = (Arc::clone(ground), Handle::current());
    lifecycle::on_thread("reconcile", move || {
        let pass = || Pass { reader: Reader::new(&ground, &runtime), scope: &scope }.report();
        let mut report = pass()?;
        for _ in 1..PASSES {
            if report.faults.is_empty() {
                break;
            }
            let before: HashSet<Fault> = report.faults.into_iter().collect();
            report = pass()?;
            let found = report.faults.len();
            report.faults.retain(|fault| before.contains(fault));
            if report.faults.len() == found {
                break;
            }
        }
        Ok(report)
    })
    .await?
}

/// The event that a quarantined row is about.
#[derive(Deserialize)]
struct AsideEvent {
    event_id: String,
    source: String,
    body_sha256: Sha256,
}

/// A row of `quarantine`.
#[derive(Deserialize)]
struct Aside {
    envelope: AsideEvent,
    received_partition: i32,
    received_offset: i64,
    settled: Option<String>,
}

/// Any record.
#[derive(Deserialize)]
struct Tied {
    event_id: String,
    source: String,
    received_at: Timestamp,
    body_sha256: Sha256,
}

/// A row of `dead-letters`.
#[derive(Deserialize)]
struct Letter {
    target: String,
    event_id: String,
    record_topic: String,
    record_partition: i32,
    record_offset: i64,
    dead_at: Timestamp,
    settled: Option<String>,
}

struct Pass<'a> {
    reader: Reader<'a>,
    scope: &'a Scope,
}

impl Pass<'_> {
    fn report(&self) -> Result<Report, LedgerError> {
        let mut targets = BTreeMap::new();
        for target in &self.scope.targets {
            targets.insert(target.name.clone(), self.target(target)?);
        }
        let mut sources = BTreeMap::new();
        for source in &self.scope.sources {
            sources.insert(source.clone(), self.source(source)?);
        }
        self.quarantine(&mut sources)?;
        for (topic, _) in topics::RECORDS {
            self.records(topic, &mut sources, &mut targets)?;
        }
        self.attempts(&mut targets)?;
        self.letters(&mut targets)?;

        let mut report = Report { spooled: self.reader.spooled()?, ..Report::default() };
        for (name, ledger) in sources {
            let (sums, mut faults) = ledger.close();
            report.sources.insert(name, sums);
            report.faults.append(&mut faults);
        }
        for (name, ledger) in targets {
            let (sums, mut faults) = ledger.close();
            report.targets.insert(name, sums);
            report.faults.append(&mut faults);
        }
        report.faults.sort();
        Ok(report)
    }

    /// From when on rows of a topic can be of the span.
    fn from(&self) -> Option<Timestamp> {
        let apart = i64::try_from(APART.as_micros()).unwrap_or(i64::MAX);
        self.scope.span.from.map(|from| Timestamp::from_micros(from.as_micros().saturating_sub(apart)))
    }

    /// What a target is done with, and what it has parked.
    fn target(&self, target: &Target) -> Result<TargetLedger, LedgerError> {
        let (finished, mut parked) = (self.reader.finished(&target.name)?, HashSet::new());
        self.reader.each(&topics::parked(&target.name), None, |read| {
            if let Read::Record(row) = read {
                let key = String::from_utf8_lossy(row.key.as_deref().unwrap_or_default()).into_owned();
                let _was_there = if row.value.is_some() { parked.insert(key) } else { parked.remove(&key) };
            }
            Ok(())
        })?;
        Ok(TargetLedger::new(&target.name, target.from_oldest, finished, parked))
    }

    /// A source's rows, and the markers of their ids.
    fn source(&self, source: &str) -> Result<SourceLedger, LedgerError> {
        let ground = self.reader.ground;
        let now = Timestamp::now().as_micros();
        let window = i64::try_from(self.scope.dedupe_window.as_micros()).unwrap_or(i64::MAX);
        let markers_begin = Timestamp::from_micros(now.saturating_sub(window));
        let mut ledger = SourceLedger::new(source, self.scope.span, markers_begin);
        let topic = topics::received(source);
        let done = places::committed(&ground.cluster, topics::ROUTERS, &ground.partitions_of(&topic)?)?;
        let mut gone = BTreeSet::new();
        self.reader.each(&topic, self.from(), |read| {
            let row = match read {
                Read::Gone(number, _) => {
                    gone.insert(number);
                    return Ok(());
                }
                Read::Ended(number, _) => {
                    // Nothing is left of it: whatever was received before now may be gone.
                    if gone.remove(&number) {
                        ledger.begins(Timestamp::now());
                    }
                    return Ok(());
                }
                Read::Record(row) => row,
            };
            let envelope: Option<Envelope> = self.reader.readable(&row)?;
            if let Some(envelope) = envelope.as_ref().filter(|_| gone.remove(&row.partition.number)) {
                ledger.begins(envelope.received_at);
            }
            ledger.received(Received {
                partition: row.partition.number,
                offset: row.offset,
                is_whole: envelope.as_ref().is_none_or(|e| Sha256::of(&e.body) == e.body_sha256),
                event: envelope.map(|e| (e.event_id, e.body_sha256, e.received_at)),
                is_marked: Mark::read(|name| row.headers.get(name)).is_some(),
                is_done: done.get(&row.partition).is_some_and(|next| row.offset < *next),
            });
            Ok(())
        })?;
        self.reader.each(&topics::seen(source), None, |read| {
            let Read::Record(row) = read else { return Ok(()) };
            let id = String::from_utf8_lossy(row.key.as_deref().unwrap_or_default());
            if row.value.is_some() && ledger.knows(&id) {
                ledger.seen(&id, &self.reader.decode::<Seen>(&row)?);
            }
            Ok(())
        })?;
        Ok(ledger)
    }

    fn quarantine(&self, sources: &mut BTreeMap<String, SourceLedger>) -> Result<(), LedgerError> {
        self.reader.each(topics::QUARANTINE, self.from(), |read| {
            let Read::Record(row) = read else { return Ok(()) };
            let Aside { envelope, received_partition, received_offset, settled } = self.reader.decode(&row)?;
            if let Some(ledger) = sources.get_mut(&envelope.source) {
                let place = (received_partition, received_offset);
                ledger.quarantined(&envelope.event_id, &envelope.body_sha256, place, settled.as_deref());
            }
            Ok(())
        })
    }

    fn records(
        &self,
        topic: &str,
        sources: &mut BTreeMap<String, SourceLedger>,
        targets: &mut BTreeMap<String, TargetLedger>,
    ) -> Result<(), LedgerError> {
        let takers: HashSet<&str> = self
            .scope
            .targets
            .iter()
            .filter(|t| t.takes.iter().any(|name| name == topic))
            .map(|t| t.name.as_str())
            .collect();
        self.reader.each(topic, self.from(), |read| {
            let Read::Record(row) = read else { return Ok(()) };
            let place: Place = (topic.to_owned(), row.partition.number, row.offset);
            let tied: Option<Tied> = self.reader.readable(&row)?;
            let recorded_at = written_at(&row);
            let event_id = tied.as_ref().map_or("", |tied| tied.event_id.as_str());
            for (_, ledger) in targets.iter_mut().filter(|(name, _)| takers.contains(name.as_str())) {
                ledger.record(place.clone(), event_id, recorded_at, self.scope.span.has(recorded_at));
            }
            if let Some(Tied { event_id, source, received_at, body_sha256 }) = tied
                && let Some(ledger) = sources.get_mut(&source)
            {
                ledger.record(&Tie { event_id, body_sha256, received_at, place });
            }
            Ok(())
        })
    }

    fn attempts(&self, targets: &mut BTreeMap<String, TargetLedger>) -> Result<(), LedgerError> {
        let mut kept = Kept::default();
        self.reader.each(topics::ATTEMPTS, self.from(), |read| {
            let Some(row) = kept.row(read) else { return Ok(()) };
            let attempt: Attempt = self.reader.decode(&row)?;
            let Some(ledger) = targets.get_mut(&attempt.target) else { return Ok(()) };
            let ended_at = attempt.ended_at();
            let Attempt { record_topic, record_partition, record_offset, event_id, outcome, replay_id, .. } = attempt;
            let place = (record_topic, record_partition, record_offset);
            ledger.attempt(place, &event_id, ended_at, (outcome, replay_id.is_none()));
            Ok(())
        })?;
        kept.tell(targets);
        Ok(())
    }

    fn letters(&self, targets: &mut BTreeMap<String, TargetLedger>) -> Result<(), LedgerError> {
        let mut kept = Kept::default();
        self.reader.each(topics::DEAD_LETTERS, self.from(), |read| {
            let Some(row) = kept.row(read) else { return Ok(()) };
            let letter: Letter = self.reader.decode(&row)?;
            if let Some(ledger) = targets.get_mut(&letter.target) {
                let place = (letter.record_topic, letter.record_partition, letter.record_offset);
                ledger.letter(place, &letter.event_id, letter.dead_at, letter.settled.as_deref());
            }
            Ok(())
        })?;
        kept.tell(targets);
        Ok(())
    }
}

/// Since when a topic is kept whole.
#[derive(Default)]
struct Kept {
    gone: BTreeSet<i32>,
    since: Option<Timestamp>,
}

impl Kept {
    /// The row, if it is one; noted where rows before it are gone.
    fn row(&mut self, read: Read) -> Option<crate::kafka::group::Incoming> {
        match read {
            Read::Gone(number, _) => drop(self.gone.insert(number)),
            Read::Ended(number, _) if self.gone.remove(&number) => self.since = Some(Timestamp::now()),
            Read::Ended(..) => {}
            Read::Record(row) => {
                if self.gone.remove(&row.partition.number) {
                    self.since = self.since.max(Some(written_at(&row)));
                }
                return Some(row);
            }
        }
        None
    }

    fn tell(self, targets: &mut BTreeMap<String, TargetLedger>) {
        for (ledger, since) in targets.values_mut().filter_map(|ledger| Some((ledger, self.since?))) {
            ledger.kept_since(since);
        }
    }
}
