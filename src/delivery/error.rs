//! Why delivery cannot start, or one target not go on.

use super::restore::UnknownState;
use crate::avro::AvroError;
use crate::kafka::group::GroupError;
use crate::kafka::layout::LayoutError;
use crate::lifecycle::Panicked;
use crate::targets::ClientError;

/// Why delivery ended other than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Topics or schemas are missing or wrong.
    #[error(transparent)]
    Ground(#[from] LayoutError),
    /// A target's configuration cannot be used.
    #[error("target {target}: {cause}")]
    Target {
        /// Name of the target.
        target: String,
        /// What is wrong with it.
        cause: ClientError,
    },
    /// The thread of a target panicked: a fault of this program.
    #[error(transparent)]
    Panicked(#[from] Panicked),
}

/// Why one target stopped while others go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stopped {
    /// The position was lost.
    #[error(transparent)]
    Position(GroupError),
    /// What is known of its records cannot be read, and waiting would not help.
    #[error("{0}; nothing is sent, since it may be what keeps a record from being sent twice")]
    Unknown(UnknownState),
    /// A row of ours does not fit its schema: a fault of this program, which a repeat would meet again.
    #[error("cannot write a row of {topic}: {cause}")]
    Row {
        /// The topic, without prefix.
        topic: &'static str,
        /// What does not fit.
        cause: AvroError,
    },
}
