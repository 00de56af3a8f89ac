//! The receiver as a whole: serves and takes events at once, whether Kafka and the registry are there or not, and drains.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::error::Error;
use super::keep::{self, Keeper};
use super::live::Live;
use super::publish::{Means, Publisher};
use super::routes::{Receiver, welcome};
use super::sparing::Sparing;
use crate::config::{self, Source};
use crate::kafka::layout::{Ground, LayoutError};
use crate::lifecycle::{Panicked, Role, on_thread};
use crate::server::{self, Limits};
use crate::topics;

/// Between two looks at a cluster that was there. Events tell sooner; without any, `/readyz` is at most this and one
/// request's time behind.
const LOOK: Duration = Duration::from_secs(5);
/// Between two looks at a cluster that was away: how much longer than needed events are refused.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Time for the producer's last records, also where connections used up the budget.
const LEAST_FLUSH: Duration = Duration::from_millis(100);

/// A receiver's cut of the configuration.
#[derive(Clone)]
pub struct Settings {
    /// `[receiver]`.
    pub receiver: config::Receiver,
    /// Every source.
    pub sources: Vec<Source>,
    /// What requests to these sources are judged by; a new value counts from the next request on.
    pub live: watch::Receiver<Arc<Live>>,
    /// Where the spool is unless `[receiver.spool]` says otherwise.
    pub data_dir: PathBuf,
    /// Longest time from the call to stop until it ends.
    pub shutdown_budget: Duration,
}

/// Runs a receiver until the role is told to stop. `bound` hears the address it listens on.
///
/// # Errors
/// When it cannot listen, another process owns its spool, or topics or schemas are missing or wrong; not for a Kafka or
/// registry that is away.
pub async fn run(
    settings: Settings,
    ground: Arc<Ground>,
    role: Role,
    bound: impl FnOnce(SocketAddr),
) -> Result<(), Error> {
    let Settings { receiver: section, sources, live, data_dir, shutdown_budget } = settings;
    let listen = |cause| Error::Listen { address: section.listen, cause };
    let listener = TcpListener::bind(section.listen).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let stopping = role.stop.child_token();
    let spool = keep::open(&section.spool, &data_dir).await?;
    let means = Means {
        health: role.health.clone(),
        stopping: stopping.clone(),
        metrics: Arc::clone(&role.metrics),
        spool: spool.clone(),
    };
    let publisher = Arc::new(Publisher::new(&ground.cluster, &section, &sources, means)?);
    let rate = section.spool.drain_rate;
    let mut keeper = Keeper::start(&publisher, spool, &ground.cluster, rate, &role.instance)?;
    bound(address);

    let watched = sources.iter().map(|source| source.name.clone()).collect();
    let receiver = Arc::new(Receiver {
        publisher: Arc::clone(&publisher),
        stopping: stopping.clone(),
        places: Semaphore::new(section.max_in_flight),
        body_timeout: section.body_timeout,
        max_header_bytes: section.max_header_bytes,
        strangers: Sparing::new(Instant::now()),
        live: live.clone(),
        role: role.clone(),
    });
    let watch: Arc<dyn server::Watch> = receiver.clone();
    let welcome = move |caller| welcome(Arc::clone(&receiver), caller);

    // A task of its own: looking blocks its thread for as long as a broker does not answer.
    let mut looking = JoinSet::new();
    looking.spawn(keep_watch(Arc::clone(&publisher), ground, watched, stopping.clone()));
    let limits = Limits {
        header_timeout: section.header_timeout,
        idle_timeout: section.idle_timeout,
        // Room above the limit, so that a head over it gets our answer. One over twice the limit gets the server's bare
        // 431.
        max_header_bytes: 2 * section.max_header_bytes,
        max_connections: section.max_connections,
    };
    let mut serving = std::pin::pin!(async {
        let handshake = || live.borrow().tls();
        server::serve(listener, limits, handshake, &stopping, shutdown_budget, watch, welcome).await;
    });
    let mut outcome = Ok(());
    let mut stopped_at = None;
    loop {
        tokio::select! {
            () = serving.as_mut() => break,
            () = stopping.cancelled(), if stopped_at.is_none() => {
                stopped_at = Some(Instant::now());
                role.health.not_ready("shutting down");
            }
            Some(ended) = looking.join_next() => {
                let ended = match ended {
                    Ok(watched) => watched.map_err(Error::Layout),
                    Err(_) => Err(Error::Panicked(Panicked("receiver-watch".to_owned()))),
                };
                if let Err(error) = ended {
                    role.health.not_ready(&error.to_string());
                    outcome = Err(error);
                    stopped_at = Some(Instant::now());
                    stopping.cancel();
                }
            }
            error = keeper.failed(), if stopped_at.is_none() => {
                role.health.not_ready(&error.to_string());
                outcome = Err(error);
                stopped_at = Some(Instant::now());
                stopping.cancel();
            }
        }
    }
    looking.abort_all();
    let left = || shutdown_budget.saturating_sub(stopped_at.map_or(Duration::ZERO, |at| at.elapsed()));
    keeper.end(left()).await;
    let left = left();
    let flushed = on_thread("receiver-flush", move || publisher.flush(left.max(LEAST_FLUSH))).await;
    if let Err(error) = flushed {
        tracing::warn!(%error, "the producer was not flushed");
    }
    outcome
}

/// Waits for Kafka and the registry, then looks whether the topics are still there: without events nothing else tells.
async fn keep_watch(
    publisher: Arc<Publisher>,
    ground: Arc<Ground>,
    sources: Vec<String>,
    stop: CancellationToken,
) -> Result<(), LayoutError> {
    let Some(encoders) = ground.ready(&stop, |why| publisher.unreached(why)).await? else { return Ok(()) };
    publisher.reached(encoders);
    loop {
        let pause = if publisher.is_away() { LOOK_AGAIN } else { LOOK };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = sleep(pause) => {}
        }
        let began = Instant::now();
        let (ground, names) = (Arc::clone(&ground), sources.clone());
        let looks = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            looks = on_thread("receiver-watch", move || look(&ground, &names)) => looks,
        };
        match looks {
            Ok(looks) => {
                for (source, found) in sources.iter().zip(looks) {
                    publisher.looked(source, began, found);
                }
            }
            Err(panicked) => tracing::error!(%panicked, "cannot look at the topics"),
        }
    }
}

/// Whether each source's topic is there, in their order. Blocks.
fn look(ground: &Ground, sources: &[String]) -> Vec<Result<(), String>> {
    let mut looks = Vec::with_capacity(sources.len());
    for source in sources {
        let topic = topics::received(source);
        looks.push(match ground.partitions_of(&topic) {
            Ok(partitions) if partitions.is_empty() => Err(format!("topic {} is gone", ground.cluster.topic(&topic))),
            Ok(_) => Ok(()),
            Err(away) => {
                // Away for one is away for all: not to be waited for once more each.
                looks.resize(sources.len(), Err(away.to_string()));
                return looks;
            }
        });
    }
    looks
}
