//! What ends the router.

use crate::kafka::group::GroupError;
use crate::kafka::layout::LayoutError;
use crate::kafka::restore::RestoreError;
use crate::kafka::transaction::TransactionError;
use crate::lifecycle::Panicked;

/// Why the router stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ground is not as it should be.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The table of routes is at fault.
    #[error("routes: {0}")]
    Routes(#[from] super::mapping::RouteError),
    /// The committed position is gone from the log.
    #[error("router: {0}")]
    Group(GroupError),
    /// Its thread is gone.
    #[error(transparent)]
    Panicked(#[from] Panicked),
}

/// Why the loop has to start over from what is committed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Again {
    /// The transaction's outcome is unknown, or another instance took over.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    /// The group member is of no use any more.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// The dedupe state could not be read.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// A value could not be read or written while its schema was away.
    #[error(transparent)]
    Decode(#[from] crate::kafka::codec::DecodeError),
    /// A value of ours does not fit its own schema.
    #[error(transparent)]
    Avro(#[from] crate::avro::AvroError),
    /// A batch without membership.
    #[error("the group has not let this member in yet")]
    NoMember,
}
