//! Looks from outside at how far a group is, and at what it wrote.
//!
//! `watch until BROKERS GROUP TOPIC ROWS SECONDS` waits until the group's committed offsets are at so many rows of the
//! topic; `watch count BROKERS EVENTS TOPIC...` reads the topics' committed records and counts the events from 0 on.
//! Their sum is the same where topics hold the same keys and values, in whatever order they came.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Headers as _;
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use router_parts::{PATIENCE, number};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(50);

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["until", brokers, group, topic, rows, seconds] => {
            until(brokers, group, topic, rows.parse()?, Duration::from_secs(seconds.parse()?))
        }
        ["count", brokers, events, topics @ ..] => count(brokers, events.parse()?, topics),
        _ => bail!("watch until BROKERS GROUP TOPIC ROWS SECONDS | watch count BROKERS EVENTS TOPIC..."),
    }
}

fn consumer(brokers: &str, group: &str) -> anyhow::Result<BaseConsumer> {
    Ok(ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .create()?)
}

fn until(brokers: &str, group: &str, topic: &str, rows: i64, bound: Duration) -> anyhow::Result<()> {
    let consumer = consumer(brokers, group)?;
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let mut asked = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        asked.add_partition(topic, partition.id());
    }
    let began = Instant::now();
    loop {
        // A coordinator that is moving answers nothing; the bound is for that too.
        let at: i64 = consumer.committed_offsets(asked.clone(), PATIENCE).map_or(0, |committed| {
            let offsets = committed.elements();
            offsets.iter().map(|partition| if let Offset::Offset(at) = partition.offset() { at } else { 0 }).sum()
        });
        if at >= rows {
            return Ok(());
        }
        ensure!(began.elapsed() < bound, "{group} is at {at} of {rows} rows of {topic} after {bound:?}");
        std::thread::sleep(EVERY);
    }
}

/// Prints `records=N lost=N twice=N sum=HEX`.
fn count(brokers: &str, events: usize, topics: &[&str]) -> anyhow::Result<()> {
    let consumer = consumer(brokers, "router-bench")?;
    let mut assigned = TopicPartitionList::new();
    for topic in topics {
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
        for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
            assigned.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
        }
    }
    consumer.assign(&assigned)?;
    let (mut times, mut records, mut left, mut sum) = (vec![0_u8; events], 0_u64, assigned.count(), 0_u64);
    while left > 0 {
        match consumer.poll(PATIENCE).context("the records do not come")? {
            Err(rdkafka::error::KafkaError::PartitionEOF(_)) => left -= 1,
            record => {
                let record = record?;
                let id = record.headers().and_then(|headers| headers.iter().find(|header| header.key == "ce_id"));
                let n = id.and_then(|id| number(id.value?)).context("a record without an event's id")?;
                records += 1;
                let mut hasher = DefaultHasher::new();
                (record.key(), record.payload()).hash(&mut hasher);
                sum = sum.wrapping_add(hasher.finish());
                let times = times.get_mut(usize::try_from(n)?).context("an event that was never sent")?;
                *times = times.saturating_add(1);
            }
        }
    }
    let lost = times.iter().filter(|times| **times == 0).count();
    let twice: u64 = times.iter().map(|times| u64::from(times.saturating_sub(1))).sum();
    println!("records={records} lost={lost} twice={twice} sum={sum:016x}");
    Ok(())
}
