//! Worlds without faults but the one that is looked at, in which times can be compared.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::flight::Fate;
use super::world::{Id, Key, MAX_IN_FLIGHT, PARTITIONS, Record, World};
use crate::config::{OnGiveUp, Retry};
use crate::delivery::engine::Engine;
use crate::delivery::lane::Allowance;
use crate::delivery::schedule::Policy;
use crate::delivery::tally::Tally;
use crate::targets::Idempotency;

impl World {
    /// A world without faults: `records` of `keys` keys come one `every` so often, dealt out in turn.
    pub(super) fn calm(seed: u64, class: Idempotency, (records, keys): (usize, Key), every: Duration) -> Self {
        let mut world = Self::new(seed, class);
        world.faults = false;
        let second = Duration::from_secs(1);
        world.repeat(seed, Retry { first: second, max: second * 600, give_up_after: second * 3600 });
        for i in 0..records {
            let key = Key::try_from(i % usize::from(keys)).unwrap();
            let p = usize::from(key) % PARTITIONS;
            let offset = i64::try_from(world.logs[p].len()).unwrap();
            let at = world.now + every * u32::try_from(i).unwrap();
            world.logs[p].push(Record { offset, key, poisoned: false, at });
        }
        world
    }

    fn repeat(&mut self, seed: u64, retry: Retry) {
        for node in &mut self.nodes {
            let mut rules = node.engine.rules();
            rules.policy = Policy { retry, on_give_up: OnGiveUp::Hold };
            rules.limits.read_ahead = Tally::of(100);
            rules.allowance = Allowance::of(MAX_IN_FLIGHT);
            node.engine = Engine::new(rules, SmallRng::seed_from_u64(seed));
        }
    }

    /// Has this key fail, ten times a second. What a request takes goes by its record alone from now on, so that times
    /// with it and without it can be compared.
    pub(super) fn poison(&mut self, seed: u64, key: Option<Key>) {
        let often = Duration::from_millis(100);
        self.repeat(seed, Retry { first: often, max: often, give_up_after: often * 36_000 });
        (self.poison, self.steady) = (Fate::Fails, Some(seed));
        for record in self.logs.iter_mut().flatten() {
            record.poisoned = key == Some(record.key);
        }
    }

    /// When each record of other keys than this one came to the target.
    pub(super) fn others(&self, key: Key) -> BTreeMap<Id, Duration> {
        let arrived = self.target.arrived().iter().filter(|((p, i), _)| self.logs[*p][*i].key != key);
        arrived.map(|(id, at)| (*id, *at - self.t0)).collect()
    }

    pub(super) fn down_until(&mut self, time: Duration) {
        self.down = Some(self.t0 + time);
    }

    /// One deliverer takes records as they come; when the end of each was committed.
    pub(super) fn run_calm(&mut self) -> BTreeMap<Id, Duration> {
        self.generation = 1;
        self.gain(0, (0..PARTITIONS).collect());
        let wanted = self.logs.iter().flatten().filter(|record| !record.poisoned).count();
        let mut ended = BTreeMap::new();
        for _ in 0..1_000_000 {
            self.settle_all(0);
            let engine = &self.nodes[0].engine;
            if engine.wants_commit(self.now) {
                self.commit_as(0, false);
            }
            self.fetch();
            for p in 0..PARTITIONS {
                loop {
                    let (log, read_to) = (&self.logs[p], self.nodes[0].read_to[p]);
                    let next = log.get(log.partition_point(|r| r.offset < read_to));
                    if next.is_none_or(|r| r.at > self.now) {
                        break;
                    }
                    if self.nodes[0].engine.plan.is_full() {
                        break;
                    }
                    self.read_one(0, p);
                }
            }
            while self.dispatch_one(0) {}
            ended.extend(self.store.ended.drain(..).map(|id| (id, self.now - self.t0)));
            // A poisoned record is never delivered.
            if ended.len() == wanted {
                return ended;
            }
            let quiet = self.nodes[0].engine.plan.unsettled() == 0;
            // Steps of one length where times are compared.
            self.advance(Duration::from_millis(if quiet && self.steady.is_none() { 5 } else { 1 }));
        }
        panic!("records are stuck");
    }
}
