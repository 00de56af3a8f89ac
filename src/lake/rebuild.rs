//! A table made anew from what Kafka holds, and compared with the one that is there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use iceberg::table::Table;
use iceberg::{Catalog, TableIdent};
use tokio::runtime::Handle;
use tokio::time::Instant;
use uuid::Uuid;

use super::batch::{Batch, Ways};
use super::commit::commit;
use super::compare::{Begins, Compared, compare};
use super::error::Error;
use super::memory::Memory;
use super::pack::file_bytes;
use super::position::{POSITION, Position, claim, judge};
use super::run::tables;
use super::table::{self, Wanted};
use super::{catalog, files};
use crate::config;
use crate::event::{ControlKind, Timestamp};
use crate::kafka::layout::Ground;
use crate::kafka::produce::Producer;
use crate::kafka::restore::{self, Read};
use crate::kafka::{control, identity};
use crate::topics::CONTROL;

/// Longest silence of Kafka while it is read.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Name of the new table.
    pub table: String,
    /// Its rows.
    pub rows: u64,
    /// Records that do not fit: dead letters already.
    pub unfit: u64,
    /// What was found beside the old table, where there is one.
    pub compared: Option<Compared>,
    /// Name under which the old one stands now, where it was replaced.
    pub set_aside: Option<String>,
}

/// Makes the table `name` anew. With `replace`, or where there is none, it takes the name; otherwise it stands beside.
/// Blocks.
///
/// # Errors
/// When Kafka, registry, catalog or store fail; the new table stays as far as it came.
pub fn rebuild(
    lake: &config::Lake,
    sources: &[String],
    ground: &Arc<Ground>,
    name: &str,
    replace: bool,
    runtime: &Handle,
) -> Result<Rebuilt, Error> {
    let known = tables(sources)?;
    let names = || known.iter().map(|table| table.name.as_str()).collect::<Vec<_>>().join(", ");
    let wanted = known.iter().find(|table| table.name == name);
    let wanted = wanted.ok_or_else(|| Error::Config(format!("no table {name}; there are {}", names())))?.clone();
    let namespace = catalog::namespace(lake)?;
    let now = Timestamp::now().as_millis();
    // A name of its own gives it a place of its own, which no table of the same name will get again.
    let beside = TableIdent::new(namespace.clone(), format!("{name}__{now}"));
    let ident = TableIdent::new(namespace, name.to_owned());
    let catalog = runtime.block_on(catalog::open(lake))?;
    let (table, begins, rows, unfit) = fill(lake, ground, &catalog, &beside, &wanted, runtime)?;
    let mut rebuilt = Rebuilt { table: beside.name().to_owned(), rows, unfit, ..Rebuilt::default() };
    let old = match runtime.block_on(catalog.load_table(&ident)) {
        Ok(old) => Some(old),
        Err(error) if table::is_missing(&error) => None,
        Err(error) => return Err(Error::catalog(format!("cannot load {ident}"))(error)),
    };
    if let Some(old) = &old {
        let compared = runtime.block_on(compare(old, &table, &begins));
        rebuilt.compared = Some(compared.map_err(Error::catalog("cannot compare the tables"))?);
    }
    if replace || old.is_none() {
        let renamed = |what: &TableIdent| Error::catalog(format!("cannot rename {what}"));
        if old.is_some() {
            let aside = TableIdent::new(ident.namespace().clone(), format!("{name}__before_{now}"));
            runtime.block_on(catalog.rename_table(&ident, &aside)).map_err(renamed(&ident))?;
            rebuilt.set_aside = Some(aside.name().to_owned());
        }
        remember(lake, ground, name, table.metadata().uuid(), runtime)?;
        runtime.block_on(catalog.rename_table(&beside, &ident)).map_err(renamed(&beside))?;
        name.clone_into(&mut rebuilt.table);
    }
    Ok(rebuilt)
}

fn fill(
    lake: &config::Lake,
    ground: &Arc<Ground>,
    catalog: &Arc<dyn Catalog>,
    ident: &TableIdent,
    wanted: &Wanted,
    runtime: &Handle,
) -> Result<(Table, Begins, u64, u64), Error> {
    let kafka = |error: &dyn std::fmt::Display| Error::Config(error.to_string());
    let cluster = ground.admin().cluster_id().map_err(|error| kafka(&error))?;
    let identities = identity::read(ground, runtime)?;
    let topics = wanted.topics.iter().map(|topic| {
        let unknown = || Error::Config(format!("topic {topic} has no identity; `ledgerhook topics apply` gives one"));
        Ok((topic.clone(), identities.get(topic).ok_or_else(unknown)?.id))
    });
    let topics = topics.collect::<Result<Vec<_>, Error>>()?;
    let mut table = runtime.block_on(table::create(catalog, ident, &wanted.schema, &cluster))?;
    let stopped = |why: &dyn std::fmt::Display| Error::Stopped { table: ident.to_string(), why: why.to_string() };
    let property = table.metadata().properties().get(POSITION).map(String::as_str);
    let mut from = judge(property, &[]).map_err(|moved| stopped(&moved))?.position;
    let position = claim(from.clone(), &cluster, &topics).map_err(|moved| stopped(&moved))?;
    let mut ways = Ways::new(Arc::clone(&ground.registry));
    let mut batch = Batch::new(position, Memory::new(lake.memory, 1).slabs(0));
    let (mut begins, mut rows, mut unfit) = (Begins::new(), 0, 0);
    for topic in &wanted.topics {
        let short: Arc<str> = topic.as_str().into();
        let found = ground.partitions_of(topic)?;
        let all: BTreeMap<i32, Option<i64>> = found.iter().map(|partition| (partition.number, None)).collect();
        let mut fault = None;
        let failed = std::cell::Cell::new(false);
        let full = ground.cluster.topic(topic);
        let read = restore::read(&ground.cluster, &full, &all, PATIENCE, &|| failed.get(), |read| match read {
            _ if failed.get() => {}
            // Only of what was read before.
            Read::Gone(..) => {}
            Read::Record(record) => {
                begins.entry((topic.clone(), record.partition.number)).or_insert(record.offset);
                let schema = Arc::clone(table.metadata().current_schema());
                let way = runtime.block_on(ways.of(record.value.as_deref(), &schema));
                let taken = way.map_err(|error| kafka(&error)).and_then(|way| {
                    batch.add(&short, record, way, Instant::now());
                    let full = u64::try_from(batch.bytes).unwrap_or(u64::MAX) >= lake.memory.min(lake.commit.bytes);
                    if full || batch.rows.list.len() >= lake.commit.rows {
                        let done = batch.take();
                        write(lake, catalog, &mut table, &mut from, done, (&mut rows, &mut unfit), runtime)?;
                    }
                    Ok(())
                });
                if let Err(error) = taken {
                    fault = Some(error);
                    failed.set(true);
                }
            }
            Read::Ended(number, end) => {
                begins.entry((topic.clone(), number)).or_insert(end);
                if let Some(at) = batch.to.topics.get_mut(topic) {
                    at.next.insert(number, end);
                }
            }
        });
        if let Some(fault) = fault {
            return Err(fault);
        }
        read.map_err(|error| kafka(&error))?;
    }
    write(lake, catalog, &mut table, &mut from, batch, (&mut rows, &mut unfit), runtime)?;
    Ok((table, begins, rows, unfit))
}

fn write(
    lake: &config::Lake,
    catalog: &Arc<dyn Catalog>,
    table: &mut Table,
    from: &mut Position,
    mut batch: Batch,
    (rows, unfit): (&mut u64, &mut u64),
    runtime: &Handle,
) -> Result<(), Error> {
    let id = Uuid::now_v7();
    *rows += u64::try_from(batch.rows.list.len()).unwrap_or(0);
    *unfit += u64::try_from(batch.letters.len()).unwrap_or(0);
    let done = runtime.block_on(async {
        let written = files::write(table, id, &mut batch.rows, file_bytes(lake.memory)).await;
        let written = written.map_err(Error::catalog("cannot write"))?;
        let timeout = lake.catalog.timeout * 3;
        let done = commit(catalog, table, id, written, (from, &batch.to), timeout).await;
        done.map_err(|error| Error::Config(error.to_string()))
    })?;
    *table = done;
    *from = batch.to;
    Ok(())
}

fn remember(lake: &config::Lake, ground: &Ground, name: &str, id: Uuid, runtime: &Handle) -> Result<(), Error> {
    let about = (ControlKind::Lake, format!("{}.{name}", lake.namespace));
    let producer = Producer::new(&ground.cluster, PATIENCE, Duration::ZERO);
    let producer = producer.map_err(|error| Error::Config(error.to_string()))?;
    let encoders = runtime.block_on(ground.encoders())?;
    let encoder = encoders.of(CONTROL).ok_or_else(|| Error::Config("control has no schema".to_owned()))?;
    let said = control::say(&producer, &ground.cluster, encoder, about, "rebuild", id.to_string());
    Ok(runtime.block_on(said)?)
}
