//! One target's thread: it owns the group member, the transactions and the plan, and is the only one to change them.
//!
//! A session begins with a fresh membership and ends with any fault of Kafka; the next one starts from the committed
//! positions. Tries outlive their session: their results come back as strays.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::attempt::{self, Tried};
use super::commit::{self, Batch};
use super::error::Stopped;
use super::plan::{Head, Plan, Then};
use super::rows::Rows;
use super::schedule::{Next, Policy, decide};
use super::state::{Board, Gauges, TargetState};
use super::task::{Reader, Task};
use crate::config;
use crate::event::Timestamp;
use crate::kafka::group::{GroupError, Incoming, Member, Partition, Start};
use crate::kafka::layout::Ground;
use crate::kafka::transaction::{TransactionError, Transactions};
use crate::targets::Client;

/// A transaction is opened when all it holds is known, so it is short. The bound is what a stop may have to wait for,
/// and what a successor waits for after a crash.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Wait for records while nothing is under way: also how late a stop or a repeat may be noticed.
pub(super) const IDLE: Duration = Duration::from_millis(50);
/// Wait for results while tries are under way: also how late a new record may be noticed then.
const BRIEF: Duration = Duration::from_millis(5);
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

/// One target's thread.
pub(super) struct Worker {
    pub(super) s: Setup,
    policy: Policy,
    pub(super) plan: Plan<Task>,
    pub(super) batch: Batch,
    results: (SyncSender<Tried>, Receiver<Tried>),
    cut: CancellationToken,
    rng: SmallRng,
    /// When to be done, once told to stop.
    stop_by: Option<Instant>,
    pub(super) partitions: Vec<Partition>,
    /// Records that cannot be decoded while the registry is away.
    pub(super) stash: VecDeque<Incoming>,
    pub(super) paused: bool,
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

impl From<TransactionError> for Interrupt {
    fn from(error: TransactionError) -> Self {
        let fenced = match &error {
            TransactionError::Abort { .. } => false,
            TransactionError::Retry { .. } | TransactionError::Fenced { .. } => true,
        };
        Self::Again { why: error.to_string(), fenced }
    }
}

impl From<GroupError> for Interrupt {
    fn from(error: GroupError) -> Self {
        match error {
            GroupError::PositionLost { .. } => Self::Stop(Stopped::Position(error)),
            GroupError::Broken { .. } => Self::Again { why: error.to_string(), fenced: false },
        }
    }
}

impl Worker {
    pub(super) fn new(setup: Setup) -> Self {
        let (target, delivery) = (&setup.target, &setup.delivery);
        Self {
            policy: Policy { retry: target.retry, on_give_up: target.on_give_up },
            plan: Plan::new(target.max_concurrency, delivery.read_ahead),
            batch: Batch::new(delivery.commit_records, delivery.commit_every),
            // One place per try that may be under way: see `attempt::start`.
            results: sync_channel(target.max_concurrency),
            cut: setup.gone.child_token(),
            rng: SmallRng::seed_from_u64(setup.seed),
            stop_by: None,
            partitions: Vec::new(),
            stash: VecDeque::new(),
            paused: false,
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
                        transactions = None;
                    }
                    self.unwell(&why);
                    self.pause(LOOK_EVERY);
                }
                Err(Interrupt::Stop(reason)) => {
                    let reason = reason.to_string();
                    self.s.gauges.state(TargetState::Stopped, "", &reason);
                    self.s.board.not_ready(&self.s.target.name, &format!("stopped: {reason}"));
                    return;
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.s.stop.is_cancelled() || self.s.gone.is_cancelled()
    }

    fn session(&mut self, kept: &mut Option<Transactions>) -> Result<(), Interrupt> {
        let cluster = &self.s.ground.cluster;
        let id = format!("delivery.{}", self.s.target.name);
        let transactions = match kept.take() {
            Some(transactions) => transactions,
            None => Transactions::open(cluster, &format!("{id}.{}", self.s.instance), TRANSACTION_TIMEOUT)?,
        };
        let topics: Vec<String> = self.s.target.records.iter().map(|name| cluster.topic(name)).collect();
        let start = match self.s.target.start {
            config::Start::Now => Start::Now,
            config::Start::Earliest => Start::Earliest,
            config::Start::At(time) => Start::At(time.as_millisecond()),
        };
        let mut member = Member::join(cluster, &id, &self.s.instance, &topics, start)?;
        let ended = self.work(&mut member, &transactions);
        self.forget();
        *kept = Some(transactions);
        ended
    }

    fn work(&mut self, member: &mut Member, transactions: &Transactions) -> Result<(), Interrupt> {
        loop {
            if self.s.gone.is_cancelled() {
                return Ok(());
            }
            if self.s.stop.is_cancelled() {
                self.drain(self.s.drain)?;
                self.cut.cancel();
                return self.commit(member, transactions);
            }
            let mut some = self.take_results()?;
            self.dispatch();
            some |= self.read(member, transactions)?;
            self.dispatch();
            let now = Instant::now();
            if self.batch.is_due(now) {
                self.commit(member, transactions)?;
            }
            self.look(now)?;
            self.s.gauges.observe(&self.plan, now);
            if !some {
                self.rest()?;
            }
        }
    }

    /// Starts every try that may go now. None while Kafka is away: what cannot be written down would be repeated.
    fn dispatch(&mut self) {
        if !self.joined || (self.away.is_some() && self.stash.is_empty()) {
            return;
        }
        while let Some(next) = self.plan.next(Instant::now()) {
            let (client, results) = (Arc::clone(&self.s.client), self.results.0.clone());
            attempt::start(&self.s.runtime, client, next, results, self.cut.clone());
        }
    }

    fn take_results(&mut self) -> Result<bool, Stopped> {
        let mut some = false;
        while let Ok(tried) = self.results.1.try_recv() {
            self.settle(&tried)?;
            some = true;
        }
        Ok(some)
    }

    /// What a try came to becomes rows and the plan's next step.
    fn settle(&mut self, tried: &Tried) -> Result<(), Stopped> {
        let (now, at) = (Instant::now(), Timestamp::now());
        let verdict = &tried.answer.verdict;
        self.s.gauges.tried(verdict.outcome);
        let head = self.plan.head(&tried.ticket, now);
        // A stray says nothing of its record any more, but still something of its target.
        let known = head.unwrap_or(Head { n: tried.n, failures: 0, spent: Duration::ZERO });
        let window = &mut self.plan.window;
        let next = decide(&self.policy, verdict, &known, window.failures(), &mut self.rng);
        let then = match next {
            Next::LeaveAlone { trouble, asked, backoff } => {
                window.failed(trouble, asked, backoff, tried.started, now);
                Then::Again
            }
            Next::Finish | Next::GiveUp(_) => Then::Finish,
            Next::TryAfter(wait) => Then::At(now + wait),
        };
        if then != Then::Again {
            window.worked(tried.started, now);
        }
        let due = match then {
            Then::Finish => None,
            Then::At(time) => Some(time),
            Then::Again => window.until(),
        };
        let state = TargetState::of(window.trouble());
        self.s.gauges.state(state, tried.task.record.event_id(), &verdict.reason.to_string());
        if head.is_some() {
            let next_try_at = due.map(|due| at.plus(due.saturating_duration_since(now)));
            let row = self.s.rows.attempt(tried, next_try_at)?;
            self.batch.add(row, now);
            if let Next::GiveUp(reason) = next {
                tracing::error!(
                    target_name = self.s.target.name,
                    event_id = tried.task.record.event_id(),
                    reason = reason.name(),
                    last = %verdict.reason,
                    attempts = tried.n,
                    "dead letter"
                );
                let row = self.s.rows.dead_letter(tried, reason, at)?;
                self.batch.add(row, now);
            }
            if then == Then::Finish {
                self.s.rows.finished(&tried.ticket.lane);
            }
        }
        self.plan.settle(&tried.ticket, then);
        Ok(())
    }

    /// Waits for the tries under way, at most this long and not beyond the time that a stop leaves. Starts none.
    pub(super) fn drain(&mut self, longest: Duration) -> Result<(), Stopped> {
        let deadline = Instant::now() + longest;
        while self.plan.in_flight() > 0 && !self.s.gone.is_cancelled() {
            let now = Instant::now();
            if self.s.stop.is_cancelled() {
                self.stop_by.get_or_insert(now + self.s.drain);
            }
            if now >= self.stop_by.map_or(deadline, |by| by.min(deadline)) {
                break;
            }
            if let Ok(tried) = self.results.1.recv_timeout(IDLE) {
                self.settle(&tried)?;
            }
        }
        Ok(())
    }

    /// Commits what is finished, if anything is.
    pub(super) fn commit(&mut self, member: &Member, transactions: &Transactions) -> Result<(), Interrupt> {
        if !self.batch.is_empty() {
            let waits = Cell::new(false);
            let waiting = |why: &str| {
                waits.set(true);
                self.s.board.not_ready(&self.s.target.name, why);
            };
            commit::commit(transactions, member, self.batch.rows(), &self.plan.positions(), &waiting)?;
            if waits.get() {
                self.well();
            }
            self.batch.clear();
        }
        Ok(())
    }

    /// Drops everything that is not committed: it is read again, by us or by others.
    pub(super) fn forget(&mut self) {
        self.plan.lost();
        self.batch.clear();
        self.s.rows.clear();
        self.partitions.clear();
        self.stash.clear();
        self.joined = false;
        self.paused = false;
        self.held_since = None;
    }

    fn rest(&mut self) -> Result<(), Stopped> {
        // With nothing under way, the poll for records has waited already, unless reading is held back.
        let wait = if self.plan.in_flight() > 0 || self.held_since.is_none() { BRIEF } else { IDLE };
        match self.results.1.recv_timeout(wait) {
            Ok(tried) => self.settle(&tried),
            Err(_) => Ok(()),
        }
    }

    /// Sleeps, but not past a stop.
    fn pause(&self, time: Duration) {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline && !self.is_over() {
            std::thread::sleep(IDLE);
        }
    }
}
