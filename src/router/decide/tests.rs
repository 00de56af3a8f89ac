//! Every decision, from a table of what is known and what comes.

use super::*;
use crate::event::{Evidence, Origin, Sha256};
use crate::router::mapping::Mapper;

fn mapper() -> Mapper {
    let config = crate::config::Config::defaults().unwrap_or_else(|faults| panic!("{faults}"));
    Mapper::new([("accbooks", "accbooks")], &config.routes).unwrap()
}

const NOW: Timestamp = Timestamp::from_micros(1_000_000);

fn envelope(event_type: &str, body: &str) -> Envelope {
    Envelope {
        event_id: "evt_1".into(),
        source: "accbooks".into(),
        event_type: event_type.into(),
        occurred_at: None,
        received_at: NOW,
        content_type: None,
        body: body.as_bytes().to_vec(),
        body_sha256: Sha256::of(body.as_bytes()),
        unusable: None,
        test: None,
        evidence: Evidence::absent(),
        origin: Origin::Live,
    }
}

const BODY: &str = r#"{"data":{"bank_feed_id":"bf_1"}}"#;

#[test]
fn a_new_id_is_routed_and_marked() {
    let Decision::Route(record, seen) = decide(&envelope("bank_feed.synced", BODY), None, &mapper(), NOW) else {
        panic!("not routed")
    };
    assert_eq!(record.key(), "accbooks/bf_1");
    assert_eq!(seen.state, SeenState::Routed);
    assert_eq!(seen.first_routed_at, NOW);
    assert_eq!((seen.record_topic.as_deref(), seen.record_key.as_deref()), (Some("feeds"), Some("accbooks/bf_1")));
}

#[test]
fn a_known_body_is_a_duplicate_whatever_became_of_it() {
    let event = envelope("bank_feed.synced", BODY);
    for state in [SeenState::Routed, SeenState::Quarantined, SeenState::Test] {
        let seen = Seen {
            state,
            body_sha256: vec![Sha256::of(b"other"), event.body_sha256],
            first_routed_at: NOW,
            record_topic: None,
            record_key: None,
        };
        assert_eq!(decide(&event, Some(&seen), &mapper(), NOW), Decision::Duplicate);
    }
}

#[test]
fn another_body_is_set_aside_once_and_the_first_stays_routed() {
    let first = envelope("bank_feed.synced", BODY);
    let Decision::Route(_, seen) = decide(&first, None, &mapper(), NOW) else { panic!("not routed") };
    let other = envelope("bank_feed.synced", "{}");
    let Decision::Quarantine(reason, detail, marker) = decide(&other, Some(&seen), &mapper(), NOW) else {
        panic!("not set aside")
    };
    assert_eq!(reason, "body_mismatch");
    assert!(detail.unwrap().contains(&first.body_sha256.to_string()));
    assert_eq!(marker.state, SeenState::Routed);
    assert_eq!(decide(&other, Some(&marker), &mapper(), NOW), Decision::Duplicate);
    assert_eq!(decide(&first, Some(&marker), &mapper(), NOW), Decision::Duplicate);
}

#[test]
fn tests_and_unusable_events_are_never_routed() {
    let test = Envelope { test: Some("secret".into()), ..envelope("bank_feed.synced", BODY) };
    let decision = decide(&test, None, &mapper(), NOW);
    assert!(matches!(&decision, Decision::Test(seen) if seen.state == SeenState::Test), "{decision:?}");
    let unusable = Envelope { unusable: Some("not_json".into()), ..envelope("", "<xml/>") };
    let decision = decide(&unusable, None, &mapper(), NOW);
    assert!(
        matches!(&decision, Decision::Quarantine(reason, _, seen) if reason == "not_json" && seen.state == SeenState::Quarantined),
        "{decision:?}"
    );
    let unknown = decide(&envelope("moon.landed", "{}"), None, &mapper(), NOW);
    assert!(matches!(unknown, Decision::Quarantine(reason, ..) if reason == "unknown_event_type"));
}

#[test]
fn an_id_with_ever_new_bodies_does_not_grow_its_marker_for_ever() {
    let (mapper, mut seen) = (mapper(), None);
    for n in 0..=MAX_BODIES {
        let event = envelope("bank_feed.synced", &n.to_string());
        match decide(&event, seen.as_ref(), &mapper, NOW) {
            Decision::Route(_, marker) | Decision::Quarantine(_, _, marker) => seen = Some(marker),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen.unwrap().body_sha256.len(), MAX_BODIES);
}
