//! One incarnation: a producer that fenced its predecessor, a member of the group, the state of its partitions; and the
//! loop: collect a batch, write it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::batch::undecodable;
use super::error::Again;
use super::hold::Held;
use super::places::Places;
use super::refill::{Filled, Part, Refill};
use super::run::Router;
use super::state::{Share, State};
use crate::event::{Envelope, MAX_EVENT_ID_BYTES, MAX_EVENT_TYPE_BYTES, Mark, Timestamp, Unproved};
use crate::kafka::codec::DecodeError;
use crate::kafka::group::{Incoming, Member, Partition, Polled, Start};
use crate::kafka::retire::retire;
use crate::kafka::standing;
use crate::kafka::transaction::Transactions;
use crate::lifecycle::failpoint;
use crate::topics;

/// Wait for a first row: how late a stop may be noticed.
const IDLE: Duration = Duration::from_millis(100);
/// The same while state is being filled, or a schema asked for: how late a partition is served.
const FILLING: Duration = Duration::from_millis(10);
/// A row that takes no longer to come was there already.
const AT_ONCE: Duration = Duration::from_millis(1);
/// Bytes of rows after which a batch is closed, whatever their number: a bound on memory.
const BATCH_BYTES: usize = 8 << 20;
/// Longest time between two looks for ends of transactions to pass, where there is always something else to do.
const PASS_EVERY: Duration = Duration::from_secs(60);
/// Pause between looks at a cluster that is away.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A row, and what is to be done with it.
pub(super) struct Row {
    pub(super) incoming: Incoming,
    pub(super) share: Share,
    pub(super) task: Task,
}

/// What is to be done with a row.
pub(super) enum Task {
    /// To decide on its envelope, of which the evidence was not read; with an operator's mark, where it came back from
    /// quarantine.
    Decide(Box<Envelope>, Option<Mark>),
    /// The same with one made up, where its bytes are no envelope.
    SetAside(Box<Envelope>, Option<Mark>),
    /// To pass it on to this partition, where its id's marker would stand.
    PassOn(i32),
}

/// An incarnation at work.
pub(super) struct Serving<'a> {
    pub(super) router: &'a Router,
    /// They take turns: the coordinator refuses a producer's next transaction until the markers of its last one are
    /// written, and the client then asks again after 20 ms, as long as a transaction takes.
    transactions: [Transactions; 2],
    /// Whose turn it is.
    turn: usize,
    pub(super) member: Member,
    pub(super) state: State,
    /// Fills the state of partitions that are not served yet; gone when all are.
    refill: Option<Refill>,
    /// Partitions that are not served yet.
    filling: BTreeMap<Share, Partition>,
    /// Rows whose schema is being asked for.
    pub(super) held: Held,
    /// Behind the last row that was written of each partition, or where it was begun; none where rows are read anew, or
    /// one is held.
    pub(super) taken: BTreeMap<Partition, i64>,
    /// From when on ends of transactions may be passed.
    pub(super) pass_from: Instant,
    /// When the last batch was closed.
    closed: Instant,
    /// When the refill began.
    began: Instant,
    /// In how many partitions ids have their places.
    places: Places,
    /// Whether the group has given us our share.
    joined: bool,
    /// When to look again at a cluster that is away.
    away: Cell<Option<Instant>>,
}

impl<'a> Serving<'a> {
    pub(super) fn start(router: &'a Router) -> Result<Self, Again> {
        let settings = &router.settings.router;
        let (state, places) = super::open::state(router)?;
        let id = format!("router.{}", router.role.instance);
        let cluster = &router.ground.cluster;
        let open = |id: &str| {
            let opened = Transactions::open(cluster, id, settings.transaction_timeout)?.until(&router.role.stop);
            opened.within(cluster, router.reach())
        };
        // Both before it joins: whatever an earlier incarnation left open has ended.
        let transactions = [open(&id)?, open(&format!("{id}.1"))?];
        let instance = standing::name(router.ground.admin(), &router.role.instance, &router.received)?;
        let mut member = Member::join(cluster, topics::ROUTERS, &instance, &router.received, Start::Earliest)?;
        let (ground, window) = (Arc::clone(&router.ground), settings.dedupe_window);
        member.unless(Box::new(move |without| super::open::forgotten(&ground, window, without)));
        Ok(Self {
            router,
            transactions,
            turn: 0,
            member,
            state,
            refill: None,
            filling: BTreeMap::new(),
            held: Held::default(),
            taken: BTreeMap::new(),
            pass_from: Instant::now(),
            closed: Instant::now(),
            began: Instant::now(),
            places,
            joined: false,
            away: Cell::new(None),
        })
    }

    /// The producer of the transaction under way, or of the one that ended last.
    pub(super) const fn transactions(&self) -> &Transactions {
        &self.transactions[self.turn]
    }

    /// Goes on to the other producer.
    pub(super) const fn turn(&mut self) {
        self.turn = 1 - self.turn;
    }

    pub(super) fn until_stopped(mut self) -> Result<(), Again> {
        let ended = self.work();
        let Self { transactions, member, .. } = self;
        retire((transactions, member));
        ended
    }

    fn work(&mut self) -> Result<(), Again> {
        while !self.router.role.stop.is_cancelled() {
            let rows = self.collect()?;
            let is_idle = rows.is_empty();
            if !is_idle {
                failpoint("router.after_poll");
                self.write(rows)?;
            }
            let since = Instant::now().checked_duration_since(self.pass_from);
            if since.is_some_and(|since| is_idle || since >= PASS_EVERY) {
                self.pass_ends()?;
            }
            self.look();
        }
        Ok(())
    }

    /// Rows for one batch: at most `batch_events`, or what came within `batch_wait` of the first. A transaction costs the
    /// broker much the same whatever it holds, so a short wait for company is well spent; but what came while the last
    /// transaction ran has waited for that long.
    fn collect(&mut self) -> Result<Vec<Row>, Again> {
        let settings = &self.router.settings.router;
        let (mut rows, mut bytes) = (Vec::new(), 0);
        let mut until = Instant::now() + IDLE;
        let stop = &self.router.role.stop;
        while rows.len() < settings.batch_events && bytes < BATCH_BYTES && !stop.is_cancelled() {
            self.hear()?;
            let before = rows.len();
            self.answered(&mut rows)?;
            let asked = Instant::now();
            let left = until.saturating_duration_since(asked);
            let is_quiet = self.filling.is_empty() && self.held.is_empty();
            match self.member.poll(if is_quiet { left } else { left.min(FILLING) })? {
                Polled::Record(incoming) => {
                    bytes += incoming.value.as_ref().map_or(0, Vec::len);
                    rows.extend(self.take(*incoming)?);
                }
                Polled::Gained(partitions) => self.gain(partitions)?,
                Polled::Leaving { lost } => {
                    // Rows not written yet are read again by whoever gets the partitions; no transaction is open here.
                    tracing::info!(lost, dropped = rows.len(), "partitions given back");
                    rows.clear();
                    self.refill = None;
                    self.filling.clear();
                    self.taken.clear();
                    self.held.let_go();
                    self.joined = false;
                    self.member.release()?;
                }
                Polled::Away(why) => self.lost_sight(&why),
                Polled::Nothing if Instant::now() >= until => break,
                Polled::Nothing => {}
            }
            if before == 0 && !rows.is_empty() {
                let since = if asked.elapsed() < AT_ONCE { self.closed } else { Instant::now() };
                until = since + settings.batch_wait;
            }
        }
        self.closed = Instant::now();
        Ok(rows)
    }

    /// Partitions gained are served when their state is complete. Their committed offsets were read before, so that no
    /// commit can lie between what is known and where reading starts.
    fn gain(&mut self, partitions: Vec<Partition>) -> Result<(), Again> {
        self.joined = true;
        self.away.set(None);
        self.taken = self.member.begins().clone();
        self.member.pause(&partitions)?;
        // Markers are moved by who holds all partitions: from now on, and until they are given back, nobody does.
        self.places.confirm(self.router, partitions.iter().map(|partition| self.router.source_of(partition)))?;
        let mut wanted: BTreeMap<String, Part> = BTreeMap::new();
        for partition in partitions {
            if self.places.are_elsewhere(&partition) {
                // Every row of it is passed on, so there is nothing to know.
                self.member.resume([&partition])?;
                continue;
            }
            let source = self.router.source_of(&partition).to_owned();
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
        let Router { ground, encoders, runtime, .. } = self.router;
        self.refill = (!wanted.is_empty()).then(|| Refill::start(ground, encoders, runtime, wanted));
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
                Filled::Ended if self.filling.is_empty() => break,
                Filled::Ended => return Err(Again::Unfilled),
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

    pub(super) fn tell(&self) {
        match (self.filling.len(), self.held.why()) {
            (0, None) => self.router.role.health.ready(),
            (0, Some(why)) => self.router.role.health.not_ready(why),
            (left, _) => {
                self.router.role.health.not_ready(&format!("restoring the dedupe state of {left} partitions"));
            }
        }
    }

    /// A row, where its schema is known; otherwise its partition waits until the registry has answered.
    fn take(&mut self, incoming: Incoming) -> Result<Option<Row>, Again> {
        let Router { decoder, ground, runtime, .. } = self.router;
        if let Some(place) = self.places.elsewhere(&incoming) {
            let source = self.router.source_of(&incoming.partition).to_owned();
            let share = Share { source, partition: incoming.partition.number };
            return Ok(Some(Row { incoming, share, task: Task::PassOn(place) }));
        }
        let Some(schema) = decoder.unknown(incoming.value.as_deref()) else {
            let envelope = decoder.decode_known::<Unproved>(incoming.value.as_deref());
            return Ok(Some(self.row(incoming, envelope)));
        };
        self.member.pause([&incoming.partition])?;
        self.member.rewind([(&incoming.partition, incoming.offset + 1)])?;
        self.taken.remove(&incoming.partition);
        self.held.keep(incoming, schema, &ground.registry, runtime);
        Ok(None)
    }

    /// Rows that the registry has answered for.
    fn answered(&mut self, rows: &mut Vec<Row>) -> Result<(), Again> {
        if self.held.is_empty() {
            return Ok(());
        }
        let Router { decoder, ground, runtime, .. } = self.router;
        let was = self.held.why().is_some();
        for (incoming, answer) in self.held.answered(&ground.registry, runtime) {
            self.member.resume([&incoming.partition])?;
            let value = incoming.value.as_deref();
            let envelope = answer.map_err(DecodeError::from).and_then(|()| decoder.decode_known::<Unproved>(value));
            rows.push(self.row(incoming, envelope));
        }
        if was != self.held.why().is_some() {
            self.tell();
        }
        Ok(())
    }

    /// A row with its envelope, or with one made up around its bytes.
    fn row(&self, incoming: Incoming, envelope: Result<Unproved, DecodeError>) -> Row {
        let source = self.router.source_of(&incoming.partition);
        let share = Share { source: source.to_owned(), partition: incoming.partition.number };
        let mark = Mark::read(|name| incoming.headers.get(name));
        let fault = match envelope.map(Envelope::from) {
            // A receiver takes no such id or type. As a key the id could make a marker that Kafka does not take, and the
            // store keeps its position under an empty one; a type is told in a row beside the body that has it too.
            Ok(envelope) if envelope.event_id.len() > MAX_EVENT_ID_BYTES => "its event id is too long".to_owned(),
            Ok(envelope) if envelope.event_id.is_empty() => "its event id is empty".to_owned(),
            Ok(envelope) if envelope.event_type.len() > MAX_EVENT_TYPE_BYTES => "its event type is too long".to_owned(),
            // Its marker would stand where no other row of that id is looked for.
            Ok(envelope)
                if matches!(mark, Some(Mark::Replay { read_again: true, .. }))
                    && incoming.key.as_deref() != Some(envelope.event_id.as_bytes()) =>
            {
                format!("its event id, {}, is not the key that it was received under", envelope.event_id)
            }
            Ok(envelope) => return Row { incoming, share, task: Task::Decide(Box::new(envelope), mark) },
            Err(error) => error.to_string(),
        };
        let at = (&incoming.partition.topic, incoming.partition.number, incoming.offset);
        tracing::error!(?at, fault, "a row of received is no envelope");
        let envelope = Box::new(undecodable(&incoming, source, Timestamp::now()));
        Row { incoming, share, task: Task::SetAside(envelope, mark) }
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
