//! The rules as built keep the promise in every reachable state; each rule broken on purpose is found.

use super::rules::{End, Ended, Merge, Metadata, Order, Release, Rules, Unjoined};
use super::search::{Violation, search};

/// As the router is built, but for a second transactional id: what that may change is looked at by itself, with one fault,
/// for it makes for many states.
const BUILT: Rules = Rules {
    alternate: false,
    pipelined: false,
    end: End::HighWatermark,
    ended: Ended::ByPosition,
    order: Order::OffsetEndRead,
    require_stable: true,
    metadata: Metadata::WithBatch,
    unjoined: Unjoined::NeverUsed,
    merge: Merge::AfterCommit,
    release: Release::WhenEnded,
    drops_successor: true,
    transactions_expire: true,
};

/// Searches, and tells what was found: `cargo test router::model -- --nocapture`.
fn found(rules: &Rules, faults: u8) -> Option<Violation> {
    let found = search(rules, faults);
    let mut told = format!("{faults} faults, {rules:?}: {} states, {} steps\n", found.states, found.steps);
    let (violation, way) = found.violation.unzip();
    if let Some(violation) = violation {
        told += &format!("  {violation:?} after\n");
    }
    for (instance, step) in way.into_iter().flatten() {
        told += &format!("    {} {step:?}\n", ["A", "B"][instance]);
    }
    print!("{told}");
    violation
}

/// Checks that these rules violate the promise, serially and pipelined.
fn breaks(expected: Violation, rules: Rules) {
    for pipelined in [false, true] {
        assert_eq!(found(&Rules { pipelined, ..rules }, 1), Some(expected), "pipelined: {pipelined}");
    }
}

/// Checks that they do not.
fn holds(rules: Rules) {
    for pipelined in [false, true] {
        assert_eq!(found(&Rules { pipelined, ..rules }, 1), None, "pipelined: {pipelined}");
    }
}

#[test]
fn the_serial_router_keeps_its_promise() {
    assert_eq!(found(&BUILT, 2), None);
}

#[test]
fn the_pipelined_router_keeps_its_promise() {
    assert_eq!(found(&Rules { pipelined: true, ..BUILT }, 2), None);
}

#[test]
fn two_transactional_ids_in_turn_keep_the_promise() {
    assert_eq!(found(&Rules { alternate: true, ..BUILT }, 1), None);
}

#[test]
fn two_transactional_ids_in_turn_need_the_order_of_a_restore() {
    let rules = Rules { alternate: true, ..BUILT };
    assert_eq!(found(&Rules { order: Order::EndReadOffset, ..rules }, 1), Some(Violation::Double));
    assert_eq!(found(&Rules { require_stable: false, ..rules }, 1), Some(Violation::Double));
}

#[test]
#[ignore = "long form: scripts/test --long"]
fn long_search_of_two_transactional_ids_in_turn() {
    assert_eq!(found(&Rules { alternate: true, ..BUILT }, 2), None);
    assert_eq!(found(&Rules { alternate: true, pipelined: true, ..BUILT }, 1), None);
}

#[test]
#[ignore = "long form: scripts/test --long"]
fn long_search_with_three_faults() {
    for pipelined in [false, true] {
        assert_eq!(found(&Rules { pipelined, ..BUILT }, 3), None, "pipelined: {pipelined}");
    }
    holds(Rules { release: Release::AtOnce, ..BUILT });
}

#[test]
fn a_restore_to_the_last_stable_offset_doubles() {
    breaks(Violation::Double, Rules { end: End::LastStable, ..BUILT });
}

#[test]
fn a_restore_that_takes_a_new_leaders_word_for_the_end_doubles() {
    breaks(Violation::Double, Rules { ended: Ended::BySaying, ..BUILT });
}

#[test]
fn an_offset_fetched_after_the_restore_doubles() {
    breaks(Violation::Double, Rules { order: Order::EndReadOffset, ..BUILT });
}

#[test]
fn an_end_established_before_the_offset_is_fetched_doubles() {
    breaks(Violation::Double, Rules { order: Order::EndOffsetRead, ..BUILT });
}

#[test]
fn an_offset_fetched_while_a_commit_is_pending_doubles() {
    breaks(Violation::Double, Rules { require_stable: false, ..BUILT });
}

#[test]
fn metadata_of_commit_time_doubles_where_a_batch_outlives_the_giving_back() {
    breaks(Violation::Double, Rules { metadata: Metadata::AtCommit, release: Release::AtOnce, ..BUILT });
}

#[test]
fn metadata_of_commit_time_doubles_where_membership_was_lost_meanwhile() {
    breaks(Violation::Double, Rules { metadata: Metadata::AtCommit, unjoined: Unjoined::Bare, ..BUILT });
}

#[test]
fn either_of_the_two_guards_against_an_outlived_batch_is_enough() {
    holds(Rules { metadata: Metadata::AtCommit, ..BUILT });
    // Pipelined it is in the long form: a batch on the loose beside two others makes for many states.
    assert_eq!(found(&Rules { release: Release::AtOnce, ..BUILT }, 1), None);
}

#[test]
fn metadata_without_membership_doubles() {
    breaks(Violation::Double, Rules { unjoined: Unjoined::Bare, ..BUILT });
}

#[test]
fn metadata_without_membership_is_refused_where_it_names_the_static_member() {
    holds(Rules { unjoined: Unjoined::WithInstanceId, ..BUILT });
}

#[test]
fn a_state_that_runs_ahead_of_the_commit_loses() {
    breaks(Violation::Loss, Rules { merge: Merge::BeforeCommit, ..BUILT });
}

#[test]
fn a_successor_that_survives_an_aborted_batch_loses() {
    let rules = Rules { pipelined: true, drops_successor: false, ..BUILT };
    assert_eq!(found(&rules, 1), Some(Violation::Loss));
}

#[test]
fn without_a_transaction_timeout_the_successor_waits_for_ever() {
    breaks(Violation::Stuck, Rules { transactions_expire: false, ..BUILT });
}
