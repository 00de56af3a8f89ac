//! One incarnation: a producer that fenced its predecessor, a member of the group, the state of its partitions; and the
//! loop: collect a batch, write it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::batch::undecodable;
use super::error::Again;
use super::refill::{Filled, Part, Refill};
use super::run::Router;
use super::state::{Share, State};
use crate::event::{Envelope, Mark, Timestamp};
use crate::kafka::group::{Incoming, Member, Partition, Polled, Start};
use crate::kafka::transaction::Transactions;
use crate::lifecycle::failpoint;
use crate::topics;

/// Wait for a first row: how late a stop may be noticed.
const IDLE: Duration = Duration::from_millis(100);
/// The same while state is being filled: how late a partition is served.
const FILLING: Duration = Duration::from_millis(10);
/// Pause between tries while the registry is away.
const REGISTRY_PAUSE: Duration = Duration::from_millis(500);
/// Pause between looks at a cluster that is away.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A row with its envelope, made up where its bytes are none.
pub(super) struct Row {
    pub(super) incoming: Incoming,
    pub(super) share: Share,
    pub(super) envelope: Envelope,
    /// An operator's mark, where it came back from quarantine.
    pub(super) mark: Option<Mark>,
}

/// An incarnation at work.
pub(super) struct Serving<'a> {
    pub(super) router: &'a Router,
    pub(super) transactions: Transactions,
    pub(super) member: Member,
    pub(super) state: State,
    /// Fills the state of partitions that are not served yet; gone when all are.
    refill: Option<Refill>,
    /// Partitions that are not served yet.
    filling: BTreeMap<Share, Partition>,
    /// When the refill began.
    began: Instant,
    /// Partitions of each `received` topic when its identity was written; nothing of a topic without one.
    partitions: BTreeMap<String, usize>,
    /// Whether the group has given us our share.
    joined: bool,
    /// When to look again at a cluster that is away.
    away: Cell<Option<Instant>>,
}

impl<'a> Serving<'a> {
    pub(super) fn start(router: &'a Router) -> Result<Self, Again> {
        let settings = &router.settings.router;
        let (state, partitions) = super::open::state(router)?;
        let id = format!("router.{}", router.role.instance);
        let transactions = Transactions::open(&router.ground.cluster, &id, settings.transaction_timeout)?;
        let member =
            Member::join(&router.ground.cluster, "router", &router.role.instance, &router.received, Start::Earliest)?;
        Ok(Self {
            router,
            transactions,
            member,
            state,
            refill: None,
            filling: BTreeMap::new(),
            began: Instant::now(),
            partitions,
            joined: false,
            away: Cell::new(None),
        })
    }

    pub(super) fn until_stopped(mut self) -> Result<(), Again> {
        while !self.router.role.stop.is_cancelled() {
            let rows = self.collect()?;
            if !rows.is_empty() {
                failpoint("router.after_poll");
                self.write(rows)?;
            }
            self.look();
        }
        Ok(())
    }

    /// Rows for one batch: at most `batch_events`, or what came within `batch_wait` of the first. A transaction costs the
    /// broker much the same whatever it holds, so a short wait for company is well spent.
    fn collect(&mut self) -> Result<Vec<Row>, Again> {
        let settings = &self.router.settings.router;
        let mut rows = Vec::new();
        let mut until = Instant::now() + IDLE;
        while rows.len() < settings.batch_events {
            self.hear()?;
            let left = until.saturating_duration_since(Instant::now());
            match self.member.poll(if self.filling.is_empty() { left } else { left.min(FILLING) })? {
                Polled::Record(incoming) => {
                    if rows.is_empty() {
                        until = Instant::now() + settings.batch_wait;
                    }
                    rows.push(self.decode(*incoming)?);
                }
                Polled::Gained(partitions) => self.gain(partitions)?,
                Polled::Leaving { lost } => {
                    // Rows not written yet are read again by whoever gets the partitions; no transaction is open here.
                    tracing::info!(lost, dropped = rows.len(), "partitions given back");
                    rows.clear();
                    self.refill = None;
                    self.filling.clear();
                    self.joined = false;
                    self.member.release()?;
                }
                Polled::Away(why) => self.lost_sight(&why),
                Polled::Nothing if Instant::now() >= until => break,
                Polled::Nothing => {}
            }
        }
        Ok(rows)
    }

    /// Partitions gained are served when their state is complete. Their committed offsets were read before, so that no
    /// commit can lie between what is known and where reading starts.
    fn gain(&mut self, partitions: Vec<Partition>) -> Result<(), Again> {
        self.joined = true;
        self.away.set(None);
        self.member.pause(&partitions)?;
        let mut wanted: BTreeMap<String, Part> = BTreeMap::new();
        for partition in partitions {
            let source = self.router.source_of(&partition).to_owned();
            let now = usize::try_from(partition.number).unwrap_or(usize::MAX);
            if let Some(then) = self.partitions.get(&topics::received(&source)).filter(|then| now >= **then) {
                return Err(Again::Repartitioned { topic: partition.topic, then: *then });
            }
            let store = self.state.store(&source).ok_or(Again::NoMember)?;
            let from = store.position(partition.number)?;
            wanted
                .entry(source.clone())
                .or_insert_with(|| (Arc::clone(store), BTreeMap::new()))
                .1
                .insert(partition.number, from);
            self.filling.insert(Share { source, partition: partition.number }, partition);
        }
        self.began = Instant::now();
        let (ground, runtime) = (&self.router.ground, &self.router.runtime);
        self.refill = (!wanted.is_empty()).then(|| Refill::start(ground, runtime, wanted));
        self.tell();
        Ok(())
    }

    /// Serves partitions whose state has become complete.
    fn hear(&mut self) -> Result<(), Again> {
        while let Some(filled) = self.refill.as_ref().and_then(Refill::hear) {
            match filled {
                Filled::Share(share) => {
                    if let Some(partition) = self.filling.remove(&share) {
                        self.member.resume([&partition])?;
                    }
                }
                Filled::Failed(again) => return Err(again),
            }
            self.tell();
        }
        if self.refill.is_some() && self.filling.is_empty() {
            // All threads have told of their last partition, and end.
            self.refill = None;
            let seconds = self.began.elapsed().as_secs_f64();
            self.router.role.metrics.router_restore_seconds.observe(seconds);
            tracing::info!(seconds, "dedupe state restored");
        }
        Ok(())
    }

    fn tell(&self) {
        match self.filling.len() {
            0 => self.router.role.health.ready(),
            left => self.router.role.health.not_ready(&format!("restoring the dedupe state of {left} partitions")),
        }
    }

    fn decode(&self, incoming: Incoming) -> Result<Row, Again> {
        let Router { role, decoder, runtime, .. } = self.router;
        let source = self.router.source_of(&incoming.partition);
        let share = Share { source: source.to_owned(), partition: incoming.partition.number };
        let mark = Mark::read(|name| incoming.headers.get(name));
        loop {
            match decoder.decode_blocking::<Envelope>(runtime, incoming.value.as_deref()) {
                Ok(envelope) => return Ok(Row { incoming, share, envelope, mark }),
                // The bytes may be fine: only the registry can tell, so it is waited for.
                Err(error) if error.is_away() && !role.stop.is_cancelled() => {
                    role.health.not_ready(&error.to_string());
                    self.router.pause(REGISTRY_PAUSE);
                }
                Err(error) if error.is_away() => return Err(error.into()),
                Err(error) => {
                    let at = (&incoming.partition.topic, incoming.partition.number, incoming.offset);
                    tracing::error!(?at, %error, "a row of received is no envelope");
                    let envelope = undecodable(&incoming, &share.source, Timestamp::now());
                    return Ok(Row { incoming, share, envelope, mark });
                }
            }
        }
    }

    /// The client words one absence in many ways; the first says it.
    pub(super) fn lost_sight(&self, why: &str) {
        if self.away.get().is_none() {
            self.router.role.health.not_ready(why);
            self.away.set(Some(Instant::now() + LOOK_EVERY));
        }
    }

    /// Looks whether a cluster that was away is back: the client does not say so by itself.
    fn look(&self) {
        if self.away.get().is_none_or(|at| Instant::now() < at) {
            return;
        }
        let answers = |topic: &String| self.router.ground.admin().partitions(topic).is_ok();
        if self.router.received.first().is_none_or(answers) && self.joined {
            self.away.set(None);
            self.tell();
        } else {
            self.away.set(Some(Instant::now() + LOOK_EVERY));
        }
    }
}
