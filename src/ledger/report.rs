//! What is asked of a reconciliation, and what comes of it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::fault::Fault;
use super::sums::{SourceSums, Span, TargetSums};
use crate::event::{Timestamp, ToJson as _};

/// What is reconciled.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Names of the sources.
    pub sources: Vec<String>,
    /// The targets.
    pub targets: Vec<Target>,
    /// `router.dedupe_window`: how long a marker is kept at least.
    pub dedupe_window: Duration,
    /// Which events, by when they were received, and records, by when they were recorded.
    pub span: Span,
}

/// A target that is reconciled.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Record topics that it takes, without prefix.
    pub takes: Vec<String>,
    /// Whether it begins with the oldest record there is.
    pub from_oldest: bool,
}

/// What a receiver was last heard to hold that is not on Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Id of the receiver.
    pub receiver: String,
    /// Events.
    pub events: u64,
    /// When it said so.
    pub at: Timestamp,
}

/// Both ledgers.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// By source.
    pub sources: BTreeMap<String, SourceSums>,
    /// By target.
    pub targets: BTreeMap<String, TargetSums>,
    /// Acknowledged events that are not on Kafka yet.
    pub spooled: Vec<Held>,
    /// What does not add up, sorted.
    pub faults: Vec<Fault>,
}

impl Report {
    /// For programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let sums = |total: (&str, u64), named: &[(&str, u64)]| {
            let all = std::iter::once(&total).chain(named);
            all.map(|(name, sum)| ((*name).to_owned(), Value::from(*sum))).collect::<serde_json::Map<_, _>>()
        };
        let sources: BTreeMap<_, _> =
            self.sources.iter().map(|(name, s)| (name, sums(("rows", s.rows), &s.named()))).collect();
        let targets: BTreeMap<_, _> =
            self.targets.iter().map(|(name, s)| (name, sums(("records", s.records), &s.named()))).collect();
        let spooled = self.spooled.iter();
        json!({
            "balanced": self.faults.is_empty(),
            "sources": sources,
            "targets": targets,
            "spooled": spooled.map(|held| json!({ "receiver": held.receiver, "events": held.events, "at": held.at.to_json() })).collect::<Vec<_>>(),
            "faults": self.faults.iter().map(Fault::to_json).collect::<Vec<_>>(),
        })
    }
}
