//! What is counted of every event of a source, looked up once: by labels, each look-up takes a hash and a lock.

use std::time::Duration;

use super::durable::Durable;
use crate::config::Source;
use crate::outcome::Answer;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{Histogram, IntCounter};

/// One source's counters.
pub(super) struct Meters {
    /// Events taken.
    pub(super) accepted: IntCounter,
    by_key: Vec<(String, IntCounter)>,
    on_kafka: Histogram,
    in_spool: Histogram,
}

impl Meters {
    /// Those of this source. They are shown from then on.
    pub(super) fn new(metrics: &Metrics, source: &Source) -> Self {
        let name = source.name.as_str();
        let accepted = metrics.receiver_requests.with_label_values(&[name, Answer::Accepted.name()]);
        let of_key = |id: &str| (id.to_owned(), metrics.signature_matches.with_label_values(&[name, id]));
        let ack = |durable: Durable| metrics.receiver_ack_seconds.with_label_values(&[name, durable.path()]);
        Self {
            accepted,
            by_key: source.secrets.iter().map(|secret| of_key(&secret.id)).collect(),
            on_kafka: ack(Durable::Kafka),
            in_spool: ack(Durable::Spool),
        }
    }

    /// A request was signed with this key.
    pub(super) fn matched(&self, key_id: &str) {
        if let Some((_, matches)) = self.by_key.iter().find(|(id, _)| id == key_id) {
            matches.inc();
        }
    }

    /// An event became durable there, so long after its body was whole.
    pub(super) fn durable(&self, durable: Durable, after: Duration) {
        match durable {
            Durable::Kafka => self.on_kafka.observe(after.as_secs_f64()),
            Durable::Spool => self.in_spool.observe(after.as_secs_f64()),
        }
    }
}
