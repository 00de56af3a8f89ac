//! Ledgerhook: business webhooks become durable records on Kafka that reach their systems of record once.
//!
//! # The path of an event
//!
//! ```text
//! provider --HTTP--> receiver --> received.<source> --> router --> record topics --> delivery --> targets
//!                       |            ^                    |-> seen.<source>            |-> attempts
//!                       \-> spool ---/                    \-> quarantine               \-> dead-letters
//! ```
//!
//! | stage | reads | writes | promise | what a crash does |
//! |---|---|---|---|---|
//! | [`receiver`] | HTTP | `received.<source>`, or the [`spool`] on its disk until Kafka takes it | a 200 is durable (G1), nothing unverified is written (G8) | unanswered requests are repeated by the provider; the spool is read again |
//! | [`router`] | `received`, `seen` | records, `seen`, `quarantine`, offsets: one transaction | one event id, one record (G2, G3) | the open transaction is aborted and its rows are read again |
//! | [`delivery`] | record topics | `attempts`, `dead-letters`, offsets: one transaction | in order per entity (G4), one bad thing stops one thing (G5) | what was in flight is tried again |
//! | [`lake`] | `received`, record topics | tables: rows and offsets in one commit | every record is one row | what is not committed is read again |
//!
//! [`operate`] carries out operators' words on events, [`ledger`] reads it all back for people, [`console`] serves health, metrics and what was refused, [`simulate`] plays both providers
//! and a target.
//!
//! # Invariants
//!
//! - Kinds along the path are types: `RawRequest`, `Verified`, [`event::Envelope`], [`event::Record`],
//!   [`event::Attempt`], [`event::DeadLetter`]. Only verification makes a `Verified`.
//! - Stages meet in Kafka topics and in the words ([`event`], [`outcome`], [`topics`]); none imports another. A test
//!   reads the source and holds the arrows.
//! - Decisions are pure functions of their input and a time; input and output are wrapped around them.
//! - Every offset moves in the transaction that holds what became of the records before it.

pub mod app;
pub mod avro;
pub mod cli;
pub mod config;
pub mod console;
pub mod delivery;
pub mod event;
pub mod instance;
pub mod kafka;
pub mod lake;
pub mod ledger;
pub mod lifecycle;
pub mod operate;
pub mod outcome;
pub mod receiver;
pub mod router;
pub mod server;
pub mod signature;
pub mod simulate;
pub mod spool;
pub mod targets;
pub mod telemetry;
pub mod topics;
