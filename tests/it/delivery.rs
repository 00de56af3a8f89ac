//! Delivery against real Kafka and a target that fails on purpose.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod deaths;
mod described;
mod limits;
mod once;
mod parked;
mod replayed;
mod retention;
mod shared;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hmac::{KeyInit as _, Mac as _};
use ledgerhook::delivery::{self, Settings};
use ledgerhook::event::{
    Attempt, AttemptOutcome, DeadLetter, Direction, InvoiceRecord, InvoiceStatus, Record, Sha256, Timestamp,
};
use ledgerhook::kafka::group::{Incoming, Member, Polled, Start};
use ledgerhook::kafka::headers::Headers;
use ledgerhook::kafka::produce::{Outgoing, Producer};
use ledgerhook::kafka::transaction::Transactions;
use ledgerhook::lifecycle::Role;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinHandle;

use crate::common::faulty::{FaultyTarget, Reply, Request};
use crate::common::{Installation, SIGNING_SECRET, eventually, install};

/// A webhook target at this address that takes invoices.
fn webhook(name: &str, url: &str, more: &str) -> String {
    format!(
        r#"
[targets.{name}]
preset = "webhook"
records = ["invoices"]
start = "earliest"
url = "{url}"
allow_private_addresses = true
signing_secret = "env:TEST_SIGNING_SECRET"
timeout = "5s"
{more}
"#
    )
}

const QUICK: &str = r#"retry = { first = "100ms", max = "400ms", give_up_after = "1h" }"#;

/// Starts delivery; the handle gives its result, aborting it is as good as a crash.
fn start(installation: &Installation) -> JoinHandle<Result<(), delivery::Error>> {
    start_as(installation, installation.role("delivery"))
}

fn start_as(installation: &Installation, role: Role) -> JoinHandle<Result<(), delivery::Error>> {
    let settings = Settings {
        delivery: installation.config.delivery.clone(),
        targets: installation.config.targets.values().cloned().collect(),
        shutdown_budget: Duration::from_secs(20),
    };
    tokio::spawn(delivery::run(settings, installation.ground.clone(), role))
}

async fn stop(installation: &Installation, role: JoinHandle<Result<(), delivery::Error>>) {
    installation.stop.cancel();
    role.await.unwrap().unwrap();
}

fn invoice(entity: &str, number: usize) -> InvoiceRecord {
    InvoiceRecord {
        event_id: format!("evt-{entity}-{number:04}"),
        source: "accelex".to_owned(),
        event_type: "invoice.resolved".to_owned(),
        entity_id: entity.to_owned(),
        occurred_at: Some(Timestamp::from_micros(1_777_000_000_000_000)),
        received_at: Timestamp::now(),
        body_sha256: Sha256::of(b"{}"),
        work_unit_id: None,
        provenance: None,
        validation: Vec::new(),
        attributes: "{}".to_owned(),
        direction: Direction::Payable,
        status: InvoiceStatus::Resolved,
        invoice_id: Some(entity.to_owned()),
        invoice_number: Some(number.to_string()),
        customer_id: None,
        supplier: None,
        purchase_order: None,
        issue_date: None,
        due_date: None,
        currency: Some("EUR".to_owned()),
        total_amount: Some("12.340000001".parse().unwrap()),
        tax_amount: None,
        lines: Vec::new(),
        decision: None,
        anomalies: Vec::new(),
        issued_at: None,
        sent_at: None,
        paid_at: None,
        due_at: None,
    }
}

/// Writes invoices to their topic, in this order.
async fn produce(installation: &Installation, invoices: impl IntoIterator<Item = InvoiceRecord>) {
    let encoder = installation.encoders.of("invoices").unwrap();
    let rows = invoices.into_iter().map(|invoice| {
        let key = format!("{}/{}", invoice.source, invoice.entity_id);
        (key, encoder.encode(&invoice).unwrap())
    });
    produce_raw(installation, rows).await;
}

async fn produce_raw(installation: &Installation, rows: impl IntoIterator<Item = (String, Vec<u8>)>) {
    produce_to(installation, "invoices", rows).await;
}

async fn produce_to(installation: &Installation, topic: &str, rows: impl IntoIterator<Item = (String, Vec<u8>)>) {
    let cluster = &installation.ground.cluster;
    let producer = Producer::new(cluster, Duration::from_secs(30), Duration::from_millis(1)).unwrap();
    for (key, value) in rows {
        let row = Outgoing {
            topic: cluster.topic(topic),
            partition: None,
            key: key.into_bytes(),
            value,
            headers: Headers::default(),
            timestamp_ms: None,
        };
        producer.send(&row).await.unwrap();
    }
}

/// `count` records of `keys` entities, dealt out in turn.
fn dealt(keys: usize, count: usize) -> Vec<InvoiceRecord> {
    (0..count).map(|i| invoice(&format!("inv-{:02}", i % keys), i / keys)).collect()
}

async fn attempts(installation: &Installation) -> Vec<Attempt> {
    decoded(installation, installation.records("attempts").await).await
}

async fn dead_letters(installation: &Installation) -> Vec<DeadLetter> {
    decoded(installation, installation.records("dead-letters").await).await
}

async fn decoded<T: serde::de::DeserializeOwned>(installation: &Installation, rows: Vec<Incoming>) -> Vec<T> {
    let decoder = installation.ground.decoder();
    let mut all = Vec::new();
    for row in rows {
        all.push(decoder.decode(row.value.as_deref()).await.unwrap());
    }
    all
}

fn entity(event_id: &str) -> &str {
    event_id.rsplit_once('-').unwrap().0
}

/// No key's record was sent before all earlier ones of the key had been taken.
fn assert_in_order(requests: &[Request]) {
    let mut taken: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut met: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for request in requests {
        let (key, id) = (entity(&request.id), request.id.as_str());
        met.entry(key).or_default().insert(id);
        let taken = taken.entry(key).or_default();
        assert_eq!(met[key].last(), Some(&id), "{id} was sent again behind its successor");
        for earlier in met[key].range(..id) {
            assert!(taken.contains(earlier), "{id} was sent before {earlier} had been taken");
        }
        let number: usize = id.rsplit_once('-').unwrap().1.parse().unwrap();
        assert!(taken.len() >= number, "{id} was sent with only {} taken before it", taken.len());
        if request.reply.takes() {
            taken.insert(id);
        }
    }
}

/// What a receiver does with the signature, written from the specification rather than with our code.
fn assert_signed(request: &Request) {
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD;
    let key = base64.decode(SIGNING_SECRET.strip_prefix("whsec_").unwrap()).unwrap();
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("{}.{}.", request.id, request.header("webhook-timestamp")).as_bytes());
    mac.update(&request.body);
    let signature = request.header("webhook-signature").strip_prefix("v1,").unwrap().to_owned();
    mac.verify_slice(&base64.decode(signature).unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn through_faults_in_order_once_and_accounted_for() {
    let rng = std::sync::Mutex::new(SmallRng::seed_from_u64(42));
    let target = FaultyTarget::start(move |_| match rng.lock().unwrap().random_range(0..100) {
        0..60 => Reply::Status(200),
        60..72 => Reply::Status(500),
        72..84 => Reply::Status(503),
        84..92 => Reply::Cut,
        92..98 => Reply::TakeAndCut,
        _ => Reply::RetryAfter(429, "1".to_owned()),
    })
    .await;
    let installation = install(&webhook("erp", &target.url, QUICK)).await;
    let role = start(&installation);
    installation.ready("delivery").await;
    let records = dealt(50, 300);
    let ids: BTreeSet<String> = records.iter().map(|r| r.event_id.clone()).collect();
    let bodies: BTreeMap<String, serde_json::Value> = records
        .iter()
        .map(|r| (r.event_id.clone(), ledgerhook::event::ToJson::to_json(&Record::from(r.clone()))))
        .collect();
    produce(&installation, records).await;
    eventually("all taken", || target.taken() == ids).await;
    let active = || installation.metrics.target_state.with_label_values(&["erp", "active"]).get() == 1;
    eventually("the target works again", || active() && target.idle_for(Duration::from_secs(2))).await;
    stop(&installation, role).await;

    let requests = target.requests();
    assert_in_order(&requests);
    for request in &requests {
        assert_signed(request);
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(body, bodies[&request.id]);
        assert_eq!(body["total_amount"], "12.340000001");
    }
    assert_eq!(dead_letters(&installation).await, []);

    let mut by_id: BTreeMap<String, Vec<Attempt>> = BTreeMap::new();
    for attempt in attempts(&installation).await {
        by_id.entry(attempt.event_id.clone()).or_default().push(attempt);
    }
    assert_eq!(by_id.keys().cloned().collect::<BTreeSet<_>>(), ids);
    for (id, attempts) in &by_id {
        let sent: Vec<&Request> = requests.iter().filter(|r| r.id == *id).collect();
        assert_eq!(attempts.len(), sent.len(), "{id}");
        for (i, (attempt, request)) in attempts.iter().zip(&sent).enumerate() {
            assert_eq!(attempt.n, i32::try_from(i + 1).unwrap());
            let (status, outcome, reason) = match &request.reply {
                Reply::Status(200) => (Some(200), AttemptOutcome::Delivered, "http_200".to_owned()),
                Reply::Status(s) | Reply::Late(s, _) => {
                    (Some(i32::from(*s)), AttemptOutcome::Retry, format!("http_{s}"))
                }
                Reply::RetryAfter(..) => (Some(429), AttemptOutcome::RateLimited, "http_429".to_owned()),
                Reply::Cut | Reply::TakeAndCut => (None, AttemptOutcome::Unresolved, "connection_cut".to_owned()),
            };
            assert_eq!((attempt.status, attempt.outcome, &attempt.reason), (status, outcome, &reason));
            assert_eq!(attempt.next_try_at.is_none(), outcome == AttemptOutcome::Delivered);
            assert_eq!(attempt.worker_id, "delivery-test");
            assert_eq!(attempt.record_key, format!("accelex/{}", &entity(id)["evt-".len()..]));
        }
    }
    let headers = &installation.records("attempts").await[0].headers;
    assert_eq!((headers.get("ce_source"), headers.get("ce_type")), (Some("accelex"), Some("invoice.resolved")));

    // The group stands behind everything: the next record it sees is the marker.
    produce(&installation, [invoice("marker", 0)]).await;
    let (cluster, topic) = (installation.ground.cluster.clone(), installation.ground.cluster.topic("invoices"));
    let first = tokio::task::spawn_blocking(move || {
        let mut member = Member::join(&cluster, "delivery.erp", "delivery-test", &[topic], Start::Earliest).unwrap();
        loop {
            if let Polled::Record(record) = member.poll(Duration::from_millis(100)).unwrap() {
                return record;
            }
        }
    });
    assert_eq!(first.await.unwrap().key.unwrap(), b"accelex/marker");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_and_undecodable_records_become_dead_letters_and_the_key_goes_on() {
    let target = FaultyTarget::start(|request: &Request| {
        let refused = request.id == "evt-inv-00-0001";
        Reply::Status(if refused { 422 } else { 200 })
    })
    .await;
    let installation = install(&webhook("erp", &target.url, QUICK)).await;
    let key = "accelex/inv-00".to_owned();
    produce(&installation, [invoice("inv-00", 0), invoice("inv-00", 1)]).await;
    produce_raw(&installation, [(key, b"no Avro at all".to_vec())]).await;
    produce(&installation, [invoice("inv-00", 2)]).await;
    let role = start(&installation);
    eventually("the last one taken", || target.taken().contains("evt-inv-00-0002")).await;
    stop(&installation, role).await;

    assert_eq!(target.requests().iter().filter(|r| r.id == "evt-inv-00-0001").count(), 1, "no repeat of a refusal");
    let rows = installation.records("dead-letters").await;
    assert!(rows.iter().all(|row| row.key.as_deref() == Some(b"accelex/inv-00")));
    let mut letters = decoded::<DeadLetter>(&installation, rows).await;
    letters.sort_by_key(|letter| letter.record_offset);
    assert_eq!(letters.len(), 2);
    let refused = &letters[0];
    assert_eq!((refused.reason.as_str(), refused.attempts_total), ("rejected", 1));
    assert_eq!(refused.attempts[0].outcome, AttemptOutcome::Rejected);
    assert_eq!(refused.attempts[0].answer.as_deref(), Some("answer 422"));
    let Some(Record::Invoice(record)) = &refused.record else { panic!("{refused:?}") };
    assert_eq!(record.event_id, "evt-inv-00-0001");
    assert_eq!(record.total_amount, Some("12.340000001".parse().unwrap()));
    let undecodable = &letters[1];
    assert_eq!((undecodable.reason.as_str(), &undecodable.record), ("undecodable", &None));
    assert_eq!(undecodable.undecodable.as_deref(), Some(&b"no Avro at all"[..]));
    assert_eq!(attempts(&installation).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_or_held_follows_the_policy() {
    let target =
        FaultyTarget::start(|request: &Request| Reply::Status(if request.id == "evt-bad-0000" { 500 } else { 200 }))
            .await;
    let soon = r#"retry = { first = "100ms", max = "200ms", give_up_after = "1s" }"#;
    let drop = webhook("drop", &format!("{}drop", target.url), soon);
    let hold = webhook("hold", &format!("{}hold", target.url), &format!("{soon}\non_give_up = \"hold\""));
    let installation = install(&format!("{drop}{hold}")).await;
    let role = start(&installation);
    produce(&installation, [invoice("bad", 0), invoice("bad", 1), invoice("good", 0)]).await;
    let at = |path: &str, id: &str| target.requests().iter().filter(|r| r.path == path && r.id == id).count();
    eventually("the given-up one's successor", || at("/drop", "evt-bad-0001") == 1).await;
    eventually("the others of the holding target", || at("/hold", "evt-good-0000") == 1).await;
    let tried = at("/hold", "evt-bad-0000");
    eventually("further tries of the held one", || at("/hold", "evt-bad-0000") > tried + 3).await;
    stop(&installation, role).await;
    assert_eq!(at("/hold", "evt-bad-0001"), 0, "its successor waits");
    let letters = dead_letters(&installation).await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!((letters[0].target.as_str(), letters[0].reason.as_str()), ("drop", "gave_up"));
    assert_eq!(letters[0].attempts.len(), usize::try_from(letters[0].attempts_total).unwrap().min(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_tried_inside_a_window() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let target = FaultyTarget::start(move |_| match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        5 => Reply::RetryAfter(429, "2".to_owned()),
        15 => Reply::RetryAfter(503, "2".to_owned()),
        25 => {
            let date = std::time::SystemTime::now() + Duration::from_secs(3);
            Reply::RetryAfter(429, httpdate::fmt_http_date(date))
        }
        _ => Reply::Status(200),
    })
    .await;
    let installation = install(&webhook("erp", &target.url, "max_concurrency = 4")).await;
    produce(&installation, dealt(20, 60)).await;
    let role = start(&installation);
    eventually("all taken", || target.taken().len() == 60).await;
    stop(&installation, role).await;
    let attempts = attempts(&installation).await;
    let limited: Vec<&Attempt> = attempts.iter().filter(|a| a.outcome == AttemptOutcome::RateLimited).collect();
    assert_eq!(limited.len(), 3);
    for limit in limited {
        let ended = limit.started_at.plus(Duration::from_micros(u64::try_from(limit.duration_us).unwrap()));
        // Between the answer and its being taken in, others may still start.
        let from = ended.plus(Duration::from_millis(100));
        // A date has whole seconds.
        let until = ended.plus(Duration::from_millis(1900));
        let inside: Vec<_> = attempts.iter().filter(|a| a.started_at > from && a.started_at < until).collect();
        assert!(inside.is_empty(), "{limit:?}: {inside:?}");
    }
    assert_in_order(&target.requests());
}

/// Left out, accounted for, and in nobody's way.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_filter_leaves_out_ends_as_filtered() {
    let target = FaultyTarget::start(|_| Reply::Status(200)).await;
    let filter = "filter = \"record.event_id[-1] != '3'\"";
    let installation = install(&webhook("erp", &target.url, filter)).await;
    produce(&installation, dealt(5, 50)).await;
    let role = start(&installation);
    eventually("the others are taken", || target.taken().len() == 45).await;
    stop(&installation, role).await;
    let attempts = attempts(&installation).await;
    let left_out: BTreeSet<&str> = attempts
        .iter()
        .filter(|a| {
            a.outcome == AttemptOutcome::Filtered && a.reason == "filter" && a.n == 1 && a.next_try_at.is_none()
        })
        .map(|a| a.event_id.as_str())
        .collect();
    assert_eq!((left_out.len(), attempts.len(), target.requests().len()), (5, 50, 45));
    assert!(left_out.iter().all(|id| id.ends_with('3') && !target.taken().contains(*id)));
    assert_eq!(dead_letters(&installation).await, []);
    let said = delivery::run(
        Settings {
            delivery: installation.config.delivery.clone(),
            targets: installation
                .config
                .targets
                .values()
                .cloned()
                .map(|target| ledgerhook::config::Target { filter: Some("record.amount >".to_owned()), ..target })
                .collect(),
            shutdown_budget: Duration::from_secs(1),
        },
        installation.ground.clone(),
        installation.role("delivery"),
    )
    .await;
    let said = said.unwrap_err().to_string();
    assert!(said.contains("erp") && said.contains("filter"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_target_holds_back_only_itself() {
    let target = FaultyTarget::start(|_| Reply::Status(200)).await;
    let closed = FaultyTarget::reserve().await;
    let soon = r#"retry = { first = "100ms", max = "1s", give_up_after = "1s" }"#;
    let installation =
        install(&format!("{}{}", webhook("up", &target.url, soon), webhook("down", &closed.url(), soon))).await;
    let role = start(&installation);
    produce(&installation, dealt(10, 100)).await;
    eventually("the other has all", || target.taken().len() == 100).await;
    let failed = || installation.metrics.delivery_attempts.with_label_values(&["down", "retry"]).get();
    eventually("a few tries", || failed() >= 20).await;
    let state = |state: &str| installation.metrics.target_state.with_label_values(&["down", state]).get();
    assert_eq!((state("unreachable"), state("waiting"), state("active")), (1, 0, 0));
    assert_eq!(dead_letters(&installation).await, []);
    let late = closed.open(|_| Reply::Status(200)).await;
    eventually("the late one has all", || late.taken().len() == 100).await;
    stop(&installation, role).await;
    assert_in_order(&late.requests());
    assert_eq!(dead_letters(&installation).await, []);
    assert!(attempts(&installation).await.iter().any(|a| a.target == "down" && a.reason == "connect_failed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_crashes_nothing_is_left_out() {
    let rng = std::sync::Mutex::new(SmallRng::seed_from_u64(7));
    let target = FaultyTarget::start(move |_| match rng.lock().unwrap().random_range(0..10) {
        0..9 => Reply::Status(200),
        _ => Reply::Status(500),
    })
    .await;
    let installation = install(&webhook("erp", &target.url, &format!("max_concurrency = 4\n{QUICK}"))).await;
    produce(&installation, dealt(30, 600)).await;
    for crash in 1..=3 {
        let role = start(&installation);
        eventually("some more", || target.taken().len() >= crash * 120).await;
        role.abort();
        assert!(role.await.unwrap_err().is_cancelled());
    }
    let role = start(&installation);
    eventually("all taken", || target.taken().len() == 600).await;
    stop(&installation, role).await;
    assert_in_order(&target.requests());
    assert_eq!(dead_letters(&installation).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_position_stops_its_target_alone() {
    let target = FaultyTarget::start(|_| Reply::Status(200)).await;
    let installation =
        install(&format!("{}{}", webhook("fine", &target.url, QUICK), webhook("lost", &target.url, QUICK))).await;
    let cluster = installation.ground.cluster.clone();
    let topics = [cluster.topic("invoices")];
    tokio::task::spawn_blocking(move || {
        let mut member = Member::join(&cluster, "delivery.lost", "delivery-test", &topics, Start::Earliest).unwrap();
        let partitions = loop {
            if let Polled::Gained(partitions) = member.poll(Duration::from_millis(100)).unwrap() {
                break partitions;
            }
        };
        let transactions = Transactions::open(&cluster, "test", Duration::from_secs(10)).unwrap();
        transactions.begin().unwrap();
        transactions.offsets(partitions.iter().map(|p| (p, 999)), member.metadata().unwrap()).unwrap();
        transactions.commit(&|_| {}).unwrap();
    })
    .await
    .unwrap();
    let role = start(&installation);
    let stopped = |name: &str| installation.metrics.target_state.with_label_values(&[name, "stopped"]).get();
    eventually("the one stops", || stopped("lost") == 1).await;
    produce(&installation, dealt(5, 20)).await;
    eventually("the other has all", || target.taken().len() == 20).await;
    assert_eq!(stopped("fine"), 0);
    let why = format!("{:?}", installation.health.states()["delivery"]);
    assert!(why.contains("target lost: stopped") && why.contains("out of range"), "{why}");
    assert_eq!(target.requests().len(), 20, "nothing came from the stopped one");
    stop(&installation, role).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_instance_comes_and_goes_without_a_repeat() {
    let target = FaultyTarget::start(|_| Reply::Status(200)).await;
    let installation = install(&webhook("erp", &target.url, &format!("max_concurrency = 4\n{QUICK}"))).await;
    let first = start(&installation);
    installation.ready("delivery").await;
    produce(&installation, dealt(30, 150)).await;
    let stop_second = installation.stop.child_token();
    let mut role = installation.role("second");
    (role.instance, role.stop) = ("second".to_owned(), stop_second.clone());
    let second = start_as(&installation, role);
    let again = |from: usize| dealt(30, 900).into_iter().skip(from).take(150).collect::<Vec<_>>();
    produce(&installation, again(150)).await;
    installation.ready("second").await;
    produce(&installation, again(300)).await;
    eventually("all until now", || target.taken().len() == 450).await;
    produce(&installation, again(450)).await;
    stop_second.cancel();
    second.await.unwrap().unwrap();
    produce(&installation, again(600)).await;
    eventually("all taken", || target.taken().len() == 750).await;
    stop(&installation, first).await;
    assert_in_order(&target.requests());
    assert_eq!(target.requests().len(), 750, "partitions handed over in order repeat nothing");
    let workers: BTreeSet<String> = attempts(&installation).await.into_iter().map(|a| a.worker_id).collect();
    assert_eq!(workers, BTreeSet::from(["delivery-test".to_owned(), "second".to_owned()]));
}
