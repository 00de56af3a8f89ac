//! Who we are: the headers that a request carries for it, and the tokens behind them.

mod oauth;
mod session;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::header::HeaderValue;

use super::classify::{Fault, Reason, Scope as Whom, Verdict};
use super::client::ClientError;
use super::request::Prepared;
use super::sign::SigningKey;
use super::template::{Dialect, Leaf, Scope, Templates};
use super::veil::Veil;
use super::wire::Wire;
use crate::config::description::{Auth, Statuses};
use crate::config::{self, Secret};
use crate::event::{AttemptOutcome, Timestamp};
use oauth::OAuth;
use session::Session;

/// How one target is told who we are.
pub(super) struct Access {
    way: Way,
    session: Option<Session>,
}

enum Way {
    None,
    Fixed(String, HeaderValue),
    OAuth(Arc<OAuth>),
    Signature(Option<SigningKey>),
}

/// Headers that say who we are, marked as secret.
pub(super) type Headers = Vec<(String, HeaderValue)>;

/// Why a request could not be made ours. Nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) verdict: Verdict,
    pub(super) status: Option<u16>,
    pub(super) excerpt: Option<String>,
    pub(super) what: String,
}

impl Access {
    /// By a target's description and secrets.
    pub(super) fn new(target: &config::Target, scope: &Scope) -> Result<Self, ClientError> {
        let text = |place: &str, source: &str| {
            let mut templates = Templates::new(Dialect::Strict);
            let leaf = Leaf::compile(&mut templates, place, source)?;
            Ok::<_, ClientError>(leaf.text(&templates, scope, &serde_json::Value::Null)?.unwrap_or_default())
        };
        let secret = |name: &str| target.secrets.get(name).cloned();
        let needed = |name: &str| secret(name).ok_or_else(|| ClientError::Secret(name.to_owned()));
        let way = match &target.description.auth {
            Auth::None => Way::None,
            Auth::Basic { user, password } => {
                Way::Fixed("authorization".to_owned(), basic(&text("auth.user", user)?, &needed(password)?)?)
            }
            Auth::Header { name, value } => {
                let value = text("auth.value", value)?;
                Way::Fixed(name.clone(), hidden(&filled(&value, &secret)?)?)
            }
            Auth::OAuth(oauth) => Way::OAuth(Arc::new(OAuth::new(oauth, target, &text, &needed)?)),
            Auth::Signature { secret: name } => {
                Way::Signature(secret(name).as_ref().map(SigningKey::read).transpose()?)
            }
        };
        let session = target.description.session.as_ref();
        Ok(Self { way, session: session.map(|login| Session::new(login, target, scope)).transpose()? })
    }

    /// The headers of one request. Fetches what it needs for them; `id` and `now` are for signatures.
    pub(super) async fn headers(
        &self,
        wire: &Arc<Wire>,
        veil: &Arc<Veil>,
        request: &Prepared,
        id: &str,
        now: Timestamp,
    ) -> Result<Headers, Refused> {
        let mut headers = self.own(wire, veil, request, id, now).await?;
        if let Some(session) = &self.session {
            headers.extend(session.headers(wire, veil, headers.clone()).await?);
        }
        Ok(headers)
    }

    async fn own(
        &self,
        wire: &Arc<Wire>,
        veil: &Arc<Veil>,
        request: &Prepared,
        id: &str,
        now: Timestamp,
    ) -> Result<Headers, Refused> {
        Ok(match &self.way {
            Way::None => Vec::new(),
            Way::Fixed(name, value) => vec![(name.clone(), value.clone())],
            Way::OAuth(oauth) => vec![("authorization".to_owned(), oauth.header(wire, veil).await?)],
            Way::Signature(key) => {
                let seconds = now.as_millis().div_euclid(1000);
                let unsendable = |name: &str| {
                    let fault = Fault::Unsendable(format!("no header can carry the value of {name}"));
                    Refused::of_fault(&fault)
                };
                let carried = |name: &str, value: &str| {
                    let carried = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| unsendable(name))?;
                    Ok((name.to_owned(), carried))
                };
                let mut headers = vec![carried("webhook-id", id)?, carried("webhook-timestamp", &seconds.to_string())?];
                if let Some(key) = key {
                    headers.push(carried("webhook-signature", &key.sign(id, seconds, &request.body))?);
                }
                headers
            }
        })
    }

    /// Forgets the token that was refused with this status, where there is another to be had: the request may be made
    /// once more.
    pub(super) async fn renewable(&self, status: u16, used: &Headers) -> bool {
        let own = match &self.way {
            Way::OAuth(oauth) if status == 401 => oauth.forget(used).await,
            _ => false,
        };
        let session = match &self.session {
            Some(session) if session.is_over(status) => session.forget(used).await,
            _ => false,
        };
        own || session
    }

    /// What says who we are, in words.
    pub(super) const fn name(&self) -> &'static str {
        match (&self.way, &self.session) {
            (_, Some(_)) => "session",
            (Way::None, None) => "none",
            (Way::Fixed(..), None) => "secret in a header",
            (Way::OAuth(_), None) => "OAuth 2 token",
            (Way::Signature(Some(_)), None) => "Standard Webhooks signature",
            (Way::Signature(None), None) => "unsigned",
        }
    }
}

impl Refused {
    /// A token could not be asked for: `what` of it.
    fn unasked(what: &str, fault: &Fault) -> Self {
        match fault {
            // Someone has to act, as for the target itself.
            Fault::ProxyLogin(_) | Fault::CertificateRefused(_) => Self::of_fault(fault),
            _ => {
                let why = fault.detail().unwrap_or("no answer in time");
                Self::token(format!("{what}: {why}"), false, None, None)
            }
        }
    }

    /// The time of a try was over before its token or session was there.
    pub(super) fn late() -> Self {
        Self::token("no token or session in the target's timeout".to_owned(), false, None, None)
    }

    fn of_fault(fault: &Fault) -> Self {
        Self {
            verdict: super::classify::of_fault(fault),
            status: None,
            excerpt: None,
            what: fault.detail().unwrap_or_default().to_owned(),
        }
    }

    /// No token could be had: `refused` says that asking again brings nothing until someone acts.
    fn token(what: String, refused: bool, status: Option<u16>, excerpt: Option<String>) -> Self {
        let (outcome, name) = if refused {
            (AttemptOutcome::Credentials, "token_refused")
        } else {
            (AttemptOutcome::Retry, "token_unavailable")
        };
        let verdict = Verdict {
            outcome,
            reason: Reason::named(name, false),
            scope: Whom::Target,
            retry_after: None,
            spent: None,
        };
        Self { verdict, status, excerpt, what }
    }
}

/// A header's value that no debug output shows.
fn hidden(value: &[u8]) -> Result<HeaderValue, ClientError> {
    let mut value = HeaderValue::from_bytes(value).map_err(|_| ClientError::Unspeakable)?;
    value.set_sensitive(true);
    Ok(value)
}

fn basic(user: &str, password: &Secret) -> Result<HeaderValue, ClientError> {
    let pair = [user.as_bytes(), b":", password.expose()].concat();
    hidden(format!("Basic {}", BASE64.encode(pair)).as_bytes())
}

/// A text with its `{names}` replaced by the secrets of those names.
fn filled(text: &str, secret: &dyn Fn(&str) -> Option<Secret>) -> Result<Vec<u8>, ClientError> {
    let mut filled = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        filled.extend_from_slice(before.as_bytes());
        match after.split_once('}').and_then(|(name, rest)| Some((secret(name)?, rest))) {
            Some((secret, behind)) => {
                filled.extend_from_slice(secret.expose());
                rest = behind;
            }
            None => {
                filled.push(b'{');
                rest = after;
            }
        }
    }
    filled.extend_from_slice(rest.as_bytes());
    Ok(filled)
}

fn any(statuses: &[Statuses], status: u16) -> bool {
    statuses.iter().any(|statuses| statuses.contains(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_not_asked_for_is_the_operators_where_someone_has_to_act() {
        use AttemptOutcome::{Credentials, Retry};
        let what = || "why".to_owned();
        for (fault, outcome, reason) in [
            (Fault::ProxyLogin(what()), Credentials, "proxy_login_refused"),
            (Fault::CertificateRefused(what()), Credentials, "client_certificate_refused"),
            (Fault::Connect(what()), Retry, "token_unavailable"),
            (Fault::Cut(what()), Retry, "token_unavailable"),
            (Fault::Timeout, Retry, "token_unavailable"),
        ] {
            let verdict = Refused::unasked("no session can be had", &fault).verdict;
            assert_eq!((verdict.outcome, verdict.reason.to_string().as_str()), (outcome, reason), "{fault:?}");
            assert_eq!((verdict.scope, verdict.leaves_doubt()), (Whom::Target, false), "{fault:?}");
        }
    }
}
