//! Where ids have their places: in how many partitions they were counted when the topic was given its identity.
//!
//! An id's marker is looked for in one partition, by its hash among so many. A topic may get more of them: what writes to it
//! then places rows among those, each writer from another moment on. So the number in the topic's identity counts, the
//! same for all routers, and a row that stands elsewhere is passed on to its place before anything is decided on it.
//! `ledgerhook topics grow` moves the markers and raises the number, while it holds all partitions as the group's member.

use std::collections::{BTreeMap, BTreeSet};

use super::error::Again;
use super::run::Router;
use crate::kafka::group::{Incoming, Partition};
use crate::kafka::identity::{self, Identity, IdentityError};
use crate::kafka::partition::of_key;
use crate::topics;

/// Of each `received` topic (Kafka's name), in how many partitions its ids have their places; nothing of a topic without
/// an identity.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Places(BTreeMap<String, i32>);

impl Places {
    /// As the identities say.
    pub(super) fn of(router: &Router, identities: &BTreeMap<String, Identity>) -> Self {
        let count = |(source, _): &(String, String)| {
            let name = topics::received(source);
            let partitions = i32::try_from(identities.get(&name)?.partitions).ok()?;
            Some((router.ground.cluster.topic(&name), partitions))
        };
        Self(router.settings.sources.iter().filter_map(count).collect())
    }

    /// Checks that they are what was read at the start, and that the topics of these sources have as many partitions.
    ///
    /// # Errors
    /// When they were moved since, a topic has lost partitions, or the cluster is away.
    pub(super) fn confirm<'a>(&self, router: &Router, sources: impl Iterator<Item = &'a str>) -> Result<(), Again> {
        if *self != Self::of(router, &identity::read(&router.ground, &router.runtime)?) {
            return Err(Again::Moved);
        }
        for source in sources.collect::<BTreeSet<_>>() {
            let name = topics::received(source);
            let topic = router.ground.cluster.topic(&name);
            let Some(then) = self.0.get(&topic).copied() else { continue };
            let now = router.ground.partitions_of(&name).map_err(IdentityError::from)?.len();
            if usize::try_from(then).is_ok_and(|then| now < then) {
                return Err(Again::Fewer { topic, then, now });
            }
        }
        Ok(())
    }

    /// Whether no id at all has its place in this partition.
    pub(super) fn are_elsewhere(&self, partition: &Partition) -> bool {
        self.0.get(&partition.topic).is_some_and(|count| partition.number >= *count)
    }

    /// The partition of a row's id, where the row does not stand in it.
    pub(super) fn elsewhere(&self, row: &Incoming) -> Option<i32> {
        place(row.key.as_deref(), row.partition.number, *self.0.get(&row.partition.topic)?)
    }
}

/// Where a row with this key belongs, unless it stands there. One without a key may stand anywhere there are markers.
fn place(key: Option<&[u8]>, stands: i32, count: i32) -> Option<i32> {
    let place = key.map_or_else(|| stands.min(count - 1), |key| of_key(key, count));
    (place != stands).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_belongs_where_its_key_leads_among_the_partitions_counted() {
        // murmur2 of "21" without its sign: 1_173_551_340.
        for (key, stands, count, expected) in [
            (Some("21"), 0, 3, None),
            (Some("21"), 1, 3, Some(0)),
            (Some("21"), 4, 3, Some(0)),
            (Some("21"), 0, 7, Some(1_173_551_340 % 7)),
            (Some("21"), 0, 1, None),
            (None, 0, 3, None),
            (None, 2, 3, None),
            (None, 3, 3, Some(2)),
        ] {
            assert_eq!(place(key.map(str::as_bytes), stands, count), expected, "{key:?} in {stands} of {count}");
        }
    }
}
