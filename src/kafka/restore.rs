//! Partitions read from a known place to their true end.
//!
//! The end is not where a read_committed reader stops for the moment: an open transaction of a predecessor holds back
//! the last stable offset, and its commit marker may reach this partition later than it reached the group's offsets.
//! So the high watermark is asked for without isolation first; then the last stable offset has to pass it; only what
//! is read after that is complete. The broker bounds that wait: it ends every transaction at its timeout.
//!
//! Nor is it where the client says that a partition ends: that is what the last answer to a fetch took for its end, and a
//! broker that has just become leader knows an older one until its followers have fetched once
//! ([KIP-207](https://cwiki.apache.org/confluence/display/KAFKA/KIP-207%3A+Offsets+returned+by+ListOffsetsResponse+should+be+monotonically+increasing+even+during+a+partition+leader+change)
//! keeps it from telling that to who asks for offsets, and to nobody else). What counts is the position, which the markers
//! of transactions move as records do, those of aborted ones too. Where nothing before the end moves it there (aborted
//! records alone), the leader is asked again, and the partition has ended if it then ends in the same place.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset;
use tokio::time::Instant;

use super::client::{Cluster, REQUEST_TIMEOUT};
use super::group::{Incoming, Partition, own};

/// Between two looks whether the last stable offset has passed an end.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Longest wait of one poll, and so how late the call to stop may be heard.
const POLL: Duration = Duration::from_millis(100);

/// Why partitions could not be read to their end.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The client failed.
    #[error("cannot read {what}: {cause}")]
    Kafka {
        /// What was read.
        what: String,
        /// The client's error.
        cause: KafkaError,
    },
    /// Nothing came for longer than allowed.
    #[error("{what} not read to its end after {after:?}")]
    TimedOut {
        /// What was read.
        what: String,
        /// The bound.
        after: Duration,
    },
    /// The partition ends before the place to go on from: it is another one than was read before.
    #[error("{} partition {} ends at {end}, and was read up to {from} before", partition.topic, partition.number)]
    EndsBefore {
        /// The partition.
        partition: Partition,
        /// Its end.
        end: i64,
        /// The place to go on from.
        from: i64,
    },
}

/// What reading brings.
#[derive(Debug)]
pub enum Read {
    /// Records of a partition that were to be read are gone, deleted for their age: it begins with this offset. Comes
    /// before all else of it.
    Gone(i32, i64),
    /// A committed record.
    Record(Incoming),
    /// A partition was read to its true end; the next record, whenever it comes, has this offset or a later one.
    Ended(i32, i64),
}

/// A partition on the way to its end.
struct Unended {
    /// Its high watermark when reading began, or later.
    end: i64,
    /// Where to go on.
    at: i64,
    /// The client took this place, which is before the end, for the end.
    short: Option<i64>,
}

/// Reads partitions of one topic (Kafka's name), each from an offset, or from its first record where there is none or
/// it is gone (which is said), to their true ends. A partition whose end is held back does not stop the others. Returns
/// how many records it read; early, when `stop` says so. Blocks.
///
/// # Errors
/// When the client fails, nothing comes for `patience`, or a partition ends before its offset.
pub fn read(
    cluster: &Cluster,
    topic: &str,
    from: &BTreeMap<i32, Option<i64>>,
    patience: Duration,
    stop: &dyn Fn() -> bool,
    mut each: impl FnMut(Read),
) -> Result<u64, RestoreError> {
    let what = || format!("{} partitions of {topic}", from.len());
    let failed = |cause| RestoreError::Kafka { what: what(), cause };
    let mut unended = begin(cluster, topic, from, patience, stop, &mut each)?;
    if unended.is_empty() {
        return Ok(0);
    }
    let mut config = cluster.consumer("restore");
    config.set("enable.partition.eof", "true");
    let committed: BaseConsumer = config.create().map_err(failed)?;
    let mut held: BTreeSet<i32> = unended.keys().copied().collect();
    let (mut records, mut looked) = (0, None::<Instant>);
    let mut heard = Instant::now();
    while !unended.is_empty() && !stop() {
        if !held.is_empty() && looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
            let mut stable = TopicPartitionList::new();
            for number in held.clone() {
                // Under read_committed the client's "high watermark" is the last stable offset.
                let passed = match committed.fetch_watermarks(topic, number, REQUEST_TIMEOUT) {
                    Ok((_, passed)) => passed,
                    Err(cause) if is_not_yet(&cause) && heard.elapsed() < patience => continue,
                    Err(cause) => return Err(failed(cause)),
                };
                if let Some(partition) = unended.get(&number).filter(|partition| passed >= partition.end) {
                    held.remove(&number);
                    stable.add_partition_offset(topic, number, Offset::Offset(partition.at)).map_err(failed)?;
                }
            }
            if stable.count() > 0 {
                committed.incremental_assign(&stable).map_err(failed)?;
                heard = Instant::now();
            }
            looked = Some(Instant::now());
        }
        match committed.poll(if held.is_empty() { POLL } else { LOOK_EVERY }) {
            None if heard.elapsed() < patience => continue,
            None => return Err(RestoreError::TimedOut { what: what(), after: patience }),
            Some(Ok(message)) => {
                records += 1;
                each(Read::Record(own(&message)));
            }
            Some(Err(KafkaError::PartitionEOF(number))) => {
                // One that is held is not read: nothing said of it counts.
                let Some(partition) = unended.get_mut(&number).filter(|_| !held.contains(&number)) else { continue };
                partition.at = position(&committed, topic, number).map_err(failed)?.max(partition.at);
                if partition.at >= partition.end || partition.short == Some(partition.at) {
                    each(Read::Ended(number, partition.end));
                    unended.remove(&number);
                } else {
                    tracing::debug!(
                        topic,
                        number,
                        at = partition.at,
                        end = partition.end,
                        "said to end before its end"
                    );
                    partition.short = Some(partition.at);
                    let mut again = TopicPartitionList::new();
                    again.add_partition(topic, number);
                    committed.incremental_unassign(&again).map_err(failed)?;
                    held.insert(number);
                }
            }
            Some(Err(cause)) if is_passing(&cause) && heard.elapsed() < patience => {
                tracing::debug!(%cause, topic, "restore waits");
                continue;
            }
            Some(Err(cause)) => return Err(failed(cause)),
        }
        heard = Instant::now();
    }
    Ok(records)
}

/// Establishes where the partitions end; says which of them have nothing to read, and what is gone.
fn begin(
    cluster: &Cluster,
    topic: &str,
    from: &BTreeMap<i32, Option<i64>>,
    patience: Duration,
    stop: &dyn Fn() -> bool,
    each: &mut impl FnMut(Read),
) -> Result<BTreeMap<i32, Unended>, RestoreError> {
    let failed = |cause| RestoreError::Kafka { what: format!("{} partitions of {topic}", from.len()), cause };
    let began = Instant::now();
    let uncommitted: BaseConsumer =
        cluster.consumer("restore").set("isolation.level", "read_uncommitted").create().map_err(failed)?;
    let mut unended = BTreeMap::new();
    for (number, from) in from {
        let (low, end) = loop {
            match uncommitted.fetch_watermarks(topic, *number, REQUEST_TIMEOUT) {
                Ok(found) => break found,
                Err(_) if stop() => return Ok(BTreeMap::new()),
                Err(cause) if is_not_yet(&cause) && began.elapsed() < patience => std::thread::sleep(LOOK_EVERY),
                Err(cause) => return Err(failed(cause)),
            }
        };
        if let Some(from) = from.filter(|from| *from > end) {
            let partition = Partition { topic: topic.to_owned(), number: *number };
            return Err(RestoreError::EndsBefore { partition, end, from });
        }
        if from.is_some_and(|from| from < low) {
            each(Read::Gone(*number, low));
        }
        let at = from.unwrap_or(low).max(low);
        if at >= end {
            each(Read::Ended(*number, end));
        } else {
            unended.insert(*number, Unended { end, at, short: None });
        }
    }
    Ok(unended)
}

/// Behind what was handed over last of a partition; below zero where nothing was.
fn position(consumer: &BaseConsumer, topic: &str, number: i32) -> Result<i64, KafkaError> {
    let positions = consumer.position()?;
    Ok(match positions.find_partition(topic, number).map(|partition| partition.offset()) {
        Some(Offset::Offset(at)) => at,
        _ => -1,
    })
}

/// Reads every committed record of the partitions that is there now, in order within each; returns how many. Blocks.
///
/// # Errors
/// When the client fails or it takes longer than `bound`.
pub fn read_to_end(
    cluster: &Cluster,
    partitions: &[Partition],
    bound: Duration,
    mut each: impl FnMut(Incoming),
) -> Result<u64, RestoreError> {
    let mut topics: BTreeMap<&str, BTreeMap<i32, Option<i64>>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(&partition.topic).or_default().insert(partition.number, None);
    }
    let deadline = Instant::now() + bound;
    let late = || Instant::now() >= deadline;
    let mut records = 0;
    for (topic, from) in topics {
        records += read(cluster, topic, &from, bound, &late, |read| {
            if let Read::Record(record) = read {
                each(record);
            }
        })?;
        if late() {
            return Err(RestoreError::TimedOut { what: format!("{} partitions of {topic}", from.len()), after: bound });
        }
    }
    Ok(records)
}

/// Whether a partition's leader is a new one, that does not know its end yet or is not known itself.
fn is_not_yet(error: &KafkaError) -> bool {
    use rdkafka::types::RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(Code::OffsetNotAvailable | Code::NotLeaderForPartition | Code::LeaderNotAvailable)
    )
}

/// Whether the client goes on by itself after this error.
pub(super) fn is_passing(error: &KafkaError) -> bool {
    use rdkafka::types::RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(Code::BrokerTransportFailure | Code::AllBrokersDown | Code::Resolve | Code::OperationTimedOut)
    )
}
