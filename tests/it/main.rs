//! The integration tests: one binary, real servers.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod common;
mod console;
mod delivery;
mod kafka;
mod receiver;
mod router;
mod simulate;
