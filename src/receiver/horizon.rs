//! How long until a provider gives up an event that we could not take. Time is a parameter.
//!
//! What counts is the first refusal that this receiver saw: attempts that never reached it make the true time shorter.
//! Requests refused before their signature was proved, as when too many come at once, are not known by id.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// Refused events remembered for one source. The oldest are kept: they are given up first.
const MAX_REFUSED: usize = 10_000;
/// How long a horizon of zero is shown. Another receiver may have taken the event by then: this one cannot know.
const SHOWN: Duration = Duration::from_secs(600);

/// Time left until a provider that repeats after these waits gives up an event whose first attempt failed at `first`;
/// zero once it has. One without a known schedule counts as never repeating.
pub(super) fn time_left(schedule: &[Duration], first: Instant, now: Instant) -> Duration {
    let patience = schedule.iter().fold(Duration::ZERO, |sum, wait| sum.saturating_add(*wait));
    patience.saturating_sub(now.duration_since(first))
}

/// Refused events of one source.
#[derive(Debug)]
pub(super) struct Horizon {
    schedule: Vec<Duration>,
    refused: HashMap<String, Instant>,
}

impl Horizon {
    /// Nothing refused. The waits are those between the provider's attempts.
    pub(super) fn new(schedule: Vec<Duration>) -> Self {
        Self { schedule, refused: HashMap::new() }
    }

    /// An event could not be made durable.
    pub(super) fn refused(&mut self, event_id: &str, now: Instant) {
        if self.refused.len() < MAX_REFUSED && !self.refused.contains_key(event_id) {
            self.refused.insert(event_id.to_owned(), now);
        }
    }

    /// An event was taken after all, or for the first time.
    pub(super) fn accepted(&mut self, event_id: &str) {
        self.refused.remove(event_id);
    }

    /// Time left for the first of them; none where none is refused. Forgets those that were given up long ago, and says
    /// how many.
    pub(super) fn left(&mut self, now: Instant) -> (Option<Duration>, usize) {
        let before = self.refused.len();
        let patience: Duration = self.schedule.iter().sum();
        self.refused.retain(|_, first| now.duration_since(*first) < patience + SHOWN);
        let first = self.refused.values().min();
        (first.map(|first| time_left(&self.schedule, *first, now)), before - self.refused.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn what_is_left_of_a_providers_patience() {
        let accbooks = [1, 2, 4, 8, 16].map(seconds);
        let hourly = [3600; 24].map(seconds);
        for (schedule, elapsed, left) in [
            (&accbooks[..], 0, 31),
            (&accbooks[..], 30, 1),
            (&accbooks[..], 31, 0),
            (&accbooks[..], 3600, 0),
            (&hourly[..], 3600, 23 * 3600),
            (&[][..], 0, 0),
        ] {
            let now = Instant::now();
            assert_eq!(time_left(schedule, now, now + seconds(elapsed)), seconds(left), "{schedule:?} after {elapsed}");
        }
    }

    #[test]
    fn the_first_refused_counts_until_it_is_taken() {
        let now = Instant::now();
        let mut horizon = Horizon::new(vec![seconds(10), seconds(20)]);
        assert_eq!(horizon.left(now), (None, 0));
        horizon.refused("a", now);
        horizon.refused("b", now + seconds(5));
        horizon.refused("a", now + seconds(10));
        assert_eq!(horizon.left(now + seconds(10)).0, Some(seconds(20)));
        horizon.accepted("a");
        assert_eq!(horizon.left(now + seconds(10)).0, Some(seconds(25)));
        assert_eq!(horizon.left(now + seconds(40)), (Some(Duration::ZERO), 0));
        assert_eq!(horizon.left(now + seconds(35) + SHOWN), (None, 1));
    }

    #[test]
    fn what_it_remembers_is_bounded() {
        let now = Instant::now();
        let mut horizon = Horizon::new(vec![seconds(10)]);
        for n in 0..2 * MAX_REFUSED {
            horizon.refused(&n.to_string(), now);
        }
        assert_eq!(horizon.refused.len(), MAX_REFUSED);
    }
}
