//! The engine in random histories: a model of Kafka, of a target of each idempotency class and of deliverers that
//! crash, freeze and hand over, driven by one seed with the clock as a parameter. The worker does the same with real
//! ones; every decision is the engine's.
//!
//! `LEDGERHOOK_SEED=17 cargo test --lib histories -- --nocapture` replays one history and tells its steps.

mod calm;
mod end;
mod group;
mod limits;
mod store;
mod target;
mod world;

use std::time::Duration;

use rand::RngExt as _;

use crate::targets::Idempotency;
use world::{Counts, SETTLE, VALIDITY, World};

const CLASSES: [Idempotency; 4] = [
    Idempotency::Upsert,
    // A key has to be valid when the target acts, not when the request leaves.
    Idempotency::Key { validity: Some(VALIDITY.saturating_sub(SETTLE)) },
    Idempotency::LookUp { settle: SETTLE },
    Idempotency::Reject,
];

fn history(seed: u64) -> World {
    let class = CLASSES[usize::try_from(seed % 4).unwrap()];
    let mut world = World::new(seed, class);
    world.rebalance();
    for _ in 0..700 {
        match world.rng.random_range(0..1000) {
            0..120 => world.produce(),
            120..270 => world.read(),
            270..285 => world.ask_again(),
            285..300 => world.read_again(),
            300..500 => world.dispatch(),
            500..640 => world.settle(),
            640..700 => world.fetch(),
            700..840 => world.commit(),
            840..970 => {
                let step = [5, 20, 100, 1000][world.rng.random_range(0..4)];
                let time = Duration::from_millis(step * world.rng.random_range(1..5));
                world.advance(time);
            }
            970..980 => world.crash(),
            980..986 => world.freeze(),
            986..990 => world.abort(),
            _ => world.rebalance(),
        }
    }
    world.finish();
    world
}

/// Runs this many histories, or the one that is asked for.
fn histories(class: usize, count: u64) -> Counts {
    let mut totals = Counts::default();
    if let Ok(seed) = std::env::var("LEDGERHOOK_SEED") {
        let seed: u64 = seed.parse().unwrap();
        if seed % 4 == u64::try_from(class).unwrap() {
            history(seed);
        }
        return totals;
    }
    for seed in (u64::try_from(class).unwrap()..count * 4).step_by(4) {
        match std::panic::catch_unwind(|| history(seed).counts) {
            Ok(counts) => totals.add(&counts),
            Err(panic) => {
                println!("LEDGERHOOK_SEED={seed} replays this history");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{totals:?}");
    // Histories in which nothing happens show nothing.
    assert!(totals.repeats > 1_000 && totals.parked > 1_000 && totals.fetches > 1_000, "{totals:?}");
    assert!(totals.again > 1_000 && totals.stale > 100, "{totals:?}");
    assert!(totals.crashes > 1_000 && totals.zombies > 100 && totals.dead > 50, "{totals:?}");
    totals
}

#[test]
fn histories_with_upserts() {
    histories(0, 500);
}

#[test]
fn histories_with_keys() {
    histories(1, 500);
}

#[test]
fn histories_with_look_ups() {
    // Most of what is uncertain is found, so fewer records are given up: more histories for as many.
    let totals = histories(2, 750);
    assert!(totals.look_ups > 500 || std::env::var("LEDGERHOOK_SEED").is_ok(), "{totals:?}");
}

#[test]
fn histories_with_refusals() {
    histories(3, 500);
}

/// The others' times, to the millisecond, with one poisoned key among them and without it.
#[test]
fn a_poisoned_key_costs_the_others_nothing() {
    let times = |poisoned: bool| {
        let mut world = World::calm(11, CLASSES[1], 400, 100, poisoned.then_some(7));
        let ended = world.run_calm();
        ended.into_iter().filter(|(key, _)| *key != 7).map(|(_, time)| time).collect::<Vec<_>>()
    };
    let (clean, poisoned) = (times(false), times(true));
    assert_eq!(clean.len(), poisoned.len());
    let p99 = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times[times.len() * 99 / 100]
    };
    let (clean, poisoned) = (p99(clean), p99(poisoned));
    assert!(poisoned <= clean + clean / 10, "p99 {poisoned:?} with one poisoned key, {clean:?} without");
}

/// A target that is down for minutes: nothing is given up, and what waited comes at the target's pace.
#[test]
fn a_target_that_is_down_costs_nothing_but_time() {
    let mut world = World::calm(5, CLASSES[0], 200, 50, None);
    world.down_until(Duration::from_secs(600));
    world.run_calm();
    assert_eq!((world.counts.dead, world.delivered()), (0, 200));
    let tries = world.tries_while_down();
    assert!(tries < 120, "{tries} tries at a target that is down");
    assert!(world.most_in_flight <= world::MAX_IN_FLIGHT);
}
