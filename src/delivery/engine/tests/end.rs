//! How a history ends: nothing goes wrong any more, all is over in bounded time, and what has to hold then holds.

use std::time::Duration;

use super::world::{KEYS, NODES, PARTITIONS, SETTLE, TIMEOUT, WIRE, World};
use crate::targets::Idempotency;

impl World {
    pub(super) fn delivered(&self) -> usize {
        self.store.delivered.len()
    }

    pub(super) const fn tries_while_down(&self) -> usize {
        self.tries_while_down
    }

    fn is_over(&self) -> bool {
        self.asked.iter().map(Vec::len).sum::<usize>() == self.store.again.len() && self.records_are_over()
    }

    fn records_are_over(&self) -> bool {
        (0..PARTITIONS).all(|p| {
            (0..self.logs[p].len()).all(|i| {
                let id = (p, i);
                self.store.delivered.contains(&id) || self.store.dead.contains(&id)
            })
        })
    }

    /// Without further faults everything ends, in bounded time: nothing is missing.
    pub(super) fn finish(&mut self) {
        self.faults = false;
        for log in &mut self.logs {
            // Under `hold`, only someone who mends the record lets its key go on.
            log.iter_mut().for_each(|record| record.poisoned = false);
        }
        for n in 0..NODES {
            if self.nodes[n].frozen {
                self.thaw(n);
            }
            self.nodes[n].deaf = None;
        }
        self.rebalance();
        self.run(3_000);
        assert!(self.is_over(), "records are stuck");
        self.advance(SETTLE + TIMEOUT);
        self.rebalance();
        assert!(self.store.parked.is_empty(), "{:?}", self.store.parked);
        for (p, log) in self.logs.iter().enumerate() {
            for key in 0..KEYS {
                let newest = (0..log.len()).filter(|i| log[*i].key == key && self.target.has((p, *i))).max();
                let stands = self.target.stands(p, key);
                assert!(
                    self.class != Idempotency::Upsert || stands == newest,
                    "{stands:?} stands, {newest:?} is newest"
                );
            }
            let end = log.last().map_or(0, |r| r.offset + 1);
            let (position, _) = &self.store.positions[&p];
            assert_eq!((position.next, position.open.as_slice(), position.handed_over), (end, &[][..], true));
            let end = self.asked[p].last().map_or(0, |again| again.offset + 1);
            let (position, _) = &self.store.agains[&p];
            assert_eq!((position.next, position.open.as_slice(), position.handed_over), (end, &[][..], true));
        }
        for node in &self.nodes {
            assert_eq!((node.engine.plan.in_flight(), node.engine.plan.parked(), node.engine.plan.kept()), (0, 0, 0));
        }
    }

    /// Everything goes its way until all is over, at most so many rounds.
    fn run(&mut self, rounds: usize) {
        for _ in 0..rounds {
            if self.is_over() {
                return;
            }
            for n in 0..NODES {
                self.round(n);
            }
            self.advance(if self.flights.is_empty() { Duration::from_millis(500) } else { WIRE });
        }
    }

    pub(super) fn round(&mut self, n: usize) {
        self.settle_all(n);
        if self.nodes[n].generation == 0 {
            return;
        }
        self.commit_as(n, false);
        self.ask_for_ends_of(n);
        while !self.nodes[n].fetches.is_empty() {
            self.fetch();
        }
        for p in self.nodes[n].owned.clone() {
            for _ in 0..10 {
                self.read_one(n, p);
                self.read_again_one(n, p);
            }
        }
        self.admit(n);
        while self.dispatch_one(n) {}
    }
}
