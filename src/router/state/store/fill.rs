//! Markers as they are read from `seen`, gathered and written many at once: a start without a state brings millions.
//!
//! Many go into a table of their own, beside the log and the tree's memory: the tree's one thread gathers no more than
//! it can write away, where batches would let ids wait in memory for as long as it compacts. A table is taken whole or
//! not at all, its offsets with it, and over whatever was written before. Few go the way of every other batch: a table
//! for a handful would have to be merged with the others soon.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Store, StoreError, key};
use crate::event::{Seen, Timestamp};
use crate::kafka::codec::HEAD_BYTES;
use crate::lifecycle::failpoint;

/// Bound on what is gathered, in bytes of keys and values with what the allocator and the list take for each.
const FULL: usize = 16 << 20;
/// Bytes of a list's entry, and of the allocator's share in a key and a value.
const ENTRY: usize = size_of::<Entry>() + 32;
/// Markers that are few.
const FEW: usize = 1000;

/// Key and value; none forgets the id.
type Entry = (Vec<u8>, Option<Vec<u8>>);

/// A marker as it comes from `seen`.
pub(in crate::router) enum Marker {
    /// Decoded.
    Seen(Seen),
    /// Written with the store's own schema: kept as it is.
    Framed(Framed),
    /// The id is forgotten.
    Gone,
}

/// A marker in the wire format, of which no more was read than is needed.
pub(in crate::router) struct Framed {
    /// When the id was first routed.
    pub(in crate::router) at: Timestamp,
    /// The whole value.
    pub(in crate::router) value: Vec<u8>,
}

/// Markers not written yet, in the order in which they were read, and the offsets that they bring their partitions to.
#[derive(Default)]
pub(in crate::router) struct Filling {
    entries: Vec<Entry>,
    bytes: usize,
    positions: BTreeMap<i32, i64>,
}

impl Filling {
    /// Whether it has to be written before more is gathered.
    pub(in crate::router) const fn is_full(&self) -> bool {
        self.bytes >= FULL
    }

    /// Everything before this offset of the partition is in here, or was written.
    pub(in crate::router) fn reached(&mut self, partition: i32, next: i64) {
        self.positions.insert(partition, next);
    }
}

impl Store {
    /// Takes a marker up.
    ///
    /// # Errors
    /// `Damaged` where it cannot be encoded.
    pub(in crate::router) fn gather(
        &self,
        filling: &mut Filling,
        partition: i32,
        event_id: &[u8],
        marker: Marker,
    ) -> Result<(), StoreError> {
        let value = match marker {
            Marker::Seen(seen) => Some(self.value(&seen)?),
            Marker::Framed(Framed { at, value }) => {
                let datum = value.get(HEAD_BYTES..).unwrap_or_default();
                Some([at.as_micros().to_be_bytes().as_slice(), datum].concat())
            }
            Marker::Gone => None,
        };
        let key = key(partition, event_id);
        filling.bytes += key.len() + value.as_ref().map_or(0, Vec::len) + ENTRY;
        filling.entries.push((key, value));
        Ok(())
    }

    /// Writes what was gathered, all or nothing, and leaves it empty. Of an id's markers the last one counts.
    ///
    /// # Errors
    /// `Damaged` and `Io`; what was gathered is gone then.
    pub(in crate::router) fn fill(&self, filling: &mut Filling) -> Result<(), StoreError> {
        let Filling { mut entries, positions, .. } = std::mem::take(filling);
        if entries.len() <= FEW {
            return self.put(entries.into_iter().map(Ok), positions);
        }
        let positions =
            positions.into_iter().map(|(partition, next)| (key(partition, b""), Some(next.to_be_bytes().to_vec())));
        entries.extend(positions);
        // Stable: the last of a key stays the last.
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        let taken = catch_unwind(AssertUnwindSafe(|| self.take(entries)));
        taken.map_err(|_| StoreError::panicked(&self.folder))?.map_err(|error| StoreError::of(&self.folder, error))?;
        failpoint("router.after_table");
        Ok(())
    }

    /// One table of entries in order.
    fn take(&self, entries: Vec<Entry>) -> fjall::Result<()> {
        let mut table = self.ids.start_ingestion()?;
        let mut entries = entries.into_iter().peekable();
        while let Some((key, value)) = entries.next() {
            if entries.peek().is_some_and(|(next, _)| *next == key) {
                continue;
            }
            match value {
                Some(value) => table.write(key, value)?,
                None => table.write_tombstone(key)?,
            }
        }
        table.finish()
    }
}

#[cfg(test)]
mod tests;
