//! Ends of transactions in `received`: they are read over, and retention takes them.

use std::collections::BTreeMap;
use std::sync::Arc;

use ledgerhook::lifecycle::Role;
use ledgerhook::router;
use tokio_util::sync::CancellationToken;

use super::{Feeder, envelope, invoice, settings};
use crate::common::process::run;
use crate::common::{eventually, install, routed};

/// An operator's word is written in a transaction, and an offset behind its row stands before the transaction's end: when
/// all of it is deleted for its age, that offset is in no partition.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_retention_empties_behind_an_operators_word_goes_on() {
    let installation = install("").await;
    let feeder = Feeder::new(&installation);
    let serve = || {
        let role = Role { stop: CancellationToken::new(), ..installation.role("router") };
        let stop = role.stop.clone();
        let running = tokio::spawn(router::run(settings(&installation), Arc::clone(&installation.ground), role));
        async move || {
            stop.cancel();
            running.await.unwrap().unwrap();
        }
    };
    let outcome = |name: &str| installation.metrics.router_events.with_label_values(&["accbooks", name]).get();

    feeder.feed(&envelope("e1", "moon.landed", "{}")).await;
    let stop = serve();
    eventually("it is set aside", || outcome("quarantined") == 1).await;
    let done = run(&installation.file(), &["quarantine", "replay", "e1", "--yes"]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    eventually("it is set aside again", || outcome("quarantined") == 2).await;
    routed(&installation).await;
    stop().await;

    let partition = &installation.records("received.accbooks").await[0].partition;
    // Two rows and an end.
    installation.delete_before("received.accbooks", &BTreeMap::from([(partition.number, 3)])).await;
    let stop = serve();
    installation.ready("router").await;
    feeder.feed(&invoice("e1", "inv", "1")).await;
    eventually("its next row is read", || outcome("quarantined") == 3).await;
    routed(&installation).await;
    stop().await;
}
