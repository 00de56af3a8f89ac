//! The little that the spool asks of a file system, so that tests can put a disk under it that forgets and fails.

use std::fmt::Debug;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::format::PAGE;

/// One folder of files.
pub(super) trait Disk: Debug + Send + Sync {
    /// Every file with its length in bytes.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    /// A new file; an error where there is one of this name. Durable once it and the folder are synced.
    fn create(&self, name: &str) -> io::Result<Box<dyn Output>>;
    /// The bytes of a file from `from` to `to`, or to its end where that comes first.
    fn read(&self, name: &str, from: u64, to: u64) -> io::Result<Vec<u8>>;
    /// The same with zeros for pages that cannot be read: what stands in the others counts.
    fn salvage(&self, name: &str, from: u64, to: u64) -> io::Result<Vec<u8>>;
    /// Gives a file another name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes names durable: files created, renamed and removed.
    fn sync_folder(&self) -> io::Result<()>;
}

/// A file being written.
pub(super) trait Output: Debug + Send {
    /// Writes all of it. After an error nobody knows what was written.
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes everything written durable. After an error nobody knows what is, and never will: the next success says
    /// nothing of the writes before the failure.
    fn sync(&mut self) -> io::Result<()>;
}

/// A real folder.
#[derive(Debug)]
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file, and room for the part of it that is to be read.
    fn piece(&self, name: &str, from: u64, to: u64) -> io::Result<(File, Vec<u8>)> {
        let file = File::open(self.path(name))?;
        let end = to.min(file.metadata()?.len());
        Ok((file, vec![0; usize::try_from(end.saturating_sub(from)).unwrap_or_default()]))
    }
}

impl Disk for Folder {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            files.push((entry.file_name().to_string_lossy().into_owned(), entry.metadata()?.len()));
        }
        Ok(files)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Output>> {
        // What it holds is people's data.
        Ok(Box::new(File::options().write(true).create_new(true).mode(0o600).open(self.path(name))?))
    }

    fn read(&self, name: &str, from: u64, to: u64) -> io::Result<Vec<u8>> {
        let (file, mut bytes) = self.piece(name, from, to)?;
        file.read_exact_at(&mut bytes, from)?;
        Ok(bytes)
    }

    fn salvage(&self, name: &str, from: u64, to: u64) -> io::Result<Vec<u8>> {
        let (file, mut bytes) = self.piece(name, from, to)?;
        for (page, at) in bytes.chunks_mut(PAGE).zip((from..).step_by(PAGE)) {
            if file.read_exact_at(page, at).is_err() {
                page.fill(0);
            }
        }
        Ok(bytes)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync_folder(&self) -> io::Result<()> {
        sync_folder(&self.0)
    }
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

impl Output for File {
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}
