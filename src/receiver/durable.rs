//! Where an event came to be durable, or why it is not known to be anywhere.

use crate::spool::SpoolError;

/// Where an event is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durable {
    /// On Kafka, on all in-sync replicas.
    Kafka,
    /// In the spool on this machine's disk.
    Spool,
}

impl Durable {
    /// Its name as label `path` of `ledgerhook_receiver_ack_seconds`.
    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Spool => "spool",
        }
    }
}

/// Why an event is not known to be durable. After a failed or late produce it may be in the log: the provider's repeat
/// is taken once.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotDurable {
    /// Topics and schemas were not seen yet.
    #[error("Kafka and the schema registry were not reached yet")]
    NotReady,
    /// Recent events failed: not tried, or not waited for.
    #[error("Kafka is away")]
    Away,
    /// No acknowledgement within the time for it.
    #[error("Kafka did not acknowledge in time")]
    Late,
    /// Kafka refused, or gave the record up.
    #[error("{0}")]
    Refused(String),
    /// The envelope could not be written as Avro: a fault of ours.
    #[error("the envelope cannot be encoded: {0}")]
    Encoding(String),
    /// Kafka did not take it, and the spool neither.
    #[error("{kafka}, and {spool}")]
    Nowhere {
        /// Why not Kafka.
        kafka: Box<NotDurable>,
        /// Why not the spool.
        spool: SpoolError,
    },
    /// Kafka did not take it, and the spool not before the provider's deadline.
    #[error("{0}, and the spool's disk was too slow")]
    SlowSpool(Box<NotDurable>),
}
