//! What a description says that answers mean: the first rule that fits wins, behind all of them the common ones.

use serde_json::{Map, Value as Json};

use super::classify::{MAX_RETRY_AFTER, Reason, Scope as Whom, Verdict, of_answer, wait};
use super::template::{Compiled, Scope, TemplateError, Templates};
use crate::config::description::{AnswerRule, Meaning, Statuses};
use crate::event::{AttemptOutcome, Timestamp};

/// A compiled rule.
pub(super) struct Rule {
    status: Vec<Statuses>,
    when: Option<Compiled>,
    is: Meaning,
    reason: Option<String>,
    retry_after: Option<Compiled>,
    whole_target: bool,
}

/// An answer as rules see it.
#[derive(Clone, Debug, Default)]
pub(super) struct Received {
    /// HTTP status.
    pub(super) status: u16,
    /// Headers, names in lower case.
    pub(super) headers: Vec<(String, String)>,
    /// The body as text; none where it was longer than is read, or stopped half-way.
    pub(super) body: Option<String>,
    /// The body's beginning, for people.
    pub(super) excerpt: Option<String>,
}

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) meaning: Meaning,
    pub(super) verdict: Verdict,
}

impl Rule {
    pub(super) fn compile_all(
        templates: &mut Templates,
        place: &str,
        rules: &[AnswerRule],
    ) -> Result<Vec<Self>, TemplateError> {
        let mut compiled = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            let mut expression = |source: &Option<String>, key: &str| {
                let compile = |source: &String| templates.expression(&format!("{place}[{index}].{key}"), source);
                source.as_ref().map(compile).transpose()
            };
            compiled.push(Self {
                status: rule.status.clone(),
                when: expression(&rule.when, "when")?,
                is: rule.is,
                reason: rule.reason.clone(),
                retry_after: expression(&rule.retry_after, "retry_after")?,
                whole_target: rule.whole_target,
            });
        }
        Ok(compiled)
    }

    /// Whether it fits, for all that the status says.
    fn may_fit(&self, status: u16) -> bool {
        self.status.is_empty() || self.status.iter().any(|statuses| statuses.contains(status))
    }

    fn fits(&self, templates: &Templates, scope: &Scope) -> bool {
        // An expression that fails says nothing of the answer; the next rule may.
        self.when.as_ref().is_none_or(|when| templates.holds(when, scope).unwrap_or(false))
    }
}

impl Received {
    /// A header's value.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null where it is none.
    pub(super) fn json(&self) -> Json {
        self.body.as_deref().and_then(|body| serde_json::from_str(body).ok()).unwrap_or_default()
    }

    /// The answer as expressions know it: `status`, `headers`, `body` as JSON, `text`.
    pub(super) fn to_json(&self, body: &Json) -> Json {
        let headers: Map<String, Json> =
            self.headers.iter().map(|(name, value)| (name.clone(), Json::from(value.as_str()))).collect();
        let mut answer = Map::new();
        answer.insert("status".to_owned(), Json::from(self.status));
        answer.insert("headers".to_owned(), Json::Object(headers));
        answer.insert("body".to_owned(), body.clone());
        answer.insert("text".to_owned(), Json::from(self.body.as_deref().unwrap_or_default()));
        Json::Object(answer)
    }
}

/// What an answer means by these rules, the first lists first. `scope` knows the `answer`. Where a rule looks at an answer
/// that did not come whole, nothing final is made of it.
pub(super) fn judge(
    templates: &Templates,
    rules: [&[Rule]; 2],
    scope: &Scope,
    received: &Received,
    now: Timestamp,
) -> Judged {
    let common = of_answer(received.status, received.header("retry-after"), now);
    let mut rules = rules.into_iter().flatten().filter(|rule| rule.may_fit(received.status));
    let is_whole = received.body.is_some();
    let rule = rules.find(|rule| (!is_whole && rule.when.is_some()) || rule.fits(templates, scope));
    let Some(rule) = rule.filter(|rule| is_whole || rule.when.is_none()) else {
        if rule.is_some() && matches!(common.outcome, AttemptOutcome::Delivered | AttemptOutcome::Rejected) {
            let reason = Reason::named("answer_unreadable", true);
            let verdict = Verdict { outcome: AttemptOutcome::Unresolved, reason, ..common };
            return Judged { meaning: Meaning::Unknown, verdict };
        }
        let meaning = match common.outcome {
            AttemptOutcome::Delivered => Meaning::Success,
            AttemptOutcome::Credentials => Meaning::Credentials,
            AttemptOutcome::RateLimited => Meaning::RateLimited,
            AttemptOutcome::Retry => Meaning::Retry,
            _ => Meaning::Rejected,
        };
        return Judged { meaning, verdict: common };
    };
    let asked = rule.retry_after.as_ref().and_then(|expression| templates.json(expression, scope).ok());
    let asked = asked.and_then(|value| match value {
        Json::String(text) => wait(&text, now),
        Json::Number(number) => wait(&number.to_string(), now),
        _ => None,
    });
    let (outcome, whom) = match rule.is {
        Meaning::Success => (AttemptOutcome::Delivered, Whom::Record),
        Meaning::Duplicate => (AttemptOutcome::Duplicate, Whom::Record),
        Meaning::Retry => (AttemptOutcome::Retry, if rule.whole_target { Whom::Target } else { Whom::Record }),
        Meaning::RateLimited => (AttemptOutcome::RateLimited, Whom::Target),
        Meaning::Credentials => (AttemptOutcome::Credentials, Whom::Target),
        Meaning::Rejected | Meaning::Absent => (AttemptOutcome::Rejected, Whom::Record),
        Meaning::Unknown => (AttemptOutcome::Unresolved, Whom::Record),
    };
    let status = Reason::Status(received.status);
    let doubt = rule.is == Meaning::Unknown || (rule.is == Meaning::Retry && received.status >= 500);
    let reason = rule.reason.as_deref().map_or(status, |name| Reason::named(name, doubt));
    let retry_after = asked.or(common.retry_after).map(|wait| wait.min(MAX_RETRY_AFTER));
    Judged { meaning: rule.is, verdict: Verdict { outcome, reason, scope: whom, retry_after, spent: None } }
}

#[cfg(test)]
mod tests;
