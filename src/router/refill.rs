//! The dedupe state of partitions just gained, brought up to their true end on threads of their own, so that neither the
//! group nor other partitions wait for it: one for a source, two where nothing is known yet and all is to be read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Handle;

use super::error::Again;
use super::state::{Filling, Framed, Marker, Share, Store, StoreError};
use crate::event::{Seen, Timestamp};
use crate::kafka::codec::{Decoder, Encoder};
use crate::kafka::group::Incoming;
use crate::kafka::layout::{Encoders, Ground};
use crate::kafka::restore::{self, Read, RestoreError};
use crate::topics;

/// Longest time without a marker. The longest expected one is an open transaction's timeout.
const PATIENCE: Duration = Duration::from_secs(240);

/// What a refill tells.
pub(super) enum Filled {
    /// This partition's state is complete.
    Share(Share),
    /// It cannot go on.
    Failed(Again),
    /// All threads have ended: there is nothing more to hear.
    Ended,
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
    pub(super) fn start(
        ground: &Arc<Ground>,
        encoders: &Encoders,
        runtime: &Handle,
        wanted: BTreeMap<String, Part>,
    ) -> Self {
        // Room for all that can be told: nobody ever waits to tell, so nobody who stops waits for them.
        let all = wanted.values().map(|(_, from)| from.len() + 4).sum();
        let (tell, heard) = sync_channel(all);
        let stop = Arc::new(AtomicBool::new(false));
        let threads = wanted
            .into_iter()
            .flat_map(|(source, (store, from))| {
                shared_out(from).map(move |from| (source.clone(), Arc::clone(&store), from))
            })
            .filter(|(_, _, from)| !from.is_empty())
            .filter_map(|(source, store, from)| {
                let topic = topics::seen(&source);
                let job = Job {
                    own: encoders.of(&topic).cloned(),
                    topic: ground.cluster.topic(&topic),
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
        match self.heard.try_recv() {
            Ok(filled) => Some(filled),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Filled::Ended),
        }
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

/// Partitions for two threads; all for the first where something of each is known.
fn shared_out(from: BTreeMap<i32, Option<i64>>) -> [BTreeMap<i32, Option<i64>>; 2] {
    if from.values().all(Option::is_some) {
        return [from, BTreeMap::new()];
    }
    let (even, odd) = from.into_iter().partition(|(number, _)| number % 2 == 0);
    [even, odd]
}

/// One thread's work.
struct Job {
    source: String,
    topic: String,
    /// Writes markers of the schema that the store keeps.
    own: Option<Encoder>,
    store: Arc<Store>,
    from: BTreeMap<i32, Option<i64>>,
    decoder: Decoder,
    runtime: Handle,
    tell: SyncSender<Filled>,
}

impl Job {
    fn run(&self, ground: &Ground, stop: &AtomicBool) -> Result<u64, Again> {
        let mut filling = Filling::default();
        let mut fault = None;
        let failed = std::cell::Cell::new(false);
        let stops = || stop.load(Ordering::Acquire) || failed.get();
        let read = restore::read(&ground.cluster, &self.topic, &self.from, PATIENCE, &stops, |read| {
            if fault.is_none()
                && let Err(error) = self.take(read, &mut filling)
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

    fn take(&self, read: Read, filling: &mut Filling) -> Result<(), Again> {
        match read {
            // Markers are deleted when nothing is taken for a double of theirs any more.
            Read::Gone(..) => {}
            Read::Record(row) => {
                let (partition, next) = (row.partition.number, row.offset + 1);
                let (event_id, marker) = self.marker(row)?;
                self.store.gather(filling, partition, &event_id, marker)?;
                filling.reached(partition, next);
                if filling.is_full() {
                    self.store.fill(filling)?;
                }
            }
            Read::Ended(partition, next) => {
                filling.reached(partition, next);
                self.store.fill(filling)?;
                drop(self.tell.send(Filled::Share(Share { source: self.source.clone(), partition })));
            }
        }
        Ok(())
    }

    fn marker(&self, row: Incoming) -> Result<(Vec<u8>, Marker), Again> {
        /// What the store needs to know of a marker.
        #[derive(serde::Deserialize)]
        struct Head {
            first_routed_at: Timestamp,
        }
        let marker = match (row.value, &self.own) {
            (None, _) => Marker::Gone,
            // Ten million of them: to read them whole and write them again would be a third of the work.
            (Some(value), Some(own)) if own.wrote(&value) => {
                let Head { first_routed_at: at } = own.decode(&value)?;
                Marker::Framed(Framed { at, value })
            }
            // A marker that cannot be read could be the one that stops a double: no serving without it.
            (Some(value), _) => Marker::Seen(self.decoder.decode_blocking::<Seen>(&self.runtime, Some(&value))?),
        };
        Ok((row.key.unwrap_or_default(), marker))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_threads_share_what_is_to_be_read_whole() {
        let numbers = |parts: [BTreeMap<i32, Option<i64>>; 2]| parts.map(|part| part.into_keys().collect::<Vec<_>>());
        let of = |parts: &[(i32, Option<i64>)]| numbers(shared_out(parts.iter().copied().collect()));
        assert_eq!(of(&[(0, Some(1)), (1, Some(2))]), [vec![0, 1], vec![]]);
        assert_eq!(of(&[(0, None), (1, None), (2, None)]), [vec![0, 2], vec![1]]);
        assert_eq!(of(&[(0, Some(1)), (3, None)]), [vec![0], vec![3]]);
        assert!(of(&[]).iter().all(Vec::is_empty));
    }
}
