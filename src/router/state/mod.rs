//! What was seen: event ids of the partitions owned, as a cache of `seen.<source>` that is kept on disk.

mod error;
mod identity;
mod store;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

pub(super) use error::StoreError;
pub(super) use identity::{Identity, set_aside};
pub(super) use store::{Filling, Framed, Marker, Store};

use crate::event::{Seen, Timestamp};

/// A partition of a source: of `received.<source>` and `seen.<source>` alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Share {
    /// Name of the source.
    pub(super) source: String,
    /// Number of the partition.
    pub(super) partition: i32,
}

/// Ids of every source.
pub(super) struct State {
    window: Duration,
    stores: BTreeMap<String, Arc<Store>>,
}

/// Changes of one batch, kept apart until its transaction has committed. Later rows of the batch see earlier ones.
#[derive(Debug, Default)]
pub(super) struct Overlay(HashMap<Share, HashMap<String, Seen>>);

impl State {
    /// Ids count for `window` from their first routing on.
    pub(super) const fn new(window: Duration, stores: BTreeMap<String, Arc<Store>>) -> Self {
        Self { window, stores }
    }

    /// The store of a source; none for a source that is not configured.
    pub(super) fn store(&self, source: &str) -> Option<&Arc<Store>> {
        self.stores.get(source)
    }

    /// What is known of an id: by the batch, then by what was committed, within the window.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(super) fn get<'a>(
        &self,
        overlay: &'a Overlay,
        share: &Share,
        event_id: &str,
        now: Timestamp,
    ) -> Result<Option<Cow<'a, Seen>>, StoreError> {
        let here = overlay.0.get(share).and_then(|ids| ids.get(event_id)).map(Cow::Borrowed);
        let seen = match (here, self.stores.get(&share.source)) {
            (Some(here), _) => Some(here),
            (None, Some(store)) => store.get(share.partition, event_id)?.map(Cow::Owned),
            (None, None) => None,
        };
        Ok(seen.filter(|seen| now.since(seen.first_routed_at) <= self.window))
    }

    /// Makes a committed batch's changes part of the state; `last` are the offsets of its last markers.
    ///
    /// # Errors
    /// When a store cannot be written. It is then behind Kafka, and must not be asked any more.
    pub(super) fn merge(&self, overlay: &Overlay, last: &BTreeMap<Share, i64>) -> Result<(), StoreError> {
        for (source, store) in &self.stores {
            let of_source = |share: &&Share| share.source == *source;
            let changes = overlay.0.iter().filter(|(share, _)| of_source(share)).flat_map(|(share, ids)| {
                ids.iter().map(|(event_id, seen)| (share.partition, event_id.as_str(), Some(seen)))
            });
            let mut positions = last
                .iter()
                .filter(|(share, _)| of_source(share))
                .map(|(share, at)| (share.partition, at + 1))
                .peekable();
            if positions.peek().is_some() {
                store.write(changes, positions)?;
            }
        }
        Ok(())
    }
}

impl Overlay {
    /// Notes what became of an id in this batch.
    pub(super) fn put(&mut self, share: &Share, event_id: &str, seen: Seen) {
        match self.0.get_mut(share) {
            Some(ids) => drop(ids.insert(event_id.to_owned(), seen)),
            None => drop(self.0.insert(share.clone(), HashMap::from([(event_id.to_owned(), seen)]))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{SeenState, Sha256};

    fn seen(at: i64) -> Seen {
        Seen {
            state: SeenState::Routed,
            body_sha256: vec![Sha256::of(b"x")],
            first_routed_at: Timestamp::from_micros(at * 1_000_000),
            record_topic: None,
            record_key: None,
            decided: Vec::new(),
        }
    }

    fn share(partition: i32) -> Share {
        Share { source: "a".to_owned(), partition }
    }

    fn state(folder: &std::path::Path) -> State {
        let window = Duration::from_secs(10);
        let store = Store::open(folder, &Identity::new("c", "seen.a", "1", 2), window).unwrap();
        State::new(window, BTreeMap::from([("a".to_owned(), Arc::new(store))]))
    }

    #[test]
    fn an_id_is_known_within_its_window_and_to_its_partition_alone() {
        let folder = tempfile::tempdir().unwrap();
        let state = state(folder.path());
        let store = state.store("a").unwrap();
        store.write([(0, "e1", Some(&seen(0)))], []).unwrap();
        let (overlay, at) = (Overlay::default(), |s: i64| Timestamp::from_micros(s * 1_000_000));
        let knows = |partition, s| state.get(&overlay, &share(partition), "e1", at(s)).unwrap().is_some();
        assert!(knows(0, 10) && !knows(0, 11) && !knows(1, 0));
        store.write([(0, "e1", None)], []).unwrap();
        assert!(!knows(0, 0), "a tombstone forgets");
    }

    #[test]
    fn a_batch_sees_itself_and_leaves_nothing_unless_merged() {
        let folder = tempfile::tempdir().unwrap();
        let state = state(folder.path());
        let now = Timestamp::from_micros(0);
        let mut overlay = Overlay::default();
        overlay.put(&share(0), "e1", seen(0));
        let knows = |overlay: &Overlay| state.get(overlay, &share(0), "e1", now).unwrap().is_some();
        assert!(knows(&overlay) && !knows(&Overlay::default()));
        state.merge(&overlay, &BTreeMap::from([(share(0), 41)])).unwrap();
        assert!(knows(&Overlay::default()));
        assert_eq!(state.store("a").unwrap().position(0).unwrap(), Some(42));
    }
}
