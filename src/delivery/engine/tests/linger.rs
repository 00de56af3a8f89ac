//! How long what is finished waits for the commit that something else waits for.

use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::time::Instant;

use super::world::partition;
use crate::config::{OnGiveUp, Retry};
use crate::delivery::engine::{BUSY_LINGER, Engine, LINGER, Rules};
use crate::delivery::lane::{Allowance, Go, Lane, Limits};
use crate::delivery::progress::Position;
use crate::delivery::schedule::Policy;
use crate::delivery::tally::Tally;
use crate::event::Timestamp;
use crate::targets::{Idempotency, of_answer};

const SHORT: Duration = Duration::from_millis(1);

/// When the end of the first record's try is to be committed, with records of these keys behind it.
fn committed_after(keys: &[&str]) -> Duration {
    let t0 = Instant::now();
    let retry = Retry { first: SHORT, max: SHORT, give_up_after: SHORT };
    let rules = Rules {
        policy: Policy { retry, on_give_up: OnGiveUp::DeadLetter },
        limits: Limits { read_ahead: Tally::of(100), keep_parked: Tally::of(10), class: Idempotency::Upsert },
        allowance: Allowance { at_once: 2, unsettled: 12 },
        rate: None,
        requests: 1,
        hold_back: Duration::ZERO,
    };
    let mut engine: Engine<i64> = Engine::new(rules, SmallRng::seed_from_u64(1));
    engine.plan.gain(Position::new(partition(0), 0), 0, t0);
    engine.seal(false);
    engine.committed(t0);
    for (offset, key) in (0..).zip(keys) {
        let lane = Lane { partition: partition(0), key: key.as_bytes().to_vec() };
        assert!(engine.plan.read(lane, offset, Timestamp::default(), offset, t0).is_none());
    }
    let Some(Go::Try(first)) = engine.next(t0) else { panic!("nothing to try") };
    let verdict = of_answer(200, None, Timestamp::default());
    assert!(engine.settle(&first.ticket, 1, &verdict, t0, t0).finished);
    (0..).map(|n| SHORT * n).find(|wait| engine.wants_commit(t0 + *wait)).unwrap()
}

#[test]
fn a_key_of_many_waits_longer_for_its_commit_than_one_alone() {
    assert_eq!(committed_after(&["a", "a"]), LINGER, "a place is empty until then");
    assert_eq!(committed_after(&["a", "a", "b", "c", "d"]), BUSY_LINGER, "others are ready to take it");
}
