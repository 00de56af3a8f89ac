//! What an answer means, or its absence: a pure function of status, headers and fault.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::event::{AttemptOutcome, Timestamp};

/// Longest window that a target may ask for. A day covers a maintenance; beyond it a mistaken header would stop a
/// target for good.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(86_400);

/// What kept an exchange from its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No connection: the name, the address, the port or TLS, or one that was gone before the request began. Nothing was
    /// sent.
    Connect(String),
    /// The proxy refused our login. Nothing was sent to the target.
    ProxyLogin(String),
    /// The target refused our client certificate, or that we show none. It took nothing of what was sent.
    CertificateRefused(String),
    /// The guard refused the address. Nothing was sent.
    AddressRefused(String),
    /// No answer in time, after the request may have been sent.
    Timeout,
    /// The connection ended before an answer, after the request may have been sent.
    Cut(String),
    /// The record makes no valid request, e.g. an id that no header can carry. Nothing was sent.
    Unsendable(String),
}

/// Whom a failed try concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The record alone: its key waits, others go on.
    Record,
    /// The target as a whole: nothing else would fare better now.
    Target,
}

/// Stable name of what happened: `http_<status>`, the fault's, or one that the target's description gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The status of the answer.
    Status(u16),
    /// A fault's name.
    Fault(&'static str),
    /// Another name, where it is known whether the target may have acted on the record.
    Named {
        /// The name.
        name: Arc<str>,
        /// Whether it may have.
        doubt: bool,
    },
}

impl Reason {
    /// A name, and whether the target may have acted on the record.
    #[must_use]
    pub fn named(name: &str, doubt: bool) -> Self {
        Self::Named { name: name.into(), doubt }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "http_{status}"),
            Self::Fault(name) => f.write_str(name),
            Self::Named { name, .. } => f.write_str(name),
        }
    }
}

/// What one try came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The class.
    pub outcome: AttemptOutcome,
    /// Why.
    pub reason: Reason,
    /// Whom it concerns.
    pub scope: Scope,
    /// How long the target asked us to wait, at most [`MAX_RETRY_AFTER`].
    pub retry_after: Option<Duration>,
    /// How long nothing is left of the target's limit, whatever became of the record; at most [`MAX_RETRY_AFTER`].
    pub spent: Option<Duration>,
}

impl Verdict {
    /// Whether the target may have acted on the record, or may still: no answer, or one in which it failed by itself.
    #[must_use]
    pub const fn leaves_doubt(&self) -> bool {
        match (self.outcome, &self.reason) {
            (_, Reason::Named { doubt, .. }) => *doubt,
            (AttemptOutcome::Unresolved, _) => true,
            (AttemptOutcome::Retry, Reason::Status(status)) => *status >= 500,
            _ => false,
        }
    }

    /// Whether it is ours alone, and says nothing of the target: the record was left out, or makes no request. A description's
    /// own reasons are of another kind.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.outcome == AttemptOutcome::Filtered
            || matches!(self.reason, Reason::Fault("unsendable" | "not_taken" | "no_look_up" | "nothing_sent"))
    }

    /// The same verdict, where it is known otherwise whether the target may have acted on the record.
    #[must_use]
    pub fn with_doubt(self, doubt: bool) -> Self {
        Self { reason: Reason::named(&self.reason.to_string(), doubt), ..self }
    }
}

/// Classifies an answer. `retry_after` is the header as it came; `now` is for its form as a date.
///
/// A 409 is not taken for "has it already": that has to be proved, and a webhook offers no proof.
#[must_use]
pub fn of_answer(status: u16, retry_after: Option<&str>, now: Timestamp) -> Verdict {
    use AttemptOutcome::{Credentials, Delivered, RateLimited, Rejected, Retry};
    let retry_after = retry_after.and_then(|value| wait(value, now));
    let (outcome, scope) = match status {
        200..=299 => (Delivered, Scope::Record),
        401 | 403 => (Credentials, Scope::Target),
        408 | 425 => (Retry, Scope::Record),
        429 => (RateLimited, Scope::Target),
        503 if retry_after.is_some() => (RateLimited, Scope::Target),
        // Redirects are not followed: the guard checked this address, and a signature must not travel elsewhere.
        300..=499 => (Rejected, Scope::Record),
        _ => (Retry, Scope::Record),
    };
    Verdict { outcome, reason: Reason::Status(status), scope, retry_after, spent: None }
}

/// Classifies a fault.
#[must_use]
pub fn of_fault(fault: &Fault) -> Verdict {
    use AttemptOutcome::{Credentials, Rejected, Retry, Unresolved};
    let (outcome, scope, name) = match fault {
        Fault::Connect(_) => (Retry, Scope::Target, "connect_failed"),
        Fault::ProxyLogin(_) => (Credentials, Scope::Target, "proxy_login_refused"),
        Fault::CertificateRefused(_) => (Credentials, Scope::Target, "client_certificate_refused"),
        Fault::AddressRefused(_) => (Retry, Scope::Target, "address_refused"),
        Fault::Timeout => (Unresolved, Scope::Record, "timeout"),
        Fault::Cut(_) => (Unresolved, Scope::Record, "connection_cut"),
        Fault::Unsendable(_) => (Rejected, Scope::Record, "unsendable"),
    };
    Verdict { outcome, reason: Reason::Fault(name), scope, retry_after: None, spent: None }
}

impl Fault {
    /// The fault in words.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Connect(detail)
            | Self::ProxyLogin(detail)
            | Self::CertificateRefused(detail)
            | Self::AddressRefused(detail)
            | Self::Cut(detail)
            | Self::Unsendable(detail) => Some(detail),
            Self::Timeout => None,
        }
    }
}

/// `Retry-After` in seconds or as a date (RFC 9110, section 10.2.3); none where it is neither.
pub(super) fn wait(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit are still a number, and over the cap.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let date = httpdate::parse_http_date(value).ok()?;
        let since_epoch = date.duration_since(std::time::UNIX_EPOCH).ok()?;
        let micros = i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(micros).since(now)
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(784_111_777_000_000); // Sun, 06 Nov 1994 08:49:37 GMT

    #[test]
    fn answers() {
        use AttemptOutcome::{Credentials, Delivered, RateLimited, Rejected, Retry};
        for (status, header, outcome, scope) in [
            (200, None, Delivered, Scope::Record),
            (204, Some("5"), Delivered, Scope::Record),
            (299, None, Delivered, Scope::Record),
            (301, None, Rejected, Scope::Record),
            (304, None, Rejected, Scope::Record),
            (400, None, Rejected, Scope::Record),
            (401, None, Credentials, Scope::Target),
            (403, Some("5"), Credentials, Scope::Target),
            (404, None, Rejected, Scope::Record),
            (408, None, Retry, Scope::Record),
            (409, None, Rejected, Scope::Record),
            (410, None, Rejected, Scope::Record),
            (422, None, Rejected, Scope::Record),
            (425, None, Retry, Scope::Record),
            (429, None, RateLimited, Scope::Target),
            (429, Some("5"), RateLimited, Scope::Target),
            (500, None, Retry, Scope::Record),
            (500, Some("5"), Retry, Scope::Record),
            (502, None, Retry, Scope::Record),
            (503, None, Retry, Scope::Record),
            (503, Some("soon"), Retry, Scope::Record),
            (503, Some("5"), RateLimited, Scope::Target),
            (599, None, Retry, Scope::Record),
            (999, None, Retry, Scope::Record),
        ] {
            let verdict = of_answer(status, header, NOW);
            assert_eq!((verdict.outcome, verdict.scope), (outcome, scope), "{status} {header:?}");
            assert_eq!(verdict.reason.to_string(), format!("http_{status}"));
            assert_eq!(verdict.leaves_doubt(), status >= 500 && outcome == Retry, "{status} {header:?}");
        }
    }

    #[test]
    fn faults() {
        use AttemptOutcome::{Credentials, Rejected, Retry, Unresolved};
        for (fault, outcome, scope, name) in [
            (Fault::Connect(String::new()), Retry, Scope::Target, "connect_failed"),
            (Fault::ProxyLogin(String::new()), Credentials, Scope::Target, "proxy_login_refused"),
            (Fault::CertificateRefused(String::new()), Credentials, Scope::Target, "client_certificate_refused"),
            (Fault::AddressRefused(String::new()), Retry, Scope::Target, "address_refused"),
            (Fault::Timeout, Unresolved, Scope::Record, "timeout"),
            (Fault::Cut(String::new()), Unresolved, Scope::Record, "connection_cut"),
            (Fault::Unsendable(String::new()), Rejected, Scope::Record, "unsendable"),
        ] {
            let verdict = of_fault(&fault);
            assert_eq!((verdict.outcome, verdict.scope, verdict.reason.to_string().as_str()), (outcome, scope, name));
            assert_eq!(verdict.leaves_doubt(), outcome == Unresolved, "{name}");
        }
    }

    #[test]
    fn windows() {
        let seconds = Duration::from_secs;
        for (header, window) in [
            ("0", Some(seconds(0))),
            (" 120 ", Some(seconds(120))),
            ("86401", Some(MAX_RETRY_AFTER)),
            ("99999999999999999999999999", Some(MAX_RETRY_AFTER)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(seconds(10))),
            ("Sunday, 06-Nov-94 08:49:47 GMT", Some(seconds(10))),
            ("Sun Nov  6 08:49:47 1994", Some(seconds(10))),
            ("Sun, 06 Nov 1994 08:49:27 GMT", Some(seconds(0))),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(MAX_RETRY_AFTER)),
            ("", None),
            ("-5", None),
            ("+5", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(of_answer(429, Some(header), NOW).retry_after, window, "{header:?}");
        }
    }
}
