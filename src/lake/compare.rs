//! Two tables compared row by row, by the place of each row in Kafka and every value that it has.

use std::collections::HashMap;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{ArrayRef, RecordBatch};
use futures::TryStreamExt as _;
use iceberg::metadata_columns::RESERVED_FIELD_ID_FILE;
use iceberg::scan::{ArrowRecordBatchStream, FileScanTask};
use iceberg::spec::SchemaRef;
use iceberg::table::Table;
use iceberg::{Error, ErrorKind};

use super::fingerprint::{Shape, common, fingerprints};
use super::position::{POSITION, Past, judge};
use super::schema::{OFFSET, PARTITION, TOPIC};

/// Rows that are read at a time: a body may have a MiB.
const ROWS_AT_ONCE: usize = 64;

/// Two tables, row by row, by the place in Kafka; as far as both reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Rows in both, and the same.
    pub same: u64,
    /// Rows in both that differ in a column that both have.
    pub differ: u64,
    /// Rows that the old one lacks below its position.
    pub missing: u64,
    /// Rows that the old one has more than once.
    pub double: u64,
    /// Rows that the old one has, and Kafka still, but the new one not.
    pub surplus: u64,
    /// Rows of the old one that Kafka no longer holds.
    pub older: u64,
}

impl Compared {
    /// Whether the old table is right as far as Kafka can tell.
    #[must_use]
    pub const fn is_right(&self) -> bool {
        self.differ == 0 && self.missing == 0 && self.double == 0 && self.surplus == 0
    }
}

/// Where each partition of each topic began when it was read.
pub(super) type Begins = HashMap<(String, i32), i64>;

/// What the old table is beside the new one. Of the rows only hashes are held.
///
/// # Errors
/// When a table cannot be read.
pub(super) async fn compare(old: &Table, new: &Table, begins: &Begins) -> iceberg::Result<Compared> {
    let columns = common(old.metadata().current_schema(), new.metadata().current_schema());
    let mut compared = Compared::default();
    // Rows of the new one by place, with how often the old one has them.
    let mut places: HashMap<(String, i32, i64), (u64, u32)> = HashMap::new();
    scan(new, &columns, |topic, partition, offset, print| {
        places.insert((topic.to_owned(), partition, offset), (print, 0));
    })
    .await?;
    scan(old, &columns, |topic, partition, offset, print| {
        let place = (topic.to_owned(), partition, offset);
        match places.get_mut(&place) {
            Some((_, times)) if *times > 0 => compared.double += 1,
            Some((same, times)) => {
                *times += 1;
                if *same == print { compared.same += 1 } else { compared.differ += 1 }
            }
            None if begins.get(&(place.0, partition)).is_some_and(|begins| offset >= *begins) => compared.surplus += 1,
            None => compared.older += 1,
        }
    })
    .await?;
    let property = old.metadata().properties().get(POSITION).map(String::as_str);
    let reached = judge(property, &[]).or_else(|_| judge(property, &past_of(property))).map(|found| found.position);
    if let Ok(reached) = reached {
        let below = |(topic, partition, offset): &(String, i32, i64)| {
            reached.next(topic, *partition).is_some_and(|next| *offset < next)
        };
        let missing = places.iter().filter(|(place, (_, times))| *times == 0 && below(place)).count();
        compared.missing = u64::try_from(missing).unwrap_or(u64::MAX);
    }
    Ok(compared)
}

/// The position itself, whatever the snapshots say: a table that was rolled back lacks the rows below it.
fn past_of(property: Option<&str>) -> Vec<Past> {
    let position = property.map(str::to_owned);
    vec![Past { id: 0, operation: "append".to_owned(), position, has_parent: false }]
}

/// Calls `each` with topic, partition, offset and fingerprint of every row.
async fn scan(
    table: &Table,
    columns: &[(String, Shape)],
    mut each: impl FnMut(&str, i32, i64, u64),
) -> iceberg::Result<()> {
    let schema = table.metadata().current_schema();
    let ids: Vec<i32> = columns.iter().map(|(name, _)| schema.field_id_by_name(name).unwrap_or_default()).collect();
    let mut files = table.scan().build()?.plan_files().await?;
    while let Some(file) = files.try_next().await? {
        let mut opened = open(table, &ids, file).await?;
        while let Some(rows) = opened.next.take() {
            let column = |at: usize| opened.ids.iter().position(|id| ids.get(at) == Some(id)).map(|at| rows.column(at));
            let shapes = columns.iter().enumerate().map(|(at, (_, shape))| (shape, column(at)));
            let prints = fingerprints(rows.num_rows(), shapes)?;
            let named = |name: &str| columns.iter().position(|column| column.0 == name).and_then(column);
            let (topics, partitions, offsets) = (named(TOPIC), named(PARTITION), named(OFFSET));
            let topics = topics.and_then(|column: &ArrayRef| column.as_string_opt::<i32>()).ok_or_else(unplaced)?;
            let partitions = partitions.and_then(|column| column.as_primitive_opt::<Int32Type>());
            let offsets = offsets.and_then(|column| column.as_primitive_opt::<Int64Type>());
            let (partitions, offsets) = (partitions.ok_or_else(unplaced)?, offsets.ok_or_else(unplaced)?);
            for (row, print) in prints.into_iter().enumerate() {
                each(topics.value(row), partitions.value(row), offsets.value(row), print);
            }
            opened.next = opened.rest.try_next().await?;
        }
    }
    Ok(())
}

fn unplaced() -> Error {
    Error::new(ErrorKind::DataInvalid, format!("a table without {TOPIC}, {PARTITION} and {OFFSET} as we write them"))
}

/// A file that is read.
struct Opened {
    /// The columns that it has, by their ids.
    ids: Vec<i32>,
    next: Option<RecordBatch>,
    rest: ArrowRecordBatchStream,
}

/// Begins to read columns of a file. The library makes null of a plain column that a file is older than, but not of a
/// list, nor of a member in one: such a file is read as a table of an earlier schema would be.
async fn open(table: &Table, ids: &[i32], file: FileScanTask) -> iceberg::Result<Opened> {
    let metadata = table.metadata();
    let current = metadata.current_schema();
    let mut earlier: Vec<&SchemaRef> =
        metadata.schemas_iter().filter(|schema| schema.schema_id() != current.schema_id()).collect();
    earlier.sort_by_key(|schema| std::cmp::Reverse(schema.schema_id()));
    let mut failed = None;
    for schema in std::iter::once(current).chain(earlier) {
        let ids: Vec<i32> = ids.iter().copied().filter(|id| schema.as_struct().field_by_id(*id).is_some()).collect();
        // Where number and types of columns agree, the library takes them for what stands at their places in the file,
        // whatever their ids. With the file's name, which is in none, they never do.
        let project_field_ids = ids.iter().copied().chain([RESERVED_FIELD_ID_FILE]).collect();
        let task = FileScanTask { schema: schema.clone(), project_field_ids, ..file.clone() };
        // One file at a time, and little of it: all columns of a row are much more than its place.
        let reader = table.reader_builder().with_data_file_concurrency_limit(1).with_batch_size(ROWS_AT_ONCE).build();
        let mut rest = reader.read(Box::pin(futures::stream::iter([Ok(task)])))?.stream();
        match rest.try_next().await {
            Ok(next) => return Ok(Opened { ids, next, rest }),
            // What is wrong with today's schema says most.
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    Err(failed.unwrap_or_else(unplaced))
}
