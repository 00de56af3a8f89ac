//! Histories of appends, drains, failures and crashes by seed: no acknowledged entry is ever missing, and order is kept.
//! Starts fail and crash too, at every step that they take.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::lossy::Lossy;
use super::{BOUNDS, Parts, id, open, payload};
use crate::event::Timestamp;
use crate::spool::disk::{Disk, Output};
use crate::spool::format::PAGE;
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
    /// Starts on a disk that failed or stopped, and how many of them were said to have failed.
    troubled: u64,
    failed: u64,
}

/// A disk whose reads fail too, or on which the machine stops while it is read.
#[derive(Debug)]
struct Unreadable {
    disk: Lossy,
    state: Mutex<Reads>,
}

#[derive(Debug)]
struct Reads {
    rng: StdRng,
    /// Chance of a failure of each.
    failures: f64,
    /// Reads until the machine stops.
    left: u64,
}

impl Unreadable {
    fn reads(&self) -> MutexGuard<'_, Reads> {
        self.state.lock().unwrap()
    }

    /// One read: the machine may stop, and where it `may_fail` the disk may.
    fn step(&self, may_fail: bool) -> io::Result<()> {
        self.goes_on()?;
        let mut reads = self.reads();
        reads.left -= 1;
        let chance = if may_fail { reads.failures } else { 0.0 };
        if reads.rng.random_bool(chance) {
            // EIO as Linux numbers it; or the file ended before its length, which no reader takes for the whole.
            let short = io::ErrorKind::UnexpectedEof.into();
            return Err(if reads.rng.random() { io::Error::from_raw_os_error(5) } else { short });
        }
        Ok(())
    }

    fn goes_on(&self) -> io::Result<()> {
        let has_stopped = self.reads().left == 0 || self.disk.has_crashed();
        if has_stopped { Err(io::Error::other("the machine has stopped")) } else { Ok(()) }
    }
}

impl Disk for Unreadable {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        self.step(true)?;
        self.disk.list()
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Output>> {
        self.goes_on()?;
        self.disk.create(name)
    }

    fn read(&self, name: &str, from: u64, to: u64) -> io::Result<Vec<u8>> {
        self.step(true)?;
        self.disk.read(name, from, to)
    }

    fn salvage(&self, name: &str, from: u64, to: u64) -> io::Result<Vec<u8>> {
        let mut bytes = self.disk.read(name, from, to)?;
        for page in bytes.chunks_mut(PAGE) {
            if self.step(true).is_err() {
                page.fill(0);
            }
        }
        Ok(bytes)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.goes_on()?;
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.goes_on()?;
        self.disk.remove(name)
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.goes_on()?;
        self.disk.sync_folder()
    }
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

    /// A start that the disk or the machine may not let come to its end. Whatever comes of it, the next one shows that
    /// nothing is lost.
    fn start_in_trouble(&mut self, disk: &Lossy, bounds: Bounds, rng: &mut StdRng) {
        let failures = rng.random_range(0.0..0.4);
        let left = if rng.random() { rng.random_range(1..12) } else { u64::MAX };
        disk.arm(failures, if rng.random() { rng.random_range(0..4) } else { u64::MAX });
        let state = Mutex::new(Reads { rng: StdRng::seed_from_u64(rng.random()), failures, left });
        let unreadable: Arc<dyn Disk> = Arc::new(Unreadable { disk: disk.clone(), state });
        self.troubled += 1;
        let recovered = open(&unreadable, bounds).and_then(|mut parts| parts.reader.survey());
        self.failed += u64::from(recovered.is_err());
        disk.crash();
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
        if rng.random_bool(0.4) {
            oracle.start_in_trouble(&disk, bounds, &mut rng);
        }
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
    let (mut acknowledged, mut refused, mut troubled, mut failed) = (0, 0, 0, 0);
    for seed in 0..1000 {
        let ended = std::panic::catch_unwind(|| history(seed));
        let oracle = ended.unwrap_or_else(|_| panic!("seed {seed}"));
        acknowledged += oracle.acknowledged;
        refused += oracle.refused;
        troubled += oracle.troubled;
        failed += oracle.failed;
    }
    println!("1000 histories: {acknowledged} entries acknowledged, {refused} refused, 0 missing");
    println!("{troubled} starts in trouble, {failed} of them failed");
    assert!(acknowledged > 100_000 && refused > 1_000, "too little happened: {acknowledged}, {refused}");
    assert!(failed > 300 && troubled - failed > 300, "too little happened: {troubled}, {failed}");
}
