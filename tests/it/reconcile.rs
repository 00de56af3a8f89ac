//! Both ledgers closed, over what the roles wrote and over what nobody should have written.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ledgerhook::event::{Envelope, InvoiceRecord, Sha256};
use ledgerhook::kafka::headers::Headers;
use ledgerhook::kafka::produce::{Outgoing, Producer};
use serde_json::{Value, json};

use crate::common::faulty::{FaultyTarget, Reply};
use crate::common::process::{Process, run};
use crate::common::{Installation, install};
use crate::router::{Feeder, envelope, invoice};

/// What the command says, with its exit code.
async fn reconcile(installation: &Installation, args: &[&str]) -> (Option<i32>, Value) {
    let ended = run(&installation.file(), &[&["reconcile", "--json"], args].concat()).await;
    let report = serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    (ended.code, report)
}

/// Sums that are not zero.
fn sums(report: &Value, ledger: &str, name: &str) -> Value {
    let sums = report[ledger][name].as_object().unwrap().iter().filter(|(_, sum)| **sum != json!(0));
    sums.map(|(name, sum)| (name.clone(), sum.clone())).collect::<serde_json::Map<_, _>>().into()
}

/// Waits until both ledgers say this, and gives the whole report.
async fn until(installation: &Installation, source: &Value, target: &Value) -> Value {
    let mut report = Value::Null;
    for _ in 0..60 {
        report = reconcile(installation, &[]).await.1;
        if sums(&report, "sources", "accbooks") == *source && sums(&report, "targets", "erp") == *target {
            return report;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    panic!("{report}");
}

/// What is wrong with which event, in which ledger.
fn faults(report: &Value) -> BTreeSet<(&str, &str, &str)> {
    let text = |fault: &'_ Value, name: &str| -> &'static str { fault[name].as_str().unwrap().to_owned().leak() };
    let all = report["faults"].as_array().unwrap().iter();
    all.map(|fault| (text(fault, "ledger"), text(fault, "what"), text(fault, "event_id"))).collect()
}

/// Writes a row of `invoices` that no router wrote.
async fn forge(installation: &Installation, record: &InvoiceRecord) {
    let producer = Producer::new(&installation.ground.cluster, Duration::from_secs(10), Duration::ZERO).unwrap();
    let value = installation.encoders.of("invoices").unwrap().encode(record).unwrap();
    let key = format!("{}/{}", record.source, record.entity_id).into_bytes();
    let topic = installation.ground.cluster.topic("invoices");
    let row = Outgoing { topic, partition: None, key, value, headers: Headers::default(), timestamp_ms: None };
    producer.send(&row).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_accounted_for_and_what_is_not_is_named() {
    let mended = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&mended);
    let target = FaultyTarget::start(move |request| {
        Reply::Status(if request.id == "e2" && !seen.load(Ordering::SeqCst) { 422 } else { 200 })
    })
    .await;
    let erp = format!(
        r#"
[targets.erp]
preset = "webhook"
records = ["invoices"]
start = "earliest"
url = "{}"
allow_private_addresses = true
signing_secret = "env:TEST_SIGNING_SECRET"
"#,
        target.url
    );
    let installation = install(&erp).await;
    let roles = Process::start(&installation.file(), &["run", "--role", "router,delivery"], &[]);
    let feeder = Feeder::new(&installation);
    for n in [1, 2, 3, 3, 4, 1] {
        feeder.feed(&invoice(&format!("e{n}"), &format!("inv_{n}"), "2500.00")).await;
    }
    feeder.feed(&envelope("odd", "moon.landed", "{}")).await;
    feeder.feed(&Envelope { test: Some("event_type".into()), ..envelope("ping", "test", "{}") }).await;
    feeder.raw("broken", b"no envelope".to_vec()).await;

    // A dead letter, the target mended, a replay: the document is there once, and each sum is where it belongs.
    let received = json!({ "rows": 9, "routed": 4, "duplicate": 2, "quarantined": 2, "test": 1 });
    until(&installation, &received, &json!({ "records": 4, "delivered": 3, "dead_lettered": 1 })).await;
    mended.store(true, Ordering::SeqCst);
    let operate = async |args: &[&str]| {
        let done = run(&installation.file(), &[args, &["--yes"]].concat()).await;
        assert_eq!(done.code, Some(0), "{done:?}");
    };
    operate(&["dlq", "replay", "--all"]).await;
    operate(&["quarantine", "discard", "odd"]).await;
    let received =
        json!({ "rows": 10, "routed": 4, "duplicate": 2, "quarantined": 1, "discarded": 1, "test": 1, "operators": 1 });
    until(&installation, &received, &json!({ "records": 4, "delivered": 4 })).await;
    let (code, report) = reconcile(&installation, &[]).await;
    assert_eq!((code, &report["balanced"], &report["faults"]), (Some(0), &json!(true), &json!([])), "{report}");
    let taken = target.requests().into_iter().filter(|request| request.reply.takes()).map(|request| request.id);
    assert_eq!(taken.collect::<Vec<_>>().len(), 4, "each document once");
    let (code, report) = reconcile(&installation, &["--from", "2100-01-01T00:00:00Z"]).await;
    assert_eq!(
        (code, sums(&report, "sources", "accbooks"), sums(&report, "targets", "erp")),
        (Some(0), json!({}), json!({}))
    );

    // One more record of an event, one of no event, one of another body; a row whose body was changed.
    let records = installation.records("invoices").await;
    let decoder = installation.ground.decoder();
    let row = records.iter().find(|row| row.headers.get("ce_id") == Some("e3")).unwrap();
    let record: InvoiceRecord = decoder.decode(row.value.as_deref()).await.unwrap();
    forge(&installation, &record).await;
    forge(&installation, &InvoiceRecord { event_id: "never".into(), ..record.clone() }).await;
    forge(&installation, &InvoiceRecord { event_id: "e4".into(), body_sha256: Sha256::of(b"x"), ..record }).await;
    let changed = invoice("e5", "inv_5", "1.00");
    feeder.feed(&Envelope { body: invoice("e5", "inv_5", "9.00").body, ..changed }).await;
    let received = json!({
        "rows": 11, "routed": 4, "duplicate": 2, "quarantined": 1, "discarded": 1, "test": 1, "operators": 1, "unaccounted": 1
    });
    let report = until(&installation, &received, &json!({ "records": 8, "delivered": 8 })).await;
    let named = [
        ("accbooks", "double", "e3"),
        ("accbooks", "without_source", "never"),
        ("accbooks", "body_hash", "e4"),
        ("accbooks", "body_hash", "e5"),
    ];
    assert_eq!(faults(&report), named.into(), "{report}");

    // Records deleted: their events are named. Tries deleted: what they told is not kept, and no fault.
    let first: BTreeMap<i32, i64> = records.iter().map(|row| (row.partition.number, row.offset + 1)).collect();
    installation.delete_before("invoices", &first).await;
    let (code, report) = reconcile(&installation, &[]).await;
    let found = faults(&report);
    assert_eq!(code, Some(1));
    for event in ["e1", "e2", "e4"] {
        assert!(found.contains(&("accbooks", "missing", event)), "{event}: {report}");
    }
    assert!(!found.contains(&("accbooks", "double", "e3")), "one of the two is left: {report}");
    let shown = run(&installation.file(), &["reconcile"]).await;
    assert!(shown.code == Some(1) && shown.stdout.contains("accbooks  missing  e1  received.accbooks/"), "{shown:?}");

    // A name that is misspelt does not read as "nothing waits".
    for (args, told) in [
        (["dlq", "list", "--target", "epr"], "warning: no target epr is configured; there are: erp\n"),
        (["quarantine", "list", "--source", "acbooks"], "warning: no source acbooks is configured; there are: "),
    ] {
        let shown = run(&installation.file(), &args).await;
        assert!(shown.code == Some(0) && shown.stderr.starts_with(told), "{shown:?}");
    }

    // A record whose tries are deleted: the target is past it, and it does not wait there.
    let tries = installation.records("attempts").await;
    let tries = tries.iter().map(|row| (row.partition.number, row.offset + 1)).collect();
    installation.delete_before("attempts", &tries).await;
    let shown = run(&installation.file(), &["events", "show", "e3"]).await;
    assert!(shown.code == Some(0) && shown.stdout.contains("  at erp: past it: "), "{shown:?}");
    let shown = run(&installation.file(), &["events", "show", "e3", "--json"]).await;
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(shown["found"][0]["targets"], json!({ "erp": "past" }), "{shown}");

    roles.terminate();
    let ended = roles.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}
