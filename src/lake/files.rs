//! Rows to files: one Parquet file per day of `received_at`, or several near the target size; sorted by source, entity
//! and place in Kafka.
//!
//! A file has one group of rows: the library takes a file's bounds from those groups alone whose bounds are exact, so a
//! file of several could claim bounds that its other rows break.

use std::collections::BTreeMap;
use std::sync::Arc;

use iceberg::spec::{DataFile, DataFileFormat, Literal, PartitionKey, Struct};
use iceberg::table::Table;
use iceberg::writer::base_writer::data_file_writer::DataFileWriterBuilder;
use iceberg::writer::file_writer::ParquetWriterBuilder;
use iceberg::writer::file_writer::location_generator::{DefaultFileNameGenerator, DefaultLocationGenerator};
use iceberg::writer::file_writer::rolling_writer::RollingFileWriterBuilder;
use iceberg::writer::{IcebergWriter as _, IcebergWriterBuilder as _};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use uuid::Uuid;

use super::batch::{Row, Rows};
use super::sink::Sink;

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;
/// Most rows, and about most bytes, of what is turned into columns at a time.
const CHUNK_ROWS: usize = 4096;
const CHUNK_BYTES: usize = 2 << 20;
/// Longest text or bytes that bounds are kept of in a file.
const BOUND_BYTES: usize = 64;
/// Columns whose values are nearly all different and long: neither a dictionary nor bounds are of use.
const BULKY: [&str; 4] = ["body", "attributes", "body_sha256", "evidence.signature_value"];

/// Writes the rows and says which files they are in; each ends at about `file_bytes`, packed. They belong to no table
/// before a commit.
///
/// # Errors
/// When the store fails; files that were finished before stay behind.
pub(super) async fn write(
    table: &Table,
    commit: Uuid,
    rows: &mut Rows,
    file_bytes: usize,
) -> iceberg::Result<Vec<DataFile>> {
    let Rows { list, slabs } = rows;
    list.sort_unstable_by(|a, b| {
        let of = |row: &Row| (row.keys.received_at.div_euclid(DAY), row.partition, row.offset);
        let (a_at, b_at) = (of(a), of(b));
        let (a_datum, b_datum) = (slabs.get(a.place), slabs.get(b.place));
        a_at.0
            .cmp(&b_at.0)
            .then_with(|| a.keys.source.of(a_datum).cmp(b.keys.source.of(b_datum)))
            .then_with(|| a.keys.entity.of(a_datum).cmp(b.keys.entity.of(b_datum)))
            .then_with(|| a.topic.cmp(&b.topic))
            .then_with(|| (a_at.1, a_at.2).cmp(&(b_at.1, b_at.2)))
    });
    let mut days: BTreeMap<i64, &[Row]> = BTreeMap::new();
    for of_day in list.chunk_by(|a, b| a.keys.received_at.div_euclid(DAY) == b.keys.received_at.div_euclid(DAY)) {
        days.extend(of_day.first().map(|row| (row.keys.received_at.div_euclid(DAY), of_day)));
    }
    let metadata = table.metadata();
    let schema = Arc::clone(metadata.current_schema());
    let arrow = Arc::new(iceberg::arrow::schema_to_arrow_schema(&schema)?);
    let names = DefaultFileNameGenerator::new("lh".to_owned(), Some(commit.to_string()), DataFileFormat::Parquet);
    let mut files = Vec::new();
    for (day, rows) in days {
        let parquet = ParquetWriterBuilder::new(properties(&schema)?, Arc::clone(&schema));
        let rolling = RollingFileWriterBuilder::new(
            parquet,
            file_bytes,
            table.file_io().clone(),
            DefaultLocationGenerator::new(metadata)?,
            names.clone(),
        );
        // Days of the years 1 to 9999, which a row was checked for.
        let day = i32::try_from(day).map_err(|_| invalid("a day out of range"))?;
        let spec = metadata.default_partition_spec().as_ref().clone();
        let key = PartitionKey::new(spec, Arc::clone(&schema), Struct::from_iter([Some(Literal::date(day))]));
        let mut writer = DataFileWriterBuilder::new(rolling).build(Some(key)).await?;
        let mut sinks = arrow.fields().iter().map(|field| Sink::new(field.data_type()));
        let mut sinks: Vec<Sink> = sinks.by_ref().collect::<Option<_>>().ok_or_else(|| invalid("a column's type"))?;
        for chunk in chunks(rows) {
            for row in chunk {
                append(row, slabs.get(row.place), &mut sinks)?;
            }
            let columns = sinks.iter_mut().map(Sink::finish).collect::<Result<Vec<_>, _>>();
            let batch = columns.and_then(|columns| arrow_array::RecordBatch::try_new(Arc::clone(&arrow), columns));
            writer.write(batch.map_err(|error| invalid(&error.to_string()))?).await?;
        }
        files.extend(writer.close().await?);
    }
    Ok(files)
}

fn append(row: &Row, datum: &[u8], sinks: &mut [Sink]) -> iceberg::Result<()> {
    let Some([Sink::Text(topic), Sink::Int(partition), Sink::Long(offset)]) = sinks.first_chunk_mut() else {
        return Err(invalid("the table's first columns are not ours"));
    };
    topic.append_value(&row.topic);
    partition.append_value(row.partition);
    offset.append_value(row.offset);
    row.plan.append(datum, sinks).map_err(|unfit| invalid(&unfit.to_string()))
}

fn chunks(rows: &[Row]) -> impl Iterator<Item = &[Row]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |row: &&Row| {
            bytes += row.place.len();
            bytes <= CHUNK_BYTES
        };
        let count = rest.iter().take(CHUNK_ROWS).take_while(fits).count().max(1).min(rest.len());
        let (chunk, after) = rest.split_at(count);
        rest = after;
        (!chunk.is_empty()).then_some(chunk)
    })
}

fn properties(schema: &iceberg::spec::Schema) -> iceberg::Result<WriterProperties> {
    let level = ZstdLevel::try_new(1).map_err(|error| invalid(&error.to_string()))?;
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_statistics_truncate_length(Some(BOUND_BYTES))
        .set_column_index_truncate_length(Some(BOUND_BYTES))
        // In this form, or Parquet's library for Java believes no bounds of texts.
        .set_created_by(format!("ledgerhook version {}", env!("CARGO_PKG_VERSION")));
    for bulky in BULKY.into_iter().filter(|name| schema.field_by_name(name).is_some()) {
        let path = ColumnPath::new(bulky.split('.').map(str::to_owned).collect());
        properties = properties
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_statistics_enabled(path, EnabledStatistics::None);
    }
    Ok(properties.build())
}

fn invalid(what: &str) -> iceberg::Error {
    iceberg::Error::new(iceberg::ErrorKind::DataInvalid, what)
}
