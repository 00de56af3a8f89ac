//! Event ids of one source on disk: a cache of `seen.<source>` that a restart goes on from.
//!
//! An LSM tree (`fjall`): ids come in no order, most look-ups are of ids never seen, which its filters answer without
//! reading, and every write goes to the log's end. A batch holds ids and the offset of `seen` that they reflect, under
//! one tree: whatever a crash leaves of its log is a prefix, in which no offset is ahead of its ids. Nothing is fsynced
//! for it: what is lost is read again from Kafka. Many at once, as a first start reads them, go past the log (`fill`).
//!
//! Layout: key = partition number (4 bytes, big-endian) and the id; value = first routed at (8 bytes, microseconds,
//! big-endian), then the `Seen` datum in Avro. The key of a partition number alone holds the next offset of its `seen`
//! partition to read (8 bytes, big-endian).

mod fill;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fjall::compaction::filter::{CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict};
use fjall::{Database, Keyspace, KeyspaceCreateOptions};

pub(in crate::router) use fill::{Filling, Framed, Marker};

use super::error::StoreError;
use super::identity::Identity;
use crate::avro::Schema;
use crate::event::{Seen, Timestamp};

/// Bounds on memory, in bytes, for each source: blocks kept, and ids not in a table yet.
const CACHE: u64 = 32 << 20;
const MEMTABLE: u64 = 16 << 20;
/// Bound on the log, in bytes: what a start replays. The library takes no less.
const LOG: u64 = 64 << 20;

const PARTITION_BYTES: usize = 4;
const TIME_BYTES: usize = 8;

/// The ids of one source.
pub(in crate::router) struct Store {
    /// Dropped last: it owns the background thread of the tree.
    ids: Keyspace,
    db: Database,
    schema: Schema,
    folder: PathBuf,
}

/// What a batch changes: partition, id, and its marker; none forgets the id.
pub(in crate::router) type Change<'a> = (i32, &'a str, Option<&'a Seen>);

impl Store {
    /// Opens the store in `folder`, empty at the first time. Ids leave it some time after their window has passed.
    ///
    /// # Errors
    /// `Foreign` and `Damaged` where it may not be trusted: it has to be set aside. `Io` where the system refuses.
    pub(in crate::router) fn open(folder: &Path, identity: &Identity, window: Duration) -> Result<Self, StoreError> {
        let at = |error| StoreError::of(folder, error);
        identity.claim(folder)?;
        super::identity::window(folder, window)?;
        let expire = move || -> Arc<dyn Factory> { Arc::new(Expiry { window }) };
        let open = || {
            let db = Database::builder(folder.join("ids"))
                .cache_size(CACHE)
                .max_journaling_size(LOG)
                .worker_threads(1)
                .with_compaction_filter_factories(Arc::new(move |_| Some(expire())))
                .open()?;
            let ids = db.keyspace("ids", || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE))?;
            Ok((db, ids))
        };
        // Recovery of a damaged store may panic: the same as an error.
        let opened = catch_unwind(AssertUnwindSafe(open));
        let (db, ids) = opened.map_err(|_| StoreError::panicked(folder))?.map_err(at)?;
        let schema = Schema::ours("Seen").map_err(|error| StoreError::damaged(folder, &error))?;
        Ok(Self { ids, db, schema, folder: folder.to_owned() })
    }

    /// Where it is.
    pub(in crate::router) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The next offset of the `seen` partition that is not in here; none where nothing of it is.
    pub(in crate::router) fn position(&self, partition: i32) -> Result<Option<i64>, StoreError> {
        let Some(value) = self.read(&key(partition, b""))? else { return Ok(None) };
        let bytes = <[u8; 8]>::try_from(value.as_ref());
        bytes.map(|bytes| Some(i64::from_be_bytes(bytes))).map_err(|error| StoreError::damaged(&self.folder, &error))
    }

    /// The marker of an id, however old.
    pub(in crate::router) fn get(&self, partition: i32, event_id: &str) -> Result<Option<Seen>, StoreError> {
        // Under the empty id stands the position.
        let found = if event_id.is_empty() { None } else { self.read(&key(partition, event_id.as_bytes()))? };
        let Some(value) = found else { return Ok(None) };
        let datum = value.get(TIME_BYTES..).unwrap_or_default();
        self.schema.read(datum).map(Some).map_err(|error| StoreError::damaged(&self.folder, &error))
    }

    /// Takes changes, and the offsets up to which they bring their partitions, all or nothing.
    pub(in crate::router) fn write<'a>(
        &self,
        changes: impl IntoIterator<Item = Change<'a>>,
        positions: impl IntoIterator<Item = (i32, i64)>,
    ) -> Result<(), StoreError> {
        let values = changes.into_iter().map(|(partition, event_id, seen)| {
            Ok((key(partition, event_id.as_bytes()), seen.map(|seen| self.value(seen)).transpose()?))
        });
        self.put(values, positions)
    }

    fn value(&self, seen: &Seen) -> Result<Vec<u8>, StoreError> {
        let time = seen.first_routed_at.as_micros().to_be_bytes().to_vec();
        self.schema.write(seen, time).map_err(|error| StoreError::damaged(&self.folder, &error))
    }

    fn put(
        &self,
        values: impl Iterator<Item = Result<(Vec<u8>, Option<Vec<u8>>), StoreError>>,
        positions: impl IntoIterator<Item = (i32, i64)>,
    ) -> Result<(), StoreError> {
        let mut batch = self.db.batch();
        for value in values {
            match value? {
                (key, Some(value)) => batch.insert(&self.ids, key, value),
                (key, None) => batch.remove(&self.ids, key),
            }
        }
        for (partition, next) in positions {
            batch.insert(&self.ids, key(partition, b""), next.to_be_bytes().as_slice());
        }
        batch.commit().map_err(|error| StoreError::of(&self.folder, error))
    }

    fn read(&self, key: &[u8]) -> Result<Option<fjall::Slice>, StoreError> {
        let read = catch_unwind(AssertUnwindSafe(|| self.ids.get(key)));
        read.map_err(|_| StoreError::panicked(&self.folder))?.map_err(|error| StoreError::of(&self.folder, error))
    }
}

fn key(partition: i32, event_id: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(PARTITION_BYTES + event_id.len());
    key.extend_from_slice(&partition.to_be_bytes());
    key.extend_from_slice(event_id);
    key
}

/// Drops ids whose window has passed, wherever the tree rewrites a table anyway: no scan is made for it.
struct Expiry {
    window: Duration,
}

impl Factory for Expiry {
    fn name(&self) -> &str {
        "dedupe window"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(Expired { window: self.window, now: Timestamp::now() })
    }
}

struct Expired {
    window: Duration,
    now: Timestamp,
}

impl CompactionFilter for Expired {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> CompactionFilterResult {
        if item.key().len() <= PARTITION_BYTES {
            return Ok(Verdict::Keep);
        }
        let value = item.value()?;
        let time = value.get(..TIME_BYTES).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok()).map(i64::from_be_bytes);
        let is_past = time.is_some_and(|at| self.now.since(Timestamp::from_micros(at)) > self.window);
        // An older marker of the id, should one come back, is past its window too.
        Ok(if is_past { Verdict::Destroy } else { Verdict::Keep })
    }
}

#[cfg(test)]
mod tests;
