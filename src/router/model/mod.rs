//! The router's protocol as a small model, every reachable state of which is looked at.
//!
//! What the model says of the protocol, each line a test:
//!
//! | rule of the router | without it |
//! |---|---|
//! | the restore's end is the high watermark of a read_uncommitted client | double |
//! | what a partition is said to end with is its end only once the position has come there | double |
//! | the committed offset is fetched before that end is established, and before reading | double |
//! | the committed offset is fetched only while no commit of it is pending (`require_stable`) | double |
//! | metadata without membership is never used | double, where the request names no static member either; a broker refuses one that does |
//! | partitions are given back only when the transaction has ended, *or* group metadata is taken with the batch | double if both are gone |
//! | the local state learns of a batch when its commit is certain | loss |
//! | what was collected behind a batch is dropped when that is aborted | loss |
//! | the coordinator ends a transaction at its timeout | the successor waits for ever |
//!
//! One line differs from what one may expect: metadata taken at commit time is no fault *by itself*. In the classic,
//! eager protocol a member's generation does not move on before the member has given its partitions back. Metadata
//! taken with the batch is the last line of defence: it still holds where a batch outlives the giving back (a
//! transaction thread that nobody waits for), and metadata of commit time does not; nor where the client has lost its
//! membership meanwhile and what it sends then is taken from anyone.
//!
//! **Modelled** ([`kafka`], [`cluster`], [`instance`]). One partition of `received` with the rows x, y, x. Two
//! instances, each with its own two transactional ids, which take turns, and static membership, starting at any time. `seen` and
//! `__consumer_offsets` with open and committed records; the transaction coordinator decides, then its markers reach
//! each of them by itself, in any order and arbitrarily late, and the id's next transaction waits for both; the other id's
//! does not. Markers,
//! offsets and records are written in any order, as a producer that does not wait for acknowledgements may. The broker
//! looks at generation and member in TxnOffsetCommit, never at who owns the partition. Rebalances, also while a
//! transaction is open; sessions that end; a restart that takes its static place back; InitProducerId that waits for
//! or aborts a leftover. Zombies need no step of their own: between any two steps of one instance everything else may
//! happen, so each of them may be the one before a pause of any length. The router runs serially, or collects and
//! decides the next batch while one commits; that one begins when the commit is certain.
//!
//! **Promise** ([`State::violation`], [`search`]). In no state has a key two records, in none is the group's offset
//! past a row whose key has no record; and from every state some way without further faults, and without restarting an
//! instance while the other runs, leads to all rows processed (so no state without a next step falls short of that).
//!
//! **Bounds.** Any two faults out of: crash, timeout of a live instance's transaction, end of a live instance's
//! session, rebalance without cause, abort for a record not acknowledged. Three in the long form. One is enough for
//! every counterexample. Batches of one or two rows. What follows from a crash (timeouts, restart) costs nothing.
//!
//! **Left out**, each for a reason:
//! - The record topics as a log. Nobody in the protocol reads them, and their markers delay nothing that cannot be
//!   late anyway: records are written together with the `seen` markers, and count from the coordinator's decision on,
//!   since every read_committed reader will come to see them.
//! - Bodies. (id, body) is one key: an id's second body is decided once, as its first is. Mapping, quarantine, the
//!   dedupe window and the batch that sees itself are pure and tested where they are. So is an operator's replay: a row
//!   by the same path, of a key that is in `seen` without a record. What `seen` then says of it is written in the
//!   transaction of its record, as for a key that was never seen; rows behind it find it there.
//! - A second process of the same instance: InitProducerId comes before all else and leaves its predecessor nothing to
//!   write, as a crash does. So is a commit with unknown outcome: the router starts over.
//! - Offsets committed where nothing but ends of transactions came: no row stands between the offset before and that one.
//! - Aborted records, and positions taken by control records: no comparison of positions depends on them.
//! - A record that arrives between an abort at the coordinator and its marker on the partition: a broker takes it and
//!   the marker ends it; here it is refused.
//! - Leader changes, but for what a restore sees of them: a record counts when all replicas have it, and a new leader
//!   tells no end that is asked for before it knows it. What it tells in the answer to a fetch may be older, for as long as
//!   a follower takes to fetch once; here that may happen in any restore, and costs a fault. That a restore which was told
//!   of the same place twice, with the leader asked between, takes it for the end is left out: it would need two new
//!   leaders within that time.
//!
//! The search is written out here ([`search`]) because stateright, the one checker at hand, brings a web server, a
//! concurrent map and eight more crates that cannot be switched off.

mod cluster;
mod instance;
mod kafka;
mod rules;
mod search;

use instance::{Phase, Router};
use kafka::{Kafka, Log};
use search::Violation;

/// Number of an instance, of its transactional id and of its static membership.
type Instance = usize;

/// How many instances there are.
const INSTANCES: usize = 2;

/// How many transactional ids each has, which take turns where the rules say so.
const TURNS: usize = 2;

/// One transactional id.
#[derive(Clone, Copy)]
struct Producer {
    instance: Instance,
    turn: usize,
}

impl Producer {
    const fn number(self) -> u8 {
        (self.instance * TURNS + self.turn) as u8
    }
}

/// How many different rows there are.
const KEYS: usize = 2;

/// The input: each row's (id, body), as a number.
const ROWS: [u8; 3] = [0, 1, 0];

/// What the rows `from..to` are, as a set.
fn keys_of(from: u8, to: u8) -> u8 {
    ROWS[usize::from(from)..usize::from(to)].iter().fold(0, |keys, key| keys | 1 << key)
}

/// The whole system at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    kafka: Kafka,
    routers: [Router; INSTANCES],
    /// Faults that may still happen.
    faults: u8,
}

/// What can happen to one instance, or around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// InitProducerId: nothing of the transactional id is open, its earlier holder is fenced.
    Start,
    /// InitProducerId: what is open is aborted first.
    AbortLeftover,
    Join,
    FetchOffset,
    FindEnd,
    /// Reads up to the end.
    Read,
    /// Reads what is stable by now, which is more.
    ReadOn,
    /// A fault: a new leader says that the partition ends where it does not.
    ReadShort,
    /// So many rows.
    Collect(u8),
    Write(Log),
    Commit,
    Abort,
    /// The producer finds itself fenced: everything is dropped.
    StartOver,
    /// The client library hears that it is no member any more; the router does not know yet.
    Hear,
    Release,
    /// A fault: a record was not acknowledged in time, the transaction has to be aborted.
    Hiccup,
    /// A fault.
    Crash,
    /// The coordinator aborts the transaction at its timeout: a fault, unless its owner is down.
    ExpireTransaction,
    /// The coordinator ends the session, or waits no longer for the member to join: a fault, unless it is down.
    ExpireMember,
    /// A fault: something makes the group rebalance.
    Rebalance,
    /// All members have joined, this one gets the partition.
    Assign,
    /// One marker of a decided transaction, of the id with this turn, reaches a partition.
    Mark(usize, Log),
}

impl Step {
    const ALL: [Self; 27] = [
        Self::Start,
        Self::AbortLeftover,
        Self::Join,
        Self::FetchOffset,
        Self::FindEnd,
        Self::Read,
        Self::ReadOn,
        Self::ReadShort,
        Self::Collect(1),
        Self::Collect(2),
        Self::Write(Log::Seen),
        Self::Write(Log::Offsets),
        Self::Commit,
        Self::Abort,
        Self::StartOver,
        Self::Hear,
        Self::Release,
        Self::Hiccup,
        Self::Crash,
        Self::ExpireTransaction,
        Self::ExpireMember,
        Self::Rebalance,
        Self::Assign,
        Self::Mark(0, Log::Seen),
        Self::Mark(0, Log::Offsets),
        Self::Mark(1, Log::Seen),
        Self::Mark(1, Log::Offsets),
    ];
}

impl State {
    fn new(faults: u8) -> Self {
        Self { kafka: Kafka::default(), routers: Default::default(), faults }
    }

    /// Pays for a fault.
    fn spend(&mut self) -> Option<()> {
        self.faults = self.faults.checked_sub(1)?;
        Some(())
    }

    fn violation(&self) -> Option<Violation> {
        let (offset, _) = self.kafka.committed();
        if self.kafka.records.iter().any(|records| *records > 1) {
            Some(Violation::Double)
        } else if ROWS[..usize::from(offset)].iter().any(|key| self.kafka.records[usize::from(*key)] == 0) {
            Some(Violation::Loss)
        } else {
            None
        }
    }

    /// All rows were processed.
    fn is_done(&self) -> bool {
        usize::from(self.kafka.committed().0) == ROWS.len()
    }

    /// The same with the instances' names exchanged, which changes nothing.
    fn mirrored(&self) -> Self {
        let mut mirrored = *self;
        mirrored.kafka.mirror();
        mirrored.routers.reverse();
        mirrored
    }

    /// Which of the two stands for both.
    fn is_canonical(&self) -> bool {
        let [a, b] = &self.routers;
        let [at_a, at_b] = &self.kafka.transactions;
        (a, at_a) <= (b, at_b)
    }

    /// Whether a step restarts one instance while the other runs: that one must be able to finish without it.
    fn leans_on_a_restart(&self, instance: Instance, step: Step) -> bool {
        matches!(step, Step::Start | Step::AbortLeftover) && self.routers[1 - instance].phase != Phase::Down
    }
}

#[cfg(test)]
mod tests;
