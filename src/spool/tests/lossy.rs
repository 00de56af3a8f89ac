//! A disk in memory that keeps after a crash what was synced, and of the rest whatever chance leaves: whole pages, parts
//! of pages, in any order. It fails when it is told to.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::spool::disk::{Disk, Output};
use crate::spool::format::PAGE;

type Writes = Vec<(usize, Vec<u8>)>;

#[derive(Clone, Debug, Default)]
struct Content {
    /// What a crash leaves.
    durable: Vec<u8>,
    /// What a reader sees.
    seen: Vec<u8>,
    /// Written since the last sync.
    pending: Writes,
    /// Written before a sync that failed: clean in the kernel's eyes, and never written to the disk by another sync.
    forgotten: Writes,
}

#[derive(Debug)]
struct State {
    rng: StdRng,
    files: Vec<Content>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Operations until the machine stops.
    left: u64,
    /// Chance of a failure of each operation that writes.
    failures: f64,
    crashed: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Lossy(Arc<Mutex<State>>);

#[derive(Debug)]
struct LossyFile {
    disk: Lossy,
    file: usize,
}

impl Lossy {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: StdRng::seed_from_u64(seed),
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            left: u64::MAX,
            failures: 0.0,
            crashed: false,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(super) fn arc(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// From now on operations fail with this chance, and after so many more the machine stops.
    pub(super) fn arm(&self, failures: f64, operations: u64) {
        let mut state = self.state();
        (state.failures, state.left) = (failures, operations);
    }

    pub(super) fn has_crashed(&self) -> bool {
        self.state().crashed
    }

    /// The machine starts again: what is left.
    pub(super) fn crash(&self) {
        let state = &mut *self.state();
        let rng = &mut state.rng;
        for content in &mut state.files {
            for (at, bytes) in content.forgotten.drain(..).chain(content.pending.drain(..)) {
                for (n, page) in bytes.chunks(PAGE).enumerate() {
                    let at = at + n * PAGE;
                    // Lost, whole, or torn at any byte, either end of it.
                    let range = match rng.random_range(0..4) {
                        0 | 1 => continue,
                        2 => 0..page.len(),
                        _ if rng.random() => 0..rng.random_range(0..page.len()),
                        _ => rng.random_range(0..page.len())..page.len(),
                    };
                    put(&mut content.durable, at + range.start, &page[range]);
                }
            }
            content.seen = content.durable.clone();
        }
        // Each change of a name since the folder's last sync happened or did not.
        let all: BTreeSet<String> = state.names.keys().chain(state.durable_names.keys()).cloned().collect();
        for name in all {
            let (now, before) = (state.names.get(&name).copied(), state.durable_names.get(&name).copied());
            let kept = if rng.random() { now } else { before };
            match kept {
                Some(file) => drop(state.durable_names.insert(name.clone(), file)),
                None => drop(state.durable_names.remove(&name)),
            }
            state.names.remove(&name);
        }
        state.names = state.durable_names.clone();
        (state.crashed, state.left, state.failures) = (false, u64::MAX, 0.0);
    }

    /// Changes a file's bytes behind everybody's back.
    pub(super) fn tamper(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let state = &mut *self.state();
        let content = &mut state.files[state.names[name]];
        change(&mut content.durable);
        content.seen = content.durable.clone();
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.state().names.keys().cloned().collect()
    }

    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        state.files[state.names[name]].seen.clone()
    }

    /// A file made by someone else.
    pub(super) fn foreign(&self, name: &str, bytes: &[u8]) {
        let mut state = self.state();
        state.files.push(Content { durable: bytes.to_vec(), seen: bytes.to_vec(), ..Content::default() });
        let file = state.files.len() - 1;
        state.names.insert(name.to_owned(), file);
        state.durable_names.insert(name.to_owned(), file);
    }
}

fn put(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
    if bytes.len() < at + new.len() {
        bytes.resize(at + new.len(), 0);
    }
    bytes[at..at + new.len()].copy_from_slice(new);
}

impl State {
    /// One operation: the machine may stop, and where it `may_fail` the disk may.
    fn step(&mut self, may_fail: bool) -> io::Result<()> {
        if self.left == 0 || self.crashed {
            self.crashed = true;
            return Err(io::Error::other("the machine has stopped"));
        }
        self.left -= 1;
        if may_fail && self.failures > 0.0 && self.rng.random_bool(self.failures) {
            // EIO or ENOSPC, as Linux numbers them.
            return Err(io::Error::from_raw_os_error(if self.rng.random() { 5 } else { 28 }));
        }
        Ok(())
    }
}

impl Disk for Lossy {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let state = self.state();
        Ok(state.names.iter().map(|(name, file)| (name.clone(), state.files[*file].seen.len() as u64)).collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Output>> {
        let mut state = self.state();
        state.step(true)?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.files.push(Content::default());
        let file = state.files.len() - 1;
        state.names.insert(name.to_owned(), file);
        Ok(Box::new(LossyFile { disk: self.clone(), file }))
    }

    fn read(&self, name: &str, from: u64, to: u64) -> io::Result<Vec<u8>> {
        let bytes = self.bytes(name);
        let (from, to) = (usize::try_from(from).unwrap(), usize::try_from(to).unwrap().min(bytes.len()));
        Ok(bytes.get(from..to).unwrap_or_default().to_vec())
    }

    fn salvage(&self, name: &str, from: u64, to: u64) -> io::Result<Vec<u8>> {
        self.read(name, from, to)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.step(true)?;
        let file = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.step(true)?;
        state.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        let mut state = self.state();
        state.step(true)?;
        state.durable_names = state.names.clone();
        Ok(())
    }
}

impl Output for LossyFile {
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let state = &mut *self.disk.state();
        let outcome = state.step(true);
        // A failed write may have written a part.
        let written = if outcome.is_ok() { bytes.len() } else { state.rng.random_range(0..=bytes.len()) };
        let at = usize::try_from(at).unwrap();
        let content = &mut state.files[self.file];
        put(&mut content.seen, at, &bytes[..written]);
        content.pending.push((at, bytes[..written].to_vec()));
        outcome
    }

    fn sync(&mut self) -> io::Result<()> {
        let state = &mut *self.disk.state();
        let outcome = state.step(true);
        let crashed = state.crashed;
        let content = &mut state.files[self.file];
        match outcome {
            Ok(()) => {
                for (at, bytes) in std::mem::take(&mut content.pending) {
                    put(&mut content.durable, at, &bytes);
                }
            }
            Err(_) if crashed => {}
            Err(_) => content.forgotten.append(&mut content.pending),
        }
        outcome
    }
}
