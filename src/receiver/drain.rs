//! Events from the spool to Kafka: in the spool's order, many under way at once, at a bounded rate.
//!
//! The producer's own time limit is long: while Kafka is away for a little, what was handed to it waits there in its
//! order, and nothing has to be sent again. Where a record fails all the same, or the producer finds no broker for some
//! time and may have lost them for good, everything from the first one not acknowledged is read and sent again; the
//! router takes each event once.
//!
//! An event of a source that is not configured stays, and everything behind it: it was acknowledged, and whoever
//! configured that source can do it again. Only what no configuration could send is set aside.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::record::record;
use crate::event::{Origin, Timestamp};
use crate::kafka::client::Cluster;
use crate::kafka::layout::Encoders;
use crate::kafka::produce::{Outgoing, ProduceError, Producer, Sending};
use crate::lifecycle::{Panicked, on_thread};
use crate::spool::{Item, Position, Reader, Spool};
use crate::topics;

/// Events under way at one time. At the default rate a quarter of a second's worth: more would not go faster, and a
/// failure sends them again.
const WINDOW: usize = 500;
/// Bytes under way at one time, and one event more: bodies may be as large as `max_body`.
const WINDOW_BYTES: usize = 16 * 1024 * 1024;
/// How long a record may stay with the producer.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the producer waits to fill a batch: nobody waits for these.
const LINGER: Duration = Duration::from_millis(20);
/// The rate is kept over this long, so that not every event needs a timer.
const BURST: Duration = Duration::from_millis(50);
/// Between two tries after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// Why not everything was drained.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// The Kafka client's settings are unusable.
    #[error("the spool's Kafka producer cannot be made (`kafka.properties`): {0}")]
    Producer(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Kafka did not take a record.
    #[error(transparent)]
    Produce(#[from] ProduceError),
    /// The next event is of a source that there is no topic for.
    #[error(
        "the spool holds events of source {name}, which is not configured: nothing from there on is drained until it is"
    )]
    NoSource {
        /// Name of the source.
        name: String,
    },
    /// A segment cannot be opened.
    #[error("the spool cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// The reading thread ended badly.
    #[error(transparent)]
    Panicked(#[from] Panicked),
    /// It was told to stop.
    #[error("stopped")]
    Stopped,
}

/// The way from a spool to Kafka.
pub(super) struct Drain {
    spool: Arc<Spool>,
    cluster: Cluster,
    encoders: Encoders,
    producer: Producer,
    rate: u32,
    reader: Option<Reader>,
}

/// An event under way, or one that cannot go at all.
enum Way {
    Sent(Sending),
    Unsendable(String),
}

/// Why an event cannot be made a record.
enum Unprepared {
    /// Its source is not configured.
    NoSource(String),
    /// Nothing would help.
    Never(String),
}

/// Events under way in their order.
#[derive(Default)]
struct UnderWay {
    events: VecDeque<(Position, Timestamp, Way, usize)>,
    bytes: usize,
}

impl UnderWay {
    fn push(&mut self, position: Position, received_at: Timestamp, way: Way, bytes: usize) {
        self.events.push_back((position, received_at, way, bytes));
        self.bytes += bytes;
    }

    fn pop(&mut self) -> Option<(Position, Timestamp, Way)> {
        let (position, received_at, way, bytes) = self.events.pop_front()?;
        self.bytes -= bytes;
        Some((position, received_at, way))
    }

    fn is_full(&self) -> bool {
        self.events.len() >= WINDOW || self.bytes >= WINDOW_BYTES
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

impl Drain {
    /// The way for this spool, at most `rate` events a second.
    ///
    /// # Errors
    /// When the Kafka client's settings are unusable.
    pub(super) fn new(spool: Arc<Spool>, cluster: &Cluster, encoders: Encoders, rate: u32) -> Result<Self, DrainError> {
        let producer = Producer::new(cluster, PATIENCE, LINGER).map_err(|error| DrainError::Producer(error.into()))?;
        let reader = Some(spool.reader());
        Ok(Self { spool, cluster: cluster.clone(), encoders, producer, rate: rate.max(1), reader })
    }

    /// Drains until `stop`, or, once `finish` is cancelled, until nothing is left.
    pub(super) async fn run(mut self, finish: CancellationToken, stop: CancellationToken) {
        let mut told = String::new();
        loop {
            match self.pass(&stop).await {
                Ok(sent) => {
                    told.clear();
                    if sent > 0 {
                        tracing::info!(events = sent, "events of the spool are on Kafka");
                    }
                    if finish.is_cancelled() {
                        return;
                    }
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = finish.cancelled() => {}
                        () = self.spool.appended() => {}
                    }
                }
                Err(DrainError::Stopped) => return,
                Err(error) => {
                    let text = error.to_string();
                    if text != told {
                        tracing::warn!(%error, "the spool is not drained further for now");
                        told = text;
                    }
                    // Waiting helps against most things, and not on the way down against this one.
                    if finish.is_cancelled() && matches!(error, DrainError::NoSource { .. }) {
                        return;
                    }
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = sleep(PAUSE) => {}
                    }
                }
            }
        }
    }

    /// Sends everything there is now and waits until it is acknowledged; how many events.
    ///
    /// # Errors
    /// At the first that fails. The next pass begins with it.
    pub(super) async fn pass(&mut self, stop: &CancellationToken) -> Result<u64, DrainError> {
        let mut sent = 0;
        let mut under_way = UnderWay::default();
        let outcome = self.send_all(stop, &mut under_way, &mut sent).await;
        if let Err(error) = &outcome {
            // What still waits in it would come between what is sent again.
            if !matches!(error, DrainError::NoSource { .. }) {
                self.producer.renew();
            }
            if let Some(reader) = &mut self.reader {
                reader.rewind();
            }
        }
        outcome.map(|()| sent)
    }

    async fn send_all(
        &mut self,
        stop: &CancellationToken,
        under_way: &mut UnderWay,
        sent: &mut u64,
    ) -> Result<(), DrainError> {
        let mut due = Instant::now();
        loop {
            let mut reader = self.reader.take().unwrap_or_else(|| self.spool.reader());
            let (reader, batch) = on_thread("spool-reader", move || {
                let batch = reader.next_batch();
                (reader, batch)
            })
            .await?;
            self.reader = Some(reader);
            let Some(batch) = batch? else {
                while !under_way.is_empty() {
                    self.settle(stop, under_way, sent).await?;
                }
                return Ok(());
            };
            for item in batch.items() {
                due = due.max(Instant::now().checked_sub(BURST).unwrap_or(due)) + Duration::from_secs(1) / self.rate;
                if due > Instant::now() {
                    tokio::select! {
                        () = stop.cancelled() => return Err(DrainError::Stopped),
                        () = sleep_until(due) => {}
                    }
                }
                while under_way.is_full() {
                    self.settle(stop, under_way, sent).await?;
                }
                let (position, received_at) = (item.position, item.received_at);
                let mut bytes = 0;
                let way = match self.prepared(item) {
                    Err(Unprepared::Never(reason)) => Way::Unsendable(reason),
                    Err(Unprepared::NoSource(name)) => {
                        // What is before it does not wait for it.
                        while !under_way.is_empty() {
                            self.settle(stop, under_way, sent).await?;
                        }
                        return Err(DrainError::NoSource { name });
                    }
                    Ok(record) => loop {
                        bytes = record.value.len();
                        match self.producer.enqueue(&record) {
                            Ok(sending) => break Way::Sent(sending),
                            Err(error) if error.is_queue_full() && !under_way.is_empty() => {
                                self.settle(stop, under_way, sent).await?;
                            }
                            Err(error) if error.is_too_large() => break Way::Unsendable(error.to_string()),
                            Err(error) => return Err(error.into()),
                        }
                    },
                };
                under_way.push(position, received_at, way, bytes);
            }
        }
    }

    /// Waits for the first one under way.
    async fn settle(
        &self,
        stop: &CancellationToken,
        under_way: &mut UnderWay,
        sent: &mut u64,
    ) -> Result<(), DrainError> {
        let Some((position, received_at, way)) = under_way.pop() else { return Ok(()) };
        let failed = match way {
            Way::Unsendable(reason) => Some(reason),
            Way::Sent(sending) => {
                let delivered = tokio::select! {
                    () = stop.cancelled() => return Err(DrainError::Stopped),
                    delivered = self.producer.acknowledged(sending) => delivered,
                };
                match delivered {
                    Ok(_) => None,
                    Err(error) if error.is_too_large() => Some(error.to_string()),
                    Err(error) => return Err(error.into()),
                }
            }
        };
        match failed {
            None => {
                self.spool.acknowledged(position, received_at);
                *sent += 1;
            }
            Some(reason) => self.spool.set_aside(position, received_at, &reason),
        }
        Ok(())
    }

    /// The record of an event, or why there can be none.
    fn prepared(&self, item: Item) -> Result<Outgoing, Unprepared> {
        let mut entry = item.entry.map_err(|error| Unprepared::Never(error.to_string()))?;
        entry.envelope.origin = Origin::Spool;
        let name = topics::received(&entry.envelope.source);
        let encoder = self.encoders.of(&name);
        let encoder = encoder.ok_or_else(|| Unprepared::NoSource(entry.envelope.source.clone()))?;
        let topic = self.cluster.topic(&name);
        let record = record(&topic, encoder, &entry.envelope, &entry.traceparent);
        record.map_err(|error| Unprepared::Never(error.to_string()))
    }
}

/// Drains a spool to its end, as `ledgerhook spool drain` does; how many events.
///
/// # Errors
/// When Kafka does not take one, the spool cannot be read, or it is told to stop.
pub async fn drain(
    spool: Arc<Spool>,
    cluster: &Cluster,
    encoders: Encoders,
    rate: u32,
    stop: &CancellationToken,
) -> Result<u64, DrainError> {
    let mut drain = Drain::new(spool, cluster, encoders, rate)?;
    drain.pass(stop).await
}
