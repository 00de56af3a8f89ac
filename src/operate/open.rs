//! The record that a target has had open for longest, and when its topic deletes it: read from the topics, so that it can
//! be told where nobody delivers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::read;
use super::targets::TargetsError;
use crate::event::{Progress, Timestamp};
use crate::kafka::group::{Incoming, Partition};
use crate::kafka::layout::Ground;
use crate::kafka::restore::{self, Read};
use crate::topics::{self, POSITIONS};

/// Bound on looking for the first open records of one topic: a partition whose end an undecided transaction holds back is
/// left out then.
const LOOK: Duration = Duration::from_secs(10);

/// A record that is not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Its topic, without prefix.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// When it was written.
    pub recorded: Timestamp,
    /// When its topic's retention deletes it, or did; never where nothing is deleted, or the topic does not say.
    pub deleted: Option<Timestamp>,
}

/// Of the records that a target has not finished, the one that is deleted first; none where all of them that there are
/// were finished, parked, or never begun. Blocks.
///
/// # Errors
/// When the topics cannot be read.
pub fn oldest(ground: &Ground, runtime: &Handle, target: &str) -> Result<Option<Open>, TargetsError> {
    let progress = topics::progress(target);
    let mut next: BTreeMap<String, BTreeMap<i32, Option<i64>>> = BTreeMap::new();
    let rows = Partition { topic: ground.cluster.topic(&progress), number: POSITIONS };
    let decoder = ground.decoder();
    read::rows(ground, &[rows], |row| {
        let said = decoder.decode_blocking::<Progress>(runtime, row.value.as_deref());
        let said = said.map_err(|cause| read::undecodable(&row, cause))?;
        if said.entity.is_none() {
            next.entry(said.record_topic).or_default().insert(said.record_partition, Some(said.next_offset));
        }
        Ok(())
    })?;
    let names: Vec<String> = next.keys().map(|topic| ground.cluster.topic(topic)).collect();
    let retention = runtime.block_on(ground.admin().retention(&names))?;
    let mut all = Vec::new();
    for (topic, next) in next {
        let name = ground.cluster.topic(&topic);
        let kept = retention.get(&name).copied().filter(|ms| *ms >= 0);
        all.extend(first(ground, &name, &next)?.into_iter().map(|row| {
            let recorded = Timestamp::from_micros(row.timestamp_ms.unwrap_or_default().saturating_mul(1000));
            let deleted = kept.map(|ms| Timestamp::from_micros(recorded.as_micros().saturating_add(ms * 1000)));
            Open { topic: topic.clone(), partition: row.partition.number, offset: row.offset, recorded, deleted }
        }));
    }
    // What is never deleted comes last.
    Ok(all.into_iter().min_by_key(|open| (open.deleted.is_none(), open.deleted, open.recorded)))
}

/// The first record of each partition from this offset on.
fn first(ground: &Ground, topic: &str, next: &BTreeMap<i32, Option<i64>>) -> Result<Vec<Incoming>, TargetsError> {
    let began = Instant::now();
    let mut found = Vec::new();
    let left = std::cell::RefCell::new(next.keys().copied().collect::<BTreeSet<i32>>());
    let enough = || left.borrow().is_empty() || began.elapsed() >= LOOK;
    restore::read(&ground.cluster, topic, next, LOOK, &enough, |read| match read {
        // Nothing waits there any more.
        Read::Gone(..) => {}
        Read::Record(row) => {
            if left.borrow_mut().remove(&row.partition.number) {
                found.push(row);
            }
        }
        Read::Ended(number, _) => drop(left.borrow_mut().remove(&number)),
    })
    .map_err(crate::operate::OperateError::from)?;
    Ok(found)
}
