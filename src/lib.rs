//! Ledgerhook: business webhooks become durable records on Kafka that reach their systems of record once.

pub mod avro;
pub mod config;
pub mod console;
pub mod delivery;
pub mod event;
pub mod instance;
pub mod kafka;
pub mod lifecycle;
pub mod outcome;
pub mod receiver;
pub mod router;
pub mod server;
pub mod signature;
pub mod simulate;
pub mod targets;
pub mod telemetry;
pub mod topics;
