//! Why an operator's word could not be carried out.

use crate::avro::AvroError;
use crate::kafka::codec::DecodeError;
use crate::kafka::layout::LayoutError;
use crate::kafka::restore::RestoreError;
use crate::kafka::transaction::TransactionError;

/// Why an operator's word could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// The cluster is away.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The topic could not be read.
    #[error(transparent)]
    Restore(#[from] RestoreError),
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
    /// A row could not be encoded.
    #[error(transparent)]
    Avro(#[from] AvroError),
    /// Kafka did not take it, or its answer was lost.
    #[error("after {done} events: {cause}; to ask again for all of them is safe")]
    Transaction {
        /// Events that were certainly written.
        done: usize,
        /// What failed.
        cause: TransactionError,
    },
}
