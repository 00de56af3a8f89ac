//! What a target is: how a record becomes requests, who we are to it, where it may go, what its answers mean.
//!
//! | file | what |
//! |---|---|
//! | `template` | templates, strict about what is not there; JSON that is built, not pasted |
//! | `preset` | a description, compiled: steps, look-up, our id |
//! | `filter` | which records the user wants sent |
//! | `request` | a record as a request |
//! | `rules` | what a description says that answers mean |
//! | `classify` | what status, headers and faults mean without one: a pure function |
//! | `limits` | what its headers say of a limit: a pure function |
//! | `idempotency` | what a target offers against a second document |
//! | `access` | who we are: secrets in headers, OAuth 2, sessions |
//! | `sign` | the Standard Webhooks signature |
//! | `veil` | takes secrets out of what a target says |
//! | `guard` | the addresses that a target may stand at |
//! | `proxy` | the way by a proxy, and what of the guard holds there |
//! | `wire` | one HTTP exchange, bounded in time and size; the only file that sends |
//! | `client` | all of them together, for one target |
//! | `deliver` | one try: look-up, steps, proof |
//! | `trial` | what would be sent, and whether we are let in |
//!
//! It knows one try and nothing of order, repeats or Kafka: those are delivery's.

mod access;
mod classify;
mod client;
mod deliver;
mod filter;
mod guard;
mod idempotency;
mod limits;
mod preset;
mod proxy;
mod request;
mod rules;
mod sign;
mod template;
mod trial;
mod veil;
mod wire;

pub use classify::{Fault, MAX_RETRY_AFTER, Reason, Scope, Verdict, of_answer, of_fault};
pub use client::{Answer, Client, ClientError};
pub use guard::{AddressRefused, Guard};
pub use idempotency::Idempotency;
pub use request::Prepared;
pub use sign::{SigningKey, SigningKeyError};
pub use template::TemplateError;
pub use trial::{Shown, Trial};
