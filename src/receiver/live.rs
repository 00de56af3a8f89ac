//! What requests are judged by: TLS, proxies, and each source's settings. A reload replaces all of it at once, and each
//! request is judged by what was in force when it came.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use hyper::header::FORWARDED;
use hyper::header::{HeaderMap, HeaderName};
use hyper::http::request::Parts;

use super::error::Error;
use super::forwarded;
use super::meters::Meters;
use crate::config::{self, ClientCa, IpRanges, Source};
use crate::event::Sha256;
use crate::outcome::Answer;
use crate::server::Caller;
use crate::server::client::ClientAuth;
use crate::server::tls;
use crate::telemetry::Metrics;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What requests are judged by. Made as a whole or not at all.
pub struct Live {
    /// By path.
    sources: HashMap<String, Arc<Served>>,
    trusted_proxies: IpRanges,
    tls: Option<tls::Settings>,
}

/// A source as requests meet it.
pub(super) struct Served {
    pub(super) source: Source,
    client: Option<Arc<ClientAuth>>,
    meters: OnceLock<Meters>,
}

impl Live {
    /// As configured.
    ///
    /// # Errors
    /// When certificates that the configuration took cannot be used after all: a fault of the build.
    pub fn new<'a>(receiver: &config::Receiver, sources: impl IntoIterator<Item = &'a Source>) -> Result<Self, Error> {
        let mut by_path = HashMap::new();
        let mut asked: Vec<ClientCa> = Vec::new();
        for source in sources {
            let client = source.client.as_ref().map(ClientAuth::new).transpose();
            let client = client.map_err(|error| Error::Tls(error.into()))?.map(Arc::new);
            asked.extend(source.client.as_ref().map(|client| client.ca.clone()));
            by_path.insert(
                source.path.clone(),
                Arc::new(Served { source: source.clone(), client, meters: OnceLock::new() }),
            );
        }
        let settings = receiver.tls.as_ref().map(|tls| tls::Settings::new(&tls.identity, &asked)).transpose();
        let tls = settings.map_err(|error| Error::Tls(error.into()))?;
        Ok(Self { sources: by_path, trusted_proxies: receiver.trusted_proxies.clone(), tls })
    }

    /// The source with this path.
    pub(super) fn source(&self, path: &str) -> Option<Arc<Served>> {
        self.sources.get(path).cloned()
    }

    /// What new connections are made with.
    pub(super) fn tls(&self) -> Option<tls::Settings> {
        self.tls.clone()
    }

    /// Where a request comes from: the connection's other end, or for whom that one forwards.
    pub(super) fn sender(&self, caller: &Caller, head: &Parts) -> IpAddr {
        let lines = |name: HeaderName| values(&head.headers, &name);
        forwarded::sender(caller.address.ip(), &lines(X_FORWARDED_FOR), &lines(FORWARDED), &self.trusted_proxies)
    }
}

fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a [u8]> {
    headers.get_all(name).iter().map(hyper::header::HeaderValue::as_bytes).collect()
}

impl Served {
    /// Its counters.
    pub(super) fn meters(&self, metrics: &Metrics) -> &Meters {
        self.meters.get_or_init(|| Meters::new(metrics, &self.source))
    }

    /// Whether a request may come to this source from there; with the fingerprint of the client certificate that was
    /// asked for.
    ///
    /// # Errors
    /// [`Answer::AddressNotAllowed`], [`Answer::ClientCertificateRequired`].
    pub(super) fn admit(&self, sender: IpAddr, caller: &Caller) -> Result<Option<Sha256>, Answer> {
        if self.source.addresses.as_ref().is_some_and(|ranges| !ranges.contains(sender)) {
            return Err(Answer::AddressNotAllowed);
        }
        let Some(asked) = &self.client else { return Ok(None) };
        let proved = caller.certificate.as_ref().and_then(|shown| shown.proved(asked));
        proved.map(Some).ok_or(Answer::ClientCertificateRequired)
    }
}
