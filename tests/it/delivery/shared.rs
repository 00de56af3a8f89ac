//! What all deliverers of a target go by: an operator's pause, and what one of them found.

use super::*;
use crate::common::process::command;
use ledgerhook::operate::targets;

async fn run(file: &std::path::Path, args: &[&str]) -> std::process::Output {
    let mut command = command(file, args, &[]);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// Two deliverers in one process, each with half of the partitions.
async fn two(installation: &Installation) -> [JoinHandle<Result<(), delivery::Error>>; 2] {
    let first = start(installation);
    installation.ready("delivery").await;
    let mut role = installation.role("second");
    role.instance = "second".to_owned();
    let second = start_as(installation, role);
    installation.ready("second").await;
    [first, second]
}

async fn stop_both(installation: &Installation, roles: [JoinHandle<Result<(), delivery::Error>>; 2]) {
    installation.stop.cancel();
    for role in roles {
        role.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_reaches_every_instance_and_outlives_a_restart() {
    let target = FaultyTarget::start(|_| Reply::Late(200, Duration::from_millis(20))).await;
    let installation = install(&webhook("erp", &target.url, &format!("max_concurrency = 4\n{QUICK}"))).await;
    let roles = two(&installation).await;
    produce(&installation, dealt(60, 600)).await;
    eventually("some", || target.taken().len() > 50).await;

    let file = installation.file();
    let said = run(&file, &["targets", "pause", "erp", "--reason", "books are closed"]).await;
    assert!(said.status.success(), "{said:?}");
    let sent = target.requests().len();
    assert!(sent < 600, "there is something left to hold back");
    let listed = run(&file, &["targets", "list", "--json"]).await;
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let erp = &listed["targets"][0];
    assert_eq!((erp["state"].as_str(), erp["pause"]["reason"].as_str()), (Some("paused"), Some("books are closed")));
    assert_eq!(erp["instances"].as_array().unwrap().len(), 2, "{erp}");
    // What the pause holds back is read from the topics: it stands at a committed position, and its topic keeps it.
    let open = &erp["oldest_open"];
    let at = |name: &str| open[name].as_str().unwrap_or_default().to_owned();
    assert!(at("recorded_at").starts_with("20") && at("deleted_at") > at("recorded_at"), "{erp}");
    assert!(open["offset"].as_i64().is_some() && at("topic") == "invoices", "{erp}");
    let state = |state: &str| installation.metrics.target_state.with_label_values(&["erp", state]).get();
    assert_eq!((state("paused"), state("active")), (1, 0));

    // One that starts meanwhile goes by it as well: it has read the word before it is ready to send.
    let mut role = installation.role("third");
    role.instance = "third".to_owned();
    let third = start_as(&installation, role);
    installation.ready("third").await;
    produce(&installation, dealt(60, 660).into_iter().skip(600)).await;
    let word = {
        let (ground, runtime) = (installation.ground.clone(), tokio::runtime::Handle::current());
        tokio::task::spawn_blocking(move || {
            let word = targets::known(&ground, &runtime).unwrap().remove("erp").unwrap().pause.unwrap();
            let missing = targets::unconfirmed(&ground, &runtime, "erp", &word, Duration::from_secs(20)).unwrap();
            assert_eq!(missing, Vec::<String>::new());
            word
        })
        .await
        .unwrap()
    };
    assert!(word.paused && word.by.contains('@'));
    assert_eq!(target.requests().len(), sent, "nothing is sent behind the word of all");

    let said = run(&file, &["targets", "resume", "erp"]).await;
    assert!(said.status.success(), "{said:?}");
    eventually("all taken", || target.taken().len() == 660).await;
    assert_in_order(&target.requests());
    assert_eq!(dead_letters(&installation).await, []);
    stop_both(&installation, roles).await;
    third.await.unwrap().unwrap();
    let listed = run(&file, &["targets", "list", "--json"]).await;
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(
        listed["targets"][0]["oldest_open"],
        serde_json::Value::Null,
        "all is finished, and its positions committed"
    );

    let said = run(&file, &["targets", "pause", "elsewhere"]).await;
    assert_eq!((said.status.code(), target.requests().len()), (Some(2), 660), "{said:?}");
}

/// With nobody there, a word counts at once; an instance that does not answer is named.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_confirmed_is_named() {
    let target = FaultyTarget::start(|_| Reply::Late(200, Duration::from_secs(4))).await;
    let installation = install(&webhook("erp", &target.url, QUICK)).await;
    let file = installation.file();
    let said = run(&file, &["targets", "pause", "erp"]).await;
    assert!(said.status.success(), "{said:?}");
    let said = run(&file, &["targets", "resume", "erp"]).await;
    assert!(said.status.success(), "{said:?}");

    let role = start(&installation);
    produce(&installation, dealt(1, 1)).await;
    let gauge = || installation.metrics.delivery_parked_keys.with_label_values(&["erp"]).get();
    installation.ready("delivery").await;
    eventually("it is under way", || target.requests().len() == 1 || gauge() > 0).await;
    let said = run(&file, &["targets", "pause", "erp", "--wait", "1", "--json"]).await;
    let told: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(said.status.code(), Some(1), "{told}");
    assert_eq!(told["unconfirmed"], serde_json::json!(["delivery-test"]), "a request is still under way");
    stop(&installation, role).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_instance_is_told_to_wait_all_wait() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let target = FaultyTarget::start(move |_| match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        40 => Reply::RetryAfter(429, "3".to_owned()),
        80 => Reply::RetryAfter(503, "3".to_owned()),
        _ => Reply::Late(200, Duration::from_millis(20)),
    })
    .await;
    let installation = install(&webhook("erp", &target.url, &format!("max_concurrency = 2\n{QUICK}"))).await;
    let roles = two(&installation).await;
    produce(&installation, dealt(60, 300)).await;
    eventually("all taken", || target.taken().len() == 300).await;
    stop_both(&installation, roles).await;
    let attempts = attempts(&installation).await;
    let workers: BTreeSet<&str> = attempts.iter().map(|a| a.worker_id.as_str()).collect();
    assert_eq!(workers.len(), 2, "both had work");
    let limited: Vec<&Attempt> = attempts.iter().filter(|a| a.outcome == AttemptOutcome::RateLimited).collect();
    assert_eq!(limited.len(), 2);
    for limit in limited {
        let ended = limit.started_at.plus(Duration::from_micros(u64::try_from(limit.duration_us).unwrap()));
        // Until the word has gone through Kafka, the other may still start.
        let from = ended.plus(Duration::from_millis(1000));
        let until = ended.plus(Duration::from_millis(2900));
        let inside: Vec<_> = attempts.iter().filter(|a| a.started_at > from && a.started_at < until).collect();
        assert!(inside.is_empty(), "{limit:?}: {inside:?}");
    }
    assert_in_order(&target.requests());
}

/// A member that comes back within its session is given what it had, unless it asks under another name.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_whose_records_were_swapped_reads_the_new_ones() {
    let target = FaultyTarget::start(|_| Reply::Status(200)).await;
    let mut installation = install(&webhook("erp", &target.url, QUICK)).await;
    produce(&installation, [invoice("inv-00", 0)]).await;
    let role = start(&installation);
    eventually("the invoice is taken", || target.taken().len() == 1).await;
    stop(&installation, role).await;

    installation.config.targets.get_mut("erp").unwrap().records = vec!["feeds".to_owned()];
    installation.stop = tokio_util::sync::CancellationToken::new();
    produce_to(&installation, "feeds", [("accelex/f".to_owned(), b"no Avro at all".to_vec())]).await;
    let role = start(&installation);
    let read = async {
        while dead_letters(&installation).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), read).await.expect("the feed's row is read");
    stop(&installation, role).await;
}
