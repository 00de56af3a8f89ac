//! The cluster's half of the model: partitions, transaction coordinator, group coordinator.

use super::{INSTANCES, Instance, KEYS, Producer, TURNS};

/// The partitions of a router's transaction whose markers somebody in the model waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Log {
    /// `seen.<source>`.
    Seen,
    /// `__consumer_offsets`.
    Offsets,
}

impl Log {
    /// Its place in a set.
    pub(super) const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A transactional record. Control records are left out: they move no comparison of positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Entry {
    writer: u8,
    /// No marker of its transaction has reached this partition.
    open: bool,
    /// A set of keys; in `__consumer_offsets` the next offset to read.
    value: u8,
}

/// Most records of a partition at one time: one committed for each key, one open of each producer.
const CAPACITY: usize = KEYS + INSTANCES * TURNS;

/// One partition. Aborted records vanish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Partition {
    entries: [Entry; CAPACITY],
    len: u8,
}

impl Partition {
    fn entries(&self) -> &[Entry] {
        &self.entries[..usize::from(self.len)]
    }

    /// Where the next record would stand: what a read_uncommitted reader is told.
    pub(super) const fn high_watermark(&self) -> u8 {
        self.len
    }

    /// Where the first open record stands: what a read_committed reader is told.
    pub(super) fn last_stable(&self) -> u8 {
        self.entries().iter().zip(0..).find(|(entry, _)| entry.open).map_or(self.len, |(_, at)| at)
    }

    /// All values committed before a position, as a set.
    pub(super) fn read(&self, end: u8) -> u8 {
        self.entries().iter().take(usize::from(end)).filter(|e| !e.open).fold(0, |all, e| all | e.value)
    }

    fn append(&mut self, writer: Producer, value: u8) {
        self.entries[usize::from(self.len)] = Entry { writer: writer.number(), open: true, value };
        self.len += 1;
    }

    fn position(&self, writer: Producer) -> Option<usize> {
        self.entries().iter().position(|e| e.open && e.writer == writer.number())
    }

    fn remove(&mut self, at: usize) {
        self.entries.copy_within(at + 1.., at);
        self.entries[CAPACITY - 1] = Entry::default();
        self.len -= 1;
    }
}

/// Where a transactional id stands at its coordinator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Status {
    /// Nothing open, all markers written.
    #[default]
    Idle,
    /// Partitions were added.
    Open,
    /// Decided; markers are on their way to each partition by itself.
    Commit,
    /// Decided the other way.
    Abort,
}

/// A transactional id at its coordinator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Transaction {
    pub(super) status: Status,
    /// Partitions added; once decided, those without their marker.
    pub(super) logs: u8,
}

/// The consumer group. Generations and member ids are not counted: who holds one knows whether it is still the current.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Group {
    /// Which static members it knows.
    pub(super) members: [bool; INSTANCES],
    /// A rebalance waits for its members to join.
    pub(super) preparing: bool,
    /// Members that have joined in this rebalance.
    pub(super) joined: [bool; INSTANCES],
    /// Who was given the partition.
    pub(super) owner: Option<u8>,
}

/// The cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Kafka {
    logs: [Partition; 2],
    /// Records of each key in the record topics, from the moment their commit is decided.
    pub(super) records: [u8; KEYS],
    pub(super) transactions: [[Transaction; TURNS]; INSTANCES],
    pub(super) group: Group,
}

impl Kafka {
    /// A partition.
    pub(super) const fn log(&self, log: Log) -> &Partition {
        &self.logs[log as usize]
    }

    const fn at(&mut self, producer: Producer) -> &mut Transaction {
        &mut self.transactions[producer.instance][producer.turn]
    }

    /// The instance's transaction that is open, if one is: there is never more than one.
    pub(super) fn open(&self, instance: Instance) -> Option<Producer> {
        let turn = self.transactions[instance].iter().position(|transaction| transaction.status == Status::Open)?;
        Some(Producer { instance, turn })
    }

    /// Adds the partition to the transaction, opening it; false where the one before has not got all its markers.
    pub(super) fn add(&mut self, producer: Producer, log: Log) -> bool {
        let transaction = self.at(producer);
        match transaction.status {
            Status::Idle => *transaction = Transaction { status: Status::Open, logs: log.bit() },
            Status::Open => transaction.logs |= log.bit(),
            Status::Commit | Status::Abort => return false,
        }
        true
    }

    /// Writes a record in the open transaction.
    pub(super) fn append(&mut self, producer: Producer, log: Log, value: u8) {
        self.logs[log as usize].append(producer, value);
    }

    /// Decides on the open transaction.
    pub(super) fn end(&mut self, producer: Producer, commit: bool) {
        self.at(producer).status = if commit { Status::Commit } else { Status::Abort };
        let seen = self.log(Log::Seen);
        let keys = seen.position(producer).map_or(0, |at| seen.entries[at].value);
        for (key, records) in self.records.iter_mut().enumerate() {
            *records += u8::from(commit && keys & (1 << key) != 0);
        }
    }

    /// Writes one marker of a decided transaction. Returns where an aborted record vanished, if one did.
    pub(super) fn mark(&mut self, producer: Producer, log: Log) -> Option<u8> {
        let transaction = self.at(producer);
        let commit = transaction.status == Status::Commit;
        transaction.logs &= !log.bit();
        if transaction.logs == 0 {
            transaction.status = Status::Idle;
        }
        let partition = &mut self.logs[log as usize];
        let at = partition.position(producer)?;
        if !commit {
            partition.remove(at);
            return Some(at as u8);
        }
        // Nobody asks who wrote a committed record: states that differ in that alone are one.
        partition.entries[at] = Entry { writer: 0, open: false, value: partition.entries[at].value };
        if log == Log::Offsets {
            // The record written last counts, whichever marker came last.
            let mut settled = (0..usize::from(partition.len)).filter(|at| !partition.entries[*at].open);
            if let (Some(first), Some(_)) = (settled.next(), settled.next()) {
                partition.remove(first);
            }
        }
        None
    }

    /// Exchanges the instances' names.
    pub(super) fn mirror(&mut self) {
        for partition in &mut self.logs {
            for entry in partition.entries.iter_mut().filter(|entry| entry.open) {
                entry.writer = (entry.writer + TURNS as u8) % (INSTANCES * TURNS) as u8;
            }
        }
        self.transactions.reverse();
        self.group.members.reverse();
        self.group.joined.reverse();
        self.group.owner = self.group.owner.map(|owner| 1 - owner);
    }

    /// The group's committed offset, and whether a commit of it is pending.
    pub(super) fn committed(&self) -> (u8, bool) {
        let offsets = self.log(Log::Offsets).entries();
        (offsets.iter().find(|e| !e.open).map_or(0, |e| e.value), offsets.iter().any(|e| e.open))
    }
}
