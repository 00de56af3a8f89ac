//! What does not balance, by name.

use serde_json::{Value, json};

use crate::event::Sha256;
use crate::outcome::Discrepancy;

/// An event or record that a ledger cannot account for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fault {
    /// Which ledger: a source's or a target's name.
    pub ledger: String,
    /// What is wrong.
    pub what: Discrepancy,
    /// The event; empty where it cannot be read.
    pub event_id: String,
    /// Digest of its body, where that is known.
    pub body_sha256: Option<Sha256>,
    /// Where the row stands that it is about: topic without prefix, partition, offset.
    pub place: (String, i32, i64),
    /// In words.
    pub detail: String,
}

impl Fault {
    /// For programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (topic, partition, offset) = &self.place;
        json!({
            "ledger": self.ledger,
            "what": self.what.name(),
            "event_id": self.event_id,
            "body_sha256": self.body_sha256.map(|sha256| sha256.to_string()),
            "topic": topic,
            "partition": partition,
            "offset": offset,
            "detail": self.detail,
        })
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (topic, partition, offset) = &self.place;
        let Self { ledger, what, event_id, detail, .. } = self;
        write!(f, "{ledger}  {what}  {event_id}  {topic}/{partition}@{offset}  {detail}")
    }
}
