//! How far a target's reader is from losing records to retention.

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;

use super::*;

/// Gives the invoices' topic another retention, as an operator would.
async fn retain_invoices(installation: &Installation, retention_ms: &str) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", installation.config.kafka.bootstrap_servers.join(","));
    let client: AdminClient<DefaultClientContext> = config.create().unwrap();
    let topic = installation.ground.cluster.topic("invoices");
    // Altering replaces every setting of the topic.
    let alter = AlterConfig::new(ResourceSpecifier::Topic(&topic))
        .set("cleanup.policy", "delete")
        .set("max.message.bytes", "4194304")
        .set("retention.ms", retention_ms);
    for altered in client.alter_configs([&alter], &AdminOptions::new()).await.unwrap() {
        altered.unwrap();
    }
}

/// What the metric says of a target, where it says anything.
fn left(installation: &Installation, target: &str) -> Option<f64> {
    let series = format!("ledgerhook_delivery_retention_seconds{{target=\"{target}\"}} ");
    installation.metrics.render().lines().find_map(|line| line.strip_prefix(&series)?.parse().ok())
}

/// A target that is down has an open record, so that the lowered retention shows until it is delivered; at one that
/// fails with the record it is parked, which no retention deletes.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_record_counts_down_and_a_parked_one_does_not() {
    let failing = FaultyTarget::start(|_| Reply::Status(500)).await;
    let down = FaultyTarget::reserve().await;
    let targets = [webhook("erp", &failing.url, QUICK), webhook("down", &down.url(), QUICK)].concat();
    let installation = install(&targets).await;
    retain_invoices(&installation, "3600000").await;
    let role = start(&installation);
    produce(&installation, [invoice("inv-01", 0)]).await;
    let parked = || installation.metrics.delivery_parked_keys.with_label_values(&["erp"]).get() == 1;
    eventually("the failing key is parked", parked).await;
    let about_an_hour = || left(&installation, "down").is_some_and(|left| (3_400.0..=3_600.0).contains(&left));
    eventually("an hour is left", about_an_hour).await;
    eventually("what is parked does not count", || left(&installation, "erp").is_none()).await;

    let down = down.open(|_| Reply::Status(200)).await;
    eventually("it is delivered", || down.taken().len() == 1).await;
    eventually("nothing is open", || left(&installation, "down").is_none()).await;
    stop(&installation, role).await;
}

/// A committed offset points at the mark that ended its transaction. Where retention takes that and all before it, nothing
/// was missed.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_outlived_its_records_is_gone_on_with() {
    let target = FaultyTarget::start(|_| Reply::Status(200)).await;
    let installation = install(&webhook("erp", &target.url, QUICK)).await;
    let run = async || {
        let token = tokio_util::sync::CancellationToken::new();
        let role = start_as(&installation, Role { stop: token.clone(), ..installation.role("delivery") });
        installation.ready("delivery").await;
        (token, role)
    };
    let end = async |(token, role): (tokio_util::sync::CancellationToken, JoinHandle<Result<(), delivery::Error>>)| {
        token.cancel();
        role.await.unwrap().unwrap();
    };
    for n in 0..2 {
        let running = run().await;
        transacted(&installation, &invoice("inv-01", n)).await;
        eventually("it is delivered", || target.taken().len() == n + 1).await;
        end(running).await;
        let records = installation.records("invoices").await;
        // The record, and the mark behind it.
        let all = records.iter().map(|row| (row.partition.number, row.offset + 2)).collect();
        installation.delete_before("invoices", &all).await;
        assert!(installation.records("invoices").await.is_empty());
    }
    // Where it went on is written down, or what comes while nobody delivers would seem to stand behind a gap.
    end(run().await).await;
    transacted(&installation, &invoice("inv-01", 2)).await;
    let running = run().await;
    eventually("it is delivered", || target.taken().len() == 3).await;
    end(running).await;
}

/// Writes a record as routers do.
async fn transacted(installation: &Installation, record: &InvoiceRecord) {
    let row = Outgoing {
        topic: installation.ground.cluster.topic("invoices"),
        partition: None,
        key: format!("{}/{}", record.source, record.entity_id).into_bytes(),
        value: installation.encoders.of("invoices").unwrap().encode(record).unwrap(),
        headers: Headers::default(),
        timestamp_ms: None,
    };
    let cluster = installation.ground.cluster.clone();
    tokio::task::spawn_blocking(move || {
        let transactions = Transactions::open(&cluster, "test", Duration::from_secs(10)).unwrap();
        transactions.begin().unwrap();
        transactions.send(&row).unwrap();
        transactions.commit(&|_| {}).unwrap();
    })
    .await
    .unwrap();
}
