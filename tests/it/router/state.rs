//! The dedupe state on disk is a cache: whatever happens to it, no event is routed again.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use ledgerhook::event::{Seen, SeenState, Timestamp};
use ledgerhook::kafka::headers::Headers;
use ledgerhook::kafka::produce::{Outgoing, Producer};
use ledgerhook::kafka::transaction::Transactions;
use ledgerhook::lifecycle::Role;
use ledgerhook::router;
use ledgerhook::telemetry::health::State;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tokio_util::sync::CancellationToken;

use super::storm::{instance, start};
use super::{Feeder, invoice, route, settings};
use crate::common::process::Process;
use crate::common::{Installation, eventually, install, routed};

fn each_file(folder: &Path, act: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { each_file(&path, act) } else { act(&path) }
    }
}

fn flip(folder: &Path) {
    each_file(folder, &mut |file| {
        let mut bytes = fs::read(file).unwrap();
        let len = bytes.len();
        // Log, tables and what leads to them alike.
        for at in [len / 3, len / 2, len - len.min(1)] {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 0x10;
            }
        }
        fs::write(file, bytes).unwrap();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_foreign_or_damaged_state_is_read_again() {
    let installation = install("").await;
    let feeder = Feeder::new(&installation);
    let folder = installation.data_dir.path().join("router/accbooks");
    let mut rows = 0;
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 6] = [
        ("nothing", |_| {}),
        ("deleted", |folder| fs::remove_dir_all(folder).unwrap()),
        ("of another source", |folder| {
            fs::remove_dir_all(folder).unwrap();
            fs::rename(folder.with_file_name("accelex"), folder).unwrap();
        }),
        ("without identity", |folder| fs::remove_file(folder.join("identity")).unwrap()),
        ("bytes flipped", flip),
        ("cut short", |folder| {
            each_file(&folder.join("ids"), &mut |file| {
                let length = fs::metadata(file).unwrap().len();
                fs::File::options().write(true).open(file).unwrap().set_len(length / 2).unwrap();
            });
        }),
    ];
    for (what, harm) in harms {
        for n in 0..30 {
            feeder.feed(&invoice(&format!("e{n}"), "inv", "1")).await;
        }
        rows += 30;
        route(&installation, rows).await;
        assert_eq!(installation.records("invoices").await.len(), 30, "after: {what}");
        harm(&folder);
    }
}

/// That an event of [`invoice`] with this id was routed.
fn marker(installation: &Installation, event_id: &str, partition: Option<i32>) -> Outgoing {
    let seen = Seen {
        state: SeenState::Routed,
        body_sha256: vec![invoice(event_id, "inv", "1").body_sha256],
        first_routed_at: Timestamp::now(),
        record_topic: None,
        record_key: None,
        decided: Vec::new(),
    };
    Outgoing {
        topic: installation.ground.cluster.topic("seen.accbooks"),
        partition,
        key: event_id.into(),
        value: installation.encoders.of("seen.accbooks").unwrap().encode(&seen).unwrap(),
        headers: Headers::default(),
        timestamp_ms: None,
    }
}

/// So many markers that the store takes those of a partition as a table. The program dies behind one of them, again and
/// again: what it goes on from is no more than what it has.
#[tokio::test(flavor = "multi_thread")]
async fn a_router_killed_while_it_reads_many_markers_forgets_none() {
    let installation = install("").await;
    let cluster = &installation.ground.cluster;
    let producer = Producer::new(cluster, Duration::from_secs(30), Duration::from_millis(20)).unwrap();
    let markers: Vec<Outgoing> = (0..9000).map(|n| marker(&installation, &format!("e{n}"), None)).collect();
    for acknowledged in join_all(markers.iter().map(|marker| producer.send(marker))).await {
        acknowledged.unwrap();
    }
    let config = instance(&installation, 0);
    // Two threads write, so the first death may leave one table to write of three.
    for _ in 0..2 {
        let ended = start(&config, Some(("router.after_table", 1))).ended().await;
        assert_eq!(ended.code, None, "{}", ended.stderr);
    }
    let feeder = Feeder::new(&installation);
    join_all((0..9000).step_by(9).map(|n| {
        let (feeder, event) = (&feeder, invoice(&format!("e{n}"), "inv", "1"));
        async move { feeder.feed(&event).await }
    }))
    .await;
    feeder.feed(&invoice("new", "inv", "1")).await;
    let router = start(&config, None);
    routed(&installation).await;
    router.kill();
    let records = installation.records("invoices").await;
    let ids: Vec<_> = records.iter().map(|record| record.headers.get("ce_id").unwrap()).collect();
    assert_eq!(ids, ["new"]);
    let aside = config.with_file_name("router").join("accbooks.set-aside");
    assert!(!aside.exists(), "it went on from what was there");
}

/// Says whether the partition has an open transaction, as a reader that trusts the last stable offset would not see.
fn is_held_back(installation: &Installation, topic: &str, partition: i32) -> bool {
    let end = |isolation: &str| {
        let consumer: BaseConsumer = rdkafka::ClientConfig::new()
            .set("bootstrap.servers", installation.config.kafka.bootstrap_servers.join(","))
            .set("group.id", "none")
            .set("isolation.level", isolation)
            .create()
            .unwrap();
        consumer.fetch_watermarks(topic, partition, Duration::from_secs(10)).unwrap().1
    };
    end("read_committed") < end("read_uncommitted")
}

/// A marker in a transaction that commits only after the partition was gained: a restore that stopped at the last
/// stable offset would miss it and route the event again. Partitions beside it are served meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_left_open_is_waited_for_and_holds_up_its_partition_alone() {
    let installation = install("").await;
    let feeder = Feeder::new(&installation);
    for n in 0..30 {
        feeder.feed(&invoice(&format!("e{n}"), "inv", "1")).await;
    }
    let rows = installation.records("received.accbooks").await;
    let taken = rows.iter().find(|row| row.key.as_deref() == Some(b"e0")).unwrap().partition.number;
    let beside = rows.iter().filter(|row| row.partition.number != taken).count();
    let marker = marker(&installation, "e0", Some(taken));
    let topic = marker.topic.clone();
    let cluster = installation.ground.cluster.clone();
    let foreign = tokio::task::spawn_blocking(move || {
        let foreign = Transactions::open(&cluster, "foreign", Duration::from_secs(60)).unwrap();
        foreign.begin().unwrap();
        foreign.send(&marker).unwrap();
        foreign
    })
    .await
    .unwrap();
    let held = || tokio::task::block_in_place(|| is_held_back(&installation, &topic, taken));
    eventually("the marker is in the log, and not committed", held).await;

    let role = Role { stop: CancellationToken::new(), ..installation.role("router") };
    let stop = role.stop.clone();
    let running = tokio::spawn(router::run(settings(&installation), Arc::clone(&installation.ground), role));
    let outcome = |name: &str| installation.metrics.router_events.with_label_values(&["accbooks", name]).get();
    eventually("the other partitions are served", || outcome("routed") == beside as u64).await;
    let state = installation.health.states()["router"].clone();
    assert!(matches!(&state, State::NotReady(why) if why.contains("of 1 partitions")), "{state:?}");
    tokio::task::spawn_blocking(move || foreign.commit(&|_| {})).await.unwrap().unwrap();
    eventually("every row has an outcome", || outcome("routed") + outcome("duplicate") == 30).await;
    stop.cancel();
    running.await.unwrap().unwrap();
    assert_eq!((outcome("routed"), outcome("duplicate")), (29, 1));
}

/// Kafka forgets the offsets of a group that is away for long. What would be read again is inside the window, or nothing is.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_whose_offsets_are_forgotten_routes_nothing_again() {
    let fresh = install("").await;
    let feeder = Feeder::new(&fresh);
    feeder.feed(&invoice("e1", "inv", "1")).await;
    feeder.producer.send(&marker(&fresh, "e1", None)).await.unwrap();
    feeder.feed(&invoice("e2", "inv", "1")).await;
    route(&fresh, 2).await;
    let ids = fresh.records("invoices").await;
    assert_eq!(ids.iter().map(|row| row.headers.get("ce_id").unwrap()).collect::<Vec<_>>(), ["e2"]);

    // As if it had been routed so long ago that its own marker is gone, with all the others of its partition.
    let old = install("").await;
    let feeder = Feeder::new(&old);
    let event = invoice("e1", "inv", "1");
    let then = Timestamp::now().as_millis() - 31 * 86_400_000;
    let row = Outgoing {
        topic: old.ground.cluster.topic("received.accbooks"),
        partition: Some(1),
        key: event.event_id.clone().into_bytes(),
        value: old.encoders.of("received.accbooks").unwrap().encode(&event).unwrap(),
        headers: Headers::default(),
        timestamp_ms: Some(then),
    };
    feeder.producer.send(&row).await.unwrap();
    feeder.producer.send(&marker(&old, "e0", Some(1))).await.unwrap();
    // All markers of the partition may have left after their time.
    old.delete_before("seen.accbooks", &std::collections::BTreeMap::from([(1, 1)])).await;
    let running = router::run(settings(&old), Arc::clone(&old.ground), old.role("router"));
    let ended = tokio::time::timeout(Duration::from_secs(60), running).await.expect("it ends by itself");
    let told = ended.unwrap_err().to_string();
    assert!(told.contains("no committed offset") && told.contains("received.accbooks/1"), "{told}");
    assert!(old.records("invoices").await.is_empty());
}

/// A member that comes back within its session is given what it had, unless it asks under another name.
#[tokio::test(flavor = "multi_thread")]
async fn a_router_whose_sources_were_swapped_reads_the_new_ones() {
    let installation = install("").await;
    for source in ["accelex", "accbooks"] {
        let feeder = Feeder::new(&installation);
        feeder.feed(&invoice("e1", "inv", "1")).await;
        let stop = CancellationToken::new();
        let mut settings = settings(&installation);
        settings.sources.retain(|(name, _)| name == source);
        let role = Role { stop: stop.clone(), ..installation.role("router") };
        let running = tokio::spawn(router::run(settings, Arc::clone(&installation.ground), role));
        installation.ready("router").await;
        if source == "accbooks" {
            let counter = installation.metrics.router_events.with_label_values(&[source, "routed"]);
            eventually("its rows are routed", || counter.get() == 1).await;
        }
        stop.cancel();
        running.await.unwrap().unwrap();
    }
}

/// What the shorter window let go is gone, so the longer one counts from the day of the change; the topic has to keep as long.
#[tokio::test(flavor = "multi_thread")]
async fn a_longer_window_counts_from_now_and_says_so() {
    let installation = install("").await;
    let config = installation.file();
    for (window, told) in
        [("20d", None), ("30d", Some("dedupe_window was 1728000s and is 2592000s now")), ("30d", None)]
    {
        std::fs::write(&config, format!("{}\n[router]\ndedupe_window = \"{window}\"\n", installation.toml)).unwrap();
        let mut router = Process::start(&config, &["run", "--role", "router"], &[]);
        router.line(&["dedupe state restored"]).await;
        router.terminate();
        let ended = router.ended().await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_eq!(ended.stderr.contains("dedupe_window was"), told.is_some(), "{}", ended.stderr);
        assert!(told.is_none_or(|told| ended.stderr.contains(told)), "{}", ended.stderr);
    }
    // Its topic would forget ids within such a window.
    std::fs::write(&config, format!("{}\n[router]\ndedupe_window = \"60d\"\n", installation.toml)).unwrap();
    let refused = Process::start(&config, &["run", "--role", "router"], &[]).ended().await;
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("seen.accbooks: retention.ms is "), "{}", refused.stderr);
}
