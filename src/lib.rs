//! Ledgerhook: business webhooks become durable records on Kafka that reach their systems of record once.

pub mod avro;
pub mod config;
pub mod event;
pub mod outcome;
pub mod topics;
