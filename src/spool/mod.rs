//! A durable queue of events on disk, for as long as Kafka is away: what is answered with success survives the crash of
//! the process and of the machine.
//!
//! - **Append**: everything that waits is written in one piece and made durable with one `fdatasync`, then all who wait
//!   are answered. Entries need no registry: a segment carries its schema.
//! - **Read**: durable entries in the order of the log, acknowledged one by one. A segment is removed once all of it is
//!   acknowledged; one with damage is renamed to `*.damaged` instead, after everything readable in it was drained.
//! - **On failure** of a write or sync the entries of that group are refused and the segment is never written again;
//!   what was durable in it is drained. The next goes to a new segment, at most one try a second.
//! - **A crash** loses nothing that was answered. The next start takes entries at once, counts what is there in the
//!   background, skips exactly what is damaged, and sends at most one segment's entries again.
//! - One process owns a folder: it is locked.
//!
//! Crates looked at before writing it, for a log that is bounded, syncs before it answers, never syncs again after a
//! failed sync, reads on behind damage, and deletes by a consumer's progress:
//!
//! | crate | why not |
//! |---|---|
//! | `writeahead` 0.4 | the nearest: group commit, locked folder. After a failed sync it writes and syncs the same file on; recovery cuts at the first damaged record; its size bound deletes the oldest |
//! | `wal-db` 1.1 | a log to replay whole: a failed sync is tried again, no bound, opening cuts at damage by default |
//! | `okaywal` 0.3 | "do not use in any production projects"; unmaintained since 2023; made for checkpoints |
//! | `raft-engine` 0.4 | regions and compaction of a Raft log; panics where seeking back after a failed write fails |
//! | `walrus-rust` 0.2 | syncs on a schedule, in the background |
//! | `walogs` 0.1 | one sync for each entry |
//! | `yaque` 0.6, `commitlog` 0.2 | never sync |
//!
//! | file | idea |
//! |---|---|
//! | `format` | head and records, and a scan that reads on behind damage (pure) |
//! | `entry` | an envelope with its trace as bytes |
//! | `disk` | what is asked of a file system; tests put another one under it |
//! | `log` | groups made durable, segments opened, closed and removed |
//! | `writer` | its thread: everything that waits goes into one group |
//! | `waiting` | a bound on the bytes that wait for it |
//! | `reader` | durable entries in order, damage counted |
//! | `ledger`, `status` | what is known of every segment; the sum of it |
//! | `folder` | the lock, and what an earlier process left |
//! | `inspect` | what the bytes of a segment hold, for fuzzing |

mod disk;
mod entry;
mod error;
mod folder;
mod format;
mod inspect;
mod ledger;
mod log;
mod reader;
mod status;
#[cfg(test)]
mod tests;
mod waiting;
mod writer;

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{Notify, oneshot};

pub use entry::{Entry, EntryError};
pub use error::{OpenError, SpoolError};
pub use inspect::{InspectedRecord, Inspection, inspect};
pub use ledger::Position;
pub use reader::{Batch, Item, Reader};
pub use status::{SetAside, Status};

use crate::avro::Schema;
use crate::event::{Envelope, Timestamp};
use disk::{Disk, Folder};
use ledger::Ledger;
use log::{Bounds, Log};
use waiting::Waiting;
use writer::{Command, write};

/// Name of the schema of what is kept.
const SCHEMA: &str = "Envelope";
/// Entries that wait to be written; more are refused. Requests in flight are bounded before.
const QUEUE: usize = 4096;
/// Bytes that wait to be written; more are refused. Requests that gave up waiting for a slow disk have left theirs here.
const QUEUE_BYTES: usize = 32 * 1024 * 1024;
/// Zeros written ahead of the records.
const AHEAD: u64 = 1024 * 1024;

/// Where a spool is, and its bounds.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its folder, made where it is missing.
    pub folder: PathBuf,
    /// Most bytes that its segments take.
    pub max_size: u64,
    /// Bytes after which a segment is closed.
    pub segment_size: u64,
}

/// A spool that this process owns.
#[derive(Debug)]
pub struct Spool {
    queue: SyncSender<Command>,
    waiting: Waiting,
    disk: Arc<dyn Disk>,
    ledger: Arc<Ledger>,
    schema: Schema,
    appended: Notify,
    writer: Mutex<Option<JoinHandle<()>>>,
    _lock: File,
}

impl Spool {
    /// Takes the folder and begins to write. What an earlier process left is there for a [`Spool::reader`].
    ///
    /// # Errors
    /// When another process owns the folder, or it cannot be read.
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        let lock = folder::own(&options.folder)?;
        let disk: Arc<dyn Disk> = Arc::new(Folder(options.folder.clone()));
        let ledger = Arc::new(Ledger::default());
        let failed = |what| move |cause| OpenError::Io { what, folder: options.folder.clone(), cause };
        let next = folder::take_stock(&disk, &ledger, true).map_err(failed("look at its files"))?;
        let bounds = Bounds { max_size: options.max_size, segment_size: options.segment_size, ahead: AHEAD };
        let log = Log::new(Arc::clone(&disk), Arc::clone(&ledger), bounds, next).map_err(EntryError::from)?;
        let schema = Schema::ours(SCHEMA).map_err(EntryError::from)?;
        let (queue, commands) = sync_channel(QUEUE);
        let writer = std::thread::Builder::new()
            .name("spool-writer".to_owned())
            .spawn(move || write(log, &commands))
            .map_err(failed("start the writer"))?;
        let writer = Mutex::new(Some(writer));
        let waiting = Waiting::default();
        Ok(Self { queue, waiting, disk, ledger, schema, appended: Notify::new(), writer, _lock: lock })
    }

    /// Makes an event durable. Dropped before it is done, the event may be in the spool all the same.
    ///
    /// # Errors
    /// When it is not known to be durable.
    pub async fn append(&self, envelope: &Envelope, traceparent: &str) -> Result<Position, SpoolError> {
        let payload = entry::encode(&self.schema, envelope, traceparent);
        let payload = payload.map_err(|error| SpoolError::Encoding(error.to_string()))?;
        if payload.len() > format::MAX_PAYLOAD {
            return Err(SpoolError::TooLarge { bytes: payload.len() });
        }
        let claim = self.waiting.claim(payload.len(), QUEUE_BYTES).ok_or(SpoolError::Busy)?;
        let (done, answer) = oneshot::channel();
        self.queue.try_send(Command::Append { payload, done, claim }).map_err(|error| match error {
            TrySendError::Full(_) => SpoolError::Busy,
            TrySendError::Disconnected(_) => SpoolError::Closed,
        })?;
        let position = answer.await.map_err(|_| SpoolError::Closed)??;
        self.appended.notify_one();
        Ok(position)
    }

    /// Waits until something was appended since the last call.
    pub async fn appended(&self) {
        self.appended.notified().await;
    }

    /// A reader from the first event that is not acknowledged. There is to be one at a time.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.disk), Arc::clone(&self.ledger), false)
    }

    /// The event at this place is on Kafka. To be called in the order of the events of a segment.
    pub fn acknowledged(&self, position: Position, received_at: Timestamp) {
        if self.ledger.lock().acknowledged(position, received_at) {
            // A full queue tidies up by itself, later.
            let _ = self.queue.try_send(Command::Tidy);
        }
    }

    /// The event at this place cannot be drained whatever is waited for: its segment's file is kept for people once the
    /// others are. Otherwise as [`Spool::acknowledged`].
    pub fn set_aside(&self, position: Position, received_at: Timestamp, reason: &str) {
        tracing::error!(segment = position.segment, sequence = position.sequence, reason, "an event cannot be drained");
        let mut known = self.ledger.lock();
        if let Some(segment) = known.segments.get_mut(&position.segment) {
            segment.keep.get_or_insert_with(|| format!("event {}: {reason}", position.sequence));
            // Read again after a failure: counted once.
            let is_new = position.sequence >= segment.acknowledged;
            known.undrainable += u64::from(is_new);
        }
        drop(known);
        self.acknowledged(position, received_at);
    }

    /// What it holds.
    #[must_use]
    pub fn status(&self) -> Status {
        self.ledger.lock().status()
    }

    /// Stops writing, removes what is drained and gives the folder free. Blocks.
    pub fn close(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // An error means that the writer is gone already.
            let _ = self.queue.send(Command::End);
            if writer.join().is_err() {
                tracing::error!("the spool's writer panicked");
            }
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.close();
    }
}

/// What a folder holds, without owning it; and whether a process does. Beside a running receiver it counts what that
/// has drained of segments not yet removed, also where one starts meanwhile. Blocks.
///
/// # Errors
/// When the folder cannot be read.
pub fn look(folder: &Path) -> Result<(Status, bool), OpenError> {
    match look_once(folder) {
        // A receiver has started meanwhile, and drained what was there.
        Err(OpenError::Io { cause, .. }) if cause.kind() == ErrorKind::NotFound => look_once(folder),
        looked => looked,
    }
}

fn look_once(folder: &Path) -> Result<(Status, bool), OpenError> {
    let failed = |what| move |cause| OpenError::Io { what, folder: folder.to_owned(), cause };
    let lock = File::open(folder).map_err(failed("open the folder"))?;
    let is_used = lock.try_lock_shared().is_err();
    // Counting takes a while, in which a receiver that starts must find the folder free.
    drop(lock);
    let disk: Arc<dyn Disk> = Arc::new(Folder(folder.to_owned()));
    let ledger = Arc::new(Ledger::default());
    folder::take_stock(&disk, &ledger, false).map_err(failed("look at its files"))?;
    Reader::new(disk, Arc::clone(&ledger), is_used).survey().map_err(failed("read a segment"))?;
    let status = ledger.lock().status();
    Ok((status, is_used))
}
