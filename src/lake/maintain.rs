//! Keeping tables small: old snapshots expired, files that belong to nothing removed.
//!
//! A file is removed when no snapshot that is left, nor the table's own bookkeeping, names it, and it is older than a
//! bound. The bound is what protects a commit under way, also one whose outcome is unknown and that may yet arrive: its
//! files are younger. Files are listed first and the table loaded after, so that what was committed in between counts.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use iceberg::table::Table;
use iceberg::transaction::{ApplyTransactionAction as _, Transaction};
use iceberg::{Catalog, TableIdent};

use super::catalog;
use super::error::Error;
use super::position::POSITION;
use super::store::Store;
use crate::config;

/// The least age of a file that may be removed: far beyond any commit's time.
pub const LEAST_ORPHAN_AGE: Duration = Duration::from_secs(3600);

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub struct Maintain {
    /// Snapshots older than this are expired, all but the newest.
    pub snapshots_older_than: Duration,
    /// How many of the newest snapshots stay in any case.
    pub keep: usize,
    /// Files older than this that belong to nothing are removed; at least [`LEAST_ORPHAN_AGE`].
    pub orphans_older_than: Duration,
    /// Whether to say what would be done and do nothing.
    pub dry_run: bool,
}

/// What was done to one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintained {
    /// Its name.
    pub table: String,
    /// Snapshots expired.
    pub snapshots: usize,
    /// Files removed, or to be removed.
    pub files: usize,
    /// Why files were let be.
    pub note: Option<String>,
}

/// Maintains every table of ours in the namespace.
///
/// # Errors
/// When catalog or store fail; what was done to tables before stays done.
pub async fn maintain(lake: &config::Lake, how: Maintain) -> Result<Vec<Maintained>, Error> {
    let catalog = catalog::open(lake).await?;
    let namespace = catalog::namespace(lake)?;
    let mut idents = catalog.list_tables(&namespace).await.map_err(Error::catalog("cannot list tables"))?;
    idents.sort();
    let mut tables = Vec::new();
    for ident in idents {
        tables.push(load(&catalog, &ident).await?);
    }
    let places: Vec<String> = tables.iter().map(|table| plain(table.metadata().location())).collect();
    let mut done = Vec::new();
    for table in tables.into_iter().filter(|table| table.metadata().properties().contains_key(POSITION)) {
        let ident = table.identifier().clone();
        let before = table.metadata().snapshots().len();
        let table = if how.dry_run { table } else { expire(&catalog, table, how).await? };
        let snapshots = before - table.metadata().snapshots().len();
        let place = plain(table.metadata().location());
        let shared = places.iter().filter(|other| inside(other, &place) || inside(&place, other)).count() > 1;
        let (files, note) = if shared {
            (0, Some("another table lies in the same place: files are let be".to_owned()))
        } else {
            (remove_orphans(lake, &catalog, &ident, table.metadata().location(), how).await?, None)
        };
        done.push(Maintained { table: ident.name().to_owned(), snapshots, files, note });
    }
    Ok(done)
}

async fn load(catalog: &Arc<dyn Catalog>, ident: &TableIdent) -> Result<Table, Error> {
    catalog.load_table(ident).await.map_err(Error::catalog(format!("cannot load {ident}")))
}

fn ago(time: Duration) -> i64 {
    crate::event::Timestamp::now().as_millis() - i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

async fn expire(catalog: &Arc<dyn Catalog>, table: Table, how: Maintain) -> Result<Table, Error> {
    let failed = Error::catalog(format!("cannot expire snapshots of {}", table.identifier()));
    let tx = Transaction::new(&table);
    let action = tx.expire_snapshots().expire_older_than_ms(ago(how.snapshots_older_than)).retain_last(how.keep.max(1));
    let expired = async { action.apply(tx)?.commit(&**catalog).await };
    expired.await.map_err(failed)
}

async fn remove_orphans(
    lake: &config::Lake,
    catalog: &Arc<dyn Catalog>,
    ident: &TableIdent,
    location: &str,
    how: Maintain,
) -> Result<usize, Error> {
    let bound = ago(how.orphans_older_than.max(LEAST_ORPHAN_AGE));
    let store: Store = catalog::store(lake)?;
    let listed = store.list(location).await.map_err(Error::catalog(format!("cannot list the files of {ident}")))?;
    let table = load(catalog, ident).await?;
    let used = references(&table).await.map_err(Error::catalog(format!("cannot read what {ident} is made of")))?;
    let orphans: Vec<String> = listed
        .into_iter()
        .filter(|file| file.modified_ms < bound && !used.contains(&plain(&file.url)))
        .map(|file| file.url)
        .collect();
    if !how.dry_run {
        for url in &orphans {
            table.file_io().delete(url).await.map_err(Error::catalog(format!("cannot remove {url}")))?;
        }
    }
    Ok(orphans.len())
}

/// Every file that the table names, in the plain form.
async fn references(table: &Table) -> iceberg::Result<HashSet<String>> {
    let metadata = table.metadata();
    let mut used: HashSet<String> = metadata.metadata_log().iter().map(|log| plain(&log.metadata_file)).collect();
    used.extend(table.metadata_location().map(plain));
    used.extend(metadata.statistics_iter().map(|file| plain(&file.statistics_path)));
    used.extend(metadata.partition_statistics_iter().map(|file| plain(&file.statistics_path)));
    for snapshot in metadata.snapshots() {
        used.insert(plain(snapshot.manifest_list()));
        for manifest in table.manifest_list_reader(snapshot).load().await?.entries() {
            // Snapshots share manifests.
            if used.insert(plain(&manifest.manifest_path)) {
                let entries = manifest.load_manifest(table.file_io()).await?;
                // One that a rewrite took away is named for the record only: snapshots that still need it name it themselves.
                let live = entries.entries().iter().filter(|entry| entry.is_alive());
                used.extend(live.map(|entry| plain(entry.file_path())));
            }
        }
    }
    Ok(used)
}

/// A URL as a place alone: engines write `file:/a` and `file:///a`, `s3a://b` and `s3://b`.
fn plain(url: &str) -> String {
    let rest = url.split_once(':').map_or(url, |(_, rest)| rest);
    format!("/{}", rest.trim_start_matches('/').trim_end_matches('/'))
}

fn inside(place: &str, folder: &str) -> bool {
    place == folder || place.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_one_form() {
        for (url, place) in [
            ("file:///a/b", "/a/b"),
            ("file:/a/b/", "/a/b"),
            ("/a/b", "/a/b"),
            ("s3a://bucket/k", "/bucket/k"),
            ("s3://bucket/k", "/bucket/k"),
        ] {
            assert_eq!(plain(url), place);
        }
        assert!(inside("/a/b", "/a") && inside("/a", "/a") && !inside("/ab", "/a"));
    }
}
