//! The records of one key, and how its head stands. Pure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::lane::Seat;
use super::progress::Past;
use super::repeat::Doubt;

/// What is known of a record under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Number of the try, from 1.
    pub(super) n: u32,
    /// Earlier tries that failed for the record's own sake.
    pub(super) failures: u32,
    /// Time since its first try, without that in which the target as a whole was in trouble.
    pub(super) spent: Duration,
    /// What is not known of it.
    pub(super) doubt: Option<Doubt>,
}

/// How a parked head stands, as it is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Tries made.
    pub(super) tries: u32,
    /// Those that failed for the record's own sake.
    pub(super) failures: u32,
    /// Time that counts against giving up.
    pub(super) spent: Duration,
    /// When it is due again; none for at once.
    pub(super) due: Option<Instant>,
    /// What is not known of it.
    pub(super) doubt: Option<Doubt>,
}

/// A record in its place.
#[derive(Debug)]
pub(super) struct Slot<R> {
    /// The row it came by.
    pub(super) seat: Seat,
    /// The record; none for a parked one that is not in memory.
    pub(super) record: Option<Arc<R>>,
    /// Where a parked one's row stands in `parked`, or before.
    pub(super) place: i64,
    /// What earlier owners did with it.
    pub(super) past: Past,
    /// What is not known of it before its first try: a redelivery's record may have been sent, by whomever, and so may
    /// one that was read again behind a redelivery.
    pub(super) doubt: Option<Doubt>,
}

impl<R> Slot<R> {
    /// How it stands as long as it is not the head.
    pub(super) fn standing(&self) -> Standing {
        Standing { tries: self.past.tries, doubt: self.doubt, ..Standing::default() }
    }

    /// Whether a replay asked for it.
    pub(super) const fn is_redelivery(&self) -> bool {
        matches!(self.seat, Seat::Redelivery(_))
    }
}

/// One lane's records in order, and how the first of them stands.
#[derive(Debug)]
pub(super) struct Queue<R> {
    pub(super) slots: VecDeque<Slot<R>>,
    /// Whether they are in `parked`, all of them.
    pub(super) parked: bool,
    /// Tries of the head.
    pub(super) tries: u32,
    /// When the head is due; none for at once.
    pub(super) due: Option<Instant>,
    /// What is not known of the head.
    pub(super) doubt: Option<Doubt>,
    /// Whether an earlier owner's doubt about the head is written down nowhere but in the partition's progress.
    pub(super) suspect: bool,
    failures: u32,
    /// Time that counted before `since`.
    spent: Duration,
    since: Option<Since>,
}

#[derive(Clone, Copy, Debug)]
struct Since {
    at: Instant,
    /// How long the target had been in trouble until then.
    waited: Duration,
}

impl<R> Queue<R> {
    /// A lane whose first record was just read.
    pub(super) fn live(slot: Slot<R>, now: Instant) -> Self {
        let Past { tries, suspect } = slot.past;
        let doubt = suspect.then_some(Doubt { first: None, last: now });
        let standing = Standing { tries, doubt, ..Standing::default() };
        Self { parked: false, ..Self::restored(slot, standing, false) }
    }

    /// A parked lane whose head was just restored.
    pub(super) fn restored(slot: Slot<R>, standing: Standing, suspect: bool) -> Self {
        let Standing { tries, failures, spent, due, doubt } = standing;
        Self { slots: VecDeque::from([slot]), parked: true, tries, due, doubt, suspect, failures, spent, since: None }
    }

    /// The head is tried; the number of the try. `waited` is how long the target was in trouble until now.
    pub(super) fn begin(&mut self, waited: Duration, now: Instant) -> u32 {
        self.tries = self.tries.saturating_add(1);
        self.since.get_or_insert(Since { at: now, waited });
        self.tries
    }

    /// What is known of the head.
    pub(super) fn head(&self, waited: Duration, now: Instant) -> Head {
        Head { n: self.tries, failures: self.failures, spent: self.time(waited, now), doubt: self.doubt }
    }

    /// How the head stands.
    pub(super) fn standing(&self, waited: Duration, now: Instant) -> Standing {
        let Self { tries, failures, due, doubt, .. } = *self;
        Standing { tries, failures, spent: self.time(waited, now), due, doubt }
    }

    fn time(&self, waited: Duration, now: Instant) -> Duration {
        self.since.map_or(self.spent, |since| {
            let waited = waited.saturating_sub(since.waited);
            self.spent + now.saturating_duration_since(since.at).saturating_sub(waited)
        })
    }

    /// The head failed and is due again at this time.
    pub(super) fn failed(&mut self, due: Instant, doubt: Option<Doubt>) {
        self.failures = self.failures.saturating_add(1);
        self.due = Some(due);
        self.doubt = doubt;
    }

    /// The head is finished, with this much doubt left: the next record takes its place, and starts afresh. It was never
    /// sent, since a try is followed by the next record's only behind a commit; but a redelivery may be the same record.
    pub(super) fn next_head(&mut self, left: Option<Doubt>) -> Option<Slot<R>> {
        let slot = self.slots.pop_front();
        let next = self.slots.front().and_then(|slot| slot.doubt);
        let doubt = next.map(|doubt| left.map_or(doubt, |left| Doubt { last: doubt.last.max(left.last), ..doubt }));
        let tries = self.slots.front().map_or(0, |slot| slot.past.tries);
        (self.tries, self.failures, self.due, self.doubt) = (tries, 0, None, doubt);
        (self.spent, self.since) = (Duration::ZERO, None);
        slot
    }
}
