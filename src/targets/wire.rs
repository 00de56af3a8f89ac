//! One HTTP exchange with a target: bounded in time and size, no redirects, no proxy but the
//! configuration's, no secret in any text.

use std::error::Error as StdError;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, ClientBuilder, Identity, Method, Response, StatusCode, Url};
use rustls::AlertDescription;

use super::classify::Fault;
use super::client::ClientError;
use super::guard::{AddressRefused, Guard};
use super::proxy::Proxy;
use super::request::Prepared;
use super::rules::Received;
use super::veil::Veil;
use crate::config;
use crate::event::MAX_ANSWER_BYTES;

/// Most of an answer that is read. Look-ups of a page of documents fit; an answer that is longer costs its connection,
/// and its body counts as none.
const MAX_READ_BYTES: usize = 1024 * 1024;
/// Idle connections are closed after this time: shorter than the 60 s after which usual load balancers forget them.
const IDLE: Duration = Duration::from_secs(50);

/// What a request may take beyond the target's timeout where nobody else ends it.
const GRACE: Duration = Duration::from_secs(1);

/// What the client's error says last where a proxy answered CONNECT with 407. Its type is not public, so there is nothing
/// else to tell it by; the integration tests hold these words.
const LOGIN_REFUSED: &str = "proxy authorization required";

/// What a server says that refuses our certificate, or misses it. Of its own it says none of these: it would hear them.
const CERTIFICATE_REFUSED: [AlertDescription; 8] = [
    AlertDescription::CertificateRequired,
    AlertDescription::UnknownCA,
    AlertDescription::BadCertificate,
    AlertDescription::UnsupportedCertificate,
    AlertDescription::CertificateRevoked,
    AlertDescription::CertificateExpired,
    AlertDescription::CertificateUnknown,
    AlertDescription::AccessDenied,
];

/// The way to one target.
pub(super) struct Wire {
    http: reqwest::Client,
    base: Url,
    guard: Guard,
    proxy: Option<Proxy>,
}

impl Wire {
    /// A way to this target; connects to nothing yet.
    pub(super) fn new(target: &config::Target) -> Result<Self, ClientError> {
        let base = url(&target.url)?;
        let guard = Guard::new(target.allow_private_addresses);
        let http = reqwest::Client::builder()
            // A try has its own end, for all its requests together, and that one decides what it came to.
            .timeout(target.timeout + GRACE)
            .connect_timeout(target.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            // Variables of the environment would lead requests past the guard, and nobody would know.
            .no_proxy()
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(target.max_concurrency)
            .user_agent(concat!("ledgerhook/", env!("CARGO_PKG_VERSION")));
        let proxy = Proxy::of(target, guard);
        let http = match &proxy {
            None => http.dns_resolver(guard),
            // All requests go by it, so the only name that is resolved for a connection is its own: it may stand anywhere.
            Some(proxy) => http.proxy(proxy.way()?).dns_resolver(Guard::new(true)),
        };
        let http = certificates(http, &target.tls)?.build().map_err(|e| ClientError::Http(chain(e)))?;
        Ok(Self { http, base, guard, proxy })
    }

    /// Sends a request to the target and reads the answer. `secret` are headers that say who we are.
    pub(super) async fn exchange(
        &self,
        request: &Prepared,
        secret: &[(String, HeaderValue)],
        veil: &Veil,
    ) -> Result<Received, Fault> {
        let mut url = self.base.clone();
        if !request.path.is_empty() {
            let under = url.path().trim_end_matches('/').to_owned();
            url.set_path(&format!("{under}/{}", request.path.trim_start_matches('/')));
        }
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&request.query);
        }
        self.send(url, request, secret, veil).await
    }

    /// Sends a request to a whole address, e.g. of a token endpoint, under the same bounds.
    pub(super) async fn exchange_at(
        &self,
        address: &str,
        request: &Prepared,
        secret: &[(String, HeaderValue)],
        veil: &Veil,
    ) -> Result<Received, Fault> {
        let url = url(address).map_err(|error| Fault::Unsendable(error.to_string()))?;
        self.send(url, request, secret, veil).await
    }

    async fn send(
        &self,
        url: Url,
        request: &Prepared,
        secret: &[(String, HeaderValue)],
        veil: &Veil,
    ) -> Result<Received, Fault> {
        let refused = |refused: AddressRefused| Fault::AddressRefused(refused.to_string());
        self.guard.url(&url).map_err(refused)?;
        if let Some(proxy) = &self.proxy {
            proxy.check(&url).await.map_err(refused)?;
        }
        // Through a tunnel answers are the target's own; otherwise a 407 is the proxy's, which passed nothing on.
        let by_proxy = self.proxy.is_some() && url.scheme() == "http";
        let method = Method::from_bytes(request.method.as_bytes());
        let method = method.map_err(|_| Fault::Unsendable("the method is none".to_owned()))?;
        let mut headers = HeaderMap::with_capacity(request.headers.len() + secret.len());
        for (name, value) in &request.headers {
            // Bytes, not text: an id may hold more than ASCII.
            let unsendable = || Fault::Unsendable(format!("no header can carry the value of {name}"));
            let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| unsendable())?;
            headers.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| unsendable())?, value);
        }
        for (name, value) in secret {
            let name = HeaderName::from_bytes(name.as_bytes());
            headers.insert(name.map_err(|_| Fault::Unsendable("a header's name is none".to_owned()))?, value.clone());
        }
        let sent = self.http.request(method, url).headers(headers).body(request.body.clone()).send().await;
        let response = sent.map_err(|error| fault(error, self.proxy.is_some()))?;
        if by_proxy && response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            return Err(Fault::ProxyLogin("the proxy answered 407".to_owned()));
        }
        receive(response, veil).await
    }
}

/// An address that can be used.
fn url(text: &str) -> Result<Url, ClientError> {
    text.parse::<Url>().map_err(|error| ClientError::Url(error.to_string()))
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
fn fault(error: reqwest::Error, by_proxy: bool) -> Fault {
    if let Some(refused) = causes(&error).find_map(|cause| cause.downcast_ref::<AddressRefused>()) {
        return Fault::AddressRefused(refused.to_string());
    }
    if causes(&error).any(refuses_certificate) {
        return Fault::CertificateRefused(chain(error));
    }
    let unsent = error.is_connect() || causes(&error).any(never_began);
    // A timeout of the connection is both.
    match (unsent, error.is_timeout(), error.is_builder()) {
        (true, _, _) => {
            let what = chain(error);
            if by_proxy && what.ends_with(LOGIN_REFUSED) { Fault::ProxyLogin(what) } else { Fault::Connect(what) }
        }
        (_, true, _) => Fault::Timeout,
        (_, _, true) => Fault::Unsendable(chain(error)),
        _ => Fault::Cut(chain(error)),
    }
}

/// What is behind an error, down to the first cause.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |cause| (**cause).source())
}

/// Whether this is the server's word against our certificate. With TLS 1.3 the handshake is over for us, and the request
/// on its way, before we hear it; but no server reads a request before it has taken the certificate.
fn refuses_certificate(cause: &(dyn StdError + 'static)) -> bool {
    // By its text, which is the TLS library's own: HTTP/2 hands on nothing else of it.
    let text = cause.to_string();
    CERTIFICATE_REFUSED.iter().any(|alert| text == rustls::Error::AlertReceived(*alert).to_string())
}

/// Whether the connection was gone before the request began, e.g. since the server ended it right behind the handshake: no
/// place was left for the request (closed), or it was given back (canceled).
fn never_began(cause: &(dyn StdError + 'static)) -> bool {
    cause.downcast_ref::<hyper::Error>().is_some_and(|error| error.is_closed() || error.is_canceled())
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

/// Reads an answer. A body that stops half-way counts as none: what it would have said is not known.
async fn receive(mut response: Response, veil: &Veil) -> Result<Received, Fault> {
    let status = response.status().as_u16();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = response.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    let mut bytes = Vec::new();
    let whole = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                let room = MAX_READ_BYTES.saturating_sub(bytes.len());
                bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if chunk.len() > room {
                    break false;
                }
            }
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    let lossy = String::from_utf8_lossy(&bytes);
    // Secrets go before the end is cut off: half of one would not be known again.
    let excerpt = (!bytes.is_empty()).then(|| cut(&veil.over(head(&lossy))).to_owned());
    Ok(Received { status, headers, excerpt, body: whole.then(|| lossy.into_owned()) })
}

/// Enough of a text for an excerpt, whatever a veil makes shorter.
fn head(text: &str) -> &str {
    &text[..text.floor_char_boundary(4 * MAX_ANSWER_BYTES)]
}

/// The longest beginning of at most [`MAX_ANSWER_BYTES`] that ends with a whole character.
pub(super) fn cut(text: &str) -> &str {
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
