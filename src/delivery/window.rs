//! The time in which a target as a whole is left alone: a rate limit, no connection, refused credentials,
//! or failure upon failure.
//!
//! Pure; time is a parameter. A window ends in two steps: when its time is over, one try at a time goes out, as a
//! probe; when one of those finds the target working, all go again. The clock of [`Window::waited`] runs until then,
//! so that nothing is given up for want of a target.

use std::time::Duration;

use tokio::time::Instant;

/// Why a target is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It said to slow down.
    RateLimited,
    /// No connection can be made.
    Unreachable,
    /// It refuses our credentials.
    Credentials,
    /// It answers, but fails with almost everything.
    Failing,
}

/// The waiting window of one target.
#[derive(Debug, Default)]
pub(super) struct Window {
    open: Option<Open>,
    /// Sum of the windows that are over.
    waited: Duration,
}

#[derive(Debug)]
struct Open {
    trouble: Trouble,
    since: Instant,
    until: Instant,
    /// Probes that failed in a row, the first failure included.
    failures: u32,
}

impl Window {
    /// Why the target is in trouble; none while it works.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.open.as_ref().map(|open| open.trouble)
    }

    /// Whether a try that began at `started` was a probe.
    pub(super) fn is_probe(&self, started: Instant) -> bool {
        self.open.as_ref().is_some_and(|open| started >= open.until)
    }

    /// Until when nothing is tried; a time in the past while it is being probed.
    pub(super) fn until(&self) -> Option<Instant> {
        self.open.as_ref().map(|open| open.until)
    }

    /// Failures in a row of the target as a whole.
    pub(super) fn failures(&self) -> u32 {
        self.open.as_ref().map_or(0, |open| open.failures)
    }

    /// How many tries may be under way, out of `max`.
    pub(super) fn limit(&self, max: usize, now: Instant) -> usize {
        match &self.open {
            None => max,
            Some(open) if now < open.until => 0,
            Some(_) => 1,
        }
    }

    /// How long the target was in trouble until now, all together.
    pub(super) fn waited(&self, now: Instant) -> Duration {
        self.waited + self.open.as_ref().map_or(Duration::ZERO, |open| now.saturating_duration_since(open.since))
    }

    /// A try that began at `started` found the target in trouble. `asked` is what the target asked for, which always
    /// counts; `backoff` is what a failure without such a wish costs, once per window: tries that were under way
    /// together tell the same thing.
    pub(super) fn failed(
        &mut self,
        trouble: Trouble,
        asked: Option<Duration>,
        backoff: Duration,
        started: Instant,
        now: Instant,
    ) {
        let wait = asked.unwrap_or(backoff);
        match &mut self.open {
            None => self.open = Some(Open { trouble, since: now, until: now + wait, failures: 1 }),
            Some(open) => {
                let probe = started >= open.until;
                if probe {
                    open.failures = open.failures.saturating_add(1);
                    open.trouble = trouble;
                }
                if probe || asked.is_some() {
                    open.until = open.until.max(now + wait);
                }
            }
        }
    }

    /// A try that began at `started` found the target working. Only a probe says so: an answer to what was under way
    /// when the window opened does not end it.
    pub(super) fn worked(&mut self, started: Instant, now: Instant) {
        if self.is_probe(started) {
            self.waited = self.waited(now);
            self.open = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_window_is_kept_and_then_probed() {
        let t0 = Instant::now();
        let at = |s: u32| t0 + SECOND * s;
        let mut window = Window::default();
        assert_eq!(window.limit(16, t0), 16);
        window.failed(Trouble::RateLimited, Some(SECOND * 10), SECOND, t0, at(1));
        assert_eq!(window.limit(16, at(10)), 0, "nothing inside the window");
        window.worked(t0, at(2));
        assert_eq!(window.limit(16, at(10)), 0, "an answer to an earlier try does not end it");
        window.failed(Trouble::RateLimited, Some(SECOND * 20), SECOND, t0, at(2));
        assert_eq!((window.limit(16, at(21)), window.failures()), (0, 1), "a longer wish counts");
        window.failed(Trouble::RateLimited, Some(SECOND), SECOND, t0, at(3));
        assert_eq!(window.until(), Some(at(22)), "a shorter one does not");
        assert_eq!(window.limit(16, at(22)), 1, "then one probe");
        window.failed(Trouble::Unreachable, None, SECOND * 4, at(22), at(23));
        assert_eq!((window.until(), window.failures()), (Some(at(27)), 2));
        assert_eq!(window.trouble(), Some(Trouble::Unreachable));
        window.worked(at(27), at(28));
        assert_eq!((window.limit(16, at(28)), window.failures(), window.trouble()), (16, 0, None));
        assert_eq!(window.waited(at(40)), SECOND * 27);
    }

    #[test]
    fn failures_together_count_once() {
        let t0 = Instant::now();
        let mut window = Window::default();
        for _ in 0..16 {
            window.failed(Trouble::Unreachable, None, SECOND, t0, t0 + SECOND);
        }
        assert_eq!((window.failures(), window.until()), (1, Some(t0 + SECOND * 2)));
    }
}
