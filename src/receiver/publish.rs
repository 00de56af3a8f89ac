//! Where an event becomes durable: on Kafka, or on disk where Kafka does not acknowledge in time.
//!
//! An event that went to the spool may still reach Kafka from the attempt before, and then comes twice: the router takes
//! it once. The producer gives it up when the source's budget is over, so that this stays rare. How long a request waits,
//! its source says as it is now; the producer's own time is that of the start. After a reload that shortened the deadline,
//! an event that was not waited for goes to the spool, and may come to Kafka by both ways until the next start.

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::breaker::{Admission, Breaker};
use super::durable::{Durable, NotDurable};
use super::error::Error;
use super::horizon::known_by;
use super::lane::{Lane, answer_within, kafka_within};
use super::record::record;
use crate::config::{self, Source};
use crate::event::Envelope;
use crate::kafka::client::Cluster;
use crate::kafka::layout::Encoders;
use crate::kafka::produce::{Place, ProduceError, Producer};
use crate::spool::Spool;
use crate::telemetry::{Metrics, RoleHealth};

/// An acknowledgement that did not come within this long counts against Kafka.
const FAIR_WAIT: Duration = Duration::from_millis(500);
/// Waiting to fill a batch takes at most this part of a budget: librdkafka wants it below the record's own timeout.
const LINGER_PART: u32 = 4;

/// What a publisher is given.
pub(super) struct Means {
    /// Where to say whether events can be made durable.
    pub(super) health: RoleHealth,
    /// From then on the role's health is not ours to say.
    pub(super) stopping: CancellationToken,
    /// The program's metrics.
    pub(super) metrics: Arc<Metrics>,
    /// None where the configuration wants none.
    pub(super) spool: Option<Arc<Spool>>,
}

/// Makes events durable, and knows whether it can.
pub(super) struct Publisher {
    lanes: HashMap<String, Lane>,
    producers: Vec<Arc<Producer>>,
    encoders: OnceLock<Encoders>,
    /// Cancelled once the encoders are there.
    reached: CancellationToken,
    /// Why Kafka and the registry were not reached yet.
    unreached: Mutex<String>,
    /// One for each source: a topic in trouble stops no other.
    breakers: Mutex<BTreeMap<String, Breaker>>,
    means: Means,
}

impl Publisher {
    /// A publisher for these sources. Kafka is used from [`Publisher::reached`] on.
    ///
    /// # Errors
    /// When the Kafka client's settings are unusable.
    pub(super) fn new(
        cluster: &Cluster,
        receiver: &config::Receiver,
        sources: &[Source],
        means: Means,
    ) -> Result<Self, Error> {
        // A record's own timeout is set per client: one for each distinct budget.
        let mut by_budget: HashMap<Duration, Arc<Producer>> = HashMap::new();
        let mut lanes = HashMap::new();
        for source in sources {
            let budget = kafka_within(source, means.spool.is_some());
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
            lanes.insert(source.name.clone(), Lane::new(cluster, source, producer));
        }
        let publisher = Self {
            lanes,
            producers: by_budget.into_values().collect(),
            encoders: OnceLock::new(),
            reached: CancellationToken::new(),
            unreached: Mutex::new("starting".to_owned()),
            breakers: Mutex::new(sources.iter().map(|source| (source.name.clone(), Breaker::new())).collect()),
            means,
        };
        publisher.tell();
        Ok(publisher)
    }

    /// Topics and schemas are there: from now on events go to Kafka.
    pub(super) fn reached(&self, encoders: Encoders) {
        // Reached once; a second time the same ids would come.
        drop(self.encoders.set(encoders));
        tracing::info!("events go to Kafka");
        self.reached.cancel();
        self.tell();
    }

    /// Waits until topics and schemas were reached.
    pub(super) async fn until_reached(&self) {
        self.reached.cancelled().await;
    }

    /// Topics and schemas could not be looked at, for this reason.
    pub(super) fn unreached(&self, why: &str) {
        why.clone_into(&mut self.unreached.lock().unwrap_or_else(PoisonError::into_inner));
        self.tell();
    }

    /// The encoders of all topics, once they were reached.
    pub(super) fn encoders(&self) -> Option<&Encoders> {
        self.encoders.get()
    }

    /// A look at a source's topic, begun then, found it or not.
    pub(super) fn looked(&self, source: &str, began: Instant, found: Result<(), String>) {
        self.learn(source, |breaker| breaker.looked(began, found));
    }

    /// Whether events of any source cannot go to Kafka now, as far as is known.
    pub(super) fn is_away(&self) -> bool {
        self.encoders.get().is_none() || first_open(&self.breakers()).is_some()
    }

    /// Makes an event durable whose request arrived then, within the time that the source gives now.
    ///
    /// # Errors
    /// When it is not known to be durable by the time the request has to be answered.
    pub(super) async fn publish(
        &self,
        source: &Source,
        envelope: &Envelope,
        traceparent: &str,
        arrived: Instant,
    ) -> Result<Durable, NotDurable> {
        let missing = || NotDurable::Encoding(format!("source {} has no topic", envelope.source));
        let lane = self.lanes.get(&envelope.source).ok_or_else(missing)?;
        let kafka_by = arrived + kafka_within(source, self.means.spool.is_some());
        let outcome = match self.to_kafka(lane, envelope, traceparent, kafka_by).await {
            Ok(_) => Ok(Durable::Kafka),
            Err(error) => self.to_spool(envelope, traceparent, arrived + answer_within(source), error).await,
        };
        let mut horizon = lane.horizon.lock().unwrap_or_else(PoisonError::into_inner);
        match &outcome {
            Ok(_) => horizon.accepted(&known_by(envelope)),
            Err(_) => horizon.refused(&known_by(envelope), &source.retry_schedule, Instant::now()),
        }
        drop(horizon);
        outcome
    }

    async fn to_kafka(
        &self,
        lane: &Lane,
        envelope: &Envelope,
        traceparent: &str,
        by: Instant,
    ) -> Result<Place, NotDurable> {
        let encoders = self.encoders.get().ok_or(NotDurable::NotReady)?;
        let encoder = encoders.of(&lane.name).ok_or(NotDurable::NotReady)?;
        let record = record(&lane.topic, encoder, envelope, traceparent);
        let record = record.map_err(|error| NotDurable::Encoding(error.to_string()))?;
        let began = Instant::now();
        if began >= by {
            // The body took the time. No fault of Kafka's.
            return Err(NotDurable::Late);
        }
        let admission = self.breakers().get_mut(&envelope.source).map(|breaker| breaker.admit(began));
        let is_trial = match admission {
            Some(Admission::Open) => false,
            Some(Admission::Trial) => true,
            Some(Admission::Refused) | None => return Err(NotDurable::Away),
        };
        let source = envelope.source.as_str();
        let mut sending = pin!(lane.producer.send(&record));
        // A trial may take all of its budget: the first record after an outage waits for connections, and hurrying it
        // would keep events from Kafka for as long as the first one is slow.
        let fair = if self.means.spool.is_some() && !is_trial { by.min(began + FAIR_WAIT) } else { by };
        if let Ok(sent) = timeout_at(fair, &mut sending).await {
            if is_trial {
                match &sent {
                    Ok(_) => lane.trial_succeeded(),
                    // The record's own fault.
                    Err(error) if error.is_too_large() => {}
                    Err(_) => lane.trial_failed(source),
                }
            }
            return self.judged(source, sent);
        }
        if fair < by {
            // Nobody's record was acknowledged since: three such, and there is no use in waiting.
            self.learn(source, |breaker| {
                if !breaker.succeeded_since(began) {
                    breaker.failed("no acknowledgement comes");
                }
            });
            let mut opened = pin!(lane.opened.notified());
            opened.as_mut().enable();
            if self.breakers().get(source).is_some_and(|breaker| breaker.open().is_some()) {
                return Err(NotDurable::Away);
            }
            return tokio::select! {
                sent = timeout_at(by, &mut sending) => match sent {
                    Ok(sent) => self.judged(source, sent),
                    Err(_) => Err(NotDurable::Late),
                },
                () = opened => Err(NotDurable::Away),
            };
        }
        if began.elapsed() >= FAIR_WAIT {
            self.learn(source, |breaker| breaker.failed(&NotDurable::Late.to_string()));
        }
        if is_trial {
            lane.trial_failed(source);
        }
        Err(NotDurable::Late)
    }

    fn judged(&self, source: &str, sent: Result<Place, ProduceError>) -> Result<Place, NotDurable> {
        sent.inspect(|_| self.learn(source, |breaker| breaker.succeeded(Instant::now()))).map_err(|error| {
            // The record's own fault says nothing of the cluster.
            if !error.is_too_large() {
                self.learn(source, |breaker| breaker.failed(&error.to_string()));
            }
            NotDurable::Refused(error.to_string())
        })
    }

    async fn to_spool(
        &self,
        envelope: &Envelope,
        traceparent: &str,
        by: Instant,
        kafka: NotDurable,
    ) -> Result<Durable, NotDurable> {
        let Some(spool) = &self.means.spool else { return Err(kafka) };
        let kafka = Box::new(kafka);
        match timeout_at(by, spool.append(envelope, traceparent)).await {
            Ok(Ok(_)) => Ok(Durable::Spool),
            Ok(Err(spool)) => Err(NotDurable::Nowhere { kafka, spool }),
            Err(_) => Err(NotDurable::SlowSpool(kafka)),
        }
    }

    /// Waits until everything sent is acknowledged or given up, at most `budget`. Blocks.
    pub(super) fn flush(&self, budget: Duration) {
        let by = Instant::now() + budget;
        for producer in &self.producers {
            if let Err(error) = producer.flush(by.saturating_duration_since(Instant::now())) {
                tracing::warn!(%error, "records left unacknowledged; they are in the spool, or their senders were told");
            }
        }
    }

    /// Shows what changes by itself: health with the spool's, its size, and how long providers will still repeat.
    pub(super) fn show(&self, now: Instant) {
        self.tell();
        let metrics = &self.means.metrics;
        if let Some(spool) = &self.means.spool {
            let status = spool.status();
            metrics.spool_events.set(i64::try_from(status.events).unwrap_or(i64::MAX));
            metrics.spool_bytes.set(i64::try_from(status.bytes).unwrap_or(i64::MAX));
            metrics.spool_set_aside_files.set(i64::try_from(status.set_aside.len()).unwrap_or(i64::MAX));
        }
        for (source, lane) in &self.lanes {
            let (left, forgotten) = lane.horizon.lock().unwrap_or_else(PoisonError::into_inner).left(now);
            match left {
                Some(left) => {
                    metrics.loss_horizon_seconds.with_label_values(&[source]).set(left.as_secs_f64());
                }
                // An error says that it was not shown.
                None => drop(metrics.loss_horizon_seconds.remove_label_values(&[source])),
            }
            if forgotten > 0 {
                tracing::error!(
                    source,
                    events = forgotten,
                    "events were refused and did not come again before their provider gave them up; unless another receiver took them, they have to be repeated by hand"
                );
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
        let after = breaker.open().map(str::to_owned);
        drop(breakers);
        if before == after {
            return;
        }
        if let Some(lane) = self.lanes.get(source).filter(|_| before.is_none()) {
            lane.opened.notify_waiters();
        }
        match &after {
            _ if self.means.spool.is_none() => {}
            Some(reason) if before.is_none() => tracing::warn!(source, reason, "events go to the spool"),
            None => tracing::info!(source, "events go to Kafka again"),
            Some(_) => {}
        }
        self.tell();
    }

    /// Says whether events can be made durable: on Kafka, or in the spool.
    fn tell(&self) {
        let is_reached = self.encoders.get().is_some();
        let breakers = self.breakers();
        for (source, breaker) in breakers.iter() {
            let is_direct = is_reached && breaker.open().is_none();
            self.means.metrics.receiver_direct.with_label_values(&[source]).set(i64::from(is_direct));
        }
        if self.means.stopping.is_cancelled() {
            return;
        }
        let kafka = match first_open(&breakers) {
            _ if !is_reached => Some(self.unreached.lock().unwrap_or_else(PoisonError::into_inner).clone()),
            Some((source, reason)) => Some(format!("source {source}: {reason}")),
            None => None,
        };
        let Some(kafka) = kafka else { return self.means.health.ready() };
        match self.means.spool.as_ref().map(|spool| spool.status().failing) {
            Some(None) => self.means.health.ready(),
            Some(Some(spool)) => self.means.health.not_ready(&format!("{kafka}; {spool}")),
            None => self.means.health.not_ready(&kafka),
        }
    }
}

fn first_open(breakers: &BTreeMap<String, Breaker>) -> Option<(&str, &str)> {
    breakers.iter().find_map(|(source, breaker)| Some((source.as_str(), breaker.open()?)))
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::source;
    use super::*;
    use crate::config::Config;
    use crate::event::{Evidence, Origin, Sha256, Timestamp};
    use crate::telemetry::Health;
    use crate::telemetry::health::State;

    #[test]
    fn a_topic_in_trouble_is_named_and_stops_no_other() {
        let config = Config::defaults().unwrap();
        let health = Health::default();
        let sources = [source("accelex"), source("accbooks")];
        let means = Means {
            health: health.role("receiver"),
            stopping: CancellationToken::new(),
            metrics: Arc::new(Metrics::new().unwrap()),
            spool: None,
        };
        let publisher = Publisher::new(&Cluster::new(&config.kafka), &config.receiver, &sources, means).unwrap();
        assert_eq!(health.states()["receiver"], State::NotReady("starting".to_owned()));
        publisher.reached(Encoders::default());
        assert_eq!(health.states()["receiver"], State::Ready);
        let began = Instant::now();
        publisher.looked("accbooks", began, Err("topic gone".to_owned()));
        assert_eq!(health.states()["receiver"], State::NotReady("source accbooks: topic gone".to_owned()));
        assert!(publisher.is_away());
        let admits = |source: &str| publisher.breakers().get_mut(source).unwrap().admit(began) != Admission::Refused;
        assert_eq!((admits("accbooks"), admits("accelex")), (false, true));
        publisher.looked("accbooks", began, Ok(()));
        assert_eq!(health.states()["receiver"], State::Ready);
        publisher.means.stopping.cancel();
        publisher.looked("accbooks", began, Err("topic gone".to_owned()));
        assert_eq!(health.states()["receiver"], State::Ready, "on the way down health is not ours to say");
    }

    fn envelope() -> Envelope {
        Envelope {
            event_id: "e1".to_owned(),
            source: "accbooks".to_owned(),
            event_type: "invoice.paid".to_owned(),
            occurred_at: None,
            received_at: Timestamp::now(),
            content_type: None,
            body_sha256: Sha256::of(b"{}"),
            body: b"{}".as_slice().into(),
            unusable: None,
            test: None,
            evidence: Evidence::absent(),
            origin: Origin::Live,
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn before_kafka_was_seen_the_spool_takes_events_and_without_it_time_runs() {
        let config = Config::defaults().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (max_size, segment_size) = (1 << 20, 1 << 20);
        let options = crate::spool::Options { folder: dir.path().to_owned(), max_size, segment_size };
        let spool = Arc::new(Spool::open(&options).unwrap());
        let health = Health::default();
        let means = Means {
            health: health.role("receiver"),
            stopping: CancellationToken::new(),
            metrics: Arc::new(Metrics::new().unwrap()),
            spool: Some(Arc::clone(&spool)),
        };
        let metrics = Arc::clone(&means.metrics);
        let sources = [source("accbooks")];
        let publisher = Publisher::new(&Cluster::new(&config.kafka), &config.receiver, &sources, means).unwrap();
        assert_eq!(health.states()["receiver"], State::Ready);
        let event = envelope();
        let publish = || publisher.publish(&sources[0], &event, "", Instant::now());
        assert_eq!(publish().await.unwrap(), Durable::Spool);
        publisher.show(Instant::now());
        assert!(metrics.render().contains("ledgerhook_spool_events 1\n"));
        assert!(!metrics.render().contains("ledgerhook_loss_horizon_seconds{"));

        spool.close();
        let refused = publish().await.unwrap_err();
        assert!(matches!(refused, NotDurable::Nowhere { .. }), "{refused}");
        publisher.show(Instant::now() + Duration::from_secs(40));
        let spent = "ledgerhook_loss_horizon_seconds{source=\"accbooks\"} 0\n";
        assert!(metrics.render().contains(spent), "{}", metrics.render());
        publisher.show(Instant::now() + Duration::from_secs(3600));
        assert!(!metrics.render().contains("ledgerhook_loss_horizon_seconds{"), "forgotten");
    }
}
