//! Every path of the receiver, and the checks a request goes through: cheap ones first, nothing parsed before the
//! signature is proved.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, header};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::durable::NotDurable;
use super::lane::answer_within;
use super::live::{Live, Served};
use super::publish::Publisher;
use super::request::{RawRequest, head_bytes};
use super::sparing::Sparing;
use super::{answer, body, evidence, extract, trace};
use crate::config::Source;
use crate::event::Timestamp;
use crate::lifecycle::Role;
use crate::outcome::Answer;
use crate::server::{Answers, Caller};
use crate::telemetry::health::State;
use crate::telemetry::rejected::Rejected;

/// What all requests share.
pub(super) struct Receiver {
    pub(super) role: Role,
    pub(super) publisher: Arc<Publisher>,
    /// No new requests any more.
    pub(super) stopping: CancellationToken,
    /// Requests whose bodies may be in memory.
    pub(super) places: Semaphore,
    pub(super) body_timeout: Duration,
    /// Longest head of a request in bytes.
    pub(super) max_header_bytes: usize,
    pub(super) strangers: Sparing,
    pub(super) live: watch::Receiver<Arc<Live>>,
}

/// Answers one connection's requests. Without a framework's routes: the sources' paths are those in force now, which it
/// could not follow, and its layers box and clone something for each request.
pub(super) fn welcome(receiver: Arc<Receiver>, caller: Caller) -> impl Answers<Response = Response<Full<Bytes>>> {
    let shared = Arc::new((receiver, caller));
    service_fn(move |request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move {
            let (receiver, caller) = &*shared;
            let is_head = request.method() == Method::HEAD;
            let answer = receiver.answer(request, caller).await;
            Ok::<_, Infallible>(if is_head { answer::without_body(answer) } else { answer })
        }
    })
}

fn look(method: &Method, at: impl FnOnce() -> Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    if [Method::GET, Method::HEAD].contains(method) { at() } else { answer::only_get(Uuid::now_v7()) }
}

/// A UUIDv7. `Uuid::now_v7` asks the system for its random bits each time.
pub(super) fn request_id() -> Uuid {
    let milliseconds = u64::try_from(Timestamp::now().as_millis()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(milliseconds, &rand::random()).into_uuid()
}

impl Receiver {
    /// Whether an event can be made durable now.
    fn state(&self) -> State {
        if self.stopping.is_cancelled() {
            return State::NotReady("shutting down".to_owned());
        }
        self.role.health.state()
    }

    /// Every path: health, each source's, and 404 for all others.
    async fn answer(&self, request: Request<Incoming>, caller: &Caller) -> Response<Full<Bytes>> {
        let (head, mut body) = request.into_parts();
        match head.uri.path() {
            "/healthz" => return look(&head.method, answer::alive),
            "/readyz" => return look(&head.method, || answer::readiness(&self.state())),
            _ => {}
        }
        let arrived = Instant::now();
        let id = request_id();
        let live = Arc::clone(&self.live.borrow());
        let Some(served) = live.source(head.uri.path()) else {
            self.refused("", Answer::NotFound, live.sender(caller, &head), id);
            return answer::webhook(Answer::NotFound, None, id);
        };
        let (source, from) = (&served.source, live.sender(caller, &head));
        // A sender that waits for `100 Continue` has sent nothing yet, and reading on would ask for it.
        let waits = head.headers.contains_key(header::EXPECT);
        match self.take(&served, (from, caller), head, &mut body, id, arrived).await {
            Ok((answer, event_id)) => {
                match answer {
                    Answer::Accepted => served.meters(&self.role.metrics).accepted.inc(),
                    _ => self.count(&source.name, answer),
                }
                answer::webhook(answer, Some(&event_id), id)
            }
            Err(answer) => {
                self.refused(&source.name, answer, from, id);
                if answer.status() < 500 && self.strangers.may_speak(Instant::now()) {
                    tracing::debug!(source = source.name, request_id = %id, %answer, %from, "request refused");
                }
                if !waits && answer != Answer::RequestTimeout {
                    body::discard(&mut body).await;
                }
                answer::webhook(answer, None, id)
            }
        }
    }

    /// From a request to a durable event: which answer, and the event's id.
    async fn take(
        &self,
        served: &Served,
        (from, caller): (IpAddr, &Caller),
        head: Parts,
        body: &mut Incoming,
        id: Uuid,
        arrived: Instant,
    ) -> Result<(Answer, String), Answer> {
        let source = &served.source;
        if head_bytes(&head) > self.max_header_bytes {
            return Err(Answer::HeadersTooLarge);
        }
        if head.method != Method::POST {
            return Err(Answer::MethodNotAllowed);
        }
        if self.stopping.is_cancelled() {
            return Err(Answer::ShuttingDown);
        }
        let client_certificate = served.admit(from, caller)?;
        // Before a byte of the body is read: however many senders are slow, so many bodies are in memory.
        let _place = self.places.try_acquire().map_err(|_| Answer::Overloaded)?;
        let answer_by = arrived + answer_within(source);
        let whole = self.read(source, &head, body, answer_by).await?;
        let (headers, received_at) = (head.headers, Timestamp::now());
        let raw = RawRequest { id, peer: from, client_certificate, headers, body: whole, received_at };
        let whole_at = Instant::now();
        let verified = raw.verify(source)?;
        let meters = served.meters(&self.role.metrics);
        meters.matched(verified.key_id());

        let read = extract::extract(source, &verified);
        let envelope = evidence::envelope(source, &verified, &read, &self.role.instance);
        let traceparent = trace::traceparent(&verified.request().headers, id);
        match self.publisher.publish(source, &envelope, &traceparent, arrived).await {
            Ok(durable) => meters.durable(durable, whole_at.elapsed()),
            Err(error) => {
                report(source, &envelope.event_id, &error);
                return Err(Answer::NotDurable);
            }
        }
        // A test is answered as one even where nothing else of it is usable: providers send bodies without an id.
        let answer = match (&envelope.test, &envelope.unusable) {
            (Some(_), _) => Answer::Test,
            (None, Some(_)) => Answer::Quarantined,
            (None, None) => Answer::Accepted,
        };
        Ok((answer, envelope.event_id))
    }

    /// The whole body.
    async fn read(
        &self,
        source: &Source,
        head: &Parts,
        body: &mut Incoming,
        answer_by: Instant,
    ) -> Result<Bytes, Answer> {
        if is_encoded(&head.headers) {
            return Err(Answer::EncodingUnsupported);
        }
        if body::is_declared_over(body, source.max_body) {
            return Err(Answer::BodyTooLarge);
        }
        let by = answer_by.min(Instant::now() + self.body_timeout);
        body::read(body, source.max_body, by).await
    }

    /// Counts and shows a request that is not taken. Those refused for a fault of ours are only counted: there may be
    /// thousands a second, and a provider sends them again.
    pub(super) fn refused(&self, source: &str, reason: Answer, from: IpAddr, id: Uuid) {
        self.count(source, reason);
        if reason.status() < 500 {
            let (at, source) = (Timestamp::now(), source.to_owned());
            self.role.rejected.add(Rejected { at, source, reason, address: from, request_id: id });
        }
    }

    fn count(&self, source: &str, answer: Answer) {
        self.role.metrics.receiver_requests.with_label_values(&[source, answer.name()]).inc();
    }
}

/// Whether the body is encoded: the signature covers what was sent, and decoding before it is proved is a risk.
fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONTENT_ENCODING).iter().any(|value| {
        let value = value.as_bytes().trim_ascii();
        !value.is_empty() && !value.eq_ignore_ascii_case(b"identity")
    })
}

/// Says why an event was not made durable. That Kafka is away is said once, by the role's health.
fn report(source: &Source, event_id: &str, error: &NotDurable) {
    match error {
        NotDurable::NotReady | NotDurable::Away => {
            tracing::debug!(source = source.name, event_id, %error, "event refused");
        }
        NotDurable::Late | NotDurable::Refused(_) => {
            tracing::warn!(source = source.name, event_id, %error, "event not known to be durable");
        }
        // Both ways closed: each event is at stake now.
        NotDurable::Nowhere { .. } | NotDurable::SlowSpool(_) => {
            tracing::warn!(source = source.name, event_id, %error, "event refused");
        }
        NotDurable::Encoding(_) => {
            tracing::error!(source = source.name, event_id, %error, "event cannot be stored");
        }
    }
}
