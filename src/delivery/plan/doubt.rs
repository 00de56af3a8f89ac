//! How far the doubt reaches that earlier owners of partitions left.

use super::Plan;
use crate::delivery::progress::Reading;
use crate::kafka::group::Partition;

impl<R> Plan<R> {
    /// Partitions in which records may be taken for doubtful that no earlier owner can have sent.
    pub(in crate::delivery) fn unsure(&self) -> Vec<Partition> {
        let unsure = self.readings.iter().filter(|(_, reading)| reading.is_unsure());
        unsure.map(|(partition, _)| partition.clone()).collect()
    }

    /// The same of one partition.
    pub(in crate::delivery) fn is_unsure(&self, partition: &Partition) -> bool {
        self.readings.get(partition).is_some_and(Reading::is_unsure)
    }

    /// Takes note of where a partition ended when no earlier owner could begin a try any more; says whether it did.
    pub(in crate::delivery) fn sure_above(&mut self, partition: &Partition, end: i64) -> bool {
        self.readings.get_mut(partition).is_none_or(|reading| reading.sure_above(end))
    }
}
