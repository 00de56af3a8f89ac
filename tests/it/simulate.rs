//! The provider simulator against a server that only listens and remembers; and against the sandbox.
#![expect(clippy::unwrap_used, reason = "the lint's allowance for tests does not reach their helpers")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Response, Version};
use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use ledgerhook::config::{Config, Sandbox, Source};
use ledgerhook::simulate::{SendPlan, sandbox, send};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const SECRET: &str = "simulate-secret";

fn source(name: &str, more: &str) -> Source {
    let text = format!("[sources.{name}]\nsecrets = [{{ id = \"a\", value = \"env:S\" }}]\n{more}\n");
    let env = |_: &str| Some(SECRET.to_owned());
    let mut config = Config::parse(&text, "test.toml", &env, &[]).unwrap_or_else(|faults| panic!("{faults}"));
    config.sources.remove(name).unwrap()
}

struct Seen {
    at: Instant,
    version: Version,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// A server that answers its n-th request with a status after a time; its address, and what it saw.
async fn server(answer: fn(usize) -> (Duration, u16)) -> (String, Arc<Mutex<Vec<Seen>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let remembered = Arc::clone(&seen);
    let router = Router::new().fallback(move |request: axum::extract::Request| {
        let seen = Arc::clone(&seen);
        async move {
            let (parts, body) = request.into_parts();
            assert_eq!((parts.method.as_str(), parts.uri.path()), ("POST", "/hook"));
            let body = to_bytes(body, 1 << 20).await.unwrap().to_vec();
            let n = {
                let mut seen = seen.lock().unwrap();
                seen.push(Seen { at: Instant::now(), version: parts.version, headers: parts.headers, body });
                seen.len() - 1
            };
            let (wait, status) = answer(n);
            sleep(wait).await;
            let code = json!({"error": {"code": "overloaded", "message": "m"}});
            let body = if status == 503 { code } else { json!({"status": "accepted"}) };
            Response::builder().status(status).body(Body::from(body.to_string())).unwrap()
        }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, remembered)
}

fn now(status: u16) -> (Duration, u16) {
    (Duration::ZERO, status)
}

/// HMAC-SHA256 as both guides describe it, without a line of ours.
fn digest(body: &[u8]) -> Vec<u8> {
    Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).unwrap().chain_update(body).finalize().into_bytes().to_vec()
}

#[tokio::test]
async fn requests_are_signed_as_each_guide_says() {
    for (name, header, id, types) in
        [("accelex", "x-accelex-signature", "/event_id", 5), ("accbooks", "accbooks-signature", "/id", 11)]
    {
        let (url, seen) = server(|_| now(200)).await;
        let plan = SendPlan { count: 100, ..SendPlan::new(source(name, ""), "all", url, None).unwrap() };
        let report = send(plan).await.unwrap();
        assert!(report.all_accepted() && report.answers["200 accepted"] == 100, "{report}");
        assert_eq!((report.event_types.len(), report.retried), (types, 0));
        let seen = seen.lock().unwrap();
        let mut ids = BTreeMap::new();
        for request in seen.iter() {
            let value: Value = serde_json::from_slice(&request.body).unwrap();
            *ids.entry(value.pointer(id).unwrap().to_string()).or_insert(0) += 1;
            let hex = hex::encode(digest(&request.body));
            let signature = request.headers[header].to_str().unwrap();
            // The form that both providers take; AccBooks takes no other.
            assert_eq!(signature, format!("sha256={hex}"));
            assert_eq!(request.headers["content-type"], "application/json");
        }
        assert_eq!(ids.len(), 100);
    }
}

#[tokio::test]
async fn refused_requests_are_repeated_on_the_schedule_with_the_same_bytes() {
    let (url, seen) = server(|n| now(if n < 3 { 503 } else { 200 })).await;
    let patient = source("accbooks", "retry_schedule = [\"200ms\", \"400ms\", \"800ms\", \"1h\"]");
    let report = send(SendPlan::new(patient, "invoice.paid", url, None).unwrap()).await.unwrap();
    assert!(report.all_accepted(), "{report}");
    assert_eq!((report.requests, report.retried, report.refused), (4, 3, 3));
    assert_eq!(report.answers, [("200 accepted".to_owned(), 1), ("503 overloaded".to_owned(), 3)].into());
    let seen = seen.lock().unwrap();
    for (pair, wait) in seen.windows(2).zip([200, 400, 800]) {
        let waited = pair[1].at - pair[0].at;
        // Never sooner; how much later is the machine's business.
        assert!(waited >= Duration::from_millis(wait), "{waited:?} for {wait} ms");
        assert!(waited < Duration::from_millis(wait + 5_000), "{waited:?} for {wait} ms");
        assert_eq!(pair[0].body, pair[1].body);
        assert_eq!(pair[0].headers["accbooks-signature"], pair[1].headers["accbooks-signature"]);
    }
}

#[tokio::test]
async fn a_provider_does_not_wait_beyond_its_timeout() {
    let (url, seen) = server(|n| if n == 0 { (Duration::from_secs(60), 200) } else { now(200) }).await;
    let hasty = source("accelex", "deadline = \"1s\"\nretry_schedule = [\"100ms\"]\nretry_until = \"1s\"");
    let report = send(SendPlan::new(hasty, "case.closed", url, None).unwrap()).await.unwrap();
    assert!(report.all_accepted() && report.answers["timeout"] == 1, "{report}");
    let seen = seen.lock().unwrap();
    let waited = seen[1].at - seen[0].at;
    assert!(waited >= Duration::from_millis(1_050) && waited < Duration::from_secs(10), "{waited:?}");
}

#[tokio::test]
async fn a_run_ends_though_nobody_listens() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let plan = SendPlan::new(source("accbooks", ""), "invoice.paid", format!("http://{free}/"), None).unwrap();
    let report = send(SendPlan { max_wait: Duration::from_millis(500), ..plan }).await.unwrap();
    assert_eq!((report.abandoned, report.unanswered, report.answers["connect"]), (1, 1, 1), "{report}");
}

#[tokio::test]
async fn http2_is_for_those_who_ask() {
    for (http2, version) in [(false, Version::HTTP_11), (true, Version::HTTP_2)] {
        let (url, seen) = server(|_| now(200)).await;
        let plan = SendPlan::new(source("accbooks", ""), "bank_feed.synced", url, None).unwrap();
        assert!(send(SendPlan { http2, count: 3, ..plan }).await.unwrap().all_accepted());
        assert!(seen.lock().unwrap().iter().all(|request| request.version == version));
    }
}

#[tokio::test]
async fn duplicates_are_identical() {
    let (url, seen) = server(|_| now(200)).await;
    let plan = SendPlan::new(source("accelex", ""), "invoice.resolved", url, None).unwrap();
    let plan = SendPlan { count: 200, duplicates: 0.25, rate: Some(2_000.0), ..plan };
    let report = send(plan).await.unwrap();
    assert_eq!((report.distinct_events, report.duplicates_sent, report.requests), (200, 50, 250), "{report}");
    let seen = seen.lock().unwrap();
    let mut by_id: BTreeMap<String, Vec<&[u8]>> = BTreeMap::new();
    for request in seen.iter() {
        let value: Value = serde_json::from_slice(&request.body).unwrap();
        by_id.entry(value["event_id"].to_string()).or_default().push(&request.body);
    }
    assert_eq!((by_id.len(), seen.len()), (200, 250));
    assert!(by_id.values().all(|bodies| bodies.iter().all(|body| *body == bodies[0])));
}

/// Commits that answer nothing are what idempotency is for.
#[tokio::test]
async fn the_sandbox_keeps_one_document_for_each_id_through_lost_answers() {
    let (bound, address) = oneshot::channel();
    let stop = CancellationToken::new();
    let config = Sandbox { listen: "127.0.0.1:0".parse().unwrap(), signing_secret: None, max_documents: 50 };
    let running = tokio::spawn(sandbox(config, stop.clone(), |at| bound.send(at).unwrap()));
    let url = format!("http://{}", address.await.unwrap());
    let client = reqwest::Client::new();
    let order = json!({"mode": "commit_then_drop", "times": 40}).to_string();
    client.post(format!("{url}/_sandbox/faults")).body(order).send().await.unwrap();
    for n in 0..100 {
        let id = base64::engine::general_purpose::STANDARD.encode(format!("event {n}"));
        let body = json!({"source": "accbooks", "entity_id": n % 7, "event_type": "invoice.paid"}).to_string();
        let mut tries = 0;
        while client.post(&url).header("webhook-id", &id).body(body.clone()).send().await.is_err() {
            tries += 1;
            assert!(tries <= 40);
        }
    }
    let summary: Value = client.get(format!("{url}/_sandbox/requests")).send().await.unwrap().json().await.unwrap();
    assert_eq!((&summary["documents"], &summary["requests"]), (&json!(100), &json!(140)), "{summary}");
    // The first event met every cut: its document was made by the first, and found by the others and by the last try.
    assert_eq!((&summary["duplicates"], &summary["documents_kept"]), (&json!(40), &json!(50)), "{summary}");
    stop.cancel();
    running.await.unwrap().unwrap();
}
