//! What operators do to events and targets: each action and its entry in `audit` are one transaction.
//!
//! | | |
//! |---|---|
//! | reads | `quarantine`, `control`, `seen.<source>` |
//! | writes | `received.<source>` (marked rows, see [`crate::event::Mark`]), `control`, `audit`; markers moved in `seen.<source>` |
//! | promise | nothing is done without an entry that says who did it; what is asked twice is done once, by the router |
//! | on failure | a transaction of at most [`BATCH`] events is whole or nothing; asked again, the rest is done |

mod audit;
pub mod grow;
mod quarantine;
pub mod targets;

pub use audit::actor;
pub use quarantine::{Aside, BATCH, Done, OperateError, Selection, act, bodies, by_reason, waiting};
