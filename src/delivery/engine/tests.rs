//! The engine in random histories: a model of Kafka, of a target of each idempotency class and of deliverers that
//! crash, freeze and hand over, driven by one seed with the clock as a parameter. The worker does the same with real
//! ones; every decision is the engine's.
//!
//! `LEDGERHOOK_SEED=17 cargo test --lib histories -- --nocapture` replays one history and tells its steps.

mod calm;
mod end;
mod flight;
mod group;
mod limits;
mod linger;
mod store;
mod target;
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt as _;

use super::{IDLE_LINGER, LINGER};
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
            840..850 => world.ask_for_ends(),
            850..970 => {
                let step = [5, 20, 100, 1000][world.rng.random_range(0..4)];
                let time = Duration::from_millis(step * world.rng.random_range(1..5));
                world.advance(time);
            }
            970..980 => world.crash(),
            980..986 => world.freeze(),
            986..990 => world.abort(),
            990..994 => world.go_deaf(),
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
    assert!(totals.unaware > 50 && totals.ends > 1_000, "{totals:?}");
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

/// A failing seed is worth nothing where it does not fail again.
#[test]
fn a_seed_gives_the_same_history_again() {
    for seed in 0..40 {
        let (first, again) = (history(seed), history(seed));
        let came = |world: &World| world.others(world::Key::MAX);
        assert_eq!((first.counts, came(&first)), (again.counts, came(&again)), "seed {seed}");
    }
}

/// The key that fails in some worlds.
const POISONED: world::Key = 7;

/// A world without faults, but for one key that fails where it is `poisoned`; when the end of each record was committed.
fn calm(seed: u64, class: usize, every: u64, poisoned: bool) -> (World, BTreeMap<world::Id, Duration>) {
    calm_of((150, 50), seed, class, every, poisoned)
}

/// The same with so many records of so many keys.
fn calm_of(
    of: (usize, world::Key),
    seed: u64,
    class: usize,
    every: u64,
    poisoned: bool,
) -> (World, BTreeMap<world::Id, Duration>) {
    let mut world = World::calm(seed, CLASSES[class], of, Duration::from_millis(every));
    world.poison(seed, poisoned.then_some(POISONED));
    let ended = world.run_calm();
    (world, ended)
}

/// How often the poisoned key was tried: every other record was tried once.
fn poisoned_tries(world: &World) -> usize {
    world.counts.tries - world.others(POISONED).len()
}

/// As long as there are places, every other record comes to the target at the same millisecond, whether or not one key
/// fails all the time. Only the commit of its end may come at another one: it waits for company from the first end on
/// that is not committed, and that may be one of the failed tries.
#[test]
fn a_poisoned_key_delays_nobody_while_places_are_free() {
    for (seed, class) in (0..3).flat_map(|seed| (0..CLASSES.len()).map(move |class| (seed, class))) {
        let ((clean, clean_ends), (poisoned, ends)) = (calm(seed, class, 70, false), calm(seed, class, 70, true));
        assert_eq!(poisoned.others(POISONED), clean.others(POISONED), "seed {seed}, class {class}");
        let shifted = ends.iter().map(|(id, end)| end.abs_diff(clean_ends[id])).max().unwrap();
        assert!(shifted <= IDLE_LINGER, "seed {seed}, class {class}: a commit came {shifted:?} earlier or later");
        // Where it is looked for, not before the target has settled.
        let enough = if matches!(CLASSES[class], Idempotency::LookUp { .. }) { 1 } else { 50 };
        assert!(poisoned_tries(&poisoned) >= enough, "{} tries of the poisoned key", poisoned_tries(&poisoned));
    }
}

/// The same of one key in ten thousand, which fails all the time: exactly, and not only at the 99th percentile.
#[test]
fn one_poisoned_key_in_ten_thousand_delays_nobody() {
    let run = |poisoned| calm_of((10_000, 10_000), 11, 0, 70, poisoned);
    let ((clean, _), (poisoned, _)) = (run(false), run(true));
    assert_eq!(poisoned.others(POISONED).len(), 9_999);
    assert_eq!(poisoned.others(POISONED), clean.others(POISONED));
    assert!(poisoned_tries(&poisoned) >= 1_000, "{} tries of the poisoned key", poisoned_tries(&poisoned));
}

/// Where every place is taken all the time, one key that fails takes what its tries take, shared by all places: by no
/// more, and the length of one try, is the target behind with the others' records at any time. Whose turn it is changes
/// with it: a single one may come later by another try's length.
#[test]
fn a_poisoned_key_costs_others_no_more_than_its_share_of_places() {
    const HOLD: Duration = flight::STEADY_WIRE.saturating_mul(2).saturating_add(LINGER);
    let places = u32::try_from(world::MAX_IN_FLIGHT).unwrap();
    for (seed, class) in (0..5).flat_map(|seed| (0..CLASSES.len()).map(move |class| (seed, class))) {
        let ((clean, _), (poisoned, _)) = (calm(seed, class, 0, false), calm(seed, class, 0, true));
        assert_eq!((clean.most_in_flight, poisoned.most_in_flight), (world::MAX_IN_FLIGHT, world::MAX_IN_FLIGHT));
        let (clean_times, times) = (clean.others(POISONED), poisoned.others(POISONED));
        let tries = u32::try_from(poisoned_tries(&poisoned)).unwrap();
        let share = HOLD * tries / places + HOLD;
        let sorted = |times: &BTreeMap<world::Id, Duration>| {
            let mut times: Vec<Duration> = times.values().copied().collect();
            times.sort_unstable();
            times
        };
        let behind =
            sorted(&times).into_iter().zip(sorted(&clean_times)).map(|(time, clean)| time.saturating_sub(clean));
        let behind = behind.max().unwrap();
        let later = times.iter().map(|(id, time)| time.saturating_sub(clean_times[id])).max().unwrap();
        let told = format!("seed {seed}, class {class}: {behind:?} behind, one {later:?} later, for {tries} tries");
        assert!(behind <= share && later <= share + HOLD, "{told}");
    }
}

/// A target that is down for minutes: nothing is given up, and what waited comes at the target's pace.
#[test]
fn a_target_that_is_down_costs_nothing_but_time() {
    let mut world = World::calm(5, CLASSES[0], (200, 50), Duration::from_millis(10));
    world.down_until(Duration::from_secs(600));
    world.run_calm();
    assert_eq!((world.counts.dead, world.delivered()), (0, 200));
    let tries = world.tries_while_down();
    assert!(tries < 120, "{tries} tries at a target that is down");
    assert!(world.most_in_flight <= world::MAX_IN_FLIGHT);
}
