//! What the integration tests share: real servers, and one installation with a random prefix per test.
#![expect(clippy::unwrap_used, reason = "the lint's allowance for tests does not reach their helpers")]

pub(crate) mod books;
pub(crate) mod broker;
pub(crate) mod certificates;
pub(crate) mod committed;
pub(crate) mod cutting;
pub(crate) mod faulty;
pub(crate) mod fenced;
pub(crate) mod process;
pub(crate) mod real;
pub(crate) mod records;
pub(crate) mod scripted;
pub(crate) mod servers;
pub(crate) mod way;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ledgerhook::config::Config;
use ledgerhook::kafka::layout::{Encoders, Ground};
use ledgerhook::lifecycle::Role;
use ledgerhook::telemetry::{Health, Metrics, RejectedRequests};
use ledgerhook::topics;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio_util::sync::CancellationToken;

/// Secret of the source `accelex` in every installation.
pub(crate) const ACCELEX_SECRET: &str = "accelex-test-secret";
/// Secret of the source `accbooks` in every installation.
pub(crate) const ACCBOOKS_SECRET: &str = "accbooks-test-secret";
/// Signing secret of webhook targets in every installation (Standard Webhooks form).
pub(crate) const SIGNING_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// An installation of its own on the shared servers: topics and schemas applied.
pub(crate) struct Installation {
    pub(crate) config: Config,
    /// The configuration's text, for the binary; secrets come from the variables in [`Installation::env`].
    pub(crate) toml: String,
    pub(crate) ground: Arc<Ground>,
    pub(crate) encoders: Encoders,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) rejected: RejectedRequests,
    pub(crate) health: Health,
    pub(crate) stop: CancellationToken,
    pub(crate) data_dir: tempfile::TempDir,
}

/// Environment of the binary: the secrets that the configuration refers to.
pub(crate) const ENV: [(&str, &str); 6] = [
    ("TEST_ACCELEX_SECRET", ACCELEX_SECRET),
    ("TEST_ACCBOOKS_SECRET", ACCBOOKS_SECRET),
    ("TEST_SIGNING_SECRET", SIGNING_SECRET),
    ("TEST_KEY_ID", "test-key"),
    ("TEST_KEY", "test-secret"),
    ("TEST_LOGIN", "lake:p@ss/word 1"),
];

/// A configuration of an installation of its own: nothing applied yet.
pub(crate) struct Bare {
    pub(crate) config: Config,
    pub(crate) toml: String,
    pub(crate) data_dir: tempfile::TempDir,
    pub(crate) ground: Ground,
}

/// A configuration with both providers, ports chosen by the system, and whatever `more` TOML adds (targets, sections).
pub(crate) async fn bare(more: &str) -> Bare {
    let servers = tokio::task::spawn_blocking(servers::servers).await.unwrap();
    bare_on(&servers.bootstrap, &servers.registry_url, 1, more)
}

fn bare_on(bootstrap: &str, registry_url: &str, replication: usize, more: &str) -> Bare {
    drop(rustls::crypto::ring::default_provider().install_default());
    let data_dir = tempfile::tempdir().unwrap();
    let prefix = format!("t{}.", &uuid::Uuid::now_v7().simple().to_string()[16..]);
    let toml = format!(
        r#"data_dir = "{}"
[kafka]
bootstrap_servers = {:?}
topic_prefix = "{prefix}"
partitions = 3
replication_factor = {replication}
[schema_registry]
url = "{}"
[receiver]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[sources.accelex]
secrets = [{{ id = "a1", value = "env:TEST_ACCELEX_SECRET" }}]
[sources.accbooks]
secrets = [{{ id = "b1", value = "env:TEST_ACCBOOKS_SECRET" }}]
{more}"#,
        data_dir.path().display(),
        bootstrap.split(',').collect::<Vec<_>>(),
        registry_url,
    );
    let env = |name: &str| ENV.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
    let config = Config::parse(&toml, "test.toml", &env, &[]).unwrap_or_else(|faults| panic!("{faults}"));
    let topics = topics::all(
        config.sources.keys().map(String::as_str),
        config.targets.keys().map(String::as_str),
        config.router.dedupe_window,
    );
    let ground = Ground::new(&config.kafka, &config.schema_registry, topics).unwrap();
    Bare { config, toml, data_dir, ground }
}

/// An installation with both providers, ports chosen by the system, and whatever `more` TOML adds (targets, sections).
pub(crate) async fn install(more: &str) -> Installation {
    if let Ok(filter) = std::env::var("RUST_LOG") {
        ledgerhook::telemetry::logs::start(ledgerhook::telemetry::logs::Format::Text, &filter);
    }
    install_bare(bare(more).await).await
}

/// As [`install`], on servers of the test's own.
pub(crate) async fn install_on(servers: &broker::OwnServers, more: &str) -> Installation {
    install_bare(bare_on(&servers.bootstrap, &servers.registry_url, servers.nodes.min(3), more)).await
}

async fn install_bare(bare: Bare) -> Installation {
    let Bare { config, toml, data_dir, ground } = bare;
    ground.admin().apply(&ground.topics).await.unwrap();
    ground.apply_schemas().await.unwrap();
    ledgerhook::kafka::identity::give(&ground, &[]).await.unwrap();
    let (encoders, _) = ground.look().await.unwrap();
    Installation {
        config,
        toml,
        ground: Arc::new(ground),
        encoders,
        metrics: Arc::new(Metrics::new().unwrap()),
        rejected: RejectedRequests::default(),
        health: Health::default(),
        stop: CancellationToken::new(),
        data_dir,
    }
}

impl Bare {
    /// The configuration as a file.
    pub(crate) fn file(&self) -> PathBuf {
        file(&self.data_dir, &self.toml)
    }
}

fn file(dir: &tempfile::TempDir, toml: &str) -> PathBuf {
    let path = dir.path().join("ledgerhook.toml");
    // Whole or not at all: a process that was just started may be reading it.
    let mut new = tempfile::NamedTempFile::new_in(dir.path()).unwrap();
    new.write_all(toml.as_bytes()).unwrap();
    new.persist(&path).unwrap();
    path
}

impl Installation {
    /// The configuration as a file, for the binary.
    pub(crate) fn file(&self) -> PathBuf {
        file(&self.data_dir, &self.toml)
    }

    /// What the app would give this role.
    pub(crate) fn role(&self, name: &'static str) -> Role {
        Role {
            name,
            instance: format!("{name}-test"),
            health: self.health.role(name),
            metrics: Arc::clone(&self.metrics),
            rejected: self.rejected.clone(),
            stop: self.stop.clone(),
        }
    }

    /// Waits until the role says it is ready; a receiver, which is at once, until Kafka is its way.
    pub(crate) async fn ready(&self, name: &str) {
        let state = || self.health.states().get(name).cloned();
        eventually(&format!("{name} ready"), || state() == Some(ledgerhook::telemetry::health::State::Ready)).await;
        if name == "receiver" {
            let direct = r#"ledgerhook_receiver_direct{source="accbooks"} 1"#;
            eventually("events go to Kafka", || self.metrics.render().contains(direct)).await;
        }
    }

    /// Gives a topic (without prefix) as many partitions, as any tool would.
    pub(crate) async fn grow(&self, topic: &str, partitions: usize) {
        let name = self.ground.cluster.topic(topic);
        let more = [NewPartitions::new(&name, partitions)];
        self.admin().create_partitions(&more, &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
        let count = || self.ground.partitions_of(topic).map_or(0, |partitions| partitions.len());
        eventually("the partitions are there", || tokio::task::block_in_place(count) == partitions).await;
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        let brokers = self.config.kafka.bootstrap_servers.join(",");
        ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap()
    }

    /// Deletes what stands before these offsets of a topic's partitions (without prefix), as retention does.
    pub(crate) async fn delete_before(&self, topic: &str, offsets: &BTreeMap<i32, i64>) {
        let mut list = TopicPartitionList::new();
        for (number, offset) in offsets {
            list.add_partition_offset(&self.ground.cluster.topic(topic), *number, Offset::Offset(*offset)).unwrap();
        }
        self.admin().delete_records(&list, &AdminOptions::new()).await.unwrap();
    }

    /// Every committed record of a topic (without prefix), in order within each partition.
    pub(crate) async fn records(&self, topic: &str) -> Vec<ledgerhook::kafka::group::Incoming> {
        let cluster = self.ground.cluster.clone();
        let partitions = self.ground.partitions_of(topic).unwrap();
        tokio::task::spawn_blocking(move || {
            let mut records = Vec::new();
            ledgerhook::kafka::restore::read_to_end(&cluster, &partitions, Duration::from_secs(60), |r| {
                records.push(r)
            })
            .unwrap();
            records
        })
        .await
        .unwrap()
    }
}

/// Lets a test pass that cannot show anything on this machine, and says why; under `scripts/test --strict` it fails.
pub(crate) fn cannot(what: &str) {
    let is_strict = std::env::var_os("LEDGERHOOK_TEST_STRICT").is_some_and(|value| !value.is_empty());
    assert!(!is_strict, "not tested: {what}");
    not_tested(what);
}

/// Says what was not tested, past the capture of test output: whoever runs the tests should see it.
pub(crate) fn not_tested(what: &str) {
    let _ = writeln!(std::io::stderr(), "not tested: {what}");
}

/// Waits until `holds`, at most 60 seconds; fails the test with `what` otherwise.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    within(60, what, holds).await;
}

/// Waits until `holds`, at most this many seconds; fails the test with `what` otherwise.
pub(crate) async fn within(seconds: u64, what: &str, holds: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(seconds);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "not within {seconds} s: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a committed transaction of the router covers every row of `received.accbooks`.
pub(crate) async fn routed(installation: &Installation) {
    let committed = committed::Committed::of_router(installation);
    let last = std::cell::RefCell::new(None);
    let is_covered = || {
        *last.borrow_mut() = tokio::task::block_in_place(|| committed.of_accbooks(installation));
        last.borrow().iter().flatten().all(|(next, end)| next == end) && last.borrow().is_some()
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !is_covered() {
        let late = tokio::time::Instant::now() >= deadline;
        assert!(!late, "not within 60 s: the router has taken every row; next and end: {:?}", last.borrow());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
