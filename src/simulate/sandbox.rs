//! `ledgerhook sandbox`: a local stand-in for business systems.
//!
//! A POST to any path is a delivery, as Standard Webhooks say: `webhook-id` is its idempotency key, and the signature is
//! checked when a secret is configured. Below `/_sandbox` it tells what it got and takes orders to fail:
//!
//! | request | does |
//! |---|---|
//! | `GET /_sandbox/requests` | counts: requests, documents, duplicates, refused, faults, by event type and by path; `lag_ms`: from the documents' `received_at` to their arrival |
//! | `GET /_sandbox/requests/{event_id}` | every request of that id, with time, status and outcome |
//! | `DELETE /_sandbox/requests` | forgets everything but the faults |
//! | `GET /_sandbox/documents?limit=100&after=0&entity=accbooks/inv_1` | documents in order of arrival |
//! | `POST /_sandbox/faults` | `{"status":503,"times":5,"retry_after":2}`, or a `mode` of `drop`, `delay`, `commit_then_drop` with `ms`; each with a `match` on `event_id`, `event_type`, `entity` or `path` |
//! | `GET`, `DELETE /_sandbox/faults` | the orders that wait; forgets them |
//!
//! Everything is in memory and bounded. A bound never lets an id be taken twice: when no more ids can be remembered, new
//! ones are refused with 507.

mod deliver;
mod faults;
mod serve;
mod store;
#[cfg(test)]
mod tests;
mod webhook;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::config;
use faults::Faults;
use store::Store;

/// Orders are a few lines.
const MAX_ORDER: usize = 64 * 1024;
/// Documents of one page.
const MAX_PAGE: usize = 1_000;

/// Why the sandbox cannot run.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {listen} (sandbox.listen): {error}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The signing secret is not in Standard Webhooks form.
    #[error("sandbox.signing_secret is not base64, with or without `whsec_` before it")]
    SigningSecret,
}

/// What all requests share.
struct Sandbox {
    store: Mutex<Store>,
    faults: Mutex<Faults>,
    key: Option<Vec<u8>>,
    /// Deliveries that wait by order; they go on when their caller is gone, so that connections do not bound them.
    waiting: tokio::sync::Semaphore,
    stop: CancellationToken,
}

impl Sandbox {
    /// Held for a few lookups, never across a wait.
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs the sandbox until `stop`. `bound` is told the address, which matters when the system chose the port.
///
/// # Errors
/// When it cannot listen, or the signing secret is none.
pub async fn sandbox(
    config: config::Sandbox,
    stop: CancellationToken,
    bound: impl FnOnce(SocketAddr),
) -> Result<(), SandboxError> {
    let key = match &config.signing_secret {
        Some(secret) => Some(webhook::key(secret).ok_or(SandboxError::SigningSecret)?),
        None => None,
    };
    let state = Arc::new(Sandbox {
        store: Mutex::new(Store::new(config.max_documents)),
        faults: Mutex::default(),
        key,
        waiting: tokio::sync::Semaphore::new(deliver::MAX_WAITING),
        stop: stop.clone(),
    });
    serve::serve(config.listen, router(state), stop, bound).await
}

fn router(state: Arc<Sandbox>) -> Router {
    Router::new()
        .route("/_sandbox/requests", get(summary).delete(reset))
        .route("/_sandbox/requests/{*event_id}", get(requests_of))
        .route("/_sandbox/documents", get(documents))
        .route("/_sandbox/faults", get(show_faults).post(add_fault).delete(clear_faults))
        .route("/_sandbox/{*any}", axum::routing::any(unknown))
        .fallback(deliver::deliver)
        .with_state(state)
}

async fn summary(State(sandbox): State<Arc<Sandbox>>) -> Response {
    answer(200, &sandbox.store().summary())
}

async fn reset(State(sandbox): State<Arc<Sandbox>>) -> Response {
    sandbox.store().reset();
    answer(200, &json!({"status": "reset"}))
}

async fn requests_of(State(sandbox): State<Arc<Sandbox>>, Path(event_id): Path<String>) -> Response {
    answer(200, &sandbox.store().requests_of(&event_id))
}

async fn documents(State(sandbox): State<Arc<Sandbox>>, RawQuery(query): RawQuery) -> Response {
    let (mut limit, mut after, mut entity) = (100, 0, None);
    for (name, value) in query_pairs(&query.unwrap_or_default()) {
        let number = value.parse::<u64>().ok();
        match (name.as_str(), number) {
            ("limit", Some(n @ 1..=1_000)) => limit = usize::try_from(n).unwrap_or(MAX_PAGE),
            ("after", Some(n)) => after = n,
            ("entity", _) => entity = Some(value),
            _ => return refuse(400, "bad_query", "limit=1..1000, after=NUMBER and entity=SOURCE/ID are known"),
        }
    }
    answer(200, &sandbox.store().page(limit, after, entity.as_deref()))
}

async fn show_faults(State(sandbox): State<Arc<Sandbox>>) -> Response {
    answer(200, &sandbox.faults().to_json())
}

async fn add_fault(State(sandbox): State<Arc<Sandbox>>, body: Body) -> Response {
    let Ok(body) = to_bytes(body, MAX_ORDER).await else {
        return refuse(413, "body_too_large", "a fault takes less than 64 KiB");
    };
    match sandbox.faults().add(&body) {
        Ok(()) => answer(201, &json!({"status": "waiting"})),
        Err(what) => refuse(400, "bad_fault", &what),
    }
}

async fn clear_faults(State(sandbox): State<Arc<Sandbox>>) -> Response {
    sandbox.faults().clear();
    answer(200, &json!({"status": "cleared"}))
}

async fn unknown() -> Response {
    refuse(404, "not_found", "below /_sandbox there are requests, documents and faults")
}

/// The query's pairs, decoded.
fn query_pairs(query: &str) -> Vec<(String, String)> {
    let url = reqwest::Url::parse("http://sandbox/").map(|mut url| {
        url.set_query(Some(query));
        url
    });
    url.map(|url| url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
        .unwrap_or_default()
}

/// An answer in JSON.
fn answer(status: u16, value: &Value) -> Response {
    let mut response = Response::new(Body::from(Bytes::from(value.to_string())));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

/// A refusal in the form of our receiver.
fn refuse(status: u16, code: &str, message: &str) -> Response {
    answer(status, &json!({"error": {"code": code, "message": message}}))
}
