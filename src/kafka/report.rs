//! What a topic is, compared with what it should be. Pure.

use std::collections::BTreeMap;
use std::fmt;

use crate::topics::{Cleanup, Kind, MAX_RECORD_BYTES, Partitions, Topic};

/// One thing about a topic that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It does not exist.
    Missing {
        /// Kafka's name.
        topic: String,
    },
    /// A setting has a value that breaks a promise.
    Wrong {
        /// Kafka's name.
        topic: String,
        /// The setting.
        setting: &'static str,
        /// What it is.
        is: String,
        /// What it should be.
        should: String,
        /// What goes wrong otherwise.
        because: &'static str,
        /// What an operator is to do.
        mend: &'static str,
    },
}

const APPLY: &str = "correct it with `ledgerhook topics apply`";
/// Partitions cannot be taken away.
const AGAIN: &str = "delete it while it is empty and run `ledgerhook topics apply` again";
const ADD: &str = "add partitions to it with Kafka's own tool";
/// Routers go on looking where ids were placed, whichever of the two gets more.
const ADD_TO_SMALLER: &str = "add partitions to the smaller of the two with Kafka's own tool: ids stay where they are, until `ledgerhook topics grow`";

/// Something that works, but weakens a promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(pub String);

/// What a check of the topics found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What stops the start.
    pub faults: Vec<Fault>,
    /// What an operator should know.
    pub warnings: Vec<Warning>,
    /// Topics that one broker can stop, or whose acknowledged records it can lose, by replication factor and
    /// `min.insync.replicas`.
    weak: BTreeMap<(usize, i64), Vec<String>>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { topic } => {
                write!(f, "topic {topic} does not exist; create it with `ledgerhook topics apply`")
            }
            Self::Wrong { topic, setting, is, should, because, mend } => {
                write!(f, "topic {topic}: {setting} is {is}, must be {should}: {because}; {mend}")
            }
        }
    }
}

/// A topic as the cluster has it.
#[derive(Default)]
pub(super) struct Existing {
    pub(super) partitions: i32,
    /// Replicas of the partition that has fewest.
    pub(super) replication: usize,
    pub(super) settings: BTreeMap<String, String>,
    /// Settings that someone made for this topic; the others are the broker's.
    pub(super) set: Vec<String>,
}

/// Whether `topics apply` may correct this setting.
pub(super) fn is_config(setting: &str) -> bool {
    matches!(setting, "cleanup.policy" | "retention.ms" | "retention.bytes" | "max.message.bytes")
}

impl Report {
    /// Sums weak topics up in one warning for each degree of weakness.
    pub(super) fn tell_weak(&mut self) {
        for ((replication, min_insync), names) in std::mem::take(&mut self.weak) {
            let what = match i64::try_from(replication) {
                Ok(copies) if copies < min_insync => "no record can ever be acknowledged",
                Ok(copies) if copies > 1 && copies == min_insync => "with one broker away nothing can be written",
                _ => "with one broker, acknowledged records can be lost",
            };
            self.warnings.push(Warning(format!(
                "replication factor {replication} and min.insync.replicas {min_insync}: {what}; {} topics: {}",
                names.len(),
                names.join(", ")
            )));
        }
    }
}

/// Compares one topic with the table.
pub(super) fn compare(topic: &Topic, name: &str, is: &Existing, report: &mut Report) {
    let mut wrong = |setting, is: &str, should: String, because| {
        let mend = if is_config(setting) { APPLY } else { AGAIN };
        report.faults.push(Fault::Wrong { topic: name.to_owned(), setting, is: is.to_owned(), should, because, mend });
    };
    let setting = |key: &str| is.settings.get(key).map_or("", String::as_str);
    let number = |key: &str| setting(key).parse::<i64>().unwrap_or(0);

    if topic.partitions == Partitions::One && is.partitions != 1 {
        wrong("number of partitions", &is.partitions.to_string(), "1".into(), "it is read whole and in order");
    }
    let policy = setting("cleanup.policy");
    let mut words: Vec<&str> = policy.split(',').map(str::trim).collect();
    words.sort_unstable();
    let mut wanted: Vec<&str> = topic.cleanup.policy().split(',').collect();
    wanted.sort_unstable();
    if words != wanted {
        let because = match topic.cleanup {
            Cleanup::Delete(_) | Cleanup::Keep => "compaction would drop records that share a key",
            Cleanup::CompactDelete(_) | Cleanup::Compact => "without compaction the newest state of a key can be lost",
        };
        wrong("cleanup.policy", policy, topic.cleanup.policy().into(), because);
    }
    let (retention, should) = (number("retention.ms"), topic.cleanup.retention_ms());
    if matches!(topic.cleanup, Cleanup::CompactDelete(_)) && retention != -1 && retention < should {
        let because = "ids would be forgotten inside the dedupe window, and their repeats doubled";
        wrong("retention.ms", &retention.to_string(), format!("{should} or more, or -1"), because);
    }
    if matches!(topic.cleanup, Cleanup::Keep) && retention != -1 {
        wrong("retention.ms", &retention.to_string(), "-1".into(), "it holds work that time must not delete");
    }
    let bytes = setting("retention.bytes");
    if matches!(topic.cleanup, Cleanup::CompactDelete(_) | Cleanup::Keep) && !["", "-1"].contains(&bytes) {
        let because = "what is needed would be deleted for its size, whatever its age";
        wrong("retention.bytes", bytes, "-1".into(), because);
    }
    let max = number("max.message.bytes");
    if max < i64::from(MAX_RECORD_BYTES) {
        let because = "a body at the limit would not fit";
        wrong("max.message.bytes", &max.to_string(), format!("{MAX_RECORD_BYTES} or more"), because);
    }
    if matches!(topic.cleanup, Cleanup::Delete(_)) && retention != -1 && retention < should {
        report.warnings.push(Warning(format!(
            "topic {name}: retention.ms is {retention}, less than the usual {should}: what is not read in time is gone"
        )));
    }
    let min_insync = number("min.insync.replicas");
    if is.replication < 2 || min_insync < 2 || i64::try_from(is.replication).is_ok_and(|copies| copies <= min_insync) {
        report.weak.entry((is.replication, min_insync)).or_default().push(name.to_owned());
    }
}

/// Compares what has to be alike in two topics: `received` and `seen` of one source; the record topics and what targets
/// keep of their partitions.
pub(super) fn compare_pairs(
    topics: &[Topic],
    prefix: &str,
    existing: &BTreeMap<String, Existing>,
    report: &mut Report,
) {
    for topic in topics.iter().filter(|t| t.kind == Kind::Received) {
        let seen = format!("{}{}", prefix, topic.name.replacen("received.", "seen.", 1));
        let name = topic.full_name(prefix);
        if let (Some(received), Some(seen_is)) = (existing.get(&name), existing.get(&seen))
            && received.partitions != seen_is.partitions
        {
            report.faults.push(Fault::Wrong {
                topic: seen,
                setting: "number of partitions",
                is: seen_is.partitions.to_string(),
                should: format!("{} as in {name}", received.partitions),
                because: "an id's marker stands in the partition of the same number as the event",
                mend: ADD_TO_SMALLER,
            });
        }
    }
    let largest = topics.iter().filter(|t| t.kind == Kind::Records).map(|t| t.full_name(prefix));
    let largest = largest.filter_map(|name| existing.get(&name).map(|is| (is.partitions, name))).max();
    let Some((partitions, name)) = largest else { return };
    for topic in topics.iter().filter(|t| matches!(t.kind, Kind::Parked | Kind::Progress)) {
        let kept = topic.full_name(prefix);
        if let Some(is) = existing.get(&kept).filter(|is| is.partitions < partitions) {
            report.faults.push(Fault::Wrong {
                topic: kept,
                setting: "number of partitions",
                is: is.partitions.to_string(),
                should: format!("{partitions} as in {name}"),
                because: "what a target keeps of a record stands in the partition of the same number",
                mend: ADD,
            });
        }
    }
    let other = |kind: Kind| {
        let names = topics.iter().filter(move |topic| topic.kind == kind).map(|topic| topic.full_name(prefix));
        names.filter_map(|full| existing.get(&full).map(|is| (full, is.partitions))).filter(|(_, is)| *is != partitions)
    };
    for (topic, is) in other(Kind::Redeliver) {
        report.faults.push(Fault::Wrong {
            topic,
            setting: "number of partitions",
            is: is.to_string(),
            should: format!("{partitions} as in {name}"),
            because: "a replay stands in the partition of its record's number, and one deliverer has to own both",
            mend: if is < partitions { ADD } else { AGAIN },
        });
    }
    if topics.iter().any(|topic| topic.kind == Kind::Redeliver) {
        report.warnings.extend(other(Kind::Records).map(|(topic, is)| {
            Warning(format!(
                "topic {topic}: number of partitions is {is}, and {partitions} in {name}: where several deliver, a replay \
                 of its records may come to one that does not own them, and become a dead letter"
            ))
        }));
    }
}

#[cfg(test)]
mod tests;
