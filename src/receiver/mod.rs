//! The receiver: HTTP -> `received.<source>`.
//!
//! - **Reads** webhooks posted to the sources' paths: HTTP/1.1 and HTTP/2, by TLS with or without a client's certificate,
//!   or plain behind a proxy.
//! - **Writes** one [`Envelope`](crate::event::Envelope) per verified request to `received.<source>`, key `event_id`;
//!   what its spool holds to `control`.
//! - **Promises** that a 2xx goes out only once the event is durable, and an answer always before the provider's own
//!   deadline; that nothing is parsed or written before a signature is proved; that a reload of the configuration drops
//!   no request.
//! - **On failure** of Kafka, or without its acknowledgement within the source's `ack_budget_percent`, the event goes to
//!   the [spool](crate::spool) and is answered 200; while Kafka is known to be away, at once. Neither topics nor schemas
//!   have to be seen for that. The spool drains to Kafka in its own order; an event of a source that is configured no
//!   more waits there for it, with all behind it. Where it is full or fails too, the answer is
//!   503 with `Retry-After`: the provider sends the event again. An event may come to Kafka by both ways; the router
//!   takes it once.
//! - **A crash** loses what was not answered; the provider repeats that.
//! - **Metrics** `ledgerhook_receiver_requests_total`, `ledgerhook_receiver_ack_seconds`, `ledgerhook_receiver_direct`,
//!   `ledgerhook_receiver_connections`, `ledgerhook_receiver_connections_evicted_total`, `ledgerhook_spool_events`,
//!   `ledgerhook_spool_bytes`, `ledgerhook_spool_set_aside_files`, `ledgerhook_loss_horizon_seconds`,
//!   `ledgerhook_signature_matches_total`. Who was refused and why is kept for a while in
//!   [`RejectedRequests`](crate::telemetry::RejectedRequests), and nowhere else.
//!
//! | file | idea |
//! |---|---|
//! | `routes` | every path, and the order of checks that a request goes through |
//! | `live` | what requests are judged by, replaced as a whole by a reload |
//! | `forwarded` | for whom a trusted proxy forwards (pure) |
//! | `body` | a body read within bounds of size and time |
//! | `request` | `RawRequest` -> [`Verified`]: who sent it |
//! | `extract` | id, type, time and test marks, out of a verified body (pure) |
//! | `members` | a JSON object whose repeated members are known (pure) |
//! | `evidence` | [`Verified`] -> envelope: what an auditor needs (pure) |
//! | `trace` | `traceparent`, taken or made (pure) |
//! | `publish` | where an event becomes durable: Kafka, or the spool |
//! | `lane` | one source's way to Kafka, and how long it may take |
//! | `durable` | where that was, or why nowhere |
//! | `meters` | what is counted of every event |
//! | `breaker` | whether Kafka works now (pure) |
//! | `horizon` | how long until a provider gives up what could not be taken (pure) |
//! | `drain` | from the spool to Kafka |
//! | `record` | an envelope as a record (pure) |
//! | `keep` | the spool's life beside the receiver's |
//! | `report` | the spool's state in `control` |
//! | `answer` | answers as the contract has them |
//! | `strangers` | what is counted of connections, and of what is no request |
//! | `sparing` | a bound on log lines that strangers can cause |
//! | `run` | all of it together: start, readiness, shutdown |

mod answer;
mod body;
mod breaker;
mod drain;
mod durable;
mod error;
pub mod evidence;
pub mod extract;
pub mod forwarded;
mod horizon;
mod keep;
mod lane;
mod live;
mod members;
mod meters;
mod publish;
mod record;
mod report;
mod request;
mod routes;
mod run;
mod sparing;
mod strangers;
mod trace;

pub use drain::{DrainError, drain};
pub use error::Error;
pub use live::Live;
pub use request::{RawRequest, Verified};
pub use run::{Settings, run};
