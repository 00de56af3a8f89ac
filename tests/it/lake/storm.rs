//! Two writers killed at random moments and at every step, one frozen while another takes over: every row once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ledgerhook::config::Config;
use ledgerhook::event::{Decimal, Envelope, Record, TransactionRecord};
use ledgerhook::router::mapping::Mapper;
use ledgerhook::simulate::fixtures::{FIXTURES, Fixture, Template};
use ledgerhook::topics::RECORDS;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;

use super::readers::{Read, count};
use super::remote::{Remote, forgetful};
use super::{assert_exact, envelope, instance, invoice, local, produce, rows, start, write};
use crate::common::process::Process;
use crate::common::records::encoded;
use crate::common::{Installation, install};

const SEED: u64 = 20_261_122;
/// Steps at which the program can be told to die.
const STEPS: [&str; 3] = ["lake.files_written", "lake.before_commit", "lake.after_commit"];
/// A commit is in the table at the last of them, and at none before.
const DONE: &str = STEPS[2];
/// Longest that a writer is waited for that is to die at a step.
const STEP: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread")]
async fn writers_killed_at_random_write_every_row_once() {
    let (_dir, lake) = local("rows = 400, every = \"500ms\"");
    storm(&install(&lake).await, 5, 6_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_killed_at_random_before_a_catalog_that_forgets_write_every_row_once() {
    forgetful_storm(3, 3_000, "rows = 300, every = \"500ms\"").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long form: scripts/test --long"]
async fn long_storm_of_the_lake() {
    let (_dir, lake) = local("rows = 3000, every = \"500ms\"");
    let stormed = storm(&install(&lake).await, 50, 500_000).await;
    stormed.assert_wild();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long form: scripts/test --long"]
async fn long_storm_of_the_lake_before_a_catalog_that_forgets() {
    forgetful_storm(50, 500_000, "rows = 6000, every = \"500ms\"").await.assert_wild();
}

async fn forgetful_storm(kills: i64, events: i64, commit: &str) -> Stormed {
    let remote = Remote::start().await;
    let (address, forgotten) = forgetful(remote.rest.clone()).await;
    let toml = remote.toml(&address).replacen("rows = 500, every = \"1s\"", commit, 1);
    let stormed = storm(&install(&toml).await, kills, events).await;
    let forgotten = forgotten.load(Ordering::Relaxed);
    println!("{forgotten} commits were done and answered 500");
    assert!(forgotten >= 2, "it forgot too little to show anything");
    stormed
}

/// What the rounds of a storm brought by chance.
struct Stormed {
    /// Writers that died at a step, of those told to.
    died: usize,
    told: usize,
    /// Batches that one writer lost to the other.
    lost: usize,
}

impl Stormed {
    /// Of fifty rounds. Half of the writers that come after a killed one are told to die at one of the first five times
    /// at a step; rows come in every round, of which each table's batches are so many. And in each the two read the same
    /// rows for all but the second that a start takes: of each batch that both have, one loses it. That neither happens
    /// in any of fifty is no chance.
    fn assert_wild(&self) {
        assert!(self.told >= 10, "the seed tells {} to die", self.told);
        assert!(self.died > 0, "none of {} writers died at a step", self.told);
        assert!(self.lost > 0, "the two were never in each other's way");
    }
}

/// Starts one of the two writers. Both write whatever the group says, all the time, or to die at a step.
fn writer(file: &Path, step: Option<String>) -> Process {
    start(file, &std::iter::once("lake.leads:1".to_owned()).chain(step).collect::<Vec<_>>().join(","))
}

/// How often it lost a batch to the other.
fn fenced(writer: &Process) -> usize {
    writer.lines(&["the table is not where this batch begins"]).len()
}

/// The events of a storm, in every topic.
struct Events<'a> {
    installation: &'a Installation,
    mapper: Mapper,
    /// Types of events whose records go to other topics than invoices and transactions.
    others: Vec<(&'static Fixture, Template)>,
    /// Events so far.
    to: i64,
    /// Rows of the other topics, and the sum of their amounts.
    came: BTreeMap<String, (i64, i128)>,
}

impl<'a> Events<'a> {
    fn new(installation: &'a Installation) -> Self {
        let routes = Config::defaults().unwrap_or_else(|faults| panic!("{faults}")).routes;
        let mapper = Mapper::new([("accelex", "accelex"), ("accbooks", "accbooks")], &routes).unwrap();
        let all = FIXTURES.iter().map(|fixture| (fixture, fixture.template().unwrap()));
        let others = all.filter(|(fixture, template)| {
            let topic = record(&mapper, fixture, template, 0).topic().to_owned();
            !["invoices", "transactions"].contains(&topic.as_str())
        });
        Self { installation, others: others.collect(), mapper, to: 0, came: BTreeMap::new() }
    }

    /// The next ones: of each an invoice, its envelope, a transaction of the same amount, and a record of another type.
    async fn come(&mut self, number: i64) {
        let numbers = self.to..self.to + number;
        self.to = numbers.end;
        produce(self.installation, numbers.clone()).await;
        let mut values = Vec::new();
        for n in numbers {
            let (fixture, template) = &self.others[usize::try_from(n).unwrap() % self.others.len()];
            let other = record(&self.mapper, fixture, template, n);
            let came = self.came.entry(other.topic().to_owned()).or_default();
            came.0 += 1;
            came.1 += amount(&other).map_or(0, Decimal::unscaled);
            for record in [Record::from(transaction(n)), other] {
                values.push((record.topic().to_owned(), record.key(), encoded(self.installation, &record)));
            }
        }
        write(self.installation, values).await;
    }

    /// Waits until every table has all of it, and holds each to what came: rows, ids, and sums of amounts.
    async fn assert_all_there(&self) {
        // Far beyond what is left takes, however many there are.
        let until = Instant::now() + Duration::from_secs(240);
        let whole = ["invoices", "transactions", "events"].map(|table| (table, self.to));
        let others = self.came.iter().map(|(table, (rows, _))| (table.as_str(), *rows));
        let all: Vec<_> = whole.into_iter().chain(others).collect();
        assert_eq!(all.len(), 1 + RECORDS.len(), "every table has a part in it: {all:?}");
        for (table, came) in all {
            while count(self.installation, table).await != Some(came) && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            let seen = rows(self.installation, table, came).await;
            match self.came.get(table) {
                None => assert_exact(&seen, 0..came),
                Some((_, sum)) => assert_sum(&seen, table, came, Decimal::from_unscaled(*sum).unwrap()),
            }
            if table == "events" {
                assert_eq!(seen.bodies, Some(came * 300));
            }
            let (files, total) = (seen.files.count, seen.engines[0].total.as_deref().unwrap_or_default());
            println!("seed {SEED}, {table}: {came} rows in {files} files, total {total}");
        }
    }
}

fn assert_sum(seen: &Read, table: &str, rows: i64, sum: Decimal) {
    assert_eq!(seen.engines.len(), 3);
    for engine in &seen.engines {
        assert_eq!((engine.rows, engine.places, engine.events), (rows, rows, rows), "{table} by {}", engine.name);
        if let Some(total) = &engine.total {
            assert_eq!(total.parse::<Decimal>().unwrap(), sum, "{table} by {}", engine.name);
        }
    }
}

/// The record of the simulator's event of this number.
fn record(mapper: &Mapper, fixture: &Fixture, template: &Template, n: i64) -> Record {
    let event = template.event(SEED, u64::try_from(n).unwrap());
    let envelope = Envelope {
        event_id: event.id,
        source: fixture.provider.to_owned(),
        event_type: fixture.event_type.to_owned(),
        body: event.body.into(),
        ..envelope(n)
    };
    mapper.map(&envelope).unwrap_or_else(|fault| panic!("{}", fault.detail))
}

/// What the readers sum up of its table.
fn amount(record: &Record) -> Option<Decimal> {
    match record {
        Record::Compliance(record) => record.gross_amount,
        Record::Contract(record) => record.risk_score,
        Record::Review(record) => record.confidence,
        _ => None,
    }
}

fn transaction(n: i64) -> TransactionRecord {
    let invoice = invoice(n);
    TransactionRecord {
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
    }
}

/// Rows in all tables.
async fn written(installation: &Installation) -> i64 {
    let mut sum = 0;
    for table in RECORDS.map(|(topic, _)| topic).into_iter().chain(["events"]) {
        sum += count(installation, table).await.unwrap_or_default();
    }
    sum
}

/// Each writer dies while it is alone. Rows wait for it, so that it has to come to its step; and both come to the last,
/// which leaves rows of theirs behind: the two do take turns.
async fn die_alone(events: &mut Events<'_>, files: &[impl AsRef<Path>; 2]) {
    let mut before = 0;
    for (number, step) in [(0, STEPS[0]), (1, STEPS[1]), (0, DONE), (1, DONE)] {
        events.come(20).await;
        let ended = writer(files[number].as_ref(), Some(format!("{step}:1"))).ended().await;
        assert_eq!(ended.code, None, "it was to die at {step}: {}", ended.stderr);
        let after = written(events.installation).await;
        assert!(if step == DONE { after > before } else { after == before }, "{step}: {before} rows, then {after}");
        before = after;
    }
}

/// Rows come until one writer has lost a batch to the other. Both read the same ones, and of a batch that both have one
/// alone is committed: only while one is not there yet nobody loses.
async fn meet(events: &mut Events<'_>, writers: &[Process; 2]) {
    let until = Instant::now() + Duration::from_secs(60);
    while writers.iter().map(fenced).sum::<usize>() == 0 {
        assert!(Instant::now() < until, "of two writers none lost a batch to the other");
        events.come(5).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Kills one of two writers this often while events come in, as many as these at the end.
async fn storm(installation: &Installation, kills: i64, number: i64) -> Stormed {
    let files = [instance(installation, 1), instance(installation, 2)];
    let mut rng = StdRng::seed_from_u64(SEED);
    let mut events = Events::new(installation);
    die_alone(&mut events, &files).await;
    let mut writers = [0, 1].map(|number| writer(&files[number], None));
    meet(&mut events, &writers).await;
    let met = writers.iter().map(fenced).sum::<usize>();
    let (opened, mut stormed) = (events.to, Stormed { died: 0, told: 0, lost: 0 });
    for round in 0..kills {
        let coming = events.come(opened + (number - opened) * (round + 1) / kills - events.to);
        let killing = async {
            tokio::time::sleep(Duration::from_millis(rng.random_range(200..2_500))).await;
            let number = rng.random_range(0..2);
            // Half of those that come after die at a step of a commit, if nobody ends them sooner.
            let step = rng
                .random_bool(0.5)
                .then(|| format!("{}:{}", STEPS[rng.random_range(0..STEPS.len())], rng.random_range(1..6)));
            let (dies, until) = (step.is_some(), Instant::now() + STEP);
            stormed.lost += fenced(&writers[number]);
            std::mem::replace(&mut writers[number], writer(&files[number], step)).kill();
            while dies && !writers[number].has_ended() && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            stormed.told += usize::from(dies);
            stormed.died += usize::from(dies && writers[number].has_ended());
        };
        tokio::join!(coming, killing);
    }
    for number in [0, 1] {
        if writers[number].has_ended() {
            stormed.lost += fenced(&writers[number]);
            writers[number] = writer(&files[number], None);
        }
    }
    assert_eq!(events.to, number);
    events.assert_all_there().await;
    stormed.lost += writers.iter().map(fenced).sum::<usize>();
    stormed.lost -= met;
    let Stormed { died, told, lost } = &stormed;
    println!("{kills} kills, {died} of {told} more at a step; the two writers lost to each other {lost} times");
    for writer in writers {
        writer.terminate();
        assert_eq!(writer.ended().await.code, Some(0));
    }
    stormed
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
