//! Whether anything happens on a connection. hyper bounds an HTTP/1 head, but neither the time before it knows which
//! HTTP is spoken nor an idle HTTP/2 connection.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Limits;
use super::room::{Place, Room};

/// Requests on one connection, since when there are none, and its place.
pub(super) struct Activity {
    state: Mutex<State>,
    room: Arc<Room>,
    leave: CancellationToken,
}

struct State {
    in_flight: usize,
    answered: bool,
    since: Instant,
    place: Place,
}

impl Activity {
    pub(super) fn new(place: Place) -> Self {
        let (room, leave) = (Arc::clone(place.room()), place.leave());
        Self { state: Mutex::new(State { in_flight: 0, answered: false, since: Instant::now(), place }), room, leave }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When to ask again whether it is idle.
    pub(super) fn look_again(&self, limits: &Limits) -> Instant {
        let state = self.lock();
        let from = if state.in_flight > 0 { Instant::now() } else { state.since };
        from + if state.answered { limits.idle_timeout } else { limits.header_timeout }
    }

    /// Whether a request is not answered yet.
    pub(super) fn is_busy(&self) -> bool {
        self.lock().in_flight > 0
    }

    /// Whether nothing has happened for too long.
    pub(super) fn is_idle(&self, limits: &Limits) -> bool {
        !self.is_busy() && self.look_again(limits) <= Instant::now()
    }

    /// Waits until its place is wanted for another connection.
    pub(super) async fn asked_to_go(&self) {
        self.leave.cancelled().await;
    }

    /// Where it has its place.
    pub(super) fn room(&self) -> &Room {
        &self.room
    }
}

/// A request that is not answered yet. Answers are small and written at once: one whose body is still being written
/// counts as given.
pub(super) struct InFlight(Arc<Activity>);

impl InFlight {
    pub(super) fn new(activity: &Arc<Activity>) -> Self {
        let mut state = activity.lock();
        if state.in_flight == 0 {
            state.place.busy();
        }
        state.in_flight += 1;
        drop(state);
        Self(Arc::clone(activity))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.in_flight = state.in_flight.saturating_sub(1);
        state.answered = true;
        state.since = Instant::now();
        if state.in_flight == 0 {
            state.place.quiet();
        }
    }
}
