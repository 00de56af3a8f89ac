//! State of a record at a target, from what delivery wrote down of it: the latest end counts.

use crate::event::{AttemptOutcome, Timestamp};
use crate::outcome::{DeadLetterEnd, DeliveryState};

/// The latest end of a record at a target.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Latest(Option<(Timestamp, DeliveryState)>);

impl Latest {
    /// A try that ended at this time. One that is followed by another is no end.
    pub(super) fn attempt(&mut self, ended_at: Timestamp, outcome: AttemptOutcome) {
        match outcome {
            AttemptOutcome::Delivered | AttemptOutcome::Duplicate => self.end(ended_at, DeliveryState::Delivered),
            AttemptOutcome::Filtered => self.end(ended_at, DeliveryState::Filtered),
            _ => {}
        }
    }

    /// A row of `dead-letters`, of this time: given up, or what became of it.
    pub(super) fn letter(&mut self, at: Timestamp, settled: Option<&str>) {
        let state = match settled.map(DeadLetterEnd::from_name) {
            None => DeliveryState::DeadLettered,
            Some(Some(DeadLetterEnd::Delivered)) => DeliveryState::Delivered,
            Some(Some(DeadLetterEnd::Filtered)) => DeliveryState::Filtered,
            // A word of a later version lets it go too.
            Some(Some(DeadLetterEnd::Discarded) | None) => DeliveryState::Discarded,
        };
        self.end(at, state);
    }

    fn end(&mut self, at: Timestamp, state: DeliveryState) {
        if self.0.is_none_or(|(known, _)| known <= at) {
            self.0 = Some((at, state));
        }
    }

    /// The state, where it has come to an end.
    pub(super) fn state(self) -> Option<DeliveryState> {
        self.0.map(|(_, state)| state)
    }
}
