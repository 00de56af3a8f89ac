//! One request and its answer.

use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde_json::Value;

use super::{SendError, SendPlan};

/// Answers of receivers are a few hundred bytes; what is longer is not read.
const MAX_ANSWER: usize = 16 * 1024;

/// What came of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A status, and the code in the body where it has one.
    Status {
        /// The HTTP status.
        status: u16,
        /// `status` of a success, `error.code` of a failure.
        code: Option<String>,
    },
    /// Nothing in the provider's time.
    Timeout,
    /// No connection.
    Connect,
    /// The connection ended before the answer did.
    Cut,
}

impl Answer {
    /// Whether the provider is content.
    pub(super) const fn accepted(&self) -> bool {
        matches!(self, Self::Status { status: 200..=299, .. })
    }

    /// How the report names it.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Status { status, code: Some(code) } => format!("{status} {code}"),
            Self::Status { status, code: None } => status.to_string(),
            Self::Timeout => "timeout".to_owned(),
            Self::Connect => "connect".to_owned(),
            Self::Cut => "cut".to_owned(),
        }
    }
}

/// Sends one request. A trait, so that the loop can be tested with a clock that stands still.
pub(super) trait Post: Clone + Send + 'static {
    /// Posts the body with these headers; bounded by the caller.
    fn post(&self, body: Vec<u8>, headers: Vec<(String, String)>) -> impl Future<Output = Answer> + Send;
}

/// The network.
#[derive(Clone)]
pub(super) struct HttpPost {
    client: reqwest::Client,
    url: Url,
}

impl HttpPost {
    pub(super) fn new(plan: &SendPlan) -> Result<Self, SendError> {
        let wrong = |option, fault: String| SendError::Option { option, fault };
        let url = Url::parse(&plan.url).map_err(|error| wrong("url", format!("is not an address: {error}")))?;
        if !["http", "https"].contains(&url.scheme()) || !url.has_host() {
            return Err(wrong("url", "is not an http or https address".to_owned()));
        }
        // The client panics without a provider. Whoever set one before keeps it.
        drop(rustls::crypto::ring::default_provider().install_default());
        let builder = reqwest::Client::builder()
            .user_agent(concat!("ledgerhook-send/", env!("CARGO_PKG_VERSION")))
            // A provider does not follow: an answer that is not 2xx is a failure.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(plan.source.deadline)
            .pool_max_idle_per_host(plan.concurrency)
            .no_proxy();
        let builder = match &plan.ca {
            None => builder,
            Some(pem) => {
                let ca = reqwest::Certificate::from_pem_bundle(pem)
                    .map_err(|error| wrong("ca", format!("cannot be read: {error}")))?;
                builder.tls_certs_only(ca)
            }
        };
        let builder = match &plan.identity {
            None => builder,
            Some(pem) => {
                // The error could quote what it read.
                let identity = reqwest::Identity::from_pem(pem.expose())
                    .map_err(|_| wrong("client-cert", "and its key cannot be read: PEM is expected".to_owned()))?;
                builder.identity(identity)
            }
        };
        let builder = if plan.http2 { builder.http2_prior_knowledge() } else { builder.http1_only() };
        let client = builder.build().map_err(|error| SendError::Client(error.to_string()))?;
        Ok(Self { client, url })
    }
}

impl Post for HttpPost {
    async fn post(&self, body: Vec<u8>, headers: Vec<(String, String)>) -> Answer {
        let json = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut request = self.client.post(self.url.clone()).header(json.0, json.1).body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return Answer::Connect,
            Err(error) if error.is_timeout() => return Answer::Timeout,
            Err(_) => return Answer::Cut,
        };
        let status = response.status().as_u16();
        let mut text = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if text.len() + chunk.len() <= MAX_ANSWER => text.extend_from_slice(&chunk),
                // Too long to be one of ours: the status alone counts.
                Ok(Some(_)) => return Answer::Status { status, code: None },
                Ok(None) => break,
                Err(_) => return Answer::Cut,
            }
        }
        Answer::Status { status, code: code(&text) }
    }
}

/// The code of an answer in the form of our receiver; none for any other.
fn code(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let code = value.pointer("/error/code").or_else(|| value.get("status"))?.as_str()?;
    // A label: whatever a stranger answers, it stays short and on its line.
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    (code.len() <= 64 && code.chars().all(plain)).then(|| code.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_from_our_own_form_alone() {
        for (body, expected) in [
            (r#"{"status":"accepted","event_id":"e"}"#, Some("accepted")),
            (r#"{"error":{"code":"overloaded","message":"m"}}"#, Some("overloaded")),
            (r#"{"status":200}"#, None),
            (r#"{"status":"two words"}"#, None),
            ("OK", None),
            ("", None),
        ] {
            assert_eq!(code(body.as_bytes()).as_deref(), expected, "{body}");
        }
        assert_eq!(code(format!(r#"{{"status":"{}"}}"#, "a".repeat(65)).as_bytes()), None);
    }
}
