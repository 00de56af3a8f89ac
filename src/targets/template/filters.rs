//! What templates can do to values, beside the engine's own filters.

use minijinja::value::{Rest, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State};
use sha2::{Digest as _, Sha256};

use super::values::{Exact, from_engine};
use super::{NOTES, Notes};
use crate::event::Decimal;

pub(super) fn add(env: &mut Environment<'static>) {
    env.add_filter("default", default);
    env.add_filter("d", default);
    env.add_filter("required", required);
    env.add_filter("number", |value: Value| Ok::<_, Error>(exact(decimal(&value)?)));
    env.add_filter("amount", amount);
    env.add_filter("plus", |a: Value, b: Value| sum(&a, &b, false));
    env.add_filter("minus", |a: Value, b: Value| sum(&a, &b, true));
    env.add_filter("total", total);
    env.add_filter("text", text);
    env.add_filter("json", |value: Value| from_engine(&value).map(|json| json.to_string()).map_err(failed));
    env.add_filter("cut", cut);
    env.add_filter("cut_bytes", cut_bytes);
    env.add_filter("at_most", at_most);
    env.add_filter("day", day);
    env.add_filter("date", date);
    env.add_filter("date_format", date_format);
    env.add_filter("epoch_ms", epoch_ms);
    env.add_filter("doubled", |text: String, quote: String| text.replace(&quote, &quote.repeat(2)));
    env.add_filter("backslashed", backslashed);
    env.add_filter("hashed", hashed);
    env.add_filter("allowed", allowed);
}

/// The names of the filters in an expression: words behind a `|` outside of quotes.
pub(super) fn named(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut quote = None;
    let mut characters = code.chars().peekable();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(_), '\\') => drop(characters.next()),
            (Some(open), _) if character == open => quote = None,
            (None, '\'' | '"') => quote = Some(character),
            (None, '|') => {
                while characters.next_if(|c| c.is_whitespace()).is_some() {}
                let mut name = String::new();
                while let Some(c) = characters.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    name.push(c);
                }
                names.push(name);
            }
            _ => {}
        }
    }
    names
}

fn failed(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.into())
}

/// Null is as good as undefined here: a record's members are all there.
fn default(value: Value, args: Rest<Value>) -> Result<Value, Error> {
    let other = args.first().cloned().unwrap_or_else(|| Value::from(""));
    let empty_too = args.get(1).is_some_and(Value::is_true);
    let gone = value.is_undefined() || value.is_none() || (empty_too && !value.is_true());
    Ok(if gone { other } else { value })
}

/// A value that has to be there, by this name.
fn required(value: Value, what: String) -> Result<Value, Error> {
    let gone = value.is_undefined() || value.is_none() || value.as_str().is_some_and(|text| text.trim().is_empty());
    if gone { Err(failed(format!("the record has no {what}"))) } else { Ok(value) }
}

fn decimal(value: &Value) -> Result<Decimal, Error> {
    let digits = match (value.downcast_object_ref::<Exact>(), value.kind()) {
        (Some(exact), _) => exact.digits().to_owned(),
        (None, ValueKind::String) => value.as_str().unwrap_or_default().to_owned(),
        (None, ValueKind::Number) if value.is_integer() => value.to_string(),
        (None, ValueKind::None | ValueKind::Undefined) => return Err(failed("is null, where a number is needed")),
        _ => return Err(failed("is no exact number")),
    };
    digits.parse().map_err(|error| failed(format!("`{digits}` {error}")))
}

fn exact(number: Decimal) -> Value {
    Exact::spelled(number.to_string())
}

/// An amount with as many decimals as the target takes: never rounded, always shown with all of them.
fn amount(value: Value, places: usize) -> Result<Value, Error> {
    let shown = decimal(&value)?.to_string();
    let (whole, fraction) = shown.split_once('.').unwrap_or((&shown, ""));
    if fraction.len() > places {
        return Err(failed(format!("{shown} has more decimals than the {places} that the target takes")));
    }
    Ok(Exact::spelled(if places == 0 { whole.to_owned() } else { format!("{whole}.{fraction:0<places$}") }))
}

fn sum(a: &Value, b: &Value, subtract: bool) -> Result<Value, Error> {
    let (a, b) = (decimal(a)?.unscaled(), decimal(b)?.unscaled());
    let sum = if subtract { a.checked_sub(b) } else { a.checked_add(b) };
    sum.and_then(Decimal::from_unscaled).map(exact).ok_or_else(|| failed("the sum has too many digits"))
}

/// The sum of a list of numbers.
fn total(values: Vec<Value>) -> Result<Value, Error> {
    values.iter().try_fold(Value::from(0), |total, value| sum(&total, value, false))
}

fn text(value: Value) -> Result<String, Error> {
    match from_engine(&value).map_err(failed)? {
        serde_json::Value::String(text) => Ok(text),
        serde_json::Value::Null => Err(failed("is null")),
        other => Ok(other.to_string()),
    }
}

/// At most this many characters; that something was lost is noted under the name.
fn cut(state: &State<'_, '_>, text: String, most: usize, name: String) -> String {
    let length = text.chars().count();
    if length <= most {
        return text;
    }
    note(state, format!("{name} cut from {length} to {most} characters"));
    text.chars().take(most).collect()
}

/// At most this many bytes of UTF-8, of whole characters; noted likewise.
fn cut_bytes(state: &State<'_, '_>, text: String, most: usize, name: String) -> String {
    if text.len() <= most {
        return text;
    }
    note(state, format!("{name} cut from {} to {most} bytes", text.len()));
    text[..text.floor_char_boundary(most)].to_owned()
}

fn note(state: &State<'_, '_>, note: String) {
    if let Some(value) = state.lookup(NOTES)
        && let Some(notes) = value.downcast_object_ref::<Notes>()
    {
        let mut notes = notes.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
}

/// Refuses a text of more than this many characters.
fn at_most(text: String, most: usize) -> Result<String, Error> {
    match text.chars().count() {
        length if length > most => Err(failed(format!("has {length} characters, the target takes {most}"))),
        _ => Ok(text),
    }
}

/// The day of a date or time (UTC), as 2026-05-01.
fn day(value: String) -> Result<String, Error> {
    civil(&value).map(|date| date.to_string())
}

/// The parts of a date or time (UTC): year, month, day.
fn date(value: String) -> Result<Value, Error> {
    let date = civil(&value)?;
    let parts = [("year", i64::from(date.year())), ("month", i64::from(date.month())), ("day", i64::from(date.day()))];
    Ok(Value::from_pairs(parts))
}

/// A date or time (UTC) in a form of strftime.
fn date_format(value: String, form: String) -> Result<String, Error> {
    let text = match value.parse::<jiff::Timestamp>() {
        Ok(time) => jiff::fmt::strtime::format(&form, &time.to_zoned(jiff::tz::TimeZone::UTC)),
        Err(_) => jiff::fmt::strtime::format(&form, civil(&value)?),
    };
    text.map_err(|error| failed(error.to_string()))
}

/// A date or time (UTC) as milliseconds since 1970.
fn epoch_ms(value: String) -> Result<i64, Error> {
    if let Ok(time) = value.parse::<jiff::Timestamp>() {
        return Ok(time.as_millisecond());
    }
    let midnight = civil(&value)?.to_zoned(jiff::tz::TimeZone::UTC).map_err(|error| failed(error.to_string()))?;
    Ok(midnight.timestamp().as_millisecond())
}

fn civil(value: &str) -> Result<jiff::civil::Date, Error> {
    let time = value.parse::<jiff::Timestamp>().map(|time| time.to_zoned(jiff::tz::TimeZone::UTC).date());
    time.or_else(|_| value.parse()).map_err(|_| failed(format!("`{value}` is no date")))
}

/// A backslash before each of these characters, and before each backslash.
fn backslashed(text: String, characters: String) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character == '\\' || characters.contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// The first hexadecimal digits of a text's SHA-256.
fn hashed(text: String, digits: usize) -> String {
    hex::encode(Sha256::digest(text)).chars().take(digits).collect()
}

/// Only letters, digits and these characters; others become `_`.
fn allowed(text: String, punctuation: String) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || punctuation.contains(c);
    text.chars().map(|c| if fits(c) { c } else { '_' }).collect()
}
