//! One delivery: what it is, the fault it meets, the document it becomes.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::faults::{Fault, Seen};
use super::serve::Cut;
use super::store::{Incoming, Kept};
use super::{Sandbox, answer, refuse, webhook};
use crate::event::Timestamp;

/// A record is a body of at most 1 MiB, escaped, beside its typed members.
const MAX_BODY: usize = 8 << 20;
/// A sender that takes longer for its body is broken.
const BODY_TIME: Duration = Duration::from_secs(30);
/// Deliveries that wait by order at one time.
pub(super) const MAX_WAITING: usize = 1_024;

pub(super) async fn deliver(State(sandbox): State<Arc<Sandbox>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if parts.method != Method::POST {
        let mut response = refuse(405, "method_not_allowed", "a delivery is a POST; see GET /_sandbox/requests");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    let at = Timestamp::now();
    let event_id = parts.headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
    let path = parts.uri.path().to_owned();
    let body = match timeout(BODY_TIME, to_bytes(body, MAX_BODY)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return refused(&sandbox, (&event_id, &path, at), (413, "body_too_large", "over 8 MiB, or cut")),
        Err(_) => return refused(&sandbox, (&event_id, &path, at), (408, "request_timeout", "no body in 30 s")),
    };
    let (what, is_json) = understand(event_id, path, body);
    let seen = Seen { event_id: &what.event_id, event_type: &what.event_type, entity: &what.entity, path: &what.path };
    let fault = sandbox.faults().meet(seen);
    if fault.is_some() {
        sandbox.store().fault();
    }
    let delivery = Delivery { what, is_json, headers: parts.headers, at };
    match fault {
        None => delivery.take(&sandbox),
        Some(Fault::Status { status, retry_after }) => {
            delivery.note(&sandbox, Some(status), "status");
            let mut response = refuse(status, "injected", "a fault that was ordered");
            if let Some(seconds) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            response
        }
        Some(Fault::Drop(wait)) => {
            delivery.note(&sandbox, None, "drop");
            pause(&sandbox, wait).await;
            cut()
        }
        Some(Fault::CommitThenDrop(wait)) => {
            delivery.take_as(&sandbox, Some("commit_then_drop"));
            pause(&sandbox, wait).await;
            cut()
        }
        Some(Fault::Delay(wait)) => delayed(sandbox, delivery, wait).await,
    }
}

/// A slow system commits whether or not its caller still listens, so this must not end with the connection.
async fn delayed(sandbox: Arc<Sandbox>, delivery: Delivery, wait: Duration) -> Response {
    let mut task = tokio::task::JoinSet::new();
    let late = Arc::clone(&sandbox);
    task.spawn(async move {
        let Ok(_place) = late.waiting.try_acquire() else {
            delivery.note(&late, Some(503), "refused");
            return refuse(503, "overloaded", "too many deliveries wait by order");
        };
        pause(&late, wait).await;
        delivery.take(&late)
    });
    let mut detached = Detached(task);
    match detached.0.join_next().await {
        Some(Ok(response)) => response,
        _ => cut(),
    }
}

/// Lets the task go on when the one who waits for it is dropped; a plain set would end it.
struct Detached(tokio::task::JoinSet<Response>);

impl Drop for Detached {
    fn drop(&mut self) {
        self.0.detach_all();
    }
}

/// Waits, but not beyond the sandbox's own end.
async fn pause(sandbox: &Sandbox, wait: Duration) {
    tokio::select! {
        () = sleep(wait) => {}
        () = sandbox.stop.cancelled() => {}
    }
}

struct Delivery {
    what: Incoming,
    is_json: bool,
    headers: HeaderMap,
    at: Timestamp,
}

impl Delivery {
    fn note(&self, sandbox: &Sandbox, status: Option<u16>, outcome: &'static str) {
        sandbox.store().note(&self.what.event_id, &self.what.path, self.at, status, outcome);
    }

    fn take(self, sandbox: &Sandbox) -> Response {
        self.take_as(sandbox, None)
    }

    /// Checks it and keeps it. `cut` is the outcome when its answer will not be sent.
    fn take_as(self, sandbox: &Sandbox, cut: Option<&'static str>) -> Response {
        let (event_id, path) = (self.what.event_id.clone(), self.what.path.clone());
        let place = (event_id.as_str(), path.as_str(), self.at);
        if event_id.is_empty() {
            return refused(sandbox, place, (400, "webhook_id_missing", "a delivery needs a webhook-id header"));
        }
        if let Some(key) = &sandbox.key
            && let Err((code, message)) = webhook::verify(key, &self.headers, &self.what.body, self.at)
        {
            return refused(sandbox, place, (401, code, message));
        }
        if !self.is_json {
            return refused(sandbox, place, (422, "not_a_document", "the body is not a JSON object"));
        }
        let mut store = sandbox.store();
        let (status, outcome, number) = match store.keep(self.what, self.at) {
            Kept::Created(number) => (200, "created", number),
            Kept::Duplicate(number) => (200, "duplicate", number),
            Kept::Full => {
                drop(store);
                return refused(sandbox, place, (507, "full", "no more ids fit; DELETE /_sandbox/requests"));
            }
        };
        store.note(&event_id, &path, self.at, cut.is_none().then_some(status), cut.unwrap_or(outcome));
        answer(status, &json!({"status": outcome, "document": number, "event_id": event_id}))
    }
}

fn refused(
    sandbox: &Sandbox,
    (event_id, path, at): (&str, &str, Timestamp),
    (status, code, message): (u16, &str, &str),
) -> Response {
    sandbox.store().note(event_id, path, at, Some(status), "refused");
    refuse(status, code, message)
}

/// What a delivery is about; whether its body is a JSON object.
fn understand(event_id: String, path: String, body: Bytes) -> (Incoming, bool) {
    let value: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let entity = match (text("source"), text("entity_id")) {
        (Some(source), Some(id)) => format!("{source}/{id}"),
        _ => event_id.clone(),
    };
    let event_type = text("event_type").unwrap_or("unknown").to_owned();
    let received_at = text("received_at").and_then(|time| Timestamp::parse(time).ok());
    (Incoming { event_id, event_type, entity, path, received_at, body }, value.is_object())
}

/// Stands for no answer at all.
fn cut() -> Response {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(Cut);
    response
}
