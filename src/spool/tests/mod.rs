//! The spool on a disk that forgets and fails, and on files damaged in every place.

mod histories;
mod lossy;
mod recovery;
mod threads;

use std::sync::Arc;

use super::disk::Disk;
use super::folder::take_stock;
use super::ledger::{Ledger, Position};
use super::log::{Bounds, Log};
use super::reader::Reader;

/// Small, so that little makes many segments and windows.
const BOUNDS: Bounds = Bounds { max_size: 1 << 30, segment_size: 64 * 1024, ahead: 8 * 1024 };

/// A spool without its thread: the same parts, called one after the other.
struct Parts {
    log: Log,
    reader: Reader,
    ledger: Arc<Ledger>,
}

fn open(disk: &Arc<dyn Disk>, bounds: Bounds) -> std::io::Result<Parts> {
    let ledger = Arc::new(Ledger::default());
    let next = take_stock(disk, &ledger, true)?;
    let log = Log::new(Arc::clone(disk), Arc::clone(&ledger), bounds, next).unwrap();
    let reader = Reader::new(Arc::clone(disk), Arc::clone(&ledger), false);
    Ok(Parts { log, reader, ledger })
}

/// A payload that says which it is.
fn payload(id: u64, bytes: usize) -> Vec<u8> {
    // In the place of the time at which an event was received.
    let mut payload = id.to_le_bytes().to_vec();
    payload.resize(bytes.max(8), u8::try_from(id % 251).unwrap());
    payload
}

fn id(payload: &[u8]) -> u64 {
    u64::from_le_bytes(payload[..8].try_into().unwrap())
}

impl Parts {
    /// Everything that is not acknowledged, from the beginning.
    fn all(&mut self) -> Vec<(Position, Vec<u8>)> {
        self.reader.rewind();
        let mut all = Vec::new();
        while let Some(batch) = self.reader.next_batch().unwrap() {
            all.extend(batch.payloads());
        }
        all
    }
}
