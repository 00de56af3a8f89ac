//! How far an idle table can be moved: past what transactions left behind its records, and never past a record.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::position::Position;
use crate::kafka::assigned::AssignedError;
use crate::kafka::client::Cluster;
use crate::kafka::group::Partition;
use crate::kafka::restore::{self, Read, RestoreError};

/// Longest silence of Kafka while it is read.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a table cannot be moved on.
#[derive(Debug, thiserror::Error)]
pub(super) enum TidyError {
    /// Kafka cannot be read.
    #[error(transparent)]
    Read(#[from] RestoreError),
    /// Records behind the position are gone.
    #[error(transparent)]
    Assigned(#[from] AssignedError),
}

/// The position behind which nothing stands that could be read now: `position`, and the end of each partition of these
/// topics (without prefix) that has no record behind it. Blocks.
///
/// # Errors
/// When Kafka cannot be read, or records behind the position were deleted.
pub(super) fn reach(
    cluster: &Cluster,
    topics: &[String],
    position: &Position,
    stop: &CancellationToken,
) -> Result<Position, TidyError> {
    let mut to = position.clone();
    for (topic, at) in &mut to.topics {
        let from: BTreeMap<i32, Option<i64>> = at.next.iter().map(|(number, next)| (*number, Some(*next))).collect();
        if from.is_empty() || !topics.contains(topic) {
            continue;
        }
        let topic = cluster.topic(topic);
        let behind = RefCell::new(Behind::default());
        let stop = || behind.borrow().is_enough() || stop.is_cancelled();
        restore::read(cluster, &topic, &from, PATIENCE, &stop, |read| behind.borrow_mut().hear(&read))?;
        at.next.extend(behind.into_inner().ends(&topic, &at.next)?);
    }
    Ok(to)
}

/// What stands behind the position in the partitions of one topic.
#[derive(Debug, Default)]
struct Behind {
    records: BTreeSet<i32>,
    ends: BTreeMap<i32, i64>,
    gone: Option<(i32, i64)>,
}

impl Behind {
    fn hear(&mut self, read: &Read) {
        match read {
            Read::Gone(number, begins) => self.gone = Some((*number, *begins)),
            Read::Record(record) => drop(self.records.insert(record.partition.number)),
            Read::Ended(number, end) => drop(self.ends.insert(*number, *end)),
        }
    }

    /// Whether it is known that this is not the time, and the topic's reader will bring what there is.
    fn is_enough(&self) -> bool {
        self.gone.is_some() || !self.records.is_empty()
    }

    /// The ends of partitions without a record. To move past a gap would be to keep silent about what was in it.
    fn ends(self, topic: &str, next: &BTreeMap<i32, i64>) -> Result<BTreeMap<i32, i64>, AssignedError> {
        if let Some((number, begins)) = self.gone {
            let partition = Partition { topic: topic.to_owned(), number };
            return Err(AssignedError::Gone {
                partition,
                next: next.get(&number).copied().unwrap_or_default(),
                begins,
            });
        }
        let Self { records, mut ends, .. } = self;
        ends.retain(|number, _| !records.contains(number));
        Ok(ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::group::Incoming;
    use crate::kafka::headers::Headers;

    fn record(number: i32) -> Read {
        let partition = Partition { topic: "p.t".to_owned(), number };
        Read::Record(Incoming {
            partition,
            offset: 8,
            timestamp_ms: None,
            key: None,
            value: None,
            headers: Headers::default(),
        })
    }

    #[test]
    fn a_table_is_moved_to_ends_and_neither_past_a_record_nor_a_gap() {
        let next = BTreeMap::from([(0, 5), (1, 5), (2, 5)]);
        let heard = |reads: &[Read]| {
            let mut behind = Behind::default();
            reads.iter().for_each(|read| behind.hear(read));
            (behind.is_enough(), behind.ends("p.t", &next))
        };
        let (enough, ends) = heard(&[Read::Ended(1, 5), Read::Ended(0, 7)]);
        assert_eq!((enough, ends.unwrap()), (false, BTreeMap::from([(0, 7), (1, 5)])));
        let (enough, ends) = heard(&[record(0), Read::Ended(0, 9), Read::Ended(2, 6)]);
        assert_eq!((enough, ends.unwrap()), (true, BTreeMap::from([(2, 6)])));
        // All that was there was deleted unread: the partition ends where it begins.
        let (enough, ends) = heard(&[Read::Ended(0, 7), Read::Gone(1, 9), Read::Ended(1, 9)]);
        let gone = ends.unwrap_err();
        assert!(enough && matches!(gone, AssignedError::Gone { next: 5, begins: 9, .. }), "{gone}");
        assert_eq!(gone.to_string(), "p.t/1 begins at 9, and was read up to 5: records between were deleted unread");
    }
}
