//! The one thread that makes files out of rows, for all tables in turn.
//!
//! A file under way takes a multiple of its size: columns, each with a page, a dictionary and a compressor of its own,
//! and the packed pages of all of it, since its rows are one group. With one at a time that is paid once, in one heap.

use iceberg::spec::DataFile;
use iceberg::table::Table;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::batch::Rows;
use super::files;

/// A file ends when it has this part of `lake.memory`, packed: it is there up to three times at its end, as pages, as
/// one piece, and as the piece before that grew.
const PART_OF_MEMORY: u64 = 4;
/// A file ends here in any case: what readers and compaction take for large.
const MOST_FILE: u64 = 512 << 20;

/// Bytes, packed, at which a file ends.
pub(super) fn file_bytes(memory: u64) -> usize {
    usize::try_from((memory / PART_OF_MEMORY).min(MOST_FILE)).unwrap_or(usize::MAX)
}

struct Job {
    table: Table,
    commit: Uuid,
    rows: Rows,
    done: oneshot::Sender<iceberg::Result<Vec<DataFile>>>,
}

/// The way to the thread.
#[derive(Clone)]
pub(super) struct Packer(mpsc::Sender<Job>);

impl Packer {
    /// The way to the thread, and what the thread is to do: it ends with the last of the ways. `memory`: as configured.
    pub(super) fn new(memory: u64, runtime: Handle) -> (Self, impl FnOnce() + Send + 'static) {
        // Each table has one job at most, and waits for it.
        let (to, mut jobs) = mpsc::channel::<Job>(1);
        let work = move || {
            while let Some(Job { table, commit, mut rows, done }) = jobs.blocking_recv() {
                let written = runtime.block_on(files::write(&table, commit, &mut rows, file_bytes(memory)));
                // What the rows took is free before the next ones are turned to.
                drop(rows);
                // Nobody waits any more only when the program is being torn down.
                drop(done.send(written));
            }
        };
        (Self(to), work)
    }

    /// Writes the rows, when it is their turn, and says which files they are in. They belong to no table before a commit.
    ///
    /// # Errors
    /// When the store fails; files that were finished before stay behind.
    pub(super) async fn pack(&self, table: &Table, commit: Uuid, rows: Rows) -> iceberg::Result<Vec<DataFile>> {
        let gone = || iceberg::Error::new(iceberg::ErrorKind::Unexpected, "the thread that writes files is gone");
        let (done, written) = oneshot::channel();
        let job = Job { table: table.clone(), commit, rows, done };
        self.0.send(job).await.map_err(|_| gone())?;
        written.await.map_err(|_| gone())?
    }
}
