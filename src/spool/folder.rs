//! A spool's folder: who owns it, and what an earlier process left in it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::disk::{Disk, sync_folder};
use super::error::OpenError;
use super::format::{Head, NoHead};
use super::ledger::{Key, Ledger, Segment};
use super::log;
use super::status::SetAside;
use crate::avro::Schema;

/// Longer than a look takes; and how many of them a lock is tried.
const INSTANT: Duration = Duration::from_millis(50);
const TRIES: u32 = 10;
/// What a head takes at most, and more.
const HEAD_BYTES: u64 = 64 * 1024;

/// Makes the folder where it is missing and takes its lock, which lasts as long as the file. The folder itself is locked:
/// a lock file could not be made on a full disk.
pub(super) fn own(folder: &Path) -> Result<File, OpenError> {
    let io = |what| move |cause| OpenError::Io { what, folder: folder.to_owned(), cause };
    let made: Vec<&Path> = folder.ancestors().take_while(|above| !above.exists()).collect();
    // What it holds is people's data.
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io("make the folder"))?;
    // Else a crash could take a folder just made, with everything in it.
    for above in made.into_iter().filter_map(Path::parent) {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        sync_folder(above).map_err(io("sync the folder above"))?;
    }
    let file = File::open(folder).map_err(io("open the folder"))?;
    for _ in 0..TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            // Someone who looks whether it is owned holds it for an instant.
            Err(TryLockError::WouldBlock) => std::thread::sleep(INSTANT),
            Err(TryLockError::Error(cause)) => return Err(io("lock the folder")(cause)),
        }
    }
    Err(OpenError::Locked { folder: folder.to_owned() })
}

/// Enters every segment of an earlier process into the ledger; the number for the next one. With `repair`, files that
/// never became segments are removed, and those that nobody can read set aside.
pub(super) fn take_stock(disk: &Arc<dyn Disk>, ledger: &Ledger, repair: bool) -> io::Result<u64> {
    let mut next = 0;
    let mut known = ledger.lock();
    for (name, bytes) in disk.list()? {
        let kept = name.strip_suffix(".damaged").and_then(log::number);
        if let Some(number) = kept.or_else(|| log::number(&name)) {
            next = next.max(number.saturating_add(1));
        }
        if kept.is_some() {
            known.set_aside.push(SetAside { file: name, reason: String::new() });
            continue;
        }
        let Some(number) = log::number(&name) else {
            tracing::warn!(file = name, "a file in the spool's folder is not the spool's; it is left alone");
            continue;
        };
        let read = disk.read(&name, 0, HEAD_BYTES).and_then(|head| match Head::find(&head) {
            Err(NoHead::Unfinished) => Ok(Head::find(&disk.read(&name, 0, bytes)?)),
            found => Ok(found),
        });
        let is_unread = read.is_err();
        let found = match read {
            // Its owner has drained it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !repair => continue,
            // Of two copies one may be in pages that can be read. Never taken for unfinished, which would be removed.
            Err(_) => match disk.salvage(&name, 0, HEAD_BYTES).map(|head| Head::find(&head)) {
                Ok(Ok(found)) => Ok(found),
                Ok(Err(_)) | Err(_) => Err(NoHead::Damaged),
            },
            Ok(found) => found,
        };
        // A head alone holds no event either.
        let found = found.and_then(
            |(head, start)| {
                if start as u64 >= bytes { Err(NoHead::Unfinished) } else { Ok((head, start)) }
            },
        );
        let reason = match found {
            Ok((head, start)) => match Schema::parse(&name, &head.schema) {
                Ok(schema) => {
                    let start = start as u64;
                    let segment = Segment {
                        key: Key { salt: head.salt, schema: Arc::new(schema) },
                        bytes,
                        start,
                        durable: bytes,
                        is_open: false,
                        is_counted: false,
                        next: 0,
                        left: 0,
                        acknowledged: 0,
                        received_at: None,
                        keep: None,
                    };
                    known.segments.insert(number, segment);
                    continue;
                }
                Err(error) => error.to_string(),
            },
            Err(NoHead::Unfinished) => {
                // No event in it was acknowledged: its head was to be durable first.
                tracing::info!(file = name, bytes, "a segment of the spool was not finished when its process ended");
                // A leftover that stays stops no start: nothing reads it, and no segment takes its number.
                if repair && let Err(cause) = disk.remove(&name) {
                    tracing::warn!(%cause, file = name, "it could not be removed");
                }
                continue;
            }
            Err(NoHead::Later(version)) => {
                let reason = format!("written by a later version of the program, form {version}");
                tracing::error!(file = name, reason, "a segment of the spool is left to that version");
                known.set_aside.push(SetAside { file: name, reason });
                continue;
            }
            Err(NoHead::Damaged) if is_unread => {
                let reason = "the disk does not give its head; the next start tries it again".to_owned();
                tracing::error!(file = name, reason, "a segment of the spool cannot be read; it keeps its name");
                known.set_aside.push(SetAside { file: name, reason });
                continue;
            }
            Err(NoHead::Damaged) => "both copies of its head are damaged".to_owned(),
        };
        tracing::error!(file = name, reason, "a segment of the spool cannot be read; it is kept for people to look at");
        let mut file = name.clone();
        if repair {
            // Where it keeps its name it is found again at the next start.
            match disk.rename(&name, &log::aside(number)) {
                Ok(()) => file = log::aside(number),
                Err(cause) => tracing::warn!(%cause, file = name, "it could not be given another name"),
            }
        }
        known.set_aside.push(SetAside { file, reason });
    }
    Ok(next)
}
