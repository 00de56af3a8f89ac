//! A batch that has to be aborted: the same router reads its rows again, in their order.

use std::sync::Arc;
use std::time::Duration;

use ledgerhook::kafka::headers::Headers;
use ledgerhook::kafka::produce::Outgoing;
use ledgerhook::kafka::transaction::Transactions;
use ledgerhook::lifecycle::Role;
use ledgerhook::router;
use tokio::task::block_in_place;
use tokio_util::sync::CancellationToken;

use super::registry::{by_a_way, later_version, of_schema};
use super::{invoice, settings};
use crate::common::committed::Committed;
use crate::common::fenced::{Fenced, TXN_OFFSET_COMMIT};
use crate::common::{eventually, install};

const TIMEOUT: Duration = Duration::from_secs(10);
/// `ILLEGAL_GENERATION`.
const REFUSED: [u8; 2] = 22_i16.to_be_bytes();

/// The broker refuses the batch's offsets once, while a row behind the batch waits for its schema.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_an_aborted_batch_are_written_before_what_stood_behind_them() {
    let mut installation = install("").await;
    let schema = later_version(&installation).await;
    let way = Fenced::before(&installation.config.kafka.bootstrap_servers[0]).await;
    installation.config.kafka.bootstrap_servers = vec![way.address.clone()];
    // Closed, it answers nobody.
    let registry = by_a_way(&mut installation, Some(b""));
    let role = Role { stop: CancellationToken::new(), ..installation.role("router") };
    let stop = role.stop.clone();
    let running = tokio::spawn(router::run(settings(&installation), Arc::clone(&installation.ground), role));
    installation.ready("router").await;
    registry.close();
    // Behind the topic's name: one partition, its number, no error.
    let topic = installation.ground.cluster.topic("received.accbooks");
    let answer = |error: [u8; 2]| [topic.as_bytes(), &[2], &0_i32.to_be_bytes(), &error].concat();
    way.say(1, TXN_OFFSET_COMMIT, answer([0; 2]), answer(REFUSED));

    let ids = ["e0", "e1", "e2", "later"];
    let row = |id: &str| {
        let event = invoice(id, "inv", "1");
        let own = || installation.encoders.of("received.accbooks").unwrap().encode(&event).unwrap();
        let value = if id == "later" { of_schema(&installation, &event, schema) } else { own() };
        let (topic, headers) = (topic.clone(), Headers::default());
        Outgoing { topic, partition: Some(0), key: id.into(), value, headers, timestamp_ms: None }
    };
    // In one transaction, so that they are there at once.
    block_in_place(|| {
        let feeder = Transactions::open(&installation.ground.cluster, "feeder", TIMEOUT).unwrap();
        feeder.begin().unwrap();
        ids.iter().for_each(|id| feeder.send(&row(id)).unwrap());
        feeder.commit(&|_| {}).unwrap();
    });
    let restored = || installation.metrics.router_restore_seconds.get_sample_count();
    let outcome = |name: &str| installation.metrics.router_events.with_label_values(&["accbooks", name]).get();
    eventually("what stands before the row that waits is routed", || outcome("routed") == 3).await;
    assert!(way.told(), "the broker took all it was asked to");
    // The router has had nothing to do meanwhile, and does not take the row that waits for one it is done with.
    registry.tried(3).await;
    let committed = Committed::of_router(&installation);
    assert_eq!(block_in_place(|| committed.of_accbooks(&installation)).unwrap()[0].0, 3);
    registry.open();
    eventually("so is that", || outcome("routed") == 4).await;
    assert_eq!(restored(), 1, "the router has gone on, not begun anew");
    stop.cancel();
    running.await.unwrap().unwrap();
    let records = installation.records("invoices").await;
    let records: Vec<&str> = records.iter().filter_map(|row| row.headers.get("ce_id")).collect();
    assert_eq!(records, ids);
}
