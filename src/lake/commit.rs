//! One atomic commit: files and the position that they reach, or neither.
//!
//! Its end may be unknown: an answer that did not come, or a 500 after the catalog had done it. Nothing is repeated and
//! no file deleted then. The table is loaded anew, and its position says whether the commit is there; one that arrives
//! later still finds the table's snapshot gone on, or is found by the next commit's fence.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use iceberg::Catalog;
use iceberg::spec::DataFile;
use iceberg::table::Table;
use iceberg::transaction::{ApplyTransactionAction as _, Transaction};
use uuid::Uuid;

use super::fence::{Fenced, is_fenced};
use super::position::{COMMIT, POSITION, Position};

/// Why a commit did not succeed for certain.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommitError {
    /// The table is not where the batch begins. Nothing of the commit is in it, unless a catalog that repeats by itself
    /// had done it and answered with a conflict.
    #[error("{0}")]
    Fenced(iceberg::Error),
    /// It may be in the table or not.
    #[error("the outcome of a commit is unknown: {0}")]
    Unknown(String),
}

/// Adds files to the table and moves its position from one to the other; the table as it is then.
///
/// # Errors
/// See [`CommitError`].
pub(super) async fn commit(
    catalog: &Arc<dyn Catalog>,
    table: &Table,
    id: Uuid,
    files: Vec<DataFile>,
    (from, to): (&Position, &Position),
    timeout: Duration,
) -> Result<Table, CommitError> {
    let fenced = Fenced {
        inner: Arc::clone(catalog),
        table: table.metadata().uuid(),
        schema: table.metadata().current_schema_id(),
        position: from.clone(),
    };
    let ours = [(POSITION, to.text()), (COMMIT, id.to_string())];
    let summary: HashMap<String, String> = ours.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    let made = || -> iceberg::Result<Transaction> {
        let tx = Transaction::new(table);
        // A check for duplicate files would load every manifest at each commit; ours have names of their own.
        let append = tx.fast_append().with_check_duplicate(false).set_commit_uuid(id);
        let tx = append.set_snapshot_properties(summary).add_data_files(files).apply(tx)?;
        let mut properties = tx.update_table_properties();
        for (key, value) in ours {
            properties = properties.set(key.to_owned(), value);
        }
        properties.apply(tx)
    };
    let tx = made().map_err(|error| CommitError::Unknown(error.to_string()))?;
    match tokio::time::timeout(timeout, tx.commit(&fenced)).await {
        Ok(Ok(table)) => Ok(table),
        Ok(Err(error)) if is_fenced(&error) => Err(CommitError::Fenced(error)),
        Ok(Err(error)) => Err(CommitError::Unknown(super::error::told(&error))),
        Err(_) => Err(CommitError::Unknown(format!("no answer within {timeout:?}"))),
    }
}

#[cfg(test)]
mod tests;
