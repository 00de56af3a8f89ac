//! The topics of a run, and whether what was answered 2xx stands in them.
//!
//! `ledger topic BROKERS TOPIC PARTITIONS` makes a topic; `ledger count BROKERS TOPIC FILE...` reads a whole topic and
//! compares the numbers in its keys with those in the files.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

/// Longest wait for the broker, and for the next record.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["topic", brokers, topic, partitions] => make(brokers, topic, partitions.parse()?).await,
        ["count", brokers, topic, files @ ..] => count(brokers, topic, files),
        _ => bail!("ledger topic BROKERS TOPIC PARTITIONS | ledger count BROKERS TOPIC FILE..."),
    }
}

async fn make(brokers: &str, topic: &str, partitions: i32) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1)).set("max.message.bytes", "4259840");
    let made = admin.create_topics(&[new], &AdminOptions::new().operation_timeout(Some(PATIENCE))).await?;
    for each in made {
        each.map_err(|(topic, code)| anyhow::anyhow!("topic {topic}: {code}"))?;
    }
    Ok(())
}

/// Prints `records=N lost=N twice=N`.
fn count(brokers: &str, topic: &str, files: &[&str]) -> anyhow::Result<()> {
    let mut accepted = HashSet::new();
    for file in files {
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {file}"))?;
        for line in text.lines() {
            accepted.insert(line.parse::<u64>()?);
        }
    }
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "receiver-bench")
        .set("enable.auto.commit", "false")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let mut assigned = TopicPartitionList::new();
    let mut left: HashMap<i32, i64> = HashMap::new();
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        let (first, end) = consumer.fetch_watermarks(topic, partition.id(), PATIENCE)?;
        if end > first {
            assigned.add_partition_offset(topic, partition.id(), Offset::Offset(first))?;
            left.insert(partition.id(), end);
        }
    }
    consumer.assign(&assigned)?;
    let (mut records, mut twice) = (0_u64, 0_u64);
    let mut seen = HashSet::new();
    while !left.is_empty() {
        let record = consumer.poll(PATIENCE).context("the topic's records do not come")??;
        records += 1;
        let key = record.key().and_then(|key| std::str::from_utf8(key).ok()?.strip_prefix("evt_")?.parse::<u64>().ok());
        twice += u64::from(!seen.insert(key.context("a record without an event's number as its key")?));
        if left.get(&record.partition()).is_some_and(|end| record.offset() + 1 >= *end) {
            left.remove(&record.partition());
        }
    }
    let lost = accepted.difference(&seen).count();
    println!("records={records} lost={lost} twice={twice}");
    ensure!(!accepted.is_empty(), "nothing was accepted");
    Ok(())
}
