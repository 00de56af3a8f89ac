//! Whether the target fails, rather than single records. Pure.
//!
//! Two things say so. The share of failures among the keys tried last: each key counts once, with its last outcome, so that
//! one poisoned key tried again and again says no more than one word, and one success in five is enough to say that the
//! target works and the failing keys are at fault themselves. And where few keys are under way, or many were well before:
//! failures of several keys for a while, and not one success between them. What is given up for want of a target is the
//! worse mistake.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::lane::Lane;

/// Keys remembered.
const KEYS: usize = 20;
/// Fewest keys whose share says anything about the target.
const MIN_KEYS: usize = 5;
/// Failures in a row, of two keys at least, that say so as well.
const IN_A_ROW: u32 = 10;
/// Shortest time that they take: keys that come back together fail together, whatever the others do.
const MIN_TIME: Duration = Duration::from_secs(5);

/// Outcomes of the keys tried last.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    keys: VecDeque<(Arc<Lane>, bool)>,
    row: Option<Row>,
}

/// Failures since the last success.
#[derive(Debug)]
struct Row {
    since: Instant,
    until: Instant,
    failures: u32,
    first: Arc<Lane>,
    /// Whether another key than the first failed.
    several: bool,
}

impl Breaker {
    /// Notes whether a try of this key failed.
    pub(super) fn note(&mut self, lane: &Arc<Lane>, failed: bool, now: Instant) {
        self.keys.retain(|(known, _)| known != lane);
        if self.keys.len() == KEYS {
            self.keys.pop_front();
        }
        self.keys.push_back((Arc::clone(lane), failed));
        if !failed {
            self.row = None;
            return;
        }
        let first = || Row { since: now, until: now, failures: 0, first: Arc::clone(lane), several: false };
        let row = self.row.get_or_insert_with(first);
        row.until = now;
        row.failures = row.failures.saturating_add(1);
        row.several |= row.first != *lane;
    }

    /// Whether the target fails: four fifths of the keys or more, or all that was tried for a while.
    pub(super) fn is_tripped(&self) -> bool {
        let failed = self.keys.iter().filter(|(_, failed)| *failed).count();
        let share = self.keys.len() >= MIN_KEYS && failed * 5 >= self.keys.len() * 4;
        let lasts = |row: &Row| {
            row.several && row.failures >= IN_A_ROW && row.until.saturating_duration_since(row.since) >= MIN_TIME
        };
        share || self.row.as_ref().is_some_and(lasts)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::group::Partition;

    fn lane(n: u8) -> Arc<Lane> {
        Arc::new(Lane { partition: Partition { topic: "invoices".to_owned(), number: 0 }, key: vec![n] })
    }

    #[test]
    fn keys_count_once_and_a_fifth_of_successes_is_enough() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..100 {
            breaker.note(&lane(0), true, now);
        }
        assert!(!breaker.is_tripped(), "one key is never the target");
        for n in 1..4 {
            breaker.note(&lane(n), true, now);
        }
        assert!(!breaker.is_tripped());
        breaker.note(&lane(4), true, now);
        assert!(breaker.is_tripped());
        breaker.note(&lane(5), false, now);
        assert!(breaker.is_tripped(), "five of six");
        breaker.note(&lane(6), false, now);
        assert!(!breaker.is_tripped(), "five of seven");
        for n in 10..30 {
            breaker.note(&lane(n), true, now);
        }
        assert!(breaker.is_tripped(), "old successes are forgotten");
        breaker.clear();
        assert!(!breaker.is_tripped());
    }

    #[test]
    fn several_keys_that_fail_for_a_while_without_a_success_are_enough() {
        let t0 = Instant::now();
        // Keys that fail in turn, how long after each other in milliseconds, how often; whether that is the target.
        for (keys, every, times, tripped) in [
            (2, 600, 10, true),
            (3, 600, 10, true),
            (2, 600, 9, false),
            (1, 600, 100, false),
            // They came back together.
            (4, 1, 100, false),
        ] {
            let mut breaker = Breaker::default();
            // Many were well a moment ago.
            for n in 100..120 {
                breaker.note(&lane(n), false, t0);
            }
            let fail = |breaker: &mut Breaker, from: u64| {
                for n in 0..times {
                    let now = t0 + Duration::from_millis(every * (from + n));
                    breaker.note(&lane(u8::try_from(n % keys).unwrap()), true, now);
                }
            };
            fail(&mut breaker, 0);
            assert_eq!(breaker.is_tripped(), tripped, "{keys} keys {times} times");
            breaker.note(&lane(200), false, t0 + Duration::from_secs(600));
            assert!(!breaker.is_tripped(), "one success");
        }
    }
}
