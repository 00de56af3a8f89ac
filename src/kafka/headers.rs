//! Record headers: CloudEvents 1.0 in binary mode
//! ([Kafka protocol binding](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md)),
//! and W3C trace context.

use std::borrow::Cow;

use rdkafka::message::{BorrowedHeaders, Header, Headers as _, OwnedHeaders};

use crate::event::Envelope;

/// Names of the headers that most records have, in their order.
const NAMES: [&str; 8] =
    ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_subject", "content-type", "traceparent"];

/// Headers of a record, in order. Their values stand one behind the other in one place: a record has eight of them, and
/// every stage reads and writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// Each name, and where its value ends.
    names: Vec<(Cow<'static, str>, usize)>,
    values: Vec<u8>,
}

/// Room for the values of most records.
const USUAL_BYTES: usize = 256;

/// What CloudEvents says of a record.
#[derive(Clone, Copy, Debug)]
pub struct CloudEvent<'a> {
    /// `ce_id`: the event id.
    pub id: &'a str,
    /// `ce_source`: the source's name.
    pub source: &'a str,
    /// `ce_type`: the event type.
    pub event_type: &'a str,
    /// `ce_time`: when it happened, RFC 3339.
    pub time: Option<&'a str>,
    /// `ce_subject`: the entity's id.
    pub subject: Option<&'a str>,
    /// `traceparent` of W3C trace context.
    pub traceparent: Option<&'a str>,
}

impl Headers {
    /// The headers of a record whose value is in Confluent's Avro wire format.
    #[must_use]
    pub fn cloud_event(event: &CloudEvent<'_>) -> Self {
        // CloudEvents forbids empty attributes; a body without id or type still has to travel.
        let event_type = if event.event_type.is_empty() { "unknown" } else { event.event_type };
        let all = [
            Some("1.0"),
            Some(event.id),
            Some(event.source),
            Some(event_type),
            event.time,
            event.subject.filter(|subject| !subject.is_empty()),
            Some("application/avro"),
            event.traceparent,
        ];
        let mut headers = Self::with_room(NAMES.len());
        for (name, value) in NAMES.into_iter().zip(all) {
            if let Some(value) = value {
                headers.put(Cow::Borrowed(name), value.as_bytes());
            }
        }
        headers
    }

    fn with_room(count: usize) -> Self {
        Self { names: Vec::with_capacity(count), values: Vec::with_capacity(USUAL_BYTES) }
    }

    fn put(&mut self, name: Cow<'static, str>, value: &[u8]) {
        self.values.extend_from_slice(value);
        self.names.push((name, self.values.len()));
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.names.iter().scan(0, |from, (name, end)| {
            let value = self.values.get(std::mem::replace(from, *end)..*end)?;
            Some((&**name, value))
        })
    }

    /// The headers of an event in its `received` topic, whichever way it came there.
    #[must_use]
    pub fn of_received(envelope: &Envelope, traceparent: Option<&str>) -> Self {
        let time = envelope.occurred_at.map(|time| time.to_string());
        Self::cloud_event(&CloudEvent {
            id: &envelope.event_id,
            source: &envelope.source,
            event_type: &envelope.event_type,
            time: time.as_deref(),
            subject: None,
            traceparent,
        })
    }

    /// The last header of this name, as text.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().filter(|(n, _)| *n == name).last().and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// These headers and one more.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.put(Cow::Owned(name.to_owned()), value.as_bytes());
        self
    }

    pub(super) fn to_kafka(&self) -> OwnedHeaders {
        self.iter().fold(OwnedHeaders::new_with_capacity(self.names.len()), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value) })
        })
    }

    pub(super) fn from_kafka(headers: Option<&BorrowedHeaders>) -> Self {
        let Some(headers) = headers else { return Self::default() };
        let name = |key: &str| {
            let ours = NAMES.iter().find(|name| **name == key);
            ours.map_or_else(|| Cow::Owned(key.to_owned()), |name| Cow::Borrowed(*name))
        };
        let mut ours = Self::with_room(headers.count());
        headers.iter().for_each(|header| ours.put(name(header.key), header.value.unwrap_or_default()));
        ours
    }
}
