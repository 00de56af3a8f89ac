//! Which record goes next: the core of delivery, pure, with time as a parameter.
//!
//! A lane is one key of one partition. Its records stand in a queue; only the head is tried, one try at a time, and
//! what follows waits until the end of that try is committed. Ends are sealed into a commit, and that commit ends later:
//! meanwhile other lanes go on, and their ends gather for the next one. A lane is either live, with all its records open in the
//! record topic, or parked, with all of them in `parked`: a head that fails parks its lane, records read later queue
//! behind, and the lane is live again when all have gone. Parked records are remembered by their place; their contents
//! are kept in memory only as far as `keep_parked` allows and fetched when their turn comes.
//!
//! A redelivery comes in behind all that its key has, and is parked with it: a replay's record has its place among the
//! others in `parked` and nowhere else, so it is sent only when that place is committed.
//!
//! Each gain of partitions starts an epoch. A try of an earlier epoch that is still under way is a stray: its result
//! counts for nothing, since the record is read again, but its lane waits for it, since two tries of one key at once
//! could arrive in the wrong order.

mod admit;
mod doubt;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexSet;
use tokio::time::Instant;

use super::lane::{Allowance, Change, Fetch, Go, Lane, Limits, Seat, Then, Ticket, Try, Waiting};
use super::places::Places;
use super::progress::{Past, Position, Reading};
use super::queue::{Head, Queue, Slot};
use super::repeat::{Caution, Doubt, caution};
use super::tally::{Tally, Weigh};
use crate::event::Timestamp;
use crate::kafka::group::Partition;
use crate::targets::Idempotency;

/// Lanes with a doubt left that are kept before those settled are dropped.
const MAX_LEFT: usize = 4096;
/// Most parked records being fetched at one time.
pub(super) const MAX_FETCHES: usize = 8;

/// Records under way to one target.
#[derive(Debug)]
pub(super) struct Plan<R> {
    limits: Limits,
    epoch: u64,
    turn: u64,
    readings: BTreeMap<Partition, Reading>,
    lanes: HashMap<Arc<Lane>, Queue<R>>,
    /// Live lanes whose head may be tried at once.
    live: VecDeque<Arc<Lane>>,
    /// Parked lanes whose head may be tried at once, first released first.
    released: VecDeque<Arc<Lane>>,
    /// Whose turn it is, where both have some.
    released_next: bool,
    /// Lanes whose head waits, by time; the turn keeps equal times apart.
    due: BTreeMap<(Instant, u64), Arc<Lane>>,
    /// Lanes with a try under way, strays included.
    busy: HashMap<Arc<Lane>, u64>,
    fetching: HashSet<Arc<Lane>>,
    /// Lanes whose last try is in no commit yet, in the order in which those ended: so they go on, and a history is the
    /// same again by its seed.
    resting: IndexSet<Arc<Lane>>,
    /// Lanes whose last try is in the commit under way.
    sealed: IndexSet<Arc<Lane>>,
    /// Lanes whose head is a redelivery that was not tried yet.
    redelivering: HashSet<Arc<Lane>>,
    /// When the last try of lanes began that ended without a verdict for good, where a document is looked for: a
    /// redelivery may be of the same record.
    left: HashMap<Arc<Lane>, Instant>,
    /// Until when earlier owners of partitions may have begun tries.
    gained: Option<Instant>,
    /// When the first resting lane could go on, were its last try committed.
    wake: Option<Instant>,
    places: Places,
    /// Records of live lanes.
    held: Tally,
    /// Parked records whose contents are in memory.
    kept: Tally,
    parked: usize,
    /// Whether a record may go only behind a commit.
    stalled: bool,
}

impl<R: Weigh> Plan<R> {
    /// An empty plan.
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            epoch: 0,
            turn: 0,
            readings: BTreeMap::new(),
            lanes: HashMap::new(),
            live: VecDeque::new(),
            released: VecDeque::new(),
            released_next: false,
            due: BTreeMap::new(),
            busy: HashMap::new(),
            fetching: HashSet::new(),
            resting: IndexSet::new(),
            sealed: IndexSet::new(),
            redelivering: HashSet::new(),
            left: HashMap::new(),
            gained: None,
            wake: None,
            places: Places::default(),
            held: Tally::default(),
            kept: Tally::default(),
            parked: 0,
            stalled: false,
        }
    }

    /// Forgets every record: the partitions are someone else's, or are restored from what is committed.
    pub(super) fn lost(&mut self) {
        let strays = std::mem::take(&mut self.busy);
        let (epoch, turn) = (self.epoch + 1, self.turn);
        *self = Self { epoch, turn, busy: strays, ..Self::new(self.limits) };
    }

    /// Takes a partition over as it was written down. The log of the partition of `parked` with the same number ends at
    /// `parked_end` or later. What earlier owners tried they began before `tried_until`.
    pub(super) fn gain(&mut self, known: Position, parked_end: i64, tried_until: Instant) {
        self.gained = self.gained.max(Some(tried_until));
        self.places.begin(known.partition.number, parked_end);
        self.readings.insert(known.partition.clone(), Reading::new(known));
    }

    /// Takes over a record found in `parked`: all of them, each lane's in order, before the first record is read.
    pub(super) fn restore(&mut self, lane: Lane, waiting: Waiting, now: Instant) {
        let Waiting { seat, place, mut standing } = waiting;
        // When a redelivery's record was tried before, and how often while it waited here, is not written down with it.
        let again = matches!(seat, Seat::Redelivery(_)).then_some(Doubt { first: None, last: now });
        let doubt = again.or(standing.doubt);
        let past = Past { tries: standing.tries, suspect: false };
        let slot = Slot { seat, record: None, place, past, doubt };
        if let Some(queue) = self.lanes.get_mut(&lane) {
            queue.slots.push_back(slot);
            return;
        }
        let lane = Arc::new(lane);
        if standing.tries == 0 {
            standing.doubt = standing.doubt.or(again);
        }
        let suspect = self.readings.get_mut(&lane.partition).is_some_and(Reading::suspects);
        if suspect {
            // The predecessor may have had it under way: nobody knows since when.
            let first = standing.doubt.and_then(|doubt| doubt.first);
            standing.doubt = Some(Doubt { first, last: now });
        }
        self.lanes.insert(Arc::clone(&lane), Queue::restored(slot, standing, suspect));
        self.parked += 1;
        self.enqueue(lane, now);
    }

    /// Takes a record that was read; what is finished already is left out. Behind a parked head it is parked at once.
    pub(super) fn read(
        &mut self,
        lane: Lane,
        offset: i64,
        recorded: Timestamp,
        record: R,
        now: Instant,
    ) -> Option<Change<R>> {
        let reading = self.readings.get_mut(&lane.partition)?;
        let past = reading.take(offset, Some(recorded))?;
        let record = Arc::new(record);
        let seat = Seat::Record(offset);
        let mut slot = Slot { seat, record: Some(Arc::clone(&record)), place: 0, past, doubt: None };
        let known = self.lanes.get_key_value(&lane).map(|(lane, queue)| (Arc::clone(lane), queue.parked));
        let Some((lane, parked)) = known else {
            let lane = Arc::new(lane);
            self.lanes.insert(Arc::clone(&lane), Queue::live(slot, now));
            self.held.add(&*record);
            // The end of the one before may be in no commit yet, and nothing else of its key was there to wait for it.
            self.rouse(&lane, now);
            self.enqueue(lane, now);
            return None;
        };
        if parked {
            reading.finish(offset);
            slot.place = self.places.take(lane.partition.number);
            // An earlier owner may have sent it before the redelivery came in: a record that waits behind none was not.
            let behind = self.lanes.get(&lane).is_some_and(|queue| queue.slots.iter().any(Slot::is_redelivery));
            slot.doubt = (behind && past.suspect).then_some(Doubt { first: None, last: now });
            let standing = slot.standing();
            self.keep(&lane, slot, false);
            return Some(Change::Park { lane, seat, record, leads: false, standing });
        }
        self.held.add(&*record);
        self.lanes.get_mut(&lane)?.slots.push_back(slot);
        self.rouse(&lane, now);
        None
    }

    /// Notes when a lane could go on, if all that it waits for is that its last try is put into a commit.
    fn rouse(&mut self, lane: &Lane, now: Instant) {
        if self.resting.contains(lane)
            && let Some(queue) = self.lanes.get(lane)
        {
            let due = queue.due.unwrap_or(now);
            self.wake = Some(self.wake.map_or(due, |wake| wake.min(due)));
        }
    }

    /// Notes a record that needs no try: it is finished as it is read. Says whether it was open.
    pub(super) fn pass(&mut self, partition: &Partition, offset: i64) -> bool {
        let Some(reading) = self.readings.get_mut(partition) else { return false };
        let taken = reading.take(offset, None).is_some();
        if taken {
            reading.finish(offset);
        }
        taken
    }

    /// Adds a record to a parked lane, with its contents where there is room for them or they are `needed`.
    fn keep(&mut self, lane: &Arc<Lane>, mut slot: Slot<R>, needed: bool) {
        match &slot.record {
            Some(record) if needed || !self.kept.reaches(self.limits.keep_parked) => self.kept.add(&**record),
            _ => slot.record = None,
        }
        if let Some(queue) = self.lanes.get_mut(lane) {
            queue.slots.push_back(slot);
        }
    }

    /// Puts a lane where its head belongs. One with a try or a fetch under way, or not committed, comes back by itself.
    fn enqueue(&mut self, lane: Arc<Lane>, now: Instant) {
        let waits = self.busy.contains_key(&lane)
            || self.fetching.contains(&lane)
            || self.resting.contains(&lane)
            || self.sealed.contains(&lane);
        if waits {
            return;
        }
        let Some(queue) = self.lanes.get(&lane) else { return };
        match queue.due.filter(|due| *due > now) {
            Some(due) => {
                self.turn += 1;
                self.due.insert((due, self.turn), lane);
            }
            None if queue.parked => self.released.push_back(lane),
            None => self.live.push_back(lane),
        }
    }

    /// Whether one more try is allowed, beside those under way and those not committed.
    pub(super) fn has_room(&self, allowed: Allowance) -> bool {
        self.busy.len() < allowed.at_once && self.unsettled() < allowed.unsettled
    }

    /// What to do now, if anything and there is room. While the target is being probed, `live_first`, a record that never failed is the better question.
    /// `waited` is how long the target was in trouble until now.
    pub(super) fn next(
        &mut self,
        allowed: Allowance,
        live_first: bool,
        waited: Duration,
        now: Instant,
    ) -> Option<Go<R>> {
        if !self.has_room(allowed) {
            return None;
        }
        while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= now) {
            let lane = entry.remove();
            self.enqueue(lane, now);
        }
        // Each lane is looked at once.
        for _ in 0..self.live.len() + self.released.len() {
            let lane = self.pick(live_first)?;
            let Some(queue) = self.lanes.get_mut(&lane) else { continue };
            let Some(slot) = queue.slots.front() else { continue };
            let seat = slot.seat;
            let step = match caution(self.limits.class, queue.doubt, now) {
                Caution::Go(step) => step,
                Caution::Wait(until) => {
                    queue.due = Some(until);
                    self.enqueue(lane, now);
                    continue;
                }
            };
            // A parked one needs but the word that something may have been sent.
            let offset = if let Seat::Record(offset) = seat { offset } else { 0 };
            if !self.readings.get_mut(&lane.partition).is_some_and(|reading| reading.may_send(offset)) {
                self.stalled = true;
                self.put_back(lane);
                return None;
            }
            let ticket = Ticket { epoch: self.epoch, lane: Arc::clone(&lane), seat };
            let Some(record) = slot.record.clone() else {
                if self.fetching.len() >= MAX_FETCHES {
                    self.released.push_back(lane);
                    continue;
                }
                let (place, tries) = (slot.place, queue.tries);
                self.fetching.insert(lane);
                return Some(Go::Fetch(Fetch { ticket, place, tries }));
            };
            let n = queue.begin(waited, now);
            self.busy.insert(lane, self.epoch);
            return Some(Go::Try(Try { ticket, record, n, step }));
        }
        None
    }

    /// Live and released lanes take turns, so that neither starves the other.
    fn pick(&mut self, live_first: bool) -> Option<Arc<Lane>> {
        let released_first = self.released_next && !live_first;
        self.released_next = !self.released_next;
        if released_first {
            self.released.pop_front().or_else(|| self.live.pop_front())
        } else {
            self.live.pop_front().or_else(|| self.released.pop_front())
        }
    }

    fn put_back(&mut self, lane: Arc<Lane>) {
        match self.lanes.get(&lane) {
            Some(queue) if queue.parked => self.released.push_front(lane),
            Some(_) => self.live.push_front(lane),
            None => {}
        }
    }

    /// Takes a fetched record; none where it could not be had. Says whether it was waited for.
    pub(super) fn fetched(&mut self, ticket: &Ticket, record: R) -> bool {
        if ticket.epoch != self.epoch || !self.fetching.remove(&ticket.lane) {
            return false;
        }
        let slot = self.lanes.get_mut(&ticket.lane).and_then(|queue| queue.slots.front_mut());
        let Some(slot) = slot.filter(|slot| slot.seat == ticket.seat) else { return false };
        self.kept.add(&record);
        slot.record = Some(Arc::new(record));
        self.put_back(Arc::clone(&ticket.lane));
        true
    }

    /// Whether a fetch is waited for.
    pub(super) fn awaits(&self, ticket: &Ticket) -> bool {
        ticket.epoch == self.epoch && self.fetching.contains(&ticket.lane)
    }

    /// Whether a lane's head is in memory.
    pub(super) fn has_head(&self, lane: &Lane) -> bool {
        self.lanes.get(lane).is_some_and(|queue| queue.slots.front().is_some_and(|slot| slot.record.is_some()))
    }

    /// Whether a lane waits for its turn, and nothing else.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        !self.live.is_empty()
            || !self.released.is_empty()
            || self.due.first_key_value().is_some_and(|((due, _), _)| *due <= now)
    }

    /// Whether the next place at the target is someone's already, commit or not. A parked key's record may have to be
    /// fetched first, so that place is nobody's.
    pub(super) fn is_backed_up(&self) -> bool {
        !self.stalled && !self.live.is_empty()
    }

    /// What is known of the record of this try; none where the try is a stray.
    pub(super) fn head(&self, ticket: &Ticket, waited: Duration, now: Instant) -> Option<Head> {
        let queue = self.lanes.get(&ticket.lane).filter(|_| ticket.epoch == self.epoch)?;
        Some(queue.head(waited, now))
    }

    /// Takes the end of a try; says what has to be written to `parked`. Every try must end here once, strays too.
    /// `doubt` is what is not known of the record now, `waited` how long the target was in trouble until now.
    pub(super) fn settle(
        &mut self,
        ticket: &Ticket,
        then: Then,
        doubt: Option<Doubt>,
        waited: Duration,
        now: Instant,
    ) -> Vec<Change<R>> {
        let lane = Arc::clone(&ticket.lane);
        self.busy.remove(&lane);
        if ticket.epoch != self.epoch {
            // The lane was read again behind the stray's back and had to wait for it.
            self.enqueue(lane, now);
            return Vec::new();
        }
        self.redelivering.remove(&lane);
        self.resting.insert(Arc::clone(&lane));
        let Some(queue) = self.lanes.get_mut(&lane) else { return Vec::new() };
        if std::mem::take(&mut queue.suspect)
            && let Some(reading) = self.readings.get_mut(&lane.partition)
        {
            reading.cleared();
        }
        let changes = match then {
            Then::Finish => self.finish(&lane, ticket.seat, doubt, now),
            Then::At(due) => {
                queue.failed(due, doubt);
                self.park(&lane, waited, now)
            }
            Then::Again => {
                (queue.due, queue.doubt) = (None, doubt);
                let (tries, parked) = (queue.tries, queue.parked);
                if parked {
                    self.park(&lane, waited, now)
                } else {
                    if let (Some(reading), Seat::Record(offset)) = (self.readings.get_mut(&lane.partition), ticket.seat)
                    {
                        reading.tried(offset, tries);
                        if doubt.is_some() {
                            reading.doubted(offset);
                        }
                    }
                    Vec::new()
                }
            }
        };
        self.rouse(&lane, now);
        changes
    }

    /// Writes down a parked lane's head; a live lane is parked with all its records, in order.
    fn park(&mut self, lane: &Arc<Lane>, waited: Duration, now: Instant) -> Vec<Change<R>> {
        let Some(queue) = self.lanes.get_mut(lane) else { return Vec::new() };
        let standing = queue.standing(waited, now);
        if queue.parked {
            let Some(slot) = queue.slots.front_mut() else { return Vec::new() };
            slot.place = self.places.take(lane.partition.number);
            let (seat, record) = (slot.seat, slot.record.clone());
            if self.kept.exceeds(self.limits.keep_parked) {
                self.kept.remove(slot.record.take().as_ref());
            }
            let change =
                record.map(|record| Change::Park { lane: Arc::clone(lane), seat, record, leads: true, standing });
            return change.into_iter().collect();
        }
        queue.parked = true;
        self.parked += 1;
        // A head under way is written down anew with what becomes of it, and one that waits for no commit of this may be
        // asked for before its row is there.
        let under_way = !self.resting.contains(lane);
        let slots = std::mem::take(&mut queue.slots);
        let mut changes = Vec::with_capacity(slots.len());
        for (index, slot) in slots.into_iter().enumerate() {
            self.held.remove(slot.record.as_ref());
            if let (Some(reading), Seat::Record(offset)) = (self.readings.get_mut(&lane.partition), slot.seat) {
                reading.finish(offset);
            }
            let place = self.places.take(lane.partition.number);
            if let Some(record) = slot.record.clone() {
                let leads = index == 0;
                let standing = if leads { standing } else { slot.standing() };
                changes.push(Change::Park { lane: Arc::clone(lane), seat: slot.seat, record, leads, standing });
            }
            self.keep(lane, Slot { place, ..slot }, index == 0 && under_way);
        }
        changes
    }

    fn finish(&mut self, lane: &Arc<Lane>, seat: Seat, left: Option<Doubt>, now: Instant) -> Vec<Change<R>> {
        if let (Some(left), Idempotency::LookUp { settle }) = (left, self.limits.class) {
            if self.left.len() >= MAX_LEFT {
                self.left.retain(|_, last| *last + settle > now);
            }
            self.left.insert(Arc::clone(lane), left.last);
        }
        let Some(queue) = self.lanes.get_mut(lane) else { return Vec::new() };
        let slot = queue.next_head(left);
        let (parked, empty) = (queue.parked, queue.slots.is_empty());
        if empty {
            self.lanes.remove(lane);
            self.parked -= usize::from(parked);
        }
        if parked {
            self.kept.remove(slot.and_then(|slot| slot.record).as_ref());
            self.places.take(lane.partition.number);
            return vec![Change::Release { lane: Arc::clone(lane), seat }];
        }
        self.held.remove(slot.and_then(|slot| slot.record).as_ref());
        if let (Some(reading), Seat::Record(offset)) = (self.readings.get_mut(&lane.partition), seat) {
            reading.finish(offset);
        }
        Vec::new()
    }

    /// Tries under way, strays included.
    pub(super) fn in_flight(&self) -> usize {
        self.busy.len()
    }

    /// Tries that ended and are in no commit yet.
    pub(super) fn resting(&self) -> usize {
        self.resting.len()
    }

    /// Tries under way and those whose end is not committed: what a crash repeats at most.
    pub(super) fn unsettled(&self) -> usize {
        self.busy.len() + self.resting.len() + self.sealed.len()
    }

    /// Whether something waits for the next commit that could go on at once.
    pub(super) fn wants_commit(&self, now: Instant) -> bool {
        self.stalled || self.wake.is_some_and(|wake| wake <= now)
    }

    /// Puts everything until now into a commit, which ends with [`Plan::committed`] or [`Plan::lost`]; one at a time.
    /// Says what is to be committed of the partitions' progress. Where `handing_over`, nothing will be sent any more.
    pub(super) fn seal(&mut self, handing_over: bool) -> Vec<Position> {
        self.sealed.extend(self.resting.drain(..));
        self.wake = None;
        self.places.seal();
        let ahead = i64::try_from(self.limits.read_ahead.records).unwrap_or(i64::MAX);
        let busy = &self.busy;
        self.readings
            .iter_mut()
            .filter_map(|(partition, reading)| {
                let idle = handing_over && !busy.keys().any(|lane| lane.partition == *partition);
                reading.position(partition, ahead, idle)
            })
            .collect()
    }

    /// Next offsets to read after a crash, of every partition. Also those that did not move: they bind a transaction to
    /// our membership.
    pub(super) fn positions(&self) -> Vec<(Partition, i64)> {
        self.readings.iter().map(|(partition, reading)| (partition.clone(), reading.next())).collect()
    }

    /// What was sealed is committed.
    pub(super) fn committed(&mut self, now: Instant) {
        self.stalled = false;
        self.places.committed();
        for reading in self.readings.values_mut() {
            reading.committed();
        }
        for lane in std::mem::take(&mut self.sealed) {
            self.enqueue(lane, now);
        }
    }

    /// Whether as many records are held as may be.
    pub(super) fn is_full(&self) -> bool {
        self.held.reaches(self.limits.read_ahead)
    }

    /// Whether so few are held that reading should go on: half, so that a pause is worth its cost.
    pub(super) fn is_low(&self) -> bool {
        !self.held.exceeds(self.limits.read_ahead.half())
    }

    /// When the oldest open record was recorded.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.readings.values().filter_map(Reading::oldest).min()
    }

    /// When the oldest open record of each partition was recorded, where one is open.
    pub(super) fn oldest_of_each(&self) -> impl Iterator<Item = (&Partition, Timestamp)> {
        self.readings.iter().filter_map(|(partition, reading)| Some((partition, reading.oldest()?)))
    }

    /// Keys whose records wait in `parked`.
    pub(super) const fn parked(&self) -> usize {
        self.parked
    }

    /// Parked records whose contents are in memory.
    #[cfg(test)]
    pub(super) const fn kept(&self) -> usize {
        self.kept.records
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
