//! What happens around the instances: starts and crashes, the coordinators' timeouts, rebalances, markers.

use super::instance::{Phase, Router, Standing};
use super::kafka::{Log, Status};
use super::rules::Rules;
use super::{Instance, Producer, State, Step};

/// Takes a step of the surroundings; nothing where it cannot be taken now.
pub(super) fn step(state: &State, rules: &Rules, i: Instance, step: Step) -> Option<State> {
    let mut after = *state;
    match step {
        Step::Start => start(&mut after, i),
        Step::AbortLeftover => abort_leftover(&mut after, i),
        Step::Crash => crash(&mut after, i),
        Step::ExpireTransaction if rules.transactions_expire => expire_transaction(&mut after, i),
        Step::ExpireMember => expire_member(&mut after, i),
        Step::Rebalance => rebalance(&mut after, i),
        Step::Assign => assign(&mut after, i),
        Step::Mark(turn, log) => mark(&mut after, Producer { instance: i, turn }, log),
        _ => None,
    }?;
    Some(after)
}

fn start(state: &mut State, i: Instance) -> Option<()> {
    let is_idle = state.kafka.transactions[i].iter().all(|transaction| transaction.status == Status::Idle);
    if state.routers[i].phase != Phase::Down || !is_idle {
        return None;
    }
    state.routers[i] = Router { phase: Phase::Joining, ..Router::default() };
    Some(())
}

fn abort_leftover(state: &mut State, i: Instance) -> Option<()> {
    let open = state.kafka.open(i)?;
    if state.routers[i].phase != Phase::Down {
        return None;
    }
    state.kafka.end(open, false);
    Some(())
}

fn crash(state: &mut State, i: Instance) -> Option<()> {
    if state.routers[i].phase == Phase::Down {
        return None;
    }
    state.routers[i] = Router::default();
    state.spend()
}

fn expire_transaction(state: &mut State, i: Instance) -> Option<()> {
    let open = state.kafka.open(i)?;
    state.kafka.end(open, false);
    if state.routers[i].phase == Phase::Down {
        return Some(());
    }
    state.routers[i].fenced = true;
    state.spend()
}

fn expire_member(state: &mut State, i: Instance) -> Option<()> {
    let group = &mut state.kafka.group;
    // Who waits for the others to join is not timed.
    if !group.members[i] || group.joined[i] {
        return None;
    }
    group.members[i] = false;
    let others = group.members.contains(&true);
    group.preparing = others;
    group.owner = None;
    let alive = state.routers[i].member == Standing::Current;
    state.routers[i].expel();
    if alive { state.spend() } else { Some(()) }
}

fn rebalance(state: &mut State, i: Instance) -> Option<()> {
    let group = &mut state.kafka.group;
    if group.preparing || !group.members[i] {
        return None;
    }
    group.preparing = true;
    state.spend()
}

fn assign(state: &mut State, owner: Instance) -> Option<()> {
    let group = &mut state.kafka.group;
    if !group.preparing || group.joined != group.members || !group.members[owner] {
        return None;
    }
    group.preparing = false;
    group.joined = Default::default();
    group.owner = Some(owner as u8);
    for (i, router) in state.routers.iter_mut().enumerate() {
        router.outdate();
        if router.phase == Phase::Joining && router.member == Standing::Current {
            router.enter(i == owner);
        }
    }
    Some(())
}

fn mark(state: &mut State, producer: Producer, log: Log) -> Option<()> {
    let transaction = state.kafka.transactions[producer.instance][producer.turn];
    if !matches!(transaction.status, Status::Commit | Status::Abort) || transaction.logs & log.bit() == 0 {
        return None;
    }
    if let (Some(gone), Log::Seen) = (state.kafka.mark(producer, log), log) {
        for router in &mut state.routers {
            if let Phase::Restoring { end: Some(end), .. } = &mut router.phase {
                *end -= u8::from(*end > gone);
            }
        }
    }
    Some(())
}
