//! More partitions of `received` than its ids were counted in: none is routed twice, before, while and after their
//! markers are moved.

use std::collections::BTreeSet;

use ledgerhook::event::Envelope;
use ledgerhook::kafka::headers::Headers;
use ledgerhook::kafka::partition::of_key;
use ledgerhook::kafka::produce::Outgoing;
use tokio::task::block_in_place;

use super::{Feeder, invoice, route};
use crate::common::process::{Ended, Process, run};
use crate::common::{Installation, install};

const BEFORE: i32 = 3;
const AFTER: i32 = 5;

fn event(n: u64) -> Envelope {
    invoice(&format!("e{n}"), &format!("inv_{}", n % 7), "1")
}

/// Gives both topics more partitions as any tool would.
async fn add_partitions(installation: &Installation, partitions: i32) {
    for name in ["received.accbooks", "seen.accbooks"] {
        installation.grow(name, usize::try_from(partitions).unwrap()).await;
    }
}

/// Writes events as a client that counts so many partitions; tells how many of them stand elsewhere than among `places`.
async fn feed(feeder: &Feeder<'_>, events: std::ops::Range<u64>, counted: i32, places: i32) -> u64 {
    let installation = feeder.installation;
    let encoder = installation.encoders.of("received.accbooks").unwrap();
    let mut elsewhere = 0;
    for n in events {
        let event = event(n);
        let key = event.event_id.clone().into_bytes();
        let partition = of_key(&key, counted);
        elsewhere += u64::from(partition != of_key(&key, places));
        let record = Outgoing {
            topic: installation.ground.cluster.topic("received.accbooks"),
            partition: Some(partition),
            key,
            value: encoder.encode(&event).unwrap(),
            headers: Headers::default(),
            timestamp_ms: None,
        };
        feeder.producer.send(&record).await.unwrap();
    }
    elsewhere
}

/// Ids that have their places elsewhere since partitions were added show their whole life.
async fn each_is_found(installation: &Installation) {
    let moved = (0..40_u64).map(|n| format!("e{n}"));
    let moved = moved.filter(|id| of_key(id.as_bytes(), BEFORE) != of_key(id.as_bytes(), AFTER));
    for id in moved.take(2) {
        let shown = run(&installation.file(), &["events", "show", &id]).await;
        assert_eq!(shown.code, Some(0), "{shown:?}");
        let first = format!("received.accbooks/{}@", of_key(id.as_bytes(), BEFORE));
        for part in [first.as_str(), "  received   ", "  routed     ", "  record     "] {
            assert!(shown.stdout.contains(part), "{id}, {part}: {}", shown.stdout);
        }
    }
}

/// Each of so many events is one record; tells where their markers stand.
async fn each_once(installation: &Installation, events: u64) -> Vec<(String, i32)> {
    let records = installation.records("invoices").await;
    let ids: BTreeSet<_> = records.iter().map(|row| row.headers.get("ce_id").unwrap().to_owned()).collect();
    assert_eq!((records.len() as u64, ids.len() as u64), (events, events));
    let markers = installation.records("seen.accbooks").await;
    markers.into_iter().map(|row| (String::from_utf8(row.key.unwrap()).unwrap(), row.partition.number)).collect()
}

async fn grow(installation: &Installation, dies: bool) -> Ended {
    let config = installation.file();
    let toml = installation.toml.replace("partitions = 3", "partitions = 5");
    std::fs::write(&config, toml).unwrap();
    let point = if dies { "grow.before_raise:1" } else { "" };
    Process::start(&config, &["topics", "grow"], &[("LEDGERHOOK_FAILPOINT", point)]).ended().await
}

#[tokio::test(flavor = "multi_thread")]
async fn more_partitions_double_nothing() {
    let installation = install("").await;
    let feeder = Feeder::new(&installation);
    feed(&feeder, 0..40, BEFORE, BEFORE).await;
    let mut rows = 40;
    route(&installation, rows).await;

    // By any tool, and writers have noticed: rows stand among more partitions, markers do not.
    add_partitions(&installation, AFTER).await;
    let feeder = Feeder::new(&installation);
    assert!(feed(&feeder, 0..60, AFTER, BEFORE).await > 20);
    rows += 60;
    route(&installation, rows).await;
    let markers = each_once(&installation, 60).await;
    assert!(markers.iter().all(|(id, stands)| of_key(id.as_bytes(), BEFORE) == *stands));
    each_is_found(&installation).await;

    // Killed before the number is raised: as if nothing had been done.
    let ended = grow(&installation, true).await;
    assert_eq!(ended.code, None, "{}", ended.stderr);
    feed(&feeder, 0..70, AFTER, BEFORE).await;
    rows += 70;
    route(&installation, rows).await;
    each_once(&installation, 70).await;

    let ended = grow(&installation, false).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("accbooks: 5 partitions instead of 3"), "{}", ended.stdout);
    // Writers that have not noticed yet, and those that have.
    assert!(feed(&feeder, 0..80, BEFORE, AFTER).await > 20);
    assert_eq!(feed(&feeder, 0..90, AFTER, AFTER).await, 0);
    rows += 170;
    route(&installation, rows).await;
    let markers = each_once(&installation, 90).await;
    let number = |id: &str| id.trim_start_matches('e').parse::<u64>().unwrap();
    let new = markers.iter().filter(|(id, _)| number(id) >= 70);
    assert!(new.clone().count() > 0);
    assert!(new.clone().all(|(id, stands)| of_key(id.as_bytes(), AFTER) == *stands));

    each_is_found(&installation).await;

    let again = grow(&installation, false).await;
    assert!(again.code == Some(0) && again.stdout.contains("nothing to do"), "{}{}", again.stdout, again.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_not_added_beside_a_router() {
    let installation = install("").await;
    let config = installation.file();
    let mut router = Process::start(&config, &["run", "--role", "router"], &[]);
    router.line(&["dedupe state restored"]).await;
    let ended = grow(&installation, false).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    assert!(ended.stderr.contains("routers run"), "{}", ended.stderr);
    let partitions = block_in_place(|| installation.ground.partitions_of("received.accbooks")).unwrap();
    assert_eq!(partitions.len(), 3);
    router.terminate();
    drop(router.ended().await);
}
