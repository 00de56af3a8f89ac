//! Settings of every client of ours.

use std::time::Duration;

use rdkafka::ClientConfig;

use crate::config;

/// How to reach the cluster, and the prefix of our names there.
#[derive(Clone)]
pub struct Cluster {
    base: ClientConfig,
    prefix: String,
}

/// Bound on one request of administration (metadata, watermarks, committed offsets).
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

impl Cluster {
    /// The cluster of this configuration.
    #[must_use]
    pub fn new(kafka: &config::Kafka) -> Self {
        let mut base = ClientConfig::new();
        for (name, value) in &kafka.properties {
            base.set(name, value);
        }
        base.set("bootstrap.servers", kafka.bootstrap_servers.join(","));
        base.set("client.id", "ledgerhook");
        // librdkafka's own line per broken connection, several a second while a broker is away, adds nothing to ours.
        base.set("log.connection.close", "false");
        base.set("reconnect.backoff.max.ms", "2000");
        // The default learns of a new leader after five minutes.
        base.set("topic.metadata.refresh.interval.ms", "30000");
        Self { base, prefix: kafka.topic_prefix.clone() }
    }

    /// Prefix of topics, groups and transactional ids.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// `kafka.bootstrap_servers`, for messages.
    pub(super) fn brokers(&self) -> String {
        self.base.get("bootstrap.servers").unwrap_or_default().to_owned()
    }

    /// Kafka's name of one of our topics.
    #[must_use]
    pub fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A client for metadata and administration.
    pub(super) fn plain(&self) -> ClientConfig {
        self.base.clone()
    }

    /// An idempotent producer that waits for all in-sync replicas. A record not acknowledged within `timeout` fails.
    pub(super) fn producer(&self, timeout: Duration, linger: Duration) -> ClientConfig {
        let mut config = self.base.clone();
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("message.max.bytes", crate::topics::MAX_RECORD_BYTES.to_string())
            .set("delivery.timeout.ms", timeout.as_millis().to_string())
            .set("linger.ms", (linger.as_micros() as f64 / 1000.0).to_string());
        config
    }

    /// A producer of transactions. Its id is stable per instance, so that a restart aborts what it left open.
    pub(super) fn transactional(&self, id: &str, transaction_timeout: Duration) -> ClientConfig {
        // Records must be given up before the transaction is, or a commit could wait for them beyond it.
        let mut config = self.producer(transaction_timeout, Duration::from_millis(1));
        config
            // The broker refuses a transaction's first partitions until the markers of the one before are written, some
            // milliseconds; the default would wait a tenth of a second each time.
            .set("retry.backoff.ms", "5")
            .set("transactional.id", format!("{}{id}", self.prefix))
            .set("transaction.timeout.ms", transaction_timeout.as_millis().to_string());
        config
    }

    /// A reader of committed records that starts where it is told and never commits by itself.
    pub(super) fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = self.base.clone();
        config
            .set("group.id", format!("{}{group}", self.prefix))
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // A lost position must be seen, never be replaced by an end of the log.
            .set("auto.offset.reset", "error")
            .set("fetch.message.max.bytes", crate::topics::MAX_RECORD_BYTES.to_string())
            // librdkafka names every partition in every fetch, so fetches are what a reader costs the broker: a little
            // patience makes fewer of them, and costs 20 ms where there is little. A dozen events are worth one.
            .set("fetch.min.bytes", "16384")
            .set("fetch.wait.max.ms", "20")
            // A partition of which enough waits is left alone for this long, a second by default: in a backlog a reader
            // stood still for most of it. And what waits is to be found in the processor's caches.
            .set("fetch.queue.backoff.ms", "10")
            .set("queued.max.messages.kbytes", "4096");
        config
    }
}

impl std::fmt::Debug for Cluster {
    /// Properties may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn durability_is_ours_to_set() {
        let mut kafka = Config::defaults().unwrap_or_else(|faults| panic!("{faults}")).kafka;
        // The configuration refuses such properties; should one get through, it still loses.
        for (name, value) in [("acks", "0"), ("enable.idempotence", "false"), ("isolation.level", "read_uncommitted")] {
            kafka.properties.insert(name.to_owned(), value.to_owned());
        }
        let cluster = Cluster::new(&kafka);
        let second = Duration::from_secs(1);
        let producer = cluster.producer(second, Duration::from_micros(2500));
        for (name, value) in [
            ("acks", "all"),
            ("enable.idempotence", "true"),
            ("partitioner", "murmur2_random"),
            ("delivery.timeout.ms", "1000"),
            ("linger.ms", "2.5"),
        ] {
            assert_eq!(producer.get(name), Some(value), "{name}");
        }
        let transactional = cluster.transactional("router.1", 10 * second);
        assert_eq!(transactional.get("transactional.id"), Some("ledgerhook.router.1"));
        let consumer = cluster.consumer("router");
        for (name, value) in
            [("isolation.level", "read_committed"), ("enable.auto.commit", "false"), ("auto.offset.reset", "error")]
        {
            assert_eq!(consumer.get(name), Some(value), "{name}");
        }
    }
}
