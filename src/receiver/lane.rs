//! One source's way into its topic, and how long it may take.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use super::horizon::Horizon;
use crate::config::Source;
use crate::kafka::client::Cluster;
use crate::kafka::produce::Producer;
use crate::topics;

/// Part of a provider's deadline, in percent, after which an answer goes out whatever it is. The rest is for the
/// network.
const ANSWER_WITHIN_PERCENT: u32 = 80;
/// Trials that fail in a row before the client is replaced.
const MAX_FAILED_TRIALS: u32 = 3;

/// When a request of this source that came now has to be answered.
pub(super) fn answer_within(source: &Source) -> Duration {
    source.deadline * ANSWER_WITHIN_PERCENT / 100
}

/// How long a request of this source that came now may wait for Kafka.
pub(super) fn kafka_within(source: &Source, has_spool: bool) -> Duration {
    if has_spool { source.ack_budget() } else { answer_within(source) }
}

/// See the module.
pub(super) struct Lane {
    /// The topic without prefix.
    pub(super) name: String,
    /// Kafka's name of it.
    pub(super) topic: String,
    pub(super) producer: Arc<Producer>,
    /// Its breaker opened: whoever waits for Kafka waits in vain.
    pub(super) opened: Notify,
    /// What was refused.
    pub(super) horizon: Mutex<Horizon>,
    /// Trials that failed one after the other, though the cluster was found there before each.
    failed_trials: AtomicU32,
}

impl Lane {
    /// The way of this source, by a producer that gives a record up when there is no more time for it.
    pub(super) fn new(cluster: &Cluster, source: &Source, producer: Arc<Producer>) -> Self {
        let name = topics::received(&source.name);
        Self {
            topic: cluster.topic(&name),
            name,
            producer,
            opened: Notify::new(),
            horizon: Mutex::default(),
            failed_trials: AtomicU32::new(0),
        }
    }

    /// An event tried after an outage was acknowledged.
    pub(super) fn trial_succeeded(&self) {
        self.failed_trials.store(0, Ordering::Relaxed);
    }

    /// An event tried after an outage was not. The cluster was there, so after a few the client is replaced: one that
    /// gave up records in the middle of its sequence may not find its way back.
    pub(super) fn trial_failed(&self, source: &str) {
        if self.failed_trials.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_FAILED_TRIALS {
            self.failed_trials.store(0, Ordering::Relaxed);
            tracing::warn!(source, "Kafka is there, and takes no event from this client: a new one is made");
            self.producer.renew();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::source;
    use super::*;

    #[test]
    fn an_answer_leaves_before_the_providers_deadline() {
        for name in ["accelex", "accbooks"] {
            let source = source(name);
            assert!(answer_within(&source) < source.deadline);
            assert!(kafka_within(&source, true) < answer_within(&source), "the spool has the rest of the time");
            assert_eq!(kafka_within(&source, false), answer_within(&source));
        }
    }
}
