//! Why the spool cannot be opened, or did not take an event.

use std::io;
use std::path::PathBuf;

use super::entry::EntryError;

/// Why a spool cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process owns the folder.
    #[error(
        "another process uses the spool in {}; stop it, or give this one a folder of its own (`receiver.spool.dir`)",
        folder.display()
    )]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// The file system refuses.
    #[error("the spool in {}: cannot {what}: {cause}", folder.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// The folder.
        folder: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// Our own schema is unusable: a fault of the build.
    #[error(transparent)]
    Entry(#[from] EntryError),
}

/// Why an event is not durable in the spool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpoolError {
    /// `max_size` is reached.
    #[error("the spool is full: {bytes} of {max_size} bytes (`receiver.spool.max_size`)")]
    Full {
        /// What its files take.
        bytes: u64,
        /// What they may take.
        max_size: u64,
    },
    /// More events wait than the queue has places.
    #[error("the spool's disk is too slow: its queue is full")]
    Busy,
    /// The disk has no room left (ENOSPC, EDQUOT).
    #[error("no room on the spool's disk: cannot {what}: {cause}")]
    NoRoom {
        /// What was being done.
        what: &'static str,
        /// The system's words.
        cause: String,
    },
    /// The disk fails, most often with EIO.
    #[error("the spool's disk fails: cannot {what}: {cause}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The system's words.
        cause: String,
    },
    /// The event is larger than a record may be.
    #[error("{bytes} bytes are too large for the spool")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The event cannot be written down: a fault of ours.
    #[error("the event cannot be encoded: {0}")]
    Encoding(String),
    /// The spool was closed.
    #[error("the spool is closed")]
    Closed,
}

impl SpoolError {
    pub(super) fn of(what: &'static str, cause: &io::Error) -> Self {
        let told = cause.to_string();
        match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoRoom { what, cause: told },
            _ => Self::Io { what, cause: told },
        }
    }
}
