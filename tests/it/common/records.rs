//! Records as the router makes them of events, and their way to delivery.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::time::Duration;

use ledgerhook::config::Config;
use ledgerhook::delivery::{self, Settings};
use ledgerhook::event::{Attempt, DeadLetter, Envelope, Evidence, Origin, Record, Sha256, Timestamp};
use ledgerhook::kafka::headers::Headers;
use ledgerhook::kafka::produce::{Outgoing, Producer};
use ledgerhook::kafka::records;
use ledgerhook::router::mapping::Mapper;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::Installation;

/// The record of an event of this type with these members, and an id of its own.
pub(crate) fn record(event_type: &str, members: &Value) -> Record {
    try_record(event_type, &format!("evt_{}", uuid::Uuid::now_v7().simple()), members).unwrap()
}

/// The record of the event of this id; none where it would go into quarantine.
pub(crate) fn try_record(event_type: &str, event_id: &str, members: &Value) -> Option<Record> {
    let routes = Config::defaults().unwrap_or_else(|faults| panic!("{faults}")).routes;
    let source = routes.iter().find(|route| route.event_type == event_type).unwrap().source.clone();
    let mapper = Mapper::new([("accelex", "accelex"), ("accbooks", "accbooks")], &routes).unwrap();
    let body = match source.as_str() {
        "accelex" => json!({ "event_id": event_id, "event_type": event_type, "outcome": members }),
        _ => json!({ "id": event_id, "type": event_type, "data": members }),
    };
    let body = body.to_string().into_bytes();
    let envelope = Envelope {
        event_id: event_id.to_owned(),
        source,
        event_type: event_type.to_owned(),
        occurred_at: Some(Timestamp::from_micros(1_777_713_243_120_000)),
        received_at: Timestamp::now(),
        content_type: None,
        body_sha256: Sha256::of(&body),
        body: body.into(),
        unusable: None,
        test: None,
        evidence: Evidence::absent(),
        origin: Origin::Live,
    };
    mapper.map(&envelope).ok()
}

/// The value of a record in its topic.
pub(crate) fn encoded(installation: &Installation, record: &Record) -> Vec<u8> {
    let encoder = installation.encoders.of(record.topic()).unwrap();
    records::encode(encoder, record).unwrap()
}

/// Writes records to their topics, in this order.
pub(crate) async fn produce(installation: &Installation, records: &[Record]) {
    let cluster = &installation.ground.cluster;
    let producer = Producer::new(cluster, Duration::from_secs(30), Duration::from_millis(1)).unwrap();
    for record in records {
        let row = Outgoing {
            topic: cluster.topic(record.topic()),
            partition: None,
            key: format!("{}/{}", record.source(), record.entity_id()).into_bytes(),
            value: encoded(installation, record),
            headers: Headers::default(),
            timestamp_ms: None,
        };
        producer.send(&row).await.unwrap();
    }
}

/// Starts delivery to every target of the installation.
pub(crate) fn deliver(installation: &Installation) -> JoinHandle<Result<(), delivery::Error>> {
    let settings = Settings {
        delivery: installation.config.delivery.clone(),
        targets: installation.config.targets.values().cloned().collect(),
        shutdown_budget: Duration::from_secs(20),
    };
    tokio::spawn(delivery::run(settings, installation.ground.clone(), installation.role("delivery")))
}

/// How many records a target has, by the metrics: delivered, or found there.
pub(crate) fn ended(metrics: &str, target: &str) -> usize {
    let count = |outcome: &str| {
        let series = format!(r#"ledgerhook_delivery_attempts_total{{outcome="{outcome}",target="{target}"}} "#);
        metrics.lines().find_map(|line| line.strip_prefix(&series)?.parse::<usize>().ok()).unwrap_or(0)
    };
    count("delivered") + count("duplicate")
}

/// Every attempt so far.
pub(crate) async fn attempts(installation: &Installation) -> Vec<Attempt> {
    decoded(installation, "attempts").await
}

/// Every dead letter so far.
pub(crate) async fn dead_letters(installation: &Installation) -> Vec<DeadLetter> {
    decoded(installation, "dead-letters").await
}

async fn decoded<T: serde::de::DeserializeOwned>(installation: &Installation, topic: &str) -> Vec<T> {
    let decoder = installation.ground.decoder();
    let mut all = Vec::new();
    for row in installation.records(topic).await {
        all.push(decoder.decode(row.value.as_deref()).await.unwrap());
    }
    all
}
