//! Both providers' events from their requests to the target, and the program's own account of them.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::{get, json};
use crate::common::process::{Process, assert_no_secret, run};
use crate::common::{Installation, install};

/// A sandbox process with its address, and an installation whose one target it is.
async fn sandboxed() -> (Process, String, Installation) {
    let dir = tempfile::tempdir().unwrap();
    let nothing = dir.path().join("nothing.toml");
    std::fs::write(&nothing, "").unwrap();
    let mut sandbox = Process::start(&nothing, &["sandbox", "--listen", "127.0.0.1:0"], &[]);
    let address = sandbox.address(&["sandbox: deliveries to"]).await;
    let target = format!(
        r#"[targets.erp]
preset = "sandbox"
url = "http://{address}/"
start = "earliest"
records = ["invoices", "contracts", "cases", "compliance", "transactions", "reviews", "feeds"]
"#
    );
    let installation = install(&target).await;
    (sandbox, address, installation)
}

async fn summary(sandbox: &str) -> Value {
    json(&get(sandbox, "/_sandbox/requests").await.1)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_type_reaches_the_target_once() {
    let (sandbox, target, installation) = sandboxed().await;
    let file = installation.file();
    let mut running = Process::start(&file, &["run"], &[]);
    let receiver = running.address(&["the receiver listens"]).await;
    let admin = running.address(&["the admin port listens"]).await;
    for role in ["receiver", "router", "delivery"] {
        running.line(&[&format!("role=\"{role}\""), "health: ready"]).await;
    }
    running.line(&["events go to Kafka"]).await;
    assert_eq!(get(&admin, "/readyz").await.0, 200);
    assert_eq!(get(&receiver, "/readyz").await.0, 200);

    let mut planned = 0;
    for (source, types, count) in [("accelex", 5, "25"), ("accbooks", 11, "33")] {
        let url = format!("http://{receiver}/api/{source}/webhook");
        let sent =
            run(&file, &["send", source, "all", "--count", count, "--duplicates", "20%", "--url", &url, "--json"])
                .await;
        assert_eq!(sent.code, Some(0), "{sent:?}");
        let report = json(&sent.stdout);
        assert_eq!((&report["accepted"], &report["answers"]["200 accepted"]), (&report["planned"], &report["planned"]));
        assert_eq!(report["event_types"].as_object().unwrap().len(), types);
        planned += report["planned"].as_u64().unwrap();
    }
    let events = 25 + 33;
    assert!(planned > events, "some were sent twice");

    let deadline = Instant::now() + Duration::from_secs(60);
    while summary(&target).await["documents"] != events {
        assert!(Instant::now() < deadline, "{}", summary(&target).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let metrics = get(&admin, "/metrics").await.1;
    assert_no_secret("/metrics", &metrics);
    let total = |outcome: &str| -> u64 {
        let wanted = format!("outcome=\"{outcome}\"");
        let rows = metrics.lines().filter(|l| l.starts_with("ledgerhook_router_events_total{") && l.contains(&wanted));
        rows.map(|l| l.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
    };
    assert_eq!((total("routed"), total("duplicate")), (events, planned - events));

    let stopped = Instant::now();
    running.terminate();
    let ended = running.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(stopped.elapsed() < installation.config.shutdown.budget, "{:?}", stopped.elapsed());
    assert!(!ended.stderr.contains("ERROR"), "{}", ended.stderr);
    let found = summary(&target).await;
    assert_eq!((&found["documents"], &found["requests"]), (&events.into(), &events.into()), "{found}");

    an_event_tells_its_life(&installation, &target).await;
    sandbox.terminate();
    assert_eq!(sandbox.ended().await.code, Some(0));
}

async fn an_event_tells_its_life(installation: &Installation, target: &str) {
    let file = installation.file();
    let documents = json(&get(target, "/_sandbox/documents?limit=1000").await.1);
    let id = documents["documents"][0]["event_id"].as_str().unwrap().to_owned();
    let shown = run(&file, &["events", "show", &id]).await;
    assert_eq!(shown.code, Some(0), "{shown:?}");
    for part in ["  received   ", "  routed     ", "  record     ", "  attempt    ", " 200 ", "  at erp: delivered"] {
        assert!(shown.stdout.contains(part), "{part}: {}", shown.stdout);
    }
    let shown = run(&file, &["events", "show", &id, "--json"]).await;
    assert_eq!(shown.code, Some(0), "{shown:?}");
    let found = &json(&shown.stdout)["found"][0];
    assert_eq!(found["targets"]["erp"], "delivered", "{found}");
    assert_eq!((found["records"].as_array().unwrap().len(), found["attempts"].as_array().unwrap().len()), (1, 1));

    let shown = run(&file, &["events", "show", "nobody-sent-this"]).await;
    assert_eq!((shown.code, shown.stdout.as_str()), (Some(1), ""));
    assert!(shown.stderr.contains("no event nobody-sent-this in accbooks, accelex"), "{}", shown.stderr);
    let shown = run(&file, &["events", "show", "nobody-sent-this", "--json"]).await;
    assert_eq!((shown.code, json(&shown.stdout)["found"].as_array().unwrap().len()), (Some(1), 0));
}
