//! Delivery as a role: one thread per target, side by side.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::error::Error;
use super::notices::{self, Notices};
use super::retention::{self, Known, Retention};
use super::rows::{RowEncoders, Rows};
use super::state::{Board, Gauges};
use super::task::Reader;
use super::worker::{Setup, Worker};
use crate::avro::AvroError;
use crate::config;
use crate::kafka::layout::{Encoders, Ground, LayoutError};
use crate::lifecycle::{Panicked, Role, on_thread};
use crate::targets::Client;
use crate::topics::{self, ATTEMPTS, CONTROL, DEAD_LETTERS};

/// Most of the shutdown's budget that is kept for the last commit.
const MAX_RESERVE: Duration = Duration::from_secs(5);

/// What delivery is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `[delivery]`.
    pub delivery: config::Delivery,
    /// `[targets]`.
    pub targets: Vec<config::Target>,
    /// Time from the stop to the end.
    pub shutdown_budget: Duration,
}

/// Delivers to all targets until the role is told to stop; then waits for the tries under way and commits what is
/// finished. Dropped instead, it leaves everything as a crash would.
///
/// A target that cannot go on stops alone and shows why; the role stays until it is told to stop.
///
/// # Errors
/// When topics or schemas are missing or wrong, or a target's configuration cannot be used: before anything is sent.
/// Afterwards only when a thread panics.
pub async fn run(settings: Settings, ground: Arc<Ground>, role: Role) -> Result<(), Error> {
    // A wrong configuration is refused before anything is waited for.
    let clients = settings.targets.iter().map(|target| {
        let refused = |cause| Error::Target { target: target.name.clone(), cause };
        Ok((target.clone(), Arc::new(Client::new(target).map_err(refused)?)))
    });
    let clients = clients.collect::<Result<Vec<_>, Error>>()?;
    let Some(encoders) = ground.ready(&role.stop, |why| role.health.not_ready(why)).await? else { return Ok(()) };

    let board = Arc::new(Board::new(role.health.clone(), settings.targets.iter().map(|target| target.name.as_str())));
    let gone = CancellationToken::new();
    let _gone_when_dropped = gone.clone().drop_guard();
    let reserve = MAX_RESERVE.min(settings.shutdown_budget / 4);
    let control = encoders.of(CONTROL).cloned();
    let control = control.ok_or_else(|| LayoutError::Avro(AvroError::Unknown(CONTROL.to_owned())))?;
    let (notices, silent) = (Arc::new(Notices::new(&role.instance)), gone.child_token());
    let telling = notices::start(Arc::clone(&notices), Arc::clone(&ground), control, silent.clone());
    let telling = tokio::spawn(on_thread("delivery.control", telling));
    let known = Known::default();
    let read = settings.targets.iter().flat_map(|target| &target.records).map(|topic| ground.cluster.topic(topic));
    let read = read.collect::<BTreeSet<String>>().into_iter().collect();
    let keeping = retention::keep(known.clone(), Arc::clone(&ground), read, gone.child_token());
    let keeping = tokio::spawn(keeping);
    let mut threads: JoinSet<(String, Result<(), Panicked>)> = JoinSet::new();
    for (target, client) in clients {
        let prefix = ground.cluster.prefix();
        let worker = Worker::new(Setup {
            rows: Rows::new(&target.name, &role.instance, prefix, row_encoders(&encoders, &target.name)?),
            reader: Reader::new(ground.decoder(), Handle::current(), prefix),
            gauges: Gauges::new(
                Arc::clone(&role.metrics),
                &target.name,
                Retention::new(known.clone(), settings.delivery.retention_warning),
            ),
            delivery: settings.delivery.clone(),
            ground: Arc::clone(&ground),
            client,
            board: Arc::clone(&board),
            notices: Arc::clone(&notices),
            runtime: Handle::current(),
            stop: role.stop.clone(),
            gone: gone.clone(),
            drain: settings.shutdown_budget - reserve,
            instance: role.instance.clone(),
            seed: rand::random(),
            target: target.clone(),
        });
        let name = target.name;
        threads.spawn(async move {
            let ended = on_thread(&format!("delivery.{name}"), move || worker.run()).await;
            (name, ended)
        });
    }
    let mut panicked = None;
    while let Some(Ok((target, ended))) = threads.join_next().await {
        // Even a fault of ours in one target's thread is no reason to stop the others.
        if let Err(error) = ended {
            tracing::error!(target_name = target, %error, "target is stopped");
            board.not_ready(&target, &format!("stopped: {error}"));
            panicked = Some(error);
        }
    }
    silent.cancel();
    keeping.abort();
    if let Ok(Err(error)) = telling.await {
        tracing::error!(%error, "pauses and windows of targets were no longer shared");
        panicked = Some(error);
    }
    role.stop.cancelled().await;
    panicked.map_or(Ok(()), |error| Err(error.into()))
}

/// The encoders of a target's rows; their topics are in the installation's table.
fn row_encoders(encoders: &Encoders, target: &str) -> Result<RowEncoders, Error> {
    let of = |topic: &str| {
        let unknown = || LayoutError::Avro(AvroError::Unknown(topic.to_owned()));
        encoders.of(topic).cloned().ok_or_else(|| Error::Ground(unknown()))
    };
    Ok(RowEncoders {
        attempts: of(ATTEMPTS)?,
        dead_letters: of(DEAD_LETTERS)?,
        parked: of(&topics::parked(target))?,
        progress: of(&topics::progress(target))?,
    })
}
