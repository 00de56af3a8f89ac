//! Which record goes next: the core of delivery, pure, with time as a parameter.
//!
//! A lane is one key of one partition. Its records stand in a queue; only the head is tried, one try at a time, and a
//! head that failed holds its own lane alone. Positions move over what is finished without a gap; what is unfinished
//! is all that is remembered, so memory is bounded by the read-ahead.
//!
//! Each gain of partitions starts an epoch. A try of an earlier epoch that is still under way is a stray: its result
//! counts for nothing, since the record is read again, but its lane waits for it, since two tries of one key at once
//! could arrive in the wrong order.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::window::Window;
use crate::event::Timestamp;
use crate::kafka::group::Partition;

/// One key of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Lane {
    /// The partition.
    pub(super) partition: Partition,
    /// The records' Kafka key.
    pub(super) key: Vec<u8>,
}

/// Says which try a result belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    epoch: u64,
    /// Its lane.
    pub(super) lane: Arc<Lane>,
    /// Offset of its record.
    pub(super) offset: i64,
}

/// A try to be made.
#[derive(Debug)]
pub(super) struct Try<R> {
    /// To be handed back with the result.
    pub(super) ticket: Ticket,
    /// The record.
    pub(super) record: Arc<R>,
    /// Number of the try, from 1.
    pub(super) n: u32,
}

/// What is known of a record under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Number of the try, from 1.
    pub(super) n: u32,
    /// Earlier tries that failed for the record's own sake.
    pub(super) failures: u32,
    /// Time since its first try, without that in which the target as a whole was in trouble.
    pub(super) spent: Duration,
}

/// What becomes of a record after a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// It is finished, delivered or given up.
    Finish,
    /// It failed, and is due again at this time.
    At(Instant),
    /// The try says nothing of the record: again as soon as the target may be tried.
    Again,
}

/// Records under way to one target.
#[derive(Debug)]
pub(super) struct Plan<R> {
    max_in_flight: usize,
    read_ahead: usize,
    epoch: u64,
    turn: u64,
    partitions: BTreeMap<Partition, Reading>,
    lanes: HashMap<Arc<Lane>, Queue<R>>,
    /// Lanes whose head may be tried at once.
    ready: VecDeque<Arc<Lane>>,
    /// Lanes whose head waits, by time; the turn keeps equal times apart.
    due: BTreeMap<(Instant, u64), Arc<Lane>>,
    /// Lanes with a try under way, strays included.
    busy: HashMap<Arc<Lane>, u64>,
    held: usize,
    /// Whether the target as a whole may be tried.
    pub(super) window: Window,
}

#[derive(Debug, Default)]
struct Reading {
    /// Unfinished records: offset and when they were recorded.
    open: BTreeMap<i64, Timestamp>,
    /// Offset behind the last record read.
    end: Option<i64>,
}

#[derive(Debug)]
struct Queue<R> {
    records: VecDeque<(i64, Arc<R>)>,
    tries: u32,
    failures: u32,
    first: Option<FirstTry>,
}

#[derive(Clone, Copy, Debug)]
struct FirstTry {
    at: Instant,
    /// The window's clock at that time.
    waited: Duration,
}

impl<R> Queue<R> {
    const fn new() -> Self {
        Self { records: VecDeque::new(), tries: 0, failures: 0, first: None }
    }
}

impl<R> Plan<R> {
    /// An empty plan that has at most `max_in_flight` tries under way and holds about `read_ahead` records.
    pub(super) fn new(max_in_flight: usize, read_ahead: usize) -> Self {
        Self {
            max_in_flight,
            read_ahead,
            epoch: 0,
            turn: 0,
            partitions: BTreeMap::new(),
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            due: BTreeMap::new(),
            busy: HashMap::new(),
            held: 0,
            window: Window::default(),
        }
    }

    /// Forgets every record: the partitions are someone else's, or are read again from their committed offsets.
    pub(super) fn lost(&mut self) {
        self.epoch += 1;
        self.partitions.clear();
        self.lanes.clear();
        self.ready.clear();
        self.due.clear();
        self.held = 0;
    }

    /// Takes a record that was read. Offsets of a partition come in order; one that came before is left out.
    pub(super) fn read(&mut self, lane: Lane, offset: i64, recorded: Timestamp, record: R) {
        let Some(reading) = self.advance(&lane.partition, offset) else { return };
        reading.open.insert(offset, recorded);
        self.held += 1;
        if let Some(queue) = self.lanes.get_mut(&lane) {
            queue.records.push_back((offset, Arc::new(record)));
            return;
        }
        let lane = Arc::new(lane);
        let mut queue = Queue::new();
        queue.records.push_back((offset, Arc::new(record)));
        self.lanes.insert(Arc::clone(&lane), queue);
        if !self.busy.contains_key(&lane) {
            self.ready.push_back(lane);
        }
    }

    /// Notes a record that needs no try: it is finished as it is read.
    pub(super) fn pass(&mut self, partition: &Partition, offset: i64) {
        self.advance(partition, offset);
    }

    fn advance(&mut self, partition: &Partition, offset: i64) -> Option<&mut Reading> {
        if !self.partitions.contains_key(partition) {
            self.partitions.insert(partition.clone(), Reading::default());
        }
        let reading = self.partitions.get_mut(partition)?;
        if reading.end.is_some_and(|end| offset < end) {
            return None;
        }
        reading.end = Some(offset + 1);
        Some(reading)
    }

    /// The next try to make now, if any.
    pub(super) fn next(&mut self, now: Instant) -> Option<Try<R>> {
        if self.busy.len() >= self.window.limit(self.max_in_flight, now) {
            return None;
        }
        while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= now) {
            self.ready.push_back(entry.remove());
        }
        let lane = self.ready.pop_front()?;
        // A lane is either ready, due or busy, and never without records.
        let queue = self.lanes.get_mut(&lane)?;
        let (offset, record) = queue.records.front().cloned()?;
        queue.tries = queue.tries.saturating_add(1);
        queue.first.get_or_insert(FirstTry { at: now, waited: self.window.waited(now) });
        let n = queue.tries;
        self.busy.insert(Arc::clone(&lane), self.epoch);
        Some(Try { ticket: Ticket { epoch: self.epoch, lane, offset }, record, n })
    }

    /// What is known of the record of this try; none where the try is a stray.
    pub(super) fn head(&self, ticket: &Ticket, now: Instant) -> Option<Head> {
        let queue = self.lanes.get(&ticket.lane).filter(|_| ticket.epoch == self.epoch)?;
        let first = queue.first?;
        let waited = self.window.waited(now).saturating_sub(first.waited);
        let spent = now.saturating_duration_since(first.at).saturating_sub(waited);
        Some(Head { n: queue.tries, failures: queue.failures, spent })
    }

    /// Takes the end of a try. Every try must end here once, strays too.
    pub(super) fn settle(&mut self, ticket: &Ticket, then: Then) {
        self.busy.remove(&ticket.lane);
        let Some(queue) = self.lanes.get_mut(&ticket.lane) else { return };
        let lane = Arc::clone(&ticket.lane);
        if ticket.epoch != self.epoch {
            // The lane was read again behind the stray's back and had to wait for it.
            self.ready.push_back(lane);
            return;
        }
        match then {
            Then::Again => self.ready.push_front(lane),
            Then::At(time) => {
                queue.failures = queue.failures.saturating_add(1);
                self.turn += 1;
                self.due.insert((time, self.turn), lane);
            }
            Then::Finish => {
                queue.records.pop_front();
                (queue.tries, queue.failures, queue.first) = (0, 0, None);
                if queue.records.is_empty() {
                    self.lanes.remove(&lane);
                } else {
                    self.ready.push_back(lane);
                }
                self.held -= 1;
                if let Some(reading) = self.partitions.get_mut(&ticket.lane.partition) {
                    reading.open.remove(&ticket.offset);
                }
            }
        }
    }

    /// Tries under way, strays included.
    pub(super) fn in_flight(&self) -> usize {
        self.busy.len()
    }

    /// Whether as many records are held as may be.
    pub(super) fn is_full(&self) -> bool {
        self.held >= self.read_ahead
    }

    /// Whether so few are held that reading should go on: half, so that a pause is worth its cost.
    pub(super) fn is_low(&self) -> bool {
        self.held <= self.read_ahead / 2
    }

    /// Next offsets to read after a crash, of every partition read so far: the offset of the first unfinished record,
    /// or behind the last one read. Also those that did not move: they bind a transaction to our membership.
    pub(super) fn positions(&self) -> Vec<(Partition, i64)> {
        self.partitions
            .iter()
            .filter_map(|(partition, reading)| {
                let next = reading.open.first_key_value().map(|(offset, _)| *offset).or(reading.end)?;
                Some((partition.clone(), next))
            })
            .collect()
    }

    /// When the oldest unfinished record was recorded, by the partitions' first ones.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.partitions.values().filter_map(|reading| reading.open.first_key_value().map(|(_, time)| *time)).min()
    }

    /// Lanes whose head failed and waits for its next try.
    pub(super) fn parked(&self) -> usize {
        self.due.len()
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
