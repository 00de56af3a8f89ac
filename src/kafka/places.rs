//! Places in partitions: from where on a time's records stand, and how far a group has come. Asked without being a member.

use std::collections::BTreeMap;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset;

use super::client::{Cluster, REQUEST_TIMEOUT};
use super::group::Partition;
use super::restore::RestoreError;
use crate::event::Timestamp;

/// The first offset of each partition whose record has this time or a later one; the partition's end where there is none.
/// Blocks.
///
/// # Errors
/// When the cluster is away.
pub fn since(
    cluster: &Cluster,
    partitions: &[Partition],
    time: Timestamp,
) -> Result<BTreeMap<Partition, i64>, RestoreError> {
    let failed = |cause| RestoreError::Kafka { what: format!("where {time} begins"), cause };
    let consumer: BaseConsumer = cluster.consumer("places").create().map_err(failed)?;
    let mut times = TopicPartitionList::new();
    for Partition { topic, number } in partitions {
        times.add_partition_offset(topic, *number, Offset::Offset(time.as_millis())).map_err(failed)?;
    }
    if partitions.is_empty() {
        return Ok(BTreeMap::new());
    }
    let found = consumer.offsets_for_times(times, REQUEST_TIMEOUT).map_err(failed)?;
    let mut places = BTreeMap::new();
    for element in found.elements() {
        element.error().map_err(failed)?;
        let partition = Partition { topic: element.topic().to_owned(), number: element.partition() };
        let offset = match element.offset() {
            Offset::Offset(offset) => offset,
            _ => consumer.fetch_watermarks(&partition.topic, partition.number, REQUEST_TIMEOUT).map_err(failed)?.1,
        };
        places.insert(partition, offset);
    }
    Ok(places)
}

/// Where each of these partitions begins and ends. Blocks.
///
/// # Errors
/// When the cluster is away.
pub fn bounds(cluster: &Cluster, partitions: &[Partition]) -> Result<BTreeMap<Partition, (i64, i64)>, RestoreError> {
    let failed = |cause| RestoreError::Kafka { what: "where partitions begin and end".to_owned(), cause };
    let consumer: BaseConsumer = cluster.consumer("places").create().map_err(failed)?;
    let bounds = partitions.iter().map(|partition| {
        let Partition { topic, number } = partition;
        Ok((partition.clone(), consumer.fetch_watermarks(topic, *number, REQUEST_TIMEOUT).map_err(failed)?))
    });
    bounds.collect()
}

/// The committed offset of a group (without prefix) in each of these partitions that it has one in. Blocks.
///
/// # Errors
/// When the cluster is away, or a transaction that moves the offsets does not end.
pub fn committed(
    cluster: &Cluster,
    group: &str,
    partitions: &[Partition],
) -> Result<BTreeMap<Partition, i64>, RestoreError> {
    let failed = |cause: KafkaError| RestoreError::Kafka { what: format!("the offsets of group {group}"), cause };
    let consumer: BaseConsumer = cluster.consumer(group).create().map_err(failed)?;
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(&partition.topic, partition.number);
    }
    let committed = consumer.committed_offsets(list, REQUEST_TIMEOUT).map_err(failed)?;
    let mut offsets = BTreeMap::new();
    for element in committed.elements() {
        element.error().map_err(failed)?;
        if let Offset::Offset(offset) = element.offset() {
            offsets.insert(Partition { topic: element.topic().to_owned(), number: element.partition() }, offset);
        }
    }
    Ok(offsets)
}
