//! What the ledgers add up, and over which time.

use crate::event::Timestamp;
use crate::outcome::{DeliveryState, RouterOutcome};

/// Time that the ledger is about: received at `from` or later, and before `to`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    /// From when on; from the first row there is, where it is none.
    pub from: Option<Timestamp>,
    /// Before when; up to now, where it is none.
    pub to: Option<Timestamp>,
}

impl Span {
    pub(super) fn has(&self, time: Timestamp) -> bool {
        self.from.is_none_or(|from| time >= from) && self.to.is_none_or(|to| time < to)
    }
}

/// Rows of `received` by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceSums {
    /// All of them.
    pub rows: u64,
    /// One record was written, of each.
    pub routed: u64,
    /// Repeats; also rows that the router passed on to where markers of their id stand, which are there twice.
    pub duplicate: u64,
    /// Set aside, and waiting for an operator.
    pub quarantined: u64,
    /// Let go by an operator.
    pub discarded: u64,
    /// A provider's tests.
    pub test: u64,
    /// Put there by an operator's word: the outcome is that of the event.
    pub operators: u64,
    /// Not read by the router yet.
    pub waiting: u64,
    /// None of these.
    pub unaccounted: u64,
}

impl SourceSums {
    /// Each with its name.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, u64); 8] {
        [
            (RouterOutcome::Routed.name(), self.routed),
            (RouterOutcome::Duplicate.name(), self.duplicate),
            (RouterOutcome::Quarantined.name(), self.quarantined),
            (RouterOutcome::Discarded.name(), self.discarded),
            (RouterOutcome::Test.name(), self.test),
            ("operators", self.operators),
            ("waiting", self.waiting),
            ("unaccounted", self.unaccounted),
        ]
    }
}

/// Records by their state at the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetSums {
    /// All of them.
    pub records: u64,
    /// Not finished yet.
    pub waiting: u64,
    /// Behind a failed record of their entity, or failed themselves and to be tried again.
    pub parked: u64,
    /// The target has them.
    pub delivered: u64,
    /// The target does not want them.
    pub filtered: u64,
    /// Given up.
    pub dead_lettered: u64,
    /// Let go by an operator.
    pub discarded: u64,
    /// Recorded before the target began, where it does not begin with the oldest record.
    pub before_start: u64,
    /// Finished before the oldest try that is kept.
    pub not_kept: u64,
    /// None of these.
    pub unaccounted: u64,
}

impl TargetSums {
    /// Each with its name.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, u64); 9] {
        [
            (DeliveryState::Waiting.name(), self.waiting),
            (DeliveryState::Parked.name(), self.parked),
            (DeliveryState::Delivered.name(), self.delivered),
            (DeliveryState::Filtered.name(), self.filtered),
            (DeliveryState::DeadLettered.name(), self.dead_lettered),
            (DeliveryState::Discarded.name(), self.discarded),
            ("before_start", self.before_start),
            ("not_kept", self.not_kept),
            ("unaccounted", self.unaccounted),
        ]
    }

    /// The sum of this state.
    pub(super) const fn of(&mut self, state: DeliveryState) -> &mut u64 {
        match state {
            DeliveryState::Waiting => &mut self.waiting,
            DeliveryState::Parked => &mut self.parked,
            DeliveryState::Delivered => &mut self.delivered,
            DeliveryState::Filtered => &mut self.filtered,
            DeliveryState::DeadLettered => &mut self.dead_lettered,
            DeliveryState::Discarded => &mut self.discarded,
        }
    }
}
