//! How long a request waits where Kafka does not answer.

use std::sync::Arc;
use std::time::Duration;

use ledgerhook::event::Origin;
use ledgerhook::kafka::client::Cluster;
use ledgerhook::kafka::layout::Ground;
use ledgerhook::receiver::{self, Settings};
use ledgerhook::spool::look;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::{Running, received, settings, start};
use crate::common::{eventually, install};

#[tokio::test(flavor = "multi_thread")]
async fn a_shorter_deadline_counts_from_the_next_request_on() {
    let mut here = install("").await;
    // A broker that takes connections and says nothing. Topics and schemas are looked at where they are.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut kafka = here.config.kafka.clone();
    kafka.bootstrap_servers = vec![silent.local_addr().unwrap().to_string()];
    let topics = here.ground.topics.clone();
    let mut ground = Ground::new(&here.config.kafka, &here.config.schema_registry, topics).unwrap();
    ground.cluster = Cluster::new(&kafka);

    let judged = |sources: &std::collections::BTreeMap<_, _>| {
        Arc::new(receiver::Live::new(&here.config.receiver, sources.values()).unwrap())
    };
    let mut sources = here.config.sources.clone();
    let (live, heard) = watch::channel(judged(&sources));
    let settings = Settings { live: heard, shutdown_budget: Duration::from_secs(1), ..settings(&here) };
    let (say, heard) = oneshot::channel();
    let role = here.role("receiver");
    let task = tokio::spawn(receiver::run(settings, Arc::new(ground), role, |at| say.send(at).unwrap()));
    let running = Running { at: heard.await.unwrap(), http: reqwest::Client::new(), task };
    here.ready("receiver").await;

    let took = async |id: &str| {
        let begun = Instant::now();
        let answer = running.deliver(&here, format!(r#"{{"id":"{id}","type":"invoice.paid"}}"#).as_bytes()).await;
        assert_eq!(answer.status, 200, "{id}: {}", answer.body);
        begun.elapsed()
    };
    // Each waits for Kafka for 40 % of its deadline.
    let before = took("ten seconds").await;
    assert!(before >= Duration::from_millis(3_900), "{before:?}");
    let deadline = Duration::from_secs(3);
    sources.get_mut("accbooks").unwrap().deadline = deadline;
    live.send_replace(judged(&sources));
    let after = took("three seconds").await;
    println!("{before:?} of ten seconds, {after:?} of three");
    assert!(after >= Duration::from_millis(1_100) && after < deadline, "{after:?}");
    here.stop.cancel();
    running.task.await.unwrap().unwrap();

    // What was not waited for is in the spool, and comes to Kafka once that answers.
    here.stop = tokio_util::sync::CancellationToken::new();
    let running = start(&here).await;
    let spool = here.data_dir.path().join("spool");
    eventually("the spool is drained", || look(&spool).unwrap().0.is_empty()).await;
    here.stop.cancel();
    running.task.await.unwrap().unwrap();
    let rows = received(&here).await;
    let rows: Vec<_> = rows.iter().map(|(row, _)| (row.event_id.as_str(), row.origin)).collect();
    assert_eq!(rows, [("ten seconds", Origin::Spool), ("three seconds", Origin::Spool)]);
}
