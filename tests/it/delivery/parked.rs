//! Parked keys, progress and crashes: what a deliverer knows survives it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ledgerhook::event::{Envelope, Evidence, Origin, Seen, SeenState};
use ledgerhook::ledger::Standing;
use ledgerhook::outcome::DeliveryState;
use ledgerhook::topics::POSITIONS;

use super::*;
use crate::common::process::Process;

/// A target that fails with some keys until it is mended.
async fn poisoned(keys: &'static [&'static str]) -> (FaultyTarget, Arc<AtomicBool>) {
    let mended = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&mended);
    let target = FaultyTarget::start(move |request| {
        let fails = keys.contains(&entity(&request.id)) && !seen.load(Ordering::SeqCst);
        Reply::Status(if fails { 500 } else { 200 })
    });
    (target.await, mended)
}

/// Keys of rows in `parked.erp` that no tombstone follows.
async fn waiting(installation: &Installation) -> BTreeSet<Vec<u8>> {
    let mut rows = BTreeSet::new();
    for row in installation.records("parked.erp").await {
        let key = row.key.unwrap();
        if row.value.is_some() {
            rows.insert(key);
        } else {
            rows.remove(&key);
        }
    }
    rows
}

fn parked_keys(installation: &Installation) -> i64 {
    installation.metrics.delivery_parked_keys.with_label_values(&["erp"]).get()
}

/// What a receiver and a router would have written of this record's event.
async fn routed(installation: &Installation, record: &InvoiceRecord) {
    let encode = |topic: &str| installation.encoders.of(topic).unwrap();
    let evidence = Evidence {
        signature_header: String::new(),
        signature_value: String::new(),
        algorithm: String::new(),
        key_id: String::new(),
        remote_address: String::new(),
        client_certificate_sha256: None,
        request_id: String::new(),
        receiver_id: String::new(),
        headers: BTreeMap::new(),
    };
    let envelope = Envelope {
        event_id: record.event_id.clone(),
        source: record.source.clone(),
        event_type: record.event_type.clone(),
        occurred_at: None,
        received_at: record.received_at,
        content_type: None,
        body: b"{}".as_slice().into(),
        body_sha256: record.body_sha256,
        unusable: None,
        test: None,
        evidence,
        origin: Origin::Live,
    };
    let seen = Seen {
        state: SeenState::Routed,
        body_sha256: vec![record.body_sha256],
        first_routed_at: record.received_at,
        record_topic: Some("invoices".to_owned()),
        record_key: Some(format!("{}/{}", record.source, record.entity_id)),
        decided: Vec::new(),
    };
    let row = |value| [(record.event_id.clone(), value)];
    let value = encode("received.accelex").encode(&envelope).unwrap();
    produce_to(installation, "received.accelex", row(value)).await;
    produce_to(installation, "seen.accelex", row(encode("seen.accelex").encode(&seen).unwrap())).await;
}

/// What `events show` says of an event at the target.
async fn state_of(installation: &Installation, event_id: &str) -> Standing {
    let (sources, targets) = (["accelex".to_owned()], [("erp".to_owned(), vec!["invoices".to_owned()])]);
    let traces = ledgerhook::ledger::trace(&installation.ground, &sources, &targets, event_id).await.unwrap();
    traces[0].states()[0].1
}

/// Stops this deliverer alone; `installation.stop` is for all.
async fn stop_one(stop: tokio_util::sync::CancellationToken, role: JoinHandle<Result<(), delivery::Error>>) {
    stop.cancel();
    role.await.unwrap().unwrap();
}

fn one(installation: &Installation) -> (tokio_util::sync::CancellationToken, JoinHandle<Result<(), delivery::Error>>) {
    let stop = installation.stop.child_token();
    let role = Role { stop: stop.clone(), ..installation.role("delivery") };
    (stop, start_as(installation, role))
}

/// Of ten keys one is poisoned, with more records than memory may hold: the others do not notice, a restart does not
/// forget, and once the target is mended its records come in order.
#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_key_parks_with_its_successors_and_others_flow() {
    let (target, mended) = poisoned(&["evt-inv-03"]).await;
    let small = "\n[delivery]\nread_ahead = 10\n";
    let installation = install(&format!("{}{small}", webhook("erp", &target.url, QUICK))).await;
    produce(&installation, dealt(10, 300)).await;
    let (stop_first, first) = one(&installation);
    eventually("all others", || target.taken().len() == 270).await;
    eventually("one key is parked", || parked_keys(&installation) == 1).await;
    stop_one(stop_first, first).await;
    assert_eq!(waiting(&installation).await.len(), 30);
    // Its head, one behind it, and one of the others.
    for (record, state) in [
        (invoice("inv-03", 0), DeliveryState::Parked),
        (invoice("inv-03", 29), DeliveryState::Parked),
        (invoice("inv-04", 0), DeliveryState::Delivered),
    ] {
        routed(&installation, &record).await;
        assert_eq!(state_of(&installation, &record.event_id).await, Standing::State(state), "{}", record.event_id);
    }
    let tries = |requests: &[Request]| requests.iter().filter(|r| r.id == "evt-inv-03-0000").count();
    let before = tries(&target.requests());

    let second = start(&installation);
    produce(&installation, dealt(10, 400).into_iter().skip(300)).await;
    eventually("new ones of the others", || target.taken().len() == 360).await;
    eventually("further tries", || tries(&target.requests()) > before + 2).await;
    assert!(target.requests().iter().all(|r| r.id == "evt-inv-03-0000" || entity(&r.id) != "evt-inv-03"));
    mended.store(true, Ordering::SeqCst);
    eventually("all taken", || target.taken().len() == 400).await;
    eventually("no key is parked", || parked_keys(&installation) == 0).await;
    stop(&installation, second).await;

    assert_in_order(&target.requests());
    assert_eq!(waiting(&installation).await, BTreeSet::new());
    assert_eq!(state_of(&installation, "evt-inv-03-0029").await, Standing::State(DeliveryState::Delivered));
    assert_eq!(dead_letters(&installation).await, []);
    let mut numbers: Vec<i32> =
        attempts(&installation).await.iter().filter(|a| a.event_id == "evt-inv-03-0000").map(|a| a.n).collect();
    numbers.sort_unstable();
    let whole: Vec<i32> = (1..=i32::try_from(tries(&target.requests())).unwrap()).collect();
    assert_eq!(numbers, whole, "numbers go on behind a restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_keys_keep_their_order_through_rebalance_and_crash() {
    let (target, mended) = poisoned(&["evt-inv-00", "evt-inv-01", "evt-inv-02", "evt-inv-03"]).await;
    let quick = format!("{QUICK}\nmax_concurrency = 4\nconnect_timeout = \"1s\"");
    let toml = webhook("erp", &target.url, &quick).replace("\ntimeout = \"5s\"", "\ntimeout = \"1s\"");
    let installation = install(&toml).await;
    let first = start(&installation);
    produce(&installation, dealt(20, 100)).await;
    eventually("the others", || target.taken().len() == 80).await;
    let mut role = installation.role("second");
    role.instance = "second".to_owned();
    let second = start_as(&installation, role);
    installation.ready("second").await;
    produce(&installation, dealt(20, 200).into_iter().skip(100)).await;
    eventually("the others again", || target.taken().len() == 160).await;
    // What it had comes back by the group's session timeout.
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    mended.store(true, Ordering::SeqCst);
    eventually("all taken", || target.taken().len() == 200).await;
    stop(&installation, second).await;
    assert_in_order(&target.requests());
    assert_eq!(waiting(&installation).await, BTreeSet::new());
    assert_eq!(dead_letters(&installation).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_fails_with_everything_is_asked_by_one_record_at_a_time() {
    let mended = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&mended);
    let target = FaultyTarget::start(move |_| Reply::Status(if seen.load(Ordering::SeqCst) { 200 } else { 503 })).await;
    let soon = r#"retry = { first = "100ms", max = "500ms", give_up_after = "1s" }"#;
    let installation = install(&webhook("erp", &target.url, soon)).await;
    let role = start(&installation);
    produce(&installation, dealt(40, 200)).await;
    let state = |state: &str| installation.metrics.target_state.with_label_values(&["erp", state]).get();
    eventually("the breaker opens", || state("failing") == 1).await;
    let before = target.requests().len();
    assert!(before < 60, "{before} tries before the breaker opened");
    // Much longer than `give_up_after`.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let probes = target.requests().len() - before;
    assert!((3..=40).contains(&probes), "{probes} probes in 4 s");
    mended.store(true, Ordering::SeqCst);
    eventually("all taken", || target.taken().len() == 200).await;
    assert_eq!((state("failing"), state("active")), (0, 1));
    stop(&installation, role).await;
    assert_in_order(&target.requests());
    assert_eq!(dead_letters(&installation).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_has_the_tries_of_every_process() {
    let (target, _) = poisoned(&["evt-bad"]).await;
    let soon = r#"retry = { first = "100ms", max = "300ms", give_up_after = "2s" }"#;
    let installation = install(&webhook("erp", &target.url, soon)).await;
    produce(&installation, [invoice("bad", 0), invoice("bad", 1)]).await;
    let (stop_first, first) = one(&installation);
    eventually("some tries", || target.requests().len() >= 3).await;
    stop_one(stop_first, first).await;
    let role = start(&installation);
    eventually("its successor is tried", || target.requests().iter().any(|r| r.id == "evt-bad-0001")).await;
    stop(&installation, role).await;
    let letters = dead_letters(&installation).await;
    let letter = letters.iter().find(|letter| letter.event_id == "evt-bad-0000").unwrap();
    let numbers: Vec<i32> = letter.attempts.iter().map(|a| a.n).collect();
    assert_eq!((letter.reason.as_str(), numbers), ("gave_up", (1..=letter.attempts_total).collect()));
    let sent = target.requests().iter().filter(|r| r.id == "evt-bad-0000").count();
    assert_eq!(usize::try_from(letter.attempts_total).unwrap(), sent);
}

/// Sets the group back to the beginning, as an operator's tool or its expiry would.
async fn forget_offsets(installation: &Installation) {
    let cluster = installation.ground.cluster.clone();
    let topics = [cluster.topic("invoices")];
    tokio::task::spawn_blocking(move || {
        let mut member = Member::join(&cluster, "delivery.erp", "delivery-test", &topics, Start::Earliest).unwrap();
        let partitions = loop {
            if let Polled::Gained(partitions) = member.poll(Duration::from_millis(100)).unwrap() {
                break partitions;
            }
        };
        let transactions = Transactions::open(&cluster, "test", Duration::from_secs(10)).unwrap();
        transactions.begin().unwrap();
        transactions.offsets(partitions.iter().map(|p| (p, 0)), member.metadata().unwrap()).unwrap();
        transactions.commit(&|_| {}).unwrap();
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_counts_where_the_group_has_forgotten() {
    let target = FaultyTarget::start(|_| Reply::Status(200)).await;
    let installation = install(&webhook("erp", &target.url, QUICK)).await;
    produce(&installation, dealt(10, 60)).await;
    let (stop_first, first) = one(&installation);
    eventually("all taken", || target.taken().len() == 60).await;
    stop_one(stop_first, first).await;
    forget_offsets(&installation).await;
    let role = start(&installation);
    produce(&installation, dealt(10, 70).into_iter().skip(60)).await;
    eventually("the new ones", || target.taken().len() == 70).await;
    stop(&installation, role).await;
    assert_eq!(target.requests().len(), 70, "nothing is sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_are_read_where_earlier_versions_wrote_them() {
    let target = FaultyTarget::start(|_| Reply::Status(200)).await;
    let installation = install(&webhook("erp", &target.url, QUICK)).await;
    produce(&installation, dealt(10, 60)).await;
    let (stop_first, first) = one(&installation);
    eventually("all taken", || target.taken().len() == 60).await;
    stop_one(stop_first, first).await;
    let rows = installation.records("progress.erp").await;
    assert!(rows.iter().all(|row| row.partition.number == POSITIONS), "one partition a commit");

    // An installation with the same records, of which an earlier version wrote down the same.
    let target = FaultyTarget::start(|_| Reply::Status(200)).await;
    let installation = install(&webhook("erp", &target.url, QUICK)).await;
    produce(&installation, dealt(10, 60)).await;
    let producer = Producer::new(&installation.ground.cluster, Duration::from_secs(30), Duration::ZERO).unwrap();
    for row in rows {
        let (key, value) = (row.key.unwrap(), row.value.unwrap());
        let place = String::from_utf8_lossy(&key).into_owned();
        producer
            .send(&Outgoing {
                topic: installation.ground.cluster.topic("progress.erp"),
                partition: place.rsplit_once('/').map(|(_, number)| number.parse().unwrap()),
                key,
                value,
                headers: Headers::default(),
                timestamp_ms: None,
            })
            .await
            .unwrap();
    }
    let role = start(&installation);
    produce(&installation, dealt(10, 70).into_iter().skip(60)).await;
    eventually("the new ones", || target.taken().len() == 10).await;
    stop(&installation, role).await;
    assert_eq!(target.requests().len(), 10, "nothing is sent again");
}

/// The whole program, killed in the middle of its work: what was in flight is repeated, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_deliverer_repeats_no_more_than_was_in_flight() {
    const IN_FLIGHT: usize = 8;
    const KILLS: usize = 4;
    let target = FaultyTarget::start(|_| Reply::Late(200, Duration::from_millis(20))).await;
    let installation = install(&webhook("erp", &target.url, &format!("max_concurrency = {IN_FLIGHT}\n{QUICK}"))).await;
    produce(&installation, dealt(60, 1200)).await;
    let file = installation.file();
    for kill in 1..=KILLS {
        let program = Process::start(&file, &["run", "--role", "delivery"], &[]);
        eventually("some more", || target.taken().len() >= kill * 200).await;
        drop(program);
    }
    let program = Process::start(&file, &["run", "--role", "delivery"], &[]);
    eventually("all taken", || target.taken().len() == 1200).await;
    drop(program);
    let requests = target.requests();
    assert_in_order(&requests);
    let repeats = requests.len() - 1200;
    println!("{repeats} repeats after {KILLS} kills");
    assert!(repeats <= KILLS * IN_FLIGHT, "{repeats} repeats after {KILLS} kills");
}

/// Three deliverers under faults, killed one after the other: nothing is missing, nothing overtakes, every document is
/// made once, since the target knows the id of a repeat.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_kills_and_faults_loses_and_inverts_nothing() {
    const SEED: u64 = 20_261_122;
    let rng = std::sync::Mutex::new(SmallRng::seed_from_u64(SEED));
    let target = FaultyTarget::start(move |_| match rng.lock().unwrap().random_range(0..100) {
        0..70 => Reply::Late(200, Duration::from_millis(10)),
        70..80 => Reply::Status(500),
        80..88 => Reply::Cut,
        88..97 => Reply::TakeAndCut,
        97..99 => Reply::Late(200, Duration::from_millis(700)),
        _ => Reply::RetryAfter(429, "1".to_owned()),
    })
    .await;
    let more = format!("max_concurrency = 12\nconnect_timeout = \"1s\"\n{QUICK}");
    let toml = webhook("erp", &target.url, &more).replace("\ntimeout = \"5s\"", "\ntimeout = \"1s\"");
    let installation = install(&toml).await;
    let file = installation.file();
    let homes: Vec<String> =
        (0..3).map(|n| installation.data_dir.path().join(n.to_string()).display().to_string()).collect();
    let deliverer =
        |n: usize| Process::start(&file, &["run", "--role", "delivery"], &[("LEDGERHOOK__DATA_DIR", &homes[n])]);
    let mut deliverers: Vec<Process> = (0..3).map(deliverer).collect();
    let records = dealt(100, 1000);
    let ids: BTreeSet<String> = records.iter().map(|r| r.event_id.clone()).collect();
    produce(&installation, records).await;
    for kill in 0..6 {
        eventually(&format!("some more before kill {kill}"), || target.taken().len() >= (kill + 1) * 120).await;
        // In its place at once, as a supervisor would: the old process is gone before the new one starts.
        drop(deliverers.remove(0));
        deliverers.push(deliverer(kill % 3));
    }
    eventually("all taken", || target.taken() == ids).await;
    eventually("quiet", || target.idle_for(Duration::from_secs(3))).await;
    drop(deliverers);
    println!("seed {SEED}: {} requests for {} records", target.requests().len(), ids.len());
    assert_in_order(&target.requests());
    assert_eq!(dead_letters(&installation).await, []);
    assert_eq!(waiting(&installation).await, BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_is_kept() {
    let target = FaultyTarget::start(|_| Reply::Status(200)).await;
    let limit = "rate_limit = { requests = 20, per = \"1s\" }";
    let installation = install(&webhook("erp", &target.url, limit)).await;
    produce(&installation, dealt(60, 60)).await;
    let role = start(&installation);
    eventually("the first", || !target.taken().is_empty()).await;
    let began = tokio::time::Instant::now();
    eventually("all taken", || target.taken().len() == 60).await;
    // A second's worth comes at once, the rest at 20 in a second.
    assert!(began.elapsed() >= Duration::from_millis(1800), "60 records in {:?}", began.elapsed());
    stop(&installation, role).await;
}
