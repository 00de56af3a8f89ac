//! The router: rows of `received.*` become typed records, each event id once.
//!
//! | | |
//! |---|---|
//! | reads | `received.<source>` of every source (group `router`), `seen.<source>` when it gains a partition |
//! | writes | record topics, `seen.<source>`, `quarantine` and its own offsets, in one transaction per batch |
//! | promise | one event id of one source makes one record, as a read_committed reader sees it (G2); every row ends in one [`crate::outcome::RouterOutcome`] (G3) |
//! | on failure | an aborted batch leaves nothing and is read again; a fenced or broken client starts over from what is committed |
//! | metrics | `ledgerhook_router_events_total`, `ledgerhook_router_restore_seconds` |
//!
//! A row's way: [`run`] collects a batch, `decide` says what becomes of each row (with `mapping` for the record and
//! `dedupe` for what was seen), `batch` makes the outgoing records, and one transaction writes them. The local state is
//! a cache of the compacted `seen` topic: never more than what was committed.

mod batch;
mod decide;
mod dedupe;
mod error;
pub mod mapping;
mod run;

pub use error::Error;
pub use run::{Settings, run};
