//! The least that a router can be with the same client: read a batch, pass on what was not seen, mark it, commit.
//!
//! `floor BROKERS GROUP INPUT MARKERS OUTPUT...`. A row goes as it came to one of the outputs, in turn by its number, and
//! its id with an empty value to the partition of the same number of MARKERS; the ids are kept in memory. It decodes, maps,
//! encodes and stores nothing, knows no rebalance and no error: what it takes, every router with this client takes.
//! Client, batches and transactions are set as Ledgerhook's are.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use router_parts::{PATIENCE, number};

/// Most rows of a batch, and most bytes.
const BATCH: (usize, usize) = (2000, 8 << 20);
/// Wait for more rows of a batch.
const WAIT: Duration = Duration::from_millis(20);

struct Quiet;

impl ClientContext for Quiet {}

impl ProducerContext for Quiet {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [brokers, group, input, markers, outputs @ ..] = args.as_slice() else { bail!("see the source") };
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", group)
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("fetch.message.max.bytes", "4194304")
        .set("fetch.min.bytes", "16384")
        .set("fetch.wait.max.ms", "20")
        .set("fetch.queue.backoff.ms", "10")
        .set("queued.max.messages.kbytes", "4096")
        .create()?;
    consumer.subscribe(&[input])?;
    let producers = [producer(brokers, &format!("{group}.0"))?, producer(brokers, &format!("{group}.1"))?];
    println!("RUNNING");
    let mut seen: HashSet<Vec<u8>> = HashSet::new();
    // They take turns, as Ledgerhook's do.
    for producer in producers.iter().cycle() {
        batch(&consumer, producer, markers, outputs, &mut seen)?;
    }
    Ok(())
}

fn producer(brokers: &str, id: &str) -> anyhow::Result<BaseProducer<Quiet>> {
    let producer: BaseProducer<Quiet> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("message.max.bytes", "4194304")
        .set("retry.backoff.ms", "5")
        .set("linger.ms", "1")
        .set("transactional.id", id)
        .set("transaction.timeout.ms", "10000")
        .create_with_context(Quiet)?;
    producer.init_transactions(PATIENCE)?;
    Ok(producer)
}

fn batch(
    consumer: &BaseConsumer,
    producer: &BaseProducer<Quiet>,
    markers: &str,
    outputs: &[String],
    seen: &mut HashSet<Vec<u8>>,
) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    let (mut bytes, mut until) = (0, Instant::now() + Duration::from_millis(100));
    while rows.len() < BATCH.0 && bytes < BATCH.1 {
        let Some(row) = consumer.poll(until.saturating_duration_since(Instant::now())).transpose()? else { break };
        if rows.is_empty() {
            until = Instant::now() + WAIT;
        }
        bytes += row.payload_len();
        rows.push(row);
    }
    if rows.is_empty() {
        return Ok(());
    }
    producer.begin_transaction()?;
    let mut next = BTreeMap::new();
    for row in &rows {
        next.insert((row.topic(), row.partition()), row.offset() + 1);
        let key = row.key().context("a row without an id")?;
        if !seen.insert(key.to_vec()) {
            continue;
        }
        let which = number(key).context("a row that is not of the benchmark")? as usize % outputs.len();
        let output = outputs.get(which).context("no outputs")?;
        let mut record = BaseRecord::to(output).key(key).payload(row.payload().unwrap_or_default());
        if let Some(headers) = row.headers() {
            record = record.headers(headers.detach());
        }
        send(producer, record)?;
        send(producer, BaseRecord::to(markers).partition(row.partition()).key(key).payload(&[]))?;
    }
    deliver(producer)?;
    let mut offsets = TopicPartitionList::new();
    for ((topic, partition), offset) in next {
        offsets.add_partition_offset(topic, partition, Offset::Offset(offset))?;
    }
    let member = Arc::new(consumer.group_metadata().context("no member of its group")?);
    producer.send_offsets_to_transaction(&offsets, &member, PATIENCE)?;
    producer.commit_transaction(PATIENCE)?;
    Ok(())
}

fn send(producer: &BaseProducer<Quiet>, record: BaseRecord<'_, [u8], [u8]>) -> anyhow::Result<()> {
    let mut record = record;
    let until = Instant::now() + PATIENCE;
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) if Instant::now() < until => {
                producer.poll(Duration::from_millis(10));
                record = back;
            }
            Err((cause, _)) => return Err(cause.into()),
        }
    }
}

/// The library's own flush looks ten times a second only.
fn deliver(producer: &BaseProducer<Quiet>) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    while producer.in_flight_count() > 0 {
        let before = producer.in_flight_count();
        producer.poll(Duration::ZERO);
        if producer.in_flight_count() == before {
            ensure!(Instant::now() < until, "records are not acknowledged");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}
