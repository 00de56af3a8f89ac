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

/// See the module.
pub(super) struct Lane {
    /// The topic without prefix.
    pub(super) name: String,
    /// Kafka's name of it.
    pub(super) topic: String,
    pub(super) producer: Arc<Producer>,
    /// How long Kafka is waited for, from a request's arrival.
    pub(super) budget: Duration,
    /// When an answer goes out, from a request's arrival.
    pub(super) answer_within: Duration,
    /// Its breaker opened: whoever waits for Kafka waits in vain.
    pub(super) opened: Notify,
    /// What was refused.
    pub(super) horizon: Mutex<Horizon>,
    /// Trials that failed one after the other, though the cluster was found there before each.
    failed_trials: AtomicU32,
}

impl Lane {
    /// The way of this source, by a producer that gives a record up when the budget is over.
    pub(super) fn new(cluster: &Cluster, source: &Source, producer: Arc<Producer>, budget: Duration) -> Self {
        let name = topics::received(&source.name);
        Self {
            topic: cluster.topic(&name),
            name,
            producer,
            budget,
            answer_within: answer_within(source),
            opened: Notify::new(),
            horizon: Mutex::new(Horizon::new(source.retry_schedule.clone())),
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
        }
    }
}
