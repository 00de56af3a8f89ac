//! Broker killed, broker frozen, receiver killed, each under load: nothing acknowledged is missing.

use std::sync::Arc;
use std::time::Duration;

use ledgerhook::kafka::client::Cluster;
use ledgerhook::kafka::headers::Headers;
use ledgerhook::kafka::produce::{Outgoing, Producer};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::load::{Answers, Load, check};
use super::{AWAY, RECEIVER, drained, rows};
use crate::common::broker::OwnServers;
use crate::common::fenced::{Fenced, Mode};
use crate::common::process::Process;
use crate::common::{Installation, eventually, install, install_on, within};

const SEED: u64 = 20_261_122;
/// Senders of each provider: their deadlines are not the same.
const SENDERS: [(&str, u64); 2] = [("accbooks", 16), ("accelex", 8)];
const PAUSE: Duration = Duration::from_millis(20);

/// The configuration's file with a port for the receiver that stays the same, and that port.
fn on_port(here: &Installation) -> (std::path::PathBuf, u16) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let toml = here.toml.replacen("listen = \"127.0.0.1:0\"", &format!("listen = \"127.0.0.1:{port}\""), 1);
    let file = here.data_dir.path().join("on-port.toml");
    std::fs::write(&file, toml).unwrap();
    (file, port)
}

/// Senders of both providers.
struct Loads(Vec<(&'static str, Load)>);

impl Loads {
    fn start(here: &Installation, port: u16) -> Self {
        let start = |(name, senders)| {
            let source = &here.config.sources[name];
            (name, Load::start(source, &format!("http://127.0.0.1:{port}{}", source.path), senders, PAUSE))
        };
        Self(SENDERS.map(start).into())
    }

    fn answers(&self) -> Vec<Arc<Answers>> {
        self.0.iter().map(|(_, load)| Arc::clone(&load.answers)).collect()
    }

    /// Lets every sender have its last answer.
    async fn stop(self) -> Vec<(&'static str, Arc<Answers>)> {
        let mut stopped = Vec::new();
        for (name, load) in self.0 {
            stopped.push((name, load.stop().await));
        }
        stopped
    }
}

/// How many events are acknowledged.
fn count(answers: &[Arc<Answers>]) -> usize {
    answers.iter().map(|answers| answers.count()).sum()
}

fn summary(answers: &[Arc<Answers>]) -> String {
    answers.iter().map(|answers| answers.summary()).collect::<Vec<_>>().join("; ")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_freezes_and_one_that_is_killed_cost_nothing() {
    outage(Duration::from_secs(8)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long form: scripts/test --long"]
async fn long_outages_cost_nothing() {
    outage(Duration::from_secs(60)).await;
}

/// A broker frozen, then killed, for so long each.
async fn outage(time: Duration) {
    let Some(servers) = tokio::task::spawn_blocking(OwnServers::start).await.unwrap() else { return };
    let here = install_on(&servers, "").await;
    let (file, port) = on_port(&here);
    let spool = here.data_dir.path().join("spool");
    let mut running = Process::start(&file, &RECEIVER, &[]);
    running.line(&["the receiver listens"]).await;
    let loads = Loads::start(&here, port);
    let answers = loads.answers();
    let further = async |more: usize| {
        let goal = count(&answers) + more;
        eventually("events are acknowledged", || count(&answers) >= goal).await;
    };
    further(500).await;
    for way in ["frozen", "killed"] {
        let before = count(&answers);
        tokio::task::block_in_place(|| if way == "frozen" { servers.freeze() } else { servers.kill() });
        tokio::time::sleep(time).await;
        let during = count(&answers) - before;
        println!("broker {way} for {time:?}: {during} acknowledged meanwhile; {}", summary(&answers));
        assert!(during > 500, "it goes on without the broker: {during}");
        tokio::task::block_in_place(|| if way == "frozen" { servers.thaw() } else { servers.restart() });
        further(200).await;
        eventually("Kafka takes events again, and the spool is drained", || drained(&spool)).await;
    }
    let stopped = loads.stop().await;
    running.terminate();
    let ended = running.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(drained(&spool), "left: {:?}", ended.stderr);
    for (source, answers) in stopped {
        let rows = rows(&here, source).await;
        let spooled = check(&answers.acknowledged(), &rows);
        println!("{source}: {}; {} rows, {spooled} of them by the spool, 0 missing", answers.summary(), rows.len());
        let deadline = here.config.sources[source].deadline;
        assert!(answers.slowest() < deadline && answers.unanswered() == 0, "{source}: {}", answers.summary());
        assert!(spooled > 300, "{source}: {spooled}");
    }
    drop(here);
    tokio::task::spawn_blocking(move || drop(servers)).await.unwrap();
}

/// Some clients of such a broker forget it for good: of so many there is one. It would wait for its time limit.
#[tokio::test(flavor = "multi_thread")]
async fn producers_find_their_way_back_to_a_broker_that_named_none_for_a_while() {
    const PRODUCERS: usize = 8;
    const LIMIT: Duration = Duration::from_secs(120);
    let here = install("").await;
    let way = Fenced::before(&here.config.kafka.bootstrap_servers[0]).await;
    let mut kafka = here.config.kafka.clone();
    kafka.bootstrap_servers = vec![way.address.clone()];
    let cluster = Cluster::new(&kafka);
    let record = |topic: &str| Outgoing {
        topic: cluster.topic(topic),
        partition: None,
        key: b"key".to_vec(),
        value: b"value".to_vec(),
        headers: Headers::default(),
        timestamp_ms: None,
    };
    let producers = || (0..PRODUCERS).map(|_| Producer::new(&cluster, LIMIT, Duration::ZERO).unwrap());
    let producers: Vec<Arc<Producer>> = producers().map(Arc::new).collect();
    for producer in &producers {
        producer.send(&record("received.accbooks")).await.unwrap();
    }
    way.set(Mode::Silent);
    // What is not known yet is asked for, and the answer comes from a broker that is fenced.
    let sent = producers.iter().map(|producer| (Arc::clone(producer), producer.enqueue(&record("received.accelex"))));
    let sent: Vec<_> = sent.map(|(producer, sending)| (producer, sending.unwrap())).collect();
    way.set(Mode::Fenced);
    eventually("each is told of no broker", || way.named_none() >= PRODUCERS as u64).await;
    way.set(Mode::Well);
    let ended = sent.into_iter().map(|(producer, sending)| async move {
        let first = producer.acknowledged(sending).await;
        (first.is_ok(), producer)
    });
    let ended = tokio::time::timeout(Duration::from_secs(40), futures::future::join_all(ended)).await;
    let ended = ended.expect("each client has its answer, or is replaced");
    println!("{} of {PRODUCERS} clients replaced", ended.iter().filter(|(is_ok, _)| !is_ok).count());
    for (_, producer) in ended {
        producer.send(&record("received.accelex")).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_spool_is_drained_to_a_broker_that_named_none_for_a_while() {
    let here = install("").await;
    let way = Fenced::before(&here.config.kafka.bootstrap_servers[0]).await;
    let (file, port) = on_port(&here);
    let spool = here.data_dir.path().join("spool");
    let bootstrap = format!("[\"{}\"]", way.address);
    let mut running = Process::start(&file, &RECEIVER, &[("LEDGERHOOK__KAFKA__BOOTSTRAP_SERVERS", &bootstrap)]);
    running.line(&["events go to Kafka"]).await;
    let loads = Loads::start(&here, port);
    let answers = loads.answers();
    let further = async |more: usize| {
        let goal = count(&answers) + more;
        eventually("events are acknowledged", || count(&answers) >= goal).await;
    };
    further(100).await;
    way.set(Mode::Silent);
    running.line(&["events go to the spool"]).await;
    further(100).await;
    // Long enough for each client that waits to ask, and to be told of none.
    way.set(Mode::Fenced);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let named_none = way.named_none();
    way.set(Mode::Well);
    further(100).await;
    let stopped = loads.stop().await;
    within(40, "the spool is drained", || drained(&spool)).await;
    running.terminate();
    assert_eq!(running.ended().await.code, Some(0));
    assert!(named_none > 0);
    for (source, answers) in stopped {
        let rows = rows(&here, source).await;
        let spooled = check(&answers.acknowledged(), &rows);
        println!("{source}: {}; {spooled} by the spool, 0 missing; {named_none} times no broker", answers.summary());
        assert!(spooled > 0, "{source}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_killed_without_kafka_loses_nothing_it_acknowledged() {
    kills(4).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long form: scripts/test --long"]
async fn long_series_of_receivers_killed_without_kafka() {
    kills(20).await;
}

/// Kills the receiver so often under load, with Kafka away, then lets it drain.
async fn kills(rounds: u32) {
    let here = install("").await;
    let (file, port) = on_port(&here);
    let loads = Loads::start(&here, port);
    let answers = loads.answers();
    let mut rng = StdRng::seed_from_u64(SEED);
    for round in 0..rounds {
        let running = Process::start(&file, &RECEIVER, &AWAY);
        let goal = count(&answers) + 100;
        eventually(&format!("round {round} acknowledges"), || count(&answers) >= goal).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..1000))).await;
        running.kill();
    }
    let mut running = Process::start(&file, &RECEIVER, &[]);
    running.line(&["the receiver listens"]).await;
    let stopped = loads.stop().await;
    let spool = here.data_dir.path().join("spool");
    eventually("the spool is drained", || drained(&spool)).await;
    running.terminate();
    assert_eq!(running.ended().await.code, Some(0));
    for (source, answers) in stopped {
        let rows = rows(&here, source).await;
        let spooled = check(&answers.acknowledged(), &rows);
        println!("seed {SEED}: {rounds} kills; {source}: {}; {spooled} by the spool, 0 missing", answers.summary());
        assert!(spooled > 100, "{source}: {spooled}");
    }
}
