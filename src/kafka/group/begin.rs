//! Where a member begins with partitions that it gains.

use std::collections::BTreeMap;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset;

use super::{Member, Partition, Start, list};
use crate::kafka::client::REQUEST_TIMEOUT;

/// Why an assignment cannot be taken yet.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NotYet(String);

impl From<KafkaError> for NotYet {
    fn from(error: KafkaError) -> Self {
        Self(format!("cannot read committed offsets: {error}"))
    }
}

/// Where an assignment begins.
pub(super) struct Begun {
    /// Each partition.
    pub(super) at: BTreeMap<Partition, i64>,
    /// Those that begin behind their committed offset.
    pub(super) skipped: BTreeMap<Partition, i64>,
}

impl Member {
    /// Why partitions that the group has no offset in may not be begun, if they may not.
    pub(super) fn objection(&self, gaining: &[Partition]) -> Result<Option<String>, NotYet> {
        let Some(objects) = &self.objects else { return Ok(None) };
        let committed = self.consumer.committed_offsets(list(gaining), REQUEST_TIMEOUT)?;
        let mut without = Vec::new();
        for element in committed.elements() {
            element.error()?;
            if !matches!(element.offset(), Offset::Offset(_)) {
                without.push(Partition { topic: element.topic().to_owned(), number: element.partition() });
            }
        }
        if without.is_empty() {
            return Ok(None);
        }
        objects(&without).map_err(|error| NotYet(error.to_string()))
    }

    /// Takes an assignment at the committed offsets, or where the group begins. That is committed at once: "now" must not
    /// mean a later now after a restart.
    pub(super) fn assign(&self, gaining: &[Partition]) -> Result<Begun, NotYet> {
        let committed = self.consumer.committed_offsets(list(gaining), REQUEST_TIMEOUT)?;
        let mut assignment = TopicPartitionList::new();
        let mut fresh = TopicPartitionList::new();
        let mut begun = BTreeMap::new();
        let (mut at, mut skipped) = (BTreeMap::new(), BTreeMap::new());
        for element in committed.elements() {
            element.error()?;
            let (topic, number) = (element.topic(), element.partition());
            let offset = match element.offset() {
                Offset::Offset(offset) if self.in_transactions.iter().any(|name| name == topic) => {
                    let (low, high) = self.consumer.fetch_watermarks(topic, number, REQUEST_TIMEOUT)?;
                    let begins = behind_an_end(offset, low, high);
                    if begins != offset {
                        skipped.insert(Partition { topic: topic.to_owned(), number }, begins);
                    }
                    begins
                }
                Offset::Offset(offset) => offset,
                _ => {
                    let begins = match begun.get(topic) {
                        Some(begins) => begins,
                        None => begun.entry(topic.to_owned()).or_insert(self.begin(topic, gaining, &mut fresh)?),
                    };
                    let offset = match begins.get(&number) {
                        Some(offset) => *offset,
                        None => self.consumer.fetch_watermarks(topic, number, REQUEST_TIMEOUT)?.0,
                    };
                    fresh.add_partition_offset(topic, number, Offset::Offset(offset))?;
                    offset
                }
            };
            assignment.add_partition_offset(topic, number, Offset::Offset(offset))?;
            at.insert(Partition { topic: topic.to_owned(), number }, offset);
        }
        self.consumer.assign(&assignment)?;
        // The client takes a pause of an earlier assignment over into this one.
        self.consumer.resume(&assignment)?;
        if fresh.count() > 0 {
            self.consumer.commit(&fresh, CommitMode::Sync)?;
        }
        Ok(Begun { at, skipped })
    }

    /// Where the group begins with the partitions of a topic that it does not know; nothing of those that have to be read
    /// from their first record.
    ///
    /// A group that knows the topic and not one of its partitions was there before that one: all of it is new. To tell
    /// that from a beginning, where members take their partitions one after the other, one of them, the owner of
    /// partition 0, says where all begin; the others wait for it.
    fn begin(
        &self,
        topic: &str,
        gaining: &[Partition],
        fresh: &mut TopicPartitionList,
    ) -> Result<BTreeMap<i32, i64>, NotYet> {
        if self.start == Start::Earliest || self.whole.as_deref() == Some(topic) {
            return Ok(BTreeMap::new());
        }
        let of = |number| Partition { topic: topic.to_owned(), number };
        let known = self.consumer.committed_offsets(list(&[of(0)]), REQUEST_TIMEOUT)?;
        let known = known.elements().first().map(|first| first.error().map(|()| first.offset())).transpose()?;
        if matches!(known, Some(Offset::Offset(_))) {
            return Ok(BTreeMap::new());
        }
        if !gaining.contains(&of(0)) {
            return Err(NotYet(format!("the owner of partition 0 of {topic} has not said where the group begins")));
        }
        let metadata = self.consumer.fetch_metadata(Some(topic), REQUEST_TIMEOUT)?;
        let numbers = metadata.topics().iter().flat_map(|topic| topic.partitions()).map(|partition| partition.id());
        let mut begins = BTreeMap::new();
        for number in numbers {
            let offset = self.first(topic, number)?;
            begins.insert(number, offset);
            if !gaining.contains(&of(number)) {
                fresh.add_partition_offset(topic, number, Offset::Offset(offset))?;
            }
        }
        Ok(begins)
    }

    fn first(&self, topic: &str, number: i32) -> Result<i64, KafkaError> {
        let (low, high) = self.consumer.fetch_watermarks(topic, number, REQUEST_TIMEOUT)?;
        match self.start {
            Start::Earliest => Ok(low),
            Start::Now => Ok(high),
            Start::At(time) => {
                let mut query = TopicPartitionList::new();
                query.add_partition_offset(topic, number, Offset::Offset(time))?;
                let found = self.consumer.offsets_for_times(query, REQUEST_TIMEOUT)?;
                let offset = found.elements().first().map(|e| e.offset());
                Ok(match offset {
                    Some(Offset::Offset(offset)) => offset,
                    _ => high,
                })
            }
        }
    }
}

/// Where reading goes on in a partition that only transactions write to, see [`Member::in_transactions`].
const fn behind_an_end(offset: i64, low: i64, high: i64) -> i64 {
    if low == high && offset + 1 == low { low } else { offset }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_end_that_is_gone_with_all_before_it_is_passed() {
        for (offset, low, high, begins) in [
            // Its mark is there, or is all that is gone.
            (6, 0, 7, 6),
            (6, 6, 7, 6),
            (6, 7, 7, 7),
            // Nothing is gone.
            (7, 7, 7, 7),
            // A record may be gone: with its own mark, or before others that are there.
            (6, 8, 8, 6),
            (6, 7, 9, 6),
            (6, 5, 5, 6),
        ] {
            assert_eq!(behind_an_end(offset, low, high), begins, "{offset} of {low}..{high}");
        }
    }
}
