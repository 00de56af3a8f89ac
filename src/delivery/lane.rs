//! What the plan is asked and what it answers.

use std::sync::Arc;

use tokio::time::Instant;

use super::queue::Standing;
use super::repeat::Step;
use super::tally::Tally;
use crate::kafka::group::Partition;
use crate::targets::Idempotency;
use crate::topics;

/// One key of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Lane {
    /// The partition.
    pub(super) partition: Partition,
    /// The records' Kafka key.
    pub(super) key: Vec<u8>,
}

/// Which row of its lane's partition number a record came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Seat {
    /// The record's own, at this offset of its topic.
    Record(i64),
    /// One of a replay, at this offset of `redeliver.<target>`.
    Redelivery(i64),
}

impl Seat {
    /// Key of its row in `parked.<target>`, for a record of this topic (without prefix) and partition.
    pub(super) fn key(self, topic: &str, number: i32, target: &str) -> String {
        match self {
            Self::Record(offset) => topics::parked_key(topic, number, offset),
            Self::Redelivery(offset) => topics::parked_key(&topics::redeliver(target), number, offset),
        }
    }
}

/// What a plan may do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Open records in memory, about.
    pub(super) read_ahead: Tally,
    /// Parked records in memory.
    pub(super) keep_parked: Tally,
    /// What the target offers against a second document.
    pub(super) class: Idempotency,
}

/// How many tries there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowance {
    /// Under way at the target.
    pub(super) at_once: usize,
    /// Those, and those that ended and are not committed: what a crash repeats at most. Not below `at_once`.
    pub(super) unsettled: usize,
}

impl Allowance {
    /// As many of one as of the other.
    pub(super) const fn of(count: usize) -> Self {
        Self { at_once: count, unsettled: count }
    }

    /// The share of an instance with `owned` of `all` partitions: one at least.
    pub(super) fn share(self, owned: usize, all: usize) -> Self {
        let of = |count: usize| (count * owned / all.max(1)).max(1);
        Self { at_once: of(self.at_once), unsettled: of(self.unsettled) }
    }

    /// How many ends are worth a commit, though none waits for it. The places that are left have to last until it is
    /// through, so that the target does not idle; and each commit costs the broker much the same, so as few as that allows.
    pub(super) const fn worth_a_commit(self) -> usize {
        let spare = self.unsettled.saturating_sub(self.at_once);
        if spare == 0 { self.at_once.div_ceil(2) } else { spare.div_ceil(2) }
    }
}

/// Says which try or fetch a result belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    /// The plan's epoch.
    pub(super) epoch: u64,
    /// Its lane.
    pub(super) lane: Arc<Lane>,
    /// Its record's row.
    pub(super) seat: Seat,
}

/// A try to be made.
#[derive(Debug)]
pub(super) struct Try<R> {
    /// To be handed back with the result.
    pub(super) ticket: Ticket,
    /// The record.
    pub(super) record: Arc<R>,
    /// Number of the try, from 1.
    pub(super) n: u32,
    /// How it is made.
    pub(super) step: Step,
}

/// A parked record to be fetched.
#[derive(Debug)]
pub(super) struct Fetch {
    /// To be handed back with the record.
    pub(super) ticket: Ticket,
    /// Where to look for it in `parked`: there or behind.
    pub(super) place: i64,
    /// Tries that its row has to know of; an older row is not the one.
    pub(super) tries: u32,
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Go<R> {
    /// Make this try.
    Try(Try<R>),
    /// Fetch this record.
    Fetch(Fetch),
}

/// What becomes of a record after a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// It is finished, delivered or given up.
    Finish,
    /// It failed, and is due again at this time.
    At(Instant),
    /// The try says nothing of the record: again as soon as the target may be tried.
    Again,
}

/// What has to be written to `parked`.
#[derive(Debug)]
pub(super) enum Change<R> {
    /// The record waits there, as said; a row it had before is replaced.
    Park {
        /// Its lane.
        lane: Arc<Lane>,
        /// Its row.
        seat: Seat,
        /// The record.
        record: Arc<R>,
        /// Whether it is the lane's head.
        leads: bool,
        /// How it stands; nothing of it behind a head, as a rule.
        standing: Standing,
    },
    /// The record waits there no longer.
    Release {
        /// Its lane.
        lane: Arc<Lane>,
        /// Its row.
        seat: Seat,
    },
}

/// A record found in `parked`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    /// The row it came by.
    pub(super) seat: Seat,
    /// Where its row in `parked` stands.
    pub(super) place: i64,
    /// How it stands.
    pub(super) standing: Standing,
}
