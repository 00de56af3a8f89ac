//! One try: look for the document where that is due, then the steps that are left.
//!
//! A try may end between two steps. What it came to then says whether the target may have acted, so that the next one
//! looks first and goes on from what it finds.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Map, Value as Json};
use tokio::time::Instant;

use super::access::{Headers, Refused};
use super::classify::{Fault, Reason, Scope as Whom, Verdict, of_fault};
use super::client::{Answer, Client};
use super::limits::spent;
use super::preset::{Asked, Plan, Search, Step, Trip};
use super::request::Prepared;
use super::rules::{Judged, Received, Rule, judge};
use super::template::TemplateError;
use crate::config::description::{Meaning, Missing, Repeat};
use crate::event::{AttemptOutcome, Record, Timestamp};

/// How far a try got.
#[derive(Default)]
struct Progress {
    /// Whether the target may have acted in this try.
    acted: bool,
    /// Whether the document was there before, which is proved.
    found: bool,
    /// The last answer, for people.
    status: Option<u16>,
    excerpt: Option<String>,
    /// Until when nothing is left of the target's limit, by the answer that said the latest time.
    full_again: Option<Instant>,
}

/// What a request of a try came to.
enum Heard {
    /// An answer, and what it means.
    Answer(Received, Judged),
    /// The try is over.
    Over(Box<Answer>),
}

impl Client {
    /// Makes one try for a record and says what came of it. Where `look_first`, its document is looked for before
    /// anything is sent. Takes no longer than the target's timeout.
    pub async fn send(&self, record: &Arc<Record>, now: Timestamp, look_first: bool) -> Answer {
        let asked = Arc::default();
        let tried = tokio::time::timeout(self.timeout, self.attempt(record, now, look_first, &asked)).await;
        let answer = tried.unwrap_or_else(|_| Answer::too_late(&asked));
        Answer { requests: asked.requests.load(Ordering::Relaxed), ..answer }
    }

    async fn attempt(&self, record: &Arc<Record>, now: Timestamp, look_first: bool, asked: &Arc<Asked>) -> Answer {
        let Some(plan) = self.preset.plan(record) else {
            return refused("not_taken", format!("the target takes no record of {}", record.topic()));
        };
        let mut trip = match self.preset.trip(plan, record) {
            Ok(trip) => trip,
            Err(error) => return Answer::of_template(&error),
        };
        trip.asked = Arc::clone(asked);
        let mut progress = Progress::default();
        let went = self.go(plan, &mut trip, &mut progress, now, look_first).await;
        let spent = progress.full_again.map(|time| time.saturating_duration_since(Instant::now()));
        let answer = match went {
            Ok(()) => progress.done(),
            Err(answer) => *answer,
        };
        let verdict = Verdict { spent, ..answer.verdict };
        Answer { notes: trip.scope.notes(), verdict, ..answer }
    }

    async fn go(
        &self,
        plan: &Plan,
        trip: &mut Trip,
        progress: &mut Progress,
        now: Timestamp,
        look_first: bool,
    ) -> Result<(), Box<Answer>> {
        let unsendable = |error| Box::new(Answer::of_template(&error));
        if !self.preset.lets_through(trip).map_err(unsendable)? {
            return Err(Box::new(left_out("filter", "the target's filter leaves it out")));
        }
        if !self.preset.takes(plan, trip).map_err(unsendable)? {
            return Err(Box::new(left_out("not_taken", "the target does not take records like this one")));
        }
        if (look_first || self.preset.look_up_always)
            && let Some(search) = &plan.look_up
        {
            Box::pin(self.look(search, trip, progress, now)).await?;
        } else if look_first {
            return Err(Box::new(refused("no_look_up", "the target has no look-up".to_owned())));
        }
        for step in &plan.steps {
            self.step(plan, step, trip, progress, now).await?;
        }
        Ok(())
    }

    async fn step(
        &self,
        plan: &Plan,
        step: &Step,
        trip: &mut Trip,
        progress: &mut Progress,
        now: Timestamp,
    ) -> Result<(), Box<Answer>> {
        let makes_it = matches!(step.repeat, Repeat::LookUp | Repeat::Refused | Repeat::Key);
        if makes_it && progress.found {
            return Ok(());
        }
        if let Some(unless) = &step.unless
            && self
                .preset
                .chainable
                .holds(unless, &trip.scope)
                .map_err(|error| Box::new(Answer::of_template(&error)))?
        {
            return Ok(());
        }
        let failed = |error: TemplateError, acted: bool| Box::new(Answer::of_template(&error).with_doubt(acted));
        let request = self.preset.render(&step.request, trip).map_err(|error| failed(error, progress.acted))?;
        let (received, judged) = match self.ask(request, &step.rules, trip, now).await {
            Heard::Answer(received, judged) => (received, judged),
            Heard::Over(answer) => {
                let doubt = progress.acted || (step.repeat != Repeat::Read && answer.verdict.leaves_doubt());
                return Err(Box::new(answer.with_doubt(doubt)));
            }
        };
        progress.saw(&received, &judged.verdict);
        match judged.meaning {
            Meaning::Success => {
                let reads = step.repeat == Repeat::Read;
                progress.acted |= !reads;
                let kept = match step.keep.as_slice() {
                    [] => Kept { values: Map::new(), missing: None },
                    keep => kept(keep, &received.json()),
                };
                match (kept.missing, step.missing) {
                    // Of half an answer nobody knows what it has not.
                    (Some(name), Missing::Rejected) if received.body.is_some() => {
                        let what = format!("step {}: the answer has no {name}", step.name);
                        Err(progress.failed(AttemptOutcome::Rejected, "not_found", what))
                    }
                    (Some(name), Missing::Rejected | Missing::Unknown) => {
                        let what = format!("step {}: the answer has no {name}", step.name);
                        let outcome = if reads { AttemptOutcome::Retry } else { AttemptOutcome::Unresolved };
                        Err(progress.failed(outcome, "answer_incomplete", what))
                    }
                    _ => {
                        trip.keep(kept.values, progress.found);
                        Ok(())
                    }
                }
            }
            // In a box, as all that few tries come to: each try is as large as the largest way through it.
            Meaning::Duplicate => Box::pin(self.prove(plan, trip, progress, &judged, now)).await,
            _ => {
                let doubt = progress.acted || (step.repeat != Repeat::Read && judged.verdict.leaves_doubt());
                let fault = Some(format!("step {}", step.name)).filter(|_| plan.steps.len() > 1);
                let answer = Answer::of(judged.verdict, &received, fault);
                Err(Box::new(answer.with_doubt(doubt)))
            }
        }
    }

    /// The target says that it has the document: it counts once the document proved to be ours.
    async fn prove(
        &self,
        plan: &Plan,
        trip: &mut Trip,
        progress: &mut Progress,
        judged: &Judged,
        now: Timestamp,
    ) -> Result<(), Box<Answer>> {
        let refusal = (progress.status, progress.excerpt.clone());
        if let Some(search) = &plan.look_up {
            self.look(search, trip, progress, now).await?;
        }
        if progress.found {
            return Ok(());
        }
        (progress.status, progress.excerpt) = refusal;
        let what =
            format!("the target says that it has the document ({}), and none of it is ours", judged.verdict.reason);
        Err(progress.failed(AttemptOutcome::Rejected, "duplicate_not_ours", what))
    }

    /// Looks for the document.
    async fn look(
        &self,
        search: &Search,
        trip: &mut Trip,
        progress: &mut Progress,
        now: Timestamp,
    ) -> Result<(), Box<Answer>> {
        let request = self.preset.render(&search.request, trip);
        let request = request.map_err(|error| Box::new(Answer::of_template(&error).with_doubt(progress.acted)))?;
        let (received, judged) = match self.ask(request, &search.rules, trip, now).await {
            Heard::Answer(received, judged) => (received, judged),
            // Looking changes nothing: what was in doubt stays so, and nothing else is.
            Heard::Over(answer) => return Err(Box::new(answer.with_doubt(progress.acted))),
        };
        progress.saw(&received, &judged.verdict);
        match judged.meaning {
            Meaning::Success => {}
            Meaning::Absent => return Ok(()),
            Meaning::Rejected if judged.verdict.reason == Reason::Status(404) => return Ok(()),
            _ => {
                let answer = Answer::of(judged.verdict, &received, Some("the look-up".to_owned()));
                return Err(Box::new(answer.with_doubt(progress.acted)));
            }
        }
        if received.body.is_none() {
            let what = "the look-up's answer did not come whole, or is too long".to_owned();
            return Err(progress.failed(AttemptOutcome::Retry, "answer_unreadable", what));
        }
        let body = received.json();
        if search.text {
            return self.look_into_text(search, trip, progress, &received);
        }
        if body.is_null() {
            let what = "the look-up's answer cannot be read as JSON".to_owned();
            return Err(progress.failed(AttemptOutcome::Retry, "answer_unreadable", what));
        }
        let documents = match &search.each {
            None => std::slice::from_ref(&body),
            Some(pointer) => match body.pointer(pointer) {
                Some(Json::Array(documents)) => documents.as_slice(),
                Some(Json::Null) => &[],
                _ => {
                    let what = format!("the look-up's answer has no list at {pointer}");
                    return Err(progress.failed(AttemptOutcome::Retry, "answer_unreadable", what));
                }
            },
        };
        for document in documents {
            let mut scope = trip.scope.clone();
            scope.set("item", document);
            scope.set("answer", &received.to_json(&body));
            if self
                .preset
                .chainable
                .holds(&search.ours, &scope)
                .map_err(|error| Box::new(Answer::of_template(&error)))?
            {
                progress.found = true;
                trip.keep(kept(&search.keep, document).values, true);
                break;
            }
        }
        Ok(())
    }

    /// An answer that is text says of a document that it is there; that there is none, a rule has to say, since any
    /// other text, e.g. an error's, would mean it too.
    fn look_into_text(
        &self,
        search: &Search,
        trip: &mut Trip,
        progress: &mut Progress,
        received: &Received,
    ) -> Result<(), Box<Answer>> {
        let mut scope = trip.scope.clone();
        scope.set("answer", &received.to_json(&Json::Null));
        if !self.preset.chainable.holds(&search.ours, &scope).map_err(|error| Box::new(Answer::of_template(&error)))? {
            let what = "the look-up's answer says neither that the document is there nor that it is not".to_owned();
            return Err(progress.failed(AttemptOutcome::Retry, "answer_unreadable", what));
        }
        progress.found = true;
        trip.keep(Map::new(), true);
        Ok(())
    }

    /// One request with who we are, once more where the token was refused, and what the answer means.
    async fn ask(&self, request: Prepared, rules: &[Rule], trip: &Trip, now: Timestamp) -> Heard {
        trip.asked.requests.fetch_add(1, Ordering::Relaxed);
        let received = match self.authorized(&request, &trip.id, now, &trip.asked).await {
            Ok(received) => received,
            Err(answer) => return Heard::Over(answer),
        };
        let all = [rules, &self.preset.rules];
        let mut judged = if all.iter().any(|rules| !rules.is_empty()) {
            let mut scope = trip.scope.clone();
            scope.set("answer", &received.to_json(&received.json()));
            judge(&self.preset.chainable, all, &scope, &received, now)
        } else {
            judge(&self.preset.chainable, all, &trip.scope, &received, now)
        };
        let limits = self.preset.limits.as_ref();
        judged.verdict.spent = limits.and_then(|limits| spent(limits, &received, &judged.verdict, now));
        Heard::Answer(received, judged)
    }

    /// Sends a request as ourselves. A token that is refused is fetched anew once: such a request was not acted on.
    pub(super) async fn authorized(
        &self,
        request: &Prepared,
        id: &str,
        now: Timestamp,
        asked: &Asked,
    ) -> Result<Received, Box<Answer>> {
        let headers = async || -> Result<Headers, Box<Answer>> {
            let headers = self.access.headers(&self.wire, &self.veil, request, id, now).await;
            headers.map_err(|refused| Box::new(Answer::of_refusal(refused)))
        };
        let send = async |headers: &Headers| {
            asked.sent.store(true, Ordering::Relaxed);
            let received = self.wire.exchange(request, headers, &self.veil).await;
            received.map_err(|fault| Box::new(Answer::of_fault(&fault)))
        };
        let first = headers().await?;
        let received = send(&first).await?;
        if self.access.renewable(received.status, &first).await {
            let second = headers().await?;
            return Box::pin(send(&second)).await;
        }
        Ok(received)
    }
}

impl Progress {
    /// A try goes on to its end with a limit that is used up: half a document would have to be looked for first, which
    /// is one request more than what is left of it.
    fn saw(&mut self, received: &Received, verdict: &Verdict) {
        self.full_again = self.full_again.max(verdict.spent.map(|wait| Instant::now() + wait));
        self.status = Some(received.status);
        self.excerpt.clone_from(&received.excerpt);
    }

    fn done(self) -> Answer {
        let outcome = match (self.acted, self.found) {
            (true, _) => AttemptOutcome::Delivered,
            (false, true) => AttemptOutcome::Duplicate,
            (false, false) => {
                return Answer {
                    status: self.status,
                    excerpt: self.excerpt,
                    ..refused("nothing_sent", "every step of the description was left out".to_owned())
                };
            }
        };
        let reason = match self.status {
            Some(status) => Reason::Status(status),
            None => Reason::Fault("found"),
        };
        let verdict = Verdict { outcome, reason, scope: Whom::Record, retry_after: None, spent: None };
        Answer { verdict, status: self.status, excerpt: self.excerpt, fault: None, notes: Vec::new(), requests: 0 }
    }

    fn failed(&self, outcome: AttemptOutcome, name: &str, what: String) -> Box<Answer> {
        let doubt = self.acted || outcome == AttemptOutcome::Unresolved;
        let verdict = Verdict {
            outcome,
            reason: Reason::named(name, doubt),
            scope: Whom::Record,
            retry_after: None,
            spent: None,
        };
        let (status, excerpt) = (self.status, self.excerpt.clone());
        Box::new(Answer { verdict, status, excerpt, fault: Some(what), notes: Vec::new(), requests: 0 })
    }
}

/// Values of an answer, and the first that is not there.
struct Kept<'a> {
    values: Map<String, Json>,
    missing: Option<&'a str>,
}

fn kept<'a>(keep: &'a [(String, String)], answer: &Json) -> Kept<'a> {
    let mut kept = Kept { values: Map::new(), missing: None };
    for (name, pointer) in keep {
        match answer.pointer(pointer).filter(|value| !value.is_null()) {
            Some(value) => drop(kept.values.insert(name.clone(), value.clone())),
            None => drop(kept.missing.get_or_insert(name)),
        }
    }
    kept
}

fn refused(name: &'static str, what: String) -> Answer {
    unsent(AttemptOutcome::Rejected, name, what)
}

fn left_out(name: &'static str, what: &str) -> Answer {
    unsent(AttemptOutcome::Filtered, name, what.to_owned())
}

fn unsent(outcome: AttemptOutcome, name: &'static str, what: String) -> Answer {
    let reason = Reason::Fault(name);
    let verdict = Verdict { outcome, reason, scope: Whom::Record, retry_after: None, spent: None };
    Answer { verdict, status: None, excerpt: None, fault: Some(what), notes: Vec::new(), requests: 0 }
}

impl Answer {
    pub(super) fn of(verdict: Verdict, received: &Received, fault: Option<String>) -> Self {
        let (status, excerpt) = (Some(received.status), received.excerpt.clone());
        Self { verdict, status, excerpt, fault, notes: Vec::new(), requests: 0 }
    }

    /// A fault's answer.
    #[must_use]
    pub fn of_fault(fault: &Fault) -> Self {
        let detail = fault.detail().map(str::to_owned);
        Self { verdict: of_fault(fault), status: None, excerpt: None, fault: detail, notes: Vec::new(), requests: 0 }
    }

    /// The time of a try was over. Where nothing was sent to the target yet, a token or a login kept it waiting: no record
    /// would fare better, and nothing was acted on.
    pub(super) fn too_late(asked: &Asked) -> Self {
        if asked.sent.load(Ordering::Relaxed) {
            Self::of_fault(&Fault::Timeout)
        } else {
            Self::of_refusal(Refused::late())
        }
    }

    /// A record that is not sent, by this name and for this reason.
    #[must_use]
    pub fn left_out(name: &'static str, what: &str) -> Self {
        left_out(name, what)
    }

    pub(super) fn of_template(error: &TemplateError) -> Self {
        Self::of_fault(&Fault::Unsendable(error.to_string()))
    }

    fn of_refusal(refused: Refused) -> Self {
        let Refused { verdict, status, excerpt, what } = refused;
        Self { verdict, status, excerpt, fault: Some(what), notes: Vec::new(), requests: 0 }
    }

    /// The same, where it is known otherwise whether the target may have acted on the record.
    fn with_doubt(self, doubt: bool) -> Self {
        if self.verdict.leaves_doubt() == doubt {
            return self;
        }
        Self { verdict: self.verdict.with_doubt(doubt), ..self }
    }
}
