//! The time in which a target as a whole is left alone: a rate limit, no connection, refused credentials, failure upon
//! failure, or an operator's word. What one instance finds, the others go by as well.
//!
//! Pure; time is a parameter. A window ends in two steps: when its time is over, one try at a time goes out, as a
//! probe; when one of those finds the target working, all go again. The clock of [`Window::waited`] runs until then,
//! so that nothing is given up for want of a target.
//!
//! Of all instances the one that opened the window asks first: it has a record to ask with. The others leave it the
//! time of one request and hear of its answer; only where nothing came by then is it gone, or has nothing to ask with.

use std::time::Duration;

use tokio::time::Instant;

use super::lane::Allowance;

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

impl Trouble {
    const ALL: [Self; 4] = [Self::RateLimited, Self::Unreachable, Self::Credentials, Self::Failing];

    /// Its name in `control`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::Unreachable => "unreachable",
            Self::Credentials => "credentials",
            Self::Failing => "failing",
        }
    }

    /// The trouble of this name. One that a newer version knows is taken as failing: one try at a time.
    pub(super) fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|trouble| trouble.name() == name).unwrap_or(Self::Failing)
    }
}

/// The waiting window of one target.
#[derive(Debug)]
pub(super) struct Window {
    open: Option<Open>,
    /// How long another instance's probe may take until its answer is known here.
    hold_back: Duration,
    paused: bool,
    /// Since when it is open, paused or both.
    held: Option<Instant>,
    /// Sum of the times before that.
    waited: Duration,
}

#[derive(Debug)]
struct Open {
    trouble: Trouble,
    until: Instant,
    /// From when on we ask whether it works again.
    probe_from: Instant,
    /// Probes that failed in a row, the first failure included.
    failures: u32,
}

impl Window {
    /// None is open. The probe of another instance is left this long to become known here.
    pub(super) const fn new(hold_back: Duration) -> Self {
        Self { open: None, hold_back, paused: false, held: None, waited: Duration::ZERO }
    }

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

    /// How many tries there may be, out of `most`: one, to its commit, while it is asked whether the target works again.
    pub(super) fn allows(&self, most: Allowance, now: Instant) -> Allowance {
        match &self.open {
            _ if self.paused => Allowance::of(0),
            None => most,
            Some(open) if now < open.probe_from => Allowance::of(0),
            Some(_) => Allowance::of(1),
        }
    }

    /// Whether an operator has paused the target.
    pub(super) const fn is_paused(&self) -> bool {
        self.paused
    }

    /// An operator pauses the target, or lets it go on.
    pub(super) fn pause(&mut self, paused: bool, now: Instant) {
        self.paused = paused;
        self.hold(now);
    }

    /// Keeps the time that does not count against records.
    fn hold(&mut self, now: Instant) {
        if self.paused || self.open.is_some() {
            self.held.get_or_insert(now);
        } else if let Some(since) = self.held.take() {
            self.waited += now.saturating_duration_since(since);
        }
    }

    /// What others should know: why the target is in trouble, and until when nothing is tried.
    pub(super) fn shown(&self) -> Option<(Trouble, Instant)> {
        self.open.as_ref().map(|open| (open.trouble, open.until))
    }

    /// An instance, `ours` or another, found the target in trouble. What ends sooner than what is known says nothing new.
    pub(super) fn hear(&mut self, (trouble, until): (Trouble, Instant), ours: bool, now: Instant) {
        // Of two that end together one is named in `control`.
        let counts = |open: &Open| until > open.until || (until == open.until && !ours);
        if self.open.as_ref().is_none_or(counts) {
            let probe_from = if ours { until } else { until + self.hold_back };
            let failures = self.failures().max(1);
            self.open = Some(Open { trouble, until, probe_from, failures });
        }
        self.hold(now);
    }

    /// An instance found the target working, behind the window that is open.
    pub(super) fn end(&mut self, now: Instant) {
        self.open = None;
        self.hold(now);
    }

    /// How long the target was in trouble until now, all together.
    pub(super) fn waited(&self, now: Instant) -> Duration {
        self.waited + self.held.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
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
            None => {
                let until = now + wait;
                self.open = Some(Open { trouble, until, probe_from: until, failures: 1 });
            }
            Some(open) => {
                let probe = started >= open.until;
                if probe {
                    open.failures = open.failures.saturating_add(1);
                    open.trouble = trouble;
                }
                if (probe || asked.is_some()) && now + wait > open.until {
                    (open.until, open.probe_from) = (now + wait, now + wait);
                }
            }
        }
        self.hold(now);
    }

    /// A try that began at `started` found the target working. Only a probe says so: an answer to what was under way
    /// when the window opened does not end it.
    pub(super) fn worked(&mut self, started: Instant, now: Instant) {
        if self.is_probe(started) {
            self.end(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(window: &Window, now: Instant) -> usize {
        let allowed = window.allows(Allowance { at_once: 16, unsettled: 40 }, now);
        assert_eq!(allowed.unsettled, if allowed.at_once == 16 { 40 } else { allowed.at_once });
        allowed.at_once
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_window_is_kept_and_then_probed() {
        let t0 = Instant::now();
        let at = |s: u32| t0 + SECOND * s;
        let mut window = Window::new(SECOND * 7);
        assert_eq!(limit(&window, t0), 16);
        window.failed(Trouble::RateLimited, Some(SECOND * 10), SECOND, t0, at(1));
        assert_eq!(limit(&window, at(10)), 0, "nothing inside the window");
        window.worked(t0, at(2));
        assert_eq!(limit(&window, at(10)), 0, "an answer to an earlier try does not end it");
        window.failed(Trouble::RateLimited, Some(SECOND * 20), SECOND, t0, at(2));
        assert_eq!((limit(&window, at(21)), window.failures()), (0, 1), "a longer wish counts");
        window.failed(Trouble::RateLimited, Some(SECOND), SECOND, t0, at(3));
        assert_eq!(window.until(), Some(at(22)), "a shorter one does not");
        assert_eq!(limit(&window, at(22)), 1, "then one probe");
        window.failed(Trouble::Unreachable, None, SECOND * 4, at(22), at(23));
        assert_eq!((window.until(), window.failures()), (Some(at(27)), 2));
        assert_eq!(window.trouble(), Some(Trouble::Unreachable));
        window.worked(at(27), at(28));
        assert_eq!((limit(&window, at(28)), window.failures(), window.trouble()), (16, 0, None));
        assert_eq!(window.waited(at(40)), SECOND * 27);
    }

    #[test]
    fn a_pause_outlasts_a_window_and_its_time_counts_once() {
        let t0 = Instant::now();
        let at = |s: u32| t0 + SECOND * s;
        let mut window = Window::new(SECOND * 7);
        window.pause(true, at(0));
        window.failed(Trouble::Failing, None, SECOND * 5, t0, at(2));
        assert_eq!((limit(&window, at(10)), window.is_paused()), (0, true));
        window.pause(false, at(20));
        assert_eq!(limit(&window, at(20)), 1, "what was in trouble before is asked by one first");
        assert_eq!(window.waited(at(25)), SECOND * 25);
        window.worked(at(20), at(30));
        assert_eq!((window.waited(at(40)), limit(&window, at(40))), (SECOND * 30, 16));
        window.pause(true, at(50));
        window.pause(false, at(60));
        assert_eq!(window.waited(at(70)), SECOND * 40);
    }

    #[test]
    fn what_another_instance_found_counts_here() {
        let t0 = Instant::now();
        let at = |s: u32| t0 + SECOND * s;
        let mut window = Window::new(SECOND * 7);
        window.hear((Trouble::RateLimited, at(10)), false, at(1));
        assert_eq!((limit(&window, at(10)), limit(&window, at(16))), (0, 0), "it asks first");
        assert_eq!(limit(&window, at(17)), 1, "unless it has gone");
        window.hear((Trouble::Credentials, at(5)), false, at(2));
        assert_eq!(window.shown(), Some((Trouble::RateLimited, at(10))), "a shorter one does not");
        window.hear((Trouble::Credentials, at(20)), false, at(2));
        assert_eq!(window.shown(), Some((Trouble::Credentials, at(20))));
        window.failed(Trouble::Unreachable, None, SECOND * 3, at(27), at(28));
        assert_eq!((limit(&window, at(30)), limit(&window, at(31))), (0, 1), "ours is ours to ask");
        window.hear((Trouble::Credentials, at(40)), true, at(29));
        assert_eq!((limit(&window, at(39)), limit(&window, at(40))), (0, 1), "also one of before a restart");
        window.end(at(41));
        assert_eq!((limit(&window, at(41)), window.waited(at(50))), (16, SECOND * 40));
        for trouble in Trouble::ALL {
            assert_eq!(Trouble::named(trouble.name()), trouble);
        }
        assert_eq!(Trouble::named("something newer"), Trouble::Failing);
    }

    #[test]
    fn failures_together_count_once() {
        let t0 = Instant::now();
        let mut window = Window::new(SECOND * 7);
        for _ in 0..16 {
            window.failed(Trouble::Unreachable, None, SECOND, t0, t0 + SECOND);
        }
        assert_eq!((window.failures(), window.until()), (1, Some(t0 + SECOND * 2)));
    }
}
