//! Histories of appends, drains, failures and crashes by seed: no acknowledged entry is ever missing, and order is kept.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::lossy::Lossy;
use super::{BOUNDS, Parts, id, open, payload};
use crate::event::Timestamp;
use crate::spool::ledger::Position;
use crate::spool::log::Bounds;

/// What is known outside of the spool.
#[derive(Default)]
struct Oracle {
    next: u64,
    /// Entries answered as durable, not drained since: id and size.
    owed: BTreeMap<u64, usize>,
    /// Every entry ever given, whatever was answered.
    given: BTreeMap<u64, usize>,
    acknowledged: u64,
    refused: u64,
}

impl Oracle {
    fn append(&mut self, parts: &mut Parts, rng: &mut StdRng) {
        let group: Vec<(u64, usize)> = (0..rng.random_range(1..6_u64))
            .map(|n| (self.next + n, if rng.random_bool(0.05) { 20_000 } else { rng.random_range(8..900) }))
            .collect();
        self.next += group.len() as u64;
        self.given.extend(group.iter().copied());
        let payloads: Vec<Vec<u8>> = group.iter().map(|(id, bytes)| payload(*id, *bytes)).collect();
        match parts.log.commit(&payloads) {
            Ok(positions) => {
                assert_eq!(positions.len(), group.len());
                self.acknowledged += group.len() as u64;
                self.owed.extend(group);
            }
            Err(_) => self.refused += group.len() as u64,
        }
    }

    /// Sends some of what is there to where it is safe.
    fn drain(&mut self, parts: &mut Parts, rng: &mut StdRng) {
        let mut left = rng.random_range(0..60_u32);
        parts.reader.rewind();
        while let Some(batch) = parts.reader.next_batch().unwrap() {
            for (position, payload) in batch.payloads() {
                if left == 0 {
                    return;
                }
                left -= 1;
                self.owed.remove(&id(&payload));
                parts.ledger.lock().acknowledged(position, Timestamp::default());
            }
            parts.log.tidy(rng.random());
        }
    }

    fn check(&self, found: &[(Position, Vec<u8>)], when: &str) {
        let ids: Vec<u64> = found.iter().map(|(_, payload)| id(payload)).collect();
        assert!(ids.is_sorted_by(|a, b| a < b), "{when}: order is kept: {ids:?}");
        for (_, payload) in found {
            assert_eq!(self.given.get(&id(payload)), Some(&payload.len()), "{when}: {} was never given", id(payload));
            assert_eq!(*payload, super::payload(id(payload), payload.len()), "{when}");
        }
        let missing: Vec<_> = self.owed.keys().filter(|owed| ids.binary_search(owed).is_err()).collect();
        assert!(missing.is_empty(), "{when}: acknowledged and missing: {missing:?}");
    }
}

/// One life of a spool: sessions, each ended by a crash.
fn history(seed: u64) -> Oracle {
    let mut rng = StdRng::seed_from_u64(seed);
    let disk = Lossy::new(seed ^ 0x5eed);
    let mut oracle = Oracle::default();
    let bounds = Bounds { max_size: if rng.random_bool(0.2) { 300 * 1024 } else { 1 << 30 }, ..BOUNDS };
    for session in 0..rng.random_range(2..6) {
        let mut parts = open(&disk.arc(), bounds).unwrap();
        oracle.check(&parts.all(), &format!("start {session}"));
        let failures = if rng.random_bool(0.5) { rng.random_range(0.0..0.2) } else { 0.0 };
        disk.arm(failures, rng.random_range(1..120));
        while !disk.has_crashed() {
            match rng.random_range(0..12) {
                0 => oracle.drain(&mut parts, &mut rng),
                1 => parts.log.tidy(true),
                2 => drop(parts.log.probe()),
                _ => oracle.append(&mut parts, &mut rng),
            }
        }
        drop(parts);
        disk.crash();
    }
    let mut parts = open(&disk.arc(), bounds).unwrap();
    oracle.check(&parts.all(), "the end");
    // What is left can be drained whole: every segment goes or is set aside.
    parts.reader.rewind();
    while let Some(batch) = parts.reader.next_batch().unwrap() {
        for (position, _) in batch.payloads() {
            parts.ledger.lock().acknowledged(position, Timestamp::default());
        }
    }
    parts.log.tidy(true);
    assert!(disk.names().iter().all(|name| name.ends_with(".damaged")), "left: {:?}", disk.names());
    oracle
}

#[test]
fn a_thousand_histories_lose_nothing_acknowledged() {
    let (mut acknowledged, mut refused) = (0, 0);
    for seed in 0..1000 {
        let ended = std::panic::catch_unwind(|| history(seed));
        let oracle = ended.unwrap_or_else(|_| panic!("seed {seed}"));
        acknowledged += oracle.acknowledged;
        refused += oracle.refused;
    }
    println!("1000 histories: {acknowledged} entries acknowledged, {refused} refused, 0 missing");
    assert!(acknowledged > 100_000 && refused > 1_000, "too little happened: {acknowledged}, {refused}");
}
