//! The plan by cases. Random histories are the engine's tests.

use super::super::queue::Standing;
use super::super::repeat::Step;
use super::*;
use crate::targets::Idempotency;

const SECOND: Duration = Duration::from_secs(1);
const LIMITS: Limits =
    Limits { read_ahead: Tally::of(10), keep_parked: Tally::of(10), class: Idempotency::Key { validity: None } };

fn partition() -> Partition {
    Partition { topic: "invoices".to_owned(), number: 0 }
}

fn lane(key: &str) -> Lane {
    Lane { partition: partition(), key: key.as_bytes().to_vec() }
}

/// A plan whose first commit is behind it: records may be sent.
fn plan(limits: Limits) -> Plan<i64> {
    let mut plan = Plan::new(limits);
    plan.gain(Position::new(partition(), 0), 0, Instant::now());
    commit(&mut plan, Instant::now());
    plan
}

fn commit(plan: &mut Plan<i64>, now: Instant) -> Vec<Position> {
    let progress = plan.seal(false);
    plan.committed(now);
    progress
}

fn read(plan: &mut Plan<i64>, key: &str, offset: i64) -> Option<Change<i64>> {
    plan.read(lane(key), offset, Timestamp::from_micros(offset), offset, Instant::now())
}

fn go(plan: &mut Plan<i64>, now: Instant) -> Option<Try<i64>> {
    match plan.next(Allowance::of(16), false, Duration::ZERO, now)? {
        Go::Try(next) => Some(next),
        Go::Fetch(fetch) => panic!("{fetch:?}"),
    }
}

fn settle(plan: &mut Plan<i64>, ended: &Try<i64>, then: Then, now: Instant) -> Vec<Change<i64>> {
    plan.settle(&ended.ticket, then, None, Duration::ZERO, now)
}

/// A record's offset; that of a redelivery below zero.
fn offset(seat: Seat) -> i64 {
    match seat {
        Seat::Record(offset) => offset,
        Seat::Redelivery(offset) => -1 - offset,
    }
}

/// Offsets written to `parked`, and those taken out of it.
fn written(changes: &[Change<i64>]) -> (Vec<i64>, Vec<i64>) {
    let (mut parked, mut released) = (Vec::new(), Vec::new());
    for change in changes {
        match change {
            Change::Park { seat, .. } => parked.push(offset(*seat)),
            Change::Release { seat, .. } => released.push(offset(*seat)),
        }
    }
    (parked, released)
}

#[test]
fn a_failing_head_parks_its_key_and_neither_others_nor_the_position_wait() {
    let t0 = Instant::now();
    let mut plan = plan(LIMITS);
    for (offset, key) in [(5, "a"), (6, "b"), (8, "a"), (9, "c")] {
        assert!(read(&mut plan, key, offset).is_none());
    }
    let [a, b, c] = std::array::from_fn(|_| go(&mut plan, t0).unwrap());
    assert_eq!((*a.record, *b.record, *c.record, plan.in_flight()), (5, 6, 9, 3));
    assert!(go(&mut plan, t0).is_none(), "8 waits for 5");
    let changes = settle(&mut plan, &a, Then::At(t0 + SECOND), t0);
    assert_eq!(written(&changes), (vec![5, 8], vec![]));
    let Change::Park { leads: true, standing, .. } = &changes[0] else { panic!("{changes:?}") };
    assert_eq!((standing.tries, standing.failures, standing.due), (1, 1, Some(t0 + SECOND)));
    settle(&mut plan, &c, Then::Finish, t0);
    assert_eq!((plan.positions()[0].1, plan.parked()), (6, 1));
    let parked = read(&mut plan, "a", 10).unwrap();
    assert_eq!(written(&[parked]), (vec![10], vec![]), "new ones queue behind");
    settle(&mut plan, &b, Then::Finish, t0);
    assert_eq!((plan.positions()[0].1, plan.unsettled()), (11, 3));
    commit(&mut plan, t0);
    assert!(go(&mut plan, t0 + SECOND / 2).is_none());

    let again = go(&mut plan, t0 + SECOND).unwrap();
    assert_eq!((*again.record, again.n), (5, 2));
    assert_eq!(plan.head(&again.ticket, Duration::ZERO, t0 + SECOND * 3).unwrap().spent, SECOND * 3);
    assert_eq!(written(&settle(&mut plan, &again, Then::Finish, t0 + SECOND)), (vec![], vec![5]));
    assert!(go(&mut plan, t0 + SECOND).is_none(), "the next one waits for the commit");
    commit(&mut plan, t0 + SECOND);
    for offset in [8, 10] {
        let next = go(&mut plan, t0 + SECOND).unwrap();
        assert_eq!((*next.record, next.n), (offset, 1), "a successor starts afresh");
        assert_eq!(written(&settle(&mut plan, &next, Then::Finish, t0 + SECOND)), (vec![], vec![offset]));
        commit(&mut plan, t0 + SECOND);
    }
    assert_eq!((plan.parked(), plan.kept()), (0, 0));
    assert!(read(&mut plan, "a", 11).is_none(), "the key is live again");
}

#[test]
fn a_record_that_comes_behind_the_end_of_its_predecessor_asks_for_that_commit() {
    let t0 = Instant::now();
    // It is read while the one before is under way, or when that one has ended and its key had nothing else.
    for read_first in [true, false] {
        let mut plan = plan(LIMITS);
        read(&mut plan, "a", 0);
        let a = go(&mut plan, t0).unwrap();
        if read_first {
            read(&mut plan, "a", 1);
        }
        settle(&mut plan, &a, Then::Finish, t0);
        if !read_first {
            assert!(!plan.wants_commit(t0), "nothing waits yet");
            read(&mut plan, "a", 1);
        }
        assert!(plan.wants_commit(Instant::now()) && go(&mut plan, t0).is_none(), "{read_first}");
        commit(&mut plan, t0);
        assert_eq!(*go(&mut plan, t0).unwrap().record, 1);
    }
}

#[test]
fn places_go_on_beside_a_commit_as_far_as_it_is_allowed() {
    let t0 = Instant::now();
    let mut plan = plan(LIMITS);
    for (offset, key) in (0..5).zip(["a", "b", "c", "d", "e"]) {
        read(&mut plan, key, offset);
    }
    let allowed = Allowance { at_once: 2, unsettled: 4 };
    let next = |plan: &mut Plan<i64>| match plan.next(allowed, false, Duration::ZERO, t0) {
        Some(Go::Try(next)) => Some(next),
        _ => None,
    };
    let (a, b) = (next(&mut plan).unwrap(), next(&mut plan).unwrap());
    assert!(next(&mut plan).is_none(), "two at once");
    settle(&mut plan, &a, Then::Finish, t0);
    settle(&mut plan, &b, Then::Finish, t0);
    plan.seal(false);
    let (c, _d) = (next(&mut plan).unwrap(), next(&mut plan).unwrap());
    settle(&mut plan, &c, Then::Finish, t0);
    assert!(next(&mut plan).is_none(), "a crash would repeat four");
    plan.committed(t0);
    assert!(next(&mut plan).is_some());
}

#[test]
fn a_share_is_one_at_least_and_worth_is_a_part_of_what_is_spare() {
    let of = |at_once, unsettled| Allowance { at_once, unsettled };
    assert_eq!(of(16, 48).share(3, 12), of(4, 12));
    assert_eq!(of(2, 3).share(1, 12), of(1, 1));
    assert_eq!(of(16, 16).share(0, 0), of(1, 1), "no partitions yet");
    for (allowed, worth) in [(of(16, 16), 8), (of(1, 1), 1), (of(256, 768), 256), (of(16, 17), 1)] {
        assert_eq!(allowed.worth_a_commit(), worth, "{allowed:?}");
    }
}

#[test]
fn flight_and_read_ahead_are_bounded() {
    let t0 = Instant::now();
    // A record of these tests weighs ten bytes.
    for read_ahead in [Tally::of(4), Tally { records: 100, bytes: 40 }] {
        let mut plan = plan(Limits { read_ahead, ..LIMITS });
        for (offset, key) in (0..4).zip(["a", "b", "c", "d"]) {
            assert!(!plan.is_full());
            read(&mut plan, key, offset);
        }
        assert!(plan.is_full() && !plan.is_low(), "{read_ahead:?}");
    }
    let mut plan = plan(Limits { read_ahead: Tally::of(4), ..LIMITS });
    for (offset, key) in (0..4).zip(["a", "b", "c", "d"]) {
        read(&mut plan, key, offset);
    }
    let next = |plan: &mut Plan<i64>| plan.next(Allowance::of(2), false, Duration::ZERO, t0);
    let Some(Go::Try(a)) = next(&mut plan) else { panic!() };
    let Some(Go::Try(b)) = next(&mut plan) else { panic!() };
    assert!(next(&mut plan).is_none());
    settle(&mut plan, &a, Then::Finish, t0);
    settle(&mut plan, &b, Then::Finish, t0);
    assert!(next(&mut plan).is_none(), "what is not committed counts as well");
    plan.seal(false);
    assert!(next(&mut plan).is_none(), "until its commit is over");
    plan.committed(t0);
    assert!(plan.is_low() && next(&mut plan).is_some());
    read(&mut plan, "a", 2);
    assert!(plan.is_low(), "an offset that came before is left out");
}

#[test]
fn others_go_on_while_a_commit_is_under_way() {
    let t0 = Instant::now();
    let mut plan = plan(LIMITS);
    for (offset, key) in [(1, "a"), (2, "b"), (3, "a"), (4, "b")] {
        read(&mut plan, key, offset);
    }
    let [a, b] = std::array::from_fn(|_| go(&mut plan, t0).unwrap());
    settle(&mut plan, &a, Then::Finish, t0);
    assert!(plan.wants_commit(t0), "3 waits for it");
    let sealed = plan.seal(false);
    assert_eq!((sealed[0].next, sealed[0].open.as_slice()), (2, &[2, 3, 4][..]));
    settle(&mut plan, &b, Then::Finish, t0);
    assert!(go(&mut plan, t0).is_none(), "3 waits for its end, 4 for the next one");
    plan.committed(t0);
    assert_eq!(*go(&mut plan, t0).unwrap().record, 3);
    assert!(go(&mut plan, t0).is_none());
    assert_eq!(plan.seal(false)[0].open, [3, 4], "what ended meanwhile is in the next one");
    plan.committed(t0);
    assert_eq!(*go(&mut plan, t0).unwrap().record, 4);
}

#[test]
fn nothing_is_sent_before_its_bound_is_committed() {
    let t0 = Instant::now();
    let mut plan = plan(Limits { read_ahead: Tally::of(2), ..LIMITS });
    read(&mut plan, "a", 1);
    read(&mut plan, "b", 2);
    assert!(go(&mut plan, t0).is_some());
    assert!(go(&mut plan, t0).is_none());
    assert!(plan.wants_commit(t0));
    assert_eq!(commit(&mut plan, t0)[0].sent_below, 5);
    assert_eq!(*go(&mut plan, t0).unwrap().record, 2);
}

#[test]
fn parked_records_beyond_the_bound_are_fetched_when_their_turn_comes() {
    let t0 = Instant::now();
    let mut plan = plan(Limits { keep_parked: Tally::of(1), ..LIMITS });
    for offset in 0..3 {
        read(&mut plan, "a", offset);
    }
    let first = go(&mut plan, t0).unwrap();
    settle(&mut plan, &first, Then::At(t0), t0);
    assert_eq!(plan.kept(), 1);
    commit(&mut plan, t0);
    let again = go(&mut plan, t0).unwrap();
    settle(&mut plan, &again, Then::Finish, t0);
    assert_eq!(plan.kept(), 0);
    commit(&mut plan, t0);
    let Some(Go::Fetch(fetch)) = plan.next(Allowance::of(16), false, Duration::ZERO, t0) else { panic!() };
    assert_eq!((fetch.ticket.seat, fetch.place, fetch.tries), (Seat::Record(1), 1, 0));
    assert!(plan.next(Allowance::of(16), false, Duration::ZERO, t0).is_none());
    assert!(plan.fetched(&fetch.ticket, 1));
    assert!(!plan.fetched(&fetch.ticket, 1), "once");
    assert_eq!(*go(&mut plan, t0).unwrap().record, 1);
}

#[test]
fn what_is_restored_goes_on_where_it_stood() {
    let t0 = Instant::now();
    let mut plan = Plan::new(LIMITS);
    let known = Position { end: 9, open: vec![7], sent_below: 100, ..Position::new(partition(), 7) };
    plan.gain(known, 50, t0);
    let standing = Standing { tries: 3, failures: 2, spent: SECOND * 9, due: Some(t0 + SECOND), doubt: None };
    plan.restore(lane("a"), Waiting { seat: Seat::Record(2), place: 40, standing }, t0);
    plan.restore(lane("a"), Waiting { seat: Seat::Record(4), place: 41, standing: Standing::default() }, t0);
    commit(&mut plan, t0);
    assert!(read(&mut plan, "b", 7).is_none());
    assert!(read(&mut plan, "b", 8).is_none());
    assert!(read(&mut plan, "a", 9).is_some(), "behind what is parked");
    let b = go(&mut plan, t0).unwrap();
    assert_eq!(*b.record, 7, "8 is finished");
    assert!(plan.head(&b.ticket, Duration::ZERO, t0).unwrap().doubt.is_some(), "it may have been sent");
    assert!(go(&mut plan, t0).is_none());
    let Some(Go::Fetch(fetch)) = plan.next(Allowance::of(16), false, Duration::ZERO, t0 + SECOND) else { panic!() };
    assert_eq!((fetch.place, fetch.tries), (40, 3));
    plan.fetched(&fetch.ticket, 2);
    let a = go(&mut plan, t0 + SECOND).unwrap();
    assert_eq!((*a.record, a.n), (2, 4), "numbers go on");
    assert_eq!(plan.head(&a.ticket, Duration::ZERO, t0 + SECOND * 2).unwrap().spent, SECOND * 10);
}

/// It acted, or may have, and then sent everybody away: what is not known goes on with the partition.
#[test]
fn a_doubt_of_a_live_record_is_handed_over() {
    let t0 = Instant::now();
    for doubt in [None, Some(Doubt { first: None, last: t0 })] {
        let mut plan = plan(LIMITS);
        read(&mut plan, "a", 0);
        read(&mut plan, "b", 1);
        let (a, b) = (go(&mut plan, t0).unwrap(), go(&mut plan, t0).unwrap());
        settle(&mut plan, &b, Then::Finish, t0);
        plan.settle(&a.ticket, Then::Again, doubt, Duration::ZERO, t0);
        let handed = plan.seal(true).pop().unwrap();
        assert_eq!((handed.handed_over, handed.sent_below), (true, i64::from(doubt.is_some())), "{doubt:?}");

        let mut next = Plan::new(LIMITS);
        next.gain(handed, 0, t0);
        commit(&mut next, t0);
        read(&mut next, "a", 0);
        let again = go(&mut next, t0).unwrap();
        assert_eq!(next.head(&again.ticket, Duration::ZERO, t0).unwrap().doubt.is_some(), doubt.is_some());
        settle(&mut next, &again, Then::Finish, t0);
        assert_eq!(next.seal(true).pop().unwrap().sent_below, 0, "and ends with its record");
    }
}

#[test]
fn what_no_earlier_owner_can_have_sent_goes_at_once() {
    let (t0, settle) = (Instant::now(), SECOND * 60);
    let mut plan = Plan::new(Limits { class: Idempotency::LookUp { settle }, ..LIMITS });
    plan.gain(Position { sent_below: 1000, handed_over: false, ..Position::new(partition(), 0) }, 0, t0);
    commit(&mut plan, t0);
    read(&mut plan, "a", 0);
    assert!(go(&mut plan, t0).is_none(), "it may have been sent");
    assert_eq!(plan.unsure(), [partition()]);
    assert!(plan.sure_above(&partition(), 2) && plan.unsure() == [partition()], "one of those was not read yet");
    read(&mut plan, "b", 1);
    read(&mut plan, "c", 2);
    let c = go(&mut plan, t0).unwrap();
    assert_eq!((*c.record, c.step), (2, Step::Send));
    assert!(go(&mut plan, t0).is_none() && !plan.is_unsure(&partition()));
    for _ in 0..2 {
        assert_eq!(go(&mut plan, t0 + settle * 2).unwrap().step, Step::LookUp);
    }
}

#[test]
fn a_lane_waits_for_its_stray() {
    let t0 = Instant::now();
    let mut plan = plan(LIMITS);
    read(&mut plan, "a", 0);
    let stray = go(&mut plan, t0).unwrap();
    plan.lost();
    assert_eq!(plan.positions(), []);
    plan.gain(Position::new(partition(), 0), 0, Instant::now());
    commit(&mut plan, t0);
    read(&mut plan, "a", 0);
    read(&mut plan, "b", 1);
    assert_eq!(*go(&mut plan, t0).unwrap().record, 1);
    assert!(go(&mut plan, t0).is_none());
    assert_eq!((plan.head(&stray.ticket, Duration::ZERO, t0), plan.in_flight()), (None, 2));
    settle(&mut plan, &stray, Then::Finish, t0);
    assert_eq!(plan.positions()[0].1, 0, "a stray finishes nothing");
    assert_eq!(*go(&mut plan, t0).unwrap().record, 0);
}

#[test]
fn live_and_released_keys_take_turns() {
    let t0 = Instant::now();
    let mut plan = plan(LIMITS);
    for offset in 0..3 {
        read(&mut plan, &format!("p{offset}"), offset);
    }
    for _ in 0..3 {
        let bad = go(&mut plan, t0).unwrap();
        settle(&mut plan, &bad, Then::At(t0), t0);
    }
    commit(&mut plan, t0);
    for offset in 3..6 {
        read(&mut plan, &format!("l{offset}"), offset);
    }
    let order: Vec<bool> = std::iter::from_fn(|| go(&mut plan, t0)).map(|next| *next.record < 3).collect();
    assert_eq!(order.iter().filter(|parked| **parked).count(), 3);
    assert!(order.windows(2).all(|two| two[0] != two[1]), "{order:?}");
}

#[test]
fn places_that_others_are_ready_to_take_make_no_commit_pressing() {
    let t0 = Instant::now();
    let mut plan = plan(LIMITS);
    for (offset, key) in [(1, "a"), (2, "b"), (3, "a")] {
        read(&mut plan, key, offset);
    }
    let a = go(&mut plan, t0).unwrap();
    settle(&mut plan, &a, Then::Finish, t0);
    assert!(plan.wants_commit(t0) && plan.is_backed_up(), "3 waits for it, and 2 goes before 3");
    let b = go(&mut plan, t0).unwrap();
    assert!(plan.wants_commit(t0) && !plan.is_backed_up(), "nothing goes before 3");
    commit(&mut plan, t0);
    read(&mut plan, "b", 15);
    settle(&mut plan, &b, Then::Finish, t0);
    let next = go(&mut plan, t0).unwrap();
    settle(&mut plan, &next, Then::Finish, t0);
    commit(&mut plan, t0);
    for (offset, key) in [(40, "c"), (41, "d")] {
        read(&mut plan, key, offset);
    }
    assert!(go(&mut plan, t0).is_some_and(|next| *next.record == 15));
    assert!(go(&mut plan, t0).is_none(), "the bound is to be committed first");
    assert!(plan.wants_commit(t0) && !plan.is_backed_up(), "and only a commit lets 40 go");
}
