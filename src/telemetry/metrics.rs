//! Every metric, once: name, help, labels. Handles are typed, so that a name or label cannot be misspelt elsewhere.

use prometheus::{
    Encoder as _, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
/// What one set of labels counts, held where it is counted often.
pub use prometheus::{Histogram, IntCounter};

/// One metric as documented.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// Name on `/metrics`.
    pub name: &'static str,
    /// What it counts or measures, with its unit.
    pub help: &'static str,
    /// Label names.
    pub labels: &'static [&'static str],
}

macro_rules! metrics {
    ($($field:ident: $kind:ident = $name:literal [$($label:literal),*] $help:literal;)*) => {
        /// The program's metrics.
        pub struct Metrics {
            registry: Registry,
            $(#[doc = $help] pub $field: $kind,)*
        }

        /// Every metric, for the documentation.
        pub const DESCRIPTIONS: &[Description] =
            &[$(Description { name: $name, help: $help, labels: &[$($label),*] },)*];

        impl Metrics {
            /// Fresh metrics, all registered.
            ///
            /// # Errors
            /// When a name of the table is malformed or stands there twice: a fault of the build, caught by test.
            pub fn new() -> Result<Self, prometheus::Error> {
                let registry = Registry::new();
                $(let $field = <$kind as Make>::make($name, $help, &[$($label),*])?;
                registry.register(Box::new($field.clone()))?;)*
                Ok(Self { registry, $($field,)* })
            }
        }
    };
}

metrics! {
    config_reloads: IntCounterVec = "ledgerhook_config_reloads_total" ["outcome"]
        "Configurations read again on SIGHUP: applied, or refused for a fault in them.";
    role_ready: IntGaugeVec = "ledgerhook_role_ready" ["role"]
        "1 while a role of this process does its work, 0 while it cannot; /readyz says why.";
    receiver_requests: IntCounterVec = "ledgerhook_receiver_requests_total" ["source", "outcome"]
        "Requests answered, by the code of the answer; source is empty for an unknown path.";
    receiver_ack_seconds: HistogramVec = "ledgerhook_receiver_ack_seconds" ["source", "path"]
        "Seconds from the whole body read to the event durable; path is kafka or spool.";
    receiver_connections: IntGauge = "ledgerhook_receiver_connections" []
        "Connections that are open on the receiver's port; never more than receiver.max_connections.";
    receiver_connections_evicted: IntCounter = "ledgerhook_receiver_connections_evicted_total" []
        "Connections without a request that were ended to make room for another one.";
    receiver_direct: IntGaugeVec = "ledgerhook_receiver_direct" ["source"]
        "1 while events of a source go straight to Kafka, 0 while they take the spool or are refused.";
    spool_events: IntGauge = "ledgerhook_spool_events" []
        "Events in the spool that are not known to be on Kafka.";
    spool_bytes: IntGauge = "ledgerhook_spool_bytes" []
        "Bytes that the spool takes on its disk.";
    spool_set_aside_files: IntGauge = "ledgerhook_spool_set_aside_files" []
        "Files of the spool that are kept for people: something in them is damaged or could not be sent to Kafka.";
    loss_horizon_seconds: GaugeVec = "ledgerhook_loss_horizon_seconds" ["source"]
        "Seconds until the provider gives up the first event that was refused for want of durability; absent without one, 0 from then on for ten minutes.";
    signature_matches: IntCounterVec = "ledgerhook_signature_matches_total" ["source", "key_id"]
        "Verified requests by the secret that matched.";
    router_events: IntCounterVec = "ledgerhook_router_events_total" ["source", "outcome"]
        "Rows of received taken by the router, by what became of them.";
    router_restore_seconds: Histogram = "ledgerhook_router_restore_seconds" []
        "Seconds to restore the dedupe state of the partitions gained.";
    delivery_attempts: IntCounterVec = "ledgerhook_delivery_attempts_total" ["target", "outcome"]
        "Tries to deliver a record, by how the answer was classified.";
    delivery_lag_seconds: GaugeVec = "ledgerhook_delivery_lag_seconds" ["target"]
        "Age in seconds of the oldest record read but neither finished nor parked; 0 when there is none.";
    delivery_parked_keys: IntGaugeVec = "ledgerhook_delivery_parked_keys" ["target"]
        "Entities whose records are parked: the first of them failed, and others may wait behind it.";
    delivery_retention_seconds: GaugeVec = "ledgerhook_delivery_retention_seconds" ["target"]
        "Seconds until the oldest record read but neither finished nor parked may be deleted by its topic's retention, the least over partitions; 0 from then on, absent without one. What is not read yet, and replays, are not in it.";
    target_state: IntGaugeVec = "ledgerhook_target_state" ["target", "state"]
        "1 for the state a target is in, 0 for the others: active, paused, waiting (for a rate limit), unreachable, credentials, failing, stopped.";
    lake_rows: IntCounterVec = "ledgerhook_lake_rows_total" ["table"]
        "Rows committed to tables of the lake.";
    lake_commit_seconds: Histogram = "ledgerhook_lake_commit_seconds" []
        "Seconds from a batch of the lake complete to its commit: writing its files included.";
}

trait Make: Sized {
    fn make(name: &str, help: &str, labels: &[&str]) -> Result<Self, prometheus::Error>;
}

/// From a loopback acknowledgement to the longest provider deadline.
const SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

impl Make for IntCounterVec {
    fn make(name: &str, help: &str, labels: &[&str]) -> Result<Self, prometheus::Error> {
        Self::new(Opts::new(name, help), labels)
    }
}
impl Make for IntCounter {
    fn make(name: &str, help: &str, _: &[&str]) -> Result<Self, prometheus::Error> {
        Self::with_opts(Opts::new(name, help))
    }
}
impl Make for IntGauge {
    fn make(name: &str, help: &str, _: &[&str]) -> Result<Self, prometheus::Error> {
        Self::with_opts(Opts::new(name, help))
    }
}
impl Make for IntGaugeVec {
    fn make(name: &str, help: &str, labels: &[&str]) -> Result<Self, prometheus::Error> {
        Self::new(Opts::new(name, help), labels)
    }
}
impl Make for GaugeVec {
    fn make(name: &str, help: &str, labels: &[&str]) -> Result<Self, prometheus::Error> {
        Self::new(Opts::new(name, help), labels)
    }
}
impl Make for HistogramVec {
    fn make(name: &str, help: &str, labels: &[&str]) -> Result<Self, prometheus::Error> {
        Self::new(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()), labels)
    }
}
impl Make for Histogram {
    fn make(name: &str, help: &str, _: &[&str]) -> Result<Self, prometheus::Error> {
        Self::with_opts(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()))
    }
}

impl Metrics {
    /// Content type of [`Metrics::render`].
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// All metrics in Prometheus' text format 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = Vec::new();
        // Writing to memory fails only for a metric family without a name; the table has none.
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut out) {
            tracing::error!(%error, "cannot render metrics");
        }
        String::from_utf8_lossy(&out).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_can_be_made_and_is_documented() {
        let metrics = Metrics::new().unwrap();
        metrics.receiver_requests.with_label_values(&["accelex", "accepted"]).inc();
        assert!(
            metrics.render().contains(r#"ledgerhook_receiver_requests_total{outcome="accepted",source="accelex"} 1"#)
        );
        for metric in DESCRIPTIONS {
            assert!(metric.name.starts_with("ledgerhook_") && metric.help.ends_with('.'), "{metric:?}");
        }
    }

    /// A name that is misspelt in a rule would never alert anybody.
    #[test]
    fn the_documented_alerts_look_at_metrics_that_there_are() {
        let document = include_str!("../../docs/alerts.md");
        let words = document.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let named: Vec<&str> = words.filter(|word| word.starts_with("ledgerhook_")).collect();
        assert!(named.len() > 5, "{named:?}");
        for name in named {
            assert!(DESCRIPTIONS.iter().any(|metric| metric.name == name), "{name}");
        }
    }
}
