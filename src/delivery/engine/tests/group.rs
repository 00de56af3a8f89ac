//! Who owns what: deliverers crash, freeze, give back and gain.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use super::store::{Batch, Row};
use super::world::{Job, NODES, Node, PARTITIONS, TIMEOUT, WIRE, World, again, lane, number, partition};
use crate::delivery::engine::Engine;
use crate::delivery::lane::Waiting;
use crate::delivery::progress::Position;
use crate::delivery::worker::PROOF;

/// How long a node goes on sending when others have its partitions: as long as its last commit proves anything.
pub(super) const UNAWARE: Duration = PROOF;

impl World {
    pub(super) fn drop_all(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        node.engine.lost();
        node.latest.clear();
        (node.batch, node.sealed) = (Batch::default(), None);
        node.fetches.clear();
        node.owned.clear();
        node.generation = 0;
        node.unproven = false;
        node.deaf = None;
    }

    /// The process dies, and a new one takes its place: what was on the wire arrives, nothing else does.
    pub(super) fn crash(&mut self) {
        let n = self.rng.random_range(0..NODES);
        self.counts.crashes += 1;
        self.tell(|| format!("node {n} crashes"));
        self.maybe_commit(n);
        self.drop_all(n);
        let node = &mut self.nodes[n];
        let rules = node.engine.rules();
        node.incarnation += 1;
        node.engine = Engine::new(rules, SmallRng::seed_from_u64(node.incarnation));
        (node.frozen, node.window) = (false, None);
        for flight in self.flights.iter_mut().filter(|flight| flight.node == n) {
            flight.heard = false;
        }
        self.advance(WIRE * 2);
        self.rebalance();
    }

    /// The process stands still, in the middle of its tries, until after others have its partitions.
    pub(super) fn freeze(&mut self) {
        let n = self.rng.random_range(0..NODES);
        self.tell(|| format!("node {n} freezes"));
        self.maybe_commit(n);
        (self.nodes[n].frozen, self.nodes[n].deaf) = (true, None);
        self.advance(Duration::from_secs(10));
        self.rebalance();
    }

    /// A node hears nothing of its group, which gives its partitions to others. For as long as its last commit proves that
    /// they are its own, it goes on reading and sending, also what is written meanwhile.
    pub(super) fn go_deaf(&mut self) {
        let Some(n) = self.some_node(|node| !node.owned.is_empty() && !node.unproven) else { return };
        if self.nodes[n].generation != self.generation {
            return;
        }
        // One with a backlog comes to nothing that is new.
        for _ in 0..10 {
            self.round(n);
            self.advance(WIRE * 2);
        }
        self.settle_all(n);
        self.commit_as(n, false);
        self.tell(|| format!("node {n} goes deaf"));
        self.rebalance_without(Some(n));
        for _ in 0..self.rng.random_range(1..5) {
            self.produce();
            for p in self.nodes[n].owned.clone() {
                (0..5).for_each(|_| self.read_one(n, p));
            }
            while self.dispatch_one(n) {}
            let time = Duration::from_millis(self.rng.random_range(0..1000));
            self.advance(time);
        }
    }

    /// A transaction under way may come to its end without its node.
    fn maybe_commit(&mut self, n: usize) {
        if self.rng.random_bool(0.5) {
            self.end_commit(n);
        }
    }

    /// A transaction fails: everything since the last one is forgotten and restored.
    pub(super) fn abort(&mut self) {
        let Some(n) = self.some_node(|node| node.generation > 0) else { return };
        if self.nodes[n].generation == self.generation {
            let owned = self.nodes[n].owned.clone();
            self.drop_all(n);
            self.gain(n, owned);
        }
    }

    /// Everyone gives everything back, finished as far as it goes, and gets a new share.
    pub(super) fn rebalance(&mut self) {
        self.rebalance_without(None);
    }

    fn rebalance_without(&mut self, deaf: Option<usize>) {
        for n in 0..NODES {
            if deaf == Some(n) {
                continue;
            }
            if self.nodes[n].frozen || self.nodes[n].generation != self.generation || self.generation == 0 {
                continue;
            }
            if self.rng.random_bool(0.7) {
                self.advance(TIMEOUT);
            }
            self.settle_all(n);
            self.commit_as(n, true);
            self.drop_all(n);
        }
        self.generation += 1;
        if let Some(n) = deaf {
            self.nodes[n].deaf = Some(self.now + UNAWARE);
        }
        let is_there = |node: &Node| !node.frozen && node.deaf.is_none_or(|until| until <= self.now);
        let mut alive: Vec<usize> = (0..NODES).filter(|n| is_there(&self.nodes[*n])).collect();
        if alive.is_empty() {
            let n = self.rng.random_range(0..NODES);
            self.thaw(n);
            alive.push(n);
        }
        // Who comes back from a freeze finds out by its next commit.
        for n in 0..NODES {
            if self.nodes[n].frozen && self.rng.random_bool(0.5) {
                self.thaw(n);
            }
        }
        let mut owned = vec![BTreeSet::new(); NODES];
        for p in 0..PARTITIONS {
            owned[alive[self.rng.random_range(0..alive.len())]].insert(p);
        }
        for n in alive {
            self.drop_all(n);
            self.gain(n, owned[n].clone());
        }
    }

    pub(super) fn thaw(&mut self, n: usize) {
        self.tell(|| format!("node {n} thaws"));
        (self.nodes[n].frozen, self.nodes[n].deaf, self.nodes[n].unproven) = (false, None, true);
    }

    pub(super) fn gain(&mut self, n: usize, owned: BTreeSet<usize>) {
        self.tell(|| format!("node {n} gains {owned:?}"));
        let node = &mut self.nodes[n];
        node.generation = self.generation;
        for p in &owned {
            let known = self.store.positions.get(p).cloned();
            let (position, writer) = known.unwrap_or((Position::new(partition(*p), 0), n));
            let tried_until = |position: &Position| if position.handed_over { self.now } else { self.now + UNAWARE };
            let until = tried_until(&position);
            if !position.handed_over && writer != n {
                node.not_before = until + TIMEOUT;
            }
            node.read_to[*p] = position.next;
            node.engine.plan.gain(position, self.store.ends[*p], until);
            let known = self.store.agains.get(p).cloned();
            let (position, _) = known.unwrap_or((Position::new(again(*p), 0), n));
            node.again_to[*p] = position.next;
            let until = tried_until(&position);
            node.engine.plan.gain(position, self.store.ends[*p], until);
        }
        node.engine.gained(self.now, Some(node.not_before));
        for (lane, time) in self.store.latest.iter().filter(|(lane, _)| owned.contains(&number(&lane.partition))) {
            node.latest.note(lane, *time);
        }
        let mut parked: Vec<(&Job, &Row)> =
            self.store.parked.iter().filter(|(job, _)| owned.contains(&job.id.0)).collect();
        parked.sort_by_key(|(_, row)| (!row.leads, row.place));
        let parked: Vec<(Job, Row)> = parked.into_iter().map(|(job, row)| (*job, *row)).collect();
        for (job, row) in parked {
            let record = self.logs[job.id.0][job.id.1];
            let lane = lane(job.id.0, record.key);
            let waiting = Waiting { seat: self.seat(job), place: row.place, standing: row.standing };
            self.nodes[n].engine.plan.restore(lane, waiting, self.now);
        }
        self.nodes[n].owned = owned;
        // As early as it may.
        self.ask_for_ends_of(n);
    }

    /// A node asks where its partitions end, if it is time to.
    pub(super) fn ask_for_ends(&mut self) {
        let Some(n) = self.some_node(|_| true) else { return };
        self.ask_for_ends_of(n);
    }

    pub(super) fn ask_for_ends_of(&mut self, n: usize) {
        while let Some(asked) = self.nodes[n].engine.ends.next(self.now) {
            let p = number(&asked);
            let last = if asked == again(p) {
                self.asked[p].last().map(|again| again.offset)
            } else {
                self.logs[p].last().map(|record| record.offset)
            };
            let told = self.nodes[n].engine.plan.sure_above(&asked, last.map_or(0, |last| last + 1));
            assert!(told, "{asked:?} ends before what was read");
            self.counts.ends += 1;
        }
    }
}
