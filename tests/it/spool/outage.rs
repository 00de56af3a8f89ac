//! Broker killed, broker frozen, receiver killed, each under load: nothing acknowledged is missing.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::load::{Load, check};
use super::{AWAY, RECEIVER, drained, rows};
use crate::common::broker::OwnServers;
use crate::common::process::Process;
use crate::common::{Installation, eventually, install, install_on};

const SEED: u64 = 20_261_122;
const SENDERS: u64 = 24;
const PAUSE: Duration = Duration::from_millis(20);

/// The configuration's file with a port for the receiver that stays the same, and that port.
fn on_port(here: &Installation) -> (std::path::PathBuf, u16) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let toml = here.toml.replacen("listen = \"127.0.0.1:0\"", &format!("listen = \"127.0.0.1:{port}\""), 1);
    let file = here.data_dir.path().join("on-port.toml");
    std::fs::write(&file, toml).unwrap();
    (file, port)
}

fn load(here: &Installation, port: u16) -> Load {
    let source = &here.config.sources["accbooks"];
    Load::start(source, &format!("http://127.0.0.1:{port}{}", source.path), SENDERS, PAUSE)
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
    let load = load(&here, port);
    let answers = std::sync::Arc::clone(&load.answers);
    let further = |more: usize| {
        let (answers, goal) = (std::sync::Arc::clone(&answers), answers.count() + more);
        async move { eventually("events are acknowledged", || answers.count() >= goal).await }
    };
    further(500).await;
    for way in ["frozen", "killed"] {
        let before = answers.count();
        tokio::task::block_in_place(|| if way == "frozen" { servers.freeze() } else { servers.kill() });
        tokio::time::sleep(time).await;
        let during = answers.count() - before;
        println!("broker {way} for {time:?}: {during} acknowledged meanwhile; {}", answers.summary());
        assert!(during > 500, "it goes on without the broker: {during}");
        tokio::task::block_in_place(|| if way == "frozen" { servers.thaw() } else { servers.restart() });
        further(200).await;
        eventually("Kafka takes events again, and the spool is drained", || drained(&spool)).await;
    }
    let answers = load.stop().await;
    running.terminate();
    let ended = running.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(drained(&spool), "left: {:?}", ended.stderr);
    let rows = rows(&here, "accbooks").await;
    let spooled = check(&answers.acknowledged(), &rows);
    println!("{}; {} rows, {spooled} of them by the spool, 0 missing", answers.summary(), rows.len());
    let deadline = here.config.sources["accbooks"].deadline;
    assert!(answers.slowest() < deadline && answers.unanswered() == 0, "{}", answers.summary());
    assert!(spooled > 1000, "{spooled}");
    drop(here);
    tokio::task::spawn_blocking(move || drop(servers)).await.unwrap();
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
    let load = load(&here, port);
    let mut rng = StdRng::seed_from_u64(SEED);
    for round in 0..rounds {
        let running = Process::start(&file, &RECEIVER, &AWAY);
        let goal = load.answers.count() + 100;
        eventually(&format!("round {round} acknowledges"), || load.answers.count() >= goal).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..1000))).await;
        running.kill();
    }
    let mut running = Process::start(&file, &RECEIVER, &[]);
    running.line(&["the receiver listens"]).await;
    let answers = load.stop().await;
    let spool = here.data_dir.path().join("spool");
    eventually("the spool is drained", || drained(&spool)).await;
    running.terminate();
    assert_eq!(running.ended().await.code, Some(0));
    let rows = rows(&here, "accbooks").await;
    let spooled = check(&answers.acknowledged(), &rows);
    println!("seed {SEED}: {rounds} kills; {}; {spooled} by the spool, 0 missing", answers.summary());
    assert!(spooled > 300, "{spooled}");
}
