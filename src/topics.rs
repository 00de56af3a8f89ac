//! The one table of topics: what each is for, its key, its schema, and how it is kept.

use std::fmt;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);
/// Largest record any of our topics takes, in bytes: a body at the limit (a quarter of this) fits as envelope, record,
/// quarantine and dead letter.
pub const MAX_RECORD_BYTES: u32 = 4 * 1024 * 1024;
/// Room for a record's key, headers and Kafka's own framing beside its value.
pub const FRAME_BYTES: usize = 64 * 1024;
/// Largest value of a record, which leaves that room.
pub const MAX_VALUE_BYTES: usize = MAX_RECORD_BYTES as usize - FRAME_BYTES;
/// How long `seen` outlives the dedupe window: a day, and a segment's time on top.
pub const SEEN_MARGIN: Duration = Duration::from_secs(2 * 86_400);

/// Which topic, without names of sources and targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `received.<source>`
    Received,
    /// `seen.<source>`
    Seen,
    /// One of the record topics.
    Records,
    /// `quarantine`
    Quarantine,
    /// `dead-letters`
    DeadLetters,
    /// `attempts`
    Attempts,
    /// `statements`
    Statements,
    /// `audit`
    Audit,
    /// `parked.<target>`
    Parked,
    /// `progress.<target>`
    Progress,
    /// `redeliver.<target>`
    Redeliver,
    /// `control`
    Control,
}

/// How long a topic keeps a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleanup {
    /// Deleted after this time.
    Delete(Duration),
    /// Newest per key, deleted after this time.
    CompactDelete(Duration),
    /// Newest per key, for ever.
    Compact,
    /// Never by time: it holds work.
    Keep,
}

/// How many partitions a topic has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partitions {
    /// `kafka.partitions`.
    Configured,
    /// One: small and read whole.
    One,
}

/// One topic as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Which.
    pub kind: Kind,
    /// Name without prefix, e.g. `received.accelex`.
    pub name: String,
    /// Name of the value's schema: the file in `schemas/` and the Avro record.
    pub schema: &'static str,
    /// How records are kept.
    pub cleanup: Cleanup,
    /// How many partitions.
    pub partitions: Partitions,
}

/// Record topics with the schema of their values.
pub const RECORDS: [(&str, &str); 7] = [
    ("invoices", "InvoiceRecord"),
    ("contracts", "ContractRecord"),
    ("cases", "CaseRecord"),
    ("compliance", "ComplianceRecord"),
    ("transactions", "TransactionRecord"),
    ("reviews", "ReviewRecord"),
    ("feeds", "FeedRecord"),
];

/// Name of `received.<source>` without prefix.
#[must_use]
pub fn received(source: &str) -> String {
    format!("received.{source}")
}

/// Name of `seen.<source>` without prefix.
#[must_use]
pub fn seen(source: &str) -> String {
    format!("seen.{source}")
}

/// Name of `parked.<target>` without prefix.
#[must_use]
pub fn parked(target: &str) -> String {
    format!("parked.{target}")
}

/// Name of `redeliver.<target>` without prefix. Its records stand in the partition of the record that they repeat.
#[must_use]
pub fn redeliver(target: &str) -> String {
    format!("redeliver.{target}")
}

/// Key of a record's row in `parked.<target>`: its place in its topic (without prefix), or of a redelivery in
/// `redeliver.<target>`. The row's partition is the record's.
#[must_use]
pub fn parked_key(topic: &str, partition: i32, offset: i64) -> String {
    format!("{topic}/{partition}/{offset}")
}

/// Name of `progress.<target>` without prefix.
#[must_use]
pub fn progress(target: &str) -> String {
    format!("progress.{target}")
}

/// Partition of `progress.<target>` in which the positions of all partitions stand; what is known of entities stands where
/// their records do. What a transaction costs the broker, and how long it takes, goes by the partitions that it touches.
pub const POSITIONS: i32 = 0;

/// The consumer group of all routers, without prefix.
pub const ROUTERS: &str = "router";

/// Name of the quarantine topic without prefix.
pub const QUARANTINE: &str = "quarantine";
/// Name of the dead-letter topic without prefix.
pub const DEAD_LETTERS: &str = "dead-letters";
/// Name of the attempts topic without prefix.
pub const ATTEMPTS: &str = "attempts";
/// Name of the audit topic without prefix.
pub const AUDIT: &str = "audit";
/// Name of the control topic without prefix.
pub const CONTROL: &str = "control";

/// Every topic of an installation with these sources, targets and dedupe window.
#[must_use]
pub fn all<'a>(
    sources: impl IntoIterator<Item = &'a str>,
    targets: impl IntoIterator<Item = &'a str>,
    dedupe_window: Duration,
) -> Vec<Topic> {
    use Cleanup::{Compact, CompactDelete, Delete, Keep};
    use Partitions::{Configured, One};
    let topic = |kind, name: String, schema, cleanup, partitions| Topic { kind, name, schema, cleanup, partitions };
    let mut topics = Vec::new();
    for source in sources {
        topics.push(topic(Kind::Received, received(source), "Envelope", Delete(30 * DAY), Configured));
        topics.push(topic(Kind::Seen, seen(source), "Seen", CompactDelete(dedupe_window + SEEN_MARGIN), Configured));
    }
    for (name, schema) in RECORDS {
        topics.push(topic(Kind::Records, name.to_owned(), schema, Delete(30 * DAY), Configured));
    }
    topics.push(topic(Kind::Quarantine, QUARANTINE.to_owned(), "Quarantined", Delete(90 * DAY), Configured));
    topics.push(topic(Kind::DeadLetters, DEAD_LETTERS.to_owned(), "DeadLetter", Delete(90 * DAY), Configured));
    topics.push(topic(Kind::Attempts, ATTEMPTS.to_owned(), "Attempt", Delete(30 * DAY), Configured));
    topics.push(topic(Kind::Statements, "statements".to_owned(), "Statement", Delete(400 * DAY), One));
    topics.push(topic(Kind::Audit, AUDIT.to_owned(), "AuditEntry", Delete(400 * DAY), One));
    topics.push(topic(Kind::Control, CONTROL.to_owned(), "Control", Compact, One));
    for target in targets {
        topics.push(topic(Kind::Parked, parked(target), "Parked", Compact, Configured));
        topics.push(topic(Kind::Progress, progress(target), "Progress", Compact, Configured));
        topics.push(topic(Kind::Redeliver, redeliver(target), "Redelivery", Keep, Configured));
    }
    topics
}

impl Topic {
    /// Kafka's name of the topic.
    #[must_use]
    pub fn full_name(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.name)
    }

    /// Subject of the value's schema at the registry (Confluent's `TopicNameStrategy`).
    #[must_use]
    pub fn subject(&self, prefix: &str) -> String {
        format!("{prefix}{}-value", self.name)
    }
}

impl Cleanup {
    /// Kafka's `cleanup.policy`.
    #[must_use]
    pub const fn policy(self) -> &'static str {
        match self {
            Self::Delete(_) | Self::Keep => "delete",
            Self::CompactDelete(_) => "compact,delete",
            Self::Compact => "compact",
        }
    }

    /// Kafka's `retention.ms`; -1 is for ever.
    #[must_use]
    pub fn retention_ms(self) -> i64 {
        match self {
            Self::Delete(time) | Self::CompactDelete(time) => i64::try_from(time.as_millis()).unwrap_or(-1),
            Self::Compact | Self::Keep => -1,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_records_keep_their_order() {
        let topics = all(["accelex", "accbooks"], ["erp"], 30 * DAY);
        let names: std::collections::BTreeSet<_> = topics.iter().map(|t| &t.name).collect();
        assert_eq!(names.len(), topics.len());
        assert_eq!(names.len(), 2 * 2 + 7 + 6 + 3);
    }

    #[test]
    fn seen_outlives_the_window() {
        let topics = all(["a"], [], 30 * DAY);
        let seen = topics.iter().find(|t| t.kind == Kind::Seen).map(|t| t.cleanup);
        assert_eq!(seen, Some(Cleanup::CompactDelete(32 * DAY)));
    }
}
