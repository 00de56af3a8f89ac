//! The client of one target: what it is made of, what a try comes to.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::access::Access;
use super::classify::Verdict;
use super::idempotency::Idempotency;
use super::preset::Preset;
use super::proxy;
use super::sign::SigningKeyError;
use super::template::TemplateError;
use super::veil::Veil;
use super::wire::Wire;
use crate::config;

/// Sends records to one target.
pub struct Client {
    pub(super) wire: Arc<Wire>,
    pub(super) access: Access,
    pub(super) preset: Preset,
    pub(super) veil: Arc<Veil>,
    pub(super) timeout: Duration,
    pub(super) url: String,
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
    /// The proxy cannot be used. Its address is not shown.
    #[error("proxy cannot be used: it is no http URL")]
    Proxy,
    /// A template of the description is wrong.
    #[error("its description: {0}")]
    Template(#[from] TemplateError),
    /// A secret is not there.
    #[error("secrets.{0} is missing")]
    Secret(String),
    /// A secret holds what no header can carry. It is not shown.
    #[error("a secret has characters that no header can carry, e.g. a line break")]
    Unspeakable,
    /// No file for refresh tokens.
    #[error("token_file is missing: the target changes the refresh token")]
    TokenFile,
    /// The file of refresh tokens cannot be used.
    #[error("token_file {path}: {what}")]
    Tokens {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// What came of one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it means.
    pub verdict: Verdict,
    /// HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// The beginning of the answer's body, at most [`MAX_ANSWER_BYTES`](crate::event::MAX_ANSWER_BYTES), without the
    /// target's secrets.
    pub excerpt: Option<String>,
    /// The fault in words, where there was no answer or it was not what was expected.
    pub fault: Option<String>,
    /// What the description did to fields of the record, e.g. that one was cut.
    pub notes: Vec<String>,
    /// Requests that were made to the target for it, without those for a token.
    pub requests: u32,
}

impl Client {
    /// A client for this target; connects to nothing yet.
    ///
    /// # Errors
    /// When the URL, a secret or a template cannot be used, or no HTTP client can be made.
    pub fn new(target: &config::Target) -> Result<Self, ClientError> {
        let preset = Preset::compile(target)?;
        let secrets = target.secrets.values();
        Ok(Self {
            wire: Arc::new(Wire::new(target)?),
            access: Access::new(target, &preset.bare())?,
            preset,
            veil: Arc::new(Veil::new(secrets.cloned().chain(target.proxy_login.iter().flat_map(proxy::secrets)))),
            timeout: target.timeout,
            url: target.url.clone(),
        })
    }

    /// Most requests that one try makes, as a rule: a look-up, and every step.
    #[must_use]
    pub fn most_requests(&self) -> u32 {
        self.preset.most_requests()
    }

    /// What the target offers against a second document.
    #[must_use]
    pub const fn idempotency(&self) -> Idempotency {
        self.preset.idempotency
    }
}
