//! Commits beside the work: while a transaction is under way, tries go on and their ends gather for the next one.
//! One at a time, in order; a session's commits end before the session does.
//!
//! Two producers take turns. The coordinator refuses a producer's next transaction until the markers of its last one are
//! written, and the client then asks again after 20 ms, several times what a transaction takes.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use tokio::time::Instant;

use super::clock::Clock;
use super::commit::{self, Row};
use super::results::Heard;
use super::state::Board;
use super::worker::{IDLE, Interrupt, Worker};
use crate::kafka::group::{Member, Membership, Partition};
use crate::kafka::transaction::{TransactionError, Transactions};

/// A transaction's contents.
struct Job {
    rows: Vec<Row>,
    positions: Vec<(Partition, i64)>,
    member: Option<Arc<Membership>>,
    began: Clock,
}

/// A commit that ended.
#[derive(Debug)]
pub(super) struct Committed {
    /// The session that it belongs to.
    session: u64,
    /// When it began.
    began: Clock,
    /// Whether it took longer than usual, and said so.
    waited: bool,
    outcome: Result<(), TransactionError>,
}

/// The thread on which a session's transactions are made.
pub(super) struct Committer<'scope> {
    jobs: SyncSender<Job>,
    thread: ScopedJoinHandle<'scope, ()>,
}

impl<'scope> Committer<'scope> {
    /// Starts the thread for the worker's session. It ends when this is dropped, behind the commit under way.
    pub(super) fn start(
        scope: &'scope Scope<'scope, '_>,
        producers: &'scope [Transactions; 2],
        worker: &Worker,
    ) -> Self {
        let (jobs, todo) = sync_channel(1);
        let (session, results) = (worker.session, worker.heard.0.clone());
        let (board, target) = (Arc::clone(&worker.s.board), worker.s.target.name.clone());
        let thread = scope.spawn(move || run(&todo, producers, session, &results, (&board, &target)));
        Self { jobs, thread }
    }
}

fn run(
    todo: &Receiver<Job>,
    producers: &[Transactions; 2],
    session: u64,
    results: &SyncSender<Heard>,
    (board, target): (&Board, &str),
) {
    for (Job { rows, positions, member, began }, transactions) in todo.iter().zip(producers.iter().cycle()) {
        let waited = Cell::new(false);
        let waiting = |why: &str| {
            waited.set(true);
            board.not_ready(target, why);
        };
        let outcome = commit::commit(transactions, member.as_ref(), &rows, &positions, &waiting);
        let committed = Committed { session, began, waited: waited.get(), outcome };
        // There is room: the worker asks for one at a time.
        drop(results.try_send(Heard::Committed(committed)));
    }
}

impl Worker {
    /// Hands what there is to the committer, and be it nothing but that the partitions are ours; none may be under way.
    /// Where `handing_over`, nothing will be sent any more.
    pub(super) fn begin_commit(
        &mut self,
        member: &Member,
        committer: &Committer<'_>,
        handing_over: bool,
    ) -> Result<(), Interrupt> {
        let clock = Clock::now();
        let positions = self.engine.plan.positions();
        if positions.is_empty() {
            return Ok(());
        }
        // Whoever hands on before a predecessor's tries are over cannot say that nothing is under way.
        let quiet = self.not_before.is_none_or(|time| time <= clock.now);
        for position in self.engine.seal(handing_over && quiet) {
            let row = self.s.rows.progress(position, clock.at)?;
            self.batch.add(row, clock.now);
        }
        let positions = self.offsets.moved(positions);
        let member = member.metadata().map(Arc::clone);
        let job = Job { rows: self.batch.take(), positions, member, began: clock };
        self.committing = Some(clock.now);
        committer.jobs.try_send(job).map_err(|_| gone())
    }

    /// Waits for the commit under way, if there is one. What else comes back meanwhile is taken in.
    pub(super) fn finish_commit(&mut self, committer: &Committer<'_>) -> Result<(), Interrupt> {
        while self.committing.is_some() {
            // Asked first: what the thread said at its end is there to be heard.
            let ended = committer.thread.is_finished();
            match self.heard.1.recv_timeout(IDLE) {
                Ok(heard) => self.take_in(heard)?,
                Err(_) if ended => return Err(gone()),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Commits what there is, and waits for it.
    pub(super) fn commit_all(
        &mut self,
        member: &Member,
        committer: &Committer<'_>,
        handing_over: bool,
    ) -> Result<(), Interrupt> {
        self.finish_commit(committer)?;
        self.begin_commit(member, committer, handing_over)?;
        self.finish_commit(committer)
    }

    /// A commit ended.
    pub(super) fn committed(&mut self, committed: Committed) -> Result<(), Interrupt> {
        if committed.session != self.session {
            return Ok(());
        }
        self.committing = None;
        committed.outcome?;
        if committed.waited {
            self.well();
        }
        self.proved = Some(committed.began);
        self.engine.committed(Instant::now());
        Ok(())
    }
}

/// The thread can only have panicked, which the role hears of when the scope ends.
fn gone() -> Interrupt {
    Interrupt::Again { why: "the thread of the transactions ended".to_owned(), fenced: true }
}
