//! `ledgerhook send`: a provider as a receiver meets it.
//!
//! Events are made from [`fixtures`] and signed as the source's scheme says. A request ends with
//! its answer or the provider's timeout; anything but 2xx is repeated on the provider's schedule. Load is an open loop:
//! a request is due when it is due, and its latency counts from there, however late it goes out.
//!
//! | file | idea |
//! |---|---|
//! | `schedule` | which event is sent when, and what follows a failure: pure |
//! | `run` | the loop; memory is bounded however many events there are, since any event can be made again from its number |
//! | `http` | one request and its answer |

mod http;
mod run;
mod schedule;
mod show;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::SendReport;
use super::fixtures::{self, Event, Template};
use crate::config::{Secret, Source};
use crate::signature;

pub use show::dry_run;

/// EVENT_TYPE that stands for every type of the provider, in turn.
pub const ALL: &str = "all";
/// More would be more connections than one machine has ports for.
const MAX_CONCURRENCY: usize = 16_384;

/// What is sent, where to, and how.
#[derive(Clone, Debug)]
pub struct SendPlan {
    /// The provider: its scheme, secrets, timeout and retry schedule.
    pub source: Source,
    /// The types of the events, in turn; at least one.
    pub event_types: Vec<String>,
    /// The whole address of the receiver's path, http or https.
    pub url: String,
    /// Different events.
    pub count: u64,
    /// Deliveries a second; without it each is sent as soon as one of `concurrency` is free.
    pub rate: Option<f64>,
    /// Share, from 0 to 1, of further deliveries of events already sent: same id, same bytes.
    pub duplicates: f64,
    /// Requests under way at one time.
    pub concurrency: usize,
    /// Sent as it is in place of made events.
    pub body: Option<Vec<u8>>,
    /// What the events are made from: the same seed makes the same ids and bytes. A time in microseconds since 1970
    /// is when the events begin.
    pub seed: u64,
    /// A repeat that would be due longer than this after an event's first attempt is not waited for; the event is
    /// then reported as abandoned.
    pub max_wait: Duration,
    /// HTTP/2 in place of HTTP/1.1; over plain HTTP without negotiation.
    pub http2: bool,
    /// Authorities in PEM that the receiver's certificate is proved by, in place of the system's.
    pub ca: Option<Vec<u8>>,
    /// The provider's own certificate, its intermediates and its key, in PEM.
    pub identity: Option<Secret>,
    /// Ends the run early: what is under way is finished, nothing else is begun.
    pub stop: CancellationToken,
}

/// Why nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The provider has no such event.
    #[error("source `{source_name}` has no event type `{event_type}`; it is `all` or one of: {known}")]
    UnknownType {
        /// The source.
        source_name: String,
        /// What was asked for.
        event_type: String,
        /// What there is.
        known: String,
    },
    /// The source is of neither built-in provider, so that only a body of the user's can be sent.
    #[error("source `{0}` is of no provider whose events are built in; give the body to send with --body")]
    NoFixtures(String),
    /// A built-in event is not JSON.
    #[error("the built-in event `{event_type}` cannot be read: {error}")]
    Fixture {
        /// Its type.
        event_type: String,
        /// Why.
        error: serde_json::Error,
    },
    /// The plan cannot be carried out.
    #[error("{option} {fault}")]
    Option {
        /// Which part of it.
        option: &'static str,
        /// What is wrong with it.
        fault: String,
    },
    /// Only retired secrets: nothing could be accepted.
    #[error("every secret of source `{0}` is verify_only, so that no request could be accepted")]
    NoSecret(String),
    /// The HTTP client could not be made.
    #[error("cannot make an HTTP client: {0}")]
    Client(String),
}

impl SendPlan {
    /// One event of this type (or of each type in turn, for [`ALL`]): no duplicates, eight requests at a time, repeats
    /// for a minute, and a seed that no other run has.
    ///
    /// # Errors
    /// When the provider has no such event type and no body is given.
    pub fn new(source: Source, event_type: &str, url: String, body: Option<Vec<u8>>) -> Result<Self, SendError> {
        let known: Vec<&str> = known_types(&source);
        let event_types = match event_type {
            _ if body.is_some() => vec![event_type.to_owned()],
            _ if known.is_empty() => return Err(SendError::NoFixtures(source.name)),
            ALL => known.into_iter().map(str::to_owned).collect(),
            one if known.contains(&one) => vec![one.to_owned()],
            other => return Err(unknown(&source, other)),
        };
        Ok(Self {
            source,
            event_types,
            url,
            count: 1,
            rate: None,
            duplicates: 0.0,
            concurrency: 8,
            body,
            seed: jiff::Timestamp::now().as_microsecond().unsigned_abs(),
            max_wait: Duration::from_secs(60),
            http2: false,
            ca: None,
            identity: None,
            stop: CancellationToken::new(),
        })
    }
}

/// Carries the plan out.
///
/// # Errors
/// When the plan cannot be begun. What goes wrong later is in the report.
pub async fn send(plan: SendPlan) -> Result<SendReport, SendError> {
    let load = Load::new(plan)?;
    let post = http::HttpPost::new(&load.plan)?;
    Ok(run::run(Arc::new(load), post).await)
}

/// A plan that can be carried out.
#[derive(Debug)]
struct Load {
    plan: SendPlan,
    templates: Vec<Template>,
    secret: Secret,
    /// Its name, which may be shown.
    secret_id: String,
}

impl Load {
    fn new(plan: SendPlan) -> Result<Self, SendError> {
        let wrong = |option, fault: &str| Err(SendError::Option { option, fault: fault.to_owned() });
        if !(0.0..=1.0).contains(&plan.duplicates) {
            return wrong("duplicates", "is a share from 0 to 1");
        }
        if plan.rate.is_some_and(|rate| !(rate.is_finite() && (1e-6..=1e6).contains(&rate))) {
            return wrong("rate", "is a number of events a second, from 0.000001 to 1000000");
        }
        if !(1..=MAX_CONCURRENCY).contains(&plan.concurrency) {
            return wrong("concurrency", "is from 1 to 16384");
        }
        if plan.event_types.is_empty() {
            return wrong("event type", "is missing");
        }
        // Beyond it the sum of events and duplicates would not be exact.
        if plan.count > 1 << 53 {
            return wrong("count", "is over 2^53");
        }
        let templates = match plan.body {
            Some(_) => Vec::new(),
            None => plan.event_types.iter().map(|name| template(&plan.source, name)).collect::<Result<_, _>>()?,
        };
        let usable = || plan.source.secrets.iter().filter(|secret| !secret.verify_only);
        // What a `test` secret signs is never routed, which is not what one sends events for.
        let Some(secret) = usable().find(|secret| !secret.test).or_else(|| usable().next()) else {
            return Err(SendError::NoSecret(plan.source.name));
        };
        let (secret, secret_id) = (secret.value.clone(), secret.id.clone());
        Ok(Self { plan, templates, secret, secret_id })
    }

    /// Event `n`: which of the types it is, and what is sent.
    fn event(&self, n: u64) -> (usize, Event) {
        let types = u64::try_from(self.plan.event_types.len()).unwrap_or(1).max(1);
        let which = usize::try_from(n % types).unwrap_or(0);
        let event = match (&self.plan.body, self.templates.get(which)) {
            (None, Some(template)) => template.event(self.plan.seed, n / types),
            (body, _) => Event { id: String::new(), body: body.clone().unwrap_or_default() },
        };
        (which, event)
    }

    /// Headers that prove event `n` at this time (seconds since 1970), and those that say its id and type where the
    /// source has them there. An event of a given body has no id of its own: the plan's seed is one.
    fn headers(&self, n: u64, event: &Event, now_s: i64) -> Vec<(String, String)> {
        let source = &self.plan.source;
        let id = if event.id.is_empty() { format!("send_{}", self.plan.seed) } else { event.id.clone() };
        let mut headers = signature::headers(&source.scheme, self.secret.expose(), &id, now_s, &event.body);
        let types = u64::try_from(self.plan.event_types.len()).unwrap_or(1).max(1);
        let event_type = usize::try_from(n % types).ok().and_then(|which| self.plan.event_types.get(which));
        for (name, value) in [(&source.id_header, Some(&id)), (&source.type_header, event_type)] {
            if let (Some(name), Some(value)) = (name, value)
                && !headers.iter().any(|(there, _)| there.eq_ignore_ascii_case(name))
            {
                headers.push((name.clone(), value.clone()));
            }
        }
        headers
    }
}

/// Whose events a source sends: its preset says the form, or the routes that it names.
fn provider(source: &Source) -> Option<&str> {
    let names = [source.preset.as_str(), source.routes.as_str()];
    names.into_iter().find(|name| fixtures::of_provider(name).next().is_some())
}

fn known_types(source: &Source) -> Vec<&'static str> {
    provider(source).map(|name| fixtures::of_provider(name).map(|f| f.event_type).collect()).unwrap_or_default()
}

fn template(source: &Source, event_type: &str) -> Result<Template, SendError> {
    let provider = provider(source).ok_or_else(|| SendError::NoFixtures(source.name.clone()))?;
    let fixture = fixtures::of_provider(provider).find(|fixture| fixture.event_type == event_type);
    let fixture = fixture.ok_or_else(|| unknown(source, event_type))?;
    fixture.template().map_err(|error| SendError::Fixture { event_type: event_type.to_owned(), error })
}

fn unknown(source: &Source, event_type: &str) -> SendError {
    SendError::UnknownType {
        source_name: source.name.clone(),
        event_type: event_type.to_owned(),
        known: known_types(source).join(", "),
    }
}
