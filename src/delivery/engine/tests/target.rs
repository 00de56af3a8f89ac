//! A model of a target: what it makes of requests, by its idempotency class, and what it holds against us.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::world::{Id, Job, Key, VALIDITY};
use crate::delivery::repeat::Step;
use crate::targets::Idempotency;

/// A target with its documents.
#[derive(Debug)]
pub(super) struct Target {
    class: Idempotency,
    /// Documents made of each record.
    documents: BTreeMap<Id, u32>,
    /// When the first request for each record came.
    arrived: BTreeMap<Id, Instant>,
    /// Keys with the time of their first request.
    keys: BTreeMap<Id, Instant>,
    /// Index of the last record written of each key of each partition.
    last: BTreeMap<(usize, Key), usize>,
}

impl Target {
    pub(super) fn new(class: Idempotency) -> Self {
        Self {
            class,
            documents: BTreeMap::new(),
            arrived: BTreeMap::new(),
            keys: BTreeMap::new(),
            last: BTreeMap::new(),
        }
    }

    /// Acts on a request; says whether it made a document or had it already.
    pub(super) fn act(&mut self, Job { id, again }: Job, key: Key, step: Step, now: Instant) -> bool {
        self.arrived.entry(id).or_insert(now);
        let has = self.documents.contains_key(&id);
        let known = match (self.class, step) {
            (_, Step::LookUp) | (Idempotency::Reject, _) => has,
            (Idempotency::Upsert, _) => {
                // Behind a newer one that nobody knows of yet: that one is sent again, and stands in the end.
                if again.is_some() {
                    self.last.insert((id.0, key), id.1);
                } else {
                    self.write(id, key);
                }
                self.documents.insert(id, 1);
                return !has;
            }
            (Idempotency::Key { .. }, Step::Send) => self.keys.get(&id).is_some_and(|at| now < *at + VALIDITY),
            (Idempotency::LookUp { .. }, Step::Send) => false,
        };
        if known {
            return false;
        }
        self.keys.insert(id, now);
        let documents = self.documents.entry(id).or_insert(0);
        *documents += 1;
        assert_eq!(*documents, 1, "a second document of {id:?}");
        // What was given up may come to the target behind its successors, on an operator's word.
        if again.is_none() {
            self.write(id, key);
        }
        true
    }

    /// A write of an older record behind a newer one of its key is an inversion.
    fn write(&mut self, id: Id, key: Key) {
        let last = self.last.entry((id.0, key)).or_insert(id.1);
        assert!(*last <= id.1, "{id:?} arrives behind its successor {last}");
        *last = id.1;
    }

    /// The record of a key that was written last.
    pub(super) fn stands(&self, p: usize, key: Key) -> Option<usize> {
        self.last.get(&(p, key)).copied()
    }

    /// When each record came.
    pub(super) const fn arrived(&self) -> &BTreeMap<Id, Instant> {
        &self.arrived
    }

    pub(super) fn has(&self, id: Id) -> bool {
        self.documents.contains_key(&id)
    }
}
