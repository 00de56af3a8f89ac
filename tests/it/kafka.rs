//! The Kafka ground on a real broker: what the stages rely on of transactions, groups and reading to the end.

mod ends;
mod leftovers;

use std::collections::BTreeMap;
use std::time::Duration;

use ledgerhook::kafka::group::{Member, Partition, Polled, Start};
use ledgerhook::kafka::headers::Headers;
use ledgerhook::kafka::partition;
use ledgerhook::kafka::produce::{Outgoing, Producer};
use ledgerhook::kafka::restore::{self, Read, RestoreError, read_to_end};
use ledgerhook::kafka::transaction::{TransactionError, Transactions};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, ClientContext, TopicPartitionList};

use crate::common::{Installation, install};

const TIMEOUT: Duration = Duration::from_secs(10);

fn record(installation: &Installation, key: &str, value: &str) -> Outgoing {
    Outgoing {
        topic: installation.ground.cluster.topic("feeds"),
        partition: None,
        key: key.into(),
        value: value.into(),
        headers: Headers::default(),
        timestamp_ms: None,
    }
}

fn values(records: &[ledgerhook::kafka::group::Incoming]) -> Vec<String> {
    let mut values: Vec<_> = records.iter().map(|r| String::from_utf8(r.value.clone().unwrap()).unwrap()).collect();
    values.sort();
    values
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_to_the_end_waits_for_a_transaction_left_open() {
    let installation = install("").await;
    let cluster = installation.ground.cluster.clone();
    let partitions = installation.ground.partitions_of("feeds").unwrap();
    let (first, second) = (record(&installation, "k", "before"), record(&installation, "k", "in the open one"));
    let (done, open) = tokio::task::spawn_blocking({
        let cluster = cluster.clone();
        move || {
            let transactions = Transactions::open(&cluster, "left-open", TIMEOUT).unwrap();
            transactions.begin().unwrap();
            transactions.send(&first).unwrap();
            transactions.commit(&|_| {}).unwrap();
            transactions.begin().unwrap();
            transactions.send(&second).unwrap();
            // On the broker, but neither committed nor aborted.
            let short = read_to_end_when_there(&cluster, &partitions);
            (short, (transactions, partitions))
        }
    })
    .await
    .unwrap();
    assert!(matches!(done, Err(RestoreError::TimedOut { .. })), "an end before the open records is no end: {done:?}");
    let (transactions, partitions) = open;
    let (read, ended) = tokio::task::spawn_blocking(move || {
        let reader = std::thread::spawn(move || {
            let mut records = Vec::new();
            read_to_end(&cluster, &partitions, Duration::from_secs(60), |r| records.push(r)).unwrap();
            records
        });
        let ended = transactions.commit(&|_| {});
        (reader.join().unwrap(), ended)
    })
    .await
    .unwrap();
    ended.unwrap();
    assert_eq!(values(&read), ["before", "in the open one"]);
}

/// Waits until the open record has reached the log (its offset moves the high watermark), then reads with a short bound.
fn read_to_end_when_there(
    cluster: &ledgerhook::kafka::client::Cluster,
    partitions: &[Partition],
) -> Result<Vec<ledgerhook::kafka::group::Incoming>, RestoreError> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let mut records = Vec::new();
        match read_to_end(cluster, partitions, Duration::from_secs(1), |r| records.push(r)) {
            Ok(_) if tokio::time::Instant::now() < deadline => {}
            Ok(_) => return Ok(records),
            Err(error) => return Err(error),
        }
    }
}

/// Whoever goes on from a place hears that records behind it are gone; an end alone looks as if nothing had come.
#[tokio::test(flavor = "multi_thread")]
async fn reading_from_a_place_says_what_is_gone_behind_it() {
    let installation = install("").await;
    let producer = Producer::new(&installation.ground.cluster, TIMEOUT, Duration::ZERO).unwrap();
    for n in 0..6 {
        let row = Outgoing { partition: Some(0), ..record(&installation, "k", &n.to_string()) };
        producer.send(&row).await.unwrap();
    }
    let read = |from: Option<i64>| {
        let (cluster, topic) = (installation.ground.cluster.clone(), installation.ground.cluster.topic("feeds"));
        let reading = tokio::task::spawn_blocking(move || {
            let mut said = Vec::new();
            restore::read(&cluster, &topic, &BTreeMap::from([(0, from)]), TIMEOUT, &|| false, |read| {
                said.push(match read {
                    Read::Gone(number, begins) => format!("{number} begins at {begins}"),
                    Read::Record(record) => format!("record {}", record.offset),
                    Read::Ended(number, end) => format!("{number} ends at {end}"),
                });
            })
            .unwrap();
            said.join(", ")
        });
        async { reading.await.unwrap() }
    };
    assert_eq!(read(Some(4)).await, "record 4, record 5, 0 ends at 6");
    installation.delete_before("feeds", &BTreeMap::from([(0, 4)])).await;
    assert_eq!(read(None).await, "record 4, record 5, 0 ends at 6");
    assert_eq!(read(Some(4)).await, "record 4, record 5, 0 ends at 6");
    assert_eq!(read(Some(3)).await, "0 begins at 4, record 4, record 5, 0 ends at 6");
    installation.delete_before("feeds", &BTreeMap::from([(0, 6)])).await;
    assert_eq!(read(Some(3)).await, "0 begins at 6, 0 ends at 6");
    assert_eq!(read(Some(6)).await, "0 ends at 6");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_transaction_leaves_nothing_and_a_successor_fences() {
    let installation = install("").await;
    let cluster = installation.ground.cluster.clone();
    let records: Vec<_> = (0..4).map(|n| record(&installation, "k", &format!("v{n}"))).collect();
    let (late, after) = tokio::task::spawn_blocking(move || {
        let first = Transactions::open(&cluster, "one", TIMEOUT).unwrap();
        first.begin().unwrap();
        first.send(&records[0]).unwrap();
        first.abort().unwrap();
        first.begin().unwrap();
        first.send(&records[1]).unwrap();
        first.commit(&|_| {}).unwrap();
        // A zombie: it goes on after its successor took the id over.
        first.begin().unwrap();
        first.send(&records[2]).unwrap();
        let second = Transactions::open(&cluster, "one", TIMEOUT).unwrap();
        let late = first.commit(&|_| {});
        second.begin().unwrap();
        second.send(&records[3]).unwrap();
        (late, second.commit(&|_| {}))
    })
    .await
    .unwrap();
    assert!(matches!(late, Err(TransactionError::Fenced { .. } | TransactionError::Abort { .. })), "{late:?}");
    after.unwrap();
    assert_eq!(values(&installation.records("feeds").await), ["v1", "v3"]);
}

/// Polls until partitions are gained, then the next `n` values.
fn take(member: &mut Member, n: usize) -> Vec<String> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    let (mut gained, mut records) = (false, Vec::new());
    while !gained || records.len() < n {
        assert!(tokio::time::Instant::now() < deadline, "gained {gained}, got {}", records.len());
        match member.poll(Duration::from_millis(100)).unwrap() {
            Polled::Gained(_) => gained = true,
            Polled::Record(record) => records.push(*record),
            Polled::Nothing | Polled::Away(_) => {}
            Polled::Leaving { .. } => member.release().unwrap(),
        }
    }
    values(&records)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_starts_where_it_is_told_and_remembers_it() {
    let installation = install("").await;
    let cluster = installation.ground.cluster.clone();
    let topics = vec![cluster.topic("feeds")];
    let producer = Producer::new(&cluster, TIMEOUT, Duration::from_millis(1)).unwrap();
    producer.send(&record(&installation, "a", "old")).await.unwrap();
    let joined = |group: &'static str, start: Start, n: usize| {
        let (cluster, topics) = (cluster.clone(), topics.clone());
        tokio::task::spawn_blocking(move || {
            let mut member = Member::join(&cluster, group, "instance", &topics, start).unwrap();
            take(&mut member, n)
        })
    };
    assert_eq!(joined("earliest", Start::Earliest, 1).await.unwrap(), ["old"]);
    // Gained, and gone again before anything new came: "now" was then, not at the next start.
    assert!(joined("now", Start::Now, 0).await.unwrap().is_empty());
    producer.send(&record(&installation, "a", "new")).await.unwrap();
    assert_eq!(joined("now", Start::Now, 1).await.unwrap(), ["new"]);
    assert_eq!(joined("at", Start::At(0), 2).await.unwrap(), ["new", "old"]);
    assert_eq!(joined("earliest", Start::Now, 2).await.unwrap(), ["new", "old"], "nothing was committed as read");
}

/// Polls all members until they have these values, and everything that was read until then.
fn gather(members: &mut [Member], wanted: &[String]) -> Vec<String> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    let mut records = Vec::new();
    while !wanted.iter().all(|value| values(&records).contains(value)) {
        assert!(tokio::time::Instant::now() < deadline, "{:?} of {wanted:?}", values(&records));
        for member in &mut *members {
            match member.poll(Duration::from_millis(20)).unwrap() {
                Polled::Record(record) => records.push(*record),
                Polled::Gained(_) | Polled::Nothing | Polled::Away(_) => {}
                Polled::Leaving { .. } => member.release().unwrap(),
            }
        }
    }
    values(&records)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_begins_now_leaves_out_what_was_there_and_nothing_that_comes() {
    let installation = install("").await;
    let (cluster, topic) = (installation.ground.cluster.clone(), installation.ground.cluster.topic("feeds"));
    let partitions = i32::try_from(installation.ground.partitions_of("feeds").unwrap().len()).unwrap();
    let of =
        |what: &str, numbers: std::ops::Range<i32>| -> Vec<String> { numbers.map(|n| format!("{what} {n}")).collect() };
    let produce = async |what: &str, numbers: std::ops::Range<i32>| {
        // One of before does not know of partitions added since.
        let producer = Producer::new(&cluster, TIMEOUT, Duration::from_millis(1)).unwrap();
        for number in numbers {
            let row = record(&installation, "a", &format!("{what} {number}"));
            producer.send(&Outgoing { partition: Some(number), ..row }).await.unwrap();
        }
    };
    produce("old", 0..partitions).await;
    let join =
        |instance: &str| Member::join(&cluster, "now", instance, std::slice::from_ref(&topic), Start::Now).unwrap();
    // Whoever does not own partition 0 waits for the word of the one who does.
    let mut members = vec![join("first"), join("second")];
    let mut owned = 0;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while owned < partitions {
        assert!(tokio::time::Instant::now() < deadline, "{owned} owned");
        for member in &mut members {
            match tokio::task::block_in_place(|| member.poll(Duration::from_millis(20))).unwrap() {
                Polled::Gained(gained) => owned += i32::try_from(gained.len()).unwrap(),
                Polled::Leaving { .. } => {
                    owned = 0;
                    member.release().unwrap();
                }
                Polled::Record(record) => panic!("{record:?}"),
                Polled::Nothing | Polled::Away(_) => {}
            }
        }
    }
    produce("new", 0..partitions).await;
    let new = of("new", 0..partitions);
    assert_eq!(tokio::task::block_in_place(|| gather(&mut members, &new)), new);

    // Partitions are added, and have records before anyone reads them.
    installation.grow("feeds", usize::try_from(partitions + 2).unwrap()).await;
    produce("added", partitions..partitions + 2).await;
    drop(members);
    let wanted = [new, of("added", partitions..partitions + 2)].concat();
    let mut read = tokio::task::block_in_place(|| gather(&mut [join("third")], &wanted));
    read.dedup();
    let mut wanted = wanted;
    wanted.sort();
    assert_eq!(read, wanted);
}

/// Takes what it is given, and commits nothing. Not the library's own way, which asks a client that is being closed, and
/// waits for its answer for ever.
struct Silent;

impl ClientContext for Silent {}

impl ConsumerContext for Silent {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => consumer.assign(list).unwrap(),
            _ => consumer.unassign().unwrap(),
        }
    }
}

/// The owner of partition 0 goes before it has said where the group begins: who waits for its word hears of the rebalance.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_begins_although_who_should_say_where_has_gone() {
    let installation = install("").await;
    let (cluster, topic) = (installation.ground.cluster.clone(), installation.ground.cluster.topic("feeds"));
    let partitions = installation.ground.partitions_of("feeds").unwrap().len();
    // As in the moment before it says so.
    let silent: BaseConsumer<Silent> = ClientConfig::new()
        .set("bootstrap.servers", installation.config.kafka.bootstrap_servers.join(","))
        .set("group.id", cluster.topic("gone"))
        .set("partition.assignment.strategy", "range")
        .set("group.instance.id", "a")
        .set("session.timeout.ms", "10000")
        .set("enable.auto.commit", "false")
        .create_with_context(Silent)
        .unwrap();
    silent.subscribe(&[&topic]).unwrap();
    let gained = tokio::task::spawn_blocking(move || {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        // It is in the group before the other one comes, which would begin it by itself.
        while silent.assignment().unwrap().count() < partitions {
            assert!(tokio::time::Instant::now() < deadline, "not in the group");
            drop(silent.poll(Duration::from_millis(20)));
        }
        let mut member = Member::join(&cluster, "gone", "b", &[topic], Start::Now).unwrap();
        let (mut silent, mut waited) = (Some(silent), false);
        loop {
            assert!(tokio::time::Instant::now() < deadline, "waited: {waited}");
            if let Some(silent) = &silent {
                drop(silent.poll(Duration::from_millis(20)));
            }
            match member.poll(Duration::from_millis(20)).unwrap() {
                Polled::Away(why) if why.contains("partition 0") => {
                    waited = true;
                    // It goes with its share in hand; its place is kept for a session's time, as a static member's. One
                    // that is dropped before it took its share answers that in its end, for which the client waits for ever.
                    let has_its_share =
                        |silent: &BaseConsumer<Silent>| (1..partitions).contains(&silent.assignment().unwrap().count());
                    silent = silent.filter(|silent| !has_its_share(silent));
                }
                Polled::Gained(gained) => return (gained.len(), waited),
                Polled::Leaving { .. } => member.release().unwrap(),
                Polled::Record(_) | Polled::Nothing | Polled::Away(_) => {}
            }
        }
    });
    assert_eq!(gained.await.unwrap(), (partitions, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_paused_is_read_when_it_is_gained_anew() {
    let installation = install("").await;
    let cluster = installation.ground.cluster.clone();
    let topics = vec![cluster.topic("feeds")];
    let producer = Producer::new(&cluster, TIMEOUT, Duration::from_millis(1)).unwrap();
    for partition in 0..3 {
        let row = record(&installation, "a", &format!("of {partition}"));
        producer.send(&Outgoing { partition: Some(partition), ..row }).await.unwrap();
    }
    let read = tokio::task::spawn_blocking(move || {
        let join = |instance| Member::join(&cluster, "paused", instance, &topics, Start::Earliest).unwrap();
        let mut members = vec![join("first")];
        let (mut read, mut gains) = (Vec::new(), 0);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        // Of the three partitions that the first has paused, it keeps some when the second comes.
        while read.len() < 3 {
            assert!(tokio::time::Instant::now() < deadline, "{gains} gains, {read:?}");
            for n in 0..members.len() {
                match members[n].poll(Duration::from_millis(50)).unwrap() {
                    Polled::Gained(partitions) if gains == 0 => {
                        gains += 1;
                        members[n].pause(&partitions).unwrap();
                        members.push(join("second"));
                    }
                    Polled::Gained(_) => gains += 1,
                    Polled::Record(record) => read.push(*record),
                    Polled::Nothing | Polled::Away(_) => {}
                    Polled::Leaving { .. } => members[n].release().unwrap(),
                }
            }
        }
        assert_eq!(gains, 3, "the first alone, then both");
        read
    });
    assert_eq!(values(&read.await.unwrap()), ["of 0", "of 1", "of 2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_lie_where_our_own_hash_says() {
    let installation = install("").await;
    let producer = Producer::new(&installation.ground.cluster, TIMEOUT, Duration::from_millis(1)).unwrap();
    for n in 0..40 {
        let key = format!("accelex/inv_{n}");
        let place = producer.send(&record(&installation, &key, "v")).await.unwrap();
        assert_eq!(place.partition, partition::of_key(key.as_bytes(), 3), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_over_the_limit_is_refused_as_such() {
    let installation = install("").await;
    let producer = Producer::new(&installation.ground.cluster, TIMEOUT, Duration::from_millis(1)).unwrap();
    let record = Outgoing { value: vec![b'x'; 5 * 1024 * 1024], ..record(&installation, "k", "") };
    assert!(producer.send(&record).await.unwrap_err().is_too_large());
}
