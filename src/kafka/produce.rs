//! Records to be written, and the idempotent producer outside of transactions.

use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::types::RDKafkaErrorCode;
use tokio::time::{Instant, sleep};

use super::client::Cluster;
use super::headers::Headers;
use super::sight::{CUT_OFF, LOOK_AGAIN, Sight};
use crate::lifecycle::on_thread;

/// A record to be written.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Kafka's name of the topic.
    pub topic: String,
    /// The partition; by the key where it is not given.
    pub partition: Option<i32>,
    /// Key.
    pub key: Vec<u8>,
    /// Value.
    pub value: Vec<u8>,
    /// Headers.
    pub headers: Headers,
    /// Timestamp in milliseconds since 1970; the client's clock where it is not given.
    pub timestamp_ms: Option<i64>,
}

/// Where a record came to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

/// Why a record was not acknowledged. It may still be in the log: a repeat has to be expected.
#[derive(Clone, Debug, thiserror::Error)]
#[error("Kafka did not acknowledge a record for {topic}: {cause}")]
pub struct ProduceError {
    /// Topic.
    pub topic: String,
    /// The client's error.
    pub cause: KafkaError,
}

/// Records given up one after the other by [`Producer::send`] after which the client is replaced: it may have lost its
/// brokers for good, see `sight`.
const MAX_GIVEN_UP: u32 = 2;

/// An idempotent producer with acks=all. It replaces its client where that can no longer be used.
pub struct Producer {
    cluster: Cluster,
    timeout: Duration,
    linger: Duration,
    client: RwLock<Arc<FutureProducer>>,
    given_up: AtomicU32,
}

impl Producer {
    /// A producer that fails a record not acknowledged within `timeout` and waits up to `linger` to fill a batch.
    ///
    /// # Errors
    /// When the client settings are unusable.
    pub fn new(cluster: &Cluster, timeout: Duration, linger: Duration) -> Result<Self, KafkaError> {
        let client = cluster.producer(timeout, linger).create()?;
        let client = RwLock::new(Arc::new(client));
        Ok(Self { cluster: cluster.clone(), timeout, linger, client, given_up: AtomicU32::new(0) })
    }

    /// Writes one record and waits for all in-sync replicas.
    ///
    /// # Errors
    /// When no acknowledgement came in time.
    pub async fn send(&self, record: &Outgoing) -> Result<Place, ProduceError> {
        let sent = self.enqueue(record)?.await;
        if sent.is_ok() {
            self.given_up.store(0, Ordering::Relaxed);
        } else if self.given_up.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_GIVEN_UP {
            self.given_up.store(0, Ordering::Relaxed);
            self.renew();
        } else {
            self.mend();
        }
        sent
    }

    /// Puts one record into the queue: those of one partition are written in the order of these calls.
    ///
    /// # Errors
    /// When it cannot be taken: a full queue means that the broker is behind, and waiting here would hide it.
    pub fn enqueue(&self, record: &Outgoing) -> Result<Sending, ProduceError> {
        let client = self.client();
        let mut future =
            FutureRecord::to(&record.topic).key(&record.key).payload(&record.value).headers(record.headers.to_kafka());
        if let Some(partition) = record.partition {
            future = future.partition(partition);
        }
        if let Some(timestamp) = record.timestamp_ms {
            future = future.timestamp(timestamp);
        }
        match client.send_result(future) {
            Ok(delivery) => Ok(Sending { topic: record.topic.clone(), delivery }),
            Err((cause, _)) => {
                self.mend();
                Err(ProduceError { topic: record.topic.clone(), cause })
            }
        }
    }

    /// Goes on after an error: replaces a client that cannot be used any more.
    pub fn mend(&self) {
        let client = self.client();
        if client.client().fatal_error().is_some() {
            self.replace(&client);
        }
    }

    /// Begins anew: what was not sent yet is given up.
    pub fn renew(&self) {
        self.replace(&self.client());
    }

    /// Waits until one record is acknowledged. A client that finds no broker meanwhile for longer than any cluster takes
    /// to elect a leader may never find one again, see `sight`: it is replaced, and what waits in it fails, which
    /// otherwise would wait for the producer's whole time limit and fail again with the next records.
    ///
    /// # Errors
    /// When no acknowledgement came in time, or the client was replaced.
    pub async fn acknowledged(&self, sending: Sending) -> Result<Place, ProduceError> {
        let Sending { topic, delivery } = sending;
        let client = self.client();
        tokio::select! {
            delivered = delivery => placed(delivered).map_err(|cause| ProduceError { topic, cause }),
            () = cut_off(&client, &topic) => {
                tracing::warn!(topic, "a Kafka producer has found no broker for {CUT_OFF:?}: it is replaced");
                self.replace(&client);
                Err(ProduceError { topic, cause: KafkaError::MessageProduction(RDKafkaErrorCode::AllBrokersDown) })
            }
        }
    }

    fn client(&self) -> Arc<FutureProducer> {
        Arc::clone(&*self.client.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until everything sent is acknowledged or given up, at most `budget`.
    ///
    /// # Errors
    /// When something is left.
    pub fn flush(&self, budget: Duration) -> Result<(), KafkaError> {
        self.client().flush(budget)
    }

    /// An idempotent producer whose sequence broke is fatal for good: only a new client goes on.
    fn replace(&self, broken: &Arc<FutureProducer>) {
        let mut current = self.client.write().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&current, broken) {
            return;
        }
        match self.cluster.producer(self.timeout, self.linger).create() {
            Ok(client) => {
                let old = std::mem::replace(&mut *current, Arc::new(client));
                // It waits for its own thread, and no caller should.
                std::thread::spawn(move || drop(old));
            }
            Err(error) => tracing::error!(%error, "cannot replace a broken Kafka producer"),
        }
    }
}

/// A record on its way; completes with its place.
pub struct Sending {
    topic: String,
    delivery: DeliveryFuture,
}

impl Future for Sending {
    type Output = Result<Place, ProduceError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let delivered = std::task::ready!(Pin::new(&mut self.delivery).poll(cx));
        let topic = std::mem::take(&mut self.topic);
        Poll::Ready(placed(delivered).map_err(|cause| ProduceError { topic, cause }))
    }
}

/// What came of a record.
fn placed(delivered: <DeliveryFuture as Future>::Output) -> Result<Place, KafkaError> {
    match delivered {
        Ok(Ok(delivery)) => Ok(Place { partition: delivery.partition, offset: delivery.offset }),
        Ok(Err((cause, _))) => Err(cause),
        // Its client was replaced before an answer came.
        Err(_) => Err(KafkaError::Canceled),
    }
}

/// Completes once this client has found no broker for too long. Asks with metadata of a topic (Kafka's name).
async fn cut_off(client: &Arc<FutureProducer>, topic: &str) {
    let mut sight = Sight::new(Instant::now());
    // An acknowledgement is missed.
    sight.missed();
    loop {
        sleep(LOOK_AGAIN).await;
        let (client, topic) = (Arc::clone(client), topic.to_owned());
        let looked = on_thread("sight", move || {
            let is_cut_off = sight.look(client.client(), &topic);
            (sight, is_cut_off)
        });
        sight = match looked.await {
            Ok((_, true)) => return,
            Ok((looked, false)) => looked,
            // No thread could be started: looked again in a while, by a new one.
            Err(error) => {
                tracing::warn!(%error, "cannot look whether a Kafka producer still has a broker");
                Sight::new(Instant::now())
            }
        };
    }
}

impl ProduceError {
    /// Whether the queue was full: the same record can be given again.
    #[must_use]
    pub fn is_queue_full(&self) -> bool {
        self.cause.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull)
    }

    /// Whether the record itself is at fault: too large for the topic.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        self.cause.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge)
    }
}
