//! A proxy between us and a target: how requests go by it, and what of the guard is left behind it.
//!
//! The proxy is the operator's own choice, so its address may be any. It finds the target's address by itself: the guard
//! sees an address that stands in the URL, and what the target's name means here, which need not be what it means there.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::Url;
use reqwest::header::HeaderValue;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::client::ClientError;
use super::guard::{AddressRefused, Guard};
use crate::config::{self, Secret};

/// How long what a name means is gone by: where there is a proxy, names of the world often mean nothing here, and to find
/// that out may take seconds. A connection that is kept goes by its address for as long.
const KNOWN_FOR: Duration = Duration::from_secs(30);
/// Names that are remembered: a target has its own and its token endpoint's.
const NAMES: usize = 16;

/// What is known of a name: since when, and whether it may be asked for.
type Known = (Instant, Result<(), AddressRefused>);

/// The proxy of one target.
pub(super) struct Proxy {
    address: String,
    login: Option<HeaderValue>,
    guard: Guard,
    /// Longest wait for what a name means.
    patience: Duration,
    /// Held while a name is looked up: whoever comes meanwhile waits and takes the same.
    names: Mutex<HashMap<String, Known>>,
}

impl Proxy {
    /// The target's proxy, if it has one.
    pub(super) fn of(target: &config::Target, guard: Guard) -> Option<Self> {
        let address = target.proxy.clone()?;
        let login = target.proxy_login.as_ref().and_then(|login| {
            // Base64 fits into any header.
            let mut value = HeaderValue::from_str(&format!("Basic {}", encoded(login))).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        Some(Self { address, login, guard, patience: target.connect_timeout, names: Mutex::default() })
    }

    /// The way by it, for all requests, whatever variables of the environment say.
    pub(super) fn way(&self) -> Result<reqwest::Proxy, ClientError> {
        let way = reqwest::Proxy::all(&self.address).map_err(|_| ClientError::Proxy)?;
        // As a header, not in the URL: URLs are shown.
        Ok(match &self.login {
            Some(login) => way.custom_http_auth(login.clone()),
            None => way,
        })
    }

    /// Checks what the name in a URL means here; what means nothing here is for the proxy to find out.
    pub(super) async fn check(&self, url: &Url) -> Result<(), AddressRefused> {
        let Some(name) = url.domain() else { return Ok(()) };
        let mut names = self.names.lock().await;
        if let Some((_, found)) = names.get(name).filter(|(since, _)| since.elapsed() < KNOWN_FOR) {
            return *found;
        }
        let found = tokio::time::timeout(self.patience, self.guard.name(name)).await.unwrap_or(Ok(()));
        if names.len() >= NAMES {
            names.clear();
        }
        names.insert(name.to_owned(), (Instant::now(), found));
        found
    }
}

/// What must not be shown of a login: itself, its password, and what it is in a header.
pub(super) fn secrets(login: &Secret) -> impl Iterator<Item = Secret> {
    let bytes = login.expose();
    let password = bytes.iter().position(|byte| *byte == b':').map(|colon| Secret::new(&bytes[colon + 1..]));
    [Some(Secret::new(encoded(login))), Some(login.clone()), password].into_iter().flatten()
}

/// User and password as they stand in a header; without a colon the password is empty.
fn encoded(login: &Secret) -> String {
    let bytes = login.expose();
    if bytes.contains(&b':') { BASE64.encode(bytes) } else { BASE64.encode([bytes, b":"].concat()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(allow_private: bool) -> Proxy {
        Proxy {
            address: "http://127.0.0.1:1".to_owned(),
            login: None,
            guard: Guard::new(allow_private),
            patience: Duration::from_secs(2),
            names: Mutex::default(),
        }
    }

    #[tokio::test]
    async fn names_that_lead_inside_here_are_refused_and_others_left_to_the_proxy() {
        let to = |name: &str| format!("https://{name}/x").parse::<Url>().unwrap();
        let guarded = proxy(false);
        for _ in 0..2 {
            assert!(guarded.check(&to("localhost")).await.is_err());
            // There is no such name anywhere (RFC 6761).
            assert_eq!(guarded.check(&to("erp.invalid")).await, Ok(()));
        }
        assert_eq!(guarded.names.lock().await.len(), 2);
        assert_eq!(proxy(true).check(&to("localhost")).await, Ok(()));
    }

    #[test]
    fn logins_are_written_and_hidden_in_every_form() {
        for (login, header, hidden) in [
            ("user:pass word", "dXNlcjpwYXNzIHdvcmQ=", vec!["user:pass word", "pass word"]),
            ("user:a:b", "dXNlcjphOmI=", vec!["user:a:b", "a:b"]),
            ("user", "dXNlcjo=", vec!["user"]),
        ] {
            let secret = Secret::new(login);
            assert_eq!(encoded(&secret), header);
            let found: Vec<String> = secrets(&secret).map(|s| s.expose_str().unwrap().to_owned()).collect();
            assert_eq!(found, [vec![header], hidden].concat());
        }
    }
}
