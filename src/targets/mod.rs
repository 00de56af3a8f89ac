//! What a target is: how a record becomes a request, how it is signed, where it may go, what an answer means.
//!
//! | file | what |
//! |---|---|
//! | `request` | a record as a request |
//! | `sign` | the Standard Webhooks signature |
//! | `guard` | the addresses that a target may stand at |
//! | `idempotency` | what it offers against a second document |
//! | `client` | one HTTP exchange, bounded in time and size; the only file that sends |
//! | `classify` | what status, headers and faults mean: a pure function |
//!
//! It knows one try and nothing of order, repeats or Kafka: those are delivery's.

mod classify;
mod client;
mod guard;
mod idempotency;
mod request;
mod sign;

pub use classify::{Fault, MAX_RETRY_AFTER, Reason, Scope, Verdict, of_answer, of_fault};
pub use client::{Answer, Client, ClientError};
pub use guard::{AddressRefused, Guard};
pub use idempotency::Idempotency;
pub use request::Request;
pub use sign::{SigningKey, SigningKeyError};
