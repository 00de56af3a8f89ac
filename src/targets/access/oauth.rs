//! Tokens by OAuth 2 (RFC 6749): fetched once for all who wait, kept until shortly before they end, and fetched again
//! when the target refuses one. A refresh token that comes in place of ours is written down before the new one is used, and
//! read by every process of the target before it asks for a token: the one before it may be void since.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::HeaderValue;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Headers, Refused, basic, hidden};
use crate::config::description::{self, ClientAuthentication, Grant};
use crate::config::{self, Secret};
use crate::targets::client::ClientError;
use crate::targets::request::{Prepared, encoded};
use crate::targets::rules::Received;
use crate::targets::veil::Veil;
use crate::targets::wire::Wire;

/// A token is not used in its last part: clocks differ, and requests take time.
const MARGIN: Duration = Duration::from_secs(60);
/// Longest wait for another process that is asking for a token, and pause between two looks.
const HELD: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Life of a token whose endpoint says nothing.
const USUAL: Duration = Duration::from_secs(3_600);

/// The tokens of one target.
pub(super) struct OAuth {
    url: String,
    client_id: String,
    client_secret: Secret,
    client_authentication: ClientAuthentication,
    fixed: Vec<(String, String)>,
    store: Option<Store>,
    /// Held while a token is fetched: whoever comes meanwhile waits and takes the same.
    state: Arc<Mutex<State>>,
}

struct State {
    token: Option<Token>,
    refresh: Option<Secret>,
    /// What the store held when it was last read or written.
    stored: Option<Secret>,
}

struct Token {
    header: HeaderValue,
    until: Instant,
}

/// Where the newest refresh token is kept, and the one of the configuration that it comes from.
struct Store {
    path: PathBuf,
    origin: String,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    /// SHA-256 of the configuration's token: another one there begins anew.
    origin_sha256: String,
    refresh_token: String,
}

impl OAuth {
    pub(super) fn new(
        oauth: &description::OAuth,
        target: &config::Target,
        text: &dyn Fn(&str, &str) -> Result<String, ClientError>,
        secret: &dyn Fn(&str) -> Result<Secret, ClientError>,
    ) -> Result<Self, ClientError> {
        let mut fixed = Vec::new();
        let (mut store, mut refresh, mut stored) = (None, None, None);
        match &oauth.grant {
            Grant::ClientCredentials => fixed.push(("grant_type".to_owned(), "client_credentials".to_owned())),
            Grant::RefreshToken(name) => {
                fixed.push(("grant_type".to_owned(), "refresh_token".to_owned()));
                let own = secret(name)?;
                let path = target.token_file.clone().ok_or(ClientError::TokenFile)?;
                let kept = Store { path, origin: hex::encode(Sha256::digest(own.expose())) };
                kept.try_out()?;
                stored = kept.load()?;
                refresh = Some(stored.clone().unwrap_or(own));
                store = Some(kept);
            }
        }
        if let Some(scope) = &oauth.scope {
            fixed.push(("scope".to_owned(), text("auth.scope", scope)?));
        }
        for (name, tree) in &oauth.parameters {
            if let description::Tree::Text(template) = tree {
                fixed.push((name.clone(), text(&format!("auth.parameters.{name}"), template)?));
            }
        }
        Ok(Self {
            url: text("auth.token_url", &oauth.token_url)?,
            client_id: text("auth.client_id", &oauth.client_id)?,
            client_secret: secret(&oauth.client_secret)?,
            client_authentication: oauth.client_authentication,
            fixed,
            store,
            state: Arc::new(Mutex::new(State { token: None, refresh, stored })),
        })
    }

    /// The header of a request: a token that is good, fetched where there is none.
    pub(super) async fn header(self: &Arc<Self>, wire: &Arc<Wire>, veil: &Arc<Veil>) -> Result<HeaderValue, Refused> {
        let mut state = Arc::clone(&self.state).lock_owned().await;
        if let Some(token) = state.token.as_ref().filter(|token| Instant::now() < token.until) {
            return Ok(token.header.clone());
        }
        let (oauth, wire, veil) = (Arc::clone(self), Arc::clone(wire), Arc::clone(veil));
        // A task of its own: whoever waits may be gone before the answer is there, and the refresh token in it is then
        // the only one that counts.
        let fetch = Handle::current().spawn(async move {
            let token = oauth.fetch(&wire, &veil, &mut state).await?;
            Ok(state.token.insert(token).header.clone())
        });
        fetch
            .await
            .unwrap_or_else(|error| Err(Refused::token(format!("fetching it failed: {error}"), false, None, None)))
    }

    /// Forgets the token of these headers. Says whether another one may be had: not where it was refused just now.
    pub(super) async fn forget(&self, used: &Headers) -> bool {
        let mut state = self.state.lock().await;
        if let Some(token) = &state.token
            && used.iter().any(|(_, value)| *value == token.header)
        {
            state.token = None;
        }
        true
    }

    async fn fetch(&self, wire: &Wire, veil: &Veil, state: &mut State) -> Result<Token, Refused> {
        let mut form = self.fixed.clone();
        let mut held = None;
        if let Some(store) = &self.store {
            let passing = |what: String| Refused::token(what, false, None, None);
            held = Some(store.hold().await.map_err(passing)?);
            let stored = store.load().map_err(|error| passing(error.to_string()))?;
            // What we could not write down is newer than what is there.
            if stored.is_some() && stored != state.stored {
                (state.refresh, state.stored) = (stored.clone(), stored);
            }
        }
        if let Some(refresh) = &state.refresh {
            form.push(("refresh_token".to_owned(), spoken(refresh)?));
        }
        let mut headers = Vec::new();
        match self.client_authentication {
            ClientAuthentication::Basic => {
                let header = basic(&self.client_id, &self.client_secret);
                let header = header.map_err(|error| Refused::token(error.to_string(), true, None, None))?;
                headers.push(("authorization".to_owned(), header));
            }
            ClientAuthentication::Body => {
                form.push(("client_id".to_owned(), self.client_id.clone()));
                form.push(("client_secret".to_owned(), spoken(&self.client_secret)?));
            }
        }
        let request = Prepared {
            method: "POST".to_owned(),
            path: String::new(),
            query: Vec::new(),
            headers: vec![
                ("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned()),
                ("accept".to_owned(), "application/json".to_owned()),
            ],
            body: encoded(&form).into(),
        };
        let began = Instant::now();
        let received = wire.exchange_at(&self.url, &request, &headers, veil).await;
        let received = received.map_err(|fault| Refused::unasked("the token endpoint cannot be asked", &fault))?;
        let token = self.take(received, veil, state, began);
        drop(held);
        token
    }

    fn take(&self, received: Received, veil: &Veil, state: &mut State, began: Instant) -> Result<Token, Refused> {
        let answer = received.json();
        let status = Some(received.status);
        // Also in the excerpt of this very answer.
        for member in ["access_token", "refresh_token", "id_token"] {
            if let Some(token) = answer.get(member).and_then(Json::as_str) {
                veil.add(Secret::new(token));
            }
        }
        let excerpt = received.excerpt.as_deref().map(|text| veil.over(text));
        let unusable = |what: &str| {
            let what = format!("the token endpoint answered {}: {what}", received.status);
            // 400 and 401 are what RFC 6749 gives to wrong clients and grants; the rest may pass.
            Refused::token(what, matches!(received.status, 400 | 401 | 403), status, excerpt.clone())
        };
        if !(200..300).contains(&received.status) {
            return Err(unusable(answer.get("error").and_then(Json::as_str).unwrap_or("no token")));
        }
        let token = answer.get("access_token").and_then(Json::as_str).filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| unusable("no access_token in it"))?;
        let header = hidden(format!("Bearer {token}").as_bytes()).map_err(|_| unusable("a token for no header"))?;
        let seconds = match answer.get("expires_in") {
            Some(Json::Number(seconds)) => seconds.as_u64(),
            Some(Json::String(seconds)) => seconds.parse().ok(),
            _ => None,
        };
        let life = seconds.map_or(USUAL, Duration::from_secs);
        if let Some(refresh) = answer.get("refresh_token").and_then(Json::as_str)
            && let Some(store) = &self.store
        {
            // The old one may be void already: this one counts from here on, and nothing goes out until it is written
            // down, since a crash would lose it.
            state.refresh = Some(Secret::new(refresh));
            store.save(refresh).map_err(|error| unusable(&error))?;
            state.stored = Some(Secret::new(refresh));
        }
        Ok(Token { header, until: began + life.saturating_sub(MARGIN.min(life / 4)) })
    }
}

fn spoken(secret: &Secret) -> Result<String, Refused> {
    let text = secret.expose_str().map(|text| text.trim().to_owned());
    text.ok_or_else(|| Refused::token("a secret is not text".to_owned(), true, None, None))
}

impl Store {
    /// Finds out whether a token can be kept, before one is used up for nothing.
    fn try_out(&self) -> Result<(), ClientError> {
        let beside = self.path.with_extension(format!("{}.try", std::process::id()));
        let tried = std::fs::File::create(&beside).and_then(|_| std::fs::remove_file(&beside));
        let what = |error| format!("cannot be written: {error}");
        tried.map_err(|error| ClientError::Tokens { path: self.path.clone(), what: what(error) })
    }

    /// Keeps other processes from asking for a token until it is dropped.
    async fn hold(&self) -> Result<std::fs::File, String> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = self.path.with_extension("lock");
        let fault = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
        let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(|error| fault(&error))?;
        let until = Instant::now() + HELD;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(std::fs::TryLockError::WouldBlock) if Instant::now() < until => {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                Err(error) => return Err(fault(&error)),
            }
        }
    }

    /// The newest token, where one is kept that comes from the configuration's.
    fn load(&self) -> Result<Option<Secret>, ClientError> {
        let tokens = |what: String| ClientError::Tokens { path: self.path.clone(), what };
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(tokens(error.to_string())),
        };
        let stored: Option<Stored> = serde_json::from_str(&text).ok();
        match stored {
            Some(stored) if stored.origin_sha256 == self.origin => Ok(Some(Secret::new(stored.refresh_token))),
            Some(_) => Ok(None),
            None => Err(tokens("is no file of ours; a damaged one has to be removed".to_owned())),
        }
    }

    /// Replaces it as a whole, for nobody else to read.
    fn save(&self, refresh: &str) -> Result<(), String> {
        let stored = Stored { origin_sha256: self.origin.clone(), refresh_token: refresh.to_owned() };
        let text = serde_json::to_string(&stored).unwrap_or_default();
        let beside = self.path.with_extension("new");
        let write = || {
            use std::io::Write as _;
            use std::os::unix::fs::OpenOptionsExt as _;
            drop(std::fs::remove_file(&beside));
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&beside, &self.path)
        };
        write().map_err(|error: std::io::Error| {
            format!("its new refresh token cannot be kept in {}: {error}", self.path.display())
        })
    }
}
