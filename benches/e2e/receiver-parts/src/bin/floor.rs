//! The least that a receiver can be: HMAC of the body, its SHA-256, a record acknowledged by all replicas, 200.
//!
//! `floor LISTEN BROKERS TOPIC SECRET_FILE`. It makes no envelope, keeps no evidence, bounds nothing and has nowhere to go
//! without Kafka. Producer and topic are set as the receiver's are.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::serve::ListenerExt as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

struct Floor {
    producer: FutureProducer,
    topic: String,
    secret: Vec<u8>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [listen, brokers, topic, secret] = args.as_slice() else { bail!("floor LISTEN BROKERS TOPIC SECRET_FILE") };
    let producer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("message.max.bytes", "4194304")
        .set("delivery.timeout.ms", "8000")
        .set("linger.ms", "5")
        .create()?;
    let secret = std::fs::read(secret).with_context(|| format!("reading {secret}"))?;
    let secret = secret.strip_suffix(b"\n").unwrap_or(&secret).to_vec();
    let floor = Arc::new(Floor { producer, topic: topic.clone(), secret });
    let listener = TcpListener::bind(listen).await?.tap_io(|stream| drop(stream.set_nodelay(true)));
    axum::serve(listener, Router::new().route("/", post(take)).with_state(floor)).await?;
    Ok(())
}

async fn take(State(floor): State<Arc<Floor>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let claimed = headers.get("accbooks-signature").and_then(|value| value.to_str().ok());
    let claimed = claimed.and_then(|value| hex::decode(value.strip_prefix("sha256=")?).ok());
    let proved = Hmac::<Sha256>::new_from_slice(&floor.secret)
        .is_ok_and(|mac| claimed.is_some_and(|claimed| mac.chain_update(&body).verify_slice(&claimed).is_ok()));
    if !proved {
        return StatusCode::UNAUTHORIZED;
    }
    let hash = Sha256::digest(&body);
    let Some(id) = id(&body) else { return StatusCode::BAD_REQUEST };
    let headers = OwnedHeaders::new_with_capacity(1).insert(Header { key: "sha256", value: Some(hash.as_slice()) });
    let record = FutureRecord::to(&floor.topic).key(id).payload(body.as_ref()).headers(headers);
    match floor.producer.send(record, std::time::Duration::ZERO).await {
        Ok(_) => StatusCode::OK,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The event's id where the load generator puts it: found, not parsed.
fn id(body: &[u8]) -> Option<&[u8]> {
    body.strip_prefix(br#"{"id":""#)?.split(|byte| *byte == b'"').next()
}
