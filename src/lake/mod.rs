//! Records to Apache Iceberg tables: every row once, and none left out.
//!
//! | | |
//! |---|---|
//! | reads | `received.*` and the record topics, from the positions that the tables hold; `control` |
//! | writes | tables: `events` (every envelope with its evidence) and one for each record topic; `dead-letters`; which tables were made, in `control` |
//! | promise | a table has one row for each record up to its position, whatever crashes, and whoever else writes |
//! | on failure | what is not committed is read again; a table that is not as it was left stops alone and says why |
//! | metrics | `lake_rows_total`, `lake_commit_seconds` |
//!
//! # The protocol
//!
//! ```text
//! topics --> batch --> dead letters, files --> commit: files + next offset of every partition, or neither
//!   ^                                            |
//!   +--------- the table's own position <--------+
//! ```
//!
//! The position stands in the table and moves with the rows, in one swap that the catalog makes atomic. Before each swap
//! the table is loaded and its position compared with the one that the batch began at, and with the snapshots that lead
//! to the table as it is; the swap insists on just the snapshot that was looked at. A writer that was out of date is
//! refused so, on every catalog, and a table that was rolled back under one is not written on. The consumer group decides
//! only which instance tries.
//!
//! # Failure at each step
//!
//! - *Before the swap* nothing of it happened: files that were written belong to no table, and `lake maintain` removes
//!   them when they are old. Dead letters may be written again; each names its record's place.
//! - *The outcome of a swap is unknown* (no answer, a 500): nothing is repeated. The table is loaded anew, and reading
//!   begins where it says. Should the swap arrive later, the next one's fence finds it.
//! - *Another writer was quicker*: the same, and what this one read is dropped.
//! - *The table was dropped, replaced, rolled back or partitioned otherwise; the topic or cluster is another one; records
//!   are gone before they were read*: the table stops with the reason, and is looked at again each minute.
//! - *Kafka, registry, catalog or store are away, the disk is full*: the batch is dropped, and read again later.
//!
//! # Memory
//!
//! What was read is counted in `memory`, to the byte and for all tables, and is at most `lake.memory` and a record of
//! each table. One table at a time becomes files, in `pack`: a chunk of columns, a page and a dictionary of each column,
//! and a file of at most a quarter of `lake.memory`, up to three times. Each table's Kafka client reads ahead a few MiB.
//!
//! | file | what |
//! |---|---|
//! | `schema`, `datum`, `plan`, `sink` | columns of an Avro schema, its tree, and the way of a record into columns: pure |
//! | `position` | how far a table is, and what a table as found says of that: pure |
//! | `batch`, `letters`, `memory` | what was read, what of it does not fit, and what holds it |
//! | `files`, `pack` | rows to files, and the one thread that does it |
//! | `fence`, `commit`, `table` | the catalog that refuses who is out of date; one commit; a table made or found |
//! | `catalog`, `store` | SQL and REST catalogs; local files and S3 |
//! | `maintain`, `rebuild` | old snapshots and files removed; a table made anew |
//! | `compare`, `fingerprint` | two tables compared, by every value of their rows |
//! | `worker`, `tidy`, `board`, `run` | the loop of one table; an idle one moved on; health; all tables side by side |

mod batch;
mod board;
mod catalog;
mod commit;
mod compare;
mod datum;
mod error;
mod fence;
mod files;
mod fingerprint;
mod letters;
mod maintain;
mod memory;
mod pack;
mod plan;
mod position;
mod rebuild;
mod run;
mod schema;
mod sink;
mod store;
mod table;
mod tidy;
mod worker;

pub use compare::Compared;
pub use error::Error;
pub use letters::TARGET;
pub use maintain::{LEAST_ORPHAN_AGE, Maintain, Maintained, maintain};
pub use rebuild::{Rebuilt, rebuild};
pub use run::{Settings, run};
