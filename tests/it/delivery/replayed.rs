//! Dead letters and replays: asked for by the command line, delivered by the same engine.

mod classes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::common::process::{Ended, Process, run};

async fn cli(installation: &Installation, args: &[&str]) -> Ended {
    run(&installation.file(), args).await
}

/// Does it, and says by which operation and with how many events.
async fn operation(installation: &Installation, args: &[&str]) -> (String, u64) {
    let done = cli(installation, &[args, &["--yes", "--json"]].concat()).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    let report: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    (report["operation"].as_str().unwrap().to_owned(), report["events"].as_u64().unwrap())
}

/// Does it, and says with how many events.
async fn operated(installation: &Installation, args: &[&str]) -> u64 {
    operation(installation, args).await.1
}

/// Ids of the dead letters that wait.
async fn waiting(installation: &Installation) -> Vec<String> {
    let listed = cli(installation, &["dlq", "list", "--json"]).await;
    assert_eq!(listed.code, Some(0), "{listed:?}");
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    let id = |letter: &serde_json::Value| letter["event_id"].as_str().unwrap().to_owned();
    let mut ids: Vec<String> = listed["waiting"].as_array().unwrap().iter().map(id).collect();
    ids.sort();
    ids
}

async fn until_none_waits(installation: &Installation) {
    for _ in 0..60 {
        if waiting(installation).await.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("{:?} wait", waiting(installation).await);
}

/// A target that refuses some entities until it is mended.
async fn refusing(entities: &'static [&'static str]) -> (FaultyTarget, Arc<AtomicBool>) {
    let mended = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&mended);
    let target = FaultyTarget::start(move |request| {
        let refuses = entities.contains(&entity(&request.id)) && !seen.load(Ordering::SeqCst);
        Reply::Status(if refuses { 422 } else { 200 })
    });
    (target.await, mended)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_delivered_when_the_target_is_mended_or_let_go() {
    let (target, mended) = refusing(&["evt-bad", "evt-worse"]).await;
    let installation = install(&webhook("erp", &target.url, QUICK)).await;
    let role = start(&installation);
    produce(&installation, [invoice("bad", 0), invoice("good", 0), invoice("worse", 0), invoice("bad", 1)]).await;
    eventually("all tried", || target.requests().len() >= 4).await;
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    for _ in 0..60 {
        if waiting(&installation).await.len() == 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(waiting(&installation).await, ids(&["evt-bad-0000", "evt-bad-0001", "evt-worse-0000"]));

    // Too early: a dead letter again, of the replay.
    assert_eq!(operated(&installation, &["dlq", "replay", "evt-bad-0000"]).await, 1);
    eventually("tried again", || target.requests().len() >= 5).await;
    let unnamed = cli(&installation, &["dlq", "discard", "--yes"]).await;
    assert_eq!(unnamed.code, Some(2), "{unnamed:?}");
    let unasked = cli(&installation, &["dlq", "discard", "--all"]).await;
    assert_eq!(unasked.code, Some(2), "{unasked:?}");
    assert_eq!(operated(&installation, &["dlq", "discard", "evt-worse-0000"]).await, 1);
    assert_eq!(waiting(&installation).await, ids(&["evt-bad-0000", "evt-bad-0001"]));

    mended.store(true, Ordering::SeqCst);
    assert_eq!(operated(&installation, &["dlq", "replay", "--target", "erp", "--reason", "rejected"]).await, 2);
    until_none_waits(&installation).await;
    let none = cli(&installation, &["dlq", "replay", "--all", "--yes"]).await;
    assert_eq!(none.code, Some(1), "{none:?}");
    stop(&installation, role).await;

    assert_eq!(target.taken(), ids(&["evt-bad-0000", "evt-bad-0001", "evt-good-0000"]).into_iter().collect());
    assert_eq!(target.requests().iter().filter(|r| r.reply.takes()).count(), 3, "each once");
    let attempts = attempts(&installation).await;
    assert_eq!(attempts.len(), target.requests().len(), "an attempt for each request");
    let replayed: Vec<&Attempt> = attempts.iter().filter(|a| a.replay_id.is_some()).collect();
    assert_eq!(replayed.len(), 3);
    // The ids of the two operations, in the rows that asked and in the tries that came of it.
    let asked = installation.records("redeliver.erp").await;
    let asked: BTreeSet<&str> = asked.iter().filter_map(|row| row.headers.get("lh_replay_id")).collect();
    let tried: BTreeSet<&str> = replayed.iter().filter_map(|attempt| attempt.replay_id.as_deref()).collect();
    assert_eq!((asked.len(), &asked), (2, &tried));
    let letters = dead_letters(&installation).await;
    let ends: Vec<(&str, Option<&str>)> =
        letters.iter().map(|letter| (letter.event_id.as_str(), letter.settled.as_deref())).collect();
    assert_eq!(ends.iter().filter(|(_, end)| end.is_none()).count(), 4, "three, and one of a replay: {ends:?}");
    for end in [("evt-bad-0000", "delivered"), ("evt-bad-0001", "delivered"), ("evt-worse-0000", "discarded")] {
        assert!(ends.contains(&(end.0, Some(end.1))), "{end:?} in {ends:?}");
    }
    assert_eq!(installation.records("invoices").await.len(), 4, "nothing of a replay goes to a record topic");
    let mut actions = Vec::new();
    for entry in decoded::<ledgerhook::event::AuditEntry>(&installation, installation.records("audit").await).await {
        actions.push(entry.action);
    }
    assert_eq!(actions, ["dlq.replay", "dlq.discard", "dlq.replay"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_older_than_what_was_delivered_needs_a_word() {
    let (target, mended) = refusing(&["evt-old"]).await;
    let installation = install(&webhook("erp", &target.url, QUICK)).await;
    let role = start(&installation);
    let at = |record: InvoiceRecord, micros| InvoiceRecord {
        entity_id: "same".to_owned(),
        occurred_at: Some(Timestamp::from_micros(1_777_000_000_000_000 + i64::from(micros))),
        ..record
    };
    produce(&installation, [at(invoice("old", 0), 0), at(invoice("new", 0), 1)]).await;
    eventually("both tried", || target.requests().len() == 2).await;
    mended.store(true, Ordering::SeqCst);
    // Before the newer one's end is committed, the older one is not known to be old, and would be replayed.
    let look = ["replay", "--target", "erp", "--entity", "same", "--dry-run", "--json"];
    for _ in 0..60 {
        let shown = cli(&installation, &look).await;
        if serde_json::from_str::<serde_json::Value>(&shown.stdout).is_ok_and(|shown| shown["stale"] == 1) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let stale = cli(&installation, &["dlq", "replay", "--all", "--yes"]).await;
    assert!(stale.code == Some(1) && stale.stderr.contains("1 dead letters: 1 rejected are left out"), "{stale:?}");
    assert_eq!(waiting(&installation).await, ["evt-old-0000"]);
    let shown = cli(&installation, &look).await;
    let shown: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!((shown["records"].as_array().unwrap().len(), shown["stale"].as_u64()), (1, Some(1)), "{shown}");
    assert_eq!(target.requests().len(), 2, "nothing was sent");
    assert_eq!(operated(&installation, &["dlq", "replay", "--all", "--allow-stale"]).await, 1);
    until_none_waits(&installation).await;
    stop(&installation, role).await;
    assert_eq!(target.taken().len(), 2);
    let unknown = cli(&installation, &["replay", "--target", "elsewhere", "--yes"]).await;
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
}

/// Killed in the middle of a replay: every record is delivered again, once but for what was in flight, no faster than
/// asked; live records do not wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_outlives_its_deliverer_and_lets_live_records_pass() {
    const RECORDS: usize = 60;
    const IN_FLIGHT: usize = 8;
    let target = FaultyTarget::start(|_| Reply::Late(200, Duration::from_millis(10))).await;
    let installation = install(&webhook("erp", &target.url, &format!("max_concurrency = {IN_FLIGHT}\n{QUICK}"))).await;
    produce(&installation, dealt(30, RECORDS)).await;
    let file = installation.file();
    let program = Process::start(&file, &["run", "--role", "delivery"], &[]);
    eventually("all taken", || target.taken().len() == RECORDS).await;
    // Until the last end is committed they are not yet over.
    let mut planned = 0;
    for _ in 0..60 {
        let shown = cli(&installation, &["replay", "--target", "erp", "--dry-run", "--json"]).await;
        planned = serde_json::from_str::<serde_json::Value>(&shown.stdout)
            .map_or(0, |shown| shown["records"].as_array().map_or(0, Vec::len));
        if planned == RECORDS {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(planned, RECORDS);
    let asked = std::time::SystemTime::now();
    assert_eq!(operated(&installation, &["replay", "--target", "erp", "--rate", "6"]).await, RECORDS as u64);
    eventually("some again", || target.requests().len() >= RECORDS + 15).await;
    drop(program);
    let program = Process::start(&file, &["run", "--role", "delivery"], &[]);
    eventually("more again", || target.requests().len() >= RECORDS + 25).await;
    produce(&installation, [invoice("live", 0)]).await;
    eventually("a live record", || target.taken().contains("evt-live-0000")).await;
    assert!(target.requests().len() < RECORDS * 2, "the replay was over before the live record came");
    let again = |requests: &[Request]| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for request in requests {
            *counts.entry(request.id.clone()).or_default() += 1;
        }
        counts.values().filter(|count| **count >= 2).count()
    };
    eventually("all again", || again(&target.requests()) == RECORDS).await;
    let took = asked.elapsed().unwrap();
    assert!(took > Duration::from_secs(7), "{RECORDS} records at 6 a second took {took:?}");
    drop(program);
    let repeats = target.requests().len() - RECORDS * 2 - 1;
    println!("{repeats} repeats, {took:?}");
    assert!(repeats <= IN_FLIGHT, "{repeats} repeats after one kill");
}
