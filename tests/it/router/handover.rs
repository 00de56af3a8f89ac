//! What a predecessor still has under way when its partitions are gained.

use std::sync::Arc;
use std::time::Duration;

use ledgerhook::event::{Seen, SeenState, Sha256, Timestamp};
use ledgerhook::kafka::group::Partition;
use ledgerhook::kafka::headers::Headers;
use ledgerhook::kafka::produce::Outgoing;
use ledgerhook::kafka::transaction::Transactions;
use ledgerhook::lifecycle::Role;
use ledgerhook::router;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tokio::task::{block_in_place, spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::{Feeder, invoice, settings};
use crate::common::{eventually, install};

/// For how long the predecessor's transaction stays undecided once its successor is in the group: many times what a
/// restore of three partitions takes. A router that waits for the decision passes however long it is.
const UNDECIDED: Duration = Duration::from_secs(6);

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
    let seen = Seen {
        state: SeenState::Routed,
        body_sha256: vec![Sha256::of(&event.body)],
        first_routed_at: Timestamp::now(),
        record_topic: None,
        record_key: None,
        decided: Vec::new(),
    };
    let marker = Outgoing {
        topic: installation.ground.cluster.topic("seen.accbooks"),
        partition: Some(number),
        key: b"e0".to_vec(),
        value: installation.encoders.of("seen.accbooks").unwrap().encode(&seen).unwrap(),
        headers: Headers::default(),
        timestamp_ms: None,
    };

    let group = format!("{}router", installation.config.kafka.topic_prefix);
    let member: BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", installation.config.kafka.bootstrap_servers.join(","))
        .set("group.id", &group)
        .create()
        .unwrap();
    let cluster = installation.ground.cluster.clone();
    // While the group is empty the broker takes offsets from whoever names no member.
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
