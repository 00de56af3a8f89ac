//! Why a ledger cannot be read.

use crate::kafka::codec::DecodeError;
use crate::kafka::control::ControlError;
use crate::kafka::identity::IdentityError;
use crate::kafka::layout::LayoutError;
use crate::kafka::restore::RestoreError;
use crate::lifecycle::Panicked;

/// Why an event could not be traced, or a ledger not be closed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The cluster is away.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A topic could not be read.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// What receivers say of their spools could not be read.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// What is known of the topics could not be read.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A row could not be decoded.
    #[error("{topic}/{partition}@{offset}: {cause}")]
    Decode {
        /// Topic of the row.
        topic: String,
        /// Its partition.
        partition: i32,
        /// Its offset.
        offset: i64,
        /// What was wrong.
        cause: DecodeError,
    },
    /// The reading thread is gone.
    #[error(transparent)]
    Panicked(#[from] Panicked),
}
