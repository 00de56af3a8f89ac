//! What a predecessor still has under way when its partitions are gained.

use std::sync::Arc;
use std::time::Duration;

use ledgerhook::event::{Envelope, Seen, SeenState, Sha256, Timestamp};
use ledgerhook::kafka::group::Partition;
use ledgerhook::kafka::headers::Headers;
use ledgerhook::kafka::layout::Ground;
use ledgerhook::kafka::produce::Outgoing;
use ledgerhook::kafka::transaction::Transactions;
use ledgerhook::lifecycle::Role;
use ledgerhook::router;
use ledgerhook::telemetry::health::State;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tokio::task::{block_in_place, spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::{Feeder, invoice, settings};
use crate::common::fenced::{Fenced, LIST_OFFSETS, NO_TIME};
use crate::common::{Installation, eventually, install};

const TIMEOUT: Duration = Duration::from_secs(60);
/// For how long the predecessor's transaction stays undecided once its successor is in the group: many times what a
/// restore of three partitions takes. A router that waits for the decision passes however long it is.
const UNDECIDED: Duration = Duration::from_secs(6);

/// The marker of an event that was routed, for the partition of its row.
fn marker(installation: &Installation, event: &Envelope, number: i32) -> Outgoing {
    let seen = Seen {
        state: SeenState::Routed,
        body_sha256: vec![Sha256::of(&event.body)],
        first_routed_at: Timestamp::now(),
        record_topic: None,
        record_key: None,
        decided: Vec::new(),
    };
    Outgoing {
        topic: installation.ground.cluster.topic("seen.accbooks"),
        partition: Some(number),
        key: event.event_id.to_string().into_bytes(),
        value: installation.encoders.of("seen.accbooks").unwrap().encode(&seen).unwrap(),
        headers: Headers::default(),
        timestamp_ms: None,
    }
}

/// A client of the router's group that is no member: while the group is empty the broker takes offsets from it.
fn outsider(installation: &Installation) -> BaseConsumer {
    rdkafka::ClientConfig::new()
        .set("bootstrap.servers", installation.config.kafka.bootstrap_servers.join(","))
        .set("group.id", format!("{}router", installation.config.kafka.topic_prefix))
        .set("isolation.level", "read_uncommitted")
        .create()
        .unwrap()
}

/// A predecessor that has told the group its offset, and writes its marker only after another router gained the
/// partition; then it commits. Whoever restores first and asks for the offset afterwards has missed the marker, begins
/// behind its row, and routes the event's repeat again.
#[tokio::test(flavor = "multi_thread")]
async fn a_marker_written_after_its_offset_was_told_is_known_to_the_successor() {
    let installation = install("").await;
    let feeder = Feeder::new(&installation);
    let event = invoice("e0", "inv", "1");
    feeder.feed(&event).await;
    let rows = installation.records("received.accbooks").await;
    let Partition { topic: received, number } = rows[0].partition.clone();
    let marker = marker(&installation, &event, number);
    let group = format!("{}router", installation.config.kafka.topic_prefix);
    let member = outsider(&installation);
    let cluster = installation.ground.cluster.clone();
    let metadata = Arc::new(member.group_metadata().unwrap());
    let predecessor = spawn_blocking(move || {
        let predecessor = Transactions::open(&cluster, "predecessor", Duration::from_secs(60)).unwrap();
        predecessor.begin().unwrap();
        predecessor.offsets([(&Partition { topic: received, number }, 1)], &metadata).unwrap();
        predecessor
    })
    .await
    .unwrap();

    let role = Role { stop: CancellationToken::new(), ..installation.role("router") };
    let stop = role.stop.clone();
    let running = tokio::spawn(router::run(settings(&installation), Arc::clone(&installation.ground), role));
    let is_stable = || {
        let list = member.fetch_group_list(Some(&group), Duration::from_secs(10));
        list.is_ok_and(|list| list.groups().iter().any(|group| group.state() == "Stable"))
    };
    eventually("the successor is in the group", || block_in_place(is_stable)).await;
    tokio::time::sleep(UNDECIDED).await;
    spawn_blocking(move || predecessor.send(&marker).and_then(|()| predecessor.commit(&|_| {})))
        .await
        .unwrap()
        .unwrap();

    feeder.feed(&event).await;
    feeder.feed(&invoice("e1", "inv", "1")).await;
    let outcome = |name: &str| installation.metrics.router_events.with_label_values(&["accbooks", name]).get();
    eventually("both rows have an outcome", || outcome("routed") + outcome("duplicate") == 2).await;
    stop.cancel();
    running.await.unwrap().unwrap();
    assert_eq!((outcome("routed"), outcome("duplicate")), (1, 1), "the repeat's marker was known");
}

/// What a read_committed client takes for the end of `seen` is where a foreign transaction was left open; a predecessor's
/// marker stands behind it. With that for its end a router routes the event again, at once; with the true one it knows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_marker_behind_a_foreign_transaction_is_waited_for_and_without_that_the_event_doubles() {
    for (is_naive, expected) in [(false, (0, 1)), (true, (1, 0))] {
        let installation = install("").await;
        let feeder = Feeder::new(&installation);
        let event = invoice("e0", "inv", "1");
        feeder.feed(&event).await;
        let received = installation.records("received.accbooks").await[0].partition.clone();
        let marker = marker(&installation, &event, received.number);
        let client = outsider(&installation);
        let end = || block_in_place(|| client.fetch_watermarks(&marker.topic, received.number, TIMEOUT)).unwrap().1;
        let open = |id: &str| Transactions::open(&installation.ground.cluster, id, TIMEOUT).unwrap();
        let (foreign, predecessor) = block_in_place(|| (open("foreign"), open("predecessor")));
        block_in_place(|| {
            foreign.begin().and_then(|()| foreign.send(&Outgoing { key: b"x".to_vec(), ..marker.clone() }))
        })
        .unwrap();
        eventually("the foreign transaction is open", || end() == 1).await;
        block_in_place(|| {
            predecessor.begin().unwrap();
            predecessor.send(&marker).unwrap();
            predecessor.offsets([(&received, 1)], &Arc::new(client.group_metadata().unwrap())).unwrap();
            predecessor.commit(&|_| {}).unwrap();
        });
        eventually("the predecessor's marker is there", || end() == 3).await;

        let way = Fenced::before(&installation.config.kafka.bootstrap_servers[0]).await;
        if is_naive {
            way.tell(usize::MAX, LIST_OFFSETS, [NO_TIME, 3], [NO_TIME, 0]);
        }
        let mut kafka = installation.config.kafka.clone();
        kafka.bootstrap_servers = vec![way.address.clone()];
        let ground =
            Ground::new(&kafka, &installation.config.schema_registry, installation.ground.topics.clone()).unwrap();
        let role = Role { stop: CancellationToken::new(), ..installation.role("router") };
        let stop = role.stop.clone();
        let running = tokio::spawn(router::run(settings(&installation), Arc::new(ground), role));
        feeder.feed(&event).await;
        let outcome = |name: &str| installation.metrics.router_events.with_label_values(&["accbooks", name]).get();
        if is_naive {
            eventually("it routes while the other is open", || outcome("routed") == 1).await;
        } else {
            let waits = State::NotReady("restoring the dedupe state of 1 partitions".to_owned());
            let state = || installation.health.states().get("router").cloned();
            eventually("it waits for the other's end", || state().as_ref() == Some(&waits)).await;
        }
        block_in_place(|| foreign.abort()).unwrap();
        eventually("the repeat has an outcome", || outcome("routed") + outcome("duplicate") == 1).await;
        stop.cancel();
        running.await.unwrap().unwrap();
        assert_eq!((outcome("routed"), outcome("duplicate")), expected, "naive: {is_naive}");
    }
}
