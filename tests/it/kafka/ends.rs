//! Ends that are told, and are none.

use std::collections::BTreeMap;
use std::time::Duration;

use ledgerhook::kafka::client::Cluster;
use ledgerhook::kafka::produce::Outgoing;
use ledgerhook::kafka::restore::{self, Read};
use ledgerhook::kafka::transaction::Transactions;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tokio::task::block_in_place;
use tokio::time::Instant;

use super::{TIMEOUT, record};
use crate::common::fenced::{FETCH, Fenced, LIST_OFFSETS, NO_TIME};
use crate::common::{Installation, eventually, install};

/// Less than the broker waits for a transaction that does not end.
const PATIENCE: Duration = Duration::from_secs(5);

/// A cluster that is reached by a way of the test's own.
async fn by_a_way(here: &Installation) -> (Fenced, Cluster) {
    let way = Fenced::before(&here.config.kafka.bootstrap_servers[0]).await;
    let mut kafka = here.config.kafka.clone();
    kafka.bootstrap_servers = vec![way.address.clone()];
    (way, Cluster::new(&kafka))
}

/// `OFFSET_NOT_AVAILABLE`.
const OFFSET_NOT_AVAILABLE: i16 = 78;

/// Reads the first partition of the feeds from its beginning.
fn read(cluster: &Cluster) -> Vec<String> {
    let mut said = Vec::new();
    let topic = cluster.topic("feeds");
    let each = |read| {
        said.push(match read {
            Read::Gone(_, begins) => format!("begins at {begins}"),
            Read::Record(record) => String::from_utf8(record.value.unwrap()).unwrap(),
            Read::Ended(_, end) => format!("ends at {end}"),
        });
    };
    let (from, began) = (BTreeMap::from([(0, None)]), Instant::now());
    // A restore that would never end is one that reads too little.
    let late = || began.elapsed() > 4 * PATIENCE;
    block_in_place(|| restore::read(cluster, &topic, &from, PATIENCE, &late, each)).unwrap();
    said
}

fn open(here: &Installation, id: &str) -> Transactions {
    block_in_place(|| Transactions::open(&here.ground.cluster, id, TIMEOUT)).unwrap()
}

/// Writes a record in a transaction.
fn write(here: &Installation, transactions: &Transactions, value: &str) {
    block_in_place(|| {
        transactions.begin().unwrap();
        transactions.send(&Outgoing { partition: Some(0), ..record(here, "k", value) }).unwrap();
    });
}

/// Waits until so many records and markers are there.
async fn there(here: &Installation, wanted: i64) {
    let reader: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &here.config.kafka.bootstrap_servers[0])
        .set("isolation.level", "read_uncommitted")
        .create()
        .unwrap();
    let topic = here.ground.cluster.topic("feeds");
    let end = || block_in_place(|| reader.fetch_watermarks(&topic, 0, TIMEOUT)).unwrap().1;
    eventually("all of it is written", || end() == wanted).await;
}

/// For as long as a follower takes to fetch once, a new leader's answer to a fetch may tell of an end that others told
/// of as passed.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_a_new_leader_tells_of_is_none() {
    let here = install("").await;
    let (way, cluster) = by_a_way(&here).await;
    let transactions = open(&here, "one");
    for value in ["a", "b"] {
        write(&here, &transactions, value);
        block_in_place(|| transactions.commit(&|_| {})).unwrap();
    }
    there(&here, 4).await;
    // High watermark and last stable offset: behind two records and two markers.
    way.tell(1, FETCH, [4, 4], [0, 0]);
    assert_eq!(read(&cluster), ["a", "b", "ends at 4"]);
    assert!(way.told(), "the other end was not told");
}

/// Nor does it tell of its end before it knows it, to who asks for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_that_does_not_know_its_end_yet_is_asked_again() {
    let here = install("").await;
    let (way, cluster) = by_a_way(&here).await;
    let transactions = open(&here, "one");
    write(&here, &transactions, "a");
    block_in_place(|| transactions.commit(&|_| {})).unwrap();
    there(&here, 2).await;
    let answer = |error: i16, end: i64| [&error.to_be_bytes()[..], &NO_TIME.to_be_bytes(), &end.to_be_bytes()].concat();
    way.say(3, LIST_OFFSETS, answer(0, 2), answer(OFFSET_NOT_AVAILABLE, -1));
    assert_eq!(read(&cluster), ["a", "ends at 2"]);
    assert!(way.told(), "the end was told at once");
}

/// Nothing moves a position over aborted records alone: it is not waited for.
#[tokio::test(flavor = "multi_thread")]
async fn aborted_records_in_the_end_are_an_end() {
    let here = install("").await;
    let (way, cluster) = by_a_way(&here).await;
    let (one, aborted, left_open) = (open(&here, "one"), open(&here, "aborted"), open(&here, "left open"));
    write(&here, &one, "a");
    block_in_place(|| one.commit(&|_| {})).unwrap();
    there(&here, 2).await;
    write(&here, &aborted, "aborted");
    there(&here, 3).await;
    write(&here, &left_open, "open");
    there(&here, 4).await;
    block_in_place(|| aborted.abort()).unwrap();
    there(&here, 5).await;
    // The end as it was before the last transaction began.
    way.tell(1, LIST_OFFSETS, [NO_TIME, 5], [NO_TIME, 3]);
    assert_eq!(read(&cluster), ["a", "ends at 3"]);
    assert!(way.told(), "the other end was not told");
    block_in_place(|| left_open.abort()).unwrap();
}
