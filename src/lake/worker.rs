//! The loop of one table, on a thread of its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use iceberg::Catalog;
use iceberg::table::Table;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::batch::{Batch, Ways};
use super::board::Board;
use super::catalog;
use super::commit::{CommitError, commit};
use super::error::{Error, told};
use super::letters::{self, LetterError};
use super::memory::{Advice, Memory};
use super::pack::Packer;
use super::position::{self, COMMIT, Position};
use super::table::{self, Wanted};
use super::tidy::{self, TidyError};
use crate::config;
use crate::event::ControlKind;
use crate::kafka::assigned::{AssignedError, AssignedReader};
use crate::kafka::group::{Incoming, Partition};
use crate::kafka::layout::{Encoders, Ground};
use crate::kafka::produce::Producer;
use crate::kafka::{control, identity};
use crate::telemetry::Metrics;
use crate::topics::{CONTROL, DEAD_LETTERS};

/// Longest wait for a record, and so how late a stop is heard.
const POLL: Duration = Duration::from_millis(100);
/// Pauses after a failure.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(15);
/// Between two looks at memory that others have to free.
const MEMORY: Duration = Duration::from_millis(20);
/// How often a table that needs an operator is looked at again, and how often at most topics for more partitions.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// How often at least topics are looked at for more partitions.
const LOOK_SOON: Duration = Duration::from_secs(1);
/// An idle table is brought past the marks that transactions leave behind records after this many commit intervals.
const TIDY_INTERVALS: u32 = 60;

/// What all tables share.
pub(super) struct Shared {
    pub(super) lake: config::Lake,
    pub(super) ground: Arc<Ground>,
    pub(super) encoders: Encoders,
    pub(super) producer: Producer,
    pub(super) runtime: Handle,
    pub(super) metrics: Arc<Metrics>,
    pub(super) board: Board,
    pub(super) instance: String,
    pub(super) stop: CancellationToken,
    /// Whether this instance is the one that writes. Nothing depends on it but who tries.
    pub(super) leads: AtomicBool,
    /// What holds the records of all tables.
    pub(super) memory: Arc<Memory>,
    /// What makes files of them.
    pub(super) packer: Packer,
}

/// Why a session ended.
enum End {
    /// The role stops, another instance writes, or there are more partitions to read.
    Over,
    /// Something is away, or someone else was quicker: begin again from what the table says.
    Again(String),
    /// The table needs an operator.
    Stopped(String),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        match error {
            Error::Stopped { why, .. } => Self::Stopped(why),
            other => Self::Again(other.to_string()),
        }
    }
}

impl From<AssignedError> for End {
    fn from(error: AssignedError) -> Self {
        match error {
            AssignedError::Gone { .. } | AssignedError::EndsBefore { .. } | AssignedError::OutOfRange(_) => {
                Self::Stopped(format!(
                    "cannot go on: {error}. `ledgerhook lake rebuild` makes it from what Kafka holds"
                ))
            }
            AssignedError::Away(cause) => Self::Again(cause.to_string()),
        }
    }
}

impl From<LetterError> for End {
    fn from(error: LetterError) -> Self {
        match error {
            LetterError::Row(_) => Self::Stopped(error.to_string()),
            LetterError::Send(error) => Self::Again(error.to_string()),
        }
    }
}

impl From<TidyError> for End {
    fn from(error: TidyError) -> Self {
        match error {
            TidyError::Assigned(gone) => gone.into(),
            TidyError::Read(error) => Self::Again(error.to_string()),
        }
    }
}

/// The writer of one table.
pub(super) struct Worker {
    shared: Arc<Shared>,
    wanted: Wanted,
    /// Its number among the tables, by which memory knows it.
    number: usize,
    /// A commit whose outcome is unknown, with its rows.
    pending: Option<(Uuid, usize)>,
    /// Snapshots of others that were spoken of.
    noted: BTreeSet<i64>,
}

/// A table that is being written to.
struct Session {
    catalog: Arc<dyn Catalog>,
    table: Table,
    reader: AssignedReader,
    from: Position,
    batch: Batch,
    ways: Ways,
    /// The topic of the last record: Kafka's name, and ours.
    topic: (String, Arc<str>),
    committed_at: Instant,
    /// How many partitions are read, and when it was last asked whether there are more.
    partitions: usize,
    asked_at: Instant,
}

impl Worker {
    /// The writer of the table of this number.
    pub(super) const fn new(shared: Arc<Shared>, wanted: Wanted, number: usize) -> Self {
        Self { shared, wanted, number, pending: None, noted: BTreeSet::new() }
    }

    /// Writes until told to stop.
    pub(super) fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        while !self.shared.stop.is_cancelled() {
            if !self.leads() {
                self.shared.board.standby(&self.wanted.name);
                self.wait(POLL);
                continue;
            }
            let began = Instant::now();
            match self.session() {
                Ok(()) | Err(End::Over) => {}
                Err(End::Again(why)) => {
                    // One that worked for a while did not fail at the same thing again.
                    if began.elapsed() > LAST_PAUSE {
                        pause = FIRST_PAUSE;
                    }
                    self.shared.board.not_ready(&self.wanted.name, &why);
                    self.wait(pause);
                    pause = (pause * 2).min(LAST_PAUSE);
                }
                Err(End::Stopped(why)) => {
                    self.shared.board.stopped(&self.wanted.name, &why);
                    self.wait(LOOK_AGAIN);
                }
            }
        }
    }

    fn leads(&self) -> bool {
        // Told to, it writes whatever the group says: two at one time, as when one was frozen and wakes up.
        self.shared.leads.load(Ordering::Acquire) || crate::lifecycle::is_told("lake.leads")
    }

    fn wait(&self, time: Duration) {
        let stop = &self.shared.stop;
        drop(self.shared.runtime.block_on(async { tokio::time::timeout(time, stop.cancelled()).await }));
    }

    fn session(&mut self) -> Result<(), End> {
        let mut session = self.open()?;
        self.shared.board.ready(&self.wanted.name);
        loop {
            if self.shared.stop.is_cancelled() {
                return self.flush(&mut session);
            }
            if !self.leads() {
                return Err(End::Over);
            }
            match self.shared.memory.advice(self.number) {
                Advice::Read => {
                    if let Some(record) = session.reader.poll(POLL)? {
                        self.take(&mut session, record)?;
                    }
                }
                Advice::Write => self.flush(&mut session)?,
                // The one that is to write may have its turn, or a commit, before it.
                Advice::Wait => self.wait(MEMORY),
            }
            let now = Instant::now();
            let limits = self.shared.lake.commit;
            if session.batch.is_due(&limits, now) {
                self.flush(&mut session)?;
            } else if session.batch.is_empty()
                && now.saturating_duration_since(session.committed_at) > limits.every * TIDY_INTERVALS
            {
                self.tidy(&mut session)?;
            }
            if now.saturating_duration_since(session.asked_at) > limits.every.clamp(LOOK_SOON, LOOK_AGAIN) {
                session.asked_at = now;
                if self.has_grown(&session) {
                    self.flush(&mut session)?;
                    return Err(End::Over);
                }
            }
        }
    }

    /// Whether a topic has more partitions than are read: nothing else would ever bring them to mind.
    fn has_grown(&self, session: &Session) -> bool {
        let found = self.wanted.topics.iter().map(|topic| self.shared.ground.partitions_of(topic));
        // A cluster that is away is heard of elsewhere, and asked again later.
        let Ok(found) = found.collect::<Result<Vec<_>, _>>() else { return false };
        let found: usize = found.iter().map(Vec::len).sum();
        if found > session.partitions {
            let (table, before) = (&self.wanted.name, session.partitions);
            tracing::info!(table, before, partitions = found, "topics have more partitions");
        }
        found > session.partitions
    }

    fn take(&self, session: &mut Session, record: Incoming) -> Result<(), End> {
        // Records of a topic come in a row.
        if session.topic.0 != record.partition.topic {
            let full = record.partition.topic.clone();
            let short = full.strip_prefix(self.shared.ground.cluster.prefix()).unwrap_or(&full).into();
            session.topic = (full, short);
        }
        let value = record.value.as_deref();
        let way = match session.ways.known(value) {
            Some(way) => way,
            None => {
                let schema = Arc::clone(session.table.metadata().current_schema());
                let way = self.shared.runtime.block_on(session.ways.of(value, &schema));
                way.map_err(|error| End::Again(error.to_string()))?
            }
        };
        session.batch.add(&session.topic.1, record, way, Instant::now());
        Ok(())
    }

    /// Writes and commits what was read, if anything was.
    fn flush(&mut self, session: &mut Session) -> Result<(), End> {
        if session.batch.is_empty() {
            return Ok(());
        }
        let batch = session.batch.take();
        self.commit(session, batch)
    }

    fn commit(&mut self, session: &mut Session, mut batch: Batch) -> Result<(), End> {
        let began = Instant::now();
        let shared = Arc::clone(&self.shared);
        let (id, rows) = (Uuid::now_v7(), batch.rows.list.len());
        let outcome = shared.runtime.block_on(async {
            // Dead letters first: what is not in the table has to be there when the position passes it.
            let topic = shared.ground.cluster.topic(DEAD_LETTERS);
            let unknown = || End::Again("the dead letters have no schema".to_owned());
            let encoder = shared.encoders.of(DEAD_LETTERS).ok_or_else(unknown)?;
            letters::send(&shared.producer, &topic, encoder, std::mem::take(&mut batch.letters)).await?;
            // Its records are given back with the last file, however long the commit takes.
            let written = if rows > 0 { shared.packer.pack(&session.table, id, batch.rows).await } else { Ok(vec![]) };
            let written = written.map_err(|error| End::Again(format!("cannot write: {}", told(&error))))?;
            crate::lifecycle::failpoint("lake.files_written");
            let positions = (&session.from, &batch.to);
            // Loading the table, writing its metadata and the swap each wait for one answer at most.
            let timeout = shared.lake.catalog.timeout * 3;
            let committed = commit(&session.catalog, &session.table, id, written, positions, timeout).await;
            committed.map_err(|error| {
                if let CommitError::Fenced(_) = error {
                    tracing::warn!(table = self.wanted.name, rows, %error, "the table is not where this batch begins; what it says counts, and reading begins there");
                }
                // Whichever it was, the table says which rows it has.
                self.pending = Some((id, rows));
                End::Again(error.to_string())
            })
        });
        session.table = outcome?;
        session.from = batch.to;
        session.committed_at = Instant::now();
        self.count(rows);
        shared.metrics.lake_commit_seconds.observe(began.elapsed().as_secs_f64());
        tracing::debug!(table = self.wanted.name, rows, "committed");
        Ok(())
    }

    fn count(&self, rows: usize) {
        let rows = u64::try_from(rows).unwrap_or(u64::MAX);
        self.shared.metrics.lake_rows.with_label_values(&[self.wanted.name.as_str()]).inc_by(rows);
    }

    /// Moves an idle table past what transactions left behind its records. Otherwise those marks would be all that a
    /// topic's retention still holds back from taking the next record's place away, and a quiet table would seem to
    /// have lost records.
    fn tidy(&mut self, session: &mut Session) -> Result<(), End> {
        let Shared { ground, stop, .. } = &*self.shared;
        let to = tidy::reach(&ground.cluster, &self.wanted.topics, &session.batch.to, stop)?;
        session.committed_at = Instant::now();
        if to == session.batch.to {
            return Ok(());
        }
        session.batch.to = to;
        let batch = session.batch.take();
        self.commit(session, batch)
    }

    /// Opens the table and its topics where they are.
    fn open(&mut self) -> Result<Session, End> {
        let shared = Arc::clone(&self.shared);
        let ground = &shared.ground;
        let cluster = ground.admin().cluster_id().map_err(|error| End::Again(error.to_string()))?;
        let identities = identity::read(ground, &shared.runtime).map_err(Error::from)?;
        let mut topics = Vec::new();
        for topic in &self.wanted.topics {
            let Some(known) = identities.get(topic) else {
                let why =
                    format!("cannot be written: topic {topic} has no identity; `ledgerhook topics apply` gives one");
                return Err(End::Stopped(why));
            };
            topics.push((topic.clone(), known.id));
        }
        let fact_name = format!("{}.{}", shared.lake.namespace, self.wanted.name);
        let (facts, _) = control::read(ground, &shared.runtime, ControlKind::Lake).map_err(Error::from)?;
        let known = facts.get(&fact_name).and_then(|fact| fact.body.parse::<Uuid>().ok());

        let namespace = catalog::namespace(&shared.lake)?;
        let (catalog, opened) = shared.runtime.block_on(async {
            let catalog = catalog::open(&shared.lake).await?;
            let opened = table::open(&catalog, &namespace, &self.wanted, known, &cluster);
            let late = || Error::Config(format!("the catalog did not answer within {:?}", shared.lake.catalog.timeout));
            let opened = tokio::time::timeout(shared.lake.catalog.timeout * 3, opened).await.map_err(|_| late())??;
            Ok::<_, Error>((catalog, opened))
        })?;
        let metadata = opened.table.metadata();
        if known.is_none() {
            self.remember(&fact_name, metadata.uuid())?;
        }
        if opened.made {
            tracing::info!(table = fact_name, location = metadata.location(), "made the table");
        }
        self.settle(metadata.properties().get(COMMIT).map(String::as_str));
        for (snapshot, operation) in &opened.found.others {
            if self.noted.insert(*snapshot) {
                tracing::warn!(
                    table = fact_name,
                    snapshot,
                    operation,
                    "another engine changed the table: its rows are no longer those of Kafka alone; ours go on where they were"
                );
            }
        }
        let from = opened.found.position.clone();
        let position = position::claim(opened.found.position, &cluster, &topics);
        let position = position.map_err(|moved| End::Stopped(moved.to_string()))?;
        let mut partitions = Vec::new();
        for topic in &self.wanted.topics {
            let found = ground.partitions_of(topic).map_err(|error| End::Again(error.to_string()))?;
            partitions.extend(found.into_iter().map(|partition| {
                let next = position.next(topic, partition.number);
                (partition, next)
            }));
        }
        let (reader, starts) = AssignedReader::open(&ground.cluster, &partitions)?;
        let mut to = position;
        for (Partition { topic, number }, next) in starts {
            let topic = topic.strip_prefix(ground.cluster.prefix()).unwrap_or(&topic);
            if let Some(at) = to.topics.get_mut(topic) {
                at.next.insert(number, next);
            }
        }
        Ok(Session {
            catalog,
            table: opened.table,
            reader,
            from,
            batch: Batch::new(to, Arc::clone(&shared.memory).slabs(self.number)),
            ways: Ways::new(Arc::clone(&ground.registry)),
            topic: (String::new(), "".into()),
            committed_at: Instant::now(),
            partitions: partitions.len(),
            asked_at: Instant::now(),
        })
    }

    /// Says what became of a commit whose outcome was unknown.
    fn settle(&mut self, last: Option<&str>) {
        let Some((id, rows)) = self.pending.take() else { return };
        if last == Some(id.to_string().as_str()) {
            tracing::info!(table = self.wanted.name, rows, "the commit without an answer is in the table");
            self.count(rows);
        } else {
            tracing::info!(
                table = self.wanted.name,
                rows,
                "the commit without an answer is not in the table; its records are read again"
            );
        }
    }

    /// Notes that the table was made, so that one day its absence is noticed.
    fn remember(&self, name: &str, id: Uuid) -> Result<(), End> {
        let shared = &self.shared;
        let unknown = || End::Again("control has no schema".to_owned());
        let encoder = shared.encoders.of(CONTROL).ok_or_else(unknown)?;
        let (cluster, about) = (&shared.ground.cluster, (ControlKind::Lake, name.to_owned()));
        let said = control::say(&shared.producer, cluster, encoder, about, &shared.instance, id.to_string());
        Ok(shared.runtime.block_on(said).map_err(Error::from)?)
    }
}
