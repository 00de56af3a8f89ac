//! Facts in the compacted topic `control`: read to its true end, followed from there, and written.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::client::Cluster;
use super::codec::{DecodeError, Decoder, Encoder};
use super::group::own;
use super::headers::Headers;
use super::layout::Ground;
use super::produce::{Outgoing, ProduceError, Producer};
use super::restore::{self, Read, RestoreError};
use super::sight::{CUT_OFF, Sight};
use crate::avro::AvroError;
use crate::event::{Control, ControlKind, Timestamp};
use crate::topics::CONTROL;

/// Bound on reading the topic.
const BOUND: Duration = Duration::from_secs(30);

/// Why facts cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The topic cannot be read.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// What stands there cannot be read.
    #[error("control: {0}")]
    Decode(#[from] DecodeError),
    /// The client failed.
    #[error("control: {0}")]
    Client(#[from] KafkaError),
    /// The client found no broker for too long: a new one may.
    #[error("control: this client found no broker for {CUT_OFF:?}")]
    CutOff,
    /// A fact does not fit its schema.
    #[error("control: {0}")]
    Encode(#[from] AvroError),
    /// A fact was not written, or the answer was lost.
    #[error(transparent)]
    Write(#[from] ProduceError),
}

/// A fact as a record: of the instance that says it, at this moment.
///
/// # Errors
/// When it does not fit its schema.
pub fn record(
    cluster: &Cluster,
    encoder: &Encoder,
    (kind, name): (ControlKind, String),
    instance: &str,
    body: String,
) -> Result<Outgoing, AvroError> {
    let fact = Control { kind, name, at: Timestamp::now(), instance: instance.to_owned(), body };
    Ok(Outgoing {
        topic: cluster.topic(CONTROL),
        partition: Some(0),
        key: fact.key().into_bytes(),
        value: encoder.encode(&fact)?,
        headers: Headers::default(),
        timestamp_ms: Some(fact.at.as_millis()),
    })
}

/// Writes a fact down, and waits for it.
///
/// # Errors
/// When it does not fit its schema, or Kafka does not take it.
pub async fn say(
    producer: &Producer,
    cluster: &Cluster,
    encoder: &Encoder,
    about: (ControlKind, String),
    instance: &str,
    body: String,
) -> Result<(), ControlError> {
    producer.send(&record(cluster, encoder, about, instance, body)?).await?;
    Ok(())
}

/// The latest facts of one kind, by name, and where the topic ended. Blocks.
///
/// # Errors
/// When the cluster is away, or a schema.
pub fn read(
    ground: &Ground,
    runtime: &Handle,
    kind: ControlKind,
) -> Result<(BTreeMap<String, Control>, i64), ControlError> {
    let decoder = ground.decoder();
    let (mut known, mut end, mut fault) = (BTreeMap::new(), 0, None);
    let topic = ground.cluster.topic(CONTROL);
    restore::read(&ground.cluster, &topic, &BTreeMap::from([(0, None)]), BOUND, &|| false, |read| match read {
        Read::Gone(..) => {}
        Read::Ended(_, offset) => end = offset,
        Read::Record(row) => match decoder.decode_blocking::<Control>(runtime, row.value.as_deref()) {
            Ok(fact) if fact.kind == kind => drop(known.insert(fact.name.clone(), fact)),
            Ok(_) | Err(DecodeError::Empty) => {}
            Err(error) => fault = Some(error),
        },
    })?;
    fault.map_or(Ok((known, end)), |error| Err(error.into()))
}

/// Reads facts as they are written.
pub struct Follower {
    consumer: BaseConsumer,
    topic: String,
    sight: Sight,
    decoder: Decoder,
    runtime: Handle,
}

impl Follower {
    /// Follows from this offset.
    ///
    /// # Errors
    /// When the client's settings are unusable.
    pub fn new(ground: &Ground, runtime: &Handle, from: i64) -> Result<Self, ControlError> {
        let consumer: BaseConsumer = ground.cluster.consumer("control").create()?;
        let mut list = TopicPartitionList::new();
        let topic = ground.cluster.topic(CONTROL);
        list.add_partition_offset(&topic, 0, Offset::Offset(from))?;
        consumer.assign(&list)?;
        let sight = Sight::new(Instant::now());
        Ok(Self { consumer, topic, sight, decoder: ground.decoder(), runtime: runtime.clone() })
    }

    /// The next fact, if one comes within `wait`. Blocks.
    ///
    /// # Errors
    /// When the position is lost, a fact cannot be read, or the client is cut off: the topic has to be read again. A
    /// cluster that is away is waited for.
    pub fn next(&mut self, wait: Duration) -> Result<Option<Control>, ControlError> {
        if self.sight.look(self.consumer.client(), &self.topic) {
            return Err(ControlError::CutOff);
        }
        match self.consumer.poll(wait) {
            None => Ok(None),
            Some(Err(error)) if restore::is_passing(&error) => {
                self.sight.missed();
                Ok(None)
            }
            Some(Err(error)) => Err(error.into()),
            Some(Ok(message)) => {
                let row = own(&message);
                match self.decoder.decode_blocking::<Control>(&self.runtime, row.value.as_deref()) {
                    Ok(fact) => Ok(Some(fact)),
                    Err(DecodeError::Empty) => Ok(None),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }
}
