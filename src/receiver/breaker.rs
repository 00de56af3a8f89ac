//! Whether events can be made durable now, as the last tries and looks tell. Pure: time is a parameter.
//!
//! Closed lets everything through. A few failures in a row open it: events take the other way at once, instead of each
//! waiting out its budget. A look that finds the cluster there half-opens it: one event at a time is tried; the
//! first success closes it, a failure opens it again.

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row that open it. One may be a leader that moved.
const MAX_FAILURES: u32 = 3;
/// A trial without a result after this long is given up: its sender hung up. Deadlines of the built-in providers end
/// before.
const TRIAL: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
}

#[derive(Debug)]
enum State {
    Closed { failures: u32, succeeded_at: Option<Instant> },
    Open { reason: String },
    HalfOpen { trial: Option<Instant> },
}

/// Whether an event may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// As any other.
    Open,
    /// As the one that finds out whether it works again: it may take its time.
    Trial,
    /// Not.
    Refused,
}

impl Breaker {
    /// Closed.
    pub(super) const fn new() -> Self {
        Self { state: State::Closed { failures: 0, succeeded_at: None } }
    }

    /// Why nothing can be made durable, as far as is known; none where it can or may be tried.
    pub(super) fn open(&self) -> Option<&str> {
        match &self.state {
            State::Open { reason } => Some(reason),
            State::Closed { .. } | State::HalfOpen { .. } => None,
        }
    }

    /// Whether an event may be tried now.
    pub(super) fn admit(&mut self, now: Instant) -> Admission {
        match &mut self.state {
            State::Closed { .. } => Admission::Open,
            State::Open { .. } => Admission::Refused,
            State::HalfOpen { trial } if trial.is_some_and(|began| now < began + TRIAL) => Admission::Refused,
            State::HalfOpen { trial } => {
                *trial = Some(now);
                Admission::Trial
            }
        }
    }

    /// Whether an event became durable after `then`.
    pub(super) fn succeeded_since(&self, then: Instant) -> bool {
        matches!(&self.state, State::Closed { succeeded_at: Some(at), .. } if *at > then)
    }

    /// An event became durable.
    pub(super) fn succeeded(&mut self, now: Instant) {
        self.state = State::Closed { failures: 0, succeeded_at: Some(now) };
    }

    /// An event did not.
    pub(super) fn failed(&mut self, reason: &str) {
        match &mut self.state {
            State::Closed { failures, .. } if *failures + 1 < MAX_FAILURES => *failures += 1,
            State::Closed { .. } | State::HalfOpen { .. } | State::Open { .. } => {
                self.state = State::Open { reason: reason.to_owned() };
            }
        }
    }

    /// A look begun at `began` found the cluster there, or did not. What events say counts for more: a look that fails
    /// while they succeed means nothing, and one that succeeds only lets them try.
    pub(super) fn looked(&mut self, began: Instant, found: Result<(), String>) {
        match (&self.state, found) {
            (State::Open { .. }, Ok(())) => self.state = State::HalfOpen { trial: None },
            (State::Closed { succeeded_at, .. }, Err(reason)) if succeeded_at.is_none_or(|at| at < began) => {
                self.state = State::Open { reason };
            }
            (State::HalfOpen { .. } | State::Open { .. }, Err(reason)) => self.state = State::Open { reason },
            (State::Closed { .. }, _) | (State::HalfOpen { .. }, Ok(())) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_in_a_row_open_it() {
        let now = Instant::now();
        let mut breaker = Breaker::new();
        for _ in 0..5 {
            breaker.failed("away");
            breaker.failed("away");
            breaker.succeeded(now);
        }
        assert!(breaker.open().is_none() && breaker.admit(now) == Admission::Open);
        for _ in 0..MAX_FAILURES {
            breaker.failed("away");
        }
        assert_eq!(breaker.open(), Some("away"));
        assert_eq!(breaker.admit(now + Duration::from_secs(3600)), Admission::Refused);
    }

    #[test]
    fn half_open_tries_one_at_a_time() {
        let now = Instant::now();
        let open = || {
            let mut breaker = Breaker::new();
            breaker.looked(now, Err("away".to_owned()));
            assert_eq!(breaker.admit(now), Admission::Refused);
            breaker.looked(now, Ok(()));
            assert!(breaker.open().is_none());
            assert_eq!([breaker.admit(now), breaker.admit(now)], [Admission::Trial, Admission::Refused], "one trial");
            breaker
        };
        let mut breaker = open();
        breaker.succeeded(now);
        assert_eq!([breaker.admit(now), breaker.admit(now)], [Admission::Open; 2]);
        let mut breaker = open();
        breaker.failed("still away");
        assert_eq!(breaker.open(), Some("still away"));
        let mut breaker = open();
        assert_eq!(breaker.admit(now + TRIAL), Admission::Trial, "a trial that vanished does not block for ever");
    }

    #[test]
    fn a_failed_look_means_nothing_while_events_succeed() {
        let now = Instant::now();
        let mut breaker = Breaker::new();
        breaker.succeeded(now);
        breaker.looked(now, Err("slow".to_owned()));
        assert!(breaker.open().is_none());
        breaker.looked(now + Duration::from_secs(1), Err("away".to_owned()));
        assert_eq!(breaker.open(), Some("away"));
    }
}
