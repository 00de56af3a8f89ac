//! The writer killed at random moments and at every step, frozen while another takes over: every row once.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::{assert_exact, instance, local, produce, rows, start};
use crate::common::install;

const SEED: u64 = 20_261_122;
/// Steps at which the program can be told to die.
const STEPS: [&str; 3] = ["lake.files_written", "lake.before_commit", "lake.after_commit"];

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_killed_at_random_writes_every_row_once() {
    storm(6, 6_000, 400).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long form: scripts/test --long"]
async fn long_storm_of_the_lake() {
    storm(50, 500_000, 3_000).await;
}

/// Kills the writer this often while this many events come in.
async fn storm(kills: i64, events: i64, batch: usize) {
    let (_dir, lake) = local(&format!("rows = {batch}, every = \"500ms\""));
    let installation = install(&lake).await;
    let file = installation.file();
    let mut rng = StdRng::seed_from_u64(SEED);
    let each = events / kills;
    let mut died = 0;
    for round in 0..kills {
        produce(&installation, round * each..if round == kills - 1 { events } else { (round + 1) * each }).await;
        // Half of them die at a step of a commit, the others whenever.
        let step = rng
            .random_bool(0.5)
            .then(|| format!("{}:{}", STEPS[rng.random_range(0..STEPS.len())], rng.random_range(1..6)));
        let writer = start(&file, step.as_deref().unwrap_or_default());
        let wait = Duration::from_millis(rng.random_range(500..5_000));
        if step.is_some() {
            let ended = tokio::time::timeout(Duration::from_secs(12), writer.ended()).await;
            // Dropped where it did not come to its step.
            died += i64::from(ended.is_ok_and(|ended| ended.code.is_none()));
        } else {
            tokio::time::sleep(wait).await;
            writer.kill();
        }
    }
    let writer = start(&file, "");
    let invoices = rows(&installation, "invoices", events).await;
    assert_exact(&invoices, 0..events);
    let seen = rows(&installation, "events", events).await;
    assert_exact(&seen, 0..events);
    assert_eq!(seen.bodies, Some(events * 300));
    println!(
        "seed {SEED}: {kills} kills ({died} at a step), {events} events, {} files of invoices, total {}",
        invoices.files.count,
        invoices.engines[0].total.as_deref().unwrap_or_default()
    );
    writer.terminate();
    assert_eq!(writer.ended().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_was_frozen_loses_to_the_one_that_took_over() {
    let (_dir, lake) = local("rows = 100000, every = \"4s\"");
    let installation = install(&lake).await;
    let first = instance(&installation, 1);
    let second = instance(&installation, 2);
    produce(&installation, 0..500).await;
    let mut frozen = start(&first, "");
    frozen.line(&["ready", "lake"]).await;
    rows(&installation, "invoices", 500).await;
    // It has these in its batch, and is stopped before it commits them.
    produce(&installation, 500..900).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    frozen.signal("-STOP");
    let other = start(&second, "");
    rows(&installation, "invoices", 900).await;
    // Its batch is due at once; whether it learns first that it was replaced or meets the fence, nothing is doubled.
    frozen.signal("-CONT");
    produce(&installation, 900..1_000).await;
    rows(&installation, "invoices", 1_000).await;
    frozen.terminate();
    frozen.ended().await;
    assert_exact(&rows(&installation, "invoices", 1_000).await, 0..1_000);
    assert_exact(&rows(&installation, "events", 1_000).await, 0..1_000);
    other.terminate();
    other.ended().await;
}
