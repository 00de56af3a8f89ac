//! Answers as the contract has them: status, JSON body, `Retry-After`, `Allow`.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body as _;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::outcome::Answer;
use crate::telemetry::health::State;

/// Body of a success.
#[derive(Serialize)]
struct Taken<'a> {
    status: &'static str,
    event_id: Option<&'a str>,
    request_id: Uuid,
}

/// Body of everything else.
#[derive(Serialize)]
struct Refused {
    error: Explained,
    request_id: Uuid,
}

#[derive(Serialize)]
struct Explained {
    code: &'static str,
    message: &'static str,
}

/// The answer to a webhook; `event_id` where its event is durable.
pub(super) fn webhook(answer: Answer, event_id: Option<&str>, request: Uuid) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(answer.status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let mut response = match explain(answer) {
        None => of_json(status, &Taken { status: answer.name(), event_id, request_id: request }),
        Some(message) => {
            let error = Explained { code: answer.name(), message };
            of_json(status, &Refused { error, request_id: request })
        }
    };
    let mut put = |name, value| response.headers_mut().insert(name, HeaderValue::from_static(value));
    if let Some(seconds) = retry_after(answer) {
        put(header::RETRY_AFTER, seconds);
    }
    if answer == Answer::MethodNotAllowed {
        put(header::ALLOW, "POST");
    }
    response
}

/// `GET /healthz`: the process lives.
pub(super) fn alive() -> Response<Full<Bytes>> {
    of_json(StatusCode::OK, &json!({ "alive": true }))
}

/// `GET /readyz`: whether an event can be made durable now.
pub(super) fn readiness(state: &State) -> Response<Full<Bytes>> {
    match state {
        State::Ready => of_json(StatusCode::OK, &json!({ "ready": true })),
        State::NotReady(reason) => {
            of_json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "ready": false, "reason": reason }))
        }
    }
}

/// A look at health in another way than `GET`.
pub(super) fn only_get(request: Uuid) -> Response<Full<Bytes>> {
    let mut response = webhook(Answer::MethodNotAllowed, None, request);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

/// The same answer as `HEAD` has it: with the length of a body, and none.
pub(super) fn without_body(answer: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let (mut head, body) = answer.into_parts();
    if let Some(length) = body.size_hint().exact() {
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(head, Full::default())
}

/// Seconds until a repeat makes sense. Short: a provider that obeys must not lose its attempts to waiting (AccBooks
/// gives up after 31 s).
const fn retry_after(answer: Answer) -> Option<&'static str> {
    match answer {
        Answer::Overloaded => Some("1"),
        Answer::NotDurable | Answer::ShuttingDown => Some("2"),
        _ => None,
    }
}

/// What is said to the outside: what to do, nothing of what is inside. None for a success.
const fn explain(answer: Answer) -> Option<&'static str> {
    Some(match answer {
        Answer::Accepted | Answer::Test | Answer::Quarantined => return None,
        Answer::SignatureMissing => "the request lacks the signature header, or one that is signed with it",
        Answer::SignatureInvalid => "the signature is not one of this source's keys over the body as received",
        Answer::TimestampOutOfRange => "the signature was made for another time than about now",
        Answer::AddressNotAllowed => "this source does not send from this address",
        Answer::ClientCertificateRequired => "this source needs a client certificate of its own",
        Answer::NotFound => "no source has this path",
        Answer::MethodNotAllowed => "this path does not take this method",
        Answer::RequestTimeout => "the body did not come in time",
        Answer::BodyTooLarge => "the body is larger than this source's limit",
        Answer::EncodingUnsupported => "the body has to be sent without content encoding",
        Answer::HeadersTooLarge => "the headers are larger than the limit",
        Answer::BodyIncomplete => "the body ended before it was whole",
        Answer::RequestMalformed => "the request is no HTTP",
        Answer::NotDurable => "the event could not be stored in time; send it again",
        Answer::ShuttingDown => "the receiver is shutting down; send it again",
        Answer::Overloaded => "too many requests at one time; send it again",
    })
}

fn of_json(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    // Strings and flags: nothing that JSON cannot hold.
    let mut response = Response::new(Full::from(serde_json::to_vec(body).unwrap_or_default()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_ours_says_when_to_repeat_and_nothing_else_does() {
        for &answer in Answer::ALL {
            let response = webhook(answer, Some("e1"), Uuid::nil());
            assert_eq!(response.status().as_u16(), answer.status());
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), answer.status() == 503, "{answer}");
            assert_eq!(response.headers().contains_key(header::ALLOW), answer.status() == 405, "{answer}");
            assert_eq!(explain(answer).is_none(), answer.status() == 200, "{answer}");
        }
    }
}
