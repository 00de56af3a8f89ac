//! Events in quarantine: which wait, and an operator's word on them, written back to `received.<source>`.
//!
//! The quarantined envelope goes back unchanged, body and evidence with it, to the very partition it came from: there
//! stands its id's marker. What could not be decoded goes back as the bytes it was. The router decides; see its table.

use std::collections::HashSet;

use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::audit;
use super::error::OperateError;
use super::read::{Newest, at, unsettled};
use super::selection::{Candidate, Selection};
use super::write::{Done, Writer};
use crate::avro::AvroError;
use crate::event::{AuditEntry, Envelope, Mark, Quarantined, Sha256, Timestamp};
use crate::kafka::group::Incoming;
use crate::kafka::headers::Headers;
use crate::kafka::layout::{Encoders, Ground};
use crate::kafka::produce::Outgoing;
use crate::outcome::QuarantineReason;
use crate::topics;

/// An event that waits in quarantine, without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    /// Its source.
    pub source: String,
    /// Its id.
    pub event_id: String,
    /// Its type.
    pub event_type: String,
    /// Digest of its body.
    pub body_sha256: Sha256,
    /// When it was received.
    pub received_at: Timestamp,
    /// Whether it is bytes that could not be decoded.
    pub is_undecodable: bool,
    /// Why it was set aside the last time.
    pub reason: String,
    /// What exactly was wrong.
    pub detail: Option<String>,
    /// When that was.
    pub quarantined_at: Timestamp,
    /// Where its newest row stands in `quarantine`: partition and offset.
    pub place: (i32, i64),
}

impl Aside {
    fn of(row: &Incoming, aside: Quarantined) -> Self {
        let Quarantined { envelope, reason, detail, quarantined_at, .. } = aside;
        let is_undecodable = was_undecodable(&envelope);
        let Envelope { source, event_id, event_type, body_sha256, received_at, .. } = envelope;
        Self {
            source,
            event_id,
            event_type,
            body_sha256,
            received_at,
            is_undecodable,
            reason,
            detail,
            quarantined_at,
            place: (row.partition.number, row.offset),
        }
    }

    fn candidate(&self) -> Candidate<'_> {
        let Self { event_id, source, reason, quarantined_at, .. } = self;
        Candidate { event_id, source, target: None, reason, at: *quarantined_at }
    }

    /// For programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "source": self.source,
            "event_id": self.event_id,
            "event_type": self.event_type,
            "body_sha256": self.body_sha256.to_string(),
            "received_at": self.received_at.to_string(),
            "reason": self.reason,
            "detail": self.detail,
            "quarantined_at": self.quarantined_at.to_string(),
        })
    }
}

/// Events that wait, oldest first: of each source, id and body the newest row, unless it says that it is settled. Blocks.
///
/// # Errors
/// When the topic cannot be read or a row not be decoded.
pub fn waiting(ground: &Ground, runtime: &Handle, selection: &Selection) -> Result<Vec<Aside>, OperateError> {
    let mut waiting = unsettled(ground, runtime, topics::QUARANTINE, |row, aside: Quarantined| {
        let is_settled = aside.settled.is_some();
        let what = Aside::of(row, aside);
        Newest { name: (what.source.clone(), what.event_id.clone(), what.body_sha256), is_settled, what }
    })?;
    waiting.retain(|aside| selection.takes(aside.candidate()));
    waiting.sort_by_key(|aside| (aside.quarantined_at, aside.place));
    Ok(waiting)
}

/// The rows of these events, bodies and evidence with them. Blocks.
///
/// # Errors
/// As [`waiting`].
pub fn bodies(ground: &Ground, runtime: &Handle, wanted: &[Aside]) -> Result<Vec<Quarantined>, OperateError> {
    let mut found = Vec::new();
    at(ground, runtime, topics::QUARANTINE, &places_of(wanted), |_, aside| {
        found.push(aside);
        Ok(())
    })?;
    Ok(found)
}

fn places_of(asides: &[Aside]) -> HashSet<(i32, i64)> {
    asides.iter().map(|aside| aside.place).collect()
}

/// Writes these events back with this mark, in transactions that hold their entries in `audit` too. Blocks.
///
/// # Errors
/// When Kafka does not take them. What was written before stays.
pub fn act(
    ground: &Ground,
    encoders: &Encoders,
    runtime: &Handle,
    wanted: &[Aside],
    mark: &Mark,
    selection: &Selection,
) -> Result<Done, OperateError> {
    let entry = |events| entry(mark, selection, events);
    let mut writer = Writer::open(ground, encoders, mark.id(), &entry)?;
    at(ground, runtime, topics::QUARANTINE, &places_of(wanted), |_, aside: Quarantined| {
        writer.push(marked(ground, encoders, &aside, mark)?)
    })?;
    writer.finish()
}

fn entry(mark: &Mark, selection: &Selection, events: usize) -> AuditEntry {
    let (action, accept) = match mark {
        Mark::Replay { accept_revision, .. } => ("quarantine.replay", *accept_revision),
        Mark::Discard { .. } => ("quarantine.discard", false),
    };
    let detail = json!({
        "operation": mark.id(),
        "events": events,
        "accept_revision": accept,
        "selection": selection.to_json(),
    });
    audit::entry(audit::actor(), action, selection.subject(events), &detail)
}

/// Whether this is what stands in for the envelope of bytes that could not be decoded.
fn was_undecodable(envelope: &Envelope) -> bool {
    envelope.unusable.as_deref() == Some(QuarantineReason::Undecodable.name())
}

/// The envelope as it was, marked, for the partition where the marker of its id stands; to be decided again, the bytes that
/// were no envelope.
fn marked(ground: &Ground, encoders: &Encoders, aside: &Quarantined, mark: &Mark) -> Result<Outgoing, AvroError> {
    let envelope = &aside.envelope;
    let topic = topics::received(&envelope.source);
    let headers = Headers::of_received(envelope, None);
    let (value, mark) = match mark {
        // Where the bytes are kept in `received` alone, there are none here.
        Mark::Replay { id, accept_revision, .. }
            if was_undecodable(envelope) && Sha256::of(&envelope.body) == envelope.body_sha256 =>
        {
            let mark = Mark::Replay { id: id.clone(), accept_revision: *accept_revision, read_again: true };
            (envelope.body.to_vec(), mark)
        }
        _ => (encoders.of(&topic).ok_or_else(|| AvroError::Unknown(topic.clone()))?.encode(envelope)?, mark.clone()),
    };
    Ok(Outgoing {
        value,
        topic: ground.cluster.topic(&topic),
        partition: Some(aside.received_partition),
        key: envelope.event_id.clone().into_bytes(),
        headers: mark.headers().into_iter().fold(headers, |headers, (name, value)| headers.with(name, value)),
        timestamp_ms: Some(Timestamp::now().as_millis()),
    })
}
