//! What is sent, and what follows a failure, decided without a clock or a network.

use std::time::Duration;

use super::SendPlan;
use crate::simulate::random;

/// A million: shares are counted in whole parts, since sums of fractions drift.
const PARTS: u64 = 1_000_000;

/// One delivery: an event that goes out for the first time, or once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    /// The event's number.
    pub(super) event: u64,
    /// Whether it had been sent before.
    pub(super) duplicate: bool,
}

/// All deliveries of a plan in order. Duplicates are spread evenly and repeat any earlier event.
#[derive(Clone, Debug)]
pub(super) struct Deliveries {
    seed: u64,
    count: u64,
    parts: u64,
    next_event: u64,
    duplicates: u64,
}

impl Deliveries {
    pub(super) fn of(plan: &SendPlan) -> Self {
        // In range: the share was checked to lie between 0 and 1.
        let parts = (plan.duplicates * PARTS as f64).round() as u64;
        Self { seed: plan.seed, count: plan.count, parts, next_event: 0, duplicates: 0 }
    }

    /// How many there are in all.
    pub(super) fn planned(&self) -> u64 {
        self.count + self.due(self.count)
    }

    /// Duplicates that belong to the first `events`.
    fn due(&self, events: u64) -> u64 {
        u64::try_from(u128::from(events) * u128::from(self.parts) / u128::from(PARTS)).unwrap_or(u64::MAX)
    }
}

impl Iterator for Deliveries {
    type Item = Delivery;

    fn next(&mut self) -> Option<Delivery> {
        if self.duplicates < self.due(self.next_event) {
            let event = random::number(self.seed, 200, self.duplicates) % self.next_event;
            self.duplicates += 1;
            return Some(Delivery { event, duplicate: true });
        }
        let event = self.next_event;
        (event < self.count).then(|| {
            self.next_event += 1;
            Delivery { event, duplicate: false }
        })
    }
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is repeated after this long.
    Repeat(Duration),
    /// The provider's schedule is at its end.
    GivenUp,
    /// It would be repeated, but not within this run.
    Abandoned,
}

/// Decides about a delivery that has failed `attempts` times, the first of which began `since_first` ago.
pub(super) fn after_failure(schedule: &[Duration], attempts: usize, since_first: Duration, max_wait: Duration) -> Next {
    match attempts.checked_sub(1).and_then(|repeats| schedule.get(repeats)) {
        None => Next::GivenUp,
        Some(wait) if since_first.saturating_add(*wait) > max_wait => Next::Abandoned,
        Some(wait) => Next::Repeat(*wait),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn failures_follow_the_schedule() {
        let seconds = Duration::from_secs;
        let schedule = [1, 2, 4].map(seconds);
        for (attempts, since_first, max_wait, next) in [
            (1, 0, 60, Next::Repeat(seconds(1))),
            (2, 1, 60, Next::Repeat(seconds(2))),
            (3, 3, 60, Next::Repeat(seconds(4))),
            (4, 7, 60, Next::GivenUp),
            (3, 3, 7, Next::Repeat(seconds(4))),
            (3, 4, 7, Next::Abandoned),
            (1, 0, 0, Next::Abandoned),
            // At its end the schedule speaks first: the provider is through with it.
            (4, 70, 60, Next::GivenUp),
        ] {
            let found = after_failure(&schedule, attempts, seconds(since_first), seconds(max_wait));
            assert_eq!(found, next, "{attempts} {since_first} {max_wait}");
        }
        assert_eq!(after_failure(&[], 1, Duration::ZERO, Duration::MAX), Next::GivenUp);
    }

    proptest! {
        #[test]
        fn every_event_once_and_the_share_of_duplicates_after_it(seed: u64, count in 0_u64..2_000, percent in 0_u64..=100) {
            let deliveries =
                Deliveries { seed, count, parts: percent * PARTS / 100, next_event: 0, duplicates: 0 };
            let planned = deliveries.planned();
            let all: Vec<_> = deliveries.collect();
            prop_assert_eq!(all.len() as u64, planned);
            prop_assert_eq!(planned, count + count * percent / 100);
            let mut sent = 0;
            for delivery in all {
                if delivery.duplicate {
                    prop_assert!(delivery.event < sent);
                } else {
                    prop_assert_eq!(delivery.event, sent);
                    sent += 1;
                }
            }
            prop_assert_eq!(sent, count);
        }
    }
}
