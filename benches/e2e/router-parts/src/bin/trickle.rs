//! Writes events at a rate, and reads what becomes of them as a read_committed consumer does.
//!
//! `trickle CONFIG RATE SECONDS FIRST OUTPUT_TOPIC...`
//!
//! An open loop: row n is due at n / RATE, and its time counts from there to its record's arrival, however late anything
//! was. One of ten rows repeats an earlier event of this run. Ids count up from FIRST. `gap` is the longest time between
//! two arrivals: how long nothing came where a router was killed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Headers as _;
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use router_parts::{Events, PATIENCE, SOURCE, Writer, ground, number, with_repeats};

/// As the receiver's own batches wait, at most.
const LINGER_MS: u32 = 1;
/// After the last row was sent: longer than any router is away.
const AWAY: Duration = Duration::from_secs(180);

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [config, rate, seconds, first, topics @ ..] = args.as_slice() else {
        bail!("trickle CONFIG RATE SECONDS FIRST OUTPUT_TOPIC...")
    };
    let (rate, seconds, first): (f64, f64, u64) = (rate.parse()?, seconds.parse()?, first.parse()?);
    let (config, ground) = ground(config)?;
    let brokers = config.kafka.bootstrap_servers.join(",");
    let mut events = Events::new(&ground)?;
    let writer = Writer::new(&brokers, &ground.cluster.topic(&format!("received.{SOURCE}")), LINGER_MS)?;
    let reader = reader(&brokers, topics)?;
    let rows = (rate * seconds) as u64;
    let sent = AtomicBool::new(false);
    let began = Instant::now() + Duration::from_millis(200);
    let due = |row: u64| began + Duration::from_secs_f64(row as f64 / rate);
    let arrivals = std::thread::scope(|scope| {
        let reading = scope.spawn(|| read(&reader, first, rows, &sent));
        let writing: anyhow::Result<()> = (0..rows).try_for_each(|row| {
            if let wait @ 1.. = due(row).saturating_duration_since(Instant::now()).as_micros() {
                std::thread::sleep(Duration::from_micros(wait as u64));
            }
            let row = events.row(first + with_repeats(row))?;
            writer.write(row.key.as_bytes(), &row.value, Some(row.headers))
        });
        let written = writing.and_then(|()| writer.done());
        sent.store(true, Ordering::Release);
        let read = reading.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?;
        written.and(read)
    })?;

    // Each event is first sent in the row where it is no repeat.
    let mut millis = Vec::new();
    let (mut lost, mut twice) = (0, 0);
    for row in (0..rows).filter(|row| row % 10 != 9) {
        match arrivals.get(&with_repeats(row)) {
            None => lost += 1,
            Some(at) => {
                twice += at.len() - 1;
                millis.extend(at.first().map(|at| at.saturating_duration_since(due(row)).as_secs_f64() * 1000.0));
            }
        }
    }
    let mut all: Vec<Instant> = arrivals.into_values().flatten().collect();
    all.sort_unstable();
    let gap = all.windows(2).filter_map(|two| Some(*two.last()? - *two.first()?)).max().unwrap_or_default();
    millis.sort_unstable_by(f64::total_cmp);
    let percentile =
        |percent: usize| millis.get((millis.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0.0);
    println!(
        "rows={rows} lost={lost} twice={twice} p50={:.0} p99={:.0} max={:.0} gap={:.1}",
        percentile(50),
        percentile(99),
        percentile(100),
        gap.as_secs_f64()
    );
    Ok(())
}

/// A read_committed consumer at the present ends of these topics, which it has reached: a client's first fetch is of the
/// one partition that it was assigned first, and waits half a second for it.
fn reader(brokers: &str, topics: &[String]) -> anyhow::Result<BaseConsumer> {
    let reader: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "router-bench")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .create()?;
    let mut assigned = TopicPartitionList::new();
    for topic in topics {
        let metadata = reader.fetch_metadata(Some(topic), PATIENCE)?;
        for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
            let (_, end) = reader.fetch_watermarks(topic, partition.id(), PATIENCE)?;
            assigned.add_partition_offset(topic, partition.id(), Offset::Offset(end))?;
        }
    }
    reader.assign(&assigned)?;
    let by = Instant::now() + PATIENCE;
    let mut ends = 0;
    while ends < assigned.count() {
        match reader.poll(Duration::from_millis(100)) {
            Some(Err(KafkaError::PartitionEOF(_))) => ends += 1,
            Some(Err(error)) => return Err(error.into()),
            // Of an earlier run.
            Some(Ok(_)) | None if Instant::now() < by => {}
            Some(Ok(_)) | None => bail!("the reader has not reached {} ends", assigned.count() - ends),
        }
    }
    Ok(reader)
}

/// When each event arrived, by its number from `first` on, until all have, or nothing more is to be waited for.
fn read(reader: &BaseConsumer, first: u64, rows: u64, sent: &AtomicBool) -> anyhow::Result<HashMap<u64, Vec<Instant>>> {
    let awaited = (0..rows).filter(|row| row % 10 != 9).count();
    let mut arrivals: HashMap<u64, Vec<Instant>> = HashMap::with_capacity(awaited);
    let mut until = None;
    loop {
        if sent.load(Ordering::Acquire) {
            // What is doubled may come late.
            let until = *until.get_or_insert_with(|| Instant::now() + AWAY);
            if Instant::now() >= until {
                return Ok(arrivals);
            }
        }
        let Some(record) = reader.poll(Duration::from_millis(100)) else {
            if sent.load(Ordering::Acquire) && arrivals.len() >= awaited {
                return Ok(arrivals);
            }
            continue;
        };
        let record = match record {
            Err(KafkaError::PartitionEOF(_)) => continue,
            record => record?,
        };
        let at = Instant::now();
        let id = record.headers().and_then(|headers| headers.iter().find(|header| header.key == "ce_id"));
        let n = id.and_then(|id| number(id.value?)).context("a record without an event's id")?;
        // Of an earlier run, where a router still works at its rows.
        if let Some(n) = n.checked_sub(first) {
            arrivals.entry(n).or_default().push(at);
        }
    }
}
