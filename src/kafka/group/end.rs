//! Where a partition ends that a member has.

use std::time::Duration;

use rdkafka::consumer::Consumer as _;

use super::{GroupError, Member, Partition};

/// Longest wait for the answer: who asks has other things to do.
const LOOK: Duration = Duration::from_millis(500);

impl Member {
    /// Where a partition ends now: whoever reads committed records has had none at or above this offset. The leader is
    /// asked for it. The client's own idea of the end is that of its last fetch, and a broker that has just become leader
    /// tells a fetch an end that is too low, but not who asks for offsets (see [`crate::kafka::restore`]).
    ///
    /// # Errors
    /// When it cannot be told within half a second: the leader is away, or a new one that does not know it yet.
    pub fn end(&self, partition: &Partition) -> Result<i64, GroupError> {
        let bounds = self.consumer.fetch_watermarks(&partition.topic, partition.number, LOOK);
        bounds.map(|(_, end)| end).map_err(|cause| self.broken(cause))
    }
}
