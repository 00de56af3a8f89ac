//! Partitions read from their first record to their true end.
//!
//! The end is not where a read_committed reader stops for the moment: an open transaction of a predecessor holds back
//! the last stable offset, and its commit marker may reach this partition later than it reached the group's offsets.
//! So the high watermark is asked for without isolation first; then the last stable offset has to pass it; only what
//! is read to an end of partition after that is complete. The broker bounds the wait: it ends every transaction at its
//! timeout.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset;
use tokio::time::Instant;

use super::client::{Cluster, REQUEST_TIMEOUT};
use super::group::{Incoming, Partition, own};

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
    /// It took longer than allowed.
    #[error("{what} not read to its end after {after:?}")]
    TimedOut {
        /// What was read.
        what: String,
        /// The bound.
        after: Duration,
    },
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
    let what = describe(partitions);
    let failed = |cause| RestoreError::Kafka { what: what.clone(), cause };
    let deadline = Instant::now() + bound;
    let late = || RestoreError::TimedOut { what: what.clone(), after: bound };

    let mut uncommitted = cluster.consumer("restore");
    uncommitted.set("isolation.level", "read_uncommitted");
    let uncommitted: BaseConsumer = uncommitted.create().map_err(failed)?;
    let mut ends = BTreeMap::new();
    for partition in partitions {
        let (low, high) =
            uncommitted.fetch_watermarks(&partition.topic, partition.number, REQUEST_TIMEOUT).map_err(failed)?;
        if high > low {
            ends.insert(partition, high);
        }
    }
    drop(uncommitted);

    let mut committed = cluster.consumer("restore");
    committed.set("enable.partition.eof", "true");
    let committed: BaseConsumer = committed.create().map_err(failed)?;
    let mut open: Vec<&Partition> = Vec::with_capacity(ends.len());
    for (partition, end) in &ends {
        // Under read_committed the client's "high watermark" is the last stable offset.
        while committed.fetch_watermarks(&partition.topic, partition.number, REQUEST_TIMEOUT).map_err(failed)?.1 < *end
        {
            if Instant::now() >= deadline {
                return Err(late());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        open.push(partition);
    }
    if open.is_empty() {
        return Ok(0);
    }
    let mut assignment = TopicPartitionList::new();
    for partition in &open {
        assignment.add_partition_offset(&partition.topic, partition.number, Offset::Beginning).map_err(failed)?;
    }
    committed.assign(&assignment).map_err(failed)?;

    let mut records = 0;
    let mut ended = 0;
    while ended < open.len() {
        if Instant::now() >= deadline {
            return Err(late());
        }
        match committed.poll(Duration::from_millis(100)) {
            None => {}
            Some(Ok(message)) => {
                records += 1;
                each(own(&message));
            }
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(cause)) if is_passing(&cause) => tracing::debug!(%cause, what, "restore waits"),
            Some(Err(cause)) => return Err(failed(cause)),
        }
    }
    Ok(records)
}

/// Whether the client goes on by itself after this error.
fn is_passing(error: &KafkaError) -> bool {
    use rdkafka::types::RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(Code::BrokerTransportFailure | Code::AllBrokersDown | Code::Resolve | Code::OperationTimedOut)
    )
}

fn describe(partitions: &[Partition]) -> String {
    let mut topics: Vec<&str> = partitions.iter().map(|p| p.topic.as_str()).collect();
    topics.dedup();
    format!("{} partitions of {}", partitions.len(), topics.join(", "))
}
