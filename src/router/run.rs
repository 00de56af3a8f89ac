//! The loop: collect a batch, decide, write it in one transaction, make it part of the state.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::batch::{Writer, undecodable};
use super::decide::{Decision, decide};
use super::dedupe::{Overlay, State};
use super::error::{Again, Error};
use super::mapping::Mapper;
use crate::config;
use crate::event::{Envelope, Seen, Timestamp};
use crate::kafka::codec::{DecodeError, Decoder};
use crate::kafka::group::{GroupError, Incoming, Member, Partition, Polled, Start};
use crate::kafka::layout::{Encoders, Ground};
use crate::kafka::restore;
use crate::kafka::transaction::{TransactionError, Transactions};
use crate::lifecycle::{self, Role};
use crate::outcome::{QuarantineReason, RouterOutcome};
use crate::topics;

/// Bound on reading the dedupe state of the partitions gained; under `max.poll.interval.ms` (5 min).
const RESTORE_BOUND: Duration = Duration::from_secs(240);
/// Pause before starting over.
const AGAIN_PAUSE: Duration = Duration::from_millis(500);
/// Wait for a first row: how late a stop may be noticed.
const IDLE: Duration = Duration::from_millis(100);
/// Pause between looks at a cluster that is away.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often ids past their window are dropped from memory.
const EXPIRE_EVERY: Duration = Duration::from_secs(3600);

/// What the router is told.
#[derive(Debug)]
pub struct Settings {
    /// `[router]`.
    pub router: config::Router,
    /// Sources whose events it routes: name, and whose routes apply.
    pub sources: Vec<(String, String)>,
    /// The table of routes.
    pub routes: Vec<config::Route>,
}

/// Routes until told to stop.
///
/// # Errors
/// When the topics or routes are wrong, or the position in `received` is lost: things that waiting cannot mend.
pub async fn run(settings: Settings, ground: Arc<Ground>, role: Role) -> Result<(), Error> {
    let families = settings.sources.iter().map(|(name, family)| (name.as_str(), family.as_str()));
    let mapper = Mapper::new(families, &settings.routes)?;
    let waiting = |why: &str| role.health.not_ready(why);
    let Some(encoders) = ground.ready(&role.stop, waiting).await? else { return Ok(()) };
    let router = Router {
        received: settings.sources.iter().map(|(name, _)| ground.cluster.topic(&topics::received(name))).collect(),
        settings,
        decoder: ground.decoder(),
        ground,
        encoders,
        mapper,
        role,
        runtime: Handle::current(),
        joined: Cell::new(false),
        away: Cell::new(None),
    };
    lifecycle::on_thread("router", move || router.keep_running()).await?
}

struct Router {
    settings: Settings,
    received: Vec<String>,
    ground: Arc<Ground>,
    decoder: Decoder,
    encoders: Encoders,
    mapper: Mapper,
    role: Role,
    runtime: Handle,
    /// Whether the group has given us our share.
    joined: Cell<bool>,
    /// When to look again at a cluster that is away.
    away: Cell<Option<Instant>>,
}

/// A row with its envelope; the reason where it has none of its own.
struct Row {
    incoming: Incoming,
    envelope: Envelope,
}

impl Router {
    /// Starts over from what is committed for as long as that can help.
    fn keep_running(self) -> Result<(), Error> {
        while !self.role.stop.is_cancelled() {
            match self.serve() {
                Ok(()) => break,
                Err(Again::Group(lost @ GroupError::PositionLost { .. })) => return Err(Error::Group(lost)),
                Err(again) => self.role.health.not_ready(&again.to_string()),
            }
            self.pause(AGAIN_PAUSE);
        }
        Ok(())
    }

    /// One incarnation: a producer that fenced its predecessor, a member of the group, the state of its partitions.
    fn serve(&self) -> Result<(), Again> {
        let router = &self.settings.router;
        let id = format!("router.{}", self.role.instance);
        let transactions = Transactions::open(&self.ground.cluster, &id, router.transaction_timeout)?;
        let mut member =
            Member::join(&self.ground.cluster, "router", &self.role.instance, &self.received, Start::Earliest)?;
        let mut state = State::new(router.dedupe_window);
        self.joined.set(false);
        let mut expired_at = Instant::now();
        while !self.role.stop.is_cancelled() {
            let rows = self.collect(&mut member, &mut state)?;
            if !rows.is_empty() {
                self.write(rows, &transactions, &member, &mut state)?;
            }
            self.look();
            if expired_at.elapsed() > EXPIRE_EVERY {
                state.expire(Timestamp::now());
                expired_at = Instant::now();
            }
        }
        Ok(())
    }

    /// Rows for one batch: at most `batch_events`, or what came within `batch_wait` of the first. A transaction costs the
    /// broker much the same whatever it holds, so a short wait for company is well spent.
    fn collect(&self, member: &mut Member, state: &mut State) -> Result<Vec<Row>, Again> {
        let router = &self.settings.router;
        let mut rows = Vec::new();
        let mut until = Instant::now() + IDLE;
        while rows.len() < router.batch_events {
            match member.poll(until.saturating_duration_since(Instant::now()))? {
                Polled::Record(incoming) => {
                    if rows.is_empty() {
                        until = Instant::now() + router.batch_wait;
                    }
                    rows.push(self.decode(*incoming)?);
                }
                Polled::Gained(partitions) => {
                    self.restore(&partitions, state)?;
                    self.joined.set(true);
                    self.away.set(None);
                    self.role.health.ready();
                }
                Polled::Leaving { lost } => {
                    // Rows not written yet are read again by whoever gets the partitions.
                    tracing::info!(lost, dropped = rows.len(), "partitions given back");
                    rows.clear();
                    state.clear();
                    member.release()?;
                }
                Polled::Away(why) => self.lost_sight(&why),
                Polled::Nothing => break,
            }
        }
        Ok(rows)
    }

    fn decode(&self, incoming: Incoming) -> Result<Row, Again> {
        loop {
            match self.decoder.decode_blocking::<Envelope>(&self.runtime, incoming.value.as_deref()) {
                Ok(envelope) => return Ok(Row { incoming, envelope }),
                // The bytes may be fine: only the registry can tell, so it is waited for.
                Err(error) if error.is_away() && !self.role.stop.is_cancelled() => {
                    self.role.health.not_ready(&error.to_string());
                    self.pause(AGAIN_PAUSE);
                }
                Err(error) if error.is_away() => return Err(error.into()),
                Err(error) => {
                    let at = (&incoming.partition.topic, incoming.partition.number, incoming.offset);
                    tracing::error!(?at, %error, "a row of received is no envelope");
                    let envelope = undecodable(&incoming, self.source_of(&incoming.partition), Timestamp::now());
                    return Ok(Row { incoming, envelope });
                }
            }
        }
    }

    /// Reads `seen` for the partitions gained. Their committed offsets were read before, so that no commit can lie
    /// between what is known and where reading starts.
    fn restore(&self, gained: &[Partition], state: &mut State) -> Result<(), Again> {
        let started = Instant::now();
        let seen: BTreeMap<Partition, &Partition> = gained
            .iter()
            .map(|partition| {
                let topic = self.ground.cluster.topic(&topics::seen(self.source_of(partition)));
                (Partition { topic, number: partition.number }, partition)
            })
            .collect();
        let partitions: Vec<Partition> = seen.keys().cloned().collect();
        let mut fault = None;
        let ids = restore::read_to_end(&self.ground.cluster, &partitions, RESTORE_BOUND, |marker| {
            if fault.is_some() {
                return;
            }
            let Some(partition) = seen.get(&marker.partition) else { return };
            let event_id = String::from_utf8_lossy(&marker.key.unwrap_or_default()).into_owned();
            match self.decoder.decode_blocking::<Seen>(&self.runtime, marker.value.as_deref()) {
                Ok(seen) => state.restore(partition, event_id, Some(seen)),
                Err(DecodeError::Empty) => state.restore(partition, event_id, None),
                Err(error) => fault = Some(error),
            }
        })?;
        // A marker that cannot be read could be the one that stops a double: no serving without it.
        if let Some(error) = fault {
            return Err(error.into());
        }
        let seconds = started.elapsed().as_secs_f64();
        self.role.metrics.router_restore_seconds.observe(seconds);
        tracing::info!(partitions = gained.len(), ids, seconds, "dedupe state restored");
        Ok(())
    }

    /// Writes a batch, or nothing of it.
    fn write(
        &self,
        rows: Vec<Row>,
        transactions: &Transactions,
        member: &Member,
        state: &mut State,
    ) -> Result<(), Again> {
        // Taken with the batch: metadata of a later generation would let a batch through that is no longer ours.
        let metadata = member.metadata().ok_or(Again::NoMember)?;
        let mut first: BTreeMap<&Partition, i64> = BTreeMap::new();
        let mut next: BTreeMap<&Partition, i64> = BTreeMap::new();
        for row in &rows {
            first.entry(&row.incoming.partition).or_insert(row.incoming.offset);
            next.insert(&row.incoming.partition, row.incoming.offset + 1);
        }
        transactions.begin()?;
        let mut overlay = Overlay::default();
        let written = self.write_rows(&rows, transactions, state, &mut overlay).and_then(|outcomes| {
            transactions.offsets(next.iter().map(|(p, o)| (*p, *o)), &metadata)?;
            transactions.commit(&|why| self.lost_sight(why))?;
            Ok(outcomes)
        });
        match written {
            Ok(outcomes) => {
                state.merge(overlay);
                for (row, outcome) in rows.iter().zip(outcomes) {
                    self.role
                        .metrics
                        .router_events
                        .with_label_values(&[row.envelope.source.as_str(), outcome.name()])
                        .inc();
                }
                Ok(())
            }
            Err(Again::Transaction(error @ TransactionError::Abort { .. })) => {
                tracing::warn!(%error, rows = rows.len(), "batch aborted, read again");
                transactions.abort()?;
                member.rewind(first)?;
                Ok(())
            }
            Err(other) => {
                // Whether or not the broker still hears it: the next incarnation fences this one.
                drop(transactions.abort());
                Err(other)
            }
        }
    }

    fn write_rows(
        &self,
        rows: &[Row],
        transactions: &Transactions,
        state: &State,
        overlay: &mut Overlay,
    ) -> Result<Vec<RouterOutcome>, Again> {
        let writer = Writer { cluster: &self.ground.cluster, encoders: &self.encoders };
        let now = Timestamp::now();
        let mut outcomes = Vec::with_capacity(rows.len());
        for Row { incoming, envelope } in rows {
            let partition = &incoming.partition;
            let seen = state.get(overlay, partition, &envelope.event_id, now);
            let mut decision = decide(envelope, seen, &self.mapper, now);
            if let Decision::Route(record, marker) = &decision {
                match writer.record(record, incoming, now)? {
                    Some(outgoing) => transactions.send(&outgoing)?,
                    None => {
                        let reason = QuarantineReason::RecordTooLarge.to_string();
                        decision = Decision::Quarantine(reason, None, marker.quarantined());
                    }
                }
            }
            if let Decision::Quarantine(reason, detail, _) = &decision {
                tracing::warn!(source = envelope.source, event_id = envelope.event_id, reason, detail, "quarantined");
                transactions.send(&writer.quarantined(envelope, reason, detail.as_deref(), incoming, now)?)?;
            }
            outcomes.push(decision.outcome());
            if let Decision::Route(_, seen) | Decision::Test(seen) | Decision::Quarantine(_, _, seen) = decision {
                transactions.send(&writer.seen(envelope, &seen, incoming)?)?;
                overlay.put(partition, &envelope.event_id, seen);
            }
        }
        Ok(outcomes)
    }

    /// Name of the source whose `received` topic this is.
    fn source_of<'a>(&self, partition: &'a Partition) -> &'a str {
        let name = partition.topic.strip_prefix(self.ground.cluster.prefix()).unwrap_or(&partition.topic);
        name.strip_prefix("received.").unwrap_or(name)
    }

    /// The client words one absence in many ways; the first says it.
    fn lost_sight(&self, why: &str) {
        if self.away.get().is_none() {
            self.role.health.not_ready(why);
            self.away.set(Some(Instant::now() + LOOK_EVERY));
        }
    }

    /// Looks whether a cluster that was away is back: the client does not say so by itself.
    fn look(&self) {
        if self.away.get().is_none_or(|at| Instant::now() < at) {
            return;
        }
        let answers = self.received.first().is_none_or(|topic| self.ground.admin().partitions(topic).is_ok());
        if answers && self.joined.get() {
            self.away.set(None);
            self.role.health.ready();
        } else {
            self.away.set(Some(Instant::now() + LOOK_EVERY));
        }
    }

    fn pause(&self, time: Duration) {
        self.runtime.block_on(async {
            tokio::select! {
                () = self.role.stop.cancelled() => {}
                () = tokio::time::sleep(time) => {}
            }
        });
    }
}
