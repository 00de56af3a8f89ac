//! What is committed, whole or not at all, and what has to hold of it at every moment.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::world::{Id, PARTITIONS, World, number};
use crate::delivery::lane::Change;
use crate::delivery::progress::Position;
use crate::delivery::queue::Standing;

/// What is committed.
#[derive(Default)]
pub(super) struct Store {
    pub(super) positions: HashMap<usize, (Position, usize)>,
    pub(super) parked: BTreeMap<Id, Row>,
    /// The log of `parked`: offset, record, and what the row says of it.
    pub(super) log: Vec<Vec<(i64, Id, Option<Row>)>>,
    pub(super) ends: Vec<i64>,
    pub(super) delivered: BTreeSet<Id>,
    pub(super) dead: BTreeSet<Id>,
    pub(super) tries: HashMap<Id, u32>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) place: i64,
    pub(super) standing: Option<Standing>,
}

/// A transaction under way.
pub(super) struct Sealed {
    batch: Batch,
    progress: Vec<Position>,
}

#[derive(Default)]
pub(super) struct Batch {
    pub(super) changes: Vec<Change<Id>>,
    pub(super) delivered: Vec<Id>,
    pub(super) dead: Vec<Id>,
    pub(super) attempts: Vec<(Id, u32)>,
}

impl World {
    /// All of what there is, behind the transaction under way.
    pub(super) fn commit_as(&mut self, n: usize, handing_over: bool) {
        self.end_commit(n);
        if self.nodes[n].generation > 0 {
            self.begin_commit(n, handing_over);
            self.end_commit(n);
        }
    }

    pub(super) fn begin_commit(&mut self, n: usize, handing_over: bool) {
        let node = &mut self.nodes[n];
        assert!(node.sealed.is_none());
        assert_eq!(node.engine.plan.positions().len(), node.owned.len());
        let (batch, progress) = (std::mem::take(&mut node.batch), node.engine.seal(handing_over));
        node.sealed = Some(Sealed { batch, progress });
    }

    /// All of the transaction under way, or nothing where the node is no member any more.
    pub(super) fn end_commit(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let Some(Sealed { batch, progress }) = node.sealed.take() else { return };
        if node.generation != self.generation {
            self.counts.zombies += 1;
            self.drop_all(n);
            self.tell(|| format!("node {n} is a zombie"));
            return;
        }
        node.unproven = false;
        let mut rows = [0; PARTITIONS];
        for change in batch.changes {
            let (lane, offset) = match &change {
                Change::Park { lane, offset, .. } | Change::Release { lane, offset } => (lane, *offset),
            };
            let p = number(&lane.partition);
            let i = self.logs[p].iter().position(|r| r.offset == offset).unwrap();
            let place = self.store.ends[p] + rows[p];
            rows[p] += 1;
            let row = match change {
                Change::Park { standing, .. } => Some(Row { place, standing }),
                Change::Release { .. } => None,
            };
            self.store.log[p].push((place, (p, i), row));
            match row {
                Some(row) => {
                    self.counts.parked += usize::from(self.store.parked.insert((p, i), row).is_none());
                }
                None => assert!(self.store.parked.remove(&(p, i)).is_some(), "released without being parked"),
            }
        }
        for (end, rows) in self.store.ends.iter_mut().zip(rows).filter(|(_, rows)| *rows > 0) {
            *end += rows + 1;
        }
        for id in batch.delivered {
            assert!(self.target.has(id), "{id:?} counts as delivered without a document");
            assert!(self.store.delivered.insert(id), "{id:?} delivered twice");
        }
        for id in batch.dead {
            assert!(self.store.dead.insert(id), "{id:?} dead twice");
            self.counts.dead += 1;
        }
        for (id, n) in batch.attempts {
            let last = self.store.tries.entry(id).or_insert(0);
            assert!(n > *last, "{id:?}: try {n} behind try {last}");
            *last = n;
        }
        for position in progress {
            let p = number(&position.partition);
            if let Some((before, _)) = self.store.positions.get(&p) {
                assert!(position.next >= before.next, "a position went back");
            }
            self.store.positions.insert(p, (position, n));
            self.check_progress(p);
        }
        self.nodes[n].engine.committed(self.now);
    }

    /// What progress calls finished is delivered, dead or parked; what it calls open is none of these.
    fn check_progress(&self, p: usize) {
        let (position, _) = &self.store.positions[&p];
        for (i, record) in self.logs[p].iter().enumerate().filter(|(_, r)| r.offset < position.end) {
            let id = (p, i);
            let over = self.store.delivered.contains(&id) || self.store.dead.contains(&id);
            let parked = self.store.parked.contains_key(&id);
            assert!(!(over && parked), "{id:?} is over and parked");
            let open = position.open.contains(&record.offset);
            assert_eq!(open, !(over || parked), "{id:?} at {} in {position:?}", record.offset);
        }
    }
}
