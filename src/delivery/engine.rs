//! What a try means for its record, its key and its target together: the pure core, driven by the worker and by the
//! tests' scheduler alike.

use std::time::Duration;

use rand::rngs::SmallRng;
use tokio::time::Instant;

use super::breaker::Breaker;
use super::bucket::Bucket;
use super::ends::Ends;
use super::lane::{Allowance, Change, Go, Limits, Then, Ticket};
use super::plan::Plan;
use super::progress::Position;
use super::queue::Head;
use super::repeat::{Doubt, doubted};
use super::room::{Asked, Room};
use super::schedule::{MAX_UNREACHABLE, Next, Policy, backoff, decide};
use super::tally::Weigh;
use super::window::{Trouble, Window};
use crate::config::RateLimit;
use crate::event::AttemptOutcome;
use crate::outcome::DeadLetterReason;
use crate::targets::{Idempotency, Scope, Verdict};

/// Longest a finished try waits for company before the commit that something waits for. A transaction costs the broker
/// much the same whatever it holds.
const LINGER: Duration = Duration::from_millis(5);
/// The same, where others are ready to take any place that a commit would fill: it lets nothing go sooner, and one for
/// each few ends is most of what a backlog costs the broker.
const BUSY_LINGER: Duration = Duration::from_millis(50);
/// The same, where nothing waits and nothing is under way.
const IDLE_LINGER: Duration = Duration::from_millis(250);

/// What the engine goes by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Repeats and giving up.
    pub(super) policy: Policy,
    /// What the plan may hold.
    pub(super) limits: Limits,
    /// Tries in all instances together.
    pub(super) allowance: Allowance,
    /// Requests made in a time, in all instances together.
    pub(super) rate: Option<RateLimit>,
    /// Most requests of one try.
    pub(super) requests: u32,
    /// How long another instance's probe may take until its answer is known here.
    pub(super) hold_back: Duration,
}

/// What became of a try.
#[derive(Debug)]
pub(super) struct Ended<R> {
    /// What was known of the record; none where the try was a stray, which nothing is written down of.
    pub(super) head: Option<Head>,
    /// Whether the record is finished.
    pub(super) finished: bool,
    /// Why it is given up, where it is.
    pub(super) gave_up: Option<DeadLetterReason>,
    /// When it is due again, where it is not finished.
    pub(super) due: Option<Instant>,
    /// What has to be written to `parked`.
    pub(super) changes: Vec<Change<R>>,
}

/// The core of one target's delivery.
#[derive(Debug)]
pub(super) struct Engine<R> {
    /// The records.
    pub(super) plan: Plan<R>,
    /// Whether the target may be tried.
    pub(super) window: Window,
    /// Redeliveries that wait for their turn.
    pub(super) room: Room<R>,
    /// Ends of partitions gained that are to be asked for.
    pub(super) ends: Ends,
    rules: Rules,
    breaker: Breaker,
    bucket: Bucket,
    share: Allowance,
    since: Option<Instant>,
    rng: SmallRng,
}

impl<R: Weigh> Engine<R> {
    /// An engine without partitions.
    pub(super) fn new(rules: Rules, rng: SmallRng) -> Self {
        let mut engine = Self {
            plan: Plan::new(rules.limits),
            window: Window::new(rules.hold_back),
            room: Room::new(rules.limits.read_ahead.records),
            ends: Ends::default(),
            rules,
            breaker: Breaker::default(),
            bucket: Bucket::default(),
            share: Allowance::of(1),
            since: None,
            rng,
        };
        engine.owns(1, 1);
        engine
    }

    /// Takes the share of the target's limits that goes with `owned` of `all` partitions.
    pub(super) fn owns(&mut self, owned: usize, all: usize) {
        self.share = self.rules.allowance.share(owned, all.max(owned));
        self.bucket.limit(self.rules.rate, self.rules.requests, owned, all);
        self.room.owns(owned, all);
    }

    /// Forgets every record; what is known of the target stays.
    pub(super) fn lost(&mut self) {
        self.plan.lost();
        self.room.clear();
        self.ends.clear();
        self.since = None;
    }

    /// All that is known of the partitions gained at this time was taken over; requests of earlier owners may be under way
    /// until `not_before`.
    pub(super) fn gained(&mut self, gained: Instant, not_before: Option<Instant>) {
        self.ends.gained(self.plan.unsure(), gained, not_before);
    }

    /// Whether something may be tried or fetched now, or might be if a commit came first.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        self.plan.is_ready(now) && self.plan.has_room(self.window.allows(self.share, now)) && self.bucket.allows(now)
    }

    /// Takes a redelivery that was read; one that is finished is left out.
    pub(super) fn redeliver(&mut self, asked: Asked<R>) {
        if self.plan.note(&asked.from, asked.offset) {
            self.room.push(asked);
        }
    }

    /// Lets redeliveries in whose turn it is; says what has to be written to `parked`. Live records come first: none may
    /// be ready, three quarters of the places stay theirs, and the target has to be well.
    pub(super) fn admit(&mut self, now: Instant) -> Vec<Change<R>> {
        let allowed = self.window.allows(self.share, now);
        let mut changes = Vec::new();
        while self.window.trouble().is_none()
            && self.plan.has_room(allowed)
            && self.plan.redelivering() < (allowed.at_once / 4).max(1)
            && !self.plan.is_ready(now)
            && self.bucket.allows(now)
            && let Some(asked) = self.room.next(|lane| self.plan.is_redelivering(lane), now)
        {
            let Asked { lane, from, offset, record, tried, .. } = asked;
            let (doubt, waited) = (Doubt { first: None, last: tried }, self.window.waited(now));
            changes.append(&mut self.plan.admit(lane, (&from, offset), record, doubt, waited, now));
            self.since.get_or_insert(now);
        }
        changes
    }

    /// What to do now, if anything.
    pub(super) fn next(&mut self, now: Instant) -> Option<Go<R>> {
        let allowed = self.window.allows(self.share, now);
        if !self.plan.has_room(allowed) || !self.bucket.allows(now) {
            return None;
        }
        let go = self.plan.next(allowed, self.window.trouble().is_some(), self.window.waited(now), now);
        if let Some(Go::Try(_)) = &go {
            self.bucket.take(now);
        }
        go
    }

    /// A try made so many requests; heard before its end is [taken](Engine::settle).
    pub(super) fn used(&mut self, requests: u32) {
        self.bucket.used(requests);
    }

    /// Takes the end of a try that began at `started`.
    pub(super) fn settle(
        &mut self,
        ticket: &Ticket,
        n: u32,
        verdict: &Verdict,
        started: Instant,
        now: Instant,
    ) -> Ended<R> {
        let head = self.plan.head(ticket, self.window.waited(now), now);
        // A stray says nothing of its record any more, but still something of its target.
        let known = head.unwrap_or(Head { n, failures: 0, spent: Duration::ZERO, doubt: None });
        let next = decide(&self.rules.policy, verdict, &known, self.window.failures(), &mut self.rng);
        let troubled = self.judge(ticket, verdict, &next, started, now);
        let doubt = if verdict.leaves_doubt() { Some(doubted(known.doubt, started)) } else { known.doubt };
        let (then, gave_up) = match next {
            Next::LeaveAlone { .. } => (Then::Again, None),
            Next::Finish => (Then::Finish, None),
            // Nothing is given up for want of a target, nor behind the back of an operator who has paused it: it comes
            // again, and if it is refused then, that counts. What makes no request wants no target.
            Next::GiveUp(_) if (troubled && !verdict.is_ours()) || self.window.is_paused() => {
                (Then::At(now + self.rules.policy.retry.first), None)
            }
            Next::GiveUp(reason) => (Then::Finish, Some(reason)),
            Next::TryAfter(wait) => (Then::At(now + wait), None),
        };
        let then = match (then, self.rules.limits.class, doubt) {
            (Then::At(due), Idempotency::LookUp { settle }, Some(doubt)) => Then::At(due.max(doubt.last + settle)),
            (then, ..) => then,
        };
        let changes = self.plan.settle(ticket, then, doubt, self.window.waited(now), now);
        if head.is_some() {
            self.since.get_or_insert(now);
        }
        let due = match then {
            Then::Finish => None,
            Then::At(due) => Some(due),
            Then::Again => self.window.until(),
        };
        Ended { head, finished: then == Then::Finish, gave_up, due, changes }
    }

    /// Takes back a try that was not begun; says what has to be written to `parked`. It comes again.
    pub(super) fn unsent(&mut self, ticket: &Ticket, now: Instant) -> Vec<Change<R>> {
        self.bucket.used(0);
        let waited = self.window.waited(now);
        let head = self.plan.head(ticket, waited, now);
        if head.is_some() {
            self.since.get_or_insert(now);
        }
        self.plan.settle(ticket, Then::Again, head.and_then(|head| head.doubt), waited, now)
    }

    /// What a try says of the target. Says whether it is in trouble but for the limit that this answer uses up: a target
    /// that says so with every answer would have a record refused for ever.
    fn judge(&mut self, ticket: &Ticket, verdict: &Verdict, next: &Next, started: Instant, now: Instant) -> bool {
        // It was not asked.
        if verdict.is_ours() {
            return self.window.trouble().is_some();
        }
        if let Next::LeaveAlone { trouble, asked, backoff } = *next {
            self.window.failed(trouble, asked, backoff, started, now);
        } else {
            self.weigh(ticket, verdict, started, now);
        }
        let troubled = self.window.trouble().is_some();
        // What the target took is delivered, and nothing else is tried before the limit is full again.
        if let Some(wait) = verdict.spent {
            self.window.failed(Trouble::RateLimited, Some(wait), wait, started, now);
        }
        troubled
    }

    /// What an answer to this record says of the target.
    fn weigh(&mut self, ticket: &Ticket, verdict: &Verdict, started: Instant, now: Instant) {
        let failed = verdict.scope == Scope::Record
            && matches!(verdict.outcome, AttemptOutcome::Retry | AttemptOutcome::Unresolved | AttemptOutcome::Unknown);
        if self.window.trouble().is_none() {
            self.breaker.note(&ticket.lane, failed, now);
            if self.breaker.is_tripped() {
                self.breaker.clear();
                self.fails(started, now);
            }
        } else if failed && self.window.trouble() == Some(Trouble::Failing) {
            if self.window.is_probe(started) {
                self.fails(started, now);
            }
        } else {
            self.window.worked(started, now);
        }
    }

    fn fails(&mut self, started: Instant, now: Instant) {
        let retry = &self.rules.policy.retry;
        let failures = self.window.failures() + 1;
        let wait = backoff(retry.first, retry.max.min(MAX_UNREACHABLE), failures, &mut self.rng);
        self.window.failed(Trouble::Failing, None, wait, started, now);
    }

    /// Whether what is finished should be committed now: something waits for it, or nothing else is going on.
    pub(super) fn wants_commit(&self, now: Instant) -> bool {
        let Some(since) = self.since else { return self.plan.wants_commit(now) };
        let age = now.saturating_duration_since(since);
        // The rest of the places go on while the commit is under way.
        let allowed = self.window.allows(self.share, now);
        let scarce = self.plan.unsettled() >= allowed.unsettled || self.plan.resting() >= allowed.worth_a_commit();
        let waits = self.plan.wants_commit(now) && (age >= BUSY_LINGER || !self.plan.is_backed_up());
        (age >= LINGER && (scarce || waits)) || (age >= IDLE_LINGER && self.plan.in_flight() == 0)
    }

    /// What it goes by.
    #[cfg(test)]
    pub(super) const fn rules(&self) -> Rules {
        self.rules
    }

    /// Puts everything until now into a commit, as [`Plan::seal`] does.
    pub(super) fn seal(&mut self, handing_over: bool) -> Vec<Position> {
        self.since = None;
        self.plan.seal(handing_over)
    }

    /// What was sealed is committed.
    pub(super) fn committed(&mut self, now: Instant) {
        self.plan.committed(now);
    }
}

#[cfg(test)]
mod tests;
