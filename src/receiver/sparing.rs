//! A bound on log lines that strangers can cause.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const WINDOW: Duration = Duration::from_secs(10);
const MAX_LINES: u32 = 20;

/// Lets a few lines of a window of time through. Time is a parameter.
pub(super) struct Sparing(Mutex<(Instant, u32)>);

impl Sparing {
    /// Nothing said yet.
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new((now, 0)))
    }

    /// Whether another line may be logged.
    pub(super) fn may_speak(&self, now: Instant) -> bool {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(window.0) >= WINDOW {
            *window = (now, 0);
        }
        window.1 = window.1.saturating_add(1);
        window.1 <= MAX_LINES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_no_more_than_a_few_lines_a_window() {
        let now = Instant::now();
        let sparing = Sparing::new(now);
        let spoken = |at| (0..1000).filter(|_| sparing.may_speak(at)).count();
        assert_eq!((spoken(now), spoken(now + WINDOW / 2), spoken(now + WINDOW)), (20, 0, 20));
    }
}
