//! Kafka or the registry away: waited for, said once, and gone on from.

use hmac::{Hmac, KeyInit as _, Mac as _};

use super::{get, json};
use crate::common::process::{Process, run};
use crate::common::way::Way;
use crate::common::{ACCBOOKS_SECRET, install, servers};

/// What a registry that is still starting answers.
const STARTING: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// The configuration's variables for a broker and a registry at these addresses.
fn elsewhere(kafka: &str, registry: &str) -> [(&'static str, String); 2] {
    let path = servers::servers().registry_url.splitn(4, '/').nth(3).unwrap();
    [
        ("LEDGERHOOK__KAFKA__BOOTSTRAP_SERVERS", format!("[\"{kafka}\"]")),
        ("LEDGERHOOK__SCHEMA_REGISTRY__URL", format!("http://{registry}/{path}")),
    ]
}

fn registry_address() -> &'static str {
    servers::servers().registry_url.split('/').nth(2).unwrap()
}

async fn post(receiver: &str, id: &str) -> (u16, serde_json::Value) {
    let body = format!(r#"{{"id":"{id}","type":"invoice.paid","data":{{"invoice_id":"i"}}}}"#);
    let mac = Hmac::<sha2::Sha256>::new_from_slice(ACCBOOKS_SECRET.as_bytes()).unwrap().chain_update(&body);
    let signature = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
    let request = reqwest::Client::new().post(format!("http://{receiver}/api/accbooks/webhook"));
    let answer = request.header("AccBooks-Signature", signature).body(body).send().await.unwrap();
    (answer.status().as_u16(), json(&answer.text().await.unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_waits_for_kafka_and_registry_and_goes_on_by_itself() {
    let installation = install("").await;
    let (mut kafka, mut registry) = (Way::refusing(), Way::refusing());
    let env = elsewhere(&kafka.address, &registry.address);
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut running = Process::start(&installation.file(), &["run", "--role", "receiver,router"], &env);
    let receiver = running.address(&["the receiver listens"]).await;
    let admin = running.address(&["the admin port listens"]).await;

    let line = running.line(&["role=\"router\"", "not ready"]).await;
    assert!(line.contains(&format!("Kafka at {} is away", kafka.address)), "{line}");
    assert!(line.contains("Connection refused"), "{line}");
    for path in ["/readyz", "/readyz?role=router"] {
        let (status, body) = get(&admin, path).await;
        assert_eq!(status, 503, "{body}");
        assert!(body.contains(&format!("Kafka at {} is away", kafka.address)), "{body}");
    }
    // The receiver has its spool, and says nothing of other roles.
    for path in ["/readyz", "/healthz"] {
        assert_eq!(get(&receiver, path).await.0, 200, "{path}");
    }
    let (status, body) = post(&receiver, "e1").await;
    assert_eq!((status, body["status"].as_str()), (200, Some("accepted")), "{body}");
    kafka.accept(None, &servers::servers().bootstrap);
    kafka.tried(6).await;
    let said = |running: &Process, role: &str| running.lines(&["not ready", &format!("role=\"{role}\"")]);
    assert_eq!(said(&running, "router").len(), 1, "one line per change");

    kafka.open();
    let registry_away = format!("schema registry http://{}", registry.address);
    running.line(&["role=\"router\"", "not ready", &registry_away]).await;
    registry.accept(Some(STARTING), registry_address());
    registry.tried(6).await;
    let (status, body) = get(&admin, "/readyz").await;
    assert!(status == 503 && body.contains(&registry_away), "{body}");
    let told = said(&running, "router");
    assert!(told.len() <= 3, "Kafka, and a registry that refuses, then answers: {told:?}");
    assert_eq!(said(&running, "receiver"), Vec::<String>::new(), "ready all the time");
    assert_eq!(post(&receiver, "e2").await.0, 200);

    registry.open();
    running.line(&["role=\"router\"", "health: ready"]).await;
    assert_eq!(get(&admin, "/readyz").await.0, 200);
    running.line(&["events of the spool are on Kafka"]).await;
    running.terminate();
    let ended = running.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("rdkafka"), "the library's own lines: {}", ended.stderr);
    let received = installation.records("received.accbooks").await;
    let mut keys: Vec<_> = received.iter().map(|r| r.key.as_deref().unwrap()).collect();
    keys.sort_unstable();
    assert_eq!(keys, [b"e1".as_slice(), b"e2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_waits_stops_at_once() {
    let installation = install("").await;
    let (kafka, registry) = (Way::refusing(), Way::refusing());
    let env = elsewhere(&kafka.address, &registry.address);
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut running = Process::start(&installation.file(), &["run"], &env);
    running.line(&["role=\"router\"", "not ready"]).await;
    let began = tokio::time::Instant::now();
    running.terminate();
    let ended = running.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(began.elapsed() < installation.config.shutdown.budget, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_online_check_names_what_is_away() {
    let installation = install("").await;
    let file = installation.file();
    for args in [&["check"][..], &["check", "--online"]] {
        let checked = run(&file, args).await;
        assert_eq!(checked.code, Some(0), "{checked:?}");
        assert!(checked.stdout.starts_with("ok: configuration"), "{checked:?}");
    }
    let (kafka, registry) = (Way::refusing(), Way::refusing());
    let servers = servers::servers();
    let kafka_away = format!("error: Kafka at {} is away: cannot list the topics: ", kafka.address);
    let registry_away = format!("error: schema registry http://{}/", registry.address);
    for (at, named, unnamed) in [
        (elsewhere(&kafka.address, registry_address()), &kafka_away, &registry_away),
        (elsewhere(&servers.bootstrap, &registry.address), &registry_away, &kafka_away),
    ] {
        let env: Vec<(&str, &str)> = at.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let checked = Process::start(&file, &["check", "--online"], &env).ended().await;
        assert_eq!((checked.code, checked.stdout.as_str()), (Some(1), ""), "{checked:?}");
        assert!(checked.stderr.contains(named) && !checked.stderr.contains(unnamed), "{}", checked.stderr);
        assert_eq!(checked.stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{}", checked.stderr);
        let checked = Process::start(&file, &["check", "--online", "--json"], &env).ended().await;
        assert_eq!((checked.code, json(&checked.stdout)["ok"].as_bool()), (Some(1), Some(false)), "{checked:?}");
    }
}
