//! What ends the router.

use super::state::StoreError;
use crate::kafka::group::GroupError;
use crate::kafka::identity::IdentityError;
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
    /// The committed position is gone from the log, or ids lie in other partitions than they did.
    #[error("router: {0}")]
    Lost(#[source] Box<dyn std::error::Error + Send + Sync>),
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
    /// The dedupe state could not be read from Kafka.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// Its store on disk is of no use.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The topics' identities could not be read.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A thread could not be started.
    #[error("no thread to restore the dedupe state: {0}")]
    Thread(std::io::Error),
    /// A topic has more partitions than it had: ids are placed elsewhere, and repeats would not find their markers.
    #[error(
        "{topic} had {then} partitions, and has more now: the markers of ids seen before lie in other partitions than their repeats would be looked for, so that a repeat would be routed again. How to go on: README, \"More partitions\""
    )]
    Repartitioned {
        /// Kafka's name of the topic.
        topic: String,
        /// How many it had.
        then: usize,
    },
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
