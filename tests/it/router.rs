//! The router on real Kafka: what goes in as `received` comes out once, as what it should.
#![expect(clippy::unwrap_used, reason = "the lint's allowance for tests does not reach their helpers")]

mod abort;
mod ends;
mod handover;
mod outage;
mod places;
mod registry;
mod replay;
mod state;
mod storm;

use std::collections::BTreeMap;
use std::time::Duration;

use ledgerhook::event::{Envelope, Evidence, InvoiceRecord, Origin, Quarantined, Seen, SeenState, Sha256, Timestamp};
use ledgerhook::kafka::headers::Headers;
use ledgerhook::kafka::produce::{Outgoing, Producer};
use ledgerhook::{router, topics};

use crate::common::{Installation, eventually, install};

pub(crate) fn envelope(event_id: &str, event_type: &str, body: &str) -> Envelope {
    Envelope {
        event_id: event_id.into(),
        source: "accbooks".into(),
        event_type: event_type.into(),
        occurred_at: Some(Timestamp::from_micros(1)),
        received_at: Timestamp::now(),
        content_type: Some("application/json".into()),
        body: body.to_owned().into(),
        body_sha256: Sha256::of(body.as_bytes()),
        unusable: None,
        test: None,
        evidence: Evidence {
            signature_header: "accbooks-signature".into(),
            signature_value: "sha256=00".into(),
            algorithm: "hmac-sha256".into(),
            key_id: "b1".into(),
            remote_address: "127.0.0.1".into(),
            client_certificate_sha256: None,
            request_id: "r".into(),
            receiver_id: "receiver-test".into(),
            headers: BTreeMap::new(),
        },
        origin: Origin::Live,
    }
}

pub(crate) fn invoice(event_id: &str, invoice_id: &str, amount: &str) -> Envelope {
    let body = format!(r#"{{"id":"{event_id}","data":{{"invoice_id":"{invoice_id}","amount":{amount}}}}}"#);
    envelope(event_id, "invoice.paid", &body)
}

pub(crate) struct Feeder<'a> {
    installation: &'a Installation,
    producer: Producer,
}

impl<'a> Feeder<'a> {
    pub(crate) fn new(installation: &'a Installation) -> Self {
        let producer =
            Producer::new(&installation.ground.cluster, Duration::from_secs(10), Duration::from_millis(1)).unwrap();
        Self { installation, producer }
    }

    pub(crate) async fn raw(&self, key: &str, value: Vec<u8>) {
        let headers = Headers::default().with("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let topic = self.installation.ground.cluster.topic("received.accbooks");
        let record = Outgoing { topic, partition: None, key: key.into(), value, headers, timestamp_ms: None };
        // What a broker did not answer for may stand there: a repeat is one more duplicate.
        for _ in 0..6 {
            if self.producer.send(&record).await.is_ok() {
                return;
            }
        }
        self.producer.send(&record).await.unwrap();
    }

    pub(crate) async fn feed(&self, envelope: &Envelope) {
        let value = self.installation.encoders.of("received.accbooks").unwrap().encode(envelope).unwrap();
        self.raw(&envelope.event_id, value).await;
    }
}

fn settings(installation: &Installation) -> router::Settings {
    router::Settings {
        router: installation.config.router.clone(),
        sources: installation.config.sources.values().map(|s| (s.name.clone(), s.routes.clone())).collect(),
        routes: installation.config.routes.clone(),
        data_dir: installation.data_dir.path().to_owned(),
    }
}

/// Runs a router until `total` rows have had an outcome, then stops it.
async fn route(installation: &Installation, total: u64) {
    let role = installation.role("router");
    let (metrics, stop) = (std::sync::Arc::clone(&role.metrics), tokio_util::sync::CancellationToken::new());
    let role = ledgerhook::lifecycle::Role { stop: stop.clone(), ..role };
    let running = tokio::spawn(router::run(settings(installation), std::sync::Arc::clone(&installation.ground), role));
    let outcomes = || -> u64 {
        let names = ["routed", "duplicate", "quarantined", "discarded", "test"];
        names.iter().map(|o| metrics.router_events.with_label_values(&["accbooks", o]).get()).sum()
    };
    eventually("every row has an outcome", || outcomes() >= total).await;
    stop.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(outcomes(), total);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_row_ends_in_one_outcome_and_each_id_in_one_record() {
    let installation = install("").await;
    let feeder = Feeder::new(&installation);
    feeder.feed(&invoice("e1", "inv_1", "2500.00")).await;
    feeder.feed(&invoice("e1", "inv_1", "2500.00")).await;
    feeder.feed(&invoice("e1", "inv_1", "2500.01")).await;
    feeder.feed(&invoice("e1", "inv_1", "2500.01")).await;
    feeder.feed(&invoice("e2", "inv_1", "1e400")).await;
    feeder.feed(&envelope("e3", "moon.landed", "{}")).await;
    feeder.feed(&Envelope { unusable: Some("not_json".into()), ..envelope("e4", "", "<xml/>") }).await;
    feeder.feed(&Envelope { test: Some("event_type".into()), ..invoice("e5", "inv_1", "1") }).await;
    feeder.raw("e6", b"not avro".to_vec()).await;
    feeder.raw("e7", vec![0, 0xff, 0xff, 0xff, 0xf0, 1]).await;
    feeder.feed(&invoice("e8", "inv_1", "3")).await;
    route(&installation, 11).await;

    let outcome = |name: &str| installation.metrics.router_events.with_label_values(&["accbooks", name]).get();
    assert_eq!((outcome("routed"), outcome("duplicate"), outcome("quarantined"), outcome("test")), (2, 2, 6, 1));

    let decoder = installation.ground.decoder();
    let records = installation.records("invoices").await;
    let mut ids = Vec::new();
    for row in &records {
        let record: InvoiceRecord = decoder.decode(row.value.as_deref()).await.unwrap();
        assert_eq!(row.key.as_deref(), Some(b"accbooks/inv_1".as_slice()));
        assert_eq!(row.headers.get("ce_id"), Some(record.event_id.as_str()));
        assert_eq!(row.headers.get("ce_subject"), Some("inv_1"));
        assert_eq!(row.headers.get("ce_type"), Some("invoice.paid"));
        assert_eq!(row.headers.get("ce_source"), Some("accbooks"));
        assert_eq!(row.headers.get("content-type"), Some("application/avro"));
        assert_eq!(row.headers.get("traceparent"), Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
        ids.push((record.event_id, record.total_amount.unwrap().to_string()));
    }
    ids.sort();
    assert_eq!(ids, [("e1".to_owned(), "2500".to_owned()), ("e8".to_owned(), "3".to_owned())]);

    let mut reasons = Vec::new();
    for row in installation.records("quarantine").await {
        let aside: Quarantined = decoder.decode(row.value.as_deref()).await.unwrap();
        assert_eq!(row.headers.get("lh_reason"), Some(aside.reason.as_str()));
        if aside.envelope.event_id == "e6" {
            assert_eq!(aside.envelope.body, &b"not avro"[..]);
        }
        reasons.push((aside.envelope.event_id, aside.reason));
    }
    reasons.sort();
    let reasons: Vec<(&str, &str)> = reasons.iter().map(|(id, reason)| (id.as_str(), reason.as_str())).collect();
    let expected = [
        ("e1", "body_mismatch"),
        ("e2", "amount_out_of_range"),
        ("e3", "unknown_event_type"),
        ("e4", "not_json"),
        ("e6", "undecodable"),
        ("e7", "undecodable"),
    ];
    assert_eq!(reasons, expected);

    let received: BTreeMap<Option<Vec<u8>>, i32> =
        installation.records("received.accbooks").await.into_iter().map(|r| (r.key, r.partition.number)).collect();
    for row in installation.records("seen.accbooks").await {
        assert_eq!(received.get(&row.key), Some(&row.partition.number), "a marker stands beside its event");
        let seen: Seen = decoder.decode(row.value.as_deref()).await.unwrap();
        if row.key.as_deref() == Some(b"e5") {
            assert_eq!(seen.state, SeenState::Test);
        }
    }
}

/// Rows as no receiver writes them: what is kept of each fits where it has to go, and none stops the next.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_to_be_kept_twice_is_set_aside_without_its_body() {
    let installation = install("").await;
    let feeder = Feeder::new(&installation);
    const HUGE: usize = topics::MAX_RECORD_BYTES as usize - 40 * 1024;
    let long = "k".repeat(HUGE / 8);
    feeder.raw("junk", vec![b'x'; HUGE]).await;
    feeder.raw(&long, b"junk under a key of half a MiB".to_vec()).await;
    feeder.feed(&invoice(&long, "inv_1", "1")).await;
    let note = "n".repeat(HUGE - 4096);
    let body = format!(r#"{{"id":"large","data":{{"invoice_id":"inv_1","amount":1,"note":"{note}"}}}}"#);
    feeder.feed(&envelope("large", "invoice.paid", &body)).await;
    // The store keeps something else under the empty id.
    feeder.raw("", b"junk under an empty key".to_vec()).await;
    feeder.feed(&invoice("", "inv_1", "1")).await;
    feeder.feed(&envelope("typed", &"t".repeat(HUGE / 2), "{}")).await;
    feeder.feed(&invoice("after", "inv_1", "1")).await;
    route(&installation, 8).await;

    let routed: Vec<_> =
        installation.records("invoices").await.iter().map(|r| r.headers.get("ce_id").map(str::to_owned)).collect();
    assert_eq!(routed, [Some("after".to_owned())]);
    let decoder = installation.ground.decoder();
    let mut aside = Vec::new();
    for row in installation.records("quarantine").await {
        let kept: Quarantined = decoder.decode(row.value.as_deref()).await.unwrap();
        let place = (kept.received_partition, kept.received_offset);
        let received = installation.records("received.accbooks").await;
        let whole = received.iter().find(|row| (row.partition.number, row.offset) == place).unwrap();
        assert!(whole.value.is_some(), "what it stands for is where it says");
        let id = if kept.envelope.event_id.len() < 10 { kept.envelope.event_id.clone() } else { panic!("{place:?}") };
        let id = if id.contains('-') || id == "typed" { "by its place".to_owned() } else { id };
        let is_told = kept.detail.is_some_and(|detail| detail.contains("kept in `received` alone"));
        aside.push((id, kept.reason, kept.envelope.body.is_empty(), is_told));
    }
    aside.sort();
    let row = |id: &str, reason: &str, cut: bool| (id.to_owned(), reason.to_owned(), cut, cut);
    let place = row("by its place", "undecodable", false);
    let places = || [place.clone(), place.clone(), place.clone(), place.clone(), place.clone()];
    let expected =
        [&places()[..], &[row("junk", "undecodable", true), row("large", "record_too_large", true)]].concat();
    assert_eq!(aside, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_router_knows_what_its_predecessor_took() {
    let installation = install("").await;
    let feeder = Feeder::new(&installation);
    for n in 0..50 {
        feeder.feed(&invoice(&format!("e{n}"), "inv", "1")).await;
    }
    route(&installation, 50).await;
    for n in 0..60 {
        feeder.feed(&invoice(&format!("e{n}"), "inv", "1")).await;
    }
    route(&installation, 110).await;
    let records = installation.records("invoices").await;
    let ids: std::collections::BTreeSet<_> =
        records.iter().map(|r| r.headers.get("ce_id").map(str::to_owned)).collect();
    assert_eq!((records.len(), ids.len()), (60, 60));
}
