//! Partitions read from a known place to their true end.
//!
//! The end is not where a read_committed reader stops for the moment: an open transaction of a predecessor holds back
//! the last stable offset, and its commit marker may reach this partition later than it reached the group's offsets.
//! So the high watermark is asked for without isolation first; then the last stable offset has to pass it; only what
//! is read to an end of partition after that is complete. The broker bounds that wait: it ends every transaction at its
//! timeout. Positions tell nothing here: they move with records alone, and the end of a compacted, transactional log is
//! mostly none.

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
    let mut ends: BTreeMap<i32, (i64, Offset)> = BTreeMap::new();
    let uncommitted: BaseConsumer =
        cluster.consumer("restore").set("isolation.level", "read_uncommitted").create().map_err(failed)?;
    for (number, from) in from {
        let (low, end) = uncommitted.fetch_watermarks(topic, *number, REQUEST_TIMEOUT).map_err(failed)?;
        if let Some(from) = from.filter(|from| *from > end) {
            let partition = Partition { topic: topic.to_owned(), number: *number };
            return Err(RestoreError::EndsBefore { partition, end, from });
        }
        if from.is_some_and(|from| from < low) {
            each(Read::Gone(*number, low));
        }
        let start = from.unwrap_or(low).max(low);
        if start >= end {
            each(Read::Ended(*number, end));
        } else {
            ends.insert(*number, (end, Offset::Offset(start)));
        }
    }
    drop(uncommitted);
    if ends.is_empty() {
        return Ok(0);
    }

    let mut config = cluster.consumer("restore");
    config.set("enable.partition.eof", "true");
    let committed: BaseConsumer = config.create().map_err(failed)?;
    let mut held: BTreeSet<i32> = ends.keys().copied().collect();
    let (mut records, mut looked) = (0, None::<Instant>);
    let mut heard = Instant::now();
    while !ends.is_empty() && !stop() {
        if !held.is_empty() && looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
            let mut stable = TopicPartitionList::new();
            for number in held.clone() {
                // Under read_committed the client's "high watermark" is the last stable offset.
                let passed = committed.fetch_watermarks(topic, number, REQUEST_TIMEOUT).map_err(failed)?.1;
                if let Some((_, start)) = ends.get(&number).filter(|(end, _)| passed >= *end) {
                    held.remove(&number);
                    stable.add_partition_offset(topic, number, *start).map_err(failed)?;
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
                if let Some((end, _)) = ends.remove(&number) {
                    each(Read::Ended(number, end));
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

/// Whether the client goes on by itself after this error.
pub(super) fn is_passing(error: &KafkaError) -> bool {
    use rdkafka::types::RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(Code::BrokerTransportFailure | Code::AllBrokersDown | Code::Resolve | Code::OperationTimedOut)
    )
}
