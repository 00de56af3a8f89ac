//! What counts as wrong, what as weak, and what a correction keeps.

use super::*;
use crate::topics;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

fn topic(kind: Kind) -> Topic {
    topics::all(["a"], ["t"], 30 * DAY).into_iter().find(|t| t.kind == kind).unwrap()
}

/// A topic as `apply` makes it on three brokers, with some settings changed.
fn existing(topic: &Topic, changes: &[(&str, &str)]) -> Existing {
    let mut settings: BTreeMap<String, String> = BTreeMap::from([
        ("cleanup.policy".into(), topic.cleanup.policy().into()),
        ("retention.ms".into(), topic.cleanup.retention_ms().to_string()),
        ("max.message.bytes".into(), MAX_RECORD_BYTES.to_string()),
        ("min.insync.replicas".into(), "2".into()),
    ]);
    settings.extend(changes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    Existing {
        partitions: if topic.partitions == Partitions::One { 1 } else { 12 },
        replication: 3,
        settings,
        set: Vec::new(),
    }
}

fn report(kind: Kind, changes: &[(&str, &str)]) -> Report {
    let topic = topic(kind);
    let mut report = Report::default();
    compare(&topic, &topic.full_name("p."), &existing(&topic, changes), &mut report);
    report
}

#[test]
fn a_topic_as_it_was_made_is_right() {
    for topic in topics::all(["a"], ["t"], 30 * DAY) {
        let found = report(topic.kind, &[]);
        assert!(found.faults.is_empty() && found.warnings.is_empty() && found.weak.is_empty(), "{found:?}");
    }
}

#[test]
fn what_breaks_a_promise_is_named_with_its_reason() {
    for (kind, setting, value) in [
        (Kind::Received, "cleanup.policy", "compact"),
        (Kind::Seen, "cleanup.policy", "delete"),
        (Kind::Seen, "cleanup.policy", "compact"),
        (Kind::Seen, "retention.ms", "2592000000"),
        (Kind::Control, "cleanup.policy", "compact,delete"),
        (Kind::Redeliver, "retention.ms", "604800000"),
        (Kind::Redeliver, "retention.bytes", "1073741824"),
        (Kind::Seen, "retention.bytes", "1073741824"),
        (Kind::Records, "max.message.bytes", "1048588"),
    ] {
        let found = report(kind, &[(setting, value)]).faults;
        let [Fault::Wrong { setting: named, is, because, .. }] = found.as_slice() else { panic!("{kind}: {found:?}") };
        assert_eq!((*named, is.as_str()), (setting, value));
        assert!(!because.is_empty());
    }
    let control = topic(Kind::Control);
    let mut found = Report::default();
    compare(&control, "p.control", &Existing { partitions: 3, ..existing(&control, &[]) }, &mut found);
    assert!(matches!(found.faults.as_slice(), [Fault::Wrong { setting: "number of partitions", .. }]), "{found:?}");
}

#[test]
fn an_operators_longer_or_reordered_settings_are_right() {
    for (kind, setting, value) in [
        (Kind::Seen, "cleanup.policy", "delete,compact"),
        (Kind::Seen, "retention.ms", "-1"),
        (Kind::Received, "retention.ms", "-1"),
        (Kind::Received, "retention.bytes", "1073741824"),
        (Kind::Records, "max.message.bytes", "8388608"),
    ] {
        let found = report(kind, &[(setting, value)]);
        assert!(found.faults.is_empty() && found.warnings.is_empty(), "{kind} {setting}={value}: {found:?}");
    }
}

#[test]
fn what_weakens_a_promise_is_a_warning() {
    let short = report(Kind::Received, &[("retention.ms", "3600000")]);
    assert!(short.faults.is_empty() && short.warnings.len() == 1, "{short:?}");
    let weak = report(Kind::Received, &[("min.insync.replicas", "1")]);
    assert_eq!(weak.weak.into_iter().next(), Some(((3, 1), vec!["p.received.a".to_owned()])));
}

#[test]
fn what_acks_all_is_worth_is_told() {
    let received = topic(Kind::Received);
    for (replication, min_insync, told) in [
        (1, "1", Some("with one broker, acknowledged records can be lost")),
        (2, "1", Some("with one broker, acknowledged records can be lost")),
        (3, "1", Some("with one broker, acknowledged records can be lost")),
        (1, "2", Some("no record can ever be acknowledged")),
        (2, "3", Some("no record can ever be acknowledged")),
        (2, "2", Some("with one broker away nothing can be written")),
        (3, "2", None),
        (4, "3", None),
    ] {
        let is = Existing { replication, ..existing(&received, &[("min.insync.replicas", min_insync)]) };
        let mut found = Report::default();
        compare(&received, "p.received.a", &is, &mut found);
        found.tell_weak();
        let warnings: Vec<&str> = found.warnings.iter().map(|warning| warning.0.as_str()).collect();
        match told {
            None => assert!(warnings.is_empty(), "{warnings:?}"),
            Some(told) => {
                assert!(warnings.len() == 1 && warnings[0].contains(told), "{replication}, {min_insync}: {warnings:?}");
                assert!(warnings[0].ends_with("p.received.a"), "{warnings:?}");
            }
        }
    }
}

#[test]
fn what_targets_keep_has_a_place_for_every_partition() {
    let topics = topics::all(["a"], ["t"], 30 * DAY);
    let faults = |changed: Kind, partitions: i32| {
        let mut all: BTreeMap<String, Existing> =
            topics.iter().map(|topic| (topic.full_name("p."), existing(topic, &[]))).collect();
        for topic in topics.iter().filter(|topic| topic.kind == changed) {
            all.get_mut(&topic.full_name("p.")).unwrap().partitions = partitions;
        }
        let mut report = Report::default();
        compare_pairs(&topics, "p.", &all, &mut report);
        report.faults.len()
    };
    assert_eq!(faults(Kind::Audit, 1), 0);
    assert_eq!(faults(Kind::Parked, 11), 1);
    assert_eq!(faults(Kind::Progress, 24), 0, "more do no harm");
    assert_eq!(faults(Kind::Records, 13), 3, "parked, progress and redeliver");
    assert_eq!(faults(Kind::Redeliver, 11), 1);
    assert_eq!(faults(Kind::Redeliver, 24), 1, "a deliverer would own others of it than of the records");
}
