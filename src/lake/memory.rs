//! The memory that all tables share for what was read and is not in files yet: counted when it is taken, so that
//! `lake.memory` is a bound and no hope.
//!
//! Records are copied one behind the other into slabs of one size. Pieces of their own, given back in the order of a
//! sorted file, would leave holes in every page of an allocator's heap, one heap for each table's thread; a slab is
//! given back whole, and the next one to need it may be another table.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Size of a slab where memory is plenty: hundreds of records, and little beside the whole for each of eight tables.
const MOST_SLAB: u64 = 1 << 20;
/// Size of a slab where memory is short.
const LEAST_SLAB: u64 = 64 << 10;
/// Slabs that the whole memory has at least, between these two.
const SLABS: u64 = 128;

/// What a table is to do before it reads one record more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advice {
    /// Go on.
    Read,
    /// Write what it has: memory is getting short, and nobody holds more.
    Write,
    /// Wait until another has written.
    Wait,
}

/// The memory of all tables of a process.
pub(super) struct Memory {
    limit: u64,
    slab: usize,
    /// Bytes by table, and of all.
    held: Vec<AtomicU64>,
    sum: AtomicU64,
    /// Slabs that nobody has.
    free: Mutex<Vec<Vec<u8>>>,
}

impl Memory {
    /// This many bytes for this many tables.
    pub(super) fn new(limit: u64, tables: usize) -> Arc<Self> {
        let slab = usize::try_from((limit / SLABS).clamp(LEAST_SLAB, MOST_SLAB)).unwrap_or(1 << 20);
        let held = (0..tables).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self { limit, slab, held, sum: AtomicU64::new(0), free: Mutex::default() })
    }

    /// What this table is to do next.
    pub(super) fn advice(&self, table: usize) -> Advice {
        // Asked before each record.
        if self.sum.load(Ordering::Acquire) < short(self.limit) {
            return Advice::Read;
        }
        let held: Vec<u64> = self.held.iter().map(|held| held.load(Ordering::Acquire)).collect();
        advise(self.limit, &held, table)
    }

    /// An empty holder for this table's records.
    pub(super) const fn slabs(self: Arc<Self>, table: usize) -> Slabs {
        Slabs { memory: self, table, slabs: Vec::new(), held: 0 }
    }

    fn take(&self, bytes: usize) -> Vec<u8> {
        let free = || self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let slab = if bytes <= self.slab { free() } else { None };
        slab.unwrap_or_else(|| Vec::with_capacity(bytes.max(self.slab)))
    }

    fn give_back(&self, slabs: Vec<Vec<u8>>) {
        let held = self.sum.load(Ordering::Acquire);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.extend(slabs.into_iter().filter(|slab| slab.capacity() == self.slab).map(|mut slab| {
            slab.clear();
            slab
        }));
        // Given to the allocator they would stay with the threads that took them, and others take new ones meanwhile:
        // they are kept as long as anything is under way.
        free.truncate(if held == 0 { 0 } else { usize::try_from(self.limit).unwrap_or(usize::MAX) / self.slab });
    }

    fn count(&self, table: usize, bytes: u64) {
        if let Some(held) = self.held.get(table) {
            held.fetch_add(bytes, Ordering::AcqRel);
            self.sum.fetch_add(bytes, Ordering::AcqRel);
        }
    }

    fn discount(&self, table: usize, bytes: u64) {
        if let Some(held) = self.held.get(table) {
            held.fetch_sub(bytes, Ordering::AcqRel);
            self.sum.fetch_sub(bytes, Ordering::AcqRel);
        }
    }
}

/// Bytes held from which on memory is short.
const fn short(limit: u64) -> u64 {
    limit / 4 * 3
}

/// The one that holds most writes from three quarters on, while the others read on; at the limit they wait for it. One
/// at a time, the largest: that makes the fewest files, and somebody always is the largest, so nobody waits for ever.
fn advise(limit: u64, held: &[u64], table: usize) -> Advice {
    let sum: u64 = held.iter().sum();
    let own = held.get(table).copied().unwrap_or_default();
    let largest = held.iter().enumerate().max_by_key(|(at, bytes)| (**bytes, std::cmp::Reverse(*at)));
    if sum >= short(limit) && own > 0 && largest.is_some_and(|(at, _)| at == table) {
        Advice::Write
    } else if sum >= limit {
        Advice::Wait
    } else {
        Advice::Read
    }
}

/// Where a record lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    slab: u32,
    start: u32,
    len: u32,
}

impl Place {
    /// Bytes of the record.
    pub(super) const fn len(self) -> usize {
        self.len as usize
    }
}

/// Records of one table. What it holds is given back when it is dropped.
pub(super) struct Slabs {
    memory: Arc<Memory>,
    table: usize,
    slabs: Vec<Vec<u8>>,
    held: u64,
}

impl Slabs {
    /// Another holder for the same table, empty.
    pub(super) fn another(&self) -> Self {
        Arc::clone(&self.memory).slabs(self.table)
    }

    /// Takes a copy of a record in.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Place {
        let room = self.slabs.last().map_or(0, |slab| slab.capacity() - slab.len());
        if room < bytes.len() || self.slabs.is_empty() {
            let slab = self.memory.take(bytes.len());
            self.count(slab.capacity());
            self.slabs.push(slab);
        }
        // A slab is far below 4 GiB, as a record is, and so is their number.
        let of = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let number = of(self.slabs.len() - 1);
        let Some(slab) = self.slabs.last_mut() else { return Place::default() };
        let place = Place { slab: number, start: of(slab.len()), len: of(bytes.len()) };
        slab.extend_from_slice(bytes);
        place
    }

    /// Counts what is held of a record elsewhere.
    pub(super) fn count(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.held += bytes;
        self.memory.count(self.table, bytes);
    }

    /// The record of a place that this holder gave.
    pub(super) fn get(&self, place: Place) -> &[u8] {
        let slab = self.slabs.get(place.slab as usize);
        slab.and_then(|slab| slab.get(place.start as usize..)?.get(..place.len())).unwrap_or_default()
    }
}

impl Drop for Slabs {
    fn drop(&mut self) {
        self.memory.discount(self.table, self.held);
        self.memory.give_back(std::mem::take(&mut self.slabs));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_writes_and_the_others_wait_at_the_limit() {
        use Advice::{Read, Wait, Write};
        for (held, advice) in [
            ([0, 0, 0], [Read, Read, Read]),
            ([74, 0, 0], [Read, Read, Read]),
            ([40, 35, 0], [Write, Read, Read]),
            ([30, 35, 34], [Read, Write, Read]),
            ([30, 36, 34], [Wait, Write, Wait]),
            ([50, 50, 50], [Write, Wait, Wait]),
            ([0, 0, 400], [Wait, Wait, Write]),
        ] {
            assert_eq!([0, 1, 2].map(|table| advise(100, &held, table)), advice, "{held:?}");
        }
    }

    #[test]
    fn records_are_as_they_were_put_and_all_is_given_back() {
        let memory = Memory::new(16 << 20, 2);
        let mut slabs = Arc::clone(&memory).slabs(1);
        let record = |n: usize| vec![u8::try_from(n % 251).unwrap(); n * 1009 % 70_000];
        let places: Vec<Place> = (0..300).map(|n| slabs.put(&record(n))).collect();
        let large = slabs.put(&vec![7; 3 << 20]);
        let after = slabs.put(b"after");
        for (n, place) in places.iter().enumerate() {
            assert!(slabs.get(*place) == record(n), "record {n}");
        }
        assert_eq!((slabs.get(large).len(), slabs.get(after)), (3 << 20, &b"after"[..]));
        slabs.count(100);
        let held = |table: usize| memory.held[table].load(Ordering::Acquire);
        let capacity: usize = slabs.slabs.iter().map(Vec::capacity).sum();
        assert_eq!((held(0), held(1)), (0, u64::try_from(capacity).unwrap() + 100));
        let mut other = Arc::clone(&memory).slabs(0);
        other.put(&[1; 1000]);
        // All but the one that was too large.
        let whole = slabs.slabs.iter().filter(|slab| slab.capacity() == memory.slab).count();
        drop(slabs);
        assert_eq!((held(1), memory.free.lock().unwrap().len()), (0, whole), "they are kept for the next ones");
        other.put(&vec![2; memory.slab]);
        assert_eq!(memory.free.lock().unwrap().len(), whole - 1);
        drop(other);
        assert_eq!((held(0), memory.free.lock().unwrap().len()), (0, 0));
    }
}
