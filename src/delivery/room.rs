//! Redeliveries that were read and wait for their turn: behind live records, and no faster than their replay may go.
//! Pure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::bucket::Bucket;
use super::lane::Lane;
use crate::kafka::group::Partition;

/// Most redeliveries that wait in memory: some seconds' worth of a usual replay.
const MOST: usize = 100;

/// A redelivery.
#[derive(Debug)]
pub(super) struct Asked<R> {
    /// The lane of its record.
    pub(super) lane: Lane,
    /// The partition of `redeliver` that it stands in.
    pub(super) from: Partition,
    /// Its offset there.
    pub(super) offset: i64,
    /// The record.
    pub(super) record: Arc<R>,
    /// When the last try before the replay began, at the latest.
    pub(super) tried: Instant,
    /// Time until the next of its replay may follow, in all instances together; zero for none.
    pub(super) interval: Duration,
}

/// What waits, in the order in which it was read.
#[derive(Debug)]
pub(super) struct Room<R> {
    most: usize,
    waiting: VecDeque<Asked<R>>,
    bucket: Bucket,
    /// Partitions owned, of all: the share of a replay's rate that is ours.
    share: (usize, usize),
}

impl<R> Room<R> {
    /// An empty room beside a plan that holds this many records.
    pub(super) fn new(read_ahead: usize) -> Self {
        Self {
            most: (read_ahead / 8).clamp(1, MOST),
            waiting: VecDeque::new(),
            bucket: Bucket::default(),
            share: (1, 1),
        }
    }

    /// Takes the share of rates that goes with `owned` of `all` partitions.
    pub(super) const fn owns(&mut self, owned: usize, all: usize) {
        self.share = (owned, all);
    }

    /// Forgets what waits; how fast it went stays.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Takes one more.
    pub(super) fn push(&mut self, asked: Asked<R>) {
        self.waiting.push_back(asked);
    }

    /// Whether as many wait as may.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= self.most
    }

    /// Whether so few wait that reading should go on.
    pub(super) fn is_low(&self) -> bool {
        self.waiting.len() <= self.most / 2
    }

    /// The next one whose time has come and whose lane is not `taken`; those of one lane in their order.
    pub(super) fn next(&mut self, taken: impl Fn(&Lane) -> bool, now: Instant) -> Option<Asked<R>> {
        let index = self.waiting.iter().position(|asked| !taken(&asked.lane))?;
        let interval = self.waiting.get(index)?.interval;
        self.bucket.pace(interval, self.share.0, self.share.1);
        if !self.bucket.allows(now) {
            return None;
        }
        self.bucket.take(now);
        self.waiting.remove(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(key: u8, offset: i64, interval: u64) -> Asked<u8> {
        let partition = |topic: &str| Partition { topic: topic.to_owned(), number: 0 };
        Asked {
            lane: Lane { partition: partition("invoices"), key: vec![key] },
            from: partition("redeliver.erp"),
            offset,
            record: Arc::new(key),
            tried: Instant::now(),
            interval: Duration::from_millis(interval),
        }
    }

    #[test]
    fn a_replay_goes_no_faster_than_it_may() {
        for (owned, all, interval, wanted) in [(1, 1, 100, 100), (1, 4, 100, 25), (4, 4, 500, 20), (1, 1, 5_000, 2)] {
            let (t0, mut sent) = (Instant::now(), 0);
            let mut room = Room::new(10_000);
            room.owns(owned, all);
            for ms in 0..10_000 {
                room.push(asked(1, ms, interval));
                let now = t0 + Duration::from_millis(u64::try_from(ms).unwrap());
                while room.next(|_| false, now).is_some() {
                    sent += 1;
                }
                room.waiting.truncate(1);
            }
            // A second's worth may come at once.
            let most = wanted + (wanted / 10).max(1);
            assert!((wanted..=most).contains(&sent), "{sent} of {wanted} in 10 s");
        }
    }

    #[test]
    fn a_taken_lane_is_passed_by_and_keeps_its_order() {
        let now = Instant::now();
        let mut room = Room::new(10_000);
        for (key, offset) in [(1, 0), (1, 1), (2, 2), (1, 3), (3, 4)] {
            room.push(asked(key, offset, 0));
        }
        let mut next = |taken: &[u8]| room.next(|lane| taken.contains(&lane.key[0]), now).map(|asked| asked.offset);
        assert_eq!([next(&[1]), next(&[1]), next(&[1])], [Some(2), Some(4), None]);
        assert_eq!([next(&[]), next(&[]), next(&[]), next(&[])], [Some(0), Some(1), Some(3), None]);
    }

    #[test]
    fn reading_stops_when_it_is_full_and_goes_on_when_half_are_gone() {
        let now = Instant::now();
        let mut room = Room::new(64);
        assert!(room.is_low() && !room.is_full());
        for offset in 0..8 {
            room.push(asked(1, offset, 0));
        }
        assert!(room.is_full() && !room.is_low());
        for _ in 0..4 {
            assert!(!room.is_low() && room.next(|_| false, now).is_some());
        }
        assert!(room.is_low());
        room.clear();
        assert!(room.next(|_| false, now).is_none());
    }
}
