//! Who acts, and the entry that says so.

use std::os::unix::fs::MetadataExt as _;

use serde_json::Value;

use crate::avro::AvroError;
use crate::event::{AuditEntry, Timestamp};
use crate::kafka::headers::Headers;
use crate::kafka::layout::{Encoders, Ground};
use crate::kafka::produce::Outgoing;
use crate::topics;

/// The local account that runs this program, as `user@host`. Asked of the system: variables can be set to anything.
#[must_use]
pub fn actor() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "localhost" } else { host.trim() };
    let Ok(own) = std::fs::metadata("/proc/self") else { return format!("unknown@{host}") };
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(own.uid())).then(|| name.to_owned())
    });
    format!("{}@{host}", name.unwrap_or_else(|| format!("uid-{}", own.uid())))
}

/// The entry of an action of now.
pub(super) fn entry(actor: String, action: &str, subject: String, detail: &Value) -> AuditEntry {
    let (at, action, detail) = (Timestamp::now(), action.to_owned(), Some(detail.to_string()));
    AuditEntry { at, actor, action, subject, detail, request_id: None }
}

/// The record of an entry.
pub(super) fn record(ground: &Ground, encoders: &Encoders, entry: &AuditEntry) -> Result<Outgoing, AvroError> {
    let encoder = encoders.of(topics::AUDIT).ok_or_else(|| AvroError::Unknown(topics::AUDIT.to_owned()))?;
    Ok(Outgoing {
        topic: ground.cluster.topic(topics::AUDIT),
        partition: None,
        key: entry.actor.clone().into_bytes(),
        value: encoder.encode(entry)?,
        headers: Headers::default(),
        timestamp_ms: Some(entry.at.as_millis()),
    })
}
