//! A record to be delivered, as it was read and decoded.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_bytes::ByteBuf;
use tokio::runtime::Handle;

use super::lane::Lane;
use super::tally::Weigh;
use crate::event::{Parked, REPLAY_HEADER, Record, Redelivered, Redelivery, Timestamp};
use crate::kafka::codec::{DecodeError, Decoder};
use crate::kafka::group::{Incoming, Partition};
use crate::kafka::headers::{CloudEvent, Headers};
use crate::kafka::records;

/// The header of trace contexts.
pub(super) const TRACEPARENT: &str = "traceparent";

/// A record with its place.
#[derive(Debug)]
pub(super) struct Task {
    /// The record.
    pub(super) record: Arc<Record>,
    /// Topic of the record, without prefix.
    pub(super) topic: String,
    /// Partition.
    pub(super) partition: i32,
    /// Offset.
    pub(super) offset: i64,
    /// Kafka key.
    pub(super) key: Vec<u8>,
    /// The record's value as it stands in its topic.
    pub(super) value: Vec<u8>,
    /// Trace context it came with.
    pub(super) traceparent: Option<String>,
    /// What a replay asked for; none for a record that came by its topic.
    pub(super) replay: Option<Redelivered>,
}

impl Weigh for Task {
    fn bytes(&self) -> usize {
        self.value.len()
    }
}

/// Reads records of the record topics.
#[derive(Clone)]
pub(super) struct Reader {
    decoder: Decoder,
    runtime: Handle,
    prefix: Arc<str>,
}

impl Reader {
    /// A reader for topics with this prefix.
    pub(super) fn new(decoder: Decoder, runtime: Handle, prefix: &str) -> Self {
        Self { decoder, runtime, prefix: prefix.into() }
    }

    /// A topic's name without prefix.
    pub(super) fn short<'a>(&self, topic: &'a str) -> &'a str {
        topic.strip_prefix(&*self.prefix).unwrap_or(topic)
    }

    /// Decodes a record by the type of its topic. Blocks while the registry is asked for a schema not met before.
    ///
    /// # Errors
    /// When it is no such record, or the schema cannot be had.
    pub(super) fn read(&self, incoming: &Incoming) -> Result<Task, DecodeError> {
        let topic = self.short(&incoming.partition.topic);
        let record = self.record(topic, incoming.value.as_deref())?;
        Ok(Task {
            value: incoming.value.clone().unwrap_or_default(),
            topic: topic.to_owned(),
            partition: incoming.partition.number,
            offset: incoming.offset,
            key: incoming.key.clone().unwrap_or_else(|| record.key().into_bytes()),
            traceparent: incoming.headers.get(TRACEPARENT).map(str::to_owned),
            replay: None,
            record,
        })
    }

    /// Decodes a row of `parked`. Blocks as [`Reader::read`] does.
    ///
    /// # Errors
    /// When it is no such row, or the schema cannot be had.
    pub(super) fn parked(&self, row: &Incoming) -> Result<Parked, DecodeError> {
        self.decoder.decode_blocking(&self.runtime, row.value.as_deref())
    }

    /// The record of a row of `parked`. Blocks as [`Reader::read`] does.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub(super) fn unpark(&self, row: &Parked) -> Result<Task, DecodeError> {
        let record = self.record(&row.record_topic, Some(&row.value))?;
        Ok(Task {
            topic: row.record_topic.clone(),
            partition: row.record_partition,
            offset: row.record_offset,
            key: row.key.clone().map_or_else(|| record.key().into_bytes(), String::into_bytes),
            value: row.value.clone(),
            traceparent: traceparent(&row.headers),
            replay: row.redelivery.clone(),
            record,
        })
    }

    /// Decodes a row of `redeliver`. Blocks as [`Reader::read`] does.
    ///
    /// # Errors
    /// When it is no such row, or the schema cannot be had.
    pub(super) fn redelivery(&self, row: &Incoming) -> Result<Redelivery, DecodeError> {
        self.decoder.decode_blocking(&self.runtime, row.value.as_deref())
    }

    /// The record of a row of `redeliver` at this offset. Blocks as [`Reader::read`] does.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub(super) fn repeat(&self, row: &Redelivery, offset: i64) -> Result<Task, DecodeError> {
        let record = self.record(&row.record_topic, Some(&row.value))?;
        let Redelivery { allow_stale, settles, .. } = *row;
        Ok(Task {
            topic: row.record_topic.clone(),
            partition: row.record_partition,
            offset: row.record_offset,
            key: row.key.clone().map_or_else(|| record.key().into_bytes(), String::into_bytes),
            value: row.value.clone(),
            traceparent: traceparent(&row.headers),
            replay: Some(Redelivered { offset, replay_id: row.replay_id.clone(), allow_stale, settles }),
            record,
        })
    }

    /// The decoder and the runtime it asks the registry on.
    pub(super) const fn decoder(&self) -> (&Decoder, &Handle) {
        (&self.decoder, &self.runtime)
    }

    fn record(&self, topic: &str, value: Option<&[u8]>) -> Result<Arc<Record>, DecodeError> {
        records::decode(&self.decoder, &self.runtime, topic, value).map(Arc::new)
    }
}

fn traceparent(headers: &BTreeMap<String, ByteBuf>) -> Option<String> {
    headers.get(TRACEPARENT).and_then(|value| String::from_utf8(value.to_vec()).ok())
}

impl Task {
    /// The lane that the record stands in, in this partition of its topic.
    pub(super) fn lane(&self, partition: &Partition) -> Lane {
        // As text, which is how `parked` keeps it.
        let key = String::from_utf8_lossy(&self.key).into_owned().into_bytes();
        Lane { partition: partition.clone(), key }
    }

    /// Id of the replay that it belongs to.
    pub(super) fn replay_id(&self) -> Option<String> {
        self.replay.as_ref().map(|replay| replay.replay_id.clone())
    }

    /// When it was recorded: its timestamp in the topic.
    pub(super) fn recorded(&self, incoming: &Incoming) -> Timestamp {
        incoming.timestamp_ms.map_or(self.record.received_at(), |ms| Timestamp::from_micros(ms.saturating_mul(1000)))
    }

    /// CloudEvents headers of rows about the record, and the mark of a replay.
    pub(super) fn headers(&self) -> Headers {
        let headers = Headers::cloud_event(&CloudEvent {
            id: self.record.event_id(),
            source: self.record.source(),
            event_type: self.record.event_type(),
            time: self.record.occurred_at().map(|time| time.to_string()).as_deref(),
            subject: Some(self.record.entity_id()),
            traceparent: self.traceparent.as_deref(),
        });
        self.replay.iter().fold(headers, |headers, replay| headers.with(REPLAY_HEADER, &replay.replay_id))
    }
}
