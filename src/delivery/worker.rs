//! One target's thread: it owns the group member, the transactions and the engine, and is the only one to change them.
//!
//! A session begins with a fresh membership and ends with any fault of Kafka; the next one starts from what is
//! committed. Tries outlive their session: their results come back as strays.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::attempt::{self, Open};
use super::clock::Clock;
use super::commit::{Batch, Offsets};
use super::committer::Committer;
use super::confer::Conferred;
use super::engine::{Engine, Rules};
use super::error::Stopped;
use super::lane::{Allowance, Go, Limits, Try};
use super::latest::Latest;
use super::notices::Notices;
use super::restore::UnknownState;
use super::results::Heard;
use super::rows::Rows;
use super::schedule::Policy;
use super::shelf::{MAX_WAITING, Shelf};
use super::state::{Board, Gauges, TargetState};
use super::tally::Tally;
use super::task::{Reader, Task};
use crate::config;
use crate::kafka::admin::AdminError;
use crate::kafka::group::{GroupError, Incoming, Member, Partition, Start};
use crate::kafka::layout::Ground;
use crate::kafka::leftovers::Reach;
use crate::kafka::retire::retire;
use crate::kafka::standing;
use crate::kafka::transaction::{TransactionError, Transactions};
use crate::targets::Client;
use crate::topics;

/// A transaction is opened when all it holds is known, so it is short. The bound is what a stop may have to wait for,
/// and what a successor waits for after a crash.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Wait for records while nothing is under way: also how late a stop or a repeat may be noticed.
pub(super) const IDLE: Duration = Duration::from_millis(50);
/// How long a commit proves that the partitions are still ours: half of the group's session timeout, so that whoever
/// stood still for longer, and may have lost them, asks before it sends.
pub(super) const PROOF: Duration = Duration::from_secs(5);
/// How long a commit may take before nothing more is sent: Kafka may be away.
const SLOW: Duration = Duration::from_secs(1);
/// Most bytes of open records in memory, as they stand in Kafka: for records near the limit of their size, of which as many
/// as `read_ahead` says would be gigabytes.
const READ_AHEAD_BYTES: usize = 64 * 1024 * 1024;
/// How long an instance's word takes to the others, at most, while Kafka is well.
const NEWS: Duration = Duration::from_secs(1);
/// Pause between looks at a cluster or registry that is away, and before a new session.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What a worker is given.
pub(super) struct Setup {
    pub(super) target: config::Target,
    pub(super) delivery: config::Delivery,
    pub(super) ground: Arc<Ground>,
    pub(super) client: Arc<Client>,
    pub(super) reader: Reader,
    pub(super) rows: Rows,
    pub(super) gauges: Gauges,
    pub(super) board: Arc<Board>,
    pub(super) notices: Arc<Notices>,
    pub(super) runtime: Handle,
    /// Says when to stop.
    pub(super) stop: CancellationToken,
    /// Says that nobody waits for us any more: leave everything as a crash would.
    pub(super) gone: CancellationToken,
    /// Time for what is under way after a stop.
    pub(super) drain: Duration,
    pub(super) instance: String,
    pub(super) seed: u64,
}

impl Setup {
    /// The topics that are read, without prefix.
    pub(super) fn topics(&self) -> Vec<String> {
        let redeliver = topics::redeliver(&self.target.name);
        self.target.records.iter().cloned().chain([redeliver]).collect()
    }

    /// What its transactions touch.
    fn reach(&self, group: &str) -> Reach {
        let target = &self.target.name;
        let own = [topics::parked(target), topics::progress(target)];
        let shared = [topics::ATTEMPTS, topics::DEAD_LETTERS].map(str::to_owned);
        let topics = own.into_iter().chain(shared).map(|name| self.ground.cluster.topic(&name)).collect();
        Reach { group: group.to_owned(), topics }
    }
}

/// One target's thread.
pub(super) struct Worker {
    pub(super) s: Setup,
    /// Kafka's name of the target's `redeliver`.
    pub(super) redeliver: String,
    pub(super) engine: Engine<Task>,
    /// Which of each entity's records the target has had.
    pub(super) latest: Latest,
    pub(super) batch: Batch,
    pub(super) offsets: Offsets,
    /// When the commit under way began.
    pub(super) committing: Option<Instant>,
    /// Number of the session, which tells its commits from earlier ones'.
    pub(super) session: u64,
    pub(super) conferred: Conferred,
    pub(super) heard: (SyncSender<Heard>, Receiver<Heard>),
    shelf: Option<Shelf>,
    cut: CancellationToken,
    /// When the last commit with our membership began.
    pub(super) proved: Option<Clock>,
    /// Before this time nothing is sent: a predecessor's tries may be under way, whatever became of our session.
    pub(super) not_before: Option<Instant>,
    /// When to be done, once told to stop.
    pub(super) stop_by: Option<Instant>,
    pub(super) partitions: Vec<Partition>,
    /// Records that cannot be decoded while the registry is away, or that would become dead letters while the target is
    /// paused; and what was read behind them.
    pub(super) stash: VecDeque<Incoming>,
    pub(super) paused: bool,
    /// Whether redeliveries are not read, since as many wait as may.
    pub(super) crowded: bool,
    pub(super) held_since: Option<Instant>,
    pub(super) joined: bool,
    /// When to look again at what is away.
    pub(super) away: Option<Instant>,
}

/// Why a session ended early.
pub(super) enum Interrupt {
    Again { why: String, fenced: bool },
    Stop(Stopped),
}

impl From<Stopped> for Interrupt {
    fn from(stopped: Stopped) -> Self {
        Self::Stop(stopped)
    }
}

impl From<UnknownState> for Interrupt {
    fn from(error: UnknownState) -> Self {
        match error {
            UnknownState::Row { ref cause, .. } if !cause.is_away() => Self::Stop(Stopped::Unknown(error)),
            error => Self::Again { why: error.to_string(), fenced: false },
        }
    }
}

impl From<TransactionError> for Interrupt {
    fn from(error: TransactionError) -> Self {
        let fenced = match &error {
            TransactionError::Abort { .. } => false,
            TransactionError::Retry { .. } | TransactionError::Fenced { .. } => true,
        };
        Self::Again { why: error.to_string(), fenced }
    }
}

impl From<AdminError> for Interrupt {
    fn from(error: AdminError) -> Self {
        Self::Again { why: error.to_string(), fenced: false }
    }
}

impl From<GroupError> for Interrupt {
    fn from(error: GroupError) -> Self {
        match error {
            GroupError::PositionLost { .. } | GroupError::Forgotten { .. } => Self::Stop(Stopped::Position(error)),
            GroupError::Broken { .. } | GroupError::CutOff { .. } => {
                Self::Again { why: error.to_string(), fenced: false }
            }
        }
    }
}

impl Worker {
    pub(super) fn new(setup: Setup) -> Self {
        let (target, delivery) = (&setup.target, &setup.delivery);
        let rules = Rules {
            policy: Policy { retry: target.retry, on_give_up: target.on_give_up },
            limits: Limits {
                read_ahead: Tally { records: delivery.read_ahead, bytes: READ_AHEAD_BYTES },
                keep_parked: Tally { records: delivery.read_ahead / 2, bytes: READ_AHEAD_BYTES / 2 },
                class: setup.client.idempotency(),
            },
            allowance: Allowance { at_once: target.max_concurrency, unsettled: target.max_unsettled },
            rate: target.rate_limit,
            requests: setup.client.most_requests(),
            hold_back: target.timeout + NEWS,
        };
        Self {
            redeliver: setup.ground.cluster.topic(&topics::redeliver(&target.name)),
            engine: Engine::new(rules, SmallRng::seed_from_u64(setup.seed)),
            latest: Latest::new(target.on_stale),
            batch: Batch::new(delivery.commit_records, delivery.commit_every),
            offsets: Offsets::default(),
            // One place per try that may be under way (see `attempt::start`), per fetch, and for the commits of this
            // session and of the one before.
            heard: sync_channel(target.max_concurrency + MAX_WAITING + 2),
            committing: None,
            session: 0,
            conferred: Conferred::default(),
            shelf: None,
            cut: setup.gone.child_token(),
            proved: None,
            not_before: None,
            stop_by: None,
            partitions: Vec::new(),
            stash: VecDeque::new(),
            paused: false,
            crowded: false,
            held_since: None,
            joined: false,
            away: None,
            s: setup,
        }
    }

    /// Works until told to stop. A target that cannot go on ends alone, with its reason shown. Blocks.
    pub(super) fn run(mut self) {
        let mut transactions = None;
        while !self.is_over() {
            match self.session(&mut transactions) {
                Ok(()) => {}
                Err(Interrupt::Again { why, fenced }) => {
                    if fenced {
                        retire(transactions.take());
                    }
                    self.unwell(&why);
                    self.pause(LOOK_EVERY);
                }
                Err(Interrupt::Stop(reason)) => {
                    let reason = reason.to_string();
                    self.s.gauges.state(TargetState::Stopped, "", &reason);
                    self.s.board.not_ready(&self.s.target.name, &format!("stopped: {reason}"));
                    break;
                }
            }
        }
        retire(transactions);
    }

    fn is_over(&self) -> bool {
        self.s.stop.is_cancelled() || self.s.gone.is_cancelled()
    }

    fn session(&mut self, kept: &mut Option<[Transactions; 2]>) -> Result<(), Interrupt> {
        let cluster = &self.s.ground.cluster;
        let id = format!("delivery.{}", self.s.target.name);
        let topics: Vec<String> = self.s.topics().iter().map(|name| cluster.topic(name)).collect();
        let start = match self.s.target.start {
            config::Start::Now => Start::Now,
            config::Start::Earliest => Start::Earliest,
            config::Start::At(time) => Start::At(time.as_millisecond()),
        };
        // Before what is kept is taken out: a cluster that is away leaves it where it is.
        let instance = standing::name(self.s.ground.admin(), &self.s.instance, &topics)?;
        let transactions = match kept.take() {
            Some(transactions) => transactions,
            None => {
                let open = |turn| {
                    let transactional = format!("{id}.{}.{turn}", self.s.instance);
                    let opened = Transactions::open(cluster, &transactional, TRANSACTION_TIMEOUT)?.until(&self.s.stop);
                    opened.within(cluster, self.s.reach(&id))
                };
                [open(0)?, open(1)?]
            }
        };
        let mut member = Member::join(cluster, &id, &instance, &topics, start)?;
        // What an operator asked for is done, whenever the target begins with its records.
        member.start_earliest(&self.redeliver);
        member.in_transactions(&self.s.target.records.iter().map(|name| cluster.topic(name)).collect::<Vec<_>>());
        self.session += 1;
        let ended = std::thread::scope(|scope| {
            let committer = Committer::start(scope, &transactions, self);
            self.work(&mut member, &committer)
        });
        self.forget();
        retire(member);
        *kept = Some(transactions);
        ended
    }

    fn work(&mut self, member: &mut Member, committer: &Committer<'_>) -> Result<(), Interrupt> {
        loop {
            if self.s.gone.is_cancelled() {
                return Ok(());
            }
            if self.s.stop.is_cancelled() {
                self.drain(self.s.drain)?;
                self.cut.cancel();
                return self.commit_all(member, committer, true);
            }
            let mut some = self.hear()?;
            self.confer();
            self.dispatch(member, committer)?;
            some |= self.read(member, committer)?;
            self.ask_for_an_end(member);
            self.dispatch(member, committer)?;
            let now = Instant::now();
            if self.committing.is_none() && (self.batch.is_due(now) || self.engine.wants_commit(now)) {
                self.begin_commit(member, committer, false)?;
            }
            self.look(now)?;
            self.s.gauges.observe(&self.engine.plan, now);
            if !some {
                self.rest()?;
            }
        }
    }

    /// Starts everything that may go now. Nothing while Kafka is away: what cannot be written down would be repeated.
    fn dispatch(&mut self, member: &Member, committer: &Committer<'_>) -> Result<(), Interrupt> {
        if !self.joined || !self.conferred.is_complete() || (self.away.is_some() && self.stash.is_empty()) {
            return Ok(());
        }
        let clock = Clock::now();
        for change in self.engine.admit(clock.now) {
            self.write(&change, &clock)?;
        }
        let mut tries = Vec::new();
        let gone = self.choose(&mut tries, member, committer);
        attempt::start(&self.s.runtime, &self.s.client, tries, &self.cut);
        gone
    }

    /// Takes from the plan what may go now.
    fn choose(&mut self, tries: &mut Vec<Open>, member: &Member, committer: &Committer<'_>) -> Result<(), Interrupt> {
        loop {
            let now = Instant::now();
            let slow = self.committing.is_some_and(|since| now.saturating_duration_since(since) >= SLOW);
            if slow || self.not_before.is_some_and(|time| now < time) || !self.engine.is_ready(now) {
                return Ok(());
            }
            let Some(proved) = self.proved.filter(|proved| Clock::now().since(proved) < PROOF) else {
                // Where tries are chosen, theirs was the proof before: they go before the wait for the next one. That is
                // looked at anew: the commit may have taken as long, or we may have stood still in it.
                if tries.is_empty() {
                    self.commit_all(member, committer, false)?;
                }
                return Ok(());
            };
            match self.engine.next(now) {
                None => return Ok(()),
                Some(Go::Try(next)) if self.comes_too_late(&next) => attempt::leave_out(next, &self.heard.0),
                Some(Go::Try(next)) => tries.push(Open::new(next, proved, self.heard.0.clone())),
                Some(Go::Fetch(fetch)) => {
                    let again = |why| Interrupt::Again { why, fenced: false };
                    self.shelf().and_then(|shelf| shelf.ask(fetch)).map_err(again)?;
                }
            }
        }
    }

    fn comes_too_late(&self, next: &Try<Task>) -> bool {
        let allowed = next.record.replay.as_ref().map(|replay| replay.allow_stale);
        self.latest.supersedes(&next.ticket.lane, next.record.record.occurred_at(), allowed)
    }

    fn shelf(&mut self) -> Result<&Shelf, String> {
        let shelf = match self.shelf.take() {
            Some(shelf) => shelf,
            None => {
                let (cluster, target) = (&self.s.ground.cluster, &self.s.target.name);
                Shelf::start(cluster, target, self.s.reader.clone(), self.heard.0.clone())?
            }
        };
        Ok(self.shelf.insert(shelf))
    }

    /// Drops everything that is not committed: it is read again, by us or by others.
    pub(super) fn forget(&mut self) {
        self.engine.lost();
        self.latest.clear();
        self.batch.take();
        self.offsets.clear();
        self.committing = None;
        self.proved = None;
        self.s.rows.clear();
        self.partitions.clear();
        self.stash.clear();
        self.joined = false;
        self.paused = false;
        self.crowded = false;
        self.held_since = None;
    }

    /// Sleeps, but not past a stop.
    fn pause(&self, time: Duration) {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline && !self.is_over() {
            std::thread::sleep(IDLE);
        }
    }
}
