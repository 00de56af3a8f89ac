//! What the spool holds, in the topic `control`: who reconciles can say which receiver still has acknowledged events.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::publish::Publisher;
use crate::event::ControlKind;
use crate::kafka::client::Cluster;
use crate::kafka::control;
use crate::kafka::layout::Encoders;
use crate::kafka::produce::Producer;
use crate::spool::{Spool, Status};
use crate::topics;

/// Between two looks at what changes by itself: readiness, the spool's size, loss horizons.
const LOOK: Duration = Duration::from_secs(1);
/// Least time between two reports.
const EVERY: Duration = Duration::from_secs(5);
/// How long a report is waited for.
const WAIT: Duration = Duration::from_secs(3);

/// Writes reports of one receiver.
pub(super) struct Reporter {
    pub(super) spool: Arc<Spool>,
    pub(super) cluster: Cluster,
    pub(super) producer: Producer,
    pub(super) receiver_id: String,
    /// What was written last.
    pub(super) told: Option<Status>,
}

impl Reporter {
    /// A reporter of this spool.
    ///
    /// # Errors
    /// When the Kafka client's settings are unusable.
    pub(super) fn new(spool: Arc<Spool>, cluster: &Cluster, receiver_id: &str) -> Result<Self, super::Error> {
        let producer = Producer::new(cluster, WAIT, Duration::ZERO);
        let producer = producer.map_err(|error| super::Error::Producer(error.into()))?;
        Ok(Self { spool, cluster: cluster.clone(), producer, receiver_id: receiver_id.to_owned(), told: None })
    }

    /// Writes the spool's state where it changed. A failure is tried again with the next change or look.
    pub(super) async fn report(&mut self, encoders: &Encoders) {
        let status = self.spool.status();
        if self.told.as_ref() == Some(&status) {
            return;
        }
        let Some(encoder) = encoders.of(topics::CONTROL) else { return };
        let about = (ControlKind::Spool, self.receiver_id.clone());
        let body = status.to_json().to_string();
        let record = match control::record(&self.cluster, encoder, about, &self.receiver_id, body) {
            Ok(record) => record,
            Err(error) => return tracing::error!(%error, "the spool's state cannot be written down"),
        };
        match timeout(WAIT, self.producer.send(&record)).await {
            Ok(Ok(_)) => self.told = Some(status),
            Ok(Err(error)) => tracing::debug!(%error, "the spool's state was not written to control"),
            Err(_) => tracing::debug!("the spool's state was not written to control in time"),
        }
    }
}

/// Shows and reports until `stop`.
pub(super) async fn keep_telling(
    publisher: Arc<Publisher>,
    mut reporter: Option<Reporter>,
    stop: CancellationToken,
) -> Option<Reporter> {
    let mut due = Instant::now();
    loop {
        publisher.show(Instant::now());
        if let (Some(reporter), Some(encoders)) = (&mut reporter, publisher.encoders())
            && Instant::now() >= due
            && !publisher.is_away()
        {
            tokio::select! {
                () = stop.cancelled() => {}
                () = reporter.report(encoders) => {}
            }
            due = Instant::now() + EVERY;
        }
        tokio::select! {
            () = stop.cancelled() => return reporter,
            () = sleep(LOOK) => {}
        }
    }
}
