//! A table as it should be: made where there is none, given the columns it lacks, refused where it is not what we left.

use std::sync::Arc;

use iceberg::spec::{NullOrder, Schema, SortDirection, SortField, SortOrder, Transform, UnboundPartitionSpec};
use iceberg::table::Table;
use iceberg::transaction::{ApplyTransactionAction as _, Transaction};
use iceberg::{Catalog, ErrorKind, NamespaceIdent, TableCreation, TableIdent};
use uuid::Uuid;

use super::error::Error;
use super::position::{self, Found, Moved, POSITION, Past, Position};
use super::schema::{self, DAY_OF, OFFSET};

/// What a table is for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Name in the namespace.
    pub(super) name: String,
    /// The topics whose records it takes, without prefix.
    pub(super) topics: Vec<String>,
    /// Its columns.
    pub(super) schema: Schema,
}

/// A table that may be written to.
pub(super) struct Opened {
    pub(super) table: Table,
    pub(super) found: Found,
    /// Whether it was made just now.
    pub(super) made: bool,
}

/// Loads the table or makes it. `known` is the one that was there before, by its id: a table that is gone, or another
/// one under its name, is not made good for silently.
///
/// # Errors
/// When the catalog fails, or the table is not as we left it.
pub(super) async fn open(
    catalog: &Arc<dyn Catalog>,
    namespace: &NamespaceIdent,
    wanted: &Wanted,
    known: Option<Uuid>,
    cluster: &str,
) -> Result<Opened, Error> {
    let ident = TableIdent::new(namespace.clone(), wanted.name.clone());
    let stopped = |why: String| Error::Stopped { table: ident.to_string(), why };
    let mut made = false;
    let table = match catalog.load_table(&ident).await {
        Ok(table) => table,
        Err(error) if is_missing(&error) => {
            if let Some(known) = known {
                return Err(stopped(format!(
                    "is gone: it was dropped or renamed by someone else (it had the id {known}). Its rows are not \
                     written a second time unasked: `ledgerhook lake rebuild {} --replace` makes it from what Kafka \
                     still holds",
                    wanted.name
                )));
            }
            made = true;
            create(catalog, &ident, &wanted.schema, cluster).await?
        }
        Err(error) => return Err(Error::catalog(format!("cannot load {ident}"))(error)),
    };
    if let Some(known) = known.filter(|known| *known != table.metadata().uuid()) {
        return Err(stopped(format!(
            "is another table than the one that was written before (id {}, before {known}): it was dropped and made \
             anew by someone else. `ledgerhook lake rebuild {} --replace` sets it aside and makes ours from what Kafka still \
             holds",
            table.metadata().uuid(),
            wanted.name
        )));
    }
    let found = judged(&table).map_err(|moved| stopped(moved.to_string()))?;
    if let Some(why) = misplaced(&table) {
        return Err(stopped(why));
    }
    let table = evolve(catalog, table, &wanted.schema).await?;
    Ok(Opened { table, found, made })
}

/// How far the table is, and what others did since.
///
/// # Errors
/// Why it may not be written to.
pub(super) fn judged(table: &Table) -> Result<Found, Moved> {
    let property = table.metadata().properties().get(POSITION).map(String::as_str);
    position::judge(property, &past(table))
}

/// Whether an error says that there is no such table.
pub(super) fn is_missing(error: &iceberg::Error) -> bool {
    matches!(error.kind(), ErrorKind::TableNotFound | ErrorKind::NamespaceNotFound)
}

/// Makes the table, and its namespace where there is none.
///
/// # Errors
/// When the catalog fails.
pub(super) async fn create(
    catalog: &Arc<dyn Catalog>,
    ident: &TableIdent,
    schema: &Schema,
    cluster: &str,
) -> Result<Table, Error> {
    let failed = || Error::catalog(format!("cannot make {ident}"));
    let mut levels = Vec::new();
    for level in ident.namespace().iter() {
        levels.push(level.clone());
        let namespace = NamespaceIdent::from_vec(levels.clone()).map_err(failed())?;
        if catalog.namespace_exists(&namespace).await.map_err(failed())? {
            continue;
        }
        // Every table's writer does this at the same time, and not every catalog has a name for "already there": SQL's
        // looks before it writes, and says what the database says when another one was quicker.
        if let Err(error) = catalog.create_namespace(&namespace, std::collections::HashMap::new()).await
            && !catalog.namespace_exists(&namespace).await.unwrap_or(false)
        {
            return Err(failed()(error));
        }
    }
    let position = Position { cluster: cluster.to_owned(), ..Position::default() };
    let creation = TableCreation::builder()
        .name(ident.name().to_owned())
        .schema(schema.clone())
        .partition_spec(by_day(schema).map_err(failed())?)
        .sort_order(by_entity(schema).map_err(failed())?)
        .properties([
            (POSITION.to_owned(), position.text()),
            ("write.parquet.compression-codec".to_owned(), "zstd".to_owned()),
            ("write.metadata.delete-after-commit.enabled".to_owned(), "true".to_owned()),
        ])
        .build();
    match catalog.create_table(ident.namespace(), creation).await {
        Ok(table) => Ok(table),
        Err(error) => match catalog.load_table(ident).await {
            // Another writer made it at the same time, or ours was made and the answer lost.
            Ok(table) => Ok(table),
            Err(_) => Err(failed()(error)),
        },
    }
}

fn by_day(schema: &Schema) -> iceberg::Result<UnboundPartitionSpec> {
    let id = schema.field_id_by_name(DAY_OF).unwrap_or_default();
    let spec = UnboundPartitionSpec::builder().with_spec_id(0);
    Ok(spec.add_partition_field(id, format!("{DAY_OF}_day"), Transform::Day)?.build())
}

/// By source and entity, then by place: what files are written in, and what compaction by other engines keeps to.
fn by_entity(schema: &Schema) -> iceberg::Result<SortOrder> {
    let mut order = SortOrder::builder();
    let entity = if schema.field_id_by_name("entity_id").is_some() { "entity_id" } else { "event_id" };
    for id in ["source", entity, OFFSET].into_iter().filter_map(|name| schema.field_id_by_name(name)) {
        order.with_sort_field(
            SortField::builder()
                .source_id(id)
                .transform(Transform::Identity)
                .direction(SortDirection::Ascending)
                .null_order(NullOrder::First)
                .build(),
        );
    }
    order.with_order_id(1).build_unbound()
}

/// Why files of ours would not belong into the table as it is partitioned now.
fn misplaced(table: &Table) -> Option<String> {
    let metadata = table.metadata();
    let day = metadata.current_schema().field_id_by_name(DAY_OF);
    let fits = match metadata.default_partition_spec().fields() {
        [field] => field.transform == Transform::Day && Some(field.source_id) == day,
        _ => false,
    };
    (!fits).then(|| {
        format!(
            "was partitioned otherwise by another engine; files here are by the day of {DAY_OF}. Set that back \
             (Spark: ALTER TABLE ... REPLACE PARTITION FIELD ... WITH days({DAY_OF}))"
        )
    })
}

/// The current snapshot and those before it, as far as they are known, the newest first.
fn past(table: &Table) -> Vec<Past> {
    let metadata = table.metadata();
    let mut past = Vec::new();
    let mut at = metadata.current_snapshot();
    while let Some(snapshot) = at {
        let summary = snapshot.summary();
        past.push(Past {
            id: snapshot.snapshot_id(),
            operation: summary.operation.as_str().to_owned(),
            position: summary.additional_properties.get(POSITION).cloned(),
            has_parent: snapshot.parent_snapshot_id().is_some(),
        });
        at = snapshot.parent_snapshot_id().and_then(|id| metadata.snapshot_by_id(id));
        // Ours is the only one that is looked for.
        if past.last().is_some_and(|last| last.position.is_some()) {
            break;
        }
    }
    past
}

/// Adds the columns that the table lacks.
async fn evolve(catalog: &Arc<dyn Catalog>, table: Table, wanted: &Schema) -> Result<Table, Error> {
    let ident = table.identifier().clone();
    let metadata = table.metadata();
    let stopped = |why: String| Error::Stopped { table: ident.to_string(), why };
    let refused = |unfit: super::error::Unfit| stopped(format!("cannot take today's records: {unfit}"));
    let missing = schema::missing(metadata.current_schema(), wanted).map_err(refused)?;
    if missing.is_empty() {
        return Ok(table);
    }
    // A column that an earlier schema of the table had was taken away or renamed, not new.
    let then = |name: &str| metadata.schemas_iter().any(|schema| schema.field_id_by_name(name).is_some());
    let top = wanted.as_struct().fields().iter().map(|field| field.name.as_str());
    let gone = |name: &&str| metadata.current_schema().field_id_by_name(name).is_none() && then(name);
    if let Some(name) = top.clone().find(gone) {
        return Err(stopped(format!(
            "had a column {name} that another engine dropped or renamed: rows would lose it. Put it back, or choose \
             another `lake.namespace`"
        )));
    }
    tracing::info!(table = %ident, columns = missing.len(), "adding columns that newer records have");
    let failed = || Error::catalog(format!("cannot add columns to {ident}"));
    let tx = Transaction::new(&table);
    let action = missing.into_iter().fold(tx.update_schema(), |action, column| action.add_column(column));
    let tx = action.apply(tx).map_err(failed())?;
    tx.commit(&**catalog).await.map_err(failed())
}
