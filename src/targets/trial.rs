//! Trying a target out: what would be sent, and whether it is there and lets us in, without creating anything.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Map, Value as Json};

use super::classify::Verdict;
use super::client::{Answer, Client};
use super::preset::Asked;
use super::request::Prepared;
use super::rules::judge;
use super::template::TemplateError;
use crate::event::{AttemptOutcome, Record, Timestamp};

/// One request that a record would lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// `look_up`, or the step's name.
    pub name: String,
    /// The request. Values that only an answer can tell stand as `<name>`.
    pub request: Prepared,
}

/// What asking a target came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Whether the target answered at all.
    pub connected: bool,
    /// Whether it let us in; none where its description has no harmless request to ask with.
    pub let_in: Option<bool>,
    /// What it answered, or why it did not.
    pub answer: Answer,
}

impl Client {
    /// The requests that this record would lead to, with who we are left out, and what of the record was cut.
    ///
    /// # Errors
    /// When a template cannot be rendered with it.
    pub fn show(&self, record: &Arc<Record>) -> Result<(Vec<Shown>, Vec<String>), TemplateError> {
        let Some(plan) = self.preset.plan(record) else { return Ok((Vec::new(), Vec::new())) };
        let mut trip = self.preset.trip(plan, record)?;
        if !self.preset.lets_through(&trip)? {
            return Ok((Vec::new(), vec!["left out by the target's filter".to_owned()]));
        }
        if !self.preset.takes(plan, &mut trip)? {
            return Ok((Vec::new(), vec!["not taken: the target does not take records like this one".to_owned()]));
        }
        let kept = plan.look_up.iter().flat_map(|search| &search.keep);
        let kept = kept.chain(plan.steps.iter().flat_map(|step| &step.keep));
        let kept: Map<String, Json> = kept.map(|(name, _)| (name.clone(), Json::from(format!("<{name}>")))).collect();
        trip.keep(kept, false);
        let look_up = plan.look_up.iter().map(|search| ("look_up", &search.request));
        let steps = plan.steps.iter().map(|step| (step.name.as_str(), &step.request));
        let mut shown = Vec::new();
        for (name, request) in look_up.chain(steps) {
            shown.push(Shown { name: name.to_owned(), request: self.preset.render(request, &trip)? });
        }
        Ok((shown, trip.scope.notes()))
    }

    /// A request as text, for people.
    #[must_use]
    pub fn text_of(&self, request: &Prepared) -> String {
        request.show(&self.url)
    }

    /// How the target is told who we are, in words.
    #[must_use]
    pub const fn access(&self) -> &'static str {
        self.access.name()
    }

    /// Asks the target with the harmless request of its description, as ourselves; without one, whether anything
    /// answers at its URL, as nobody. Takes no longer than the target's timeout.
    pub async fn probe(&self, now: Timestamp) -> Trial {
        let asked = Asked::default();
        let tried = tokio::time::timeout(self.timeout, self.ask_harmlessly(now, &asked)).await;
        tried.unwrap_or_else(|_| Trial::failed(Answer::too_late(&asked)))
    }

    async fn ask_harmlessly(&self, now: Timestamp, asked: &Asked) -> Trial {
        let Some(probe) = &self.preset.probe else {
            asked.sent.store(true, Ordering::Relaxed);
            let request = Prepared { method: "OPTIONS".to_owned(), ..Prepared::default() };
            return match self.wire.exchange(&request, &[], &self.veil).await {
                Ok(received) => {
                    let verdict = Verdict {
                        outcome: AttemptOutcome::Delivered,
                        ..super::classify::of_answer(received.status, None, now)
                    };
                    Trial { connected: true, let_in: None, answer: Answer::of(verdict, &received, None) }
                }
                Err(fault) => Trial::failed(Answer::of_fault(&fault)),
            };
        };
        let mut scope = self.preset.bare();
        let request = match probe.render(&self.preset.strict, &scope, &Json::Null) {
            Ok(request) => request,
            Err(error) => return Trial::failed(Answer::of_template(&error)),
        };
        let received = match self.authorized(&request, "", now, asked).await {
            Ok(received) => received,
            Err(answer) => return Trial::failed(*answer),
        };
        scope.set("answer", &received.to_json(&received.json()));
        let judged = judge(&self.preset.chainable, [&[], &self.preset.rules], &scope, &received, now);
        let let_in = judged.verdict.outcome == AttemptOutcome::Delivered;
        Trial { connected: true, let_in: Some(let_in), answer: Answer::of(judged.verdict, &received, None) }
    }
}

impl Trial {
    fn failed(answer: Answer) -> Self {
        // Whoever refuses a token has answered.
        let refused = answer.verdict.outcome == AttemptOutcome::Credentials;
        Self { connected: answer.status.is_some(), let_in: refused.then_some(false), answer }
    }
}
