//! What was seen: event ids of the partitions owned, as a cache of `seen.<source>`.

use std::collections::HashMap;
use std::time::Duration;

use crate::event::{Seen, Timestamp};
use crate::kafka::group::Partition;

/// Ids of one partition of `received.<source>`. In memory: a start reads the whole `seen` partition.
#[derive(Debug, Default)]
struct Ids(HashMap<String, Seen>);

/// Ids of every partition owned.
#[derive(Debug)]
pub(super) struct State {
    window: Duration,
    partitions: HashMap<Partition, Ids>,
}

/// Changes of one batch, kept apart until its transaction has committed. Later rows of the batch see earlier ones.
#[derive(Debug, Default)]
pub(super) struct Overlay(HashMap<(Partition, String), Seen>);

impl State {
    /// Remembers ids for `window` from their first routing on.
    pub(super) fn new(window: Duration) -> Self {
        Self { window, partitions: HashMap::new() }
    }

    /// Takes a marker of `seen` for this partition of `received`, the newest last; none is a tombstone.
    pub(super) fn restore(&mut self, partition: &Partition, event_id: String, seen: Option<Seen>) {
        let ids = self.partitions.entry(partition.clone()).or_default();
        match seen {
            Some(seen) => ids.0.insert(event_id, seen),
            None => ids.0.remove(&event_id),
        };
    }

    /// What is known of an id: by the batch, then by what was committed, within the window.
    pub(super) fn get<'a>(
        &'a self,
        overlay: &'a Overlay,
        partition: &Partition,
        event_id: &str,
        now: Timestamp,
    ) -> Option<&'a Seen> {
        overlay
            .0
            .get(&(partition.clone(), event_id.to_owned()))
            .or_else(|| self.partitions.get(partition)?.0.get(event_id))
            .filter(|seen| now.since(seen.first_routed_at) <= self.window)
    }

    /// Makes a committed batch's changes part of the state.
    pub(super) fn merge(&mut self, overlay: Overlay) {
        for ((partition, event_id), seen) in overlay.0 {
            self.partitions.entry(partition).or_default().0.insert(event_id, seen);
        }
    }

    /// Forgets everything: the partitions were given back.
    pub(super) fn clear(&mut self) {
        self.partitions.clear();
    }

    /// Drops ids whose window has passed.
    pub(super) fn expire(&mut self, now: Timestamp) {
        for ids in self.partitions.values_mut() {
            ids.0.retain(|_, seen| now.since(seen.first_routed_at) <= self.window);
        }
    }
}

impl Overlay {
    /// Notes what became of an id in this batch.
    pub(super) fn put(&mut self, partition: &Partition, event_id: &str, seen: Seen) {
        self.0.insert((partition.clone(), event_id.to_owned()), seen);
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
            first_routed_at: Timestamp::from_micros(at),
            record_topic: None,
            record_key: None,
        }
    }

    #[test]
    fn an_id_is_known_within_its_window_and_to_its_partition_alone() {
        let here = Partition { topic: "received.a".into(), number: 0 };
        let there = Partition { number: 1, ..here.clone() };
        let mut state = State::new(Duration::from_secs(10));
        state.restore(&here, "e1".into(), Some(seen(0)));
        let (overlay, at) = (Overlay::default(), |s: i64| Timestamp::from_micros(s * 1_000_000));
        assert!(state.get(&overlay, &here, "e1", at(10)).is_some());
        assert!(state.get(&overlay, &here, "e1", at(11)).is_none());
        assert!(state.get(&overlay, &there, "e1", at(0)).is_none());
        state.restore(&here, "e1".into(), None);
        assert!(state.get(&overlay, &here, "e1", at(0)).is_none(), "a tombstone forgets");
    }

    #[test]
    fn a_batch_sees_itself_and_leaves_nothing_unless_merged() {
        let here = Partition { topic: "received.a".into(), number: 0 };
        let mut state = State::new(Duration::from_secs(10));
        let now = Timestamp::from_micros(0);
        let mut overlay = Overlay::default();
        overlay.put(&here, "e1", seen(0));
        assert!(state.get(&overlay, &here, "e1", now).is_some());
        assert!(state.get(&Overlay::default(), &here, "e1", now).is_none());
        state.merge(overlay);
        assert!(state.get(&Overlay::default(), &here, "e1", now).is_some());
        state.expire(Timestamp::from_micros(11_000_000));
        assert!(state.partitions[&here].0.is_empty());
    }
}
