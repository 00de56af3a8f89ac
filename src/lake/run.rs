//! The lake as a role: one thread per table, one that makes files for all of them, and one that keeps a second instance
//! waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::board::Board;
use super::datum::Avro;
use super::error::Error;
use super::memory::Memory;
use super::pack::Packer;
use super::schema;
use super::table::Wanted;
use super::worker::{Shared, Worker};
use crate::avro::Schema;
use crate::config;
use crate::kafka::group::{GroupError, Member, Polled, Start};
use crate::kafka::layout::Ground;
use crate::kafka::produce::Producer;
use crate::lifecycle::{Panicked, Role, on_thread};
use crate::topics::{self, CONTROL};

/// Name of the table of envelopes.
pub(super) const EVENTS: &str = "events";
/// Longest wait for the acknowledgement of a dead letter.
const PRODUCE_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two looks at the group.
const POLL: Duration = Duration::from_millis(100);
/// Before a group is joined again after a failure.
const REJOIN: Duration = Duration::from_secs(1);

/// What the lake is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `[lake]`.
    pub lake: config::Lake,
    /// Names of the sources.
    pub sources: Vec<String>,
}

/// The tables of these sources: `events`, and one for each record topic.
///
/// # Errors
/// When a schema of ours cannot be a table: a fault of the build, caught by test.
pub(super) fn tables(sources: &[String]) -> Result<Vec<Wanted>, Error> {
    let events = (EVENTS, "Envelope", sources.iter().map(|source| topics::received(source)).collect());
    let records = topics::RECORDS.iter().map(|(topic, schema)| (*topic, *schema, vec![(*topic).to_owned()]));
    let made = std::iter::once(events).chain(records).map(|(name, of, topics): (&str, &str, Vec<String>)| {
        let refused =
            |reason: super::error::Unfit| Error::Schema { table: name.to_owned(), reason: reason.to_string() };
        let avro = Avro::parse(Schema::ours(of)?.tree()).map_err(refused)?;
        Ok(Wanted { name: name.to_owned(), topics, schema: schema::of(&avro).map_err(refused)? })
    });
    made.filter(|wanted| wanted.as_ref().map_or(true, |wanted| !wanted.topics.is_empty())).collect()
}

/// Writes all tables until the role is told to stop; then commits what was read. Dropped instead, it leaves everything
/// as a crash would.
///
/// A table that cannot go on stops alone and says why; the role stays until it is told to stop.
///
/// # Errors
/// When topics or schemas are missing or wrong: before anything is written. Afterwards only when a thread panics.
pub async fn run(settings: Settings, ground: Arc<Ground>, role: Role) -> Result<(), Error> {
    let tables = tables(&settings.sources)?;
    let Some(encoders) = ground.ready(&role.stop, |why| role.health.not_ready(why)).await? else { return Ok(()) };
    let producer = Producer::new(&ground.cluster, PRODUCE_TIMEOUT, Duration::from_millis(1));
    let (packer, packing) = Packer::new(settings.lake.memory, Handle::current());
    let shared = Arc::new(Shared {
        board: Board::new(role.health.clone(), tables.iter().map(|table| table.name.clone())),
        producer: producer.map_err(|error| Error::Config(error.to_string()))?,
        metrics: Arc::clone(&role.metrics),
        instance: role.instance.clone(),
        runtime: Handle::current(),
        // A role that is dropped takes its threads along.
        stop: role.stop.child_token(),
        leads: AtomicBool::new(false),
        memory: Memory::new(settings.lake.memory, tables.len()),
        packer,
        lake: settings.lake,
        ground,
        encoders,
    });
    let _stopped_when_dropped = shared.stop.clone().drop_guard();
    let mut threads: JoinSet<Result<(), Panicked>> = JoinSet::new();
    let leader = Arc::clone(&shared);
    threads.spawn(async move { on_thread("lake.leader", move || lead(&leader)).await });
    threads.spawn(async move { on_thread("lake.pack", packing).await });
    for (number, table) in tables.into_iter().enumerate() {
        let name = format!("lake.{}", table.name);
        let worker = Worker::new(Arc::clone(&shared), table, number);
        threads.spawn(async move { on_thread(&name, move || worker.run()).await });
    }
    // The thread that makes files ends when no table has a way to it any more.
    drop(shared);
    let mut panicked = None;
    while let Some(Ok(ended)) = threads.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a thread of the lake is gone");
            role.health.not_ready(&error.to_string());
            panicked = Some(error);
        }
    }
    panicked.map_or(Ok(()), |error| Err(error.into()))
}

/// Keeps this instance's place in a group of which one member at a time has the one partition of `control`: that one
/// writes. It decides who tries and no more; what keeps two from doubling rows is each commit's fence.
fn lead(shared: &Shared) {
    let control = [shared.ground.cluster.topic(CONTROL)];
    while !shared.stop.is_cancelled() {
        let member = Member::join(&shared.ground.cluster, "lake", &shared.instance, &control, Start::Now);
        let Err(error) = member.and_then(|member| stay(member, shared)) else { continue };
        shared.leads.store(false, Ordering::Release);
        tracing::warn!(%error, "the lake's group is joined again");
        drop(shared.runtime.block_on(async { tokio::time::timeout(REJOIN, shared.stop.cancelled()).await }));
    }
}

fn stay(mut member: Member, shared: &Shared) -> Result<(), GroupError> {
    while !shared.stop.is_cancelled() {
        match member.poll(POLL)? {
            Polled::Gained(partitions) => {
                let leads = !partitions.is_empty();
                if !leads {
                    tracing::info!("another instance writes the lake; this one waits");
                }
                shared.leads.store(leads, Ordering::Release);
            }
            Polled::Leaving { .. } => {
                shared.leads.store(false, Ordering::Release);
                member.release()?;
            }
            Polled::Nothing | Polled::Record(_) | Polled::Away(_) => {}
        }
    }
    Ok(())
}
