//! From decisions to the records that one transaction writes.

use bytes::Bytes;

use crate::avro::AvroError;
use crate::event::{Envelope, Evidence, MAX_EVENT_ID_BYTES, Origin, Quarantined, Record, Seen, Sha256, Timestamp};
use crate::kafka::client::Cluster;
use crate::kafka::group::Incoming;
use crate::kafka::headers::{CloudEvent, Headers};
use crate::kafka::layout::Encoders;
use crate::kafka::produce::Outgoing;
use crate::outcome::QuarantineReason;
use crate::topics::{self, FRAME_BYTES, MAX_VALUE_BYTES};

/// What a record takes beside its attributes, mostly: a frame that grows is copied.
const BESIDE_ATTRIBUTES: usize = 1024;
/// Longest trace context that goes on.
const MAX_TRACEPARENT_BYTES: usize = 255;

/// Why an event stands in quarantine, or does no longer wait there.
pub(super) struct Why<'a> {
    /// Stable reason; the outcome's name where it is settled.
    pub(super) reason: &'a str,
    /// What exactly was wrong.
    pub(super) detail: Option<&'a str>,
    /// What an operator's word came to.
    pub(super) settled: Option<&'a str>,
}

/// Makes outgoing records.
pub(super) struct Writer<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) encoders: &'a Encoders,
}

impl Writer<'_> {
    /// The record of a routed event; none where it is larger than Kafka takes.
    pub(super) fn record(
        &self,
        record: &Record,
        row: &Incoming,
        now: Timestamp,
    ) -> Result<Option<Outgoing>, AvroError> {
        let encoder = self.encoder(record.topic())?;
        let room = record.attributes().len() + BESIDE_ATTRIBUTES;
        let value = match record {
            Record::Invoice(r) => encoder.encode_within(r, room),
            Record::Contract(r) => encoder.encode_within(r, room),
            Record::Case(r) => encoder.encode_within(r, room),
            Record::Compliance(r) => encoder.encode_within(r, room),
            Record::Transaction(r) => encoder.encode_within(r, room),
            Record::Review(r) => encoder.encode_within(r, room),
            Record::Feed(r) => encoder.encode_within(r, room),
        }?;
        if value.len() > MAX_VALUE_BYTES {
            return Ok(None);
        }
        let time = record.occurred_at().map(|t| t.to_string());
        let headers = Headers::cloud_event(&CloudEvent {
            id: record.event_id(),
            source: record.source(),
            event_type: record.event_type(),
            time: time.as_deref(),
            subject: Some(record.entity_id()),
            // Ours have 55 characters; of others none is worth a record that Kafka does not take.
            traceparent: row.headers.get("traceparent").filter(|text| text.len() <= MAX_TRACEPARENT_BYTES),
        });
        Ok(Some(Outgoing {
            topic: self.cluster.topic(record.topic()),
            partition: None,
            key: record.key().into_bytes(),
            value,
            headers,
            timestamp_ms: Some(now.as_millis()),
        }))
    }

    /// The marker of an id, in the partition of the same number as its row in this source's topic.
    pub(super) fn seen(
        &self,
        source: &str,
        envelope: &Envelope,
        seen: &Seen,
        row: &Incoming,
    ) -> Result<Outgoing, AvroError> {
        let topic = topics::seen(source);
        Ok(Outgoing {
            value: self.encoder(&topic)?.encode(seen)?,
            topic: self.cluster.topic(&topic),
            partition: Some(row.partition.number),
            key: envelope.event_id.clone().into_bytes(),
            headers: Headers::default(),
            timestamp_ms: Some(seen.first_routed_at.as_millis()),
        })
    }

    /// An event set aside, or settled after that.
    pub(super) fn quarantined(
        &self,
        envelope: &Envelope,
        why: &Why<'_>,
        row: &Incoming,
        now: Timestamp,
    ) -> Result<Outgoing, AvroError> {
        let encoder = self.encoder(topics::QUARANTINE)?;
        let mut aside = Quarantined {
            envelope: envelope.clone(),
            reason: why.reason.to_owned(),
            detail: why.detail.map(str::to_owned),
            quarantined_at: now,
            received_partition: row.partition.number,
            received_offset: row.offset,
            settled: why.settled.map(str::to_owned),
        };
        let mut value = encoder.encode(&aside)?;
        if value.len() > MAX_VALUE_BYTES {
            value = encoder.encode(shortened(&mut aside))?;
        }
        // Ours are a few hundred bytes; whoever wrote others has them in `received`.
        let fits = row.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() < FRAME_BYTES / 2;
        let headers = if fits { row.headers.clone() } else { Headers::default() };
        Ok(Outgoing {
            topic: self.cluster.topic(topics::QUARANTINE),
            partition: None,
            key: envelope.event_id.clone().into_bytes(),
            value,
            headers: headers.with("lh_reason", why.reason),
            timestamp_ms: Some(now.as_millis()),
        })
    }

    fn encoder(&self, topic: &str) -> Result<&crate::kafka::codec::Encoder, AvroError> {
        self.encoders.of(topic).ok_or_else(|| AvroError::Unknown(topic.to_owned()))
    }
}

/// One that no receiver of ours wrote, too large to be kept whole a second time: its body stays where it was received, and
/// nothing is to be made of the rest.
fn shortened(aside: &mut Quarantined) -> &Quarantined {
    let Quarantined { envelope, detail, .. } = &mut *aside;
    let size = format!("its body of {} bytes is kept in `received` alone", envelope.body.len());
    *detail = Some(detail.take().map_or_else(|| size.clone(), |detail| format!("{detail}; {size}")));
    envelope.unusable.get_or_insert_with(|| QuarantineReason::RecordTooLarge.to_string());
    envelope.body = Bytes::new();
    aside
}

/// A row again, as it is, in another partition of its topic.
pub(super) fn passed_on(row: &Incoming, partition: i32) -> Outgoing {
    Outgoing {
        topic: row.partition.topic.clone(),
        partition: Some(partition),
        key: row.key.clone().unwrap_or_default(),
        value: row.value.clone().unwrap_or_default(),
        headers: row.headers.clone(),
        // Kept for no longer than where it stood.
        timestamp_ms: row.timestamp_ms,
    }
}

/// What stands in for the envelope of a row that cannot be decoded, so that its bytes are kept and can be found.
pub(super) fn undecodable(row: &Incoming, source: &str, now: Timestamp) -> Envelope {
    let body = Bytes::from(row.value.clone().unwrap_or_default());
    let key = row.key.as_deref().filter(|key| (1..=MAX_EVENT_ID_BYTES).contains(&key.len()));
    let key = key.map(String::from_utf8_lossy);
    Envelope {
        event_id: key.map_or_else(|| format!("{}-{}", row.partition.number, row.offset), |key| key.into_owned()),
        source: source.to_owned(),
        event_type: String::new(),
        occurred_at: None,
        received_at: row.timestamp_ms.map_or(now, |ms| Timestamp::from_micros(ms.saturating_mul(1000))),
        content_type: None,
        body_sha256: Sha256::of(&body),
        body,
        unusable: Some(QuarantineReason::Undecodable.to_string()),
        test: None,
        evidence: Evidence::absent(),
        origin: Origin::Live,
    }
}
