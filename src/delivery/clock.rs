//! One moment on both clocks: decisions are made by the one that never jumps, rows tell the time of the other.

use std::time::Duration;

use tokio::time::Instant;

use crate::event::Timestamp;

/// A moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// By our clock.
    pub(super) now: Instant,
    /// By the system's.
    pub(super) at: Timestamp,
}

impl Clock {
    /// This moment.
    pub(super) fn now() -> Self {
        Self { now: Instant::now(), at: Timestamp::now() }
    }

    /// How long ago `earlier` is by the clock that says longer: ours stands still while the machine sleeps, and the
    /// system's may be set back.
    pub(super) fn since(&self, earlier: &Self) -> Duration {
        self.now.saturating_duration_since(earlier.now).max(self.at.since(earlier.at))
    }

    /// A time of our clock as one of the system's.
    pub(super) fn wall(&self, time: Instant) -> Timestamp {
        let before = self.now.saturating_duration_since(time).as_micros();
        let before = i64::try_from(before).unwrap_or(i64::MAX);
        Timestamp::from_micros(self.at.as_micros().saturating_sub(before))
            .plus(time.saturating_duration_since(self.now))
    }

    /// A time of the system's clock as one of ours; this moment where ours does not reach back as far.
    pub(super) fn instant(&self, time: Timestamp) -> Instant {
        let after: Duration = time.since(self.at);
        self.now.checked_sub(self.at.since(time)).unwrap_or(self.now) + after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_that_says_longer_counts() {
        let now = Instant::now();
        let at = |ours: u64, systems: i64| Clock {
            now: now + Duration::from_secs(ours),
            at: Timestamp::from_micros(systems * 1_000_000),
        };
        let earlier = at(10, 50);
        for (later, seconds) in [(at(13, 53), 3), (at(11, 3651), 3601), (at(17, 20), 7), (at(10, 50), 0)] {
            assert_eq!(later.since(&earlier), Duration::from_secs(seconds));
        }
    }

    #[test]
    fn there_and_back() {
        let clock = Clock { now: Instant::now() + Duration::from_secs(100), at: Timestamp::from_micros(50_000_000) };
        for micros in [0, 49_000_000, 50_000_000, 51_500_000] {
            let time = Timestamp::from_micros(micros);
            assert_eq!(clock.wall(clock.instant(time)), time);
        }
    }
}
