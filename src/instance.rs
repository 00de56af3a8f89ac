//! Who this instance is: an id kept in the data directory, and a lock so that no second process takes it.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

/// An instance's identity. The lock lasts as long as this.
#[derive(Debug)]
pub struct Instance {
    /// The id: `<role>-<32 hex digits>`.
    pub id: String,
    _lock: File,
}

/// Why the identity cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Another process has it.
    #[error("another process runs the {role} role with {}; give this one a data_dir of its own", path.display())]
    Taken {
        /// The role.
        role: &'static str,
        /// The data directory.
        path: PathBuf,
    },
    /// The file system refuses.
    #[error("cannot keep this instance's identity in {}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
}

impl Instance {
    /// Takes the identity of a role in this data directory, made at the first time.
    ///
    /// # Errors
    /// When another process has it, or the directory cannot be written.
    pub fn claim(data_dir: &Path, role: &'static str) -> Result<Self, InstanceError> {
        let path = data_dir.join(role).join("instance");
        let io = |cause| InstanceError::Io { path: path.clone(), cause };
        fs::create_dir_all(data_dir.join(role)).map_err(io)?;
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(InstanceError::Taken { role, path: data_dir.to_owned() }),
            Err(TryLockError::Error(cause)) => return Err(io(cause)),
        }
        let mut id = String::new();
        file.read_to_string(&mut id).map_err(io)?;
        let id = id.trim();
        if is_id(id, role) {
            return Ok(Self { id: id.to_owned(), _lock: file });
        }
        // Empty after a crash right behind its creation, or not ours: nothing can hang on an id never used.
        let id = format!("{role}-{}", uuid::Uuid::now_v7().simple());
        file.set_len(0).and_then(|()| file.rewind()).map_err(io)?;
        file.write_all(id.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
        Ok(Self { id, _lock: file })
    }
}

fn is_id(id: &str, role: &str) -> bool {
    id.strip_prefix(role)
        .and_then(|rest| rest.strip_prefix('-'))
        .is_some_and(|hex| hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_stays_and_is_held_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let first = Instance::claim(dir.path(), "router").unwrap();
        assert!(matches!(Instance::claim(dir.path(), "router"), Err(InstanceError::Taken { .. })));
        let id = first.id.clone();
        assert_ne!(id, Instance::claim(dir.path(), "delivery").unwrap().id);
        drop(first);
        assert_eq!(Instance::claim(dir.path(), "router").unwrap().id, id);
        fs::write(dir.path().join("router/instance"), "torn").unwrap();
        assert_ne!(Instance::claim(dir.path(), "router").unwrap().id, id);
    }
}
