//! What a target is, as data: one file per preset in `config/targets`, or a user's own. `docs/targets/FORMAT.md` is its
//! reference. Here it is taken apart and its form checked; `targets` compiles its templates.
//!
//! | file | what |
//! |---|---|
//! | `settings` | what the user has to say, and what was said |
//! | `auth` | who we are |
//! | `request` | templates of requests |
//! | `answer` | what answers mean |
//! | `limits` | headers that tell of a limit |
//! | `record` | steps, look-up and values of a type of records |

mod answer;
mod auth;
mod limits;
mod record;
mod request;
mod settings;

use std::collections::BTreeMap;
use std::time::Duration;

pub use answer::{AnswerRule, Meaning, Statuses};
pub use auth::{Auth, ClientAuthentication, Grant, Login, OAuth, TokenAt};
pub use limits::{Limits, ResetForm};
pub use record::{LookUp, Missing, RecordPlan, Repeat, Step};
pub use request::{Body, Request, Tree};
pub use settings::{SecretSpec, SettingSpec, SettingType};

pub(super) use settings::{read_secrets, read_settings};

use super::RECORD_TOPICS;
use super::checks;
use super::fault::Complaint;
use super::reader::Reader;
use super::tree::{self, Node, Table, Value};

/// The record type that stands for all.
const EVERY: &str = "*";

const SECOND: Duration = Duration::from_secs(1);

/// A target, described.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// The preset's name, or the path of the user's file.
    pub name: String,
    /// What kind of system it is.
    pub title: String,
    /// What the description was proved on.
    pub proved_on: String,
    /// Whether it never met a real system or its maker's own description.
    pub experimental: bool,
    /// What the user's `settings` may say.
    pub settings: BTreeMap<String, SettingSpec>,
    /// The secrets it needs.
    pub secrets: BTreeMap<String, SecretSpec>,
    /// Who we are.
    pub auth: Auth,
    /// What has to be fetched before anything is sent, e.g. a token of a session.
    pub session: Option<Login>,
    /// Our id of a document.
    pub id: IdRule,
    /// What the target offers against a second document.
    pub idempotency: IdempotencyRule,
    /// What answers mean, before the common rules.
    pub answers: Vec<AnswerRule>,
    /// Headers that say what is left of its limit.
    pub limits: Option<Limits>,
    /// How each type of records is delivered, by topic.
    pub records: BTreeMap<String, RecordPlan>,
    /// A request that creates nothing, to check address and credentials with.
    pub probe: Option<Request>,
}

/// How our id of a document is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdRule {
    /// Template.
    pub value: String,
    /// Characters that it may have beside letters and digits; none for any character.
    pub punctuation: Option<String>,
    /// Most characters.
    pub max: usize,
}

/// What the target offers against a second document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdempotencyRule {
    /// The class.
    pub class: IdempotencyClass,
    /// How long it remembers a key; none for ever.
    pub validity: Option<Duration>,
    /// Whether a document is looked for before every try, not only after one of unknown outcome.
    pub look_up_always: bool,
}

/// The classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdempotencyClass {
    /// A keyed upsert.
    Upsert,
    /// The request carries a key.
    Key,
    /// Documents can be searched by our id, and nothing else keeps them apart.
    LookUp,
    /// The target refuses a second document.
    Reject,
}

const CLASSES: [(&str, IdempotencyClass); 4] = [
    ("upsert", IdempotencyClass::Upsert),
    ("key", IdempotencyClass::Key),
    ("lookup", IdempotencyClass::LookUp),
    ("reject", IdempotencyClass::Reject),
];

impl Description {
    /// Reads a description whose `[defaults]` were taken out.
    pub(super) fn read(mut r: Reader<'_>, name: &str) -> Self {
        let records = r.table_at("records", "the types of records it takes, as in [records.invoices]");
        let described = Self {
            name: name.to_owned(),
            title: r.text("title", checks::some),
            proved_on: r.text("proved_on", checks::some),
            experimental: r.optional_flag("experimental"),
            settings: SettingSpec::read_all(&mut r),
            secrets: SecretSpec::read_all(&mut r),
            auth: r.optional_section("auth").map_or(Auth::None, Auth::read),
            session: r.optional_section("session").map(Login::read),
            id: IdRule::read(r.section("id")),
            idempotency: IdempotencyRule::read(r.section("idempotency")),
            answers: AnswerRule::read_all(&mut r),
            limits: r.optional_section("limits").map(Limits::read),
            records: read_records(&r, records),
            probe: r.optional_section("probe").map(|mut probe| {
                let request = Request::read(&mut probe);
                probe.finish();
                request
            }),
        };
        described.check(&r);
        r.finish();
        described
    }

    /// Checks what lies between its parts.
    fn check(&self, r: &Reader<'_>) {
        for (by, secret) in self.auth.secrets().into_iter().chain(self.session.iter().flat_map(Login::secrets)) {
            if !self.secrets.contains_key(&secret) {
                r.fault(by, Complaint::new(format!("names the secret `{secret}`, which [secrets] does not have")));
            }
        }
        let searched = self.idempotency.look_up_always
            || match self.idempotency.class {
                IdempotencyClass::LookUp | IdempotencyClass::Reject => true,
                IdempotencyClass::Key => self.idempotency.validity.is_some(),
                IdempotencyClass::Upsert => false,
            };
        for (topic, plan) in &self.records {
            let at = format!("records.{topic}");
            if plan.steps.is_empty() {
                r.fault(&at, Complaint::new("has no steps: nothing would be sent"));
            }
            if searched && plan.look_up.is_none() {
                let what =
                    "has no look_up, and the target's class needs one: nothing else tells whether a document is there";
                r.fault(&at, Complaint::new(what));
            }
            for (index, step) in plan.steps.iter().enumerate() {
                if let Err(what) = step.check(plan.look_up.is_some()) {
                    r.fault(&format!("{at}.steps[{index}]"), Complaint::new(what));
                }
            }
        }
    }
}

impl IdRule {
    fn read(mut r: Reader<'_>) -> Self {
        let id = Self {
            value: r.text("value", checks::some),
            punctuation: r.optional_text("punctuation", |_| Ok(())),
            // Hashed ids are hexadecimal: with fewer than 16 digits two could meet.
            max: r.number("max", 16..=1_000),
        };
        r.finish();
        id
    }
}

impl IdempotencyRule {
    fn read(mut r: Reader<'_>) -> Self {
        let rule = Self {
            class: r.choice("class", &CLASSES).unwrap_or(IdempotencyClass::LookUp),
            validity: r.optional_duration("validity", SECOND..=400 * 24 * 3_600 * SECOND),
            look_up_always: r.optional_flag("look_up_always"),
        };
        if rule.validity.is_some() && rule.class != IdempotencyClass::Key {
            r.fault("validity", Complaint::new("is for the class `key` alone"));
        }
        r.finish();
        rule
    }
}

/// Each type's table lies on that of `*`, which stands for all types where it is the only one.
fn read_records(r: &Reader<'_>, mut types: Table) -> BTreeMap<String, RecordPlan> {
    let common = types.remove(EVERY);
    if let Some(common) = common.clone().filter(|_| types.is_empty()) {
        types.extend(RECORD_TOPICS.map(|topic| (topic.to_owned(), common.clone())));
    }
    let mut plans = BTreeMap::new();
    for (topic, node) in types {
        let path = r.path_of(&format!("records.{topic}"));
        if let Err(complaint) = checks::record_topic(&topic) {
            r.cx.fault(&node.place, &path, complaint);
            continue;
        }
        let Value::Table(own) = node.value else {
            r.cx.fault(&node.place, &path, super::reader::not("a table", &node.value));
            continue;
        };
        let mut table = match common.clone() {
            Some(Node { value: Value::Table(common), .. }) => common,
            _ => Table::new(),
        };
        tree::overlay(&mut table, own);
        plans.insert(topic.clone(), RecordPlan::read(r.entry("records", &topic, node.place, table)));
    }
    plans
}
