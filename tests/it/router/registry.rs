//! The registry away while the router runs: what needs it waits, what does not goes on.

use std::sync::Arc;
use std::time::Duration;

use ledgerhook::avro;
use ledgerhook::config::SchemaRegistry;
use ledgerhook::event::Envelope;
use ledgerhook::kafka::layout::Ground;
use ledgerhook::lifecycle::Role;
use ledgerhook::router;
use ledgerhook::telemetry::health::State;
use tokio_util::sync::CancellationToken;

use super::{Feeder, invoice, settings};
use crate::common::way::Way;
use crate::common::{Installation, eventually, install};

/// Registers the envelope's schema with one more field, null by default, and tells its id.
pub(super) async fn later_version(installation: &Installation) -> u32 {
    let mut schema: serde_json::Value = serde_json::from_str(&avro::canonical("Envelope").unwrap()).unwrap();
    let field = serde_json::json!({ "name": "later", "type": ["null", "string"], "default": null });
    schema["fields"].as_array_mut().unwrap().push(field);
    let subject = installation.ground.cluster.topic("later-value");
    let url = format!("{}/subjects/{subject}/versions", installation.config.schema_registry.url);
    let request = reqwest::Client::new().post(url).header("content-type", "application/json");
    let answer = request.body(serde_json::json!({ "schema": schema.to_string() }).to_string()).send().await.unwrap();
    let answer: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    u32::try_from(answer["id"].as_u64().unwrap()).unwrap()
}

/// The event as the later version writes it.
pub(super) fn of_schema(installation: &Installation, event: &Envelope, schema: u32) -> Vec<u8> {
    let mut value = installation.encoders.of("received.accbooks").unwrap().encode(event).unwrap();
    value[1..5].copy_from_slice(&schema.to_be_bytes());
    // The new field: null.
    value.push(0);
    value
}

/// Leads to the registry by a way, which is open; closed, it gives each connection this reply.
pub(super) fn by_a_way(installation: &mut Installation, reply: Option<&'static [u8]>) -> Way {
    let (address, path) = {
        let url = installation.config.schema_registry.url.clone();
        let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        (address.to_owned(), path.to_owned())
    };
    let mut way = Way::refusing();
    let registry = SchemaRegistry {
        url: format!("http://{}/{path}", way.address),
        // What a question that is never answered costs, each time.
        timeout: Duration::from_secs(1),
        ..installation.config.schema_registry.clone()
    };
    way.accept(reply, &address);
    way.open();
    let topics = installation.ground.topics.clone();
    installation.ground = Arc::new(Ground::new(&installation.config.kafka, &registry, topics).unwrap());
    way
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_an_unknown_schema_waits_for_the_registry_and_holds_up_its_partition_alone() {
    row_waits_alone(None, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_accepts_and_never_answers_holds_up_no_more_than_one_that_is_away() {
    row_waits_alone(Some(b""), "").await;
}

/// What is refused is the question: the row is as good as any.
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_takes_our_token_no_more_gives_no_row_up() {
    const REPLY: &[u8] = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 46\r\nconnection: close\r\n\r\n\
        {\"error_code\":40101,\"message\":\"token expired\"}";
    row_waits_alone(Some(REPLY), "answered 401 (40101) token expired").await;
}

/// The registry cuts each connection at once, or gives it this reply and nothing else. The router says so in these words.
async fn row_waits_alone(reply: Option<&'static [u8]>, said: &str) {
    let mut installation = install("").await;
    let schema = later_version(&installation).await;
    let way = by_a_way(&mut installation, reply);
    let role = Role { stop: CancellationToken::new(), ..installation.role("router") };
    let stop = role.stop.clone();
    let running = tokio::spawn(router::run(settings(&installation), Arc::clone(&installation.ground), role));
    let outcome = |name: &str| installation.metrics.router_events.with_label_values(&["accbooks", name]).get();
    let feeder = Feeder::new(&installation);
    installation.ready("router").await;
    way.close();
    for n in 0..30 {
        feeder.feed(&invoice(&format!("e{n}"), "inv", "1")).await;
    }
    eventually("what our own schemas wrote needs no registry", || outcome("routed") == 30).await;

    let later = invoice("later", "inv", "1");
    feeder.raw("later", of_schema(&installation, &later, schema)).await;
    way.tried(1).await;
    for n in 30..60 {
        feeder.feed(&invoice(&format!("e{n}"), "inv", "1")).await;
    }
    let rows = installation.records("received.accbooks").await;
    let waits = rows.iter().find(|row| row.key.as_deref() == Some(b"later")).map(|row| (&row.partition, row.offset));
    let (partition, offset) = waits.unwrap();
    let held = rows.iter().filter(|row| row.partition == *partition && row.offset >= offset).count() as u64;
    assert!(held > 1 && held < 31, "rows before, behind and beside it: {held}");
    eventually("what is not behind it is routed", || outcome("routed") == 61 - held).await;
    way.tried(4).await;
    let state = installation.health.states()["router"].clone();
    assert!(matches!(&state, State::NotReady(why) if why.contains(&way.address) && why.contains(said)), "{state:?}");
    assert_eq!(outcome("routed"), 61 - held, "nothing is read behind a row that waits");

    way.open();
    eventually("every row is routed", || outcome("routed") == 61).await;
    installation.ready("router").await;
    stop.cancel();
    running.await.unwrap().unwrap();
    let mut ids: Vec<_> =
        installation.records("invoices").await.iter().map(|r| r.headers.get("ce_id").unwrap().to_owned()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), outcome("quarantined"), outcome("duplicate")), (61, 0, 0));
}

/// A row whose schema the registry does not know is set aside as bytes; when it knows it, they are an event like any other.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_aside_for_its_schema_is_routed_once_the_registry_knows_it() {
    const UNKNOWN: &[u8] = b"HTTP/1.1 404 Not Found\r\ncontent-length: 50\r\nconnection: close\r\n\r\n\
        {\"error_code\":40403,\"message\":\"Schema not found\"} ";
    let mut installation = install("").await;
    let schema = later_version(&installation).await;
    let way = by_a_way(&mut installation, Some(UNKNOWN));
    let run = |installation: &Installation| {
        let role = Role { stop: CancellationToken::new(), ..installation.role("router") };
        (role.stop.clone(), tokio::spawn(router::run(settings(installation), Arc::clone(&installation.ground), role)))
    };
    let (stop, running) = run(&installation);
    installation.ready("router").await;
    way.close();
    let later = invoice("later", "inv", "1");
    let feeder = Feeder::new(&installation);
    let value = of_schema(&installation, &later, schema);
    feeder.raw("later", value.clone()).await;
    let outcome = |name: &str| installation.metrics.router_events.with_label_values(&["accbooks", name]).get();
    eventually("it is set aside", || outcome("quarantined") == 1).await;
    // Still unknown: it stays where it is.
    replayed(&installation).await;
    eventually("it is set aside again", || outcome("quarantined") == 2).await;
    way.open();
    // As bytes it was received, and is no more than that to the router; the ledger reads it, and finds it there.
    balanced(&installation, "quarantined").await;
    replayed(&installation).await;
    eventually("it is routed", || outcome("routed") == 1).await;
    feeder.raw("later", value).await;
    eventually("its repeat is known", || outcome("duplicate") == 1).await;
    stop.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(installation.records("invoices").await.len(), 1);
    let listed = run_cli(&installation, &["quarantine", "list", "--json"]).await;
    assert_eq!(listed["waiting"], serde_json::json!([]));
    balanced(&installation, "routed").await;
}

async fn run_cli(installation: &Installation, args: &[&str]) -> serde_json::Value {
    let done = crate::common::process::run(&installation.file(), args).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    serde_json::from_str(&done.stdout).unwrap()
}

async fn replayed(installation: &Installation) {
    let report = run_cli(installation, &["quarantine", "replay", "later", "--yes", "--json"]).await;
    assert_eq!(report["events"], 1, "{report}");
}

/// Checks that the ledger balances, with its one event under this outcome.
async fn balanced(installation: &Installation, outcome: &str) {
    let report = run_cli(installation, &["reconcile", "--json"]).await;
    let sums = &report["sources"]["accbooks"];
    assert_eq!((&sums[outcome], &sums["unaccounted"]), (&1.into(), &0.into()), "{report}");
}

/// A router that finds the registry hanging at its start ends when told to, not when its question is given up.
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_never_answers_keeps_nobody_from_stopping() {
    let mut installation = install("").await;
    let mut way = Way::refusing();
    let url = format!("http://{}", way.address);
    let timeout = Duration::from_secs(60);
    let registry = SchemaRegistry { url, timeout, ..installation.config.schema_registry.clone() };
    way.accept(Some(b""), "nowhere");
    let topics = installation.ground.topics.clone();
    installation.ground = Arc::new(Ground::new(&installation.config.kafka, &registry, topics).unwrap());
    let role = Role { stop: CancellationToken::new(), ..installation.role("router") };
    let stop = role.stop.clone();
    let running = tokio::spawn(router::run(settings(&installation), Arc::clone(&installation.ground), role));
    way.tried(1).await;
    stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(10), running).await;
    ended.expect("it ends while a question is open").unwrap().unwrap();
}
