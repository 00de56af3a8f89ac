//! Routers killed at random and at every step: the output holds each event once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::{Feeder, invoice};
use crate::common::process::Process;
use crate::common::{Installation, install, routed};

const SEED: u64 = 20_261_122;
/// Steps of a batch at which the program can be told to die.
const STEPS: [&str; 6] = [
    "router.after_poll",
    "router.after_produce",
    "router.after_offsets",
    "transaction.before_commit",
    "router.after_commit",
    "router.after_state",
];

/// A configuration for one router instance of the installation, with a data directory of its own.
pub(super) fn instance(installation: &Installation, number: usize) -> PathBuf {
    let folder = installation.data_dir.path().join(format!("instance-{number}"));
    std::fs::create_dir_all(&folder).unwrap();
    let own = format!("data_dir = \"{}\"", folder.display());
    let whole = format!("data_dir = \"{}\"", installation.data_dir.path().display());
    let file = folder.join("ledgerhook.toml");
    std::fs::write(&file, installation.toml.replacen(&whole, &own, 1)).unwrap();
    file
}

pub(super) fn start(config: &std::path::Path, dies: Option<(&str, u64)>) -> Process {
    let point = dies.map(|(step, times)| format!("{step}:{times}")).unwrap_or_default();
    Process::start(config, &["run", "--role", "router"], &[("LEDGERHOOK_FAILPOINT", &point)])
}

/// Every event of `ids` is one record, and nothing else is.
pub(super) async fn assert_each_once(installation: &Installation, ids: u64, seed: u64) {
    routed(installation).await;
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    for row in installation.records("invoices").await {
        *times.entry(row.headers.get("ce_id").unwrap().to_owned()).or_default() += 1;
    }
    let missing: Vec<u64> = (0..ids).filter(|n| !times.contains_key(&format!("e{n}"))).collect();
    let double: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    println!(
        "seed {seed}: {ids} events, {} records, missing {missing:?}, double {double:?}",
        times.values().sum::<u32>()
    );
    assert!(missing.is_empty() && double.is_empty() && times.len() as u64 == ids, "seed {seed}");
}

/// Feeds events until told to stop, a fifth of them twice; returns how many.
pub(super) async fn feed(installation: &Installation, stop: tokio_util::sync::CancellationToken, at_least: u64) -> u64 {
    let feeder = Feeder::new(installation);
    let mut rng = StdRng::seed_from_u64(SEED);
    let mut n = 0;
    while n < at_least || !stop.is_cancelled() {
        let fresh = n..n + 20;
        let again: Vec<u64> = (0..5).filter(|_| n > 0).map(|_| rng.random_range(0..n)).collect();
        let rows = fresh.chain(again).map(|n| invoice(&format!("e{n}"), &format!("inv_{}", n % 40), "1.50"));
        for row in rows {
            feeder.feed(&row).await;
        }
        n += 20;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    n
}

#[tokio::test(flavor = "multi_thread")]
async fn three_routers_killed_at_random_route_each_event_once() {
    storm(8, 2_000).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long form: scripts/test --long"]
async fn long_storm_of_three_routers() {
    storm(120, 160_000).await;
}

async fn storm(kills: usize, at_least: u64) {
    let installation = std::sync::Arc::new(install("").await);
    let stop = tokio_util::sync::CancellationToken::new();
    let feeding = {
        let (installation, stop) = (std::sync::Arc::clone(&installation), stop.clone());
        tokio::spawn(async move { feed(&installation, stop, at_least).await })
    };
    let configs: Vec<PathBuf> = (0..3).map(|n| instance(&installation, n)).collect();
    let mut routers: Vec<Option<Process>> = configs.iter().map(|config| Some(start(config, None))).collect();
    let mut rng = StdRng::seed_from_u64(SEED);
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(rng.random_range(200..2500))).await;
        let which = rng.random_range(0..3);
        match routers[which].take() {
            // Told to stop, it hands over; killed, it does not.
            Some(router) if rng.random_bool(0.25) => {
                router.terminate();
                drop(router.ended().await);
            }
            router => drop(router),
        }
        // One that stays away for longer loses its partitions to the others.
        if rng.random_bool(0.75) {
            routers[which] = Some(start(&configs[which], None));
        }
    }
    for (router, config) in routers.iter_mut().zip(&configs) {
        router.get_or_insert_with(|| start(config, None));
    }
    stop.cancel();
    let ids = feeding.await.unwrap();
    assert_each_once(&installation, ids, SEED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_dies_at_any_step_leaves_each_event_once() {
    deaths(2).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long form: scripts/test --long"]
async fn long_deaths_at_every_step() {
    deaths(20).await;
}

/// Dies this often at each step, always after another number of batches.
async fn deaths(each: u64) {
    let installation = std::sync::Arc::new(install("").await);
    let stop = tokio_util::sync::CancellationToken::new();
    let feeding = {
        let (installation, stop) = (std::sync::Arc::clone(&installation), stop.clone());
        tokio::spawn(async move { feed(&installation, stop, 200).await })
    };
    let config = instance(&installation, 0);
    for round in 0..each {
        for (n, step) in STEPS.iter().enumerate() {
            let times = 1 + (round * 7 + n as u64 * 3) % 6;
            let ended = start(&config, Some((step, times))).ended().await;
            assert_eq!(ended.code, None, "died of itself at {step}:{times}\n{}", ended.stderr);
        }
    }
    stop.cancel();
    let ids = feeding.await.unwrap();
    let _last = start(&config, None);
    assert_each_once(&installation, ids, SEED).await;
}

/// Another instance takes over from one that died with its transaction open: what that one wrote must neither count nor
/// hold anything up for longer than its timeout.
#[tokio::test(flavor = "multi_thread")]
async fn another_router_takes_over_an_open_transaction() {
    let installation = install("[router]\ntransaction_timeout = \"5s\"\n").await;
    let feeder = Feeder::new(&installation);
    for n in 0..40 {
        feeder.feed(&invoice(&format!("e{n}"), "inv", "1")).await;
    }
    let ended = start(&instance(&installation, 0), Some(("transaction.before_commit", 1))).ended().await;
    assert_eq!(ended.code, None, "{}", ended.stderr);
    let _other = start(&instance(&installation, 1), None);
    for n in 20..60 {
        feeder.feed(&invoice(&format!("e{n}"), "inv", "1")).await;
    }
    assert_each_once(&installation, 60, 0).await;
}
