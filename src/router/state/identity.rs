//! What a store of ids belongs to, written beside it: with other topics its ids would stop the wrong events.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::error::StoreError;
use crate::avro;
use crate::event::Sha256;

/// Layout of the store: raised where old bytes would be misread.
const FORMAT: u32 = 1;
const FILE: &str = "identity";

/// What a store belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::router) struct Identity(String);

impl Identity {
    /// The store of `topic` (Kafka's name) with this identity and number of partitions, on this cluster.
    pub(in crate::router) fn new(cluster: &str, topic: &str, identity: &str, partitions: usize) -> Self {
        let schema = avro::source("Seen").map(|text| Sha256::of(text.as_bytes()).to_string()).unwrap_or_default();
        Self(format!(
            "format {FORMAT}, schema {schema}, cluster {cluster}, topic {topic} {identity}, {partitions} partitions\n"
        ))
    }

    /// Finds the folder to be of this identity, or new.
    ///
    /// # Errors
    /// `Foreign` where it is another's; `Io`.
    pub(super) fn claim(&self, folder: &Path) -> Result<(), StoreError> {
        let io = |cause| StoreError::Io { folder: folder.to_owned(), cause };
        let file = folder.join(FILE);
        match fs::read(&file) {
            Ok(is) if is == self.0.as_bytes() => Ok(()),
            Ok(is) => Err(StoreError::Foreign {
                folder: folder.to_owned(),
                is: String::from_utf8_lossy(&is).trim().chars().take(500).collect(),
                should: self.0.trim().to_owned(),
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // Ids without an identity: nobody knows whose.
                if folder.join("ids").exists() {
                    return Err(StoreError::damaged(folder, &"it has no identity"));
                }
                fs::create_dir_all(folder).map_err(io)?;
                fs::write(&file, &self.0).map_err(io)
            }
            Err(error) => Err(io(error)),
        }
    }
}

/// Says what a longer window than the last one means: what the shorter one let go is gone.
///
/// # Errors
/// `Io`.
pub(super) fn window(folder: &Path, window: Duration) -> Result<(), StoreError> {
    let io = |cause| StoreError::io(folder, cause);
    let file = folder.join("window");
    let seconds = window.as_secs();
    match fs::read_to_string(&file).ok().and_then(|text| text.trim().parse::<u64>().ok()) {
        Some(last) if last == seconds => return Ok(()),
        Some(last) if last < seconds => tracing::warn!(
            folder = %folder.display(),
            "dedupe_window was {}s and is {seconds}s now: ids older than {}s at this moment may be forgotten already, so the longer window holds in full for events from now on",
            last, last
        ),
        _ => {}
    }
    fs::write(&file, seconds.to_string()).map_err(io)
}

/// Moves a store out of the way, for people to look at; one that was set aside earlier is deleted for it.
///
/// # Errors
/// `Io`.
pub(in crate::router) fn set_aside(folder: &Path) -> Result<(), StoreError> {
    let io = |cause| StoreError::Io { folder: folder.to_owned(), cause };
    let mut aside = folder.as_os_str().to_owned();
    aside.push(".set-aside");
    match fs::remove_dir_all(&aside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    match fs::rename(folder, &aside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(error)),
        _ => Ok(()),
    }
}
