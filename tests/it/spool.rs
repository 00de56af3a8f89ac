//! The receiver without Kafka: what it acknowledges is on its disk, and on Kafka later.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod load;
mod outage;
mod strace;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ledgerhook::event::{Control, ControlKind, Envelope, Origin};
use ledgerhook::kafka::control;
use ledgerhook::kafka::produce::Producer;
use ledgerhook::outcome::Answer;
use ledgerhook::receiver;
use ledgerhook::signature;
use ledgerhook::spool::look;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::common::process::{Process, run};
use crate::common::{ACCBOOKS_SECRET, Installation, eventually, install};

/// Nothing listens at port 9 (discard) wherever tests run.
const AWAY: [(&str, &str); 2] = [
    ("LEDGERHOOK__KAFKA__BOOTSTRAP_SERVERS", "[\"127.0.0.1:9\"]"),
    ("LEDGERHOOK__SCHEMA_REGISTRY__URL", "http://127.0.0.1:9"),
];
const RECEIVER: [&str; 3] = ["run", "--role", "receiver"];

fn body(id: &str, padding: usize) -> String {
    let padding = "x".repeat(padding);
    format!(r#"{{"id":"{id}","type":"invoice.paid","data":{{"invoice_id":"i","note":"{padding}"}}}}"#)
}

/// Status and JSON of one signed request to AccBooks' path.
async fn post(here: &Installation, receiver: &str, body: String) -> (u16, Value) {
    let signed = signature::sign(&here.config.sources["accbooks"].scheme, ACCBOOKS_SECRET.as_bytes(), body.as_bytes());
    let request = reqwest::Client::new().post(format!("http://{receiver}/api/accbooks/webhook"));
    let answer = request.header("AccBooks-Signature", signed).body(body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// Rows of a source's topic, in order within each partition.
async fn rows(here: &Installation, source: &str) -> Vec<(i32, Envelope)> {
    let decoder = here.ground.decoder();
    let mut rows = Vec::new();
    for record in here.records(&format!("received.{source}")).await {
        rows.push((record.partition.number, decoder.decode(record.value.as_deref()).await.unwrap()));
    }
    rows
}

fn drained(spool: &Path) -> bool {
    look(spool).unwrap().0.is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_with_everything_away_takes_events_and_sends_them_later() {
    let here = install("").await;
    let file = here.file();
    let spool = here.data_dir.path().join("spool");
    let mut running = Process::start(&file, &RECEIVER, &AWAY);
    let receiver = running.address(&["the receiver listens"]).await;
    let began = tokio::time::Instant::now();
    for n in 0..3 {
        let (status, told) = post(&here, &receiver, body(&format!("e{n}"), 0)).await;
        assert_eq!((status, told["status"].as_str()), (200, Some("accepted")), "{told}");
    }
    assert!(began.elapsed() < Duration::from_secs(5), "known to be away: no waiting");
    // It is on no topic; where the receiver could still say so, it is told who holds events.
    let about = (ControlKind::Spool, "another".to_owned());
    let producer = Producer::new(&here.ground.cluster, Duration::from_secs(10), Duration::ZERO).unwrap();
    let encoder = here.encoders.of("control").unwrap();
    control::say(&producer, &here.ground.cluster, encoder, about, "another", r#"{"events":7}"#.into()).await.unwrap();
    let unknown = run(&file, &["events", "show", "e0"]).await;
    assert_eq!((unknown.code, unknown.stdout.as_str()), (Some(1), ""), "{unknown:?}");
    for said in ["it waits in a receiver's spool", "receiver another held 7 events", "`ledgerhook spool status`"] {
        assert!(unknown.stderr.contains(said), "{said}: {}", unknown.stderr);
    }
    let refused = run(&file, &["spool", "drain"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("another process uses the spool in "), "{}", refused.stderr);
    let beside = run(&file, &["spool", "status", "--json"]).await;
    let beside: Value = serde_json::from_str(&beside.stdout).unwrap();
    assert_eq!((&beside["events"], &beside["in_use"]), (&3.into(), &true.into()), "{beside}");
    running.kill();

    let mut running = Process::start(&file, &RECEIVER, &[]);
    running.line(&["events of the spool are on Kafka", "events=3"]).await;
    eventually("an idle spool is empty", || std::fs::read_dir(&spool).unwrap().count() == 0).await;
    running.terminate();
    let ended = running.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("the spool is empty"), "{}", ended.stderr);
    let mut rows = rows(&here, "accbooks").await;
    rows.sort_by(|(_, a), (_, b)| a.event_id.cmp(&b.event_id));
    assert_eq!(rows.iter().map(|(_, row)| row.event_id.as_str()).collect::<Vec<_>>(), ["e0", "e1", "e2"]);
    assert!(rows.iter().all(|(_, row)| row.origin == Origin::Spool && row.body == body(&row.event_id, 0).as_bytes()));
    let control = here.records("control").await;
    let last = control.last().expect("a report in control");
    let fact: Control = here.ground.decoder().decode(last.value.as_deref()).await.unwrap();
    assert_eq!(last.key.as_deref(), Some(fact.key().as_bytes()));
    let told: Value = serde_json::from_str(&fact.body).unwrap();
    assert_eq!((fact.kind, &told["events"]), (ControlKind::Spool, &0.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_is_drained_without_its_receiver() {
    let here = install("").await;
    let file = here.file();
    let empty = run(&file, &["spool", "drain", "/nowhere/spool"]).await;
    assert_eq!((empty.code, empty.stderr.as_str()), (Some(2), "there is no spool in /nowhere/spool\n"), "{empty:?}");
    let mut running = Process::start(&file, &RECEIVER, &AWAY);
    let receiver = running.address(&["the receiver listens"]).await;
    for n in 0..5 {
        assert_eq!(post(&here, &receiver, body(&format!("e{n}"), 10)).await.0, 200);
    }
    running.terminate();
    let ended = running.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("events stay in the spool until the next start events=5"), "{}", ended.stderr);

    let folder = here.data_dir.path().join("spool");
    let folder = folder.to_str().unwrap();
    let status = run(&file, &["spool", "status", folder]).await;
    assert!(status.code == Some(0) && status.stdout.starts_with("5 events in 1 files, "), "{status:?}");
    let away = Process::start(&file, &["spool", "drain"], &AWAY).ended().await;
    assert!(away.code == Some(1) && away.stderr.contains("is away"), "{away:?}");
    let done = run(&file, &["spool", "drain", folder, "--json"]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    let told: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((&told["drained"], &told["left"]["events"]), (&5.into(), &0.into()), "{told}");
    assert_eq!(rows(&here, "accbooks").await.len(), 5);
    let again = run(&file, &["spool", "drain"]).await;
    assert!(again.code == Some(0) && again.stdout.starts_with("0 events drained; 0 events in 0 files"), "{again:?}");
}

/// What was acknowledged stays until its source is configured again; what came before it is drained.
#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_source_that_is_gone_stay_in_the_spool() {
    let here = install("").await;
    let file = here.file();
    let spool = here.data_dir.path().join("spool");
    let mut running = Process::start(&file, &RECEIVER, &AWAY);
    let receiver = running.address(&["the receiver listens"]).await;
    for n in 0..4 {
        assert_eq!(post(&here, &receiver, body(&format!("e{n}"), 10)).await.0, 200);
    }
    running.kill();

    let text = std::fs::read_to_string(&file).unwrap();
    let without = here.data_dir.path().join("without.toml");
    std::fs::write(
        &without,
        text.replace("[sources.accbooks]", "[sources.others]\npreset = \"accbooks\"\npath = \"/others\""),
    )
    .unwrap();
    for command in [["topics", "apply"], ["schemas", "apply"]] {
        assert_eq!(run(&without, &command).await.code, Some(0));
    }
    let refused = run(&without, &["spool", "drain", "--json"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("source accbooks, which is not configured"), "{}", refused.stderr);
    let told: Value = serde_json::from_str(&refused.stdout).unwrap();
    assert_eq!((&told["drained"], &told["left"]["events"]), (&0.into(), &4.into()), "{told}");
    let mut running = Process::start(&without, &RECEIVER, &[]);
    running.line(&["not drained further", "source accbooks"]).await;
    running.terminate();
    let ended = running.ended().await;
    assert!(ended.stderr.contains("events stay in the spool until the next start events=4"), "{}", ended.stderr);
    assert!(std::fs::read_dir(&spool).unwrap().all(|e| e.unwrap().path().extension().is_some_and(|e| e == "seg")));

    let done = run(&file, &["spool", "drain"]).await;
    assert!(done.code == Some(0) && done.stdout.starts_with("4 events drained; 0 events"), "{done:?}");
    assert_eq!(rows(&here, "accbooks").await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_refuses_says_how_long_providers_wait_and_takes_again_once_drained() {
    let mut here = install("[receiver.spool]\nmax_size = \"1MiB\"\nsegment_size = \"1MiB\"\n").await;
    here.config.receiver.listen = "127.0.0.1:0".parse().unwrap();
    let mut kafka = here.config.kafka.clone();
    kafka.bootstrap_servers = vec!["127.0.0.1:9".to_owned()];
    let topics = here.ground.topics.clone();
    let away = ledgerhook::kafka::layout::Ground::new(&kafka, &here.config.schema_registry, topics).unwrap();
    let live = receiver::Live::new(&here.config.receiver, here.config.sources.values()).unwrap();
    let live = tokio::sync::watch::channel(Arc::new(live)).1;
    let settings = || receiver::Settings {
        receiver: here.config.receiver.clone(),
        sources: here.config.sources.values().cloned().collect(),
        live: live.clone(),
        data_dir: here.data_dir.path().to_owned(),
        shutdown_budget: Duration::from_secs(20),
    };
    let (say, heard) = oneshot::channel();
    let role = here.role("receiver");
    let running = tokio::spawn(receiver::run(settings(), Arc::new(away), role, |at| say.send(at).unwrap()));
    let at = heard.await.unwrap().to_string();
    let mut taken = 0;
    let refused = loop {
        match post(&here, &at, body(&format!("e{taken}"), 100_000)).await {
            (200, _) => taken += 1,
            (status, told) => break (status, told["error"]["code"].as_str().unwrap().to_owned()),
        }
    };
    assert_eq!(refused, (Answer::NotDurable.status(), Answer::NotDurable.name().to_owned()));
    assert!((5..=10).contains(&taken), "{taken} of 100 kB in 1 MiB");
    let shown = |name: &str| {
        let text = here.metrics.render();
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok())
    };
    const HORIZON: &str = r#"ledgerhook_loss_horizon_seconds{source="accbooks"}"#;
    eventually("the horizon is shown", || shown(HORIZON).is_some()).await;
    let left = shown(HORIZON).unwrap();
    assert!(left > 0.0 && left <= 31.0, "AccBooks repeats for 31 s: {left}");
    assert_eq!(shown("ledgerhook_spool_events").map(|n| n as u64), Some(taken));
    assert!(shown("ledgerhook_spool_bytes").is_some_and(|n| n <= 1_048_576.0));
    let ready = reqwest::get(format!("http://{at}/readyz")).await.unwrap();
    assert_eq!(ready.status(), 503);
    let reason = ready.text().await.unwrap();
    assert!(reason.contains("away") && reason.contains("spool full"), "{reason}");
    here.stop.cancel();
    running.await.unwrap().unwrap();

    here.stop = tokio_util::sync::CancellationToken::new();
    let (say, heard) = oneshot::channel();
    let role = here.role("receiver");
    let running = tokio::spawn(receiver::run(settings(), Arc::clone(&here.ground), role, |at| say.send(at).unwrap()));
    let at = heard.await.unwrap().to_string();
    let spool = here.data_dir.path().join("spool");
    eventually("the spool is drained", || drained(&spool)).await;
    assert_eq!(post(&here, &at, body("again", 100_000)).await.0, 200);
    here.stop.cancel();
    running.await.unwrap().unwrap();
    let ids: BTreeSet<String> = rows(&here, "accbooks").await.into_iter().map(|(_, row)| row.event_id).collect();
    assert_eq!(ids.len() as u64, taken + 1);
}
