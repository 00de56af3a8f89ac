//! Where events are: reads the topics, puts one event's life together, and closes both ledgers.
//!
//! | | |
//! |---|---|
//! | reads | `received`, `seen`, record topics, `quarantine`, `attempts`, `dead-letters`, `parked.<target>`, `progress.<target>`, spools and topics' identities in `control`, the routers' offsets |
//! | writes | nothing |
//! | promise | what it shows is committed and complete up to the moment it was asked; a fault that it names was there in two passes |
//!
//! `source` and `target` are the ledgers, pure; `state` says how a record ended at a target, for both uses.

mod error;
mod fault;
mod reconcile;
mod report;
mod rows;
mod source;
mod state;
mod sums;
mod target;
mod trace;

pub use error::LedgerError;
pub use fault::Fault;
pub use reconcile::reconcile;
pub use report::{Held, Report, Scope, Target};
pub use sums::{SourceSums, Span, TargetSums};
pub use trace::{Standing, Trace, spooled, trace};
