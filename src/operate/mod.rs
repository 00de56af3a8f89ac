//! What operators do to events and targets: each action and its entry in `audit` are one transaction.
//!
//! | | |
//! |---|---|
//! | reads | `quarantine`, `dead-letters`, record topics, `progress.<target>`, `parked.<target>`, `control`, `seen.<source>` |
//! | writes | `received.<source>` (marked rows, see [`crate::event::Mark`]), `redeliver.<target>`, `dead-letters` (rows that settle), `control`, `audit`; markers moved in `seen.<source>` |
//! | promise | nothing is done without an entry that says who did it; what is asked twice is done once, by the router or by the target's idempotency |
//! | on failure | a transaction of at most [`BATCH`] events is whole or nothing; asked again, the rest is done |

mod audit;
pub mod dlq;
mod error;
pub mod grow;
pub mod open;
mod quarantine;
mod read;
pub mod replay;
mod selection;
pub mod targets;
mod write;

pub use audit::actor;
pub use error::OperateError;
pub use quarantine::{Aside, act, bodies, waiting};
pub use selection::Selection;
pub use write::{BATCH, Done};
