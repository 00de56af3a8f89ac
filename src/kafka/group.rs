//! A member of a consumer group whose start offsets are explicit and whose rebalances are plain return values.
//!
//! librdkafka hands an assignment to a callback in the middle of a poll. Here the callback only notes it; the
//! assignment is taken, or given back, in [`Member::poll`] and [`Member::release`], so that the caller sees gain and
//! loss of partitions in line with the records, with nothing running beside it.
//!
//! The classic protocol with the `range` assignor: a member gets the same partition numbers of all topics it reads,
//! and a rebalance takes everything away before it gives anything, which keeps ownership exclusive. What that costs, a
//! pause of all members, is short where state is a cache on disk. Not the protocol of KIP-848: it gives and takes single
//! partitions while others go on, and leaves the choice of assignor to the brokers.

mod begin;
mod end;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, ConsumerGroupMetadata};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::topic_partition_list::Offset;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use tokio::time::Instant;

use super::client::{Cluster, REQUEST_TIMEOUT};
use super::headers::Headers;
use super::restore::RestoreError;
use super::sight::{CUT_OFF, Sight};

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    /// Kafka's name of the topic.
    pub topic: String,
    /// Number.
    pub number: i32,
}

/// A record as read.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Where it stands.
    pub partition: Partition,
    /// Its offset there.
    pub offset: i64,
    /// Its timestamp in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value.
    pub value: Option<Vec<u8>>,
    /// Headers.
    pub headers: Headers,
}

/// Where a group starts in a partition it never committed an offset of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the first record there is.
    Earliest,
    /// Behind the last record there is.
    Now,
    /// At the first record with this timestamp or a later one, in milliseconds since 1970.
    At(i64),
}

/// What a poll brought.
#[derive(Debug)]
pub enum Polled {
    /// Nothing in time.
    Nothing,
    /// A record.
    Record(Box<Incoming>),
    /// Partitions were gained; their records follow. Committed offsets were read before this.
    Gained(Vec<Partition>),
    /// All partitions are to be given back: finish, then call [`Member::release`].
    Leaving {
        /// The partitions already belong to others: nothing may be committed any more.
        lost: bool,
    },
    /// The cluster is away; polling goes on by itself.
    Away(String),
}

/// Why a member cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// The committed position is no longer in the log: records are missing.
    #[error(
        "group {group}: the committed position is out of range: {detail}; records before it may be gone unread (docs/alerts.md, \"A position that is no longer there\")"
    )]
    PositionLost {
        /// Group.
        group: String,
        /// What the client said.
        detail: String,
    },
    /// There is no committed position where there has to be one.
    #[error("group {group}: {detail}; set the offset (docs/alerts.md, \"A position that is no longer there\")")]
    Forgotten {
        /// Group.
        group: String,
        /// Where, and what would come of it.
        detail: String,
    },
    /// The client is of no use any more.
    #[error("group {group}: {cause}")]
    Broken {
        /// Group.
        group: String,
        /// The client's error.
        cause: KafkaError,
    },
    /// The client found no broker, or got no assignment, for too long: a new one may.
    #[error("group {group}: this client found no broker for {CUT_OFF:?}, or got no assignment for {UNASSIGNED:?}")]
    CutOff {
        /// Group.
        group: String,
    },
}

enum Rebalance {
    Assign(Vec<Partition>),
    Revoke,
}

#[derive(Default)]
struct Context {
    pending: Mutex<Option<Rebalance>>,
    closing: AtomicBool,
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "Kafka consumer");
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if self.closing.load(Ordering::Acquire) {
            // Closing waits until the assignment is given back, and nobody polls a member that is being dropped.
            if let Err(error) = consumer.unassign() {
                tracing::debug!(%error, "Kafka consumer");
            }
            return;
        }
        let note = match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Rebalance::Assign(partitions(list)),
            _ => Rebalance::Revoke,
        };
        *self.pending.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(note);
    }
}

/// Proof of a membership, for a transaction's offsets.
pub type Membership = ConsumerGroupMetadata;

/// Why partitions that the group has no offset in may not be begun, if they may not.
pub type Objection = dyn Fn(&[Partition]) -> Result<Option<String>, RestoreError> + Send;

/// A member of a consumer group.
pub struct Member {
    consumer: BaseConsumer<Context>,
    group: String,
    start: Start,
    /// A topic that is begun with its first record, whatever `start` says.
    whole: Option<String>,
    /// Looks at partitions that the group has no offset in.
    objects: Option<Box<Objection>>,
    /// Topics that nothing but transactions write to.
    in_transactions: Vec<String>,
    /// Where the present assignment begins.
    begins: BTreeMap<Partition, i64>,
    /// Where that is not the committed offset.
    skipped: BTreeMap<Partition, i64>,
    /// An assignment whose offsets could not be read yet.
    gaining: Option<Vec<Partition>>,
    /// Proof of the membership under which the present assignment was given; none without one.
    proof: Option<Arc<Membership>>,
    sight: Sight,
    /// Since when it has been without an assignment.
    waits: Option<Instant>,
    /// A topic it reads, to ask for.
    topic: String,
}

/// Before an assignment that could not be taken yet is tried again.
const TAKE_AGAIN: Duration = Duration::from_millis(100);
/// A member without an assignment for this long joins anew: a client that lost its coordinator with its brokers may find
/// those again and not that one (confluentinc/librdkafka, issue 5511). Where others take longer to hand over, nothing is
/// lost by it: the new client takes the old one's place in the same rebalance.
const UNASSIGNED: Duration = Duration::from_secs(30);

impl Member {
    /// Joins `group` (without prefix) as `instance` to read `topics` (Kafka's names). An instance that comes back within
    /// the session's time, also after a crash, gets its partitions back without a rebalance (static membership).
    ///
    /// # Errors
    /// When the client settings are unusable.
    pub fn join(
        cluster: &Cluster,
        group: &str,
        instance: &str,
        topics: &[String],
        start: Start,
    ) -> Result<Self, GroupError> {
        let broken = |cause| GroupError::Broken { group: group.to_owned(), cause };
        let mut config = cluster.consumer(group);
        config
            .set("partition.assignment.strategy", "range")
            .set("group.instance.id", instance)
            .set("session.timeout.ms", "10000")
            .set("heartbeat.interval.ms", "1000");
        let consumer: BaseConsumer<Context> = config.create_with_context(Context::default()).map_err(broken)?;
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        consumer.subscribe(&names).map_err(broken)?;
        let topic = topics.first().cloned().unwrap_or_default();
        let (now, group) = (Instant::now(), group.to_owned());
        let (sight, waits) = (Sight::new(now), Some(now));
        let (whole, in_transactions) = (None, Vec::new());
        let (begins, skipped) = (BTreeMap::new(), BTreeMap::new());
        let (objects, gaining, proof) = (None, None, None);
        Ok(Self {
            consumer,
            group,
            start,
            whole,
            objects,
            in_transactions,
            begins,
            skipped,
            gaining,
            proof,
            sight,
            waits,
            topic,
        })
    }

    /// Begins this topic (Kafka's name) with its first record, where nothing was committed of it.
    pub fn start_earliest(&mut self, topic: &str) {
        self.whole = Some(topic.to_owned());
    }

    /// Has partitions looked at before they are begun for want of an offset; with an objection nothing is begun.
    pub fn unless(&mut self, objects: Box<Objection>) {
        self.objects = Some(objects);
    }

    /// Says that nothing but transactions write to these topics (Kafka's names).
    ///
    /// A committed offset points behind a record, at the mark that ends its transaction. Where nothing more comes and
    /// retention deletes all, the partition begins behind that mark, and the offset is out of its range although no record
    /// was missed. Such an empty partition is begun at its end: a record would have left two entries, itself and a mark.
    pub fn in_transactions(&mut self, topics: &[String]) {
        self.in_transactions = topics.to_vec();
    }

    /// Where this partition of the present assignment was begun, in place of its committed offset, which is gone with
    /// nothing but a transaction's end.
    #[must_use]
    pub fn skipped(&self, partition: &Partition) -> Option<i64> {
        self.skipped.get(partition).copied()
    }

    /// Where each partition of the present assignment was begun.
    #[must_use]
    pub const fn begins(&self) -> &BTreeMap<Partition, i64> {
        &self.begins
    }

    /// Of partitions with the offset behind the last record that was taken, or where they were begun: those that were read
    /// beyond it, and how far. What stands between were ends of transactions, and what these aborted. To be asked where
    /// every record that was polled is counted in: one that was polled and put by would be passed over. Of a partition that
    /// went back nothing is told until something of it was polled again.
    ///
    /// # Errors
    /// When the client is broken.
    pub fn beyond(&self, taken: &BTreeMap<Partition, i64>) -> Result<Vec<(Partition, i64)>, GroupError> {
        let positions = self.consumer.position().map_err(|cause| self.broken(cause))?;
        let known = positions.elements().into_iter().filter_map(|element| match element.offset() {
            Offset::Offset(at) => {
                Some((Partition { topic: element.topic().to_owned(), number: element.partition() }, at))
            }
            _ => None,
        });
        Ok(known.filter(|(partition, at)| taken.get(partition).is_some_and(|next| next < at)).collect())
    }

    /// Waits up to `wait` for what comes next.
    ///
    /// # Errors
    /// When the position was lost, or the client is broken or cut off: the member has to be dropped.
    pub fn poll(&mut self, wait: Duration) -> Result<Polled, GroupError> {
        let waits_long = self.waits.is_some_and(|since| since.elapsed() >= UNASSIGNED);
        if waits_long || self.sight.look(self.consumer.client(), &self.topic) {
            return Err(GroupError::CutOff { group: self.group.clone() });
        }
        let waiting = match self.gaining.take().map(|gaining| self.gain(gaining)).transpose()? {
            None => None,
            Some(Polled::Away(why)) => Some(why),
            Some(gained) => return Ok(gained),
        };
        // Until it can be taken there are no records, but its end has to be heard of.
        let wait = if waiting.is_some() { wait.max(TAKE_AGAIN) } else { wait };
        let polled = match self.consumer.poll(wait) {
            None => Polled::Nothing,
            Some(Ok(message)) => {
                self.sight.heard(Instant::now());
                Polled::Record(Box::new(own(&message)))
            }
            Some(Err(error)) => self.classify(error)?,
        };
        if matches!(polled, Polled::Away(_)) {
            self.sight.missed();
        }
        let polled = waiting.map_or(polled, Polled::Away);
        // A rebalance comes in a poll that brings no record.
        let noted = self.consumer.context().pending.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        match noted {
            None => Ok(polled),
            Some(Rebalance::Revoke) => {
                self.gaining = None;
                let lost = self.consumer.assignment_lost();
                if lost {
                    self.proof = None;
                }
                Ok(Polled::Leaving { lost })
            }
            Some(Rebalance::Assign(list)) => {
                let polled = self.gain(list)?;
                if matches!(polled, Polled::Away(_)) {
                    // Until an assignment is answered, the client does not tell of the next rebalance.
                    self.consumer.assign(&TopicPartitionList::new()).map_err(|cause| self.broken(cause))?;
                }
                Ok(polled)
            }
        }
    }

    /// Gives all partitions back, after [`Polled::Leaving`].
    ///
    /// # Errors
    /// When the client is broken.
    pub fn release(&mut self) -> Result<(), GroupError> {
        self.proof = None;
        self.waits = Some(Instant::now());
        self.consumer.unassign().map_err(|cause| self.broken(cause))
    }

    /// Proof of membership for a transaction's offsets: of the generation that gave the present assignment, whatever the
    /// client has learned since. It lasts until [`Member::release`], before which work may be finished, and is none when
    /// partitions were lost. The broker compares generation and member, not who owns a partition, so a newer generation's
    /// metadata would let through a batch that is no longer ours, and those of a client that is no member any.
    #[must_use]
    pub const fn metadata(&self) -> Option<&Arc<Membership>> {
        self.proof.as_ref()
    }

    /// Goes back, so that the next record of each partition is the one at this offset.
    ///
    /// # Errors
    /// When the client is broken or the partition is not ours.
    pub fn rewind<'a>(&self, positions: impl IntoIterator<Item = (&'a Partition, i64)>) -> Result<(), GroupError> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in positions {
            list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(offset))
                .map_err(|cause| self.broken(cause))?;
        }
        let done = self.consumer.seek_partitions(list, REQUEST_TIMEOUT).map_err(|cause| self.broken(cause))?;
        for element in done.elements() {
            element.error().map_err(|cause| self.broken(cause))?;
        }
        Ok(())
    }

    /// Stops fetching from these partitions until [`Member::resume`], or until they are gained anew.
    ///
    /// # Errors
    /// When a partition is not ours.
    pub fn pause<'a>(&self, partitions: impl IntoIterator<Item = &'a Partition>) -> Result<(), GroupError> {
        self.consumer.pause(&list(partitions)).map_err(|cause| self.broken(cause))
    }

    /// Goes on fetching from these partitions.
    ///
    /// # Errors
    /// When a partition is not ours.
    pub fn resume<'a>(&self, partitions: impl IntoIterator<Item = &'a Partition>) -> Result<(), GroupError> {
        self.consumer.resume(&list(partitions)).map_err(|cause| self.broken(cause))
    }

    /// The committed offsets of these partitions; those without one are left out.
    ///
    /// # Errors
    /// When the client is broken, or the cluster away.
    pub fn committed(&self, partitions: &[Partition]) -> Result<Vec<(Partition, i64)>, GroupError> {
        let committed =
            self.consumer.committed_offsets(list(partitions), REQUEST_TIMEOUT).map_err(|cause| self.broken(cause))?;
        let mut offsets = Vec::with_capacity(partitions.len());
        for element in committed.elements() {
            element.error().map_err(|cause| self.broken(cause))?;
            if let Offset::Offset(offset) = element.offset() {
                offsets.push((Partition { topic: element.topic().to_owned(), number: element.partition() }, offset));
            }
        }
        Ok(offsets)
    }

    fn gain(&mut self, gaining: Vec<Partition>) -> Result<Polled, GroupError> {
        let objection = self.objection(&gaining);
        if let Ok(Some(detail)) = objection {
            return Err(GroupError::Forgotten { group: self.group.clone(), detail });
        }
        match objection.and_then(|_| self.assign(&gaining)) {
            Ok(begun) => {
                (self.begins, self.skipped) = (begun.at, begun.skipped);
                self.proof = self.consumer.group_metadata().map(Arc::new);
                self.waits = None;
                Ok(Polled::Gained(gaining))
            }
            Err(error) => {
                // Without offsets there is nothing to start from: the assignment waits with us.
                self.gaining = Some(gaining);
                Ok(Polled::Away(error.to_string()))
            }
        }
    }

    fn classify(&self, error: KafkaError) -> Result<Polled, GroupError> {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                Err(GroupError::PositionLost { group: self.group.clone(), detail: error.to_string() })
            }
            Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::FencedInstanceId) => Err(self.broken(error)),
            _ => Ok(Polled::Away(error.to_string())),
        }
    }

    fn broken(&self, cause: KafkaError) -> GroupError {
        GroupError::Broken { group: self.group.clone(), cause }
    }
}

impl Drop for Member {
    /// Closes without leaving the group: a static member's place is kept for a session's time, so that a restart finds
    /// its partitions; then they go to others. What was not committed is read again by whoever has them.
    fn drop(&mut self) {
        self.consumer.context().closing.store(true, Ordering::Release);
        if let Err(error) = self.consumer.unassign() {
            tracing::debug!(%error, "Kafka consumer");
        }
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<Partition> {
    list.elements().iter().map(|e| Partition { topic: e.topic().to_owned(), number: e.partition() }).collect()
}

fn list<'a>(partitions: impl IntoIterator<Item = &'a Partition>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(&partition.topic, partition.number);
    }
    list
}

pub(super) fn own(message: &BorrowedMessage<'_>) -> Incoming {
    Incoming { headers: Headers::from_kafka(message.headers()), ..bare(message) }
}

/// As [`own`], without headers.
pub(super) fn bare(message: &BorrowedMessage<'_>) -> Incoming {
    Incoming {
        partition: Partition { topic: message.topic().to_owned(), number: message.partition() },
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: Headers::default(),
    }
}
