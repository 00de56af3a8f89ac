//! Sessions: a request made before others, whose token or cookies they carry, made again when they no longer count.

use std::time::Duration;

use reqwest::header::HeaderValue;
use serde_json::Value as Json;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Headers, Refused, any, filled, hidden};
use crate::config::description::{Login, Statuses, TokenAt};
use crate::config::{self, Secret};
use crate::targets::client::ClientError;
use crate::targets::request::{Prepared, RequestTemplate};
use crate::targets::rules::Received;
use crate::targets::template::{Dialect, Scope, Templates};
use crate::targets::veil::Veil;
use crate::targets::wire::Wire;

/// One target's session.
pub(super) struct Session {
    /// The request, with its `{names}` in place of secrets.
    login: Prepared,
    secrets: std::collections::BTreeMap<String, Secret>,
    token: Option<TokenAt>,
    headers: Vec<(String, String)>,
    cookies: bool,
    expired: Vec<Statuses>,
    lifetime: Duration,
    state: Mutex<Option<(Headers, Instant)>>,
}

impl Session {
    pub(super) fn new(login: &Login, target: &config::Target, scope: &Scope) -> Result<Self, ClientError> {
        let mut templates = Templates::new(Dialect::Strict);
        let request = RequestTemplate::compile(&mut templates, "session", &login.request)?;
        Ok(Self {
            login: request.render(&templates, scope, &Json::Null)?,
            secrets: target.secrets.clone(),
            token: login.token.clone(),
            headers: login.headers.clone(),
            cookies: login.cookies,
            expired: login.expired.clone(),
            lifetime: login.lifetime,
            state: Mutex::new(None),
        })
    }

    /// Whether a status says that the session is over.
    pub(super) fn is_over(&self, status: u16) -> bool {
        status == 401 || any(&self.expired, status)
    }

    /// Forgets the session of these headers. Others may have done so, and have logged in again since: that one is good. Says
    /// whether there is another to be had.
    pub(super) async fn forget(&self, used: &Headers) -> bool {
        self.state.lock().await.take_if(|(headers, _)| headers.iter().all(|header| used.contains(header)));
        true
    }

    /// The headers of a request. Logs in where there is no session; `own` are the headers of that request.
    pub(super) async fn headers(&self, wire: &Wire, veil: &Veil, own: Headers) -> Result<Headers, Refused> {
        let mut state = self.state.lock().await;
        if let Some((headers, until)) = state.as_ref().filter(|(_, until)| Instant::now() < *until) {
            let _ = until;
            return Ok(headers.clone());
        }
        let request = self.request().map_err(|error| Refused::token(error.to_string(), true, None, None))?;
        let received = wire.exchange(&request, &own, veil).await;
        let received = received.map_err(|fault| Refused::unasked("no session can be had", &fault))?;
        let headers = self.take(&received, veil)?;
        *state = Some((headers.clone(), Instant::now() + self.lifetime));
        Ok(headers)
    }

    /// The request with its secrets.
    fn request(&self) -> Result<Prepared, ClientError> {
        let secret = |name: &str| self.secrets.get(name).cloned();
        let fill = |text: &str, escape: &dyn Fn(&str) -> String| {
            let secret = |name: &str| {
                let secret = secret(name)?;
                Some(Secret::new(escape(secret.expose_str()?.trim())))
            };
            let bytes = filled(text, &secret)?;
            String::from_utf8(bytes).map_err(|_| ClientError::Unspeakable)
        };
        let plain = |text: &str| text.to_owned();
        let pairs = |pairs: &[(String, String)]| {
            pairs
                .iter()
                .map(|(name, value)| Ok((name.clone(), fill(value, &plain)?)))
                .collect::<Result<Vec<_>, ClientError>>()
        };
        let kind = self.login.headers.iter().find(|(name, _)| name == "content-type").map(|(_, value)| value.as_str());
        let body = String::from_utf8_lossy(&self.login.body);
        let body = match kind {
            // In a form, braces are percent-encoded.
            Some("application/x-www-form-urlencoded") => {
                let escape =
                    |text: &str| crate::targets::request::encoded(&[(String::new(), text.to_owned())])[1..].to_owned();
                fill(&body.replace("%7B", "{").replace("%7D", "}"), &escape)?
            }
            _ => {
                let escape = |text: &str| {
                    let quoted = Json::from(text).to_string();
                    quoted[1..quoted.len() - 1].to_owned()
                };
                fill(&body, &escape)?
            }
        };
        Ok(Prepared {
            query: pairs(&self.login.query)?,
            headers: pairs(&self.login.headers)?,
            body: body.into(),
            ..self.login.clone()
        })
    }

    fn take(&self, received: &Received, veil: &Veil) -> Result<Headers, Refused> {
        let refused = |what: &str| {
            let what = format!("the login was answered {}: {what}", received.status);
            let wrong = (400..500).contains(&received.status) && !matches!(received.status, 408 | 425 | 429);
            Refused::token(what, wrong, Some(received.status), received.excerpt.clone())
        };
        if !(200..300).contains(&received.status) {
            return Err(refused("no session"));
        }
        let body = received.json();
        let token = match &self.token {
            None => None,
            Some(TokenAt::Header(name)) => Some(received.header(name).map(str::to_owned)),
            Some(TokenAt::Pointer(pointer)) => Some(body.pointer(pointer).and_then(|token| match token {
                Json::String(token) => Some(token.clone()),
                Json::Number(token) => Some(token.to_string()),
                _ => None,
            })),
            Some(TokenAt::Text(mark)) => Some(behind(received.body.as_deref().unwrap_or_default(), mark)),
        };
        let token = match token {
            None => String::new(),
            Some(token) => token.filter(|token| !token.is_empty()).ok_or_else(|| refused("no token in it"))?,
        };
        if !token.is_empty() {
            veil.add(Secret::new(token.as_str()));
        }
        let mut headers = Vec::new();
        for (name, value) in &self.headers {
            let value = hidden(value.replace("{token}", &token).as_bytes());
            headers.push((name.clone(), value.map_err(|_| refused("a token that no header can carry"))?));
        }
        if self.cookies {
            let cookies = received.headers.iter().filter(|(name, _)| name == "set-cookie");
            let cookies: Vec<&str> = cookies
                .filter_map(|(_, cookie)| cookie.split(';').next())
                .filter(|cookie| !cookie.is_empty())
                .collect();
            let value: Option<HeaderValue> = hidden(cookies.join("; ").as_bytes()).ok();
            headers.extend(value.filter(|_| !cookies.is_empty()).map(|value| ("cookie".to_owned(), value)));
        }
        Ok(headers)
    }
}

/// What stands behind a mark, up to the next quote, line or `;`.
fn behind(text: &str, mark: &str) -> Option<String> {
    let (_, rest) = text.split_once(mark)?;
    let end = rest.find(['\'', '"', ';', '\n', '\r']).unwrap_or(rest.len());
    Some(rest[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of several requests that hear that a session is over, one logs in again; the others come too late to forget it.
    #[tokio::test]
    async fn a_session_that_another_has_renewed_stays() {
        let headers = |token: &'static str| vec![("cookie".to_owned(), HeaderValue::from_static(token))];
        let session = Session {
            login: Prepared::default(),
            secrets: std::collections::BTreeMap::new(),
            token: None,
            headers: Vec::new(),
            cookies: true,
            expired: Vec::new(),
            lifetime: Duration::from_secs(60),
            state: Mutex::new(Some((headers("new"), Instant::now()))),
        };
        assert!(session.forget(&headers("old")).await, "there is another to be had");
        assert!(session.state.lock().await.is_some());
        assert!(session.forget(&headers("new")).await);
        assert!(session.state.lock().await.is_none());
        assert!(session.forget(&headers("new")).await, "or will be");
    }

    #[test]
    fn a_token_in_a_text_is_found() {
        for (text, token) in [
            ("EWREST_access_token='abc.def';\nEWREST_x='1';", Some("abc.def")),
            ("EWREST_access_token='", Some("")),
            ("nothing", None),
        ] {
            assert_eq!(behind(text, "EWREST_access_token='").as_deref(), token, "{text}");
        }
    }
}
