//! Reads members of a JSON object as what a record's field is.

use super::MappingFault;
use super::json::{Json, Object};
use crate::config::Route;
use crate::event::{Date, Decimal, DecimalError, Timestamp};
use crate::outcome::QuarantineReason;

/// The members of one JSON object, with the way that leads to it.
pub(super) struct Members<'a> {
    object: &'a Object<'a>,
    place: Place<'a>,
}

/// Where an object stands. Only a fault is told by its pointer, so it is not written out before there is one.
#[derive(Clone, Copy)]
enum Place<'a> {
    /// At the top of the body.
    Body,
    /// Where a route points; it may give fields a value or another place.
    Route(&'a Route),
    /// In a member of another object, as that, or as an item of the array it is.
    Member(&'a Members<'a>, &'a str, Option<usize>),
}

type Read<T> = Result<T, MappingFault>;

impl<'a> Members<'a> {
    /// The members a route points at.
    pub(super) const fn of_route(object: &'a Object<'a>, route: &'a Route) -> Self {
        Self { object, place: Place::Route(route) }
    }

    /// All members as JSON text; `room` bytes are likely to hold it.
    pub(super) fn to_text(&self, room: usize) -> String {
        let mut text = String::with_capacity(room);
        self.object.write(&mut text);
        text
    }

    const fn route(&self) -> Option<&'a Route> {
        if let Place::Route(route) = self.place { Some(route) } else { None }
    }

    /// The member for a field; none where it is missing or null.
    fn get(&self, field: &str) -> Option<&'a Json<'a>> {
        let value = match self.route().and_then(|route| route.rename.get(field)) {
            Some(place) => at(self.object, place)?,
            None => self.object.get(field)?,
        };
        (*value != Json::Null).then_some(value)
    }

    /// The pointer of this object.
    fn here(&self) -> String {
        match self.place {
            Place::Body => String::new(),
            Place::Route(route) => route.members.clone(),
            Place::Member(of, field, None) => of.pointer(field),
            Place::Member(of, field, Some(item)) => format!("{}/{item}", of.pointer(field)),
        }
    }

    /// The pointer of the member for a field.
    fn pointer(&self, field: &str) -> String {
        match self.route().and_then(|route| route.rename.get(field)) {
            Some(place) => format!("{}{place}", self.here()),
            None => format!("{}/{field}", self.here()),
        }
    }

    fn invalid(&self, field: &str, what: &str) -> MappingFault {
        invalid(&self.pointer(field), what)
    }

    fn number(&self, field: &str) -> Read<Option<Decimal>> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let parsed = match value {
            Json::Number(number) => number.parse(),
            Json::Text(text) => text.trim().parse(),
            _ => Err(DecimalError::NotANumber),
        };
        parsed.map(Some).map_err(|error| MappingFault {
            reason: match error {
                DecimalError::OutOfRange => QuarantineReason::AmountOutOfRange,
                DecimalError::NotANumber => QuarantineReason::MemberInvalid,
            },
            detail: format!("{} {error}", self.pointer(field)),
        })
    }

    /// Text as it is, anything else as its JSON text.
    pub(super) fn text(&self, field: &str) -> Option<String> {
        if let Some(value) = self.route().and_then(|route| route.set.get(field)) {
            return Some(value.clone());
        }
        self.get(field).map(text_of)
    }

    /// An exact decimal, from a number or from text that is one.
    pub(super) fn decimal(&self, field: &str) -> Read<Option<Decimal>> {
        self.number(field)
    }

    /// A whole number.
    pub(super) fn count(&self, field: &str) -> Read<Option<i64>> {
        let Some(number) = self.number(field)? else { return Ok(None) };
        let unscaled = number.unscaled();
        let whole = (unscaled % 1_000_000_000 == 0).then(|| i64::try_from(unscaled / 1_000_000_000).ok()).flatten();
        whole.map(Some).ok_or_else(|| self.invalid(field, "is not a whole number of 64 bits"))
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
        let Some(value) = self.get(field) else { return Ok(Vec::new()) };
        let array = value.as_array().ok_or_else(|| self.invalid(field, "is not an array"))?;
        Ok(array.iter().map(text_of).collect())
    }

    /// An object, read by `read`.
    pub(super) fn object<T>(&self, field: &str, read: impl FnOnce(&Members<'_>) -> Read<T>) -> Read<Option<T>> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let object = value.as_object().ok_or_else(|| self.invalid(field, "is not an object"))?;
        read(&Members { object, place: Place::Member(self, field, None) }).map(Some)
    }

    /// The objects of an array, each read by `read`; none where it is missing.
    pub(super) fn objects<T>(&self, field: &str, read: impl Fn(&Members<'_>) -> Read<T>) -> Read<Vec<T>> {
        let Some(value) = self.get(field) else { return Ok(Vec::new()) };
        let array = value.as_array().ok_or_else(|| self.invalid(field, "is not an array"))?;
        let each = array.iter().enumerate().map(|(n, item)| {
            let not_one = || invalid(&format!("{}/{n}", self.pointer(field)), "is not an object");
            let object = item.as_object().ok_or_else(not_one)?;
            read(&Members { object, place: Place::Member(self, field, Some(n)) })
        });
        each.collect()
    }

    fn parsed<T>(&self, field: &str, not_text: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Read<Option<T>> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let text = value.as_text().ok_or_else(|| self.invalid(field, not_text))?;
        parse(text).map(Some).map_err(|what| self.invalid(field, &what))
    }
}

/// The members of a whole body, for what stands beside a route's members.
pub(super) fn of_body<'a>(body: &'a Json<'a>) -> Option<Members<'a>> {
    Some(Members { object: body.as_object()?, place: Place::Body })
}

fn at<'a>(object: &'a Object<'a>, pointer: &str) -> Option<&'a Json<'a>> {
    let (first, rest) = match pointer.strip_prefix('/')?.split_once('/') {
        Some((first, rest)) => (first, format!("/{rest}")),
        None => (pointer.strip_prefix('/')?, String::new()),
    };
    object.get(&first.replace("~1", "/").replace("~0", "~"))?.pointer(&rest)
}

fn text_of(value: &Json<'_>) -> String {
    match value {
        Json::Text(text) => text.clone().into_owned(),
        other => {
            let mut text = String::new();
            other.write(&mut text);
            text
        }
    }
}

fn invalid(pointer: &str, what: &str) -> MappingFault {
    MappingFault { reason: QuarantineReason::MemberInvalid, detail: format!("{pointer} {what}") }
}
