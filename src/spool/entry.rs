//! What one record of the spool holds: an envelope with its trace, in a form that needs no registry.
//!
//! `received_at` in microseconds, 8 bytes little-endian | length of the traceparent, 2 bytes | traceparent | the
//! envelope's Avro datum by the schema in the segment's head.

use crate::avro::{AvroError, Schema};
use crate::event::{Envelope, Timestamp};

/// An event in the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The event as it was received.
    pub envelope: Envelope,
    /// Its `traceparent`.
    pub traceparent: String,
}

/// Why a record's payload is no entry.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// It is cut short, or its traceparent is no text.
    #[error("the entry's head is malformed")]
    Malformed,
    /// The envelope does not fit the schema.
    #[error(transparent)]
    Avro(#[from] AvroError),
}

/// The payload of an event.
///
/// # Errors
/// When the envelope cannot be written by the schema.
pub(super) fn encode(schema: &Schema, envelope: &Envelope, traceparent: &str) -> Result<Vec<u8>, EntryError> {
    let length = u16::try_from(traceparent.len()).map_err(|_| EntryError::Malformed)?;
    let mut payload = Vec::with_capacity(envelope.body.len() + 1024);
    payload.extend_from_slice(&envelope.received_at.as_micros().to_le_bytes());
    payload.extend_from_slice(&length.to_le_bytes());
    payload.extend_from_slice(traceparent.as_bytes());
    Ok(schema.write(envelope, payload)?)
}

/// The event of a payload.
///
/// # Errors
/// When it is none.
pub(super) fn decode(schema: &Schema, payload: &[u8]) -> Result<Entry, EntryError> {
    let rest = payload.get(8..).ok_or(EntryError::Malformed)?;
    let (length, rest) = rest.split_first_chunk().ok_or(EntryError::Malformed)?;
    let (trace, datum) = rest.split_at_checked(u16::from_le_bytes(*length).into()).ok_or(EntryError::Malformed)?;
    let traceparent = std::str::from_utf8(trace).map_err(|_| EntryError::Malformed)?;
    Ok(Entry { envelope: schema.read(datum)?, traceparent: traceparent.to_owned() })
}

/// When a payload's event was received, without reading the rest.
pub(super) fn received_at(payload: &[u8]) -> Option<Timestamp> {
    let micros = payload.first_chunk()?;
    Some(Timestamp::from_micros(i64::from_le_bytes(*micros)))
}
