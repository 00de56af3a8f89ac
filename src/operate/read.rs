//! Topics read whole, row by row.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::runtime::Handle;

use super::error::OperateError;
use crate::kafka::codec::DecodeError;
use crate::kafka::group::{Incoming, Partition};
use crate::kafka::layout::Ground;
use crate::kafka::restore;

/// Bound on reading a topic once.
const READ_BOUND: Duration = Duration::from_secs(600);

/// Every row of these partitions, in order within each; nothing more after the first fault. Blocks.
///
/// # Errors
/// When they cannot be read, and the first fault.
pub(super) fn rows(
    ground: &Ground,
    partitions: &[Partition],
    mut take: impl FnMut(Incoming) -> Result<(), OperateError>,
) -> Result<(), OperateError> {
    let mut fault = None;
    restore::read_to_end(&ground.cluster, partitions, READ_BOUND, |row| {
        if fault.is_none() {
            fault = take(row).err();
        }
    })?;
    fault.map_or(Ok(()), Err)
}

/// Every row of a topic (without prefix), decoded, as [`rows`] does.
///
/// # Errors
/// As [`rows`], and when a row cannot be decoded.
pub(super) fn each<T: DeserializeOwned>(
    ground: &Ground,
    runtime: &Handle,
    topic: &str,
    mut take: impl FnMut(&Incoming, T) -> Result<(), OperateError>,
) -> Result<(), OperateError> {
    let decoder = ground.decoder();
    rows(ground, &ground.partitions_of(topic)?, |row| {
        let decoded = decoder.decode_blocking::<T>(runtime, row.value.as_deref());
        take(&row, decoded.map_err(|cause| undecodable(&row, cause))?)
    })
}

/// As [`each`], of those rows alone that stand at one of these places: partition and offset. Blocks.
///
/// # Errors
/// As [`each`].
pub(super) fn at<T: DeserializeOwned>(
    ground: &Ground,
    runtime: &Handle,
    topic: &str,
    places: &HashSet<(i32, i64)>,
    mut take: impl FnMut(&Incoming, T) -> Result<(), OperateError>,
) -> Result<(), OperateError> {
    each(ground, runtime, topic, |row, decoded| {
        if places.contains(&(row.partition.number, row.offset)) { take(row, decoded) } else { Ok(()) }
    })
}

/// Of each name the newest row of a topic, unless it settles what it names. Blocks.
///
/// # Errors
/// As [`each`].
pub(super) fn unsettled<T: DeserializeOwned, N: Eq + Hash, W>(
    ground: &Ground,
    runtime: &Handle,
    topic: &str,
    mut of: impl FnMut(&Incoming, T) -> Newest<N, W>,
) -> Result<Vec<W>, OperateError> {
    let mut waiting = HashMap::new();
    each(ground, runtime, topic, |row, decoded| {
        let Newest { name, is_settled, what } = of(row, decoded);
        if is_settled {
            waiting.remove(&name)
        } else {
            waiting.insert(name, what)
        };
        Ok(())
    })?;
    Ok(waiting.into_values().collect())
}

/// What a row says of what it names.
pub(super) struct Newest<N, W> {
    /// What it is about.
    pub(super) name: N,
    /// Whether nothing waits under this name any more.
    pub(super) is_settled: bool,
    /// What waits.
    pub(super) what: W,
}

/// The fault of a row.
pub(super) fn undecodable(row: &Incoming, cause: DecodeError) -> OperateError {
    let (topic, partition, offset) = (row.partition.topic.clone(), row.partition.number, row.offset);
    OperateError::Decode { topic, partition, offset, cause }
}
