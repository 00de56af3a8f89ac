//! An event as it was received, with its evidence, and the same set aside by the router.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::Digest;

use super::json::{wire_enum, wire_record};
use super::{Timestamp, ToJson};

/// Longest event id taken, in bytes. Ids are Kafka keys, metric-free but indexed; both providers' are under 40.
pub const MAX_EVENT_ID_BYTES: usize = 255;
/// Longest event type, in bytes of UTF-8: it travels in a record header and in every record.
pub const MAX_EVENT_TYPE_BYTES: usize = 255;

/// A SHA-256 digest: 32 bytes on the wire, lower-case hex for people.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The digest with this value.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Sha256 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digest32;
        impl serde::de::Visitor<'_> for Digest32 {
            type Value = Sha256;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the 32 bytes of a SHA-256 digest")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Sha256, E> {
                bytes.try_into().map(Sha256).map_err(|_| E::invalid_length(bytes.len(), &self))
            }
        }
        deserializer.deserialize_bytes(Digest32)
    }
}

wire_enum! {
    /// How an event reached Kafka.
    Origin {
        /// Produced while the provider waited for its answer.
        Live = "LIVE",
        /// Came through a receiver's disk spool.
        Spool = "SPOOL",
        /// Imported from a file.
        Backfill = "BACKFILL",
    }
}

fn live() -> Origin {
    Origin::Live
}

wire_record! {
    /// What an auditor needs to check an event's signature again. Schema: `Evidence` in `schemas/Envelope.avsc`.
    Evidence {
        /// Name of the header that carried the signature.
        signature_header: String,
        /// That header's value as received.
        signature_value: String,
        /// Signature algorithm, e.g. `hmac-sha256`.
        algorithm: String,
        /// Id of the configured secret that matched.
        key_id: String,
        /// The sender's IP address.
        remote_address: String,
        /// SHA-256 fingerprint of the client certificate in hex; none without mutual TLS.
        client_certificate_sha256: Option<String>,
        /// Ledgerhook's id of the HTTP request (UUIDv7).
        request_id: String,
        /// Id of the receiver instance that took the request.
        receiver_id: String,
        /// Request headers without credentials, names in lower case.
        headers: BTreeMap<String, String>,
    }
}

impl Evidence {
    /// No evidence: what stands in where a row cannot be decoded.
    #[must_use]
    pub const fn absent() -> Self {
        Self {
            signature_header: String::new(),
            signature_value: String::new(),
            algorithm: String::new(),
            key_id: String::new(),
            remote_address: String::new(),
            client_certificate_sha256: None,
            request_id: String::new(),
            receiver_id: String::new(),
            headers: BTreeMap::new(),
        }
    }
}

/// One verified webhook exactly as received. Schema: `schemas/Envelope.avsc`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The provider's event id; the request id where the body carries no usable one.
    pub event_id: String,
    /// Name of the source.
    pub source: String,
    /// The provider's event type; empty where the body carries none.
    pub event_type: String,
    /// When the event happened by the provider's clock.
    pub occurred_at: Option<Timestamp>,
    /// When the receiver had read the whole body.
    pub received_at: Timestamp,
    /// Content-Type as received.
    pub content_type: Option<String>,
    /// The raw body, byte for byte.
    pub body: Bytes,
    /// Digest of `body`.
    pub body_sha256: Sha256,
    /// Why the event cannot be mapped (a [`crate::outcome::Unusable`] by name); none for a usable one.
    pub unusable: Option<String>,
    /// Why this is a provider's test event (a [`crate::outcome::TestMark`] by name); none for a real one.
    #[serde(default)]
    pub test: Option<String>,
    /// How the sender was verified.
    pub evidence: Evidence,
    /// How the event reached Kafka.
    #[serde(default = "live")]
    pub origin: Origin,
}

/// An envelope as it is routed: its evidence is passed over, since nothing is decided by it and it is a dozen texts. A row
/// that no receiver of ours wrote may so be routed though its evidence cannot be read.
#[derive(Deserialize)]
pub struct Unproved {
    event_id: String,
    source: String,
    event_type: String,
    occurred_at: Option<Timestamp>,
    received_at: Timestamp,
    content_type: Option<String>,
    body: Bytes,
    body_sha256: Sha256,
    unusable: Option<String>,
    #[serde(default)]
    test: Option<String>,
    #[serde(default = "live")]
    origin: Origin,
}

impl From<Unproved> for Envelope {
    /// With no evidence in place of its own.
    fn from(read: Unproved) -> Self {
        Self {
            event_id: read.event_id,
            source: read.source,
            event_type: read.event_type,
            occurred_at: read.occurred_at,
            received_at: read.received_at,
            content_type: read.content_type,
            body: read.body,
            body_sha256: read.body_sha256,
            unusable: read.unusable,
            test: read.test,
            evidence: Evidence::absent(),
            origin: read.origin,
        }
    }
}

/// Bodies hold people's data: shown by length and digest alone.
impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("event_id", &self.event_id)
            .field("source", &self.source)
            .field("event_type", &self.event_type)
            .field("received_at", &self.received_at)
            .field("body_bytes", &self.body.len())
            .field("body_sha256", &self.body_sha256)
            .field("unusable", &self.unusable)
            .finish_non_exhaustive()
    }
}

impl ToJson for Envelope {
    /// The envelope with its body as text; a body that is not UTF-8 is shown in hex as `body_hex`.
    fn to_json(&self) -> serde_json::Value {
        let mut object = serde_json::Map::new();
        let mut put = |name: &str, value: serde_json::Value| object.insert(name.to_owned(), value);
        put("event_id", self.event_id.to_json());
        put("source", self.source.to_json());
        put("event_type", self.event_type.to_json());
        put("occurred_at", self.occurred_at.to_json());
        put("received_at", self.received_at.to_json());
        put("content_type", self.content_type.to_json());
        match std::str::from_utf8(&self.body) {
            Ok(text) => put("body", text.into()),
            Err(_) => put("body_hex", hex::encode(&self.body).into()),
        };
        put("body_sha256", self.body_sha256.to_json());
        put("unusable", self.unusable.to_json());
        put("test", self.test.to_json());
        put("evidence", self.evidence.to_json());
        put("origin", self.origin.to_json());
        object.into()
    }
}

wire_record! {
    /// An event set aside because it cannot be routed as it is. Schema: `schemas/Quarantined.avsc`.
    Quarantined {
        /// The event as it was received.
        envelope: Envelope,
        /// Stable reason (a [`crate::outcome::QuarantineReason`] by name).
        reason: String,
        /// What exactly was wrong.
        detail: Option<String>,
        /// When the router set it aside.
        quarantined_at: Timestamp,
        /// Partition of `received.<source>` the event stands in.
        received_partition: i32,
        /// Its offset there.
        received_offset: i64,
        /// What an operator's word on it came to; none while it waits for one. The newest row of an event counts.
        #[serde(default)]
        settled: Option<String>,
    }
}
