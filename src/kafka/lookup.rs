//! Single records read from where they stand, or a little behind: for what is too much to be kept in memory.

use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset;
use tokio::time::Instant;

use super::client::Cluster;
use super::group::{Incoming, Partition, own};
use super::restore::RestoreError;

/// Largest fetch, about: a record is looked up for itself, not for what follows.
const FETCH_BYTES: &str = "262144";
/// A record this close behind the last one found is read up to: cheaper than starting there anew.
const NEAR: i64 = 200;

/// Reads single committed records. Blocks: it belongs on a thread of its own.
pub struct Lookup {
    consumer: BaseConsumer,
    /// Where the reader stands.
    at: Option<(Partition, i64)>,
}

impl Lookup {
    /// A reader that stands nowhere yet.
    ///
    /// # Errors
    /// When the client settings are unusable.
    pub fn new(cluster: &Cluster) -> Result<Self, RestoreError> {
        let mut config = cluster.consumer("lookup");
        config
            .set("fetch.message.max.bytes", FETCH_BYTES)
            .set("fetch.min.bytes", "1")
            .set("enable.partition.eof", "true");
        let consumer =
            config.create().map_err(|cause| RestoreError::Kafka { what: "single records".to_owned(), cause })?;
        Ok(Self { consumer, at: None })
    }

    /// The first record at `from` or behind that is `wanted`. A record just committed may take a moment to be seen, so
    /// the end of the partition is waited at.
    ///
    /// # Errors
    /// When the client fails, or there is no such record within `bound`.
    pub fn find(
        &mut self,
        partition: &Partition,
        from: i64,
        bound: Duration,
        mut wanted: impl FnMut(&Incoming) -> bool,
    ) -> Result<Incoming, RestoreError> {
        let what = || format!("{}/{} from {from}", partition.topic, partition.number);
        let failed = |cause| RestoreError::Kafka { what: what(), cause };
        let deadline = Instant::now() + bound;
        let near = |(there, at): &(Partition, i64)| there == partition && (*at..*at + NEAR).contains(&from);
        if !self.at.as_ref().is_some_and(near) {
            self.at = None;
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(from)).map_err(failed)?;
            self.consumer.assign(&list).map_err(failed)?;
        }
        while Instant::now() < deadline {
            match self.consumer.poll(Duration::from_millis(50)) {
                None | Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Ok(message)) => {
                    let record = own(&message);
                    if record.partition != *partition {
                        continue;
                    }
                    self.at = Some((partition.clone(), record.offset + 1));
                    if record.offset >= from && wanted(&record) {
                        return Ok(record);
                    }
                }
                // The client goes on by itself, or the bound ends it.
                Some(Err(cause)) => tracing::debug!(%cause, what = what(), "look-up waits"),
            }
        }
        // Where it stands is not known any more.
        self.at = None;
        Err(RestoreError::TimedOut { what: what(), after: bound })
    }
}
