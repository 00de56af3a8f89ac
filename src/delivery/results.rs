//! What comes back to a worker: tries that ended, records that were fetched. They become rows and the engine's next step.

use std::time::Duration;

use tokio::time::Instant;

use super::attempt::Tried;
use super::clock::Clock;
use super::committer::Committed;
use super::error::Stopped;
use super::lane::{Change, Ticket};
use super::shelf::Fetched;
use super::state::TargetState;
use super::task::Task;
use super::worker::{IDLE, Interrupt, Worker};
use crate::event::AttemptOutcome;
use crate::outcome::DeadLetterEnd;

/// Wait for results while tries are under way: also how late a new record may be noticed then.
const BRIEF: Duration = Duration::from_millis(5);

/// Tries under way from which on their ends come so close together that one look for several is worth the wait.
const CROWD: usize = 32;
/// That wait. A place at the target stays empty for as long; looking for each end alone costs two switches of threads.
const GATHER: Duration = Duration::from_millis(1);

/// What comes back from other threads.
#[derive(Debug)]
pub(super) enum Heard {
    /// A try ended.
    Tried(Box<Tried>),
    /// A try was not begun: we stood still, and who has the partitions has to be asked first.
    Unsent(Ticket),
    /// A fetch ended.
    Fetched(Box<Fetched>),
    /// A commit ended.
    Committed(Committed),
}

impl Worker {
    /// Takes in everything that came back; says whether there was something.
    pub(super) fn hear(&mut self) -> Result<bool, Interrupt> {
        let mut some = false;
        while let Ok(heard) = self.heard.1.try_recv() {
            self.take_in(heard)?;
            some = true;
        }
        Ok(some)
    }

    pub(super) fn take_in(&mut self, heard: Heard) -> Result<(), Interrupt> {
        match heard {
            Heard::Tried(tried) => Ok(self.settle(&tried)?),
            Heard::Unsent(ticket) => {
                let clock = Clock::now();
                for change in self.engine.unsent(&ticket, clock.now) {
                    self.write(&change, &clock)?;
                }
                Ok(())
            }
            Heard::Committed(committed) => self.committed(committed),
            Heard::Fetched(fetched) => {
                let Fetched { ticket, found } = *fetched;
                match found {
                    Ok((task, attempts)) => {
                        if self.engine.plan.fetched(&ticket, task) {
                            self.s.rows.remember(&ticket.lane, attempts);
                        }
                        Ok(())
                    }
                    // Restoring finds the rows' places again. One of an earlier session is nobody's any more.
                    Err(why) if self.engine.plan.awaits(&ticket) => Err(Interrupt::Again { why, fenced: false }),
                    Err(_) => Ok(()),
                }
            }
        }
    }

    /// What a try came to becomes rows and the engine's next step.
    fn settle(&mut self, tried: &Tried) -> Result<(), Stopped> {
        let clock = Clock::now();
        let verdict = &tried.answer.verdict;
        self.s.gauges.tried(verdict.outcome);
        self.engine.used(tried.answer.requests);
        let ended = self.engine.settle(&tried.ticket, tried.n, verdict, tried.started, clock.now);
        let state = TargetState::of(&self.engine.window);
        self.s.gauges.state(state, tried.task.record.event_id(), &verdict.reason.to_string());
        if ended.head.is_some() {
            let next_try_at = ended.due.map(|due| clock.wall(due.max(clock.now)));
            let last = ended.finished && ended.gave_up.is_none();
            let row = self.s.rows.attempt(tried, next_try_at, last)?;
            self.batch.add(row, clock.now);
            if let Some(reason) = ended.gave_up {
                tracing::error!(
                    target_name = self.s.target.name,
                    event_id = tried.task.record.event_id(),
                    reason = reason.name(),
                    last = %verdict.reason,
                    attempts = tried.n,
                    "dead letter"
                );
                let row = self.s.rows.dead_letter(tried, reason, clock.at)?;
                self.batch.add(row, clock.now);
            }
            if ended.finished {
                self.s.rows.forget(&tried.ticket.lane);
                if last {
                    self.reached(tried, &clock)?;
                }
            }
        }
        for change in &ended.changes {
            self.write(change, &clock)?;
        }
        Ok(())
    }

    /// A record came to a good end: which of its entity's records the target has had may have changed, and the dead
    /// letter that it was is settled.
    fn reached(&mut self, tried: &Tried, clock: &Clock) -> Result<(), Stopped> {
        let task = &tried.task;
        let had = tried.answer.verdict.outcome != AttemptOutcome::Filtered;
        if let Some(occurred) = task.record.occurred_at().filter(|_| had)
            && self.latest.note(&tried.ticket.lane, occurred)
            && self.latest.is_kept()
        {
            let row = self.s.rows.latest(task, occurred, clock.at)?;
            self.batch.add(row, clock.now);
        }
        if task.replay.as_ref().is_some_and(|replay| replay.settles) {
            let end = if had { DeadLetterEnd::Delivered } else { DeadLetterEnd::Filtered };
            let row = self.s.rows.settled(task, tried.n, end, clock.at)?;
            self.batch.add(row, clock.now);
        }
        Ok(())
    }

    /// Adds a change of `parked` to the batch.
    pub(super) fn write(&mut self, change: &Change<Task>, clock: &Clock) -> Result<(), Stopped> {
        let row = self.s.rows.change(change, clock)?;
        self.batch.add(row, clock.now);
        if let Change::Park { lane, leads: true, .. } = change
            && !self.engine.plan.has_head(lane)
        {
            // Its tries are in its row now, and come back with it.
            self.s.rows.forget(lane);
        }
        Ok(())
    }

    /// Waits for the tries under way, at most this long and not beyond the time that a stop leaves. Starts none.
    pub(super) fn drain(&mut self, longest: Duration) -> Result<(), Interrupt> {
        let deadline = Instant::now() + longest;
        while self.engine.plan.in_flight() > 0 && !self.s.gone.is_cancelled() {
            let now = Instant::now();
            if self.s.stop.is_cancelled() {
                self.stop_by.get_or_insert(now + self.s.drain);
            }
            if now >= self.stop_by.map_or(deadline, |by| by.min(deadline)) {
                break;
            }
            if let Ok(heard) = self.heard.1.recv_timeout(IDLE) {
                self.take_in(heard)?;
            }
        }
        Ok(())
    }

    /// Whether something comes back soon: a try, or the commit of one.
    pub(super) fn is_waiting(&self) -> bool {
        self.engine.plan.unsettled() > 0
    }

    /// Waits for what comes back, a little.
    pub(super) fn rest(&mut self) -> Result<(), Interrupt> {
        // With nothing under way, the poll for records has waited already, unless reading is held back.
        let wait = if self.is_waiting() || self.held_since.is_none() { BRIEF } else { IDLE };
        match self.heard.1.recv_timeout(wait) {
            Ok(heard) => {
                if self.engine.plan.in_flight() >= CROWD {
                    std::thread::sleep(GATHER);
                }
                self.take_in(heard)
            }
            Err(_) => Ok(()),
        }
    }
}
