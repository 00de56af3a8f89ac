//! A reader of partitions from given offsets, outside of any group: for whoever keeps positions elsewhere.

use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset;
use rdkafka::types::RDKafkaErrorCode;

use super::client::{Cluster, REQUEST_TIMEOUT};
use super::group::{Incoming, Partition, bare};

/// Bytes of records that wait to be polled at which no more are asked for.
const QUEUED_KIB: u32 = 2 << 10;
/// Bytes of one answer, over all partitions; a single batch may be larger. It comes on top of those that wait.
const ANSWER_BYTES: u32 = 2 << 20;
/// Pause before more is asked for where enough waits: what waits is polled in less.
const ENOUGH_PAUSE_MS: u32 = 20;
/// Bytes for which the broker holds a fetch back, and for how long at most.
const ENOUGH_BYTES: u32 = 64 << 10;
const PATIENCE_MS: u32 = 500;

/// Why partitions cannot be read from where they were to be.
#[derive(Debug, thiserror::Error)]
pub enum AssignedError {
    /// Records that were to be read are gone.
    #[error("{}/{} begins at {begins}, and was read up to {next}: records between were deleted unread", partition.topic, partition.number)]
    Gone {
        /// The partition.
        partition: Partition,
        /// The next record that was to be read.
        next: i64,
        /// The first one there is.
        begins: i64,
    },
    /// The partition ends before what was read of it.
    #[error("{}/{} ends at {ends}, and was read up to {next}: it is another one, or lost its end", partition.topic, partition.number)]
    EndsBefore {
        /// The partition.
        partition: Partition,
        /// The next record that was to be read.
        next: i64,
        /// Its end.
        ends: i64,
    },
    /// The position was lost while reading.
    #[error("a position is out of range: {0}")]
    OutOfRange(KafkaError),
    /// The cluster is away, or the client of no use any more.
    #[error("{0}")]
    Away(KafkaError),
}

/// Reads committed records of some partitions. Blocks: it belongs on a thread of its own.
pub struct AssignedReader {
    consumer: BaseConsumer,
}

impl AssignedReader {
    /// Reads each partition from this offset, or from its first record where there is none; says which those are.
    ///
    /// # Errors
    /// When the cluster is away, or a partition does not reach from there.
    pub fn open(
        cluster: &Cluster,
        from: &[(Partition, Option<i64>)],
    ) -> Result<(Self, Vec<(Partition, i64)>), AssignedError> {
        let mut config = cluster.consumer("assigned");
        // Whoever reads like this gathers batches for seconds or minutes: small fetches are cost alone, at both ends, for
        // each of many readers.
        config
            .set("fetch.wait.max.ms", PATIENCE_MS.to_string())
            .set("fetch.min.bytes", ENOUGH_BYTES.to_string())
            // Left alone, an answer may have 50 MB, and an application that pauses holds one for each reader.
            .set("queued.max.messages.kbytes", QUEUED_KIB.to_string())
            .set("fetch.max.bytes", ANSWER_BYTES.to_string())
            .set("fetch.queue.backoff.ms", ENOUGH_PAUSE_MS.to_string());
        let consumer: BaseConsumer = config.create().map_err(AssignedError::Away)?;
        let mut list = TopicPartitionList::new();
        let mut at = Vec::with_capacity(from.len());
        for (partition, next) in from {
            let (begins, ends) = consumer
                .fetch_watermarks(&partition.topic, partition.number, REQUEST_TIMEOUT)
                .map_err(AssignedError::Away)?;
            let next = next.unwrap_or(begins);
            let partition = partition.clone();
            if next < begins {
                return Err(AssignedError::Gone { partition, next, begins });
            }
            if next > ends {
                return Err(AssignedError::EndsBefore { partition, next, ends });
            }
            list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(next))
                .map_err(AssignedError::Away)?;
            at.push((partition, next));
        }
        consumer.assign(&list).map_err(AssignedError::Away)?;
        Ok((Self { consumer }, at))
    }

    /// The next record, waited for up to `wait`; without its headers, which would be most of its pieces.
    ///
    /// # Errors
    /// When the position was lost, or the cluster is away (polling on helps then).
    pub fn poll(&self, wait: Duration) -> Result<Option<Incoming>, AssignedError> {
        match self.consumer.poll(wait) {
            None => Ok(None),
            Some(Ok(message)) => Ok(Some(bare(&message))),
            Some(Err(error)) => Err(match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                    AssignedError::OutOfRange(error)
                }
                _ => AssignedError::Away(error),
            }),
        }
    }
}
