//! Both ends of the path, played: the providers that send webhooks, and the business systems that take records.
//!
//! For people who try the program on a laptop, for operators who ask what their installation bears, and for tests that
//! need a counterpart which keeps count. Nothing here is on the path of a real event, and nothing is written to disk.
//!
//! | module | idea |
//! |---|---|
//! | [`fixtures`] | every event type of both providers as a JSON file, and the n-th distinct event made from it |
//! | [`send`](mod@send) | `ledgerhook send`: a provider with its signature, its timeout and its retry schedule |
//! | [`report`] | what was answered, and how fast |
//! | [`sandbox`](mod@sandbox) | `ledgerhook sandbox`: a target that honours idempotency and fails on demand |

pub mod fixtures;
mod histogram;
mod random;
pub mod report;
pub mod sandbox;
pub mod send;

pub use report::SendReport;
pub use sandbox::{SandboxError, sandbox};
pub use send::{SendError, SendPlan, dry_run, send};
