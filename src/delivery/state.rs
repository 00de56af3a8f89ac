//! What is said of targets: state and metrics of each, health of all together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::plan::Plan;
use super::retention::Retention;
use super::tally::Weigh;
use super::window::{Trouble, Window};
use crate::event::{AttemptOutcome, Timestamp};
use crate::telemetry::{Metrics, RoleHealth};

/// How often gauges are refreshed.
const EVERY: Duration = Duration::from_secs(1);

/// State of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TargetState {
    /// Records flow.
    Active,
    /// Nothing is tried for a while: it said to slow down.
    Waiting,
    /// No connection can be made, or it says that it is at fault itself; it is tried again by itself.
    Unreachable,
    /// It refuses our credentials; they are tried again at long intervals.
    Credentials,
    /// It fails with almost everything: one record at a time is tried, until one succeeds.
    Failing,
    /// An operator has paused it.
    Paused,
    /// It cannot go on without an operator.
    Stopped,
}

impl TargetState {
    const ALL: [Self; 7] =
        [Self::Active, Self::Waiting, Self::Unreachable, Self::Credentials, Self::Failing, Self::Paused, Self::Stopped];

    const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Waiting => "waiting",
            Self::Unreachable => "unreachable",
            Self::Credentials => "credentials",
            Self::Failing => "failing",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }

    /// The state that goes with a window.
    pub(super) fn of(window: &Window) -> Self {
        match window.trouble() {
            _ if window.is_paused() => Self::Paused,
            None => Self::Active,
            Some(Trouble::RateLimited) => Self::Waiting,
            Some(Trouble::Unreachable) => Self::Unreachable,
            Some(Trouble::Credentials) => Self::Credentials,
            Some(Trouble::Failing) => Self::Failing,
        }
    }
}

/// Metrics and state of one target.
pub(super) struct Gauges {
    metrics: Arc<Metrics>,
    target: String,
    state: TargetState,
    retention: Retention,
    next: Option<Instant>,
}

impl Gauges {
    /// Those of this target, which begins as active.
    pub(super) fn new(metrics: Arc<Metrics>, target: &str, retention: Retention) -> Self {
        let gauges = Self { metrics, target: target.to_owned(), state: TargetState::Active, retention, next: None };
        gauges.show();
        gauges
    }

    /// Counts a try.
    pub(super) fn tried(&self, outcome: AttemptOutcome) {
        let outcome = outcome.symbol().to_ascii_lowercase();
        self.metrics.delivery_attempts.with_label_values(&[self.target.as_str(), outcome.as_str()]).inc();
    }

    /// Sets the state and logs a change: `event_id` is the record whose try showed it.
    pub(super) fn state(&mut self, state: TargetState, event_id: &str, reason: &str) {
        if self.state == state {
            return;
        }
        self.state = state;
        self.show();
        let target = self.target.as_str();
        match state {
            TargetState::Active => tracing::info!(target_name = target, event_id, "target is active"),
            TargetState::Waiting => tracing::warn!(target_name = target, event_id, reason, "target is waiting"),
            TargetState::Unreachable => tracing::warn!(target_name = target, event_id, reason, "target is unreachable"),
            TargetState::Credentials => {
                tracing::error!(target_name = target, event_id, reason, "target refuses our credentials");
            }
            TargetState::Failing => tracing::error!(target_name = target, event_id, reason, "target is failing"),
            TargetState::Paused => tracing::warn!(target_name = target, reason, "target is paused"),
            TargetState::Stopped => tracing::error!(target_name = target, reason, "target is stopped"),
        }
    }

    /// Refreshes lag, parked keys and the distance from retention, once a second.
    pub(super) fn observe<R: Weigh>(&mut self, plan: &Plan<R>, now: Instant) {
        if self.next.is_some_and(|next| now < next) {
            return;
        }
        self.next = Some(now + EVERY);
        let time = Timestamp::now();
        let lag = plan.oldest().map_or(0.0, |oldest| time.since(oldest).as_secs_f64());
        self.metrics.delivery_lag_seconds.with_label_values(&[self.target.as_str()]).set(lag);
        let parked = i64::try_from(plan.parked()).unwrap_or(i64::MAX);
        self.metrics.delivery_parked_keys.with_label_values(&[self.target.as_str()]).set(parked);
        self.retention.observe(&self.metrics, &self.target, plan.oldest_of_each(), time);
    }

    fn show(&self) {
        for state in TargetState::ALL {
            let value = i64::from(state == self.state);
            self.metrics.target_state.with_label_values(&[self.target.as_str(), state.name()]).set(value);
        }
    }
}

/// Health of the role: ready when every target's thread can work.
pub(super) struct Board {
    health: RoleHealth,
    troubles: Mutex<BTreeMap<String, Option<String>>>,
}

impl Board {
    /// Health over these targets, none of which can work yet.
    pub(super) fn new<'a>(health: RoleHealth, targets: impl IntoIterator<Item = &'a str>) -> Self {
        let troubles =
            targets.into_iter().map(|target| (target.to_owned(), Some("joins its group".to_owned()))).collect();
        let board = Self { health, troubles: Mutex::new(troubles) };
        board.say(&board.troubles.lock().unwrap_or_else(PoisonError::into_inner));
        board
    }

    /// The target can work.
    pub(super) fn ready(&self, target: &str) {
        self.set(target, None);
    }

    /// The target cannot work, for this reason.
    pub(super) fn not_ready(&self, target: &str, reason: &str) {
        self.set(target, Some(reason.to_owned()));
    }

    fn set(&self, target: &str, trouble: Option<String>) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.insert(target.to_owned(), trouble);
        self.say(&troubles);
    }

    fn say(&self, troubles: &BTreeMap<String, Option<String>>) {
        let all: Vec<String> = troubles
            .iter()
            .filter_map(|(target, trouble)| trouble.as_ref().map(|trouble| format!("target {target}: {trouble}")))
            .collect();
        if all.is_empty() { self.health.ready() } else { self.health.not_ready(&all.join("; ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::retention::Known;
    use super::*;
    use crate::telemetry::Health;

    #[test]
    fn one_state_at_a_time() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let mut gauges = Gauges::new(Arc::clone(&metrics), "erp", Retention::new(Known::default(), EVERY));
        let is = |state: &str| metrics.target_state.with_label_values(&["erp", state]).get();
        assert_eq!((is("active"), is("waiting"), is("credentials"), is("stopped")), (1, 0, 0, 0));
        let mut window = Window::new(EVERY);
        let now = Instant::now();
        window.failed(Trouble::Credentials, None, EVERY, now, now);
        gauges.state(TargetState::of(&window), "e-1", "http_401");
        assert_eq!((is("active"), is("waiting"), is("credentials"), is("stopped")), (0, 0, 1, 0));
        window.pause(true, now);
        gauges.state(TargetState::of(&window), "", "ann@ops");
        assert_eq!((is("credentials"), is("paused")), (0, 1));
    }

    #[test]
    fn a_state_tells_why_a_target_is_left_alone() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let mut gauges = Gauges::new(Arc::clone(&metrics), "erp", Retention::new(Known::default(), EVERY));
        let now = Instant::now();
        for (trouble, name) in [
            (Trouble::RateLimited, "waiting"),
            (Trouble::Unreachable, "unreachable"),
            (Trouble::Credentials, "credentials"),
            (Trouble::Failing, "failing"),
        ] {
            let mut window = Window::new(EVERY);
            window.failed(trouble, None, EVERY, now, now);
            gauges.state(TargetState::of(&window), "e-1", "why");
            let is = |state: &TargetState| metrics.target_state.with_label_values(&["erp", state.name()]).get() == 1;
            let shown: Vec<&str> =
                TargetState::ALL.iter().filter(|state| is(state)).map(|state| state.name()).collect();
            assert_eq!(shown, [name], "{trouble:?}");
        }
    }

    #[test]
    fn ready_when_all_are() {
        let health = Health::default();
        let role = health.role("delivery");
        let board = Board::new(role.clone(), ["a", "b"]);
        board.ready("a");
        assert!(!role.is_ready());
        board.ready("b");
        assert!(role.is_ready());
        board.not_ready("a", "Kafka is away");
        assert!(!role.is_ready());
    }
}
