//! Limits that hold for all deliverers of a target together: windows, concurrency and rates, also behind an outage.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio_util::sync::CancellationToken;

use super::*;
use crate::common::scripted::{Said, Scripted};
use crate::common::within;
use crate::targets::described::{case, described, puts, target_of};

type Deliverer = (CancellationToken, JoinHandle<Result<(), delivery::Error>>);

fn deliverer(installation: &Installation, name: &'static str) -> Deliverer {
    let stop = installation.stop.child_token();
    let role = Role { stop: stop.clone(), instance: name.to_owned(), ..installation.role(name) };
    (stop, start_as(installation, role))
}

async fn three(installation: &Installation) -> Vec<Deliverer> {
    let mut all = Vec::new();
    for name in ["first", "second", "third"] {
        all.push(deliverer(installation, name));
        installation.ready(name).await;
    }
    all
}

async fn leave((stop, role): Deliverer) {
    stop.cancel();
    role.await.unwrap().unwrap();
}

/// Every way to say how long to wait, each said to one of three deliverers.
async fn windows(rounds: usize) {
    /// What a window may be short of at its begin: the word goes through Kafka to the others.
    const WORD: Duration = Duration::from_millis(1000);
    const WAIT: u64 = 4;
    let said: std::sync::Arc<std::sync::Mutex<Vec<(tokio::time::Instant, Duration)>>> = std::sync::Arc::default();
    let count = AtomicUsize::new(0);
    let noted = std::sync::Arc::clone(&said);
    let target = FaultyTarget::start(move |_| {
        let n = count.fetch_add(1, Ordering::SeqCst);
        if n == 0 || !n.is_multiple_of(60) {
            return Reply::Late(200, Duration::from_millis(10));
        }
        let date = || httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(WAIT + 1));
        let past = || httpdate::fmt_http_date(std::time::SystemTime::now() - Duration::from_secs(60));
        let (status, after, wait) = match (n / 60) % 6 {
            0 => (429, WAIT.to_string(), WAIT),
            1 => (503, WAIT.to_string(), WAIT),
            2 => (429, date(), WAIT),
            3 => (503, date(), WAIT),
            // No wait at all is said, which is none to be kept.
            4 => (429, past(), 0),
            _ => (429, "soon".to_owned(), 0),
        };
        noted.lock().unwrap().push((tokio::time::Instant::now(), Duration::from_secs(wait)));
        Reply::RetryAfter(status, after)
    })
    .await;
    let installation = install(&webhook("erp", &target.url, &format!("max_concurrency = 6\n{QUICK}"))).await;
    let deliverers = three(&installation).await;
    let records = rounds * 360;
    produce(&installation, dealt(60, records)).await;
    within(120 + 30 * rounds as u64, "all taken", || target.taken().len() == records).await;
    for deliverer in deliverers {
        leave(deliverer).await;
    }
    let workers: BTreeSet<String> = attempts(&installation).await.into_iter().map(|a| a.worker_id).collect();
    assert_eq!(workers.len(), 3, "all had work: {workers:?}");
    let requests = target.requests();
    assert_in_order(&requests);
    let said = said.lock().unwrap();
    assert!(said.len() >= rounds * 5, "{} windows", said.len());
    for (at, wait) in said.iter().filter(|(_, wait)| !wait.is_zero()) {
        let after =
            |request: &&Request| request.at > *at + WORD && request.at < *at + *wait - Duration::from_millis(100);
        let inside: Vec<Duration> = requests.iter().filter(after).map(|request| request.at - *at).collect();
        assert!(inside.is_empty(), "inside a window of {wait:?}: {inside:?}");
        let last = requests.iter().map(|r| r.at).filter(|r| r > at && *r <= *at + WORD).max();
        println!("window of {wait:?}: the last one came {:?} after its begin", last.map(|last| last - *at));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_deliverers_keep_every_kind_of_window() {
    windows(1).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long form: scripts/test --long"]
async fn long_three_deliverers_keep_every_kind_of_window() {
    windows(8).await;
}

/// A target that says in its answers what is left of its limit.
#[tokio::test(flavor = "multi_thread")]
async fn three_deliverers_keep_a_limit_that_only_successes_tell_of() {
    const WORD: Duration = Duration::from_millis(1000);
    const WAIT: u64 = 4;
    const RECORDS: usize = 180;
    let came: std::sync::Arc<std::sync::Mutex<Vec<tokio::time::Instant>>> = std::sync::Arc::default();
    let said: std::sync::Arc<std::sync::Mutex<Vec<tokio::time::Instant>>> = std::sync::Arc::default();
    let (coming, saying) = (std::sync::Arc::clone(&came), std::sync::Arc::clone(&said));
    let server = Scripted::start(move |_| {
        let now = tokio::time::Instant::now();
        let mut came = coming.lock().unwrap();
        came.push(now);
        let later = std::time::SystemTime::now() + Duration::from_secs(WAIT + 1);
        let epoch = later.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let spent = match came.len() {
            40 => Some(WAIT.to_string()),
            80 => Some(epoch.to_string()),
            120 => Some(httpdate::fmt_http_date(later)),
            // Nothing that could be kept.
            60 => Some("soon".to_owned()),
            _ => None,
        };
        if came.len().is_multiple_of(40) && spent.is_some() {
            saying.lock().unwrap().push(now);
        }
        let left = if spent.is_some() { "0" } else { "39" };
        let reset = spent.unwrap_or_else(|| WAIT.to_string());
        let headers = vec![("x-ratelimit-remaining", left.to_owned()), ("x-ratelimit-reset", reset)];
        Said::Late(Duration::from_millis(10), Box::new(Said::Text(201, headers, "{}".to_owned())))
    })
    .await;
    let limits = "[limits]\nremaining = \"X-RateLimit-Remaining\"\nreset = \"X-RateLimit-Reset\"\n";
    let (_folder, path) = described(&puts(r#"{ subject = "{{ record.subject }}" }"#, limits));
    let installation = install(&target_of(&path, &server.url, &format!("max_concurrency = 6\n{QUICK}"))).await;
    let deliverers = three(&installation).await;
    let encoder = installation.encoders.of("cases").unwrap();
    let rows = (0..RECORDS).map(|n| (format!("accelex/case-{n}"), encoder.encode(&case(n)).unwrap()));
    produce_to(&installation, "cases", rows.collect::<Vec<_>>()).await;
    within(120, "all sent", || server.calls().len() >= RECORDS).await;
    for deliverer in deliverers {
        leave(deliverer).await;
    }
    let attempts = attempts(&installation).await;
    let workers: BTreeSet<&str> = attempts.iter().map(|attempt| attempt.worker_id.as_str()).collect();
    assert_eq!(workers.len(), 3, "all had work: {workers:?}");
    let delivered = attempts.iter().filter(|attempt| attempt.outcome == AttemptOutcome::Delivered).count();
    assert_eq!((attempts.len(), delivered, server.calls().len()), (RECORDS, RECORDS, RECORDS), "each once");
    assert_eq!(dead_letters(&installation).await, []);
    let (came, said) = (came.lock().unwrap(), said.lock().unwrap());
    assert_eq!(said.len(), 3);
    for at in said.iter() {
        let end = *at + Duration::from_secs(WAIT) - Duration::from_millis(100);
        let inside: Vec<Duration> =
            came.iter().filter(|came| **came > *at + WORD && **came < end).map(|came| *came - *at).collect();
        assert!(inside.is_empty(), "inside the window: {inside:?}");
    }
}

/// A target that is away, much longer than records may be in trouble by themselves, and comes back.
async fn outage(down: Duration) {
    const AT_ONCE: usize = 9;
    const RATE: usize = 60;
    const RECORDS: usize = 900;
    let closed = FaultyTarget::reserve().await;
    let more = format!(
        "max_concurrency = {AT_ONCE}\nrate_limit = {{ requests = {RATE}, per = \"1s\" }}\nretry = {{ first = \"100ms\", max = \"2s\", give_up_after = \"2s\" }}"
    );
    let installation = install(&webhook("erp", &closed.url(), &more)).await;
    let deliverers = three(&installation).await;
    produce(&installation, dealt(90, RECORDS)).await;
    tokio::time::sleep(down).await;
    let failed = attempts(&installation).await.len();
    let (now, most) = (AtomicUsize::new(0), std::sync::Arc::new(AtomicUsize::new(0)));
    let (now, seen) = (std::sync::Arc::new(now), std::sync::Arc::clone(&most));
    let opened = tokio::time::Instant::now();
    let target = closed
        .open(move |_| {
            let (now, seen) = (std::sync::Arc::clone(&now), std::sync::Arc::clone(&seen));
            seen.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(40)).await;
                now.fetch_sub(1, Ordering::SeqCst);
            });
            Reply::Late(200, Duration::from_millis(50))
        })
        .await;
    within(120, "all taken", || target.taken().len() == RECORDS).await;
    for deliverer in deliverers {
        leave(deliverer).await;
    }
    let requests = target.requests();
    assert_in_order(&requests);
    assert_eq!(requests.len(), RECORDS, "nothing is sent twice");
    assert_eq!(dead_letters(&installation).await, []);
    let most = most.load(Ordering::SeqCst);
    assert!(most <= AT_ONCE, "{most} at a time");
    // As many as are under way may be late and come together.
    let mut busiest = 0;
    for (n, request) in requests.iter().enumerate() {
        busiest = busiest.max(requests[n..].iter().take_while(|r| r.at < request.at + Duration::from_secs(1)).count());
    }
    assert!(busiest <= RATE + AT_ONCE, "{busiest} in a second");
    println!(
        "{failed} tries in {down:?} of being down; the first came {:?} after it was back, the last {:?}; at most {most} at a time and {busiest} in a second",
        requests[0].at - opened,
        requests[RECORDS - 1].at - opened
    );
    // What was under way when it went, and then one of them asks, by one record at a time, with pauses that grow to two
    // seconds.
    let bound = 3 * AT_ONCE + 20 + 2 * usize::try_from(down.as_secs()).unwrap();
    assert!(failed <= bound, "{failed} tries while it was down, {bound} are allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_nothing_is_given_up_and_no_limit_broken() {
    outage(Duration::from_secs(8)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long form: scripts/test --long"]
async fn long_outage_of_minutes() {
    outage(Duration::from_secs(240)).await;
}

/// A target that fails with everything is asked by one deliverer, by one record at a time; when that one goes, by another.
#[tokio::test(flavor = "multi_thread")]
async fn a_failing_target_is_asked_by_one_of_three_deliverers() {
    const TAKES: Duration = Duration::from_millis(200);
    const RECORDS: usize = 240;
    let mended = std::sync::Arc::new(AtomicBool::new(false));
    let seen = std::sync::Arc::clone(&mended);
    let target = FaultyTarget::start(move |_| match seen.load(Ordering::SeqCst) {
        true => Reply::Late(200, Duration::from_millis(10)),
        false => Reply::Late(500, TAKES),
    })
    .await;
    let more = "max_concurrency = 6\nconnect_timeout = \"1s\"\nretry = { first = \"200ms\", max = \"1s\", give_up_after = \"2s\" }";
    let short = webhook("erp", &target.url, more).replace("timeout = \"5s\"", "timeout = \"2s\"");
    let installation = install(&short).await;
    let names = ["first", "second", "third"];
    let mut deliverers: BTreeMap<String, Deliverer> =
        names.into_iter().map(str::to_owned).zip(three(&installation).await).collect();
    produce(&installation, dealt(60, RECORDS)).await;
    let mut asked_by = Vec::new();
    for round in 0..2 {
        // When all have found it failing and heard of each other, or have waited for who has gone, the rest is one's.
        tokio::time::sleep(Duration::from_secs(8)).await;
        let (settled, before) = (tokio::time::Instant::now(), target.requests().len());
        within(30, "it is asked", || target.requests().len() >= before + 4).await;
        let asked: Vec<Request> = target.requests().into_iter().filter(|request| request.at > settled).collect();
        for (one, next) in asked.iter().zip(asked.iter().skip(1)) {
            assert!(next.at - one.at >= TAKES * 9 / 10, "two at a time in round {round}: {:?}", next.at - one.at);
        }
        let last = attempts(&installation).await.into_iter().max_by_key(|attempt| attempt.started_at);
        let asks = last.unwrap().worker_id;
        leave(deliverers.remove(&asks).unwrap()).await;
        asked_by.push(asks);
    }
    assert_ne!(asked_by[0], asked_by[1]);
    mended.store(true, Ordering::SeqCst);
    within(60, "all are taken", || target.taken().len() == RECORDS).await;
    for deliverer in deliverers.into_values() {
        leave(deliverer).await;
    }
    assert_in_order(&target.requests());
    assert_eq!(dead_letters(&installation).await, []);
}

/// Deliverers come and go in order while records flow and keys are parked: nobody's order suffers, and nothing that was
/// taken is sent again, since what is handed over is known.
async fn coming_and_going(rounds: usize) {
    const POISONED: [&str; 2] = ["evt-inv-03", "evt-inv-17"];
    let mended = std::sync::Arc::new(AtomicBool::new(false));
    let seen = std::sync::Arc::clone(&mended);
    let target = FaultyTarget::start(move |request| {
        if POISONED.contains(&entity(&request.id)) && !seen.load(Ordering::SeqCst) {
            Reply::Status(500)
        } else {
            Reply::Late(200, Duration::from_millis(30))
        }
    })
    .await;
    let installation = install(&webhook("erp", &target.url, &format!("max_concurrency = 12\n{QUICK}"))).await;
    let mut deliverers = vec![deliverer(&installation, "first")];
    installation.ready("first").await;
    for round in 0..rounds {
        produce(&installation, dealt(40, (round + 1) * 400).into_iter().skip(round * 400)).await;
        // Names of roles last for ever.
        let name = format!("added-{round}").leak();
        deliverers.push(deliverer(&installation, name));
        installation.ready(name).await;
        if deliverers.len() > 2 {
            leave(deliverers.remove(0)).await;
        }
    }
    let (records, held) = (rounds * 400, rounds * 10 * POISONED.len());
    within(120, "the others are taken", || target.taken().len() == records - held).await;
    mended.store(true, Ordering::SeqCst);
    within(60, "all are taken", || target.taken().len() == records).await;
    for deliverer in deliverers {
        leave(deliverer).await;
    }
    let requests = target.requests();
    assert_in_order(&requests);
    let taking = requests.iter().filter(|request| request.reply.takes()).count();
    assert_eq!(taking, records, "nothing that was taken is sent again");
    let parked = requests.iter().filter(|request| !request.reply.takes());
    let parked: BTreeSet<&str> = parked.map(|request| request.id.as_str()).collect();
    assert_eq!(parked, ["evt-inv-03-0000", "evt-inv-17-0000"].into(), "only their heads are tried");
    assert_eq!(dead_letters(&installation).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn deliverers_come_and_go_under_load_with_keys_parked() {
    coming_and_going(3).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long form: scripts/test --long"]
async fn long_deliverers_come_and_go_under_load_with_keys_parked() {
    coming_and_going(25).await;
}
