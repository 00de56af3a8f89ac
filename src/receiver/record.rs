//! An envelope as a record of its topic: the same from a request and from the spool.

use crate::avro::AvroError;
use crate::event::Envelope;
use crate::kafka::codec::Encoder;
use crate::kafka::headers::Headers;
use crate::kafka::produce::Outgoing;

/// What an envelope takes beside the body, mostly: ids, evidence and the request's headers.
const BESIDE_BODY: usize = 1024;

/// The record of an event; `topic` is Kafka's name.
///
/// # Errors
/// When the envelope does not fit its schema.
pub(super) fn record(
    topic: &str,
    encoder: &Encoder,
    envelope: &Envelope,
    traceparent: &str,
) -> Result<Outgoing, AvroError> {
    Ok(Outgoing {
        topic: topic.to_owned(),
        partition: None,
        key: envelope.event_id.clone().into_bytes(),
        value: encoder.encode_within(envelope, envelope.body.len() + BESIDE_BODY)?,
        headers: Headers::of_received(envelope, Some(traceparent)),
        timestamp_ms: Some(envelope.received_at.as_millis()),
    })
}
