//! More partitions for `received` and `seen`: markers go where their ids have their places among more of them.
//!
//! Routers look an id up by the number in its topic's identity, however many partitions there are, so nothing is wrong
//! before, while or after this runs, and whatever ends it half-way: until the number is raised, copies of markers lie
//! where nobody looks. It is raised last, in one transaction with offsets of the group, as its only member: Kafka takes
//! them from that membership alone, so no router can have written a marker since the copying began, and one that joins
//! later reads the new number after it has joined.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::audit;
use crate::avro::AvroError;
use crate::kafka::admin::AdminError;
use crate::kafka::group::{GroupError, Incoming, Member, Partition, Polled, Start};
use crate::kafka::headers::Headers;
use crate::kafka::identity::{self, Identity, IdentityError};
use crate::kafka::layout::{Encoders, Ground, LayoutError};
use crate::kafka::partition::of_key;
use crate::kafka::produce::Outgoing;
use crate::kafka::restore::{self, Read, RestoreError};
use crate::kafka::transaction::{TransactionError, Transactions};
use crate::lifecycle::failpoint;
use crate::topics;

/// Longer than the place of a router that was stopped is kept for it (its session, ten seconds).
const LEFT: Duration = Duration::from_secs(30);
/// Longest wait for the partitions.
const GAIN: Duration = Duration::from_secs(60);
/// Longest time without a marker; the longest expected one is the timeout of a transaction left open.
const PATIENCE: Duration = Duration::from_secs(240);
/// Bound on one transaction.
const TRANSACTION: Duration = Duration::from_secs(60);
/// Markers of one transaction.
const BATCH: usize = 2000;
const LOOK: Duration = Duration::from_millis(200);

/// Why partitions could not be added, or markers not be moved. To ask again is safe.
#[derive(Debug, thiserror::Error)]
pub enum GrowError {
    /// Routers run.
    #[error("routers run: {}; stop them first", .0.join(", "))]
    Running(Vec<String>),
    /// A router joined meanwhile.
    #[error("a router joined the group meanwhile; stop all of them and ask again")]
    Joined,
    /// The topic has no identity yet.
    #[error("{0} has no identity; `ledgerhook topics apply` gives one")]
    Unknown(String),
    /// The cluster refuses or is away.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The registry refuses or is away.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Identities cannot be read or written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The group's membership is of no use.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// Markers cannot be read.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// Markers, or the new number, cannot be written.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    /// A row does not fit its schema.
    #[error(transparent)]
    Avro(#[from] AvroError),
}

/// What was done for a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grown {
    /// Name of the source.
    pub source: String,
    /// In how many partitions its ids had their places.
    pub from: usize,
    /// In how many they have them now.
    pub to: usize,
    /// Markers copied to other partitions.
    pub moved: u64,
}

impl std::fmt::Display for Grown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { source, from, to, moved } = self;
        write!(f, "{source}: {to} partitions instead of {from}, {moved} markers moved")
    }
}

/// Gives these sources at least `partitions`, and their ids places in all that there are. Blocks.
///
/// # Errors
/// When routers run, or cluster or registry are away.
pub fn grow(ground: &Ground, runtime: &Handle, sources: &[String], partitions: usize) -> Result<Vec<Grown>, GrowError> {
    let encoders = runtime.block_on(ground.encoders())?;
    let mut wanted = Vec::new();
    let mut identities = identity::read(ground, runtime)?;
    for source in sources {
        let names = [topics::received(source), topics::seen(source)];
        let counts = [ground.partitions_of(&names[0])?.len(), ground.partitions_of(&names[1])?.len()];
        let to = partitions.max(counts[0]).max(counts[1]);
        let known = names.iter().map(|name| identities.remove(name).ok_or_else(|| GrowError::Unknown(name.clone())));
        let known: Vec<Identity> = known.collect::<Result<_, _>>()?;
        let from = known.first().map_or(to, |received| received.partitions);
        if to > from || counts.iter().any(|count| *count < to) {
            wanted.push(Wanted { source: source.clone(), names, known, from, to });
        }
    }
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    nobody_runs(ground)?;
    for Wanted { names, to, .. } in &wanted {
        // `seen` first: where there is a row there is a place for its marker.
        for name in [&names[1], &names[0]] {
            runtime.block_on(ground.admin().grow(&ground.cluster.topic(name), *to))?;
        }
    }
    let held = Held::take(ground, sources)?;
    let transactions = Transactions::open(&ground.cluster, "operate.grow", TRANSACTION)?;
    let work = Work { ground, encoders: &encoders, transactions: &transactions };
    wanted.iter().map(|wanted| work.move_markers(wanted, &held)).collect()
}

/// A source that is to have more partitions.
struct Wanted {
    source: String,
    /// Of `received` and `seen`.
    names: [String; 2],
    /// Their identities.
    known: Vec<Identity>,
    from: usize,
    to: usize,
}

/// Waits for as long as stopped routers keep their places.
fn nobody_runs(ground: &Ground) -> Result<(), GrowError> {
    let until = Instant::now() + LEFT;
    loop {
        let members = ground.admin().members(topics::ROUTERS)?;
        if members.is_empty() {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(GrowError::Running(members));
        }
        std::thread::sleep(LOOK);
    }
}

/// All partitions, as the group's only member. Nothing is read from them.
struct Held {
    member: RefCell<Member>,
    partitions: Vec<Partition>,
}

impl Held {
    fn take(ground: &Ground, sources: &[String]) -> Result<Self, GrowError> {
        let topics: Vec<String> = sources.iter().map(|s| ground.cluster.topic(&topics::received(s))).collect();
        let mut all = Vec::new();
        for source in sources {
            all.extend(ground.partitions_of(&topics::received(source))?);
        }
        all.sort();
        // A name of its own each time: an earlier one would be given what that had.
        let instance = format!("topics-grow.{}", uuid::Uuid::now_v7());
        let mut member = Member::join(&ground.cluster, topics::ROUTERS, &instance, &topics, Start::Earliest)?;
        let until = Instant::now() + GAIN;
        while Instant::now() < until {
            match member.poll(LOOK)? {
                // Committed offsets were read before this, none of them undecided: whoever had the partitions before has
                // ended, or what it still has open holds back the end of `seen` until that is decided.
                Polled::Gained(mut partitions) => {
                    partitions.sort();
                    if partitions != all {
                        return Err(GrowError::Joined);
                    }
                    member.pause(&partitions)?;
                    return Ok(Self { member: RefCell::new(member), partitions });
                }
                Polled::Leaving { .. } => return Err(GrowError::Joined),
                Polled::Away(why) => tracing::warn!(why, "waiting for the partitions"),
                Polled::Record(_) | Polled::Nothing => {}
            }
        }
        Err(GrowError::Joined)
    }

    /// Stays a member; false where the partitions are asked back.
    fn still(&self) -> bool {
        let polled = self.member.borrow_mut().poll(Duration::ZERO);
        matches!(polled, Ok(Polled::Nothing | Polled::Record(_) | Polled::Away(_)))
    }
}

struct Work<'a> {
    ground: &'a Ground,
    encoders: &'a Encoders,
    transactions: &'a Transactions,
}

impl Work<'_> {
    fn move_markers(&self, wanted: &Wanted, held: &Held) -> Result<Grown, GrowError> {
        let topic = self.ground.cluster.topic(&wanted.names[1]);
        let count = |partitions: usize| i32::try_from(partitions).unwrap_or(i32::MAX);
        let (from, to) = (count(wanted.from), count(wanted.to));
        let parts: BTreeMap<i32, Option<i64>> = (0..from).map(|number| (number, None)).collect();
        let (mut batch, mut moved, mut fault) = (Vec::new(), 0, None::<GrowError>);
        let failed = std::cell::Cell::new(false);
        restore::read(&self.ground.cluster, &topic, &parts, PATIENCE, &|| failed.get(), |read| {
            let Read::Record(row) = read else { return };
            let Some(place) = row.key.as_deref().and_then(|key| new_place(key, row.partition.number, from, to)) else {
                return;
            };
            batch.push((place, row));
            moved += 1;
            if batch.len() >= BATCH
                && fault.is_none()
                && let Err(error) = self.write(&topic, &mut batch, held)
            {
                fault = Some(error);
                failed.set(true);
            }
        })?;
        if let Some(error) = fault {
            return Err(error);
        }
        self.write(&topic, &mut batch, held)?;
        failpoint("grow.before_raise");
        self.raise(wanted, moved, held)?;
        Ok(Grown { source: wanted.source.clone(), from: wanted.from, to: wanted.to, moved })
    }

    fn write(&self, topic: &str, batch: &mut Vec<(i32, Incoming)>, held: &Held) -> Result<(), GrowError> {
        if !held.still() {
            return Err(GrowError::Joined);
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.whole(|transactions| {
            for (partition, row) in batch.drain(..) {
                let key = row.key.unwrap_or_default();
                match row.value {
                    None => transactions.erase(topic, partition, &key)?,
                    Some(value) => transactions.send(&Outgoing {
                        topic: topic.to_owned(),
                        partition: Some(partition),
                        key,
                        value,
                        headers: Headers::default(),
                        // Kept for no longer than where it stood.
                        timestamp_ms: row.timestamp_ms,
                    })?,
                }
            }
            Ok(())
        })
    }

    /// Raises the number, as the member that holds the partitions, or not at all.
    fn raise(&self, wanted: &Wanted, moved: u64, held: &Held) -> Result<(), GrowError> {
        let member = held.member.borrow();
        let proof = member.metadata().ok_or(GrowError::Joined)?;
        let offsets = member.committed(&held.partitions)?;
        let encoder =
            self.encoders.of(topics::CONTROL).ok_or_else(|| AvroError::Unknown(topics::CONTROL.to_owned()))?;
        let mut rows = Vec::new();
        for (name, known) in wanted.names.iter().zip(&wanted.known) {
            let identity = Identity { partitions: wanted.to, ..known.clone() };
            rows.push(identity::record(self.ground, encoder, name, &identity)?);
        }
        let detail = json!({ "from": wanted.from, "to": wanted.to, "moved": moved });
        let entry = audit::entry(audit::actor(), "topics.grow", wanted.source.clone(), &detail);
        rows.push(audit::record(self.ground, self.encoders, &entry)?);
        self.whole(|transactions| {
            rows.iter().try_for_each(|row| transactions.send(row))?;
            transactions.offsets(offsets.iter().map(|(partition, next)| (partition, *next)), proof)
        })
    }

    fn whole(&self, write: impl FnOnce(&Transactions) -> Result<(), TransactionError>) -> Result<(), GrowError> {
        let written = self.transactions.begin().and_then(|()| {
            write(self.transactions)?;
            self.transactions.commit(&|why| tracing::warn!(why, "still waiting for Kafka"))
        });
        if let Err(error) = written {
            // Where the broker does not hear it, it ends the transaction at its timeout.
            drop(self.transactions.abort());
            return Err(error.into());
        }
        Ok(())
    }
}

/// Where a marker has to go: none for one that stays, and for one that an earlier move has left behind.
fn new_place(key: &[u8], stands: i32, from: i32, to: i32) -> Option<i32> {
    let place = of_key(key, to);
    (of_key(key, from) == stands && place != stands).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_goes_where_its_id_has_its_place_among_more() {
        // murmur2 of "21" without its sign: 1_173_551_340; 0 of 3, 5 of 7, 0 of 12.
        let there = i32::try_from(1_173_551_340_i64 % 7).unwrap();
        for (stands, from, to, expected) in
            [(0, 3, 7, Some(there)), (1, 3, 7, None), (0, 3, 12, None), (there, 7, 12, Some(0)), (0, 7, 12, None)]
        {
            assert_eq!(new_place(b"21", stands, from, to), expected, "{stands}: {from} to {to}");
        }
    }
}
