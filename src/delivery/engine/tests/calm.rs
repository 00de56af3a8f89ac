//! Worlds without faults but the one that is looked at, in which times can be compared.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::world::{PARTITIONS, Record, World};
use crate::config::{OnGiveUp, Retry};
use crate::delivery::engine::Engine;
use crate::delivery::schedule::Policy;
use crate::targets::Idempotency;

impl World {
    /// A world without faults: `records` of `keys` keys come one each 10 ms, dealt out in turn.
    pub(super) fn calm(seed: u64, class: Idempotency, records: usize, keys: u8, poisoned: Option<u8>) -> Self {
        let mut world = Self::new(seed, class);
        world.faults = false;
        let second = Duration::from_secs(1);
        for node in &mut world.nodes {
            let mut rules = node.engine.rules();
            rules.policy = Policy {
                retry: Retry { first: second, max: second * 600, give_up_after: second * 3600 },
                on_give_up: OnGiveUp::Hold,
            };
            rules.limits.read_ahead = 100;
            node.engine = Engine::new(rules, SmallRng::seed_from_u64(seed));
        }
        for i in 0..records {
            let key = u8::try_from(i % usize::from(keys)).unwrap();
            let p = usize::from(key) % PARTITIONS;
            let offset = i64::try_from(world.logs[p].len()).unwrap();
            let at = world.now + Duration::from_millis(10) * u32::try_from(i).unwrap();
            world.logs[p].push(Record { offset, key, poisoned: poisoned == Some(key), at });
        }
        world
    }

    pub(super) fn down_until(&mut self, time: Duration) {
        self.down = Some(self.t0 + time);
    }

    /// One deliverer takes records as they come; the time that each key's record took from there to its document.
    pub(super) fn run_calm(&mut self) -> Vec<(u8, Duration)> {
        self.generation = 1;
        self.gain(0, (0..PARTITIONS).collect());
        let mut ended = Vec::new();
        let mut known = BTreeSet::new();
        for _ in 0..1_000_000 {
            self.settle_all(0);
            let engine = &self.nodes[0].engine;
            if engine.wants_commit(self.now) {
                self.commit_as(0, false);
            }
            self.fetch();
            for p in 0..PARTITIONS {
                while self.logs[p]
                    .iter()
                    .find(|r| r.offset >= self.nodes[0].read_to[p])
                    .is_some_and(|r| r.at <= self.now)
                {
                    if self.nodes[0].engine.plan.is_full() {
                        break;
                    }
                    self.read_one(0, p);
                }
            }
            while self.dispatch_one(0) {}
            for id in &self.store.delivered {
                if known.insert(*id) {
                    let record = self.logs[id.0][id.1];
                    ended.push((record.key, self.now - record.at));
                }
            }
            let open = |p: usize| {
                let log = &self.logs[p];
                let over = |i: &usize| log[*i].poisoned || self.store.delivered.contains(&(p, *i));
                (0..log.len()).all(|i| over(&i))
            };
            if (0..PARTITIONS).all(open) {
                return ended;
            }
            let quiet = self.nodes[0].engine.plan.unsettled() == 0;
            self.advance(Duration::from_millis(if quiet { 5 } else { 1 }));
        }
        panic!("records are stuck");
    }
}
