//! A transaction that has ended, and whose end a broker did not write everywhere.

use std::time::Duration;

use ledgerhook::kafka::client::Cluster;
use ledgerhook::kafka::group::{Member, Partition, Start};
use ledgerhook::kafka::leftovers::Reach;
use ledgerhook::kafka::restore::{RestoreError, read_to_end};
use ledgerhook::kafka::transaction::{TransactionError, Transactions};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tokio::task::block_in_place;

use super::{TIMEOUT, record, take, values};
use crate::common::broker::OwnServers;
use crate::common::{eventually, install_on};

/// The broker that is killed.
const LOST: i32 = 3;
const GROUP: &str = "accounts";

/// Creates topics that have all their replicas on one broker.
async fn create_alone(bootstrap: &str, topics: &[(&str, usize)]) {
    let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap();
    for (name, partitions) in topics {
        let replicas = vec![&[LOST][..]; *partitions];
        let topic = NewTopic::new(name, i32::try_from(*partitions).unwrap(), TopicReplication::Variable(&replicas))
            .set("cleanup.policy", "compact");
        for created in admin.create_topics([&topic], &AdminOptions::new()).await.unwrap() {
            created.unwrap();
        }
    }
}

/// As it is opened until the cluster answers.
fn open(cluster: &Cluster) -> Transactions {
    loop {
        match Transactions::open(cluster, "one", TIMEOUT) {
            Ok(transactions) => return transactions,
            Err(TransactionError::Retry { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broker_left_open_is_ended_by_the_next_of_the_same_id() {
    let Some(servers) = tokio::task::spawn_blocking(|| OwnServers::cluster(3)).await.unwrap() else { return };
    // As many as the brokers are told to make of it.
    create_alone(&servers.bootstrap, &[("__consumer_offsets", 4), ("alone", 1)]).await;
    let installation = install_on(&servers, "").await;
    let cluster = installation.ground.cluster.clone();
    let alone = Partition { topic: "alone".to_owned(), number: 0 };
    let row = |value: &str| {
        let (topic, partition) = (alone.topic.clone(), Some(alone.number));
        ledgerhook::kafka::produce::Outgoing { topic, partition, ..record(&installation, "k", value) }
    };
    let reader: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &servers.bootstrap)
        .set("isolation.level", "read_uncommitted")
        .create()
        .unwrap();
    let end = || block_in_place(|| reader.fetch_watermarks("alone", 0, TIMEOUT)).ok().map(|(_, end)| end);
    let leader = || {
        let metadata = block_in_place(|| reader.fetch_metadata(Some("alone"), TIMEOUT)).ok()?;
        Some(metadata.topics().first()?.partitions().first()?.leader())
    };
    let join = || block_in_place(|| Member::join(&cluster, GROUP, "instance", &["alone".to_owned()], Start::Earliest));

    let mut member = join().unwrap();
    block_in_place(|| take(&mut member, 0));
    let first = block_in_place(|| open(&cluster));
    block_in_place(|| {
        first.begin().unwrap();
        first.send(&row("aborted")).unwrap();
        first.offsets([(&alone, 1)], member.metadata().unwrap()).unwrap();
    });
    eventually("the row is written", || end() == Some(1)).await;

    // Its coordinator, on the other brokers or one of them, ends it where nobody leads.
    block_in_place(|| servers.kill_node(LOST));
    eventually("nobody leads", || leader() == Some(-1)).await;
    drop(block_in_place(|| open(&cluster)));
    block_in_place(|| servers.restart_node(LOST));
    eventually("it is led again", || leader() == Some(LOST)).await;
    let read = |bound: u64| {
        let mut records = Vec::new();
        let each = |record| records.push(record);
        let read =
            block_in_place(|| read_to_end(&cluster, std::slice::from_ref(&alone), Duration::from_secs(bound), each));
        read.map(|_| values(&records))
    };
    // A broker of which this is not true needs none of what follows, and passes.
    let left_open = matches!(read(5), Err(RestoreError::TimedOut { .. }));
    println!("the broker has left the transaction open: {left_open}");

    let reach = Reach { group: GROUP.to_owned(), topics: vec![alone.topic.clone()] };
    let second = block_in_place(|| open(&cluster).within(&cluster, reach)).unwrap();
    assert!(read(60).unwrap().is_empty(), "its end is an abort");
    block_in_place(|| {
        second.begin().unwrap();
        second.send(&row("committed")).unwrap();
        second.commit(&|_| {}).unwrap();
    });
    assert_eq!(read(60).unwrap(), ["committed"], "and no later commit was its end");
    // Who joins is told the group's offsets, of which there are none: no transaction is said to be about to move them.
    drop((member, first));
    let mut member = join().unwrap();
    assert_eq!(block_in_place(|| take(&mut member, 1)), ["committed"]);

    drop((member, second, reader, installation));
    tokio::task::spawn_blocking(move || drop(servers)).await.unwrap();
}
