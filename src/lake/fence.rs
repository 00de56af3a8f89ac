//! A catalog that lets a commit through only where the table is as far as its writer believes.
//!
//! The library commits like this: load the table; put the changes on what was loaded; ask the catalog to swap, provided
//! that the table still has that snapshot; on a conflict begin again. So a writer that was out of date would be moved to
//! the newest table and add its rows to it once more. Here the load itself fails where the position is another one, and
//! where the table is no longer as its position says (rolled back under a running writer: the property stays, the rows
//! are gone) or has other columns than the files were written for: what was looked at is just what the swap insists on,
//! and nothing can come between.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use iceberg::table::Table;
use iceberg::{Catalog, Error, ErrorKind, Namespace, NamespaceIdent, Result, TableCommit, TableCreation, TableIdent};
use uuid::Uuid;

use super::position::Position;
use super::table;

/// A catalog for one commit.
#[derive(Debug)]
pub(super) struct Fenced {
    pub(super) inner: Arc<dyn Catalog>,
    /// The table that is meant, whatever it is called.
    pub(super) table: Uuid,
    /// The schema that its files were written for.
    pub(super) schema: i32,
    /// The position that the commit starts from.
    pub(super) position: Position,
}

/// Kind of the error that says so. The library makes none of this kind in a commit of ours.
const FENCED: ErrorKind = ErrorKind::PreconditionFailed;

/// Whether a commit was refused for what the table is by now.
pub(super) fn is_fenced(error: &Error) -> bool {
    error.kind() == FENCED && error.message().starts_with("fenced:")
}

#[async_trait]
impl Catalog for Fenced {
    async fn load_table(&self, table: &TableIdent) -> Result<Table> {
        let loaded = self.inner.load_table(table).await?;
        let fenced = |why: String| Error::new(FENCED, format!("fenced: {table} {why}"));
        if loaded.metadata().uuid() != self.table {
            return Err(fenced("is another table by now".to_owned()));
        }
        let found = table::judged(&loaded).map_err(|moved| fenced(moved.to_string()))?;
        if found.position != self.position {
            let (at, from) = (found.position.text(), self.position.text());
            return Err(fenced(format!("is at {at}, and the batch begins at {from}")));
        }
        let schema = loaded.metadata().current_schema_id();
        if schema != self.schema {
            return Err(fenced(format!("has schema {schema} by now, and the files are of schema {}", self.schema)));
        }
        Ok(loaded)
    }

    async fn update_table(&self, commit: TableCommit) -> Result<Table> {
        crate::lifecycle::failpoint("lake.before_commit");
        let updated = self.inner.update_table(commit).await;
        crate::lifecycle::failpoint("lake.after_commit");
        updated
    }

    async fn list_namespaces(&self, parent: Option<&NamespaceIdent>) -> Result<Vec<NamespaceIdent>> {
        self.inner.list_namespaces(parent).await
    }
    async fn create_namespace(&self, name: &NamespaceIdent, of: HashMap<String, String>) -> Result<Namespace> {
        self.inner.create_namespace(name, of).await
    }
    async fn get_namespace(&self, name: &NamespaceIdent) -> Result<Namespace> {
        self.inner.get_namespace(name).await
    }
    async fn namespace_exists(&self, name: &NamespaceIdent) -> Result<bool> {
        self.inner.namespace_exists(name).await
    }
    async fn update_namespace(&self, name: &NamespaceIdent, to: HashMap<String, String>) -> Result<()> {
        self.inner.update_namespace(name, to).await
    }
    async fn drop_namespace(&self, name: &NamespaceIdent) -> Result<()> {
        self.inner.drop_namespace(name).await
    }
    async fn list_tables(&self, of: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        self.inner.list_tables(of).await
    }
    async fn create_table(&self, of: &NamespaceIdent, table: TableCreation) -> Result<Table> {
        self.inner.create_table(of, table).await
    }
    async fn drop_table(&self, table: &TableIdent) -> Result<()> {
        self.inner.drop_table(table).await
    }
    async fn purge_table(&self, table: &TableIdent) -> Result<()> {
        self.inner.purge_table(table).await
    }
    async fn table_exists(&self, table: &TableIdent) -> Result<bool> {
        self.inner.table_exists(table).await
    }
    async fn rename_table(&self, from: &TableIdent, to: &TableIdent) -> Result<()> {
        self.inner.rename_table(from, to).await
    }
    async fn register_table(&self, table: &TableIdent, at: String) -> Result<Table> {
        self.inner.register_table(table, at).await
    }
}
