//! What ends the router.

use super::state::StoreError;
use crate::kafka::admin::AdminError;
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
    /// The committed position is gone from the log, or a topic is not what its identity says.
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
    /// The cluster does not say which partitions there are.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The topics' identities could not be read.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A thread could not be started.
    #[error("no thread to restore the dedupe state: {0}")]
    Thread(std::io::Error),
    /// Markers were moved to other partitions since the start.
    #[error("ids have their places in another number of partitions than at the start")]
    Moved,
    /// A topic has fewer partitions than its ids have their places in: it is another one under its name.
    #[error(
        "{topic} has {now} partitions, and its identity in `control` says {then}: it was deleted and created by hand. Delete it and its `seen` topic too, then `ledgerhook topics apply`"
    )]
    Fewer {
        /// Kafka's name of the topic.
        topic: String,
        /// How many it had.
        then: i32,
        /// How many it has.
        now: usize,
    },
    /// A thread that was to restore the dedupe state is gone.
    #[error("the dedupe state was not restored: its thread is gone")]
    Unfilled,
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
