//! The router: rows of `received.*` become typed records, each event id once.
//!
//! | | |
//! |---|---|
//! | reads | `received.<source>` of every source (group `router`), `seen.<source>` when it gains a partition |
//! | writes | record topics, `seen.<source>`, `quarantine` and its own offsets, in one transaction per batch |
//! | promise | one event id of one source makes one record, as a read_committed reader sees it (G2); every row ends in one [`crate::outcome::RouterOutcome`] (G3) |
//! | on failure | an aborted batch leaves nothing and is read again; a fenced or broken client starts over from what is committed; a store that is damaged or of other topics is set aside and read again from `seen` |
//! | metrics | `ledgerhook_router_events_total`, `ledgerhook_router_restore_seconds` |
//!
//! A row's way: `serve` collects a batch, `decide` says what becomes of each row (with `mapping` for the record and
//! `state` for what was seen), `batch` makes the outgoing records, and `write` puts them into one transaction.
//! A row whose schema the registry has not told yet is kept in `hold`, and its partition waits. One that stands in another
//! partition than its id's marker would is passed on (`places`), in the same transaction as all else.
//!
//! # Why it is once
//!
//! - Record, marker in `seen`, and offset of a row are one transaction: all of them or none.
//! - The broker takes offsets only from the generation that the batch was read in ([`crate::kafka::group`]); a member that
//!   was replaced aborts. No transaction is open while partitions are given back.
//! - The state is a cache of `seen`: never more than what was committed, and for a partition just gained brought to its
//!   true end before the first row is read (`refill`, [`crate::kafka::restore`]). The order matters: first the committed
//!   offset, which the broker withholds while a transaction over it is undecided; then the end of `seen`; so every marker
//!   of a row before that offset is known.
//! - On disk it holds, in the same batch as its ids, the offset of `seen` that they reflect. After a crash in between,
//!   the tail is read again. It is only opened for the very topics it was made for.
//!
//! That this order of steps keeps the promise through crashes, zombies and rebalances is checked on a `model` of it.

mod batch;
mod decide;
mod error;
mod hold;
pub mod mapping;
#[cfg(test)]
mod model;
mod open;
mod places;
mod refill;
mod run;
mod serve;
mod state;
mod write;

pub use error::Error;
pub use run::{Settings, run};
