//! Why a store of ids cannot be used.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

/// Why a store of ids cannot be used.
#[derive(Debug, thiserror::Error)]
pub(in crate::router) enum StoreError {
    /// It belongs to other topics, or to another version of the program: not to be trusted.
    #[error("the dedupe state in {} is of {is}, not of {should}", folder.display())]
    Foreign {
        /// The store.
        folder: PathBuf,
        /// What it says it is of.
        is: String,
        /// What it should be of.
        should: String,
    },
    /// Its bytes are not what was written.
    #[error("the dedupe state in {} is damaged: {cause}", folder.display())]
    Damaged {
        /// The store.
        folder: PathBuf,
        /// What was found.
        cause: String,
    },
    /// The system refuses; the store itself may be fine.
    #[error("cannot use the dedupe state in {}: {cause}", folder.display())]
    Io {
        /// The store.
        folder: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
}

impl StoreError {
    /// Sorts the library's errors: what only the bytes can cause, and what the system can.
    pub(super) fn of(folder: &Path, error: fjall::Error) -> Self {
        match error {
            fjall::Error::Io(cause) | fjall::Error::Storage(fjall::LsmError::Io(cause)) => Self::io(folder, cause),
            // An earlier write or flush failed; what it was is in the log. Opening again tells.
            fjall::Error::Poisoned => Self::io(folder, io::Error::other("an earlier write failed")),
            fjall::Error::Locked => Self::io(folder, io::Error::other("another process has it open")),
            other => Self::damaged(folder, &other),
        }
    }

    /// Errors that an undamaged file system gives only for other bytes than were written count as damage.
    pub(super) fn io(folder: &Path, cause: io::Error) -> Self {
        use io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
        if matches!(cause.kind(), InvalidData | UnexpectedEof | NotFound) {
            return Self::damaged(folder, &cause);
        }
        Self::Io { folder: folder.to_owned(), cause }
    }

    pub(super) fn damaged(folder: &Path, cause: &dyn Display) -> Self {
        Self::Damaged { folder: folder.to_owned(), cause: cause.to_string() }
    }

    pub(super) fn panicked(folder: &Path) -> Self {
        Self::damaged(folder, &"the store panicked on it")
    }

    /// The store that has to be set aside, unless it is the system that refuses.
    pub(in crate::router) fn distrusted(&self) -> Option<&Path> {
        match self {
            Self::Foreign { folder, .. } | Self::Damaged { folder, .. } => Some(folder),
            Self::Io { .. } => None,
        }
    }
}
