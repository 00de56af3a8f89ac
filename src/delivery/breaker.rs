//! Whether the target fails, rather than single records: the share of failures among the keys tried last. Pure.
//!
//! Each key counts once, with its last outcome, so that one poisoned key tried again and again says no more than one
//! word. One success in five is enough to say that the target works and the failing keys are at fault themselves: what
//! is given up for want of a target is the worse mistake.

use std::collections::VecDeque;
use std::sync::Arc;

use super::lane::Lane;

/// Keys remembered.
const KEYS: usize = 20;
/// Fewest keys that say anything about the target.
const MIN_KEYS: usize = 5;

/// Outcomes of the keys tried last.
#[derive(Debug, Default)]
pub(super) struct Breaker(VecDeque<(Arc<Lane>, bool)>);

impl Breaker {
    /// Notes whether a try of this key failed.
    pub(super) fn note(&mut self, lane: &Arc<Lane>, failed: bool) {
        self.0.retain(|(known, _)| known != lane);
        if self.0.len() == KEYS {
            self.0.pop_front();
        }
        self.0.push_back((Arc::clone(lane), failed));
    }

    /// Whether the target fails: four fifths of the keys, or more.
    pub(super) fn is_tripped(&self) -> bool {
        let failed = self.0.iter().filter(|(_, failed)| *failed).count();
        self.0.len() >= MIN_KEYS && failed * 5 >= self.0.len() * 4
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.0.clear();
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
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            breaker.note(&lane(0), true);
        }
        assert!(!breaker.is_tripped(), "one key is never the target");
        for n in 1..4 {
            breaker.note(&lane(n), true);
        }
        assert!(!breaker.is_tripped());
        breaker.note(&lane(4), true);
        assert!(breaker.is_tripped());
        breaker.note(&lane(5), false);
        assert!(breaker.is_tripped(), "five of six");
        breaker.note(&lane(6), false);
        assert!(!breaker.is_tripped(), "five of seven");
        for n in 10..30 {
            breaker.note(&lane(n), true);
        }
        assert!(breaker.is_tripped(), "old successes are forgotten");
        breaker.clear();
        assert!(!breaker.is_tripped());
    }
}
