//! Whether anything happens on a connection. hyper bounds an HTTP/1 head, but neither the time before it knows which
//! HTTP is spoken nor an idle HTTP/2 connection.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::Limits;

/// Requests on one connection, and since when there are none.
pub(super) struct Activity(Mutex<State>);

struct State {
    in_flight: usize,
    answered: bool,
    since: Instant,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State { in_flight: 0, answered: false, since: Instant::now() }))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When to ask again whether it is idle.
    pub(super) fn look_again(&self, limits: &Limits) -> Instant {
        let state = self.lock();
        let from = if state.in_flight > 0 { Instant::now() } else { state.since };
        from + if state.answered { limits.idle_timeout } else { limits.header_timeout }
    }

    /// Whether nothing has happened for too long.
    pub(super) fn is_idle(&self, limits: &Limits) -> bool {
        self.lock().in_flight == 0 && self.look_again(limits) <= Instant::now()
    }
}

/// A request that is not answered yet.
pub(super) struct InFlight(Arc<Activity>);

impl InFlight {
    pub(super) fn new(activity: &Arc<Activity>) -> Self {
        activity.lock().in_flight += 1;
        Self(Arc::clone(activity))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.in_flight = state.in_flight.saturating_sub(1);
        state.answered = true;
        state.since = Instant::now();
    }
}
