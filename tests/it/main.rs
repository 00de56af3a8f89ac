//! The integration tests: one binary, real servers.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod architecture;
mod cli;
mod common;
mod console;
mod crash;
mod delivery;
mod kafka;
mod lake;
mod limits;
mod receiver;
mod reconcile;
mod reload;
mod router;
mod simulate;
mod spool;
mod targets;
mod tls;
