//! What an answer says of the target's limit, beside what it says of its record.

use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::time::Instant;

use super::world::partition;
use crate::config::{OnGiveUp, Retry};
use crate::delivery::engine::{Engine, Rules};
use crate::delivery::lane::{Allowance, Go, Lane, Limits, Try};
use crate::delivery::progress::Position;
use crate::delivery::schedule::Policy;
use crate::delivery::tally::Tally;
use crate::delivery::window::Trouble;
use crate::event::Timestamp;
use crate::outcome::DeadLetterReason;
use crate::targets::{Fault, Idempotency, Verdict, of_answer, of_fault};

const SECOND: Duration = Duration::from_secs(1);

/// An engine with records of these keys to be tried.
fn engine(keys: &[&str], t0: Instant) -> Engine<i64> {
    let retry = Retry { first: SECOND, max: SECOND * 8, give_up_after: SECOND * 20 };
    let rules = Rules {
        policy: Policy { retry, on_give_up: OnGiveUp::DeadLetter },
        limits: Limits { read_ahead: Tally::of(100), keep_parked: Tally::of(10), class: Idempotency::Upsert },
        allowance: Allowance::of(16),
        rate: None,
        requests: 1,
        hold_back: SECOND,
    };
    let mut engine = Engine::new(rules, SmallRng::seed_from_u64(1));
    engine.plan.gain(Position::new(partition(0), 0), 0, t0);
    commit(&mut engine, t0);
    for (offset, key) in (0..).zip(keys) {
        let lane = Lane { partition: partition(0), key: key.as_bytes().to_vec() };
        assert!(engine.plan.read(lane, offset, Timestamp::default(), offset, t0).is_none());
    }
    engine
}

fn commit(engine: &mut Engine<i64>, now: Instant) {
    engine.seal(false);
    engine.committed(now);
}

fn next(engine: &mut Engine<i64>, now: Instant) -> Option<Try<i64>> {
    match engine.next(now)? {
        Go::Try(next) => Some(next),
        Go::Fetch(fetch) => panic!("{fetch:?}"),
    }
}

fn said(status: u16, spent: Option<u32>) -> Verdict {
    Verdict { spent: spent.map(|seconds| SECOND * seconds), ..of_answer(status, None, Timestamp::default()) }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_used_up_stops_the_target_and_not_its_record() {
    let t0 = Instant::now();
    let at = |tenths: u32| t0 + SECOND / 10 * tenths;
    let mut engine = engine(&["a", "b", "c", "d", "e"], t0);
    let [a, b] = std::array::from_fn(|_| next(&mut engine, t0).unwrap());

    let ended = engine.settle(&a.ticket, a.n, &said(201, Some(10)), t0, at(10));
    assert_eq!((ended.finished, ended.gave_up, ended.changes.len()), (true, None, 0), "its record is delivered");
    assert_eq!(engine.window.shown(), Some((Trouble::RateLimited, at(110))), "others are told");
    // What was under way was answered before or after: it ends nothing, and can only say more.
    let ended = engine.settle(&b.ticket, b.n, &said(201, None), t0, at(11));
    assert!(ended.finished && ended.gave_up.is_none());
    commit(&mut engine, at(12));
    for tenths in [12, 60, 109] {
        assert!(!engine.is_ready(at(tenths)) && next(&mut engine, at(tenths)).is_none(), "inside the window");
    }

    let probe = next(&mut engine, at(110)).unwrap();
    assert!(next(&mut engine, at(110)).is_none(), "one asks first");
    engine.settle(&probe.ticket, probe.n, &said(201, Some(5)), at(110), at(111));
    commit(&mut engine, at(112));
    assert!(next(&mut engine, at(160)).is_none(), "the same again");
    let probe = next(&mut engine, at(161)).unwrap();
    engine.settle(&probe.ticket, probe.n, &said(201, None), at(161), at(162));
    commit(&mut engine, at(163));
    assert!(next(&mut engine, at(163)).is_some(), "all go again");
    assert_eq!(engine.window.waited(at(300)), at(162) - at(10), "that time counts against no record");
}

#[tokio::test(start_paused = true)]
async fn whatever_the_answer_meant_its_limit_counts() {
    let t0 = Instant::now();
    for (status, trouble, gave_up) in [
        (201, Trouble::RateLimited, None),
        (422, Trouble::RateLimited, Some(DeadLetterReason::Rejected)),
        (500, Trouble::RateLimited, None),
        (429, Trouble::RateLimited, None),
        (403, Trouble::Credentials, None),
    ] {
        let mut engine = engine(&["a", "b"], t0);
        let a = next(&mut engine, t0).unwrap();
        let ended = engine.settle(&a.ticket, a.n, &said(status, Some(600)), t0, t0 + SECOND);
        assert_eq!(ended.gave_up, gave_up, "{status}");
        // A refusal by itself would wait for 8 seconds at most.
        assert_eq!(engine.window.shown(), Some((trouble, t0 + SECOND * 601)), "{status}");
        commit(&mut engine, t0 + SECOND);
        assert!(next(&mut engine, t0 + SECOND * 600).is_none(), "{status}");
        assert!(next(&mut engine, t0 + SECOND * 601).is_some(), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_in_a_window_is_asked_for_once_more_and_not_for_ever() {
    let t0 = Instant::now();
    let at = |seconds: u32| t0 + SECOND * seconds;
    let mut engine = engine(&["a", "b"], t0);
    let [a, b] = std::array::from_fn(|_| next(&mut engine, t0).unwrap());
    engine.settle(&a.ticket, a.n, &said(429, Some(10)), t0, at(1));
    let ended = engine.settle(&b.ticket, b.n, &said(422, Some(10)), t0, at(1));
    assert_eq!((ended.finished, ended.gave_up), (false, None), "it was under way when the window opened");
    commit(&mut engine, at(1));
    // Each answer says that the limit is used up, as one of a minute each does.
    let mut dead = 0;
    for round in 1..=3 {
        let now = at(1 + 10 * round);
        let probe = next(&mut engine, now).unwrap();
        let ended = engine.settle(&probe.ticket, probe.n, &said(422, Some(10)), now, now);
        dead += usize::from(ended.gave_up == Some(DeadLetterReason::Rejected));
        commit(&mut engine, now);
        if dead == 2 {
            return;
        }
    }
    panic!("{dead} of the two were refused for good");
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_while_the_target_is_paused_comes_again() {
    let t0 = Instant::now();
    let mut engine = engine(&["a"], t0);
    let a = next(&mut engine, t0).unwrap();
    engine.window.pause(true, t0);
    let ended = engine.settle(&a.ticket, a.n, &said(422, None), t0, t0 + SECOND);
    assert_eq!((ended.finished, ended.gave_up), (false, None));
    commit(&mut engine, t0 + SECOND);
    assert!(next(&mut engine, t0 + SECOND * 100).is_none());
    engine.window.pause(false, t0 + SECOND * 100);
    let again = next(&mut engine, t0 + SECOND * 100).unwrap();
    let ended = engine.settle(&again.ticket, again.n, &said(422, None), t0 + SECOND * 100, t0 + SECOND * 101);
    assert_eq!((ended.finished, ended.gave_up), (true, Some(DeadLetterReason::Rejected)));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_given_up_while_the_limit_is_used_up() {
    let t0 = Instant::now();
    let mut engine = engine(&["a"], t0);
    let a = next(&mut engine, t0).unwrap();
    let ended = engine.settle(&a.ticket, a.n, &said(500, Some(3600)), t0, t0);
    assert_eq!((ended.finished, ended.gave_up), (false, None));
    commit(&mut engine, t0);
    let later = t0 + SECOND * 3600;
    let again = next(&mut engine, later).unwrap();
    let ended = engine.settle(&again.ticket, again.n, &said(500, None), later, later);
    assert_eq!((ended.finished, ended.gave_up), (false, None), "an hour, of which none was its own");
}

/// Few keys, and a target that answers nothing but 500 for ten minutes: that is an outage, and nobody's fault. One key
/// alone may be at fault itself.
#[tokio::test(start_paused = true)]
async fn an_outage_with_few_keys_gives_nothing_up() {
    for keys in [1, 2, 3, 4, 6] {
        let (t0, tenth) = (Instant::now(), SECOND / 10);
        let names = ["a", "b", "c", "d", "e", "f"];
        let mut engine = engine(&names[..keys], t0);
        let (mut dead, mut tries, mut delivered) = (0, 0, 0);
        for tenths in 0..7000 {
            let now = t0 + tenth * tenths;
            let status = if tenths < 6000 { 500 } else { 201 };
            while let Some(next) = next(&mut engine, now) {
                let ended = engine.settle(&next.ticket, next.n, &said(status, None), now, now);
                dead += usize::from(ended.gave_up.is_some());
                delivered += usize::from(ended.finished && ended.gave_up.is_none());
                tries += usize::from(tenths < 6000);
            }
            commit(&mut engine, now);
        }
        if keys == 1 {
            assert_eq!((dead, delivered), (1, 0));
        } else {
            assert_eq!((dead, delivered), (0, keys), "{keys} keys");
            // A probe at the longest pause of a record, or more often.
            assert!((60..400).contains(&tries), "{keys} keys: {tries} tries");
        }
    }
}

/// A record that makes no request says nothing of a target that refuses everybody.
#[tokio::test(start_paused = true)]
async fn a_record_that_makes_no_request_ends_no_window() {
    let t0 = Instant::now();
    let mut engine = engine(&["a", "b", "c"], t0);
    let a = next(&mut engine, t0).unwrap();
    engine.settle(&a.ticket, a.n, &said(401, None), t0, t0);
    let until = engine.window.until().unwrap();
    commit(&mut engine, until);
    let probe = next(&mut engine, until).unwrap();
    let unsendable = of_fault(&Fault::Unsendable("an amount of three decimals".to_owned()));
    let ended = engine.settle(&probe.ticket, probe.n, &unsendable, until, until);
    assert!(ended.finished && ended.gave_up.is_some(), "it is given up");
    assert_eq!(engine.window.trouble(), Some(Trouble::Credentials), "and whether the target works is not known");
    commit(&mut engine, until);
    let probe = next(&mut engine, until).unwrap();
    engine.settle(&probe.ticket, probe.n, &said(200, None), until, until);
    assert_eq!(engine.window.trouble(), None);
}
