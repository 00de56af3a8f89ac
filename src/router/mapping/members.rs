//! Reads members of a JSON object as what a record's field is.

use serde_json::{Map, Value};

use super::MappingFault;
use crate::config::Route;
use crate::event::{Date, Decimal, DecimalError, Timestamp};
use crate::outcome::QuarantineReason;

/// The members of one JSON object, with the pointer that leads to it.
pub(super) struct Members<'a> {
    object: &'a Map<String, Value>,
    pointer: String,
    /// Where the route gives fields a value or another place; nested objects have none.
    route: Option<&'a Route>,
}

type Read<T> = Result<T, MappingFault>;

impl<'a> Members<'a> {
    /// The members a route points at.
    pub(super) fn of_route(object: &'a Map<String, Value>, route: &'a Route) -> Self {
        Self { object, pointer: route.members.clone(), route: Some(route) }
    }

    /// All members as JSON text.
    pub(super) fn to_text(&self) -> String {
        // Text of a JSON object that was read as JSON: writing it to memory cannot fail.
        serde_json::to_string(self.object).unwrap_or_default()
    }

    /// The member for a field with its pointer; none where it is missing or null.
    fn get(&self, field: &str) -> Option<(&'a Value, String)> {
        let renamed = self.route.and_then(|route| route.rename.get(field));
        let (value, pointer) = match renamed {
            Some(place) => (at(self.object, place)?, format!("{}{place}", self.pointer)),
            None => (self.object.get(field)?, format!("{}/{field}", self.pointer)),
        };
        (!value.is_null()).then_some((value, pointer))
    }

    /// Text as it is, anything else as its JSON text.
    pub(super) fn text(&self, field: &str) -> Option<String> {
        if let Some(value) = self.route.and_then(|route| route.set.get(field)) {
            return Some(value.clone());
        }
        self.get(field).map(|(value, _)| text_of(value))
    }

    /// An exact decimal, from a number or from text that is one.
    pub(super) fn decimal(&self, field: &str) -> Read<Option<Decimal>> {
        let Some((value, pointer)) = self.get(field) else { return Ok(None) };
        number(value, &pointer).map(Some)
    }

    /// A whole number.
    pub(super) fn count(&self, field: &str) -> Read<Option<i64>> {
        let Some((value, pointer)) = self.get(field) else { return Ok(None) };
        let unscaled = number(value, &pointer)?.unscaled();
        let whole = (unscaled % 1_000_000_000 == 0).then(|| i64::try_from(unscaled / 1_000_000_000).ok()).flatten();
        whole.map(Some).ok_or_else(|| invalid(&pointer, "is not a whole number of 64 bits"))
    }

    /// A calendar day.
    pub(super) fn date(&self, field: &str) -> Read<Option<Date>> {
        self.parsed(field, "is not a day in text", |text| Date::parse(text).map_err(|e| e.to_string()))
    }

    /// A point in time.
    pub(super) fn time(&self, field: &str) -> Read<Option<Timestamp>> {
        self.parsed(field, "is not a time in text", |text| Timestamp::parse(text).map_err(|e| e.to_string()))
    }

    /// Texts of an array; none where it is missing.
    pub(super) fn texts(&self, field: &str) -> Read<Vec<String>> {
        let Some((value, pointer)) = self.get(field) else { return Ok(Vec::new()) };
        let array = value.as_array().ok_or_else(|| invalid(&pointer, "is not an array"))?;
        Ok(array.iter().map(text_of).collect())
    }

    /// An object, read by `read`.
    pub(super) fn object<T>(&self, field: &str, read: impl FnOnce(&Members<'a>) -> Read<T>) -> Read<Option<T>> {
        let Some((value, pointer)) = self.get(field) else { return Ok(None) };
        let object = value.as_object().ok_or_else(|| invalid(&pointer, "is not an object"))?;
        read(&Members { object, pointer, route: None }).map(Some)
    }

    /// The objects of an array, each read by `read`; none where it is missing.
    pub(super) fn objects<T>(&self, field: &str, read: impl Fn(&Members<'a>) -> Read<T>) -> Read<Vec<T>> {
        let Some((value, pointer)) = self.get(field) else { return Ok(Vec::new()) };
        let array = value.as_array().ok_or_else(|| invalid(&pointer, "is not an array"))?;
        let each = array.iter().enumerate().map(|(n, item)| {
            let pointer = format!("{pointer}/{n}");
            let object = item.as_object().ok_or_else(|| invalid(&pointer, "is not an object"))?;
            read(&Members { object, pointer, route: None })
        });
        each.collect()
    }

    fn parsed<T>(&self, field: &str, not_text: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Read<Option<T>> {
        let Some((value, pointer)) = self.get(field) else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| invalid(&pointer, not_text))?;
        parse(text).map(Some).map_err(|what| invalid(&pointer, &what))
    }
}

/// The members of a whole body, for what stands beside a route's members.
pub(super) fn of_body(body: &Value) -> Option<Members<'_>> {
    Some(Members { object: body.as_object()?, pointer: String::new(), route: None })
}

fn at<'a>(object: &'a Map<String, Value>, pointer: &str) -> Option<&'a Value> {
    let (first, rest) = match pointer.strip_prefix('/')?.split_once('/') {
        Some((first, rest)) => (first, format!("/{rest}")),
        None => (pointer.strip_prefix('/')?, String::new()),
    };
    object.get(&first.replace("~1", "/").replace("~0", "~"))?.pointer(&rest)
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn number(value: &Value, pointer: &str) -> Read<Decimal> {
    let parsed = match value {
        Value::Number(number) => number.as_str().parse(),
        Value::String(text) => text.trim().parse(),
        _ => Err(DecimalError::NotANumber),
    };
    parsed.map_err(|error| MappingFault {
        reason: match error {
            DecimalError::OutOfRange => QuarantineReason::AmountOutOfRange,
            DecimalError::NotANumber => QuarantineReason::MemberInvalid,
        },
        detail: format!("{pointer} {error}"),
    })
}

fn invalid(pointer: &str, what: &str) -> MappingFault {
    MappingFault { reason: QuarantineReason::MemberInvalid, detail: format!("{pointer} {what}") }
}
