//! Topics read whole, row by row.

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

/// The fault of a row.
pub(super) fn undecodable(row: &Incoming, cause: DecodeError) -> OperateError {
    let (topic, partition, offset) = (row.partition.topic.clone(), row.partition.number, row.offset);
    OperateError::Decode { topic, partition, offset, cause }
}
