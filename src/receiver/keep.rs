//! The spool's life beside the receiver's: opened before the first request, drained while it runs and, within the budget,
//! on the way down.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::drain::Drain;
use super::error::Error;
use super::publish::Publisher;
use super::report::{Reporter, keep_telling};
use crate::config;
use crate::kafka::client::Cluster;
use crate::lifecycle::{Panicked, on_thread};
use crate::spool::{Options, Spool};

/// Part of the shutdown's budget that is left for a last report.
const LAST_REPORT: Duration = Duration::from_secs(1);

/// Opens the spool of this configuration; none where it wants none.
pub(super) async fn open(section: &config::Spool, data_dir: &Path) -> Result<Option<Arc<Spool>>, Error> {
    if !section.enabled {
        return Ok(None);
    }
    let options = Options {
        folder: section.dir.clone().unwrap_or_else(|| data_dir.join("spool")),
        max_size: section.max_size,
        segment_size: section.segment_size,
    };
    let spool = on_thread("spool-open", move || Spool::open(&options)).await??;
    Ok(Some(Arc::new(spool)))
}

/// What goes on beside the receiver.
pub(super) struct Keeper {
    publisher: Arc<Publisher>,
    spool: Option<Arc<Spool>>,
    drain: JoinSet<Result<(), Error>>,
    telling: JoinHandle<Option<Reporter>>,
    finish: CancellationToken,
    stop: CancellationToken,
}

impl Keeper {
    /// Begins to drain, and to show and report what is there.
    pub(super) fn start(
        publisher: &Arc<Publisher>,
        spool: Option<Arc<Spool>>,
        cluster: &Cluster,
        drain_rate: u32,
        receiver_id: &str,
    ) -> Result<Self, Error> {
        let (finish, stop) = (CancellationToken::new(), CancellationToken::new());
        let mut drain = JoinSet::new();
        let mut reporter = None;
        if let Some(spool) = &spool {
            reporter = Some(Reporter::new(Arc::clone(spool), cluster, receiver_id)?);
            let way = (Arc::clone(publisher), Arc::clone(spool), cluster.clone());
            drain.spawn(keep_draining(way, drain_rate, finish.clone(), stop.clone()));
        }
        let telling = tokio::spawn(keep_telling(Arc::clone(publisher), reporter, stop.clone()));
        Ok(Self { publisher: Arc::clone(publisher), spool, drain, telling, finish, stop })
    }

    /// The draining task ended by itself: why. Never ends otherwise.
    pub(super) async fn failed(&mut self) -> Error {
        loop {
            match self.drain.join_next().await {
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => return error,
                Some(Err(_)) => return Error::Panicked(Panicked("receiver-drain".to_owned())),
                None => std::future::pending().await,
            }
        }
    }

    /// Drains what is left within the budget, unless Kafka is away; says what stays, and closes the spool.
    pub(super) async fn end(mut self, budget: Duration) {
        let by = Instant::now() + budget;
        self.finish.cancel();
        if self.publisher.is_away() {
            self.stop.cancel();
        }
        let drained = async { while self.drain.join_next().await.is_some() {} };
        if timeout(budget.saturating_sub(LAST_REPORT), drained).await.is_err() {
            self.stop.cancel();
            while self.drain.join_next().await.is_some() {}
        }
        self.stop.cancel();
        let reporter = self.telling.await.ok().flatten();
        let Some(spool) = self.spool else { return };
        let status = spool.status();
        if status.is_empty() {
            tracing::info!("the spool is empty");
        } else {
            let (events, uncounted) = (status.events, status.uncounted);
            tracing::warn!(events, uncounted_files = uncounted, "events stay in the spool until the next start");
        }
        if let (Some(mut reporter), Some(encoders), false) =
            (reporter, self.publisher.encoders(), self.publisher.is_away())
        {
            // Without it the last one says more than there is, until the next start.
            let _ = timeout_at(by.max(Instant::now() + LAST_REPORT / 4), reporter.report(encoders)).await;
        }
        if let Err(error) = on_thread("spool-close", move || spool.close()).await {
            tracing::error!(%error, "the spool was not closed");
        }
    }
}

async fn keep_draining(
    (publisher, spool, cluster): (Arc<Publisher>, Arc<Spool>, Cluster),
    rate: u32,
    finish: CancellationToken,
    stop: CancellationToken,
) -> Result<(), Error> {
    let mut reader = spool.reader();
    if let Err(cause) = on_thread("spool-survey", move || reader.survey()).await? {
        // Draining reads the same files, and says it again.
        tracing::warn!(%cause, "the spool could not be counted");
    }
    let status = spool.status();
    if status.events > 0 {
        let oldest = status.oldest_received_at.map(|at| at.to_string());
        tracing::info!(events = status.events, bytes = status.bytes, oldest, "the spool holds events");
    }
    tokio::select! {
        () = stop.cancelled() => return Ok(()),
        () = finish.cancelled(), if publisher.encoders().is_none() => return Ok(()),
        () = publisher.until_reached() => {}
    }
    if let Some(encoders) = publisher.encoders() {
        Drain::new(spool, &cluster, encoders.clone(), rate)?.run(finish, stop).await;
    }
    Ok(())
}
