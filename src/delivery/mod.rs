//! Records to targets: in order per key, once per record, one bad thing stopping one thing.
//!
//! | | |
//! |---|---|
//! | reads | the record topics of each target, as consumer group `delivery.<target>` |
//! | writes | `attempts`, one row per try; `dead-letters`, one row per record given up; the group's offsets, in the same transactions |
//! | promise | a target sees the records of one key in the order of the topic, retries included; none is left out; a failing record holds its key, a failing target itself |
//! | on failure | a crash, a lost partition or an aborted transaction repeats what was not committed, with the same `webhook-id`; a lost position stops its target |
//! | metrics | `delivery_attempts_total`, `delivery_lag_seconds`, `delivery_parked_keys`, `target_state` |
//!
//! | file | what |
//! |---|---|
//! | `plan` | which record goes next, and how far a position may move; pure |
//! | `window` | the time in which a target as a whole is left alone; pure |
//! | `schedule` | what follows from a try; pure |
//! | `task` | a record as read and decoded |
//! | `attempt` | one try |
//! | `rows` | rows of attempts and dead letters |
//! | `commit` | rows and positions in one transaction |
//! | `worker` | the loop of one target, on a thread of its own |
//! | `intake` | what a worker reads, and looking after what is away |
//! | `state` | what is said of targets |
//! | `run` | all targets side by side |
//!
//! What is not finished is in memory, bounded by `read_ahead`: when that many records wait behind failing heads,
//! reading pauses until one of them goes. Positions stand at the first unfinished record, so a crash repeats what was
//! delivered above it.

mod attempt;
mod commit;
mod error;
mod intake;
mod plan;
mod rows;
mod run;
mod schedule;
mod state;
mod task;
mod window;
mod worker;

pub use error::Error;
pub use run::{Settings, run};
