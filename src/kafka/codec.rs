//! Confluent's wire format: a zero byte, the schema id as four big-endian bytes, the Avro datum.
//! Source: <https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format>.

use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};

use super::registry::{Registry, RegistryError};
use crate::avro::{AvroError, Schema};

const MAGIC: u8 = 0;
/// What stands before the datum.
pub const HEAD_BYTES: usize = 5;

/// Writes values of one schema, framed with its id.
#[derive(Clone, Debug)]
pub struct Encoder {
    id: u32,
    schema: Arc<Schema>,
}

/// Why a record's value could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// No value.
    #[error("no value")]
    Empty,
    /// Not the wire format.
    #[error("not in Confluent's wire format: {0}")]
    NotFramed(&'static str),
    /// The schema could not be had.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The datum does not fit the schema or the type.
    #[error(transparent)]
    Avro(#[from] AvroError),
}

impl DecodeError {
    /// Whether waiting may help: the bytes may be fine, but the registry is away.
    #[must_use]
    pub const fn is_away(&self) -> bool {
        matches!(self, Self::Registry(e) if e.is_away())
    }
}

impl Encoder {
    /// Writes with one of our schemas under this id.
    ///
    /// # Errors
    /// When there is no schema of this name.
    pub fn new(name: &str, id: u32) -> Result<Self, AvroError> {
        Ok(Self { id, schema: Arc::new(Schema::ours(name)?) })
    }

    /// The schema it writes with, and its id.
    pub(super) fn writes(&self) -> (u32, Arc<Schema>) {
        (self.id, Arc::clone(&self.schema))
    }

    /// Whether this framed value was written with the same schema, by its id.
    #[must_use]
    pub fn wrote(&self, bytes: &[u8]) -> bool {
        matches!(split(Some(bytes)), Ok((id, _)) if id == self.id)
    }

    /// Reads a value that was written with the same schema; a type with fewer fields leaves the others out.
    ///
    /// # Errors
    /// When the bytes are no such value.
    pub fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, DecodeError> {
        let (_, datum) = split(Some(bytes))?;
        Ok(self.schema.read(datum)?)
    }

    /// The framed value.
    ///
    /// # Errors
    /// When the value does not fit the schema.
    pub fn encode<T: Serialize>(&self, value: &T) -> Result<Vec<u8>, AvroError> {
        self.encode_within(value, 256)
    }

    /// The framed value, which is not likely to be longer than so many bytes: a frame that grows is copied.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn encode_within<T: Serialize>(&self, value: &T, bytes: usize) -> Result<Vec<u8>, AvroError> {
        let mut frame = Vec::with_capacity(bytes);
        frame.push(MAGIC);
        frame.extend_from_slice(&self.id.to_be_bytes());
        self.schema.write(value, frame)
    }
}

/// Reads framed values of any schema the registry knows.
#[derive(Clone)]
pub struct Decoder {
    registry: Arc<Registry>,
}

impl Decoder {
    /// Reads with the schemas of this registry.
    #[must_use]
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }

    /// Reads a value; asks the registry once per unknown id.
    ///
    /// # Errors
    /// When the bytes are no such value, or the schema cannot be had.
    pub async fn decode<T: DeserializeOwned>(&self, bytes: Option<&[u8]>) -> Result<T, DecodeError> {
        let (id, datum) = split(bytes)?;
        Ok(self.registry.schema(id).await?.read(datum)?)
    }

    /// The schema id of a framed value that was not met before: the registry has to be asked for it.
    #[must_use]
    pub fn unknown(&self, bytes: Option<&[u8]>) -> Option<u32> {
        let (id, _) = split(bytes).ok()?;
        self.registry.cached(id).is_none().then_some(id)
    }

    /// As [`Decoder::decode`], for a value whose schema id was met before: asks nobody.
    ///
    /// # Errors
    /// When the bytes are no such value, or their schema was not met.
    pub fn decode_known<T: DeserializeOwned>(&self, bytes: Option<&[u8]>) -> Result<T, DecodeError> {
        let (id, datum) = split(bytes)?;
        let schema = self.registry.cached(id).ok_or(DecodeError::NotFramed("of a schema not asked for"))?;
        Ok(schema.read(datum)?)
    }

    /// As [`Decoder::decode`], for a thread of its own: blocks only on an id not met before.
    ///
    /// # Errors
    /// As [`Decoder::decode`].
    pub fn decode_blocking<T: DeserializeOwned>(
        &self,
        runtime: &tokio::runtime::Handle,
        bytes: Option<&[u8]>,
    ) -> Result<T, DecodeError> {
        let (id, datum) = split(bytes)?;
        let schema = match self.registry.cached(id) {
            Some(schema) => schema,
            None => runtime.block_on(self.registry.schema(id))?,
        };
        Ok(schema.read(datum)?)
    }
}

/// The schema's id and the datum of a framed value.
///
/// # Errors
/// When it is not framed.
pub fn split(bytes: Option<&[u8]>) -> Result<(u32, &[u8]), DecodeError> {
    let bytes = bytes.ok_or(DecodeError::Empty)?;
    match bytes.split_at_checked(HEAD_BYTES) {
        Some(([MAGIC, a, b, c, d], datum)) => Ok((u32::from_be_bytes([*a, *b, *c, *d]), datum)),
        Some(_) => Err(DecodeError::NotFramed("first byte is not 0")),
        None => Err(DecodeError::NotFramed("shorter than five bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_a_zero_byte_an_id_and_a_datum() {
        assert!(matches!(split(Some(&[0, 0, 0, 1, 2, 7])), Ok((258, [7]))));
        assert!(matches!(split(Some(&[0, 0, 0, 0, 1])), Ok((1, []))));
        assert!(matches!(split(None), Err(DecodeError::Empty)));
        assert!(matches!(split(Some(&[1, 0, 0, 0, 1, 7])), Err(DecodeError::NotFramed(_))));
        assert!(matches!(split(Some(&[0, 0, 0, 0])), Err(DecodeError::NotFramed(_))));
    }

    #[test]
    fn an_encoder_writes_its_id_first() {
        let encoder = Encoder::new("FeedRecord", 0x0102_0304).unwrap();
        assert!(encoder.encode(&1_i32).is_err(), "a value that does not fit is refused");
        let encoder = Encoder { id: 0x0102_0304, schema: Arc::new(Schema::parse("int", "\"int\"").unwrap()) };
        assert_eq!(encoder.encode(&1_i32).unwrap(), [0, 1, 2, 3, 4, 2]);
    }
}
