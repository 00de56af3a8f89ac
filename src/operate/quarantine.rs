//! Events in quarantine: which wait, and an operator's word on them, written back to `received.<source>`.
//!
//! The quarantined envelope goes back unchanged, body and evidence with it, to the very partition it came from: there
//! stands its id's marker. The router decides; see its table.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::audit;
use crate::avro::AvroError;
use crate::event::{AuditEntry, Envelope, Mark, Quarantined, Sha256, Timestamp, ToJson as _};
use crate::kafka::codec::DecodeError;
use crate::kafka::group::Incoming;
use crate::kafka::headers::Headers;
use crate::kafka::layout::{Encoders, Ground, LayoutError};
use crate::kafka::produce::Outgoing;
use crate::kafka::restore::{self, RestoreError};
use crate::kafka::transaction::{TransactionError, Transactions};
use crate::topics;

/// Most events of one transaction: its rows are held back from every reader until it ends.
pub const BATCH: usize = 500;
/// Bound on reading `quarantine` once.
const READ_BOUND: Duration = Duration::from_secs(600);
/// Bound on one transaction.
const TRANSACTION: Duration = Duration::from_secs(30);

/// Why an operator's word could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// The cluster is away.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The topic could not be read.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// A row could not be decoded.
    #[error("{topic}/{partition}@{offset}: {cause}")]
    Decode {
        /// Topic of the row.
        topic: String,
        /// Its partition.
        partition: i32,
        /// Its offset.
        offset: i64,
        /// What was wrong.
        cause: DecodeError,
    },
    /// A row could not be encoded.
    #[error(transparent)]
    Avro(#[from] AvroError),
    /// Kafka did not take it, or its answer was lost.
    #[error("after {done} events: {cause}; to ask again for all of them is safe")]
    Transaction {
        /// Events that were certainly written.
        done: usize,
        /// What failed.
        cause: TransactionError,
    },
}

/// Which events of the quarantine. Everything given has to hold.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// These ids; any where there are none.
    pub ids: Vec<String>,
    /// Of this source.
    pub source: Option<String>,
    /// Set aside for this reason.
    pub reason: Option<String>,
    /// Set aside at this time or later.
    pub from: Option<Timestamp>,
    /// Set aside before this time.
    pub to: Option<Timestamp>,
}

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
    /// Why it was set aside the last time.
    pub reason: String,
    /// What exactly was wrong.
    pub detail: Option<String>,
    /// When that was.
    pub quarantined_at: Timestamp,
    /// Where its newest row stands in `quarantine`: partition and offset.
    pub place: (i32, i64),
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Id of the operation: header of each row, and in `audit`.
    pub id: String,
    /// Events written back.
    pub events: usize,
}

impl Selection {
    /// Whether it takes this event.
    #[must_use]
    pub fn takes(&self, aside: &Aside) -> bool {
        (self.ids.is_empty() || self.ids.contains(&aside.event_id))
            && self.source.as_ref().is_none_or(|source| *source == aside.source)
            && self.reason.as_ref().is_none_or(|reason| *reason == aside.reason)
            && self.from.is_none_or(|from| aside.quarantined_at >= from)
            && self.to.is_none_or(|to| aside.quarantined_at < to)
    }

    /// Whether it leaves anything out.
    #[must_use]
    pub const fn is_everything(&self) -> bool {
        self.ids.is_empty()
            && self.source.is_none()
            && self.reason.is_none()
            && self.from.is_none()
            && self.to.is_none()
    }

    fn to_json(&self) -> Value {
        json!({
            "ids": self.ids.iter().take(20).collect::<Vec<_>>(),
            "source": self.source,
            "reason": self.reason,
            "from": self.from.to_json(),
            "to": self.to.to_json(),
        })
    }
}

impl Aside {
    fn of(row: &Incoming, aside: Quarantined) -> Self {
        let Quarantined { envelope, reason, detail, quarantined_at, .. } = aside;
        let Envelope { source, event_id, event_type, body_sha256, received_at, .. } = envelope;
        let place = (row.partition.number, row.offset);
        Self { source, event_id, event_type, body_sha256, received_at, reason, detail, quarantined_at, place }
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
    let mut waiting: HashMap<(String, String, Sha256), Aside> = HashMap::new();
    each(ground, runtime, |row, aside| {
        let is_settled = aside.settled.is_some();
        let aside = Aside::of(row, aside);
        let key = (aside.source.clone(), aside.event_id.clone(), aside.body_sha256);
        if is_settled {
            waiting.remove(&key);
        } else {
            waiting.insert(key, aside);
        }
        Ok(())
    })?;
    let mut waiting: Vec<Aside> = waiting.into_values().filter(|aside| selection.takes(aside)).collect();
    waiting.sort_by_key(|aside| (aside.quarantined_at, aside.place));
    Ok(waiting)
}

/// The rows of these events, bodies and evidence with them. Blocks.
///
/// # Errors
/// As [`waiting`].
pub fn bodies(ground: &Ground, runtime: &Handle, wanted: &[Aside]) -> Result<Vec<Quarantined>, OperateError> {
    let places: HashSet<(i32, i64)> = wanted.iter().map(|aside| aside.place).collect();
    let mut found = Vec::new();
    each(ground, runtime, |row, aside| {
        if places.contains(&(row.partition.number, row.offset)) {
            found.push(aside);
        }
        Ok(())
    })?;
    Ok(found)
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
    let mut done = Done { id: mark.id().to_owned(), events: 0 };
    let transaction = |done: usize| move |cause| OperateError::Transaction { done, cause };
    let id = format!("operate.{}", mark.id());
    let transactions = Transactions::open(&ground.cluster, &id, TRANSACTION).map_err(transaction(0))?;
    let places: HashSet<(i32, i64)> = wanted.iter().map(|aside| aside.place).collect();
    let mut pending: Vec<Outgoing> = Vec::with_capacity(BATCH);
    let mut commit = |pending: &mut Vec<Outgoing>| {
        if pending.is_empty() {
            return Ok(());
        }
        let entry = entry(mark, selection, pending.len());
        pending.push(audit::record(ground, encoders, &entry)?);
        let written = transactions.begin().and_then(|()| {
            pending.iter().try_for_each(|record| transactions.send(record))?;
            transactions.commit(&|why| tracing::warn!(why, "still waiting for Kafka"))
        });
        if let Err(cause) = written {
            // Where the broker does not hear it, it ends the transaction at its timeout.
            drop(transactions.abort());
            return Err(transaction(done.events)(cause));
        }
        done.events += pending.len() - 1;
        pending.clear();
        Ok(())
    };
    each(ground, runtime, |row, aside| {
        if places.contains(&(row.partition.number, row.offset)) {
            pending.push(marked(ground, encoders, &aside, mark)?);
        }
        if pending.len() >= BATCH { commit(&mut pending) } else { Ok(()) }
    })?;
    commit(&mut pending)?;
    Ok(done)
}

fn entry(mark: &Mark, selection: &Selection, events: usize) -> AuditEntry {
    let (action, accept) = match mark {
        Mark::Replay { accept_revision, .. } => ("quarantine.replay", *accept_revision),
        Mark::Discard { .. } => ("quarantine.discard", false),
    };
    let subject = match selection.ids.as_slice() {
        [id] => id.clone(),
        _ => format!("{events} events"),
    };
    let detail = json!({
        "operation": mark.id(),
        "events": events,
        "accept_revision": accept,
        "selection": selection.to_json(),
    });
    AuditEntry {
        at: Timestamp::now(),
        actor: audit::actor(),
        action: action.to_owned(),
        subject,
        detail: Some(detail.to_string()),
        request_id: None,
    }
}

/// The envelope as it was, marked, for the partition where the marker of its id stands.
fn marked(ground: &Ground, encoders: &Encoders, aside: &Quarantined, mark: &Mark) -> Result<Outgoing, AvroError> {
    let envelope = &aside.envelope;
    let topic = topics::received(&envelope.source);
    let headers = Headers::of_received(envelope, None);
    Ok(Outgoing {
        value: encoders.of(&topic).ok_or_else(|| AvroError::Unknown(topic.clone()))?.encode(envelope)?,
        topic: ground.cluster.topic(&topic),
        partition: Some(aside.received_partition),
        key: envelope.event_id.clone().into_bytes(),
        headers: mark.headers().into_iter().fold(headers, |headers, (name, value)| headers.with(name, value)),
        timestamp_ms: Some(Timestamp::now().as_millis()),
    })
}

/// Every row of `quarantine`, in order within each partition; nothing more after the first fault.
fn each(
    ground: &Ground,
    runtime: &Handle,
    mut take: impl FnMut(&Incoming, Quarantined) -> Result<(), OperateError>,
) -> Result<(), OperateError> {
    let decoder = ground.decoder();
    let partitions = ground.partitions_of(topics::QUARANTINE)?;
    let mut fault = None;
    restore::read_to_end(&ground.cluster, &partitions, READ_BOUND, |row| {
        if fault.is_some() {
            return;
        }
        let decoded = decoder.decode_blocking::<Quarantined>(runtime, row.value.as_deref());
        let taken = match decoded {
            Ok(aside) => take(&row, aside),
            Err(cause) => Err(OperateError::Decode {
                topic: row.partition.topic.clone(),
                partition: row.partition.number,
                offset: row.offset,
                cause,
            }),
        };
        fault = taken.err();
    })?;
    fault.map_or(Ok(()), Err)
}

/// How many events of each reason.
#[must_use]
pub fn by_reason(waiting: &[Aside]) -> BTreeMap<&str, usize> {
    waiting.iter().fold(BTreeMap::new(), |mut counts, aside| {
        *counts.entry(aside.reason.as_str()).or_default() += 1;
        counts
    })
}
