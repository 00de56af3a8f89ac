//! Quarantine and the way back: decided again on an operator's word, once, by the same path.

use ledgerhook::config::Config;
use ledgerhook::event::{AuditEntry, InvoiceRecord, Mark, Quarantined, Seen, SeenState};
use ledgerhook::kafka::headers::Headers;
use ledgerhook::kafka::produce::Outgoing;

use super::{Feeder, envelope, invoice, route};
use crate::common::process::{Ended, run};
use crate::common::{ENV, Installation, install};

const ROUTE: &str = r#"
[[routes]]
source = "accbooks"
event_type = "moon.landed"
record = "invoices"
members = "/data"
entity = "/invoice_id"
set = { direction = "RECEIVABLE", status = "CREATED" }
rename = { total_amount = "/amount" }
"#;

async fn cli(installation: &Installation, args: &[&str]) -> Ended {
    run(&installation.file(), args).await
}

async fn operated(installation: &Installation, args: &[&str], events: u64) {
    let done = cli(installation, &[args, &["--yes", "--json"]].concat()).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    let report: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(report["events"], events, "{done:?}");
}

async fn waiting(installation: &Installation) -> Vec<(String, String)> {
    let listed = cli(installation, &["quarantine", "list", "--json"]).await;
    assert_eq!(listed.code, Some(0), "{listed:?}");
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    let text = |aside: &serde_json::Value, member: &str| aside[member].as_str().unwrap().to_owned();
    let mut waiting: Vec<(String, String)> =
        listed["waiting"].as_array().unwrap().iter().map(|a| (text(a, "event_id"), text(a, "reason"))).collect();
    waiting.sort();
    waiting
}

fn outcomes(installation: &Installation) -> [u64; 4] {
    ["routed", "duplicate", "quarantined", "discarded"]
        .map(|name| installation.metrics.router_events.with_label_values(&["accbooks", name]).get())
}

async fn amounts(installation: &Installation, event_id: &str) -> Vec<String> {
    let decoder = installation.ground.decoder();
    let mut amounts = Vec::new();
    for row in installation.records("invoices").await {
        let record: InvoiceRecord = decoder.decode(row.value.as_deref()).await.unwrap();
        if record.event_id == event_id {
            amounts.push(record.total_amount.map(|amount| amount.to_string()).unwrap_or_default());
        }
    }
    amounts.sort();
    amounts
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_aside_is_routed_once_when_it_can_be() {
    let mut installation = install("").await;
    let moon = envelope("e1", "moon.landed", r#"{"id":"e1","data":{"invoice_id":"inv_1","amount":5}}"#);
    let feeder = Feeder::new(&installation);
    feeder.feed(&moon).await;
    feeder.feed(&envelope("e2", "moon.left", "{}")).await;
    route(&installation, 2).await;
    let unknown = "unknown_event_type".to_owned();
    assert_eq!(waiting(&installation).await, [("e1".into(), unknown.clone()), ("e2".into(), unknown.clone())]);

    // Replayed too early: the same answer, and still one that waits.
    operated(&installation, &["quarantine", "replay", "e1"], 1).await;
    route(&installation, 3).await;
    assert_eq!(waiting(&installation).await, [("e1".into(), unknown.clone()), ("e2".into(), unknown)]);

    drop(feeder);
    installation.toml += ROUTE;
    let env = |name: &str| ENV.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
    let more = Config::parse(&installation.toml, "test.toml", &env, &[]);
    installation.config = more.unwrap_or_else(|faults| panic!("{faults}"));
    // Twice before the router comes to it, and the provider repeats it too.
    operated(&installation, &["quarantine", "replay", "e1"], 1).await;
    operated(&installation, &["quarantine", "replay", "--from", "2026-01-01T00:00:00Z", "e1"], 1).await;
    Feeder::new(&installation).feed(&moon).await;
    route(&installation, 6).await;
    assert_eq!(outcomes(&installation), [1, 2, 3, 0]);
    assert_eq!(amounts(&installation, "e1").await, ["5"]);

    operated(&installation, &["quarantine", "discard", "--reason", "unknown_event_type"], 1).await;
    let feeder = Feeder::new(&installation);
    feeder.feed(&envelope("e2", "moon.left", "{}")).await;
    route(&installation, 8).await;
    assert_eq!(outcomes(&installation), [1, 3, 3, 1]);
    assert_eq!(waiting(&installation).await, []);
    let nothing = cli(&installation, &["quarantine", "replay", "--all", "--yes"]).await;
    assert_eq!((nothing.code, nothing.stdout.as_str()), (Some(1), ""), "{nothing:?}");
    // Whatever comes back of it later.
    let value = installation.encoders.of("received.accbooks").unwrap().encode(&moon).unwrap();
    let mark = Mark::Replay { id: "again".to_owned(), accept_revision: true, read_again: false };
    let headers = mark.headers().into_iter().fold(Headers::default(), |headers, (n, v)| headers.with(n, v));
    let topic = installation.ground.cluster.topic("received.accbooks");
    let row = Outgoing { topic, partition: None, key: b"e1".to_vec(), value, headers, timestamp_ms: None };
    feeder.producer.send(&row).await.unwrap();
    route(&installation, 9).await;
    assert_eq!(amounts(&installation, "e1").await.len(), 1);

    it_is_all_told(&installation).await;
}

async fn it_is_all_told(installation: &Installation) {
    let decoder = installation.ground.decoder();
    let mut actions = Vec::new();
    for row in installation.records("audit").await {
        let entry: AuditEntry = decoder.decode(row.value.as_deref()).await.unwrap();
        assert_eq!(row.key.as_deref(), Some(entry.actor.as_bytes()));
        assert!(entry.actor.contains('@'), "{}", entry.actor);
        let detail: serde_json::Value = serde_json::from_str(&entry.detail.unwrap()).unwrap();
        assert_eq!(detail["events"], 1);
        actions.push(format!("{} {}", entry.action, entry.subject));
    }
    let replay = "quarantine.replay e1";
    assert_eq!(actions, [replay, replay, replay, "quarantine.discard 1 events"]);
    for (id, parts) in [
        (
            "e1",
            &["  received   ", "  replay     ", "  operation again  accepted", "  routed     ", "  settled    "][..],
        ),
        ("e2", &["  discard    ", "  discarded  ", "  quarantine "]),
    ] {
        let shown = cli(installation, &["events", "show", id]).await;
        assert_eq!(shown.code, Some(0), "{shown:?}");
        for part in parts {
            assert!(shown.stdout.contains(part), "{part}: {}", shown.stdout);
        }
    }
    for row in installation.records("quarantine").await {
        let aside: Quarantined = decoder.decode(row.value.as_deref()).await.unwrap();
        assert_eq!(aside.envelope.evidence.signature_value, "sha256=00", "evidence stays");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_body_becomes_a_revision_only_when_it_is_accepted() {
    let installation = install("").await;
    let feeder = Feeder::new(&installation);
    feeder.feed(&invoice("e1", "inv_1", "1")).await;
    feeder.feed(&invoice("e1", "inv_2", "2")).await;
    feeder.feed(&invoice("e1", "inv_3", "3")).await;
    route(&installation, 3).await;
    let refused = cli(&installation, &["quarantine", "replay", "--all", "--yes"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("--accept-revision"), "{}", refused.stderr);
    let unasked = cli(&installation, &["quarantine", "discard", "e1"]).await;
    assert_eq!(unasked.code, Some(2), "{unasked:?}");
    let unnamed = cli(&installation, &["quarantine", "discard", "--yes"]).await;
    assert_eq!(unnamed.code, Some(2), "{unnamed:?}");

    for _ in 0..2 {
        operated(&installation, &["quarantine", "replay", "--all", "--accept-revision"], 2).await;
    }
    for n in 1..4 {
        feeder.feed(&invoice("e1", &format!("inv_{n}"), &n.to_string())).await;
    }
    route(&installation, 10).await;
    assert_eq!(outcomes(&installation), [3, 5, 2, 0]);
    assert_eq!(amounts(&installation, "e1").await, ["1", "2", "3"]);
    assert_eq!(waiting(&installation).await, []);
    let seen = installation.records("seen.accbooks").await;
    let seen: Seen = installation.ground.decoder().decode(seen.last().unwrap().value.as_deref()).await.unwrap();
    assert_eq!((seen.state, seen.decided.len()), (SeenState::Routed, 2));
    assert_eq!(
        seen.places().map(|(_, key)| key).collect::<Vec<_>>(),
        ["accbooks/inv_1", "accbooks/inv_2", "accbooks/inv_3"]
    );
    let shown = cli(&installation, &["events", "show", "e1"]).await;
    assert_eq!(shown.stdout.matches("  record     ").count(), 3, "{}", shown.stdout);
}
