//! Every decision, from a table of what is known and what comes.

use std::sync::LazyLock;

use super::*;
use crate::event::{DecidedBody, Evidence, Origin, Sha256};
use crate::router::mapping::Mapper;

static MAPPER: LazyLock<Mapper> = LazyLock::new(|| {
    let config = crate::config::Config::defaults().unwrap_or_else(|faults| panic!("{faults}"));
    Mapper::new([("accbooks", "accbooks")], &config.routes).unwrap()
});

const NOW: Timestamp = Timestamp::from_micros(1_000_000);

fn envelope(event_type: &str, body: &str) -> Envelope {
    Envelope {
        event_id: "evt_1".into(),
        source: "accbooks".into(),
        event_type: event_type.into(),
        occurred_at: None,
        received_at: NOW,
        content_type: None,
        body: body.to_owned().into(),
        body_sha256: Sha256::of(body.as_bytes()),
        unusable: None,
        test: None,
        evidence: Evidence::absent(),
        origin: Origin::Live,
    }
}

fn asked(event: &Envelope, mark: Option<&Mark>, seen: Option<&Seen>, now: Timestamp) -> Decision {
    decide(&Question { envelope: event, mark, seen, now }, &MAPPER)
}

fn provider(event: &Envelope, seen: Option<&Seen>) -> Decision {
    asked(event, None, seen, NOW)
}

const BODY: &str = r#"{"data":{"bank_feed_id":"bf_1"}}"#;

#[test]
fn a_new_id_is_routed_and_marked() {
    let Decision::Route(record, seen) = provider(&envelope("bank_feed.synced", BODY), None) else {
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
    for state in [SeenState::Routed, SeenState::Quarantined, SeenState::Test, SeenState::Discarded] {
        let seen = Seen {
            state,
            body_sha256: vec![Sha256::of(b"other"), event.body_sha256],
            first_routed_at: NOW,
            record_topic: None,
            record_key: None,
            decided: Vec::new(),
        };
        assert_eq!(provider(&event, Some(&seen)), Decision::Duplicate);
    }
}

#[test]
fn another_body_is_set_aside_once_and_the_first_stays_routed() {
    let first = envelope("bank_feed.synced", BODY);
    let Decision::Route(_, seen) = provider(&first, None) else { panic!("not routed") };
    let other = envelope("bank_feed.synced", "{}");
    let Decision::Quarantine(reason, detail, marker) = provider(&other, Some(&seen)) else { panic!("not set aside") };
    assert_eq!(reason, "body_mismatch");
    assert!(detail.unwrap().contains(&first.body_sha256.to_string()));
    assert_eq!(marker.state, SeenState::Routed);
    assert_eq!(provider(&other, Some(&marker)), Decision::Duplicate);
    assert_eq!(provider(&first, Some(&marker)), Decision::Duplicate);
}

#[test]
fn tests_and_unusable_events_are_never_routed() {
    let test = Envelope { test: Some("secret".into()), ..envelope("bank_feed.synced", BODY) };
    let decision = provider(&test, None);
    assert!(matches!(&decision, Decision::Test(seen) if seen.state == SeenState::Test), "{decision:?}");
    let unusable = Envelope { unusable: Some("not_json".into()), ..envelope("", "<xml/>") };
    let decision = provider(&unusable, None);
    assert!(
        matches!(&decision, Decision::Quarantine(reason, _, seen) if reason == "not_json" && seen.state == SeenState::Quarantined),
        "{decision:?}"
    );
    let unknown = provider(&envelope("moon.landed", "{}"), None);
    assert!(matches!(unknown, Decision::Quarantine(reason, ..) if reason == "unknown_event_type"));
}

#[test]
fn an_id_with_ever_new_bodies_does_not_grow_its_marker_for_ever() {
    let mut seen = None;
    for n in 0..=MAX_BODIES {
        let event = envelope("bank_feed.synced", &n.to_string());
        match provider(&event, seen.as_ref()) {
            Decision::Route(_, marker) | Decision::Quarantine(_, _, marker) => seen = Some(marker),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen.unwrap().body_sha256.len(), MAX_BODIES);
}

const LATER: Timestamp = Timestamp::from_micros(9_000_000);

fn replay(accept_revision: bool) -> Mark {
    Mark::Replay { id: "op".into(), accept_revision, read_again: false }
}

fn discard() -> Mark {
    Mark::Discard { id: "op".into() }
}

/// What an operator can meet: a body of an id, and what its id is known for.
fn met(state: SeenState, decided: Option<SeenState>, is_first: bool) -> Seen {
    let (this, other) = (Sha256::of(BODY.as_bytes()), Sha256::of(b"other"));
    let decided = decided
        .map(|state| DecidedBody { body_sha256: this, state, record_topic: None, record_key: None })
        .into_iter()
        .collect();
    let body_sha256 = if is_first { vec![this, other] } else { vec![other, this] };
    Seen { state, body_sha256, first_routed_at: NOW, record_topic: None, record_key: None, decided }
}

#[test]
fn every_word_of_an_operator_on_every_state() {
    use RouterOutcome::{Discarded, Duplicate, Quarantined, Routed};
    use SeenState as S;
    let event = envelope("bank_feed.synced", BODY);
    let unknown_body = Seen { body_sha256: vec![Sha256::of(b"other")], ..met(S::Routed, None, false) };
    // Known as; then a provider's repeat, a replay, one that accepts a revision, a discard.
    let table = [
        (None, [Routed, Routed, Routed, Discarded]),
        (Some(met(S::Routed, None, true)), [Duplicate; 4]),
        (Some(met(S::Test, None, true)), [Duplicate; 4]),
        (Some(met(S::Discarded, None, true)), [Duplicate; 4]),
        (Some(met(S::Unknown, None, true)), [Duplicate; 4]),
        (Some(met(S::Quarantined, None, true)), [Duplicate, Routed, Routed, Discarded]),
        (Some(met(S::Routed, None, false)), [Duplicate, Quarantined, Routed, Discarded]),
        (Some(met(S::Quarantined, None, false)), [Duplicate, Quarantined, Routed, Discarded]),
        (Some(met(S::Discarded, None, false)), [Duplicate, Quarantined, Routed, Discarded]),
        (Some(met(S::Routed, Some(S::Routed), false)), [Duplicate; 4]),
        (Some(met(S::Quarantined, Some(S::Routed), false)), [Duplicate; 4]),
        (Some(met(S::Routed, Some(S::Discarded), false)), [Duplicate; 4]),
        (Some(unknown_body), [Quarantined, Quarantined, Routed, Discarded]),
    ];
    for (seen, expected) in table {
        let marks = [None, Some(replay(false)), Some(replay(true)), Some(discard())];
        for (mark, expected) in marks.iter().zip(expected) {
            let decision = asked(&event, mark.as_ref(), seen.as_ref(), LATER);
            assert_eq!(decision.outcome(), expected, "{mark:?} on {seen:?}");
            // What was settled is remembered from now on: the same word again, or any other, changes nothing.
            let is_settled = matches!(expected, Routed | Discarded);
            if let Some(marker) = decision.into_marker() {
                assert_eq!(marker.first_routed_at, if is_settled || seen.is_none() { LATER } else { NOW });
                for again in &marks {
                    let again = asked(&event, again.as_ref(), Some(&marker), LATER).outcome();
                    assert!(!is_settled || again == Duplicate, "{again} after {mark:?} on {seen:?}");
                }
            }
        }
    }
}

#[test]
fn a_revision_leaves_the_first_body_as_it_was() {
    let first = envelope("moon.landed", "{}");
    let Decision::Quarantine(_, _, seen) = provider(&first, None) else { panic!("not set aside") };
    let other = envelope("bank_feed.synced", BODY);
    let Decision::Quarantine(reason, _, seen) = provider(&other, Some(&seen)) else { panic!("not set aside") };
    assert_eq!(reason, "body_mismatch");
    let accepted = asked(&other, Some(&replay(true)), Some(&seen), LATER);
    let Decision::Route(_, seen) = accepted else { panic!("{accepted:?}") };
    assert_eq!(seen.fate(&first.body_sha256), Some(SeenState::Quarantined));
    assert_eq!(seen.fate(&other.body_sha256), Some(SeenState::Routed));
    assert_eq!(seen.places().collect::<Vec<_>>(), [("feeds", "accbooks/bf_1")]);
    // The first is still there to be replayed, by its own mapping.
    let again = asked(&first, Some(&replay(false)), Some(&seen), LATER);
    assert!(matches!(&again, Decision::Quarantine(reason, ..) if reason == "unknown_event_type"), "{again:?}");
    let routed = asked(&Envelope { event_type: "bank_feed.synced".into(), ..other }, None, Some(&seen), LATER);
    assert_eq!(routed, Decision::Duplicate);
}

#[test]
fn what_still_cannot_be_routed_stays_aside_with_its_new_reason() {
    for (event, reason) in [
        (envelope("moon.landed", BODY), "unknown_event_type"),
        (Envelope { unusable: Some("not_json".into()), ..envelope("", BODY) }, "not_json"),
    ] {
        for seen in [met(SeenState::Quarantined, None, true), met(SeenState::Routed, None, false)] {
            let decision = asked(&event, Some(&replay(true)), Some(&seen), LATER);
            assert_eq!(decision, Decision::Quarantine(reason.into(), detail(&decision), seen.clone()));
        }
    }
    // A record that Kafka does not take: the same, and nothing is settled.
    let event = envelope("bank_feed.synced", BODY);
    for seen in [met(SeenState::Quarantined, None, true), met(SeenState::Routed, None, false)] {
        let question = Question { envelope: &event, mark: Some(&replay(true)), seen: Some(&seen), now: LATER };
        assert_eq!(question.too_large(), Decision::Quarantine("record_too_large".into(), None, seen.clone()));
    }
    let question = Question { envelope: &event, mark: None, seen: None, now: NOW };
    let fresh = question.too_large().into_marker().unwrap();
    assert_eq!(fresh.fate(&event.body_sha256), Some(SeenState::Quarantined));
}

/// Set aside as bytes that nobody could read; read again, it is what it then is.
#[test]
fn what_can_be_decoded_at_its_replay_takes_the_place_of_its_bytes() {
    use SeenState as S;
    let event = envelope("bank_feed.synced", BODY);
    let (bytes, body, other) = (Sha256::of(b"\0\0\0\0\x07..."), event.body_sha256, Sha256::of(b"other"));
    let marker = |state, known: &[Sha256], decided: &[(Sha256, S)]| {
        let decided = decided.iter().map(|(body_sha256, state)| DecidedBody {
            body_sha256: *body_sha256,
            state: *state,
            record_topic: None,
            record_key: None,
        });
        let (body_sha256, decided) = (known.to_vec(), decided.collect());
        Seen { state, body_sha256, first_routed_at: NOW, record_topic: None, record_key: None, decided }
    };
    // Known as; what the marker is then, where it changes; what a replay comes to.
    let table = [
        (marker(S::Quarantined, &[bytes], &[]), Some(vec![body]), RouterOutcome::Routed),
        // The provider has repeated it since.
        (marker(S::Quarantined, &[bytes, body], &[]), Some(vec![body]), RouterOutcome::Routed),
        (marker(S::Quarantined, &[body, bytes], &[]), Some(vec![body]), RouterOutcome::Routed),
        // And an operator has taken or refused that.
        (marker(S::Quarantined, &[bytes, body], &[(body, S::Routed)]), None, RouterOutcome::Duplicate),
        (marker(S::Routed, &[body, bytes], &[]), None, RouterOutcome::Duplicate),
        (marker(S::Discarded, &[bytes], &[]), Some(vec![body]), RouterOutcome::Duplicate),
        (
            marker(S::Routed, &[other, bytes], &[(bytes, S::Discarded)]),
            Some(vec![other, body]),
            RouterOutcome::Duplicate,
        ),
        // Another body of an id that was taken with one.
        (marker(S::Routed, &[other, bytes], &[]), Some(vec![other, body]), RouterOutcome::Quarantined),
        // Never set aside as bytes.
        (marker(S::Quarantined, &[other], &[]), None, RouterOutcome::Quarantined),
    ];
    for (seen, expected, outcome) in table {
        let as_read = seen.read_again(&bytes, body);
        assert_eq!(as_read.as_ref().map(|marker| marker.body_sha256.clone()), expected, "{seen:?}");
        let seen = as_read.unwrap_or(seen);
        let decision = asked(&event, Some(&replay(false)), Some(&seen), LATER);
        assert_eq!(decision.outcome(), outcome, "{seen:?}");
        if let Decision::Route(_, marker) = decision {
            assert_eq!(asked(&event, None, Some(&marker), LATER), Decision::Duplicate);
            assert_eq!(marker.read_again(&bytes, body), None, "once");
        }
    }
    let still = marker(S::Quarantined, &[bytes], &[]);
    assert_eq!(still.read_again(&bytes, bytes), None, "cannot be decoded yet");
}

fn detail(decision: &Decision) -> Option<String> {
    match decision {
        Decision::Quarantine(_, detail, _) => detail.clone(),
        _ => None,
    }
}

#[test]
fn operators_decisions_on_one_id_are_bounded() {
    let mut seen = met(SeenState::Routed, None, true);
    for n in 0..=MAX_BODIES {
        let event = envelope("bank_feed.synced", &format!(r#"{{"n":{n}}}"#));
        let decision = asked(&event, Some(&discard()), Some(&seen), LATER);
        let expected = if n < MAX_BODIES { RouterOutcome::Discarded } else { RouterOutcome::Quarantined };
        assert_eq!(decision.outcome(), expected);
        seen = decision.into_marker().unwrap();
    }
    assert_eq!(seen.decided.len(), MAX_BODIES);
}
