//! Where an event becomes durable. Kafka is the one way now; a spool on disk comes after it, as a further [`Durable`].

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::breaker::Breaker;
use super::error::Error;
use crate::config::{self, Source};
use crate::event::Envelope;
use crate::kafka::client::Cluster;
use crate::kafka::headers::{CloudEvent, Headers};
use crate::kafka::layout::Encoders;
use crate::kafka::produce::{Outgoing, Producer};
use crate::telemetry::RoleHealth;
use crate::topics;

/// Part of a provider's deadline, in percent, after which an answer goes out whatever it is. The rest is for the
/// network; without a spool there is nothing else to spend time on.
const ANSWER_WITHIN_PERCENT: u32 = 80;
/// An acknowledgement that did not come within this long counts against Kafka.
const FAIR_WAIT: Duration = Duration::from_millis(500);
/// Waiting to fill a batch takes at most this part of a budget: librdkafka wants it below the record's own timeout.
const LINGER_PART: u32 = 4;

/// When a request of this source that came now has to be answered.
pub(super) fn answer_within(source: &Source) -> Duration {
    source.deadline * ANSWER_WITHIN_PERCENT / 100
}

/// Where an event is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durable {
    /// On Kafka, on all in-sync replicas.
    Kafka,
}

impl Durable {
    /// Its name as label `path` of `ledgerhook_receiver_ack_seconds`.
    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
        }
    }
}

/// Why an event is not known to be durable. After a failed or late produce it may be in the log: the provider's repeat
/// is taken once.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotDurable {
    /// Topics and schemas were not seen yet.
    #[error("Kafka and the schema registry were not reached yet")]
    NotReady,
    /// Recent events failed: not tried.
    #[error("Kafka is away")]
    Away,
    /// No acknowledgement before the provider's deadline.
    #[error("Kafka did not acknowledge in time")]
    Late,
    /// Kafka refused, or gave the record up.
    #[error("{0}")]
    Refused(String),
    /// The envelope could not be written as Avro: a fault of ours.
    #[error("the envelope cannot be encoded: {0}")]
    Encoding(String),
}

/// Makes events durable, and knows whether it can.
pub(super) struct Publisher {
    lanes: HashMap<String, Lane>,
    producers: Vec<Arc<Producer>>,
    encoders: OnceLock<Encoders>,
    /// One for each source: a topic in trouble stops no other.
    breakers: Mutex<BTreeMap<String, Breaker>>,
    health: RoleHealth,
    /// From then on the role's health is not ours to say.
    stopping: CancellationToken,
}

/// One source's way into its topic.
struct Lane {
    name: String,
    topic: String,
    producer: Arc<Producer>,
}

impl Publisher {
    /// A publisher for these sources. It refuses until [`Publisher::reached`].
    ///
    /// # Errors
    /// When the Kafka client's settings are unusable.
    pub(super) fn new(
        cluster: &Cluster,
        receiver: &config::Receiver,
        sources: &[Source],
        health: RoleHealth,
        stopping: CancellationToken,
    ) -> Result<Self, Error> {
        // A record's own timeout is set per client: one for each distinct budget.
        let mut by_budget: HashMap<Duration, Arc<Producer>> = HashMap::new();
        let mut lanes = HashMap::new();
        for source in sources {
            let budget = answer_within(source);
            let producer = match by_budget.get(&budget) {
                Some(producer) => Arc::clone(producer),
                None => {
                    let linger = receiver.linger.min(budget / LINGER_PART);
                    let producer = Producer::new(cluster, budget, linger).map_err(|e| Error::Producer(e.into()))?;
                    let producer = Arc::new(producer);
                    by_budget.insert(budget, Arc::clone(&producer));
                    producer
                }
            };
            let name = topics::received(&source.name);
            let topic = cluster.topic(&name);
            lanes.insert(source.name.clone(), Lane { name, topic, producer });
        }
        Ok(Self {
            lanes,
            producers: by_budget.into_values().collect(),
            encoders: OnceLock::new(),
            breakers: Mutex::new(sources.iter().map(|source| (source.name.clone(), Breaker::new())).collect()),
            health,
            stopping,
        })
    }

    /// Topics and schemas are there: from now on events are taken.
    pub(super) fn reached(&self, encoders: Encoders) {
        // Reached once; a second time the same ids would come.
        drop(self.encoders.set(encoders));
        self.health.ready();
    }

    /// A look at a source's topic, begun then, found it or not.
    pub(super) fn looked(&self, source: &str, began: Instant, found: Result<(), String>) {
        self.learn(source, |breaker| breaker.looked(began, found));
    }

    /// Whether any source's events are refused because its topic is known to be away.
    pub(super) fn is_away(&self) -> bool {
        first_open(&self.breakers()).is_some()
    }

    /// Makes an event durable by `by`.
    ///
    /// # Errors
    /// When it is not known to be durable then.
    pub(super) async fn publish(
        &self,
        envelope: &Envelope,
        traceparent: &str,
        by: Instant,
    ) -> Result<Durable, NotDurable> {
        let encoders = self.encoders.get().ok_or(NotDurable::NotReady)?;
        let missing = || NotDurable::Encoding(format!("source {} has no topic", envelope.source));
        let lane = self.lanes.get(&envelope.source).ok_or_else(missing)?;
        let encoder = encoders.of(&lane.name).ok_or_else(missing)?;
        let value = encoder.encode(envelope).map_err(|error| NotDurable::Encoding(error.to_string()))?;
        let record = Outgoing {
            topic: lane.topic.clone(),
            partition: None,
            key: envelope.event_id.clone().into_bytes(),
            value,
            headers: headers(envelope, traceparent),
            timestamp_ms: Some(envelope.received_at.as_millis()),
        };
        let began = Instant::now();
        if !self.breakers().get_mut(&envelope.source).is_some_and(|breaker| breaker.admit(began)) {
            return Err(NotDurable::Away);
        }
        let failure = match timeout_at(by, lane.producer.send(&record)).await {
            Ok(Ok(_)) => {
                self.learn(&envelope.source, |breaker| breaker.succeeded(Instant::now()));
                return Ok(Durable::Kafka);
            }
            // The record's own fault says nothing of the cluster.
            Ok(Err(error)) if error.is_too_large() => return Err(NotDurable::Refused(error.to_string())),
            Ok(Err(error)) => NotDurable::Refused(error.to_string()),
            // A body that came late left Kafka no time: no fault of Kafka's.
            Err(_) if began.elapsed() < FAIR_WAIT => return Err(NotDurable::Late),
            Err(_) => NotDurable::Late,
        };
        self.learn(&envelope.source, |breaker| breaker.failed(&failure.to_string()));
        Err(failure)
    }

    /// Waits until everything sent is acknowledged or given up, at most `budget`. Blocks.
    pub(super) fn flush(&self, budget: Duration) {
        let by = Instant::now() + budget;
        for producer in &self.producers {
            if let Err(error) = producer.flush(by.saturating_duration_since(Instant::now())) {
                tracing::warn!(%error, "records left unacknowledged; their senders were told so");
            }
        }
    }

    fn breakers(&self) -> MutexGuard<'_, BTreeMap<String, Breaker>> {
        self.breakers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known of a source's way, and the role's health with it.
    fn learn(&self, source: &str, change: impl FnOnce(&mut Breaker)) {
        let mut breakers = self.breakers();
        let Some(breaker) = breakers.get_mut(source) else { return };
        let before = breaker.open().map(str::to_owned);
        change(breaker);
        if before.as_deref() == breaker.open() || self.stopping.is_cancelled() {
            return;
        }
        match first_open(&breakers) {
            None => self.health.ready(),
            Some((source, reason)) => self.health.not_ready(&format!("source {source}: {reason}")),
        }
    }
}

fn first_open(breakers: &BTreeMap<String, Breaker>) -> Option<(&str, &str)> {
    breakers.iter().find_map(|(source, breaker)| Some((source.as_str(), breaker.open()?)))
}

fn headers(envelope: &Envelope, traceparent: &str) -> Headers {
    let time = envelope.occurred_at.map(|time| time.to_string());
    Headers::cloud_event(&CloudEvent {
        id: &envelope.event_id,
        source: &envelope.source,
        event_type: &envelope.event_type,
        time: time.as_deref(),
        subject: None,
        traceparent: Some(traceparent),
    })
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::source;
    use super::*;
    use crate::config::Config;
    use crate::telemetry::Health;
    use crate::telemetry::health::State;

    #[test]
    fn a_topic_in_trouble_is_named_and_stops_no_other() {
        let config = Config::defaults().unwrap();
        let health = Health::default();
        let sources = [source("accelex"), source("accbooks")];
        let publisher = Publisher::new(
            &Cluster::new(&config.kafka),
            &config.receiver,
            &sources,
            health.role("receiver"),
            CancellationToken::new(),
        )
        .unwrap();
        publisher.health.ready();
        let began = Instant::now();
        publisher.looked("accbooks", began, Err("topic gone".to_owned()));
        assert_eq!(health.states()["receiver"], State::NotReady("source accbooks: topic gone".to_owned()));
        assert!(publisher.is_away());
        let admits = |source: &str| publisher.breakers().get_mut(source).unwrap().admit(began);
        assert_eq!((admits("accbooks"), admits("accelex")), (false, true));
        publisher.looked("accbooks", began, Ok(()));
        assert_eq!(health.states()["receiver"], State::Ready);
        publisher.stopping.cancel();
        publisher.looked("accbooks", began, Err("topic gone".to_owned()));
        assert_eq!(health.states()["receiver"], State::Ready, "on the way down health is not ours to say");
    }

    #[test]
    fn an_answer_leaves_before_the_providers_deadline() {
        for name in ["accelex", "accbooks"] {
            let source = source(name);
            assert!(answer_within(&source) < source.deadline);
        }
    }
}
