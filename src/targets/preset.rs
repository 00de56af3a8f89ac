//! A description with its templates compiled: what one target does for one record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::time::Duration;

use minijinja::Value;
use serde_json::{Map, Value as Json};
use sha2::{Digest as _, Sha256};

use super::filter;
use super::idempotency::Idempotency;
use super::request::{Prepared, RequestTemplate};
use super::rules::Rule;
use super::template::{Compiled, Dialect, Leaf, Scope, TemplateError, Templates, Tree, to_engine};
use crate::config;
use crate::config::description::{IdRule, IdempotencyClass, Limits, LookUp, Missing, RecordPlan, Repeat};
use crate::event::Record;

/// Longest a target takes to act on a request: repeats under a key stop this long before the key is forgotten.
const SLOWEST: Duration = Duration::from_secs(60);

/// What one target does for one record.
pub(super) struct Preset {
    /// Templates of requests.
    pub(super) strict: Templates,
    /// Expressions over answers.
    pub(super) chainable: Templates,
    /// Which records go to the target at all.
    filter: Option<Compiled>,
    /// What answers mean.
    pub(super) rules: Vec<Rule>,
    /// Headers that say what is left of its limit.
    pub(super) limits: Option<Limits>,
    /// What it offers against a second document.
    pub(super) idempotency: Idempotency,
    /// Whether a document is looked for before every try.
    pub(super) look_up_always: bool,
    /// The harmless request.
    pub(super) probe: Option<RequestTemplate>,
    plans: BTreeMap<String, Plan>,
    id: IdRule,
    target: Value,
    settings: Value,
}

/// How records of one type are delivered.
pub(super) struct Plan {
    /// Whether a record is taken at all.
    takes: Option<Compiled>,
    /// How its document is found.
    pub(super) look_up: Option<Search>,
    /// What is sent.
    pub(super) steps: Vec<Step>,
    id: Leaf,
    values: Vec<(String, Tree)>,
}

/// How a document is found.
pub(super) struct Search {
    pub(super) request: RequestTemplate,
    pub(super) each: Option<String>,
    pub(super) text: bool,
    pub(super) ours: Compiled,
    pub(super) keep: Vec<(String, String)>,
    pub(super) rules: Vec<Rule>,
}

/// One request of several.
pub(super) struct Step {
    pub(super) name: String,
    pub(super) request: RequestTemplate,
    pub(super) repeat: Repeat,
    pub(super) unless: Option<Compiled>,
    pub(super) keep: Vec<(String, String)>,
    pub(super) missing: Missing,
    pub(super) rules: Vec<Rule>,
}

/// One record's way: what its templates know.
pub(super) struct Trip {
    /// Variables.
    pub(super) scope: Scope,
    /// The record.
    pub(super) record: Arc<Record>,
    /// Our id of the document.
    pub(super) id: String,
    /// Values of earlier answers.
    pub(super) kept: Map<String, Json>,
    /// What was asked until now; whoever began the trip has it too.
    pub(super) asked: Arc<Asked>,
}

/// What was asked of a target in a try: known also where the try is cut off in the middle.
#[derive(Default)]
pub(super) struct Asked {
    /// Requests made until now.
    pub(super) requests: AtomicU32,
    /// Whether one of them went out to the target itself: before that, only a token or a login is waited for.
    pub(super) sent: AtomicBool,
}

impl Preset {
    /// Compiles a target's description.
    pub(super) fn compile(target: &config::Target) -> Result<Self, TemplateError> {
        let description = &target.description;
        let (mut strict, mut chainable) = (Templates::new(Dialect::Strict), Templates::new(Dialect::Chainable));
        let mut plans = BTreeMap::new();
        for (topic, plan) in &description.records {
            let place = format!("records.{topic}");
            let id = plan.id.as_ref().unwrap_or(&description.id.value);
            plans.insert(topic.clone(), Plan::compile(&mut strict, &mut chainable, &place, plan, id)?);
        }
        let probe = description.probe.as_ref();
        let probe = probe.map(|probe| RequestTemplate::compile(&mut strict, "probe", probe)).transpose()?;
        let rules = Rule::compile_all(&mut chainable, "answers", &description.answers)?;
        let filter = target
            .filter
            .as_ref()
            .map(|source| filter::compile(&mut chainable, source, &target.records))
            .transpose()?;
        let rule = description.idempotency;
        let idempotency = match rule.class {
            IdempotencyClass::Upsert => Idempotency::Upsert,
            IdempotencyClass::Key => {
                Idempotency::Key { validity: rule.validity.map(|validity| validity.saturating_sub(SLOWEST)) }
            }
            IdempotencyClass::LookUp => Idempotency::LookUp { settle: target.settle },
            IdempotencyClass::Reject => Idempotency::Reject,
        };
        Ok(Self {
            strict,
            chainable,
            rules,
            limits: description.limits.clone(),
            filter,
            idempotency,
            look_up_always: rule.look_up_always,
            probe,
            plans,
            id: description.id.clone(),
            target: Value::from(target.name.as_str()),
            settings: to_engine(&target.settings.clone().into_iter().collect()),
        })
    }

    /// How a record is delivered.
    pub(super) fn plan(&self, record: &Record) -> Option<&Plan> {
        self.plans.get(record.topic())
    }

    /// How records of some type are delivered: presets classify all types alike.
    #[cfg(test)]
    pub(super) fn any_plan(&self) -> &Plan {
        self.plans.values().next().unwrap()
    }

    /// A scope without a record, e.g. for a probe.
    pub(super) fn bare(&self) -> Scope {
        let mut scope = Scope::new();
        scope.set_value("settings", self.settings.clone());
        scope.set_value("target", self.target.clone());
        scope
    }

    /// What the templates know of this record.
    pub(super) fn trip(&self, plan: &Plan, record: &Arc<Record>) -> Result<Trip, TemplateError> {
        let mut scope = self.bare();
        scope.set_members("record", Arc::<Record>::clone(record));
        scope.set_value("topic", Value::from(record.topic()));
        scope.set_attributes("attributes", Arc::clone(record));
        let whole = plan.id.text(&self.strict, &scope, &**record)?.unwrap_or_default();
        let id = fitting(&self.id, &whole);
        scope.set_value("id", Value::from(id.as_str()));
        let mut trip = Trip { scope, record: Arc::clone(record), id, kept: Map::new(), asked: Arc::default() };
        trip.keep(Map::new(), false);
        Ok(trip)
    }

    /// Most requests that one try makes, as a rule.
    pub(super) fn most_requests(&self) -> u32 {
        let of = |plan: &Plan| plan.steps.len() + usize::from(plan.look_up.is_some());
        let most = self.plans.values().map(of).max().unwrap_or(0);
        u32::try_from(most).unwrap_or(u32::MAX).max(1)
    }

    /// Whether the user's filter lets the record of this trip through.
    pub(super) fn lets_through(&self, trip: &Trip) -> Result<bool, TemplateError> {
        self.filter.as_ref().map_or(Ok(true), |filter| self.chainable.holds(filter, &trip.scope))
    }

    /// Whether the target takes the record of this trip; the values that its templates share are made then.
    pub(super) fn takes(&self, plan: &Plan, trip: &mut Trip) -> Result<bool, TemplateError> {
        if let Some(takes) = &plan.takes
            && !self.chainable.holds(takes, &trip.scope)?
        {
            return Ok(false);
        }
        let mut values = Map::new();
        for (name, tree) in &plan.values {
            values.insert(name.clone(), tree.build(&self.strict, &trip.scope, &*trip.record)?);
        }
        trip.scope.set("values", &Json::Object(values));
        Ok(true)
    }

    /// Renders a request.
    pub(super) fn render(&self, request: &RequestTemplate, trip: &Trip) -> Result<Prepared, TemplateError> {
        request.render(&self.strict, &trip.scope, &*trip.record)
    }
}

impl Trip {
    /// Takes over values of an answer. `found` says whether the document is there.
    pub(super) fn keep(&mut self, values: Map<String, Json>, found: bool) {
        self.kept.extend(values);
        self.scope.set("kept", &Json::Object(self.kept.clone()));
        self.scope.set("found", &Json::from(found));
    }
}

impl Plan {
    fn compile(
        strict: &mut Templates,
        chainable: &mut Templates,
        place: &str,
        plan: &RecordPlan,
        id: &str,
    ) -> Result<Self, TemplateError> {
        let mut values = Vec::new();
        for (name, tree) in &plan.values {
            values.push((name.clone(), Tree::compile(strict, &format!("{place}.values.{name}"), tree)?));
        }
        let mut steps = Vec::new();
        for (index, step) in plan.steps.iter().enumerate() {
            let place = format!("{place}.steps[{index}]");
            let unless = step.unless.as_ref();
            steps.push(Step {
                name: step.name.clone(),
                request: RequestTemplate::compile(strict, &place, &step.request)?,
                repeat: step.repeat,
                // Over what was kept, which is an answer's: what is not there is simply not so.
                unless: unless.map(|source| chainable.expression(&format!("{place}.unless"), source)).transpose()?,
                keep: step.keep.clone(),
                missing: step.missing,
                rules: Rule::compile_all(chainable, &format!("{place}.answers"), &step.answers)?,
            });
        }
        let takes = plan.takes.as_ref();
        Ok(Self {
            takes: takes.map(|source| chainable.expression(&format!("{place}.takes"), source)).transpose()?,
            look_up: plan
                .look_up
                .as_ref()
                .map(|search| Search::compile(strict, chainable, place, search))
                .transpose()?,
            steps,
            id: Leaf::compile(strict, &format!("{place}.id"), id)?,
            values,
        })
    }
}

impl Search {
    fn compile(
        strict: &mut Templates,
        chainable: &mut Templates,
        place: &str,
        search: &LookUp,
    ) -> Result<Self, TemplateError> {
        let place = format!("{place}.look_up");
        Ok(Self {
            request: RequestTemplate::compile(strict, &place, &search.request)?,
            each: search.each.clone(),
            text: search.text,
            ours: chainable.expression(&format!("{place}.ours"), &search.ours)?,
            keep: search.keep.clone(),
            rules: Rule::compile_all(chainable, &format!("{place}.answers"), &search.answers)?,
        })
    }
}

/// An id as the target takes it: itself where it fits, else hexadecimal digits of its SHA-256, at most 64. They are the
/// same on every try, and 16 of them, the fewest that a description may ask for, meet by chance once in 4 billion.
fn fitting(rule: &IdRule, whole: &str) -> String {
    let fits = |c: char| rule.punctuation.as_ref().is_none_or(|all| c.is_ascii_alphanumeric() || all.contains(c));
    if !whole.is_empty() && whole.chars().count() <= rule.max && whole.chars().all(fits) {
        return whole.to_owned();
    }
    hex::encode(Sha256::digest(whole)).chars().take(rule.max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_fit_their_target() {
        let rule = |punctuation: Option<&str>, max| IdRule {
            value: String::new(),
            punctuation: punctuation.map(str::to_owned),
            max,
        };
        let hashed = |text: &str, digits: usize| hex::encode(Sha256::digest(text))[..digits].to_owned();
        for (rule, whole, id) in [
            (rule(None, 64), "a/b c.ü", "a/b c.ü".to_owned()),
            (rule(Some("-_"), 64), "evt_1-2", "evt_1-2".to_owned()),
            (rule(Some("-_"), 64), "accelex/inv 1", hashed("accelex/inv 1", 64)),
            (rule(Some(""), 16), "0123456789abcdef", "0123456789abcdef".to_owned()),
            (rule(Some(""), 16), "0123456789abcdefg", hashed("0123456789abcdefg", 16)),
            (rule(Some(""), 16), "ü", hashed("ü", 16)),
            (rule(None, 64), "", hashed("", 64)),
        ] {
            assert_eq!(fitting(&rule, whole), id, "{whole}");
        }
    }
}
