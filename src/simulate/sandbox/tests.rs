//! The sandbox over a real connection.

use std::time::Duration;

use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{SandboxError, sandbox};
use crate::config::{self, Secret};
use crate::event::Timestamp;

const KEY: &[u8] = b"a key of some length";

struct Running {
    url: String,
    client: reqwest::Client,
    stop: CancellationToken,
    task: JoinHandle<Result<(), SandboxError>>,
}

async fn start(signed: bool, max_documents: usize) -> Running {
    drop(rustls::crypto::ring::default_provider().install_default());
    let secret = format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(KEY));
    let config = config::Sandbox {
        listen: "127.0.0.1:0".parse().unwrap(),
        signing_secret: signed.then(|| Secret::new(secret)),
        max_documents,
    };
    let stop = CancellationToken::new();
    let (bound, address) = oneshot::channel();
    let task = tokio::spawn(sandbox(config, stop.clone(), move |address| bound.send(address).unwrap()));
    let url = format!("http://{}", address.await.unwrap());
    Running { url, client: reqwest::Client::new(), stop, task }
}

fn record(entity: &str) -> String {
    json!({"source": "accbooks", "entity_id": entity, "event_type": "invoice.paid", "n": 1}).to_string()
}

impl Running {
    async fn deliver(&self, id: &str, body: &str) -> Result<(u16, Value), reqwest::Error> {
        let request = self.client.post(format!("{}/hooks", self.url)).header("webhook-id", id).body(body.to_owned());
        let response = request.timeout(Duration::from_secs(10)).send().await?;
        Ok((response.status().as_u16(), response.json().await?))
    }

    async fn get(&self, path: &str) -> Value {
        self.client.get(format!("{}/_sandbox/{path}", self.url)).send().await.unwrap().json().await.unwrap()
    }

    async fn order(&self, order: Value) -> u16 {
        let request = self.client.post(format!("{}/_sandbox/faults", self.url)).body(order.to_string());
        request.send().await.unwrap().status().as_u16()
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn an_id_makes_one_document() {
    let sandbox = start(false, 100).await;
    for (id, status) in [("a", "created"), ("b", "created"), ("a", "duplicate"), ("c/d", "created")] {
        let (code, answer) = sandbox.deliver(id, &record("inv_1")).await.unwrap();
        assert_eq!((code, &answer["status"]), (200, &json!(status)));
    }
    let summary = sandbox.get("requests").await;
    assert_eq!((&summary["requests"], &summary["documents"]), (&json!(4), &json!(3)), "{summary}");
    assert_eq!((&summary["duplicates"], &summary["paths"]["/hooks"]), (&json!(1), &json!(4)));
    assert_eq!(summary["event_types"]["invoice.paid"], 3);
    let seen = sandbox.get("requests/a").await;
    let outcomes: Vec<_> = seen["requests"].as_array().unwrap().iter().map(|r| r["outcome"].clone()).collect();
    assert_eq!(outcomes, ["created", "duplicate"]);
    assert_eq!(sandbox.get("requests/c/d").await["requests"].as_array().unwrap().len(), 1);
    let page = sandbox.get("documents?limit=1&entity=accbooks%2Finv_1").await;
    assert_eq!((&page["documents"][0]["event_id"], &page["next"]), (&json!("a"), &json!(1)));
    assert_eq!(page["documents"][0]["body"]["n"], 1);

    let url = format!("{}/_sandbox/requests", sandbox.url);
    assert_eq!(sandbox.client.delete(url).send().await.unwrap().status(), 200);
    assert_eq!(sandbox.get("requests").await["requests"], 0);
    sandbox.end().await;
}

#[tokio::test]
async fn it_fails_as_ordered_and_then_no_more() {
    let sandbox = start(false, 100).await;
    assert_eq!(sandbox.order(json!({"status": 503, "times": 2, "retry_after": 7})).await, 201);
    let response =
        sandbox.client.post(format!("{}/x", sandbox.url)).header("webhook-id", "a").body("{}").send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (503, "7"));
    assert_eq!(sandbox.deliver("a", "{}").await.unwrap().0, 503);
    assert_eq!(sandbox.deliver("a", "{}").await.unwrap().1["status"], "created");

    sandbox.order(json!({"mode": "drop", "match": {"event_id": "b"}})).await;
    assert_eq!(sandbox.get("faults").await["faults"][0]["match"]["event_id"], "b");
    assert_eq!(sandbox.deliver("c", "{}").await.unwrap().1["status"], "created");
    assert!(sandbox.deliver("b", "{}").await.is_err());
    assert_eq!(sandbox.deliver("b", "{}").await.unwrap().1["status"], "created");

    sandbox.order(json!({"mode": "commit_then_drop"})).await;
    assert!(sandbox.deliver("d", "{}").await.is_err());
    assert_eq!(sandbox.deliver("d", "{}").await.unwrap().1["status"], "duplicate");

    let summary = sandbox.get("requests").await;
    assert_eq!((&summary["faults_injected"], &summary["documents"]), (&json!(4), &json!(4)), "{summary}");
    let cut = &sandbox.get("requests/d").await["requests"][0];
    assert_eq!((&cut["status"], &cut["outcome"]), (&Value::Null, &json!("commit_then_drop")));
    assert_eq!(sandbox.order(json!({"status": 200})).await, 400);
    sandbox.end().await;
}

#[tokio::test]
async fn a_delayed_delivery_is_made_though_its_caller_is_gone() {
    let sandbox = start(false, 100).await;
    sandbox.order(json!({"mode": "delay", "ms": 300})).await;
    let request = sandbox.client.post(&sandbox.url).header("webhook-id", "slow").body("{}");
    assert!(request.timeout(Duration::from_millis(50)).send().await.unwrap_err().is_timeout());
    assert_eq!(sandbox.get("requests").await["documents"], 0);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while sandbox.get("requests").await["documents"] != 1 {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sandbox.end().await;
}

#[tokio::test]
async fn signatures_are_checked_when_there_is_a_secret() {
    let sandbox = start(true, 100).await;
    assert_eq!(sandbox.deliver("a", "{}").await.unwrap().1["error"]["code"], "signature_missing");
    let time = (Timestamp::now().as_millis() / 1_000).to_string();
    let mac = Hmac::<sha2::Sha256>::new_from_slice(KEY).unwrap().chain_update(format!("a.{time}.{{}}"));
    let signature = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    let signed = |body: &'static str| {
        let request = sandbox.client.post(&sandbox.url).header("webhook-id", "a").body(body);
        request.header("webhook-timestamp", &time).header("webhook-signature", format!("v1,{signature}")).send()
    };
    assert_eq!(signed("{ }").await.unwrap().status(), 401);
    assert_eq!(signed("{}").await.unwrap().status(), 200);
    assert_eq!(sandbox.get("requests").await["refused"], 2);
    sandbox.end().await;
}

#[tokio::test]
async fn what_is_no_delivery_is_refused() {
    let sandbox = start(false, 100).await;
    assert_eq!(sandbox.deliver("a", "no json").await.unwrap().1["error"]["code"], "not_a_document");
    let without = sandbox.client.post(&sandbox.url).body("{}").send().await.unwrap();
    assert_eq!(without.status(), 400);
    let read = sandbox.client.get(format!("{}/hooks", sandbox.url)).send().await.unwrap();
    assert_eq!((read.status().as_u16(), read.headers()["allow"].to_str().unwrap()), (405, "POST"));
    assert_eq!(sandbox.get("nothing").await["error"]["code"], "not_found");
    assert_eq!(sandbox.get("documents?limit=0").await["error"]["code"], "bad_query");
    let large = sandbox.deliver("b", &"x".repeat((8 << 20) + 1)).await;
    assert!(large.is_err() || large.is_ok_and(|(status, _)| status == 413));
    sandbox.end().await;
}

#[tokio::test]
async fn it_says_why_it_cannot_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    let config = |secret| config::Sandbox { listen, signing_secret: secret, max_documents: 1 };
    let error = sandbox(config(None), CancellationToken::new(), |_| ()).await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot listen on {listen}")), "{error}");
    let error = sandbox(config(Some(Secret::new("canary!"))), CancellationToken::new(), |_| ()).await.unwrap_err();
    assert!(matches!(error, SandboxError::SigningSecret) && !error.to_string().contains("canary"));
}
