//! One HTTP exchange with a target: bounded in time and size, no redirects, no proxy, no secret in any text.

use std::error::Error as StdError;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, ClientBuilder, Identity, Response, Url};

use super::classify::{Fault, Verdict, of_answer, of_fault};
use super::guard::{AddressRefused, Guard};
use super::idempotency::Idempotency;
use super::request::Request;
use super::sign::{SigningKey, SigningKeyError};
use crate::config;
use crate::event::{MAX_ANSWER_BYTES, Record, Timestamp};

/// Most of an answer that is read at all. What is behind the excerpt is read only so that the connection can be used
/// again; a longer answer costs its connection.
const MAX_READ_BYTES: usize = 64 * 1024;
/// Idle connections are closed after this time: shorter than the 60 s after which usual load balancers forget them.
const IDLE: Duration = Duration::from_secs(50);

/// Sends records to one target.
pub struct Client {
    http: reqwest::Client,
    url: Url,
    guard: Guard,
    key: Option<SigningKey>,
}

/// Why there is no client for a target: its configuration is wrong.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL cannot be used.
    #[error("the URL cannot be used: {0}")]
    Url(String),
    /// The signing secret cannot be used.
    #[error(transparent)]
    Key(#[from] SigningKeyError),
    /// A certificate or key is no usable PEM. It says nothing of what it is instead.
    #[error("tls.{0} is not usable: PEM is expected, a key without a passphrase")]
    Tls(&'static str),
    /// No HTTP client can be made, e.g. without TLS roots.
    #[error("no HTTP client can be made: {0}")]
    Http(String),
}

/// What came of one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it means.
    pub verdict: Verdict,
    /// HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// The beginning of the answer's body, at most [`MAX_ANSWER_BYTES`].
    pub excerpt: Option<String>,
    /// The fault in words, where there was no answer.
    pub fault: Option<String>,
}

impl Client {
    /// A client for this target; connects to nothing yet.
    ///
    /// # Errors
    /// When the URL or the signing secret cannot be used, or no HTTP client can be made.
    pub fn new(target: &config::Target) -> Result<Self, ClientError> {
        let url = target.url.parse::<Url>().map_err(|e| ClientError::Url(e.to_string()))?;
        let guard = Guard::new(target.allow_private_addresses);
        let key = target.signing_secret.as_ref().map(SigningKey::read).transpose()?;
        let http = reqwest::Client::builder()
            .timeout(target.timeout)
            .connect_timeout(target.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            // A proxy would resolve names itself, past the guard.
            .no_proxy()
            .dns_resolver(guard)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(target.max_concurrency)
            .user_agent(concat!("ledgerhook/", env!("CARGO_PKG_VERSION")));
        let http = certificates(http, &target.tls)?.build().map_err(|e| ClientError::Http(chain(e)))?;
        Ok(Self { http, url, guard, key })
    }

    /// What the target offers against a second document. Both presets carry `webhook-id`, which receivers have to
    /// remember for as long as they can.
    #[must_use]
    pub const fn idempotency(&self) -> Idempotency {
        Idempotency::Key { validity: None }
    }

    /// Sends a record once and says what came of it. Takes no longer than the target's timeout.
    pub async fn send(&self, record: &Record, now: Timestamp) -> Answer {
        match self.exchange(Request::of(record, self.key.as_ref(), now)).await {
            Ok(response) => {
                let status = response.status().as_u16();
                let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                let verdict = of_answer(status, retry_after, now);
                // The status has decided; a body that stops half-way changes nothing.
                Answer { verdict, status: Some(status), excerpt: excerpt(response).await, fault: None }
            }
            Err(fault) => Answer {
                verdict: of_fault(&fault),
                status: None,
                excerpt: None,
                fault: fault.detail().map(str::to_owned),
            },
        }
    }

    async fn exchange(&self, request: Request) -> Result<Response, Fault> {
        self.guard.url(&self.url).map_err(|refused| Fault::AddressRefused(refused.to_string()))?;
        let mut headers = HeaderMap::with_capacity(request.headers.len());
        for (name, value) in request.headers {
            // Bytes, not text: an id may hold more than ASCII.
            let value = HeaderValue::from_bytes(value.as_bytes())
                .map_err(|_| Fault::Unsendable(format!("no header can carry the value of {name}")))?;
            headers.insert(HeaderName::from_static(name), value);
        }
        self.http.post(self.url.clone()).headers(headers).body(request.body).send().await.map_err(fault)
    }
}

/// Adds a target's own certificates: whom it may be, and who we are.
fn certificates(mut http: ClientBuilder, tls: &config::TargetTls) -> Result<ClientBuilder, ClientError> {
    if let Some(ca) = &tls.ca {
        let authorities = Certificate::from_pem_bundle(ca.expose()).map_err(|_| ClientError::Tls("ca"))?;
        if authorities.is_empty() {
            return Err(ClientError::Tls("ca"));
        }
        http = http.tls_certs_only(authorities);
    }
    if let (Some(certificate), Some(key)) = (&tls.client_certificate, &tls.client_key) {
        let pem = [certificate.expose(), b"\n", key.expose()].concat();
        let identity = Identity::from_pem(&pem).map_err(|_| ClientError::Tls("client_certificate"))?;
        http = http.identity(identity);
    }
    Ok(http)
}

/// Sorts the client's errors by whether anything may have been sent.
fn fault(error: reqwest::Error) -> Fault {
    let mut source: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(cause) = source {
        if let Some(refused) = cause.downcast_ref::<AddressRefused>() {
            return Fault::AddressRefused(refused.to_string());
        }
        source = cause.source();
    }
    // A timeout of the connection is both.
    match (error.is_connect(), error.is_timeout(), error.is_builder()) {
        (true, _, _) => Fault::Connect(chain(error)),
        (_, true, _) => Fault::Timeout,
        (_, _, true) => Fault::Unsendable(chain(error)),
        _ => Fault::Cut(chain(error)),
    }
}

/// An error with its causes, without the URL: the client's own text stops at "error sending request".
fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

async fn excerpt(mut response: Response) -> Option<String> {
    let mut head = Vec::new();
    let mut read = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        read += chunk.len();
        let room = MAX_ANSWER_BYTES.saturating_sub(head.len());
        head.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if read > MAX_READ_BYTES {
            break;
        }
    }
    (!head.is_empty()).then(|| cut(&String::from_utf8_lossy(&head)).to_owned())
}

/// The longest beginning of at most [`MAX_ANSWER_BYTES`] that ends with a whole character.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_ANSWER_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_end_with_a_whole_character() {
        assert_eq!(cut("fine"), "fine");
        let long = format!("{}é", "x".repeat(MAX_ANSWER_BYTES - 1));
        assert_eq!(cut(&long).len(), MAX_ANSWER_BYTES - 1);
        // A replacement character is longer than the byte it stands for.
        let garbage = String::from_utf8_lossy(&[0xff; MAX_ANSWER_BYTES]).into_owned();
        assert!(cut(&garbage).len() <= MAX_ANSWER_BYTES && cut(&garbage).len() > MAX_ANSWER_BYTES - 3);
    }
}
