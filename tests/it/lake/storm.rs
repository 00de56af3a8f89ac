//! Two writers killed at random moments and at every step, one frozen while another takes over: every row once.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ledgerhook::event::{Record, TransactionRecord};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;

use super::readers::count;
use super::remote::{Remote, forgetful};
use super::{assert_exact, instance, invoice, local, produce, rows, start, write};
use crate::common::process::Process;
use crate::common::{Installation, install};

const SEED: u64 = 20_261_122;
/// Steps at which the program can be told to die.
const STEPS: [&str; 3] = ["lake.files_written", "lake.before_commit", "lake.after_commit"];
/// Longest that a writer is waited for that is to die at a step.
const STEP: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread")]
async fn writers_killed_at_random_write_every_row_once() {
    let (_dir, lake) = local("rows = 400, every = \"500ms\"");
    storm(&install(&lake).await, 6, 6_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_killed_at_random_before_a_catalog_that_forgets_write_every_row_once() {
    forgetful_storm(4, 3_000, "rows = 300, every = \"500ms\"").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long form: scripts/test --long"]
async fn long_storm_of_the_lake() {
    let (_dir, lake) = local("rows = 3000, every = \"500ms\"");
    storm(&install(&lake).await, 50, 500_000).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long form: scripts/test --long"]
async fn long_storm_of_the_lake_before_a_catalog_that_forgets() {
    forgetful_storm(50, 500_000, "rows = 6000, every = \"500ms\"").await;
}

async fn forgetful_storm(kills: i64, events: i64, commit: &str) {
    let remote = Remote::start().await;
    let (address, forgotten) = forgetful(remote.rest.clone()).await;
    let toml = remote.toml(&address).replacen("rows = 500, every = \"1s\"", commit, 1);
    storm(&install(&toml).await, kills, events).await;
    let forgotten = forgotten.load(Ordering::Relaxed);
    println!("{forgotten} commits were done and answered 500");
    assert!(forgotten >= 2, "it forgot too little to show anything");
}

/// Starts one of the two writers. The second writes whatever the group says, so that both do, all the time.
fn writer(file: &Path, number: usize, step: Option<String>) -> Process {
    let leads = (number == 1).then(|| "lake.leads:1".to_owned());
    start(file, &leads.into_iter().chain(step).collect::<Vec<_>>().join(","))
}

/// Invoices, their envelopes, and transactions of the same amounts.
async fn come(installation: &Installation, numbers: Range<i64>) {
    produce(installation, numbers.clone()).await;
    let encoder = installation.encoders.of("transactions").unwrap();
    let rows = numbers.map(|n| {
        let invoice = invoice(n);
        let transaction = TransactionRecord {
            event_id: invoice.event_id,
            source: invoice.source,
            event_type: "transaction.created".to_owned(),
            entity_id: invoice.entity_id,
            occurred_at: invoice.occurred_at,
            received_at: invoice.received_at,
            body_sha256: invoice.body_sha256,
            work_unit_id: None,
            provenance: None,
            validation: vec![],
            attributes: invoice.attributes,
            transaction_id: None,
            bank_account_id: None,
            amount: invoice.total_amount,
            currency: invoice.currency,
            description: Some(format!("transaction {n}")),
            booked_at: None,
            category: None,
            classified_by: None,
        };
        let encoded = encoder.encode(&transaction).unwrap();
        ("transactions".to_owned(), Record::from(transaction).key(), encoded)
    });
    write(installation, rows).await;
}

/// Kills one of two writers this often while this many events come in.
async fn storm(installation: &Installation, kills: i64, events: i64) {
    let files = [instance(installation, 1), instance(installation, 2)];
    let mut rng = StdRng::seed_from_u64(SEED);
    let mut writers = [0, 1].map(|number| writer(&files[number], number, None));
    let (mut died, mut lost) = (0, 0);
    let fenced = |writer: &Process| writer.lines(&["the table is not where this batch begins"]).len();
    for round in 0..kills {
        let coming = come(installation, events * round / kills..events * (round + 1) / kills);
        let killing = async {
            tokio::time::sleep(Duration::from_millis(rng.random_range(200..2_500))).await;
            let number = rng.random_range(0..2);
            // Half of those that come after die at a step of a commit, if nobody ends them sooner.
            let step = rng
                .random_bool(0.5)
                .then(|| format!("{}:{}", STEPS[rng.random_range(0..STEPS.len())], rng.random_range(1..6)));
            let (dies, until) = (step.is_some(), Instant::now() + STEP);
            lost += fenced(&writers[number]);
            std::mem::replace(&mut writers[number], writer(&files[number], number, step)).kill();
            while dies && !writers[number].has_ended() && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            died += i64::from(dies && writers[number].has_ended());
        };
        tokio::join!(coming, killing);
    }
    for number in [0, 1] {
        if writers[number].has_ended() {
            lost += fenced(&writers[number]);
            writers[number] = writer(&files[number], number, None);
        }
    }
    // Far beyond what is left takes, however many there are.
    let until = Instant::now() + Duration::from_secs(240);
    for table in ["invoices", "transactions", "events"] {
        while count(installation, table).await != Some(events) && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let seen = rows(installation, table, events).await;
        assert_exact(&seen, 0..events);
        if table == "events" {
            assert_eq!(seen.bodies, Some(events * 300));
        }
        let (files, total) = (seen.files.count, seen.engines[0].total.as_deref().unwrap_or_default());
        println!(
            "seed {SEED}, {table}: {events} rows in {files} files, {kills} kills, {died} more at a step, total {total}"
        );
    }
    lost += writers.iter().map(fenced).sum::<usize>();
    println!("the two writers lost to each other {lost} times");
    for writer in writers {
        writer.terminate();
        assert_eq!(writer.ended().await.code, Some(0));
    }
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
