//! The dedupe state of partitions just gained, brought up to their true end on a thread per source, so that neither the
//! group nor other partitions wait for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Handle;

use super::error::Again;
use super::state::{Share, Store, StoreError};
use crate::event::Seen;
use crate::kafka::codec::{DecodeError, Decoder};
use crate::kafka::group::Incoming;
use crate::kafka::layout::Ground;
use crate::kafka::restore::{self, Read, RestoreError};
use crate::topics;

/// Longest time without a marker. The longest expected one is an open transaction's timeout.
const PATIENCE: Duration = Duration::from_secs(240);
/// Markers written to the store in one batch.
const BATCH: usize = 1000;

/// What a refill tells.
pub(super) enum Filled {
    /// This partition's state is complete.
    Share(Share),
    /// It cannot go on.
    Failed(Again),
}

/// A source's part: its store, and its partitions with the offset of each in `seen` to go on from.
pub(super) type Part = (Arc<Store>, BTreeMap<i32, Option<i64>>);

/// Threads that fill stores. They end with it.
pub(super) struct Refill {
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    heard: Receiver<Filled>,
}

impl Refill {
    /// Starts to fill the stores of these sources.
    pub(super) fn start(ground: &Arc<Ground>, runtime: &Handle, wanted: BTreeMap<String, Part>) -> Self {
        // Room for all that can be told: nobody ever waits to tell, so nobody who stops waits for them.
        let all = wanted.values().map(|(_, from)| from.len() + 2).sum();
        let (tell, heard) = sync_channel(all);
        let stop = Arc::new(AtomicBool::new(false));
        let threads = wanted
            .into_iter()
            .filter_map(|(source, (store, from))| {
                let job = Job {
                    topic: ground.cluster.topic(&topics::seen(&source)),
                    source,
                    store,
                    from,
                    decoder: ground.decoder(),
                    runtime: runtime.clone(),
                    tell: tell.clone(),
                };
                let (ground, stop) = (Arc::clone(ground), Arc::clone(&stop));
                let failed = tell.clone();
                let spawned = std::thread::Builder::new().name("router-refill".to_owned()).spawn(move || {
                    match job.run(&ground, &stop) {
                        Ok(markers) => tracing::debug!(source = job.source, markers, "dedupe state filled"),
                        // Nobody hears it any more where the partitions were given back.
                        Err(again) => drop(job.tell.send(Filled::Failed(again))),
                    }
                });
                spawned.map_err(|error| drop(failed.send(Filled::Failed(Again::Thread(error))))).ok()
            })
            .collect();
        Self { threads, stop, heard }
    }

    /// What there is to hear, without waiting.
    pub(super) fn hear(&self) -> Option<Filled> {
        self.heard.try_recv().ok()
    }
}

impl Drop for Refill {
    /// Returns when no thread writes to a store any more.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            // One that panicked has told nothing, and its partitions were never served.
            drop(thread.join());
        }
    }
}

/// One source's work.
struct Job {
    source: String,
    topic: String,
    store: Arc<Store>,
    from: BTreeMap<i32, Option<i64>>,
    decoder: Decoder,
    runtime: Handle,
    tell: SyncSender<Filled>,
}

/// Markers not written yet.
#[derive(Default)]
struct Pending {
    changes: Vec<(i32, String, Option<Seen>)>,
    positions: BTreeMap<i32, i64>,
}

impl Job {
    fn run(&self, ground: &Ground, stop: &AtomicBool) -> Result<u64, Again> {
        let mut pending = Pending::default();
        let mut fault = None;
        let failed = std::cell::Cell::new(false);
        let stops = || stop.load(Ordering::Acquire) || failed.get();
        let read = restore::read(&ground.cluster, &self.topic, &self.from, PATIENCE, &stops, |read| {
            if fault.is_none()
                && let Err(error) = self.take(read, &mut pending)
            {
                fault = Some(error);
                failed.set(true);
            }
        });
        match (fault, read) {
            (Some(error), _) => Err(error),
            (None, Err(RestoreError::EndsBefore { partition, end, from })) => Err(Again::Store(StoreError::Foreign {
                folder: self.store.folder().to_owned(),
                is: format!("offset {from} of {} partition {}", partition.topic, partition.number),
                should: format!("it ends at {end}: another topic under its name"),
            })),
            (None, read) => Ok(read?),
        }
    }

    fn take(&self, read: Read, pending: &mut Pending) -> Result<(), Again> {
        match read {
            Read::Record(marker) => {
                pending.positions.insert(marker.partition.number, marker.offset + 1);
                let change = self.change(marker)?;
                pending.changes.push(change);
                if pending.changes.len() >= BATCH { self.write(pending) } else { Ok(()) }
            }
            Read::Ended(partition, next) => {
                pending.positions.insert(partition, next);
                self.write(pending)?;
                drop(self.tell.send(Filled::Share(Share { source: self.source.clone(), partition })));
                Ok(())
            }
        }
    }

    fn change(&self, marker: Incoming) -> Result<(i32, String, Option<Seen>), Again> {
        let event_id = String::from_utf8_lossy(&marker.key.unwrap_or_default()).into_owned();
        let seen = match self.decoder.decode_blocking::<Seen>(&self.runtime, marker.value.as_deref()) {
            Ok(seen) => Some(seen),
            Err(DecodeError::Empty) => None,
            // A marker that cannot be read could be the one that stops a double: no serving without it.
            Err(error) => return Err(error.into()),
        };
        Ok((marker.partition.number, event_id, seen))
    }

    fn write(&self, pending: &mut Pending) -> Result<(), Again> {
        let Pending { changes, positions } = std::mem::take(pending);
        let changes = changes.iter().map(|(partition, id, seen)| (*partition, id.as_str(), seen.as_ref()));
        Ok(self.store.write(changes, positions)?)
    }
}
