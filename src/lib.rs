//! Ledgerhook: business webhooks become durable records on Kafka that reach their systems of record once.

pub mod config;
