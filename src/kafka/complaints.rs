//! Why a broker cannot be reached, in the words of the client library: its calls tell only that it cannot.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::producer::{DeliveryResult, ProducerContext};

/// What the client library says of broken connections. Its calls tell no more than that a broker could not be reached.
#[derive(Default)]
pub(super) struct Complaints(Mutex<Option<String>>);

impl Complaints {
    /// A connection works: what was said before is over.
    pub(super) fn forget(&self) {
        *self.lock() = None;
    }

    /// What was said last.
    pub(super) fn last(&self) -> Option<String> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Complaints {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        tracing::debug!(?level, facility, line, "Kafka administrator");
        if facility == "FAIL" {
            *self.lock() = Some(essence(line));
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "Kafka administrator");
    }
}

impl ProducerContext for Complaints {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// The library's line without its thread, its name of the broker, and counts that differ each time.
fn essence(line: &str) -> String {
    let line = line.split_once("]: ").map_or(line, |(_, rest)| rest);
    let line = line.split_once("/bootstrap: ").map_or(line, |(_, rest)| rest);
    line.split(" (after ").next().unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_the_same_each_time() {
        let line = |more: &str| {
            format!(
                "[thrd:h:1/bootstrap]: sasl_ssl://h:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after {more})"
            )
        };
        let (first, second) =
            (line("1ms in state CONNECT"), line("0ms in state CONNECT, 1 identical error(s) suppressed"));
        assert_eq!(essence(&first), "Connect to ipv4#127.0.0.1:1 failed: Connection refused");
        assert_eq!(essence(&first), essence(&second));
        assert_eq!(essence("[thrd:x]: h:1/7: SSL handshake failed"), "h:1/7: SSL handshake failed");
        assert_eq!(essence("something else"), "something else");
    }
}
