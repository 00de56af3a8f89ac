//! Each state of a record at a target, each thing that can be wrong, and what is too old to tell.

use super::*;
use crate::event::Progress;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn place(offset: i64) -> Place {
    ("invoices".to_owned(), 0, offset)
}

/// Everything below `end` but `open` is done.
fn finished(end: i64, open: &[i64]) -> Finished {
    let row = Progress {
        record_topic: "invoices".to_owned(),
        record_partition: 0,
        next_offset: open.first().copied().unwrap_or(end),
        end_offset: end,
        open: open.to_vec(),
        tried: Vec::new(),
        sent_below: 0,
        handed_over: false,
        at: at(0),
        worker_id: String::new(),
        entity: None,
        delivered_to: None,
    };
    let mut finished = Finished::default();
    assert!(finished.take(row, true).is_none());
    finished
}

/// A ledger of this many records, of which this many are behind the target.
fn ledger(records: i64, end: i64, from_oldest: bool) -> TargetLedger {
    let parked = HashSet::from([topics::parked_key("invoices", 0, 1)]);
    let mut ledger = TargetLedger::new("erp", from_oldest, finished(end, &[]), parked);
    (0..records).for_each(|offset| ledger.record(place(offset), &format!("e{offset}"), at(offset), true));
    ledger
}

fn tried(ledger: &mut TargetLedger, offset: i64, ended: i64, outcome: AttemptOutcome) {
    ledger.attempt(place(offset), "e", at(ended), (outcome, true));
}

fn wrong(faults: &[Fault]) -> Vec<(Discrepancy, i64)> {
    faults.iter().map(|fault| (fault.what, fault.place.2)).collect()
}

#[test]
fn each_record_has_one_state() {
    let mut ledger = ledger(9, 8, true);
    tried(&mut ledger, 0, 100, AttemptOutcome::Unresolved);
    tried(&mut ledger, 0, 101, AttemptOutcome::Duplicate);
    tried(&mut ledger, 1, 100, AttemptOutcome::Retry);
    tried(&mut ledger, 2, 100, AttemptOutcome::Filtered);
    ledger.letter(place(3), "e", at(100), None);
    ledger.letter(place(4), "e", at(100), None);
    ledger.letter(place(4), "e", at(101), Some("discarded"));
    // Given up, and delivered by a replay.
    ledger.letter(place(5), "e", at(100), None);
    ledger.attempt(place(5), "e", at(102), (AttemptOutcome::Delivered, false));
    ledger.letter(place(5), "e", at(102), Some("delivered"));
    // Delivered, and given up in a replay; and one whose replay is under way.
    tried(&mut ledger, 6, 100, AttemptOutcome::Delivered);
    ledger.letter(place(6), "e", at(103), None);
    tried(&mut ledger, 7, 100, AttemptOutcome::Delivered);
    ledger.attempt(place(7), "e", at(104), (AttemptOutcome::Retry, false));
    let (sums, faults) = ledger.close();
    assert_eq!(wrong(&faults), []);
    let expected = TargetSums {
        records: 9,
        waiting: 1,
        parked: 1,
        delivered: 3,
        filtered: 1,
        dead_lettered: 2,
        discarded: 1,
        ..TargetSums::default()
    };
    assert_eq!(sums, expected);
}

#[test]
fn what_does_not_add_up_is_named() {
    let mut ledger = ledger(4, 4, true);
    tried(&mut ledger, 0, 100, AttemptOutcome::Delivered);
    tried(&mut ledger, 0, 101, AttemptOutcome::Delivered);
    // The second is parked, the third without an end.
    tried(&mut ledger, 3, 100, AttemptOutcome::Delivered);
    let (sums, faults) = ledger.close();
    assert_eq!(wrong(&faults), [(Discrepancy::Missing, 2), (Discrepancy::Double, 0)]);
    assert_eq!((sums.records, sums.unaccounted), (4, 2));

    // Of records that are not there: one between those that are, one before, one behind.
    let mut ledger = TargetLedger::new("erp", true, finished(9, &[]), HashSet::new());
    for offset in [3, 4, 6, 8] {
        ledger.record(place(offset), "e", at(0), offset != 6);
    }
    for offset in [2, 3, 4, 5, 7, 8, 9] {
        tried(&mut ledger, offset, 100, AttemptOutcome::Delivered);
    }
    ledger.record(place(10), "e", at(0), true);
    ledger.letter(place(9), "e", at(0), None);
    let (_, faults) = ledger.close();
    assert_eq!(wrong(&faults), [(Discrepancy::WithoutSource, 9)], "one of another time ends a run");
}

#[test]
fn what_was_before_the_target_and_what_is_not_kept_is_no_fault() {
    let with = |from_oldest: bool, kept: Option<i64>| {
        let mut ledger = ledger(5, 5, from_oldest);
        tried(&mut ledger, 3, 100, AttemptOutcome::Delivered);
        kept.into_iter().for_each(|kept| ledger.kept_since(at(kept)));
        let (sums, faults) = ledger.close();
        (sums.before_start, sums.not_kept, sums.parked, wrong(&faults))
    };
    let (missing, last) = (Discrepancy::Missing, (Discrepancy::Missing, 4));
    assert_eq!(with(true, None), (0, 0, 1, vec![(missing, 0), (missing, 2), last]));
    assert_eq!(with(false, None), (2, 0, 1, vec![last]));
    assert_eq!(with(true, Some(2)), (0, 1, 1, vec![(missing, 2), last]));
    assert_eq!(with(true, Some(5)), (0, 3, 1, vec![]));
}
