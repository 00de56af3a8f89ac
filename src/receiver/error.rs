//! Why a receiver cannot start or go on.

use std::net::SocketAddr;

use crate::kafka::layout::LayoutError;
use crate::lifecycle::Panicked;

/// Why a receiver cannot start or go on. A broker or registry that is away is no error: it is waited for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be had.
    #[error("the receiver cannot listen on {address}: {cause}; is it taken by another process? (`receiver.listen`)")]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// The system's error.
        cause: std::io::Error,
    },
    /// The certificates cannot be used.
    #[error("the receiver cannot speak TLS with these certificates (`receiver.tls`, `client_ca`): {0}")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The Kafka client's settings are unusable.
    #[error("the receiver's Kafka producer cannot be made (`kafka.properties`): {0}")]
    Producer(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The spool's folder cannot be had.
    #[error(transparent)]
    Spool(#[from] crate::spool::OpenError),
    /// The spool's way to Kafka cannot be had.
    #[error(transparent)]
    Drain(#[from] super::drain::DrainError),
    /// Topics or schemas are missing or wrong.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The look-out for Kafka ended badly: readiness could no longer be told.
    #[error(transparent)]
    Panicked(#[from] Panicked),
}
