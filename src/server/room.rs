//! Places for connections. Each takes one; when all are taken, the connection that has had no request for longest is
//! asked to go for the next one to come, so that strangers who hold connections shut nobody out: a provider's own comes
//! back when it is needed. One with a request is never asked; how long it may take is bounded where it is answered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Watch;

/// All places of a server.
pub(super) struct Room {
    places: usize,
    watch: Arc<dyn Watch>,
    state: Mutex<State>,
    /// There may be a place now, or one that can be had.
    changed: Notify,
}

#[derive(Default)]
struct State {
    taken: usize,
    /// Connections without a request, in the order in which they came to have none.
    quiet: BTreeMap<u64, CancellationToken>,
    turns: u64,
    /// Whether someone waits for `changed`.
    is_awaited: bool,
}

/// One connection's place, given back when it is dropped.
pub(super) struct Place {
    room: Arc<Room>,
    leave: CancellationToken,
    /// Where it stands among those without a request.
    turn: Option<u64>,
}

impl Room {
    pub(super) fn new(places: usize, watch: Arc<dyn Watch>) -> Arc<Self> {
        Arc::new(Self { places, watch, state: Mutex::default(), changed: Notify::new() })
    }

    /// Who hears of connections.
    pub(super) fn watch(&self) -> &dyn Watch {
        &*self.watch
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, as soon as there is one: others are asked to go for it. One caller at a time.
    pub(super) async fn place(self: &Arc<Self>) -> Place {
        loop {
            if let Some(place) = self.free() {
                return place;
            }
            self.ask_one();
            self.changed.notified().await;
        }
    }

    /// Asks a connection to go although there are places, and waits a little until one has: files have run out.
    pub(super) async fn spare_one(&self, patience: Duration) {
        self.ask_one();
        // Without one that went, time alone may help.
        drop(timeout(patience, self.changed.notified()).await);
    }

    fn free(self: &Arc<Self>) -> Option<Place> {
        let mut state = self.lock();
        if state.taken >= self.places {
            return None;
        }
        state.taken += 1;
        self.watch.open(state.taken);
        drop(state);
        let mut place = Place { room: Arc::clone(self), leave: CancellationToken::new(), turn: None };
        place.quiet();
        Some(place)
    }

    fn ask_one(&self) {
        let mut state = self.lock();
        state.is_awaited = true;
        let longest = state.quiet.pop_first();
        drop(state);
        if let Some((_, leave)) = longest {
            leave.cancel();
            self.watch.asked_to_go();
        }
    }

    fn tell(&self, state: &mut State) {
        if std::mem::take(&mut state.is_awaited) {
            self.changed.notify_one();
        }
    }
}

impl Place {
    /// Says that this connection is to go.
    pub(super) fn leave(&self) -> CancellationToken {
        self.leave.clone()
    }

    /// Who hears of connections.
    pub(super) fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// The connection has a request.
    pub(super) fn busy(&mut self) {
        let mut state = self.room.lock();
        let stood = self.turn.take().and_then(|turn| state.quiet.remove(&turn));
        if stood.is_none() {
            // Asked to go at this very moment. Someone waits for a place that will not be free soon.
            self.room.tell(&mut state);
        }
    }

    /// It has none, or none any more.
    pub(super) fn quiet(&mut self) {
        if self.leave.is_cancelled() {
            return;
        }
        let mut state = self.room.lock();
        let turn = state.turns;
        state.turns += 1;
        if state.quiet.is_empty() {
            // Nobody could be asked before.
            self.room.tell(&mut state);
        }
        state.quiet.insert(turn, self.leave.clone());
        self.turn = Some(turn);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.room.lock();
        if let Some(turn) = self.turn {
            state.quiet.remove(&turn);
        }
        state.taken = state.taken.saturating_sub(1);
        self.room.watch.open(state.taken);
        self.room.tell(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Counted {
        open: AtomicUsize,
        asked: AtomicUsize,
    }

    impl Watch for Counted {
        fn open(&self, connections: usize) {
            self.open.store(connections, Ordering::SeqCst);
        }

        fn asked_to_go(&self) {
            self.asked.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Counted {
        fn both(&self) -> (usize, usize) {
            (self.open.load(Ordering::SeqCst), self.asked.load(Ordering::SeqCst))
        }
    }

    fn room(places: usize) -> (Arc<Room>, Arc<Counted>) {
        let counted = Arc::new(Counted::default());
        (Room::new(places, counted.clone()), counted)
    }

    /// Whether a place is to be had while nobody does anything.
    async fn waits(room: &Arc<Room>) -> bool {
        timeout(Duration::from_secs(1), room.place()).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_without_a_request_is_asked_and_nobody_else() {
        let (room, counted) = room(3);
        let [mut first, second, third] = [room.place().await, room.place().await, room.place().await];
        assert_eq!(counted.both(), (3, 0));
        first.busy();
        first.quiet();
        assert!(waits(&room).await, "asked, and still there");
        let asked = |places: [&Place; 3]| places.map(|place| place.leave.is_cancelled());
        assert_eq!(asked([&first, &second, &third]), [false, true, false]);
        drop(second);
        let fourth = room.place().await;
        assert_eq!(counted.both(), (3, 1));
        drop((first, third, fourth));
        assert_eq!(counted.both(), (0, 1));
        assert!(room.lock().quiet.is_empty(), "nothing is left behind");
    }

    #[tokio::test(start_paused = true)]
    async fn one_with_a_request_keeps_its_place() {
        let (room, counted) = room(2);
        let [mut first, mut second] = [room.place().await, room.place().await];
        first.busy();
        second.busy();
        assert!(waits(&room).await);
        assert_eq!(counted.both(), (2, 0));
        // Someone waits; the first that has no request any more is asked.
        let waiting = tokio::spawn({
            let room = Arc::clone(&room);
            async move { room.place().await }
        });
        tokio::time::sleep(Duration::from_millis(1)).await;
        second.quiet();
        second.leave.cancelled().await;
        // It has a request after all: another one goes in its place, and it is not asked twice.
        second.busy();
        first.quiet();
        first.leave.cancelled().await;
        second.quiet();
        drop(first);
        drop(waiting.await.unwrap());
        assert_eq!(counted.both(), (1, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn where_files_have_run_out_one_is_asked_though_there_are_places() {
        let (room, counted) = room(10);
        room.spare_one(Duration::from_secs(1)).await;
        let place = room.place().await;
        room.spare_one(Duration::from_secs(1)).await;
        assert!(place.leave.is_cancelled());
        assert_eq!(counted.both(), (1, 1));
    }
}
