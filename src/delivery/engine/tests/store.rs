//! What is committed, whole or not at all, and what has to hold of it at every moment.

use std::collections::{BTreeMap, BTreeSet};

use super::world::{Id, Job, PARTITIONS, World, again, number};
use crate::delivery::lane::{Change, Lane, Seat};
use crate::delivery::progress::Position;
use crate::delivery::queue::Standing;
use crate::event::Timestamp;

/// What is committed.
#[derive(Default)]
pub(super) struct Store {
    pub(super) positions: BTreeMap<usize, (Position, usize)>,
    /// The same of redeliveries.
    pub(super) agains: BTreeMap<usize, (Position, usize)>,
    pub(super) latest: BTreeMap<Lane, Timestamp>,
    pub(super) parked: BTreeMap<Job, Row>,
    /// The log of `parked`: offset, record, and what the row says of it.
    pub(super) log: Vec<Vec<(i64, Job, Option<Row>)>>,
    pub(super) ends: Vec<i64>,
    pub(super) delivered: BTreeSet<Id>,
    /// The same in the order in which it became known.
    pub(super) ended: Vec<Id>,
    pub(super) dead: BTreeSet<Id>,
    /// Redeliveries that are over, with what became of them.
    pub(super) again: BTreeMap<(usize, usize), &'static str>,
    pub(super) tries: BTreeMap<Job, u32>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) place: i64,
    pub(super) leads: bool,
    pub(super) standing: Standing,
}

/// A transaction under way.
pub(super) struct Sealed {
    batch: Batch,
    progress: Vec<Position>,
}

#[derive(Default)]
pub(super) struct Batch {
    pub(super) changes: Vec<Change<Job>>,
    pub(super) delivered: Vec<Job>,
    pub(super) dead: Vec<Job>,
    pub(super) left_out: Vec<Job>,
    pub(super) latest: Vec<(Lane, Timestamp)>,
    pub(super) attempts: Vec<(Job, u32)>,
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
        assert_eq!(node.engine.plan.positions().len(), node.owned.len() * 2);
        let quiet = self.now >= node.not_before;
        let (batch, progress) = (std::mem::take(&mut node.batch), node.engine.seal(handing_over && quiet));
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
            let (lane, seat) = match &change {
                Change::Park { lane, seat, .. } | Change::Release { lane, seat } => (lane, *seat),
            };
            let p = number(&lane.partition);
            let job = self.job(p, seat);
            let place = self.store.ends[p] + rows[p];
            rows[p] += 1;
            let row = match change {
                Change::Park { leads, standing, .. } => Some(Row { place, leads, standing }),
                Change::Release { .. } => None,
            };
            self.store.log[p].push((place, job, row));
            match row {
                Some(row) => {
                    self.counts.parked += usize::from(self.store.parked.insert(job, row).is_none());
                }
                None => assert!(self.store.parked.remove(&job).is_some(), "released without being parked"),
            }
        }
        for (end, rows) in self.store.ends.iter_mut().zip(rows).filter(|(_, rows)| *rows > 0) {
            *end += rows + 1;
        }
        for job in batch.delivered {
            assert!(self.target.has(job.id), "{job:?} counts as delivered without a document");
            match job.again {
                None => {
                    assert!(self.store.delivered.insert(job.id), "{job:?} delivered twice");
                    self.store.ended.push(job.id);
                }
                Some(_) => self.end_again(job, "delivered"),
            }
        }
        for job in batch.dead {
            match job.again {
                None => assert!(self.store.dead.insert(job.id), "{job:?} dead twice"),
                Some(_) => self.end_again(job, "dead"),
            }
            self.counts.dead += 1;
        }
        batch.left_out.into_iter().for_each(|job| self.end_again(job, "left out"));
        self.store.latest.extend(batch.latest);
        for (job, n) in batch.attempts {
            let last = self.store.tries.entry(job).or_insert(0);
            assert!(n > *last, "{job:?}: try {n} behind try {last}");
            *last = n;
        }
        for position in progress {
            let p = number(&position.partition);
            if position.partition == again(p) {
                self.store.agains.insert(p, (position, n));
                self.check_again(p);
                continue;
            }
            if let Some((before, _)) = self.store.positions.get(&p) {
                assert!(position.next >= before.next, "a position went back");
            }
            self.store.positions.insert(p, (position, n));
            self.check_progress(p);
        }
        self.nodes[n].engine.committed(self.now);
    }

    fn job(&self, p: usize, seat: Seat) -> Job {
        match seat {
            Seat::Record(offset) => {
                Job { id: (p, self.logs[p].iter().position(|r| r.offset == offset).unwrap()), again: None }
            }
            Seat::Redelivery(offset) => {
                let i = self.asked[p].iter().position(|again| again.offset == offset).unwrap();
                Job { id: (p, self.asked[p][i].index), again: Some(i) }
            }
        }
    }

    fn end_again(&mut self, job: Job, how: &'static str) {
        self.counts.again += 1;
        let before = self.store.again.insert((job.id.0, job.again.unwrap()), how);
        assert!(before.is_none(), "{job:?} is {how} and {before:?}");
    }

    /// What progress calls finished of redeliveries is over or parked; what it calls open is neither.
    fn check_again(&self, p: usize) {
        let (position, _) = &self.store.agains[&p];
        for (i, asked) in self.asked[p].iter().enumerate().filter(|(_, asked)| asked.offset < position.end) {
            let over = self.store.again.contains_key(&(p, i));
            let parked = self.store.parked.contains_key(&Job { id: (p, asked.index), again: Some(i) });
            assert!(!(over && parked), "redelivery {i} of {p} is over and parked");
            let open = position.open.contains(&asked.offset);
            assert_eq!(open, !(over || parked), "redelivery {i} of {p} in {position:?}");
        }
    }

    /// What progress calls finished is delivered, dead or parked; what it calls open is none of these.
    fn check_progress(&self, p: usize) {
        let (position, _) = &self.store.positions[&p];
        for (i, record) in self.logs[p].iter().enumerate().filter(|(_, r)| r.offset < position.end) {
            let id = (p, i);
            let over = self.store.delivered.contains(&id) || self.store.dead.contains(&id);
            let parked = self.store.parked.contains_key(&Job { id, again: None });
            assert!(!(over && parked), "{id:?} is over and parked");
            let open = position.open.contains(&record.offset);
            assert_eq!(open, !(over || parked), "{id:?} at {} in {position:?}", record.offset);
        }
    }
}
