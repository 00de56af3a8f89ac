//! Rows in, sums and faults out: each outcome, each thing that can be wrong, ages and spans, and whatever else there may be.

use proptest::prelude::*;

use super::*;
use crate::event::DecidedBody;

const FROM: i64 = 1_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros((FROM + seconds) * 1_000_000)
}

fn body(name: &str) -> Sha256 {
    Sha256::of(name.as_bytes())
}

/// A row of `received`, read by the router.
fn row(offset: i64, event_id: &str, name: &str) -> Received {
    Received {
        partition: 0,
        offset,
        event: Some((event_id.to_owned(), body(name), at(offset))),
        is_whole: true,
        is_marked: false,
        is_done: true,
    }
}

fn marker(state: SeenState, bodies: &[&str]) -> Seen {
    Seen {
        state,
        body_sha256: bodies.iter().map(|name| body(name)).collect(),
        first_routed_at: at(50),
        record_topic: None,
        record_key: None,
        decided: Vec::new(),
    }
}

fn tie(event_id: &str, name: &str, received: i64) -> Tie {
    let place = ("invoices".to_owned(), 0, 7);
    Tie { event_id: event_id.to_owned(), body_sha256: body(name), received_at: at(received), place }
}

fn ledger() -> SourceLedger {
    SourceLedger::new("accbooks", Span::default(), at(-10_000))
}

/// What is wrong with which event.
fn wrong(faults: &[Fault]) -> Vec<(Discrepancy, &str)> {
    faults.iter().map(|fault| (fault.what, fault.event_id.as_str())).collect()
}

#[test]
fn each_row_has_one_outcome() {
    let mut ledger = ledger();
    for (offset, (event_id, name)) in
        [("e1", "a"), ("e1", "a"), ("e2", "a"), ("e3", "a"), ("e4", "a"), ("e1", "b"), ("e5", "a")]
            .into_iter()
            .enumerate()
    {
        ledger.received(row(i64::try_from(offset).unwrap(), event_id, name));
    }
    ledger.received(Received { is_marked: true, ..row(7, "e4", "a") });
    ledger.received(Received { is_done: false, ..row(8, "e6", "a") });
    ledger.received(Received { event: None, ..row(9, "", "") });
    ledger.seen("e1", &marker(SeenState::Routed, &["a", "b"]));
    ledger.seen("e2", &marker(SeenState::Quarantined, &["a"]));
    ledger.seen("e3", &marker(SeenState::Test, &["a"]));
    ledger.seen("e4", &marker(SeenState::Discarded, &["a"]));
    ledger.seen("e5", &marker(SeenState::Routed, &["a"]));
    ledger.seen("e9", &marker(SeenState::Routed, &["a"]));
    ledger.quarantined("e1", &body("b"), (0, 5), None);
    ledger.quarantined("e2", &body("a"), (0, 2), None);
    ledger.quarantined("e4", &body("a"), (0, 4), None);
    ledger.quarantined("e4", &body("a"), (0, 7), Some("discarded"));
    ledger.quarantined("?", &body("?"), (0, 9), None);
    ledger.record(&tie("e1", "a", 0));
    ledger.record(&tie("e5", "a", 6));
    let (sums, faults) = ledger.close();
    assert_eq!(wrong(&faults), []);
    let expected = SourceSums {
        rows: 10,
        routed: 2,
        duplicate: 1,
        quarantined: 3,
        discarded: 1,
        test: 1,
        operators: 1,
        waiting: 1,
        unaccounted: 0,
    };
    assert_eq!(sums, expected);
}

#[test]
fn a_later_body_that_an_operator_took_is_an_event_of_its_own() {
    let mut ledger = ledger();
    ledger.received(row(0, "e1", "a"));
    ledger.received(row(1, "e1", "b"));
    ledger.received(Received { is_marked: true, ..row(2, "e1", "b") });
    let mut seen = marker(SeenState::Routed, &["a", "b"]);
    let taken = (Some("invoices".to_owned()), Some("accbooks/1".to_owned()));
    seen.decided = vec![DecidedBody {
        body_sha256: body("b"),
        state: SeenState::Routed,
        record_topic: taken.0,
        record_key: taken.1,
    }];
    ledger.seen("e1", &seen);
    ledger.quarantined("e1", &body("b"), (0, 1), None);
    ledger.quarantined("e1", &body("b"), (0, 2), Some("routed"));
    ledger.record(&tie("e1", "a", 0));
    ledger.record(&tie("e1", "b", 1));
    let (sums, faults) = ledger.close();
    assert_eq!((wrong(&faults), sums.routed, sums.operators, sums.quarantined), (vec![], 2, 1, 0));
}

/// The router set it aside as bytes; who reads it now knows its schema.
#[test]
fn what_can_be_decoded_by_now_is_found_where_it_was_set_aside() {
    // What an operator's row is by now, what quarantine and the marker then say, and the sums.
    type Said<'a> = (Option<&'a str>, Option<(&'a str, Seen)>, [u64; 4]);
    let cases: [Said<'_>; 3] = [
        (None, None, [0, 1, 0, 0]),
        (Some("frame"), Some(("discarded", marker(SeenState::Discarded, &["frame"]))), [0, 0, 1, 1]),
        (Some("a"), Some(("routed", marker(SeenState::Routed, &["a"]))), [1, 0, 0, 1]),
    ];
    for (operators, settled, [routed, quarantined, discarded, marked]) in cases {
        let mut ledger = ledger();
        ledger.received(row(0, "e1", "a"));
        if let Some(name) = operators {
            ledger.received(Received { is_marked: true, ..row(1, "e1", name) });
        }
        let aside = marker(SeenState::Quarantined, &["frame"]);
        ledger.seen("e1", settled.as_ref().map_or(&aside, |(_, marker)| marker));
        ledger.quarantined("e1", &body("frame"), (0, 0), None);
        if let Some((outcome, _)) = &settled {
            ledger.quarantined("e1", &body("frame"), (0, 1), Some(outcome));
        }
        if routed > 0 {
            ledger.quarantined("e1", &body("a"), (0, 1), Some("routed"));
            ledger.record(&tie("e1", "a", 0));
        }
        let (sums, faults) = ledger.close();
        assert_eq!(wrong(&faults), []);
        let expected =
            SourceSums { rows: 1 + marked, routed, quarantined, discarded, operators: marked, ..SourceSums::default() };
        assert_eq!(sums, expected);
    }
    // Set aside in the partition of its id, to which it was passed on.
    let mut passed_on = ledger();
    passed_on.received(row(0, "e1", "a"));
    passed_on.received(Received { partition: 2, ..row(5, "e1", "a") });
    passed_on.seen("e1", &marker(SeenState::Quarantined, &["frame"]));
    passed_on.quarantined("e1", &body("frame"), (2, 5), None);
    let (sums, faults) = passed_on.close();
    let expected = SourceSums { rows: 2, quarantined: 1, duplicate: 1, ..SourceSums::default() };
    assert_eq!((wrong(&faults), sums), (vec![], expected));
    // An operator's row that nobody can decode yet.
    let mut ledger = ledger();
    ledger.received(Received { event: None, ..row(0, "", "") });
    ledger.received(Received { event: None, is_marked: true, ..row(1, "", "") });
    ledger.quarantined("e1", &body("frame"), (0, 0), None);
    ledger.quarantined("e1", &body("frame"), (0, 1), None);
    let (sums, faults) = ledger.close();
    let expected = SourceSums { rows: 2, quarantined: 1, operators: 1, ..SourceSums::default() };
    assert_eq!((wrong(&faults), sums), (vec![], expected));
}

#[test]
fn what_does_not_add_up_is_named() {
    use Discrepancy::{BodyHash, Double, Missing, WithoutSource};
    let seen = |state| move |ledger: &mut SourceLedger| ledger.seen("e", &marker(state, &["a"]));
    let record = |event_id: &'static str, name: &'static str| {
        move |ledger: &mut SourceLedger| ledger.record(&tie(event_id, name, 0))
    };
    type Step<'a> = &'a dyn Fn(&mut SourceLedger);
    let (routed, aside, test) = (&seen(SeenState::Routed), &seen(SeenState::Quarantined), &seen(SeenState::Test));
    let (its, other, foreign) = (&record("e", "a"), &record("e", "b"), &record("f", "a"));
    let none: Step<'_> = &|_| {};
    type Case<'a> = (&'a str, [Step<'a>; 3], &'a [(Discrepancy, &'a str)]);
    let cases: [Case<'_>; 10] = [
        ("its record is gone", [routed, none, none], &[(Missing, "e")]),
        ("its record is there twice", [routed, its, its], &[(Double, "e")]),
        ("one of an event that never came", [routed, its, foreign], &[(WithoutSource, "f")]),
        ("one of another body", [routed, its, other], &[(BodyHash, "e")]),
        ("its record was changed", [routed, other, none], &[(Missing, "e"), (BodyHash, "e")]),
        ("its marker is gone", [none, its, none], &[(Missing, "e")]),
        ("nothing came of it", [none, none, none], &[(Missing, "e")]),
        ("its row of quarantine is gone", [aside, none, none], &[(Missing, "e")]),
        ("set aside, and a record", [aside, its, none], &[(WithoutSource, "e")]),
        ("a test, and a record", [test, its, none], &[(WithoutSource, "e")]),
    ];
    for (name, steps, expected) in cases {
        let mut ledger = ledger();
        ledger.received(row(0, "e", "a"));
        steps.iter().for_each(|step| step(&mut ledger));
        let (sums, faults) = ledger.close();
        assert_eq!(wrong(&faults), expected, "{name}");
        let missed = expected.iter().any(|(what, event)| *event == "e" && *what != BodyHash);
        assert_eq!(sums.unaccounted, u64::from(missed), "{name}");
    }
}

#[test]
fn a_body_that_was_changed_and_a_row_that_is_none_are_named() {
    let mut ledger = ledger();
    ledger.received(Received { is_whole: false, ..row(0, "e", "a") });
    ledger.seen("e", &marker(SeenState::Routed, &["a"]));
    ledger.record(&tie("e", "a", 0));
    ledger.received(Received { event: None, ..row(1, "", "") });
    let (sums, faults) = ledger.close();
    assert_eq!(wrong(&faults), [(Discrepancy::Missing, ""), (Discrepancy::BodyHash, "e")]);
    assert_eq!((sums.routed, sums.unaccounted), (1, 1));
}

#[test]
fn what_the_router_has_still_to_read_is_no_fault() {
    for (state, records) in [(SeenState::Routed, 0), (SeenState::Routed, 2), (SeenState::Quarantined, 1)] {
        let mut ledger = ledger();
        ledger.received(Received { is_done: false, ..row(0, "e", "a") });
        ledger.seen("e", &marker(state, &["a"]));
        (0..records).for_each(|_| ledger.record(&tie("e", "a", 0)));
        let (sums, faults) = ledger.close();
        assert_eq!((wrong(&faults), sums.waiting), (vec![], 1), "{state:?} {records}");
    }
}

#[test]
fn what_may_be_gone_by_its_age_is_no_fault() {
    // Rows from before the topic begins now.
    let mut begun = ledger();
    begun.begins(at(10));
    begun.record(&tie("old", "a", 9));
    begun.record(&tie("new", "a", 10));
    assert_eq!(wrong(&begun.close().1), [(Discrepancy::WithoutSource, "new")]);
    // A marker whose window has passed.
    let mut expired = SourceLedger::new("accbooks", Span::default(), at(1));
    expired.received(row(0, "e", "a"));
    expired.record(&tie("e", "a", 0));
    let (sums, faults) = expired.close();
    assert_eq!((wrong(&faults), sums.routed), (vec![], 1));
}

#[test]
fn a_span_has_its_own_rows_and_repeats_of_earlier_ones() {
    let span = Span { from: Some(at(10)), to: Some(at(20)) };
    let of = |records: &[Tie], routed_at: Timestamp| {
        let mut ledger = SourceLedger::new("accbooks", span, at(-10_000));
        for row in [row(9, "e", "a"), row(10, "e", "a"), row(19, "f", "a"), row(20, "g", "a")] {
            ledger.received(row);
        }
        for (event_id, first_routed_at) in [("e", routed_at), ("f", at(19)), ("g", at(20))] {
            ledger.seen(event_id, &Seen { first_routed_at, ..marker(SeenState::Routed, &["a"]) });
        }
        records.iter().for_each(|tie| ledger.record(tie));
        ledger.close()
    };
    // Whether or not the earlier row's record was read.
    for records in [vec![tie("e", "a", 9), tie("f", "a", 19), tie("g", "a", 20)], vec![tie("f", "a", 19)]] {
        let (sums, faults) = of(&records, at(9));
        assert_eq!(wrong(&faults), [], "{records:?}");
        assert_eq!((sums.rows, sums.routed, sums.duplicate), (2, 1, 1), "{records:?}");
    }
    // Routed late.
    let (sums, faults) = of(&[tie("e", "a", 9), tie("f", "a", 19)], at(12));
    assert_eq!((wrong(&faults), sums.routed, sums.duplicate), (vec![], 1, 1));
}

proptest! {
    /// Whatever the topics hold: each row is counted once, and a ledger without faults has nothing unaccounted.
    #[test]
    fn sums_add_up(
        rows in prop::collection::vec((0_u8..4, 0_u8..2, any::<bool>(), prop::bool::weighted(0.8), prop::bool::weighted(0.9)), 0..30),
        markers in prop::collection::vec((0_u8..4, 0_usize..4, 1_usize..3), 0..6),
        asides in prop::collection::vec((0_u8..4, 0_u8..2, 0_usize..6), 0..6),
        records in prop::collection::vec((0_u8..5, 0_u8..2, 0_i64..30), 0..12),
        span in (0_i64..30, 0_i64..30),
    ) {
        let span = Span { from: Some(at(span.0)).filter(|_| span.0 < 20), to: Some(at(span.1)).filter(|_| span.1 > 10) };
        let mut ledger = SourceLedger::new("accbooks", span, at(5));
        for (offset, (event, name, is_marked, is_done, is_read)) in (0_i64..).zip(rows) {
            let whole = row(offset, &format!("e{event}"), &format!("{name}"));
            let event = whole.event.clone().filter(|_| is_read);
            ledger.received(Received { is_marked, is_done, event, ..whole });
        }
        for (event, state, bodies) in markers {
            let state = SeenState::ALL[state].0;
            ledger.seen(&format!("e{event}"), &marker(state, &["0", "1"][..bodies]));
        }
        for (event, name, end) in asides {
            let settled = RouterOutcome::ALL.get(end).map(|outcome| outcome.name());
            ledger.quarantined(&format!("e{event}"), &body(&format!("{name}")), (0, 3), settled);
        }
        for (event, name, received) in records {
            ledger.record(&tie(&format!("e{event}"), &format!("{name}"), received));
        }
        let (sums, faults) = ledger.close();
        prop_assert_eq!(sums.rows, sums.named().iter().map(|(_, sum)| sum).sum::<u64>());
        prop_assert!(sums.unaccounted == 0 || !faults.is_empty());
    }
}
