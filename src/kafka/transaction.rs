//! A transactional producer: begin, write, offsets, commit or abort, with three kinds of error. Blocks: it belongs on
//! a thread of its own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::topic_partition_list::Offset;
use rdkafka::types::RDKafkaErrorCode;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::aside::Aside;
use super::client::Cluster;
use super::group::{Membership, Partition};
use super::leftovers::Reach;
use super::produce::Outgoing;
use crate::lifecycle::failpoint;
use crate::topics;

/// What to do about a failed step.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TransactionError {
    /// Nothing was lost: try the same step again.
    #[error("{step}: {cause}")]
    Retry {
        /// The step.
        step: &'static str,
        /// The client's error.
        cause: KafkaError,
    },
    /// The transaction has to be aborted, and its work done again from the last commit.
    #[error("{step}: {cause}; the transaction is aborted")]
    Abort {
        /// The step.
        step: &'static str,
        /// The client's error.
        cause: KafkaError,
    },
    /// Another instance took over, the outcome is unknown, or the client is broken: start from what is committed,
    /// with a new client.
    #[error("{step}: {cause}; this producer is fenced or broken")]
    Fenced {
        /// The step.
        step: &'static str,
        /// The client's error.
        cause: KafkaError,
    },
}

impl TransactionError {
    fn of(step: &'static str, cause: KafkaError) -> Self {
        match &cause {
            KafkaError::Transaction(error) if error.is_fatal() => Self::Fenced { step, cause },
            KafkaError::Transaction(error) if error.txn_requires_abort() => Self::Abort { step, cause },
            KafkaError::Transaction(error) if error.is_retriable() => Self::Retry { step, cause },
            // Membership that the broker no longer knows: the work belongs to someone else.
            KafkaError::Transaction(error)
                if matches!(
                    error.code(),
                    RDKafkaErrorCode::IllegalGeneration
                        | RDKafkaErrorCode::UnknownMemberId
                        | RDKafkaErrorCode::FencedInstanceId
                        | RDKafkaErrorCode::RebalanceInProgress
                ) =>
            {
                Self::Abort { step, cause }
            }
            KafkaError::Transaction(_) => Self::Fenced { step, cause },
            // Not everything was acknowledged in one step's time; waiting on is allowed.
            KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut) => Self::Retry { step, cause },
            _ => Self::Abort { step, cause },
        }
    }
}

/// Longest a single call waits, so that a wait for a cluster that is away can be told of and ended.
const STEP: Duration = Duration::from_secs(2);

/// Longest wait for a step once told to stop: what it would have committed is done again after the next start.
const STOPPING: Duration = Duration::from_secs(10);

/// Between two looks for acknowledgements.
const LOOK: Duration = Duration::from_millis(1);

/// Offsets of the last records that were followed, as the brokers acknowledged them.
#[derive(Default)]
struct Placed(Mutex<BTreeMap<Partition, i64>>);

impl ClientContext for Placed {}

impl ProducerContext for Placed {
    /// Whether the record is followed.
    type DeliveryOpaque = usize;

    fn delivery(&self, delivered: &DeliveryResult<'_>, followed: usize) {
        // A record that failed fails the commit too.
        if let (Ok(message), 1) = (delivered, followed) {
            let partition = Partition { topic: message.topic().to_owned(), number: message.partition() };
            let mut placed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let last = placed.entry(partition).or_insert(i64::MIN);
            *last = (*last).max(message.offset());
        }
    }
}

/// Offsets to add, as which member of its group.
type Offsets = (TopicPartitionList, Arc<Membership>);

/// A transactional producer.
pub struct Transactions {
    producer: Arc<BaseProducer<Placed>>,
    /// Adds offsets.
    adder: Aside<Offsets, Result<(), KafkaError>>,
    timeout: Duration,
    stop: CancellationToken,
    /// Where to look for what has ended and is open still.
    reach: Option<(Cluster, Reach)>,
    /// There may be some: one was aborted, and nobody has looked since.
    doubtful: AtomicBool,
}

impl Transactions {
    /// Takes over the transactional id (without prefix): waits until its earlier transactions have ended and fences
    /// whoever held it. `timeout` bounds each transaction and each step.
    ///
    /// # Errors
    /// `Retry` while the cluster is away.
    pub fn open(cluster: &Cluster, id: &str, timeout: Duration) -> Result<Self, TransactionError> {
        let step = "take over the transactional id";
        let producer: BaseProducer<Placed> = cluster
            .transactional(id, timeout)
            .create_with_context(Placed::default())
            .map_err(|cause| TransactionError::Fenced { step, cause })?;
        producer.init_transactions(timeout).map_err(|cause| TransactionError::of(step, cause))?;
        let producer = Arc::new(producer);
        let theirs = Arc::clone(&producer);
        let add = move |(offsets, member): Offsets| theirs.send_offsets_to_transaction(&offsets, &member, STEP);
        let adder = Aside::start("kafka-offsets", add).map_err(|error| {
            tracing::error!(%error, "no thread can be started");
            TransactionError::Fenced { step, cause: KafkaError::Canceled }
        })?;
        let (stop, reach, doubtful) = (CancellationToken::new(), None, AtomicBool::new(false));
        Ok(Self { producer, adder, timeout, stop, reach, doubtful })
    }

    /// Ends what earlier transactions of this id may have left open although they have ended, now and after each abort
    /// (`kafka::leftovers` says why there are such).
    ///
    /// What was left open is aborted. It may have been a commit's; but then everything was acknowledged a moment before
    /// the partition lost its leader, where an outage that is longer than the transaction's timeout leads to an abort.
    ///
    /// # Errors
    /// `Retry` while one of these partitions has no leader, or the cluster is away; `Fenced`.
    pub fn within(self, cluster: &Cluster, reach: Reach) -> Result<Self, TransactionError> {
        let checked = Self { reach: Some((cluster.clone(), reach)), ..self };
        checked.end_leftovers()?;
        Ok(checked)
    }

    fn end_leftovers(&self) -> Result<(), TransactionError> {
        let Some((cluster, reach)) = &self.reach else { return Ok(()) };
        let step = "look for what was left open";
        let (open, outsider) = reach.look(cluster).map_err(|cause| TransactionError::Retry { step, cause })?;
        self.start()?;
        // One that is open by someone else's transaction is only given a record that nobody sees.
        let touched = open.iter().try_for_each(|partition| {
            tracing::debug!(partition.topic, partition.number, "a transaction is open: ended, where it was ours");
            self.erase(&partition.topic, partition.number, &[])
        });
        // Offsets in a topic that the group does not read: whatever becomes of this transaction, they move nothing.
        let elsewhere = Partition { topic: cluster.topic(topics::CONTROL), number: 0 };
        let touched = touched.and_then(|()| match outsider {
            Some(outsider) => self.offsets([(&elsewhere, 0)], &Arc::new(outsider)),
            None => Ok(()),
        });
        let touched = touched.and_then(|()| self.deliver().map_err(|cause| TransactionError::of(step, cause)));
        self.end_open()?;
        match touched {
            Err(TransactionError::Abort { step, cause }) => Err(TransactionError::Retry { step, cause }),
            touched => touched,
        }
    }

    /// Waits no longer than ten seconds for a step once `stop` says so.
    #[must_use]
    pub fn until(self, stop: &CancellationToken) -> Self {
        Self { stop: stop.clone(), ..self }
    }

    /// Starts a transaction.
    ///
    /// # Errors
    /// Never `Abort`: nothing is open.
    pub fn begin(&self) -> Result<(), TransactionError> {
        if self.doubtful.load(Ordering::Relaxed) {
            self.end_leftovers()?;
            self.doubtful.store(false, Ordering::Relaxed);
        }
        self.start()
    }

    fn start(&self) -> Result<(), TransactionError> {
        self.placed().clear();
        self.producer.begin_transaction().map_err(|cause| match TransactionError::of("begin", cause) {
            TransactionError::Abort { step, cause } => TransactionError::Fenced { step, cause },
            other => other,
        })
    }

    /// Writes a record in the open transaction. Whether it was acknowledged shows at the commit.
    ///
    /// # Errors
    /// `Abort` or `Fenced`.
    pub fn send(&self, record: &Outgoing) -> Result<(), TransactionError> {
        self.put(record, 0)
    }

    /// As [`Transactions::send`]; [`Transactions::last_places`] then tells where it came to stand.
    ///
    /// # Errors
    /// As [`Transactions::send`].
    pub fn send_followed(&self, record: &Outgoing) -> Result<(), TransactionError> {
        self.put(record, 1)
    }

    /// Offset of the last followed record of each partition, of the transaction just committed.
    #[must_use]
    pub fn last_places(&self) -> BTreeMap<Partition, i64> {
        std::mem::take(&mut *self.placed())
    }

    fn placed(&self) -> std::sync::MutexGuard<'_, BTreeMap<Partition, i64>> {
        self.producer.context().0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, record: &Outgoing, followed: usize) -> Result<(), TransactionError> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let mut base = BaseRecord::with_opaque_to(&record.topic, followed)
                .key(&record.key)
                .payload(&record.value)
                .headers(record.headers.to_kafka());
            if let Some(partition) = record.partition {
                base = base.partition(partition);
            }
            if let Some(timestamp) = record.timestamp_ms {
                base = base.timestamp(timestamp);
            }
            match self.producer.send(base) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) if Instant::now() < deadline => {
                    self.producer.poll(Duration::from_millis(10));
                }
                Err((cause, _)) => return Err(TransactionError::of("write a record", cause)),
            }
        }
    }

    /// Adds the next offsets to read to the open transaction, as this member of the group.
    ///
    /// # Errors
    /// `Abort` where the membership is no longer valid, `Fenced`.
    pub fn offsets<'a>(
        &self,
        next: impl IntoIterator<Item = (&'a Partition, i64)>,
        member: &Arc<Membership>,
    ) -> Result<(), TransactionError> {
        let step = "add the offsets";
        let mut list = TopicPartitionList::new();
        for (partition, offset) in next {
            list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(offset))
                .map_err(|cause| TransactionError::of(step, cause))?;
        }
        let deadline = Instant::now() + self.timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.adder.ask((list.clone(), Arc::clone(member)), left) {
                None => return Err(TransactionError::Fenced { step, cause: KafkaError::Canceled }),
                Some(done) => match done.map_err(|cause| TransactionError::of(step, cause)) {
                    Err(TransactionError::Retry { .. }) if Instant::now() < deadline => {
                        self.producer.poll(Duration::from_millis(50));
                    }
                    Err(TransactionError::Retry { cause, .. }) => return Err(TransactionError::Fenced { step, cause }),
                    done => return done,
                },
            }
        }
    }

    /// Commits. All records were acknowledged and all offsets moved, or nothing was. `waiting` hears why it takes longer
    /// than usual.
    ///
    /// # Errors
    /// `Abort` where it certainly did not happen; `Fenced` also where the outcome is unknown.
    pub fn commit(&self, waiting: &dyn Fn(&str)) -> Result<(), TransactionError> {
        let commit = || {
            self.deliver()?;
            failpoint("transaction.before_commit");
            self.producer.commit_transaction(STEP)
        };
        self.again("commit", self.timeout * 3, commit, waiting)
    }

    /// Waits until the brokers have answered for every record. The library's own flush looks ten times a second, which
    /// would make every transaction last a tenth of one.
    fn deliver(&self) -> Result<(), KafkaError> {
        let deadline = Instant::now() + STEP;
        let mut left = self.producer.in_flight_count();
        while left > 0 {
            // One answer at a time, and there is one for each partition: what has come is taken before anything is
            // waited for.
            self.producer.poll(Duration::ZERO);
            let after = self.producer.in_flight_count();
            if after == left {
                if Instant::now() >= deadline {
                    return Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut));
                }
                // Not a poll with a wait: that one spins through the last millisecond of its time.
                std::thread::sleep(LOOK);
            }
            left = after;
        }
        Ok(())
    }

    /// Aborts the open transaction.
    ///
    /// # Errors
    /// `Fenced`: the broker ends it by itself at its timeout, for as long as which it is tried.
    pub fn abort(&self) -> Result<(), TransactionError> {
        self.doubtful.store(true, Ordering::Relaxed);
        self.end_open()
    }

    fn end_open(&self) -> Result<(), TransactionError> {
        self.again("abort", self.timeout, || self.producer.abort_transaction(STEP), &|_| {}).map_err(
            |error| match error {
                TransactionError::Abort { step, cause } | TransactionError::Retry { step, cause } => {
                    TransactionError::Fenced { step, cause }
                }
                fenced @ TransactionError::Fenced { .. } => fenced,
            },
        )
    }

    /// Repeats a step while librdkafka says that it may be repeated, for as long as `patience`, or less when told to
    /// stop; then its outcome counts as unknown.
    fn again(
        &self,
        step: &'static str,
        patience: Duration,
        act: impl Fn() -> Result<(), KafkaError>,
        waiting: &dyn Fn(&str),
    ) -> Result<(), TransactionError> {
        let began = Instant::now();
        let is_worth_it = || began.elapsed() < if self.stop.is_cancelled() { patience.min(STOPPING) } else { patience };
        loop {
            match act().map_err(|cause| TransactionError::of(step, cause)) {
                Err(retry @ TransactionError::Retry { .. }) if is_worth_it() => {
                    waiting(&retry.to_string());
                    self.producer.poll(Duration::from_millis(50));
                }
                Err(TransactionError::Retry { step, cause }) => return Err(TransactionError::Fenced { step, cause }),
                done => return done,
            }
        }
    }

    /// Writes a tombstone in the open transaction: compaction then drops the key.
    ///
    /// # Errors
    /// As [`Transactions::send`].
    pub fn erase(&self, topic: &str, partition: i32, key: &[u8]) -> Result<(), TransactionError> {
        let deadline = Instant::now() + self.timeout;
        loop {
            match self
                .producer
                .send(BaseRecord::<[u8], [u8], usize>::with_opaque_to(topic, 0).partition(partition).key(key))
            {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) if Instant::now() < deadline => {
                    self.producer.poll(Duration::from_millis(10));
                }
                Err((cause, _)) => return Err(TransactionError::of("write a tombstone", cause)),
            }
        }
    }
}
