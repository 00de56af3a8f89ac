//! The router's half of the model: one instance's steps, by the rules that are to be checked or broken.

use super::kafka::{Log, Status};
use super::rules::{End, Ended, Merge, Metadata, Order, Release, Rules, Unjoined};
use super::{Instance, Producer, ROWS, State, Step, TURNS, keys_of};

/// Where an instance is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Phase {
    /// Not running, or about to start over from what is committed.
    #[default]
    Down,
    /// Waits for the group to let it in.
    Joining,
    /// A member without the partition.
    Idle,
    /// Gained the partition. What it has learned so far: where to start, the end of `seen`, the keys up to there.
    Restoring { offset: Option<u8>, end: Option<u8>, known: Option<u8> },
    /// Reads rows from `position` on; `known` is its local state.
    Serving { position: u8, known: u8 },
}

/// A member id or generation, as its holder would find it on using it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Standing {
    /// It has none: generation -1.
    #[default]
    None,
    /// The group's own.
    Current,
    /// The group has moved on.
    Stale,
}

impl Standing {
    fn age(&mut self) {
        if *self == Self::Current {
            *self = Self::Stale;
        }
    }
}

/// Rows collected and decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Batch {
    from: u8,
    to: u8,
    /// Keys that get a record and a marker in `seen`.
    fresh: u8,
    /// What the brokers have taken of it.
    written: u8,
    /// It has to be aborted.
    doomed: bool,
    /// The partition was given back since: it has nothing to do with the local state any more.
    outlived: bool,
    /// Group metadata taken with it.
    metadata: Standing,
}

impl Batch {
    fn needs(&self, log: Log) -> bool {
        self.written & log.bit() == 0 && (log == Log::Offsets || self.fresh != 0)
    }
}

/// One instance: a process, or the place of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Router {
    pub(super) phase: Phase,
    pub(super) member: Standing,
    pub(super) generation: Standing,
    /// Its producer's epoch is no longer the transactional id's.
    pub(super) fenced: bool,
    /// Which of its transactional ids has its turn.
    pub(super) turn: u8,
    /// In its transaction, or waiting for one.
    pub(super) batch: Option<Batch>,
    /// Collected while that one commits.
    pub(super) next: Option<Batch>,
}

impl Router {
    fn producer(&self, instance: Instance) -> Producer {
        Producer { instance, turn: usize::from(self.turn) }
    }

    /// The transaction under way has ended.
    fn end(&mut self, rules: &Rules) {
        if rules.alternate {
            self.turn = (self.turn + 1) % TURNS as u8;
        }
    }

    /// Takes what the group gave it.
    pub(super) fn enter(&mut self, owner: bool) {
        self.generation = Standing::Current;
        self.phase = if owner { Phase::Restoring { offset: None, end: None, known: None } } else { Phase::Idle };
    }

    /// Its generation has passed.
    pub(super) fn outdate(&mut self) {
        self.generation.age();
        for batch in [&mut self.batch, &mut self.next].into_iter().flatten() {
            batch.metadata.age();
        }
    }

    /// Its member id is the group's no more.
    pub(super) fn expel(&mut self) {
        self.member.age();
        self.outdate();
    }
}

/// Takes an instance's step; nothing where it cannot be taken now.
pub(super) fn step(state: &State, rules: &Rules, i: Instance, step: Step) -> Option<State> {
    let mut after = *state;
    match step {
        Step::Join => join(&mut after, i),
        Step::FetchOffset => fetch_offset(&mut after, i, rules),
        Step::FindEnd => find_end(&mut after, i, rules),
        Step::Read => read(&mut after, i, rules, false),
        Step::ReadOn => read(&mut after, i, rules, true),
        Step::ReadShort => read_short(&mut after, i, rules),
        Step::Collect(rows) => collect(&mut after, i, rows, rules),
        Step::Write(log) => write(&mut after, i, log, rules),
        Step::Commit => commit(&mut after, i, rules),
        Step::Abort => abort(&mut after, i, rules),
        Step::StartOver => start_over(&mut after, i),
        Step::Hear => hear(&mut after, i, rules),
        Step::Release => release(&mut after, i, rules),
        Step::Hiccup => hiccup(&mut after, i),
        _ => None,
    }?;
    Some(after)
}

fn join(state: &mut State, i: Instance) -> Option<()> {
    let State { kafka, routers, .. } = state;
    let (group, router) = (&mut kafka.group, &mut routers[i]);
    if router.phase != Phase::Joining || (router.member == Standing::Current && (!group.preparing || group.joined[i])) {
        return None;
    }
    router.member = Standing::Current;
    if group.members[i] && !group.preparing {
        // A static member's new process takes its place.
        router.enter(group.owner == Some(i as u8));
    } else {
        group.members[i] = true;
        group.preparing = true;
        group.joined[i] = true;
    }
    Some(())
}

/// Goes on to serving once everything is known.
fn restored(offset: Option<u8>, end: Option<u8>, known: Option<u8>) -> Phase {
    match (offset, known) {
        (Some(position), Some(known)) => Phase::Serving { position, known },
        _ => Phase::Restoring { offset, end, known },
    }
}

fn fetch_offset(state: &mut State, i: Instance, rules: &Rules) -> Option<()> {
    let Phase::Restoring { offset: None, end, known } = state.routers[i].phase else { return None };
    let ready = match rules.order {
        Order::OffsetEndRead => true,
        Order::EndOffsetRead => end.is_some(),
        Order::EndReadOffset => known.is_some(),
    };
    let (committed, pending) = state.kafka.committed();
    if !ready || (rules.require_stable && pending) {
        return None;
    }
    state.routers[i].phase = restored(Some(committed), end, known);
    Some(())
}

fn find_end(state: &mut State, i: Instance, rules: &Rules) -> Option<()> {
    let Phase::Restoring { offset, end: None, known } = state.routers[i].phase else { return None };
    if rules.order == Order::OffsetEndRead && offset.is_none() {
        return None;
    }
    let seen = state.kafka.log(Log::Seen);
    let end = match rules.end {
        End::HighWatermark => seen.high_watermark(),
        End::LastStable => seen.last_stable(),
    };
    state.routers[i].phase = restored(offset, Some(end), known);
    Some(())
}

/// What a restore that may begin to read has learned: its offset, its end, and the last stable offset, which has passed it.
fn reading(state: &State, i: Instance, rules: &Rules) -> Option<(Option<u8>, u8, u8)> {
    let Phase::Restoring { offset, end: Some(end), known: None } = state.routers[i].phase else { return None };
    let stable = state.kafka.log(Log::Seen).last_stable();
    let is_ready = stable >= end && (rules.order == Order::EndReadOffset || offset.is_some());
    is_ready.then_some((offset, end, stable))
}

fn read(state: &mut State, i: Instance, rules: &Rules, on: bool) -> Option<()> {
    let (offset, end, stable) = reading(state, i, rules)?;
    if on && stable == end {
        return None;
    }
    let known = state.kafka.log(Log::Seen).read(if on { stable } else { end });
    // How far it has read matters no more.
    state.routers[i].phase = restored(offset, Some(0), Some(known));
    Some(())
}

fn read_short(state: &mut State, i: Instance, rules: &Rules) -> Option<()> {
    let (offset, end, _) = reading(state, i, rules)?;
    // Who goes by positions reads on: nothing has changed.
    let short = end.checked_sub(1).filter(|_| rules.ended == Ended::BySaying)?;
    let known = state.kafka.log(Log::Seen).read(short);
    state.routers[i].phase = restored(offset, Some(0), Some(known));
    state.spend()
}

fn collect(state: &mut State, i: Instance, rows: u8, rules: &Rules) -> Option<()> {
    let router = &mut state.routers[i];
    let Phase::Serving { position, known } = router.phase else { return None };
    let to = position + rows;
    if usize::from(to) > ROWS.len() || (router.generation == Standing::None && rules.unjoined == Unjoined::NeverUsed) {
        return None;
    }
    let batch = |overlay: u8| Batch {
        from: position,
        to,
        fresh: keys_of(position, to) & !known & !overlay,
        written: 0,
        doomed: false,
        outlived: false,
        metadata: router.generation,
    };
    match (router.batch, router.next) {
        (None, _) => router.batch = Some(batch(0)),
        (Some(before), None) if rules.pipelined && !before.doomed && !before.outlived => {
            router.next = Some(batch(before.fresh));
        }
        _ => return None,
    }
    router.phase = Phase::Serving { position: to, known };
    Some(())
}

fn write(state: &mut State, i: Instance, log: Log, rules: &Rules) -> Option<()> {
    let State { kafka, routers, .. } = state;
    let router = &mut routers[i];
    let producer = router.producer(i);
    let batch = router.batch.as_mut()?;
    if router.fenced || batch.doomed || !batch.needs(log) || !kafka.add(producer, log) {
        return None;
    }
    batch.written |= log.bit();
    if log != Log::Offsets {
        kafka.append(producer, log, batch.fresh);
        return Some(());
    }
    let metadata = match rules.metadata {
        Metadata::WithBatch => batch.metadata,
        Metadata::AtCommit => router.generation,
    };
    // The broker looks at member and generation, never at who owns the partition.
    match metadata {
        Standing::Current => kafka.append(producer, log, batch.to),
        Standing::None if rules.unjoined == Unjoined::Bare => kafka.append(producer, log, batch.to),
        _ => batch.doomed = true,
    }
    if let (Merge::BeforeCommit, Phase::Serving { known, .. }, false) = (rules.merge, &mut router.phase, batch.outlived)
    {
        *known |= batch.fresh;
    }
    Some(())
}

fn commit(state: &mut State, i: Instance, rules: &Rules) -> Option<()> {
    let State { kafka, routers, .. } = state;
    let router = &mut routers[i];
    let batch = router.batch?;
    if router.fenced || batch.doomed || batch.needs(Log::Seen) || batch.needs(Log::Offsets) {
        return None;
    }
    kafka.end(router.producer(i), true);
    router.end(rules);
    if let (Phase::Serving { known, .. }, false) = (&mut router.phase, batch.outlived) {
        *known |= batch.fresh;
    }
    router.batch = router.next.take();
    Some(())
}

fn abort(state: &mut State, i: Instance, rules: &Rules) -> Option<()> {
    let State { kafka, routers, .. } = state;
    let router = &mut routers[i];
    let batch = router.batch?;
    if router.fenced || !(batch.doomed || router.generation == Standing::None) {
        return None;
    }
    // Otherwise nothing of this batch has reached a broker.
    let producer = router.producer(i);
    if kafka.transactions[i][producer.turn].status == Status::Open {
        kafka.end(producer, false);
    }
    router.end(rules);
    router.batch = router.next.take().filter(|_| !rules.drops_successor);
    if let (Phase::Serving { position, .. }, false, None) = (&mut router.phase, batch.outlived, router.batch) {
        *position = batch.from;
    }
    Some(())
}

fn start_over(state: &mut State, i: Instance) -> Option<()> {
    let router = &mut state.routers[i];
    (router.fenced && router.batch.is_some()).then(|| *router = Router::default())
}

fn hear(state: &mut State, i: Instance, rules: &Rules) -> Option<()> {
    let router = &mut state.routers[i];
    // Where it makes no difference it is one step with giving back.
    let matters = router.batch.is_some() || rules.unjoined != Unjoined::NeverUsed;
    if !matters || router.member != Standing::Stale || router.generation != Standing::Stale {
        return None;
    }
    router.generation = Standing::None;
    Some(())
}

fn release(state: &mut State, i: Instance, rules: &Rules) -> Option<()> {
    let router = &mut state.routers[i];
    let has_reason = router.generation != Standing::Current || state.kafka.group.preparing;
    let is_free = router.batch.is_none() || rules.release == Release::AtOnce;
    if matches!(router.phase, Phase::Down | Phase::Joining) || !has_reason || !is_free {
        return None;
    }
    router.phase = Phase::Joining;
    router.next = None;
    if let Some(batch) = &mut router.batch {
        batch.outlived = true;
        // Nobody goes back there any more.
        batch.from = 0;
    }
    Some(())
}

fn hiccup(state: &mut State, i: Instance) -> Option<()> {
    let router = &mut state.routers[i];
    let batch = router.batch.as_mut().filter(|batch| !router.fenced && !batch.doomed && batch.written != 0)?;
    batch.doomed = true;
    state.spend()
}
