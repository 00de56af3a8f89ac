//! Records to be written, and the idempotent producer outside of transactions.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::types::RDKafkaErrorCode;

use super::client::Cluster;
use super::headers::Headers;

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

/// An idempotent producer with acks=all. It replaces its client where that can no longer be used.
pub struct Producer {
    cluster: Cluster,
    timeout: Duration,
    linger: Duration,
    client: RwLock<Arc<FutureProducer>>,
}

impl Producer {
    /// A producer that fails a record not acknowledged within `timeout` and waits up to `linger` to fill a batch.
    ///
    /// # Errors
    /// When the client settings are unusable.
    pub fn new(cluster: &Cluster, timeout: Duration, linger: Duration) -> Result<Self, KafkaError> {
        let client = cluster.producer(timeout, linger).create()?;
        Ok(Self { cluster: cluster.clone(), timeout, linger, client: RwLock::new(Arc::new(client)) })
    }

    /// Writes one record and waits for all in-sync replicas.
    ///
    /// # Errors
    /// When no acknowledgement came in time.
    pub async fn send(&self, record: &Outgoing) -> Result<Place, ProduceError> {
        let failed = |cause| ProduceError { topic: record.topic.clone(), cause };
        let client = Arc::clone(&*self.client.read().unwrap_or_else(std::sync::PoisonError::into_inner));
        let mut future =
            FutureRecord::to(&record.topic).key(&record.key).payload(&record.value).headers(record.headers.to_kafka());
        if let Some(partition) = record.partition {
            future = future.partition(partition);
        }
        if let Some(timestamp) = record.timestamp_ms {
            future = future.timestamp(timestamp);
        }
        // No waiting for room in the queue: a full queue means the broker is behind, and waiting hides it.
        match client.send(future, Duration::ZERO).await {
            Ok(delivery) => Ok(Place { partition: delivery.partition, offset: delivery.offset }),
            Err((cause, _)) => {
                if client.client().fatal_error().is_some() {
                    self.replace(&client);
                }
                Err(failed(cause))
            }
        }
    }

    /// Waits until everything sent is acknowledged or given up, at most `budget`.
    ///
    /// # Errors
    /// When something is left.
    pub fn flush(&self, budget: Duration) -> Result<(), KafkaError> {
        let client = Arc::clone(&*self.client.read().unwrap_or_else(std::sync::PoisonError::into_inner));
        client.flush(budget)
    }

    /// An idempotent producer whose sequence broke is fatal for good: only a new client goes on.
    fn replace(&self, broken: &Arc<FutureProducer>) {
        let mut current = self.client.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !Arc::ptr_eq(&current, broken) {
            return;
        }
        match self.cluster.producer(self.timeout, self.linger).create() {
            Ok(client) => *current = Arc::new(client),
            Err(error) => tracing::error!(%error, "cannot replace a broken Kafka producer"),
        }
    }
}

impl ProduceError {
    /// Whether the record itself is at fault: too large for the topic.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        self.cause.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge)
    }
}
