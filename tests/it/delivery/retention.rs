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
