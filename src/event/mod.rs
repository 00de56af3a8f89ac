//! The words of Ledgerhook: an event on its way from webhook to target, as types without I/O.
//!
//! Kinds along the path are types: a request becomes an [`Envelope`] (topic `received.<source>`), the router makes
//! of it a [`Record`] and a [`Seen`] marker, or a [`Quarantined`] one; delivery makes [`Attempt`]s and, at worst, a
//! [`DeadLetter`]. Each has its Avro schema in `schemas/`; serde is their wire form, [`ToJson`] the form people and
//! targets read.

mod attempt;
mod audit;
mod control;
mod day_time;
mod envelope;
mod holding;
mod json;
mod mark;
mod money;
mod records;
mod seen;
mod target_fact;

pub use attempt::{Attempt, AttemptOutcome, DeadLetter, MAX_ANSWER_BYTES, MAX_ATTEMPTS_IN_DEAD_LETTER};
pub use audit::AuditEntry;
pub use control::{Control, ControlKind};
pub use day_time::{Date, Timestamp, TimestampError};
pub use envelope::{
    Envelope, Evidence, MAX_EVENT_ID_BYTES, MAX_EVENT_TYPE_BYTES, Origin, Quarantined, Sha256, Unproved,
};
pub use holding::{Finished, Parked, Progress, Redelivered, Redelivery, Tried};
pub use json::{Members, ToJson};
pub use mark::{Mark, REPLAY_HEADER};
pub use money::{Decimal, DecimalError};
pub use records::{
    CaseRecord, Clause, ComplianceRecord, ContractRecord, Customer, Direction, FeedRecord, InvoiceLine, InvoiceRecord,
    InvoiceStatus, Provenance, Record, Related, ReviewRecord, Routing, Supplier, TransactionRecord, Validation,
};
pub use seen::{DecidedBody, Seen, SeenState};
pub use target_fact::{OpenWindow, Pause, TargetFact, Windows};
