//! Partitions in which a transaction is open that has ended.
//!
//! A coordinator that ends a transaction while a partition of it has no leader may take that partition for deleted, and
//! never write the end there (KAFKA-20734; 4.3.1 does it). A lone broker has no leader for any partition for a moment
//! after each pause, and ends what timed out meanwhile in just that moment. From then on readers of committed records
//! stand still before that place, nobody may know the group's offsets, and the next end that this producer writes there
//! would count for what was aborted too: its records would come a second time. Nobody but the same transactional id, or
//! an operator by hand, can write the end that is missing.

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset;

use super::client::{Cluster, REQUEST_TIMEOUT};
use super::group::{Membership, Partition};

/// Where the transactions of an id may have left something open.
#[derive(Clone, Debug)]
pub struct Reach {
    /// The group whose offsets they move, without prefix.
    pub group: String,
    /// The topics that they write to (Kafka's names).
    pub topics: Vec<String>,
}

impl Reach {
    /// The partitions in which some transaction is open, of whom is not to be seen; and the word of one who is in the
    /// group without being a member. Blocks.
    pub(super) fn look(&self, cluster: &Cluster) -> Result<(Vec<Partition>, Option<Membership>), KafkaError> {
        let reads = |isolation: &str| -> Result<BaseConsumer, KafkaError> {
            cluster.consumer(&self.group).set("isolation.level", isolation).create()
        };
        let (all, committed) = (reads("read_uncommitted")?, reads("read_committed")?);
        let mut ends = TopicPartitionList::new();
        for topic in &self.topics {
            let metadata = all.fetch_metadata(Some(topic), REQUEST_TIMEOUT)?;
            for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
                ends.add_partition_offset(topic, partition.id(), Offset::End)?;
            }
        }
        // In this order: a transaction that ends in between is none any more.
        let ends_of = |reader: &BaseConsumer| reader.offsets_for_times(ends.clone(), REQUEST_TIMEOUT);
        let (last, stable) = (ends_of(&all)?, ends_of(&committed)?);
        let mut open = Vec::new();
        for element in last.elements() {
            element.error()?;
            let (topic, number) = (element.topic(), element.partition());
            let stable = stable.find_partition(topic, number).map(|stable| stable.error().map(|()| stable.offset()));
            match (stable.transpose()?, element.offset()) {
                (Some(Offset::Offset(stable)), Offset::Offset(last)) if stable < last => {
                    open.push(Partition { topic: topic.to_owned(), number });
                }
                _ => {}
            }
        }
        Ok((open, committed.group_metadata()))
    }
}
