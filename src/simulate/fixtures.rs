//! Events as the providers would send them: one JSON file for each type, and the n-th distinct event made from it.
//!
//! A file shows a whole event; text that begins with `$` stands for what differs from event to event:
//!
//! | written | becomes |
//! |---|---|
//! | `$event_id` | the event's id, in its provider's form |
//! | `$time`, `$time-2s`, `$time+1d` | a time near the event's, to the digits that its provider prints |
//! | `$date`, `$date-30d` | a day near it |
//! | `$unit`, `$unit*3`, `$tax`, `$total` | amounts with cents that add up: `$total` is 4 units and a fifth of them as tax |
//! | `$score`, `$count` | a number from 0.850 to 0.999, a whole number from 1 to 400 |
//! | `$sha256` | 64 hex digits |
//! | `$entity`, `$number` inside any text | the entity, the event's number |

#[cfg(test)]
mod tests;

use serde_json::{Number, Value};

use super::random;
use crate::event::Date;

const MICROS: i64 = 1_000_000;
const DAY: i64 = 86_400;
/// 2026-05-01T00:00:00Z, where the events of a seed begin that is no time itself.
const USUAL_START: i64 = 1_777_593_600 * MICROS;
/// 2020 and 2100: between them a seed is taken as a time.
const TIMES: std::ops::Range<u64> = 1_577_836_800_000_000..4_102_444_800_000_000;

/// One event type of a provider.
#[derive(Debug)]
pub struct Fixture {
    /// The provider: the preset's name and the `source` of its routes.
    pub provider: &'static str,
    /// The event type.
    pub event_type: &'static str,
    /// The file's text.
    pub text: &'static str,
    /// Its place among its provider's types: events of the same number differ in it by a millisecond.
    place: u32,
}

/// A fixture taken apart, ready to make events.
#[derive(Clone, Debug)]
pub struct Template {
    provider: &'static str,
    place: u32,
    value: Value,
}

/// An event as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its id.
    pub id: String,
    /// The request's body.
    pub body: Vec<u8>,
}

macro_rules! fixtures {
    ($($provider:literal: [$($event_type:literal = $place:literal),* $(,)?])*) => {
        /// Every event type of both providers, in the order of a life: created, sent, paid.
        pub const FIXTURES: &[Fixture] = &[$($(Fixture {
            provider: $provider,
            event_type: $event_type,
            text: include_str!(concat!("fixtures/", $provider, "/", $event_type, ".json")),
            place: $place,
        },)*)*];
    };
}

fixtures! {
    "accelex": [
        "invoice.resolved" = 0,
        "contract.processed" = 1,
        "case.closed" = 2,
        "compliance.record_generated" = 3,
        "workflow.failed" = 4,
    ]
    "accbooks": [
        "invoice.created" = 0,
        "invoice.sent" = 1,
        "invoice.paid" = 2,
        "invoice.overdue" = 3,
        "transaction.created" = 4,
        "transaction.classified" = 5,
        "payroll.run_finalised" = 6,
        "vat.return_filed" = 7,
        "company.year_end_closed" = 8,
        "bank_feed.error" = 9,
        "bank_feed.synced" = 10,
    ]
}

/// The types of one provider; none for a stranger.
pub fn of_provider(provider: &str) -> impl Iterator<Item = &'static Fixture> {
    FIXTURES.iter().filter(move |fixture| fixture.provider == provider)
}

impl Fixture {
    /// Takes the file apart.
    ///
    /// # Errors
    /// None in a program that passed its tests: the file is JSON.
    pub fn template(&self) -> Result<Template, serde_json::Error> {
        Ok(Template { provider: self.provider, place: self.place, value: serde_json::from_str(self.text)? })
    }
}

impl Template {
    /// The `n`-th event of this type. The same seed and number make the same bytes, and no two numbers the same id.
    ///
    /// Events of eight neighbouring numbers share four entities, so that order within an entity matters; the types of
    /// one number share theirs, with its amounts, so that an invoice is created, sent and paid. A seed that is a time
    /// in microseconds is when the events begin; each is 16 ms after the one before.
    #[must_use]
    pub fn event(&self, seed: u64, n: u64) -> Event {
        let made = Made::new(self.provider, self.place, seed, n);
        let mut value = self.value.clone();
        made.fill(&mut value);
        Event { id: made.id, body: value.to_string().into_bytes() }
    }
}

/// What stands for the `$` of one event.
struct Made {
    provider: &'static str,
    id: String,
    /// Microseconds since 1970.
    time: i64,
    entity: String,
    n: u64,
    /// In cents, a multiple of five, so that a fifth of four of them is whole cents.
    unit: i64,
    entropy: u64,
}

impl Made {
    fn new(provider: &'static str, place: u32, seed: u64, n: u64) -> Self {
        // Purposes: what one number is for must not show in another.
        let own = random::number(seed, u64::from(place), n);
        let entity = n / 8 * 4 + random::number(seed, 100, n) % 4;
        let about = random::number(seed, 101, entity);
        let start = if TIMES.contains(&seed) { i64::try_from(seed).unwrap_or(USUAL_START) } else { USUAL_START };
        // The remainder keeps any number within the years that can be printed.
        let millis = i64::try_from(n % (1 << 40)).unwrap_or(0) * 16 + i64::from(place);
        let time = start + millis * 1_000;
        let prefix = if provider == "accelex" { "evt_ax_" } else { "evt_" };
        let noise = u128::from(own) << 16 | u128::from(n & 0xffff);
        let ulid = u128::from((time / 1_000).unsigned_abs()) << 80 | noise;
        Self {
            provider,
            id: format!("{prefix}{}", crockford(ulid, 26)),
            time,
            entity: crockford(u128::from(about >> 14), 10),
            n,
            unit: 5 * (20 + i64::try_from(about % 60_000).unwrap_or(0)),
            entropy: own,
        }
    }

    fn fill(&self, value: &mut Value) {
        match value {
            Value::String(text) if text.contains('$') => {
                let made = text.strip_prefix('$').and_then(|name| self.whole(name));
                *value = made.unwrap_or_else(|| Value::String(self.inside(text)));
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.fill(item)),
            Value::Object(members) => members.values_mut().for_each(|member| self.fill(member)),
            _ => {}
        }
    }

    fn inside(&self, text: &str) -> String {
        text.replace("$entity", &self.entity).replace("$number", &self.n.to_string())
    }

    fn whole(&self, name: &str) -> Option<Value> {
        let split = name.find(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit() && c != '_');
        let (word, rest) = name.split_at(split.unwrap_or(name.len()));
        match word {
            "event_id" => Some(Value::String(self.id.clone())),
            "time" => Some(Value::String(self.moment(self.time + shift(rest)? * MICROS))),
            "date" => {
                let days = (self.time / MICROS + shift(rest)?).div_euclid(DAY);
                Some(Value::String(Date::from_days(i32::try_from(days).ok()?).to_string()))
            }
            "unit" => match rest.strip_prefix('*') {
                Some(times) => number(&cents(self.unit * times.parse::<i64>().ok()?)),
                None => number(&cents(self.unit)),
            },
            "tax" => number(&cents(self.unit * 4 / 5)),
            "total" => number(&cents(self.unit * 24 / 5)),
            "score" => number(&format!("0.{}", 850 + self.entropy % 150)),
            "count" => Some(Value::from(1 + self.entropy % 400)),
            "sha256" => {
                let part = |n| random::number(self.entropy, 102, n);
                let [a, b, c, d] = [part(0), part(1), part(2), part(3)];
                Some(Value::String(format!("{a:016x}{b:016x}{c:016x}{d:016x}")))
            }
            _ => None,
        }
    }

    /// AccelEx prints milliseconds, AccBooks seconds.
    fn moment(&self, micros: i64) -> String {
        match jiff::Timestamp::from_microsecond(micros) {
            Ok(time) if self.provider == "accelex" => format!("{time:.3}"),
            Ok(time) => format!("{time:.0}"),
            Err(_) => String::new(),
        }
    }
}

/// Seconds of `-2s` or `+30d`; none when it is neither.
fn shift(text: &str) -> Option<i64> {
    if text.is_empty() {
        return Some(0);
    }
    let (number, unit) = text.split_at_checked(text.len() - 1)?;
    let unit = match unit {
        "s" => 1,
        "d" => DAY,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(unit)
}

fn cents(cents: i64) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", cents.abs() / 100, cents.abs() % 100)
}

/// A JSON number with exactly these digits.
fn number(text: &str) -> Option<Value> {
    text.parse::<Number>().ok().map(Value::Number)
}

/// Crockford's base 32, as ULIDs are written.
fn crockford(number: u128, digits: u32) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let digit = |at: u32| ALPHABET[usize::try_from(number >> (5 * at) & 31).unwrap_or(0)];
    (0..digits).rev().map(|at| char::from(digit(at))).collect()
}
