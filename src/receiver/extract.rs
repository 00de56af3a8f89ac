//! What a verified body says of its event: id, type, time, and whether it is a test. Pure.

use std::collections::BTreeSet;

use hyper::HeaderMap;
use serde_json::Value;

use super::members::{Body, first_token};
use super::request::Verified;
use crate::config::{Source, TestWhen, TimeFormat};
use crate::event::{MAX_EVENT_ID_BYTES, MAX_EVENT_TYPE_BYTES, Timestamp};
use crate::outcome::{TestMark, Unusable};

/// What a body says.
#[derive(Debug, PartialEq, Eq)]
pub struct Extract {
    /// The provider's id; none where there is no usable one.
    pub event_id: Option<String>,
    /// The provider's event type; empty where there is no usable one.
    pub event_type: String,
    /// When it happened by the provider's clock; none where the body does not say so in RFC 3339.
    pub occurred_at: Option<Timestamp>,
    /// Why the event cannot be mapped.
    pub unusable: Option<Unusable>,
    /// Why it is a test.
    pub test: Option<TestMark>,
}

/// Reads a verified body by the source's pointers, and where they lead nowhere, the headers that the source names. What
/// the body says goes first: it is always signed.
#[must_use]
pub fn extract(source: &Source, request: &Verified) -> Extract {
    let by_key = request.is_test_key().then_some(TestMark::Secret);
    let pointers = [&source.id, &source.event_type, &source.time].into_iter().flatten();
    let wanted: Vec<_> = pointers
        .chain(source.test_when.as_ref().map(|when| &when.pointer))
        .map(|pointer| first_token(pointer))
        .collect();
    let (members, repeated, no_object) = match Body::read(&request.request().body, &wanted) {
        Body::Object { members, repeated } => (members, repeated, None),
        Body::Other => (Value::Null, BTreeSet::new(), Some(Unusable::NotAnObject)),
        Body::NotJson => (Value::Null, BTreeSet::new(), Some(Unusable::NotJson)),
    };
    let header = |name: &Option<String>| name.as_deref().and_then(|name| one(&request.request().headers, name));
    let event_type = match hit(&members, &source.event_type) {
        Some(value) => value.as_str().filter(|text| is_word(text, MAX_EVENT_TYPE_BYTES)),
        None => header(&source.type_header).and_then(|value| value.ok().filter(|t| is_word(t, MAX_EVENT_TYPE_BYTES))),
    };
    let id = match hit(&members, &source.id) {
        // Readers that keep the first of two members would see another event than we do.
        _ if [&source.id, &source.event_type]
            .into_iter()
            .flatten()
            .any(|p| repeated.contains(first_token(p).as_ref())) =>
        {
            Err(Unusable::DuplicateMember)
        }
        Some(value) => event_id(value).ok_or(Unusable::EventIdInvalid),
        None => match header(&source.id_header) {
            None => Err(Unusable::EventIdMissing),
            Some(Ok(text)) if is_word(text, MAX_EVENT_ID_BYTES) => Ok(text.to_owned()),
            Some(Ok(_) | Err(_)) => Err(Unusable::EventIdInvalid),
        },
    };
    let untyped = event_type.is_none().then_some(Unusable::EventTypeMissing);
    let event_type = event_type.unwrap_or_default().to_owned();
    let test = by_key
        .or_else(|| source.test_types.iter().any(|p| matches(p, &event_type)).then_some(TestMark::EventType))
        .or_else(|| source.test_when.as_ref().is_some_and(|when| holds(when, &members)).then_some(TestMark::Pointer));
    Extract {
        occurred_at: hit(&members, &source.time).and_then(|value| time(value, source.time_format)),
        unusable: no_object.or(id.as_ref().err().copied()).or(untyped),
        event_id: id.ok(),
        event_type,
        test,
    }
}

/// What the first of the pointers that leads to something leads to. `null` is nothing.
fn hit<'a>(members: &'a Value, pointers: &[String]) -> Option<&'a Value> {
    pointers.iter().filter_map(|pointer| at(members, pointer)).find(|value| !value.is_null())
}

/// What a pointer leads to. Most have one token, for which `Value::pointer` makes two strings and a list.
fn at<'a>(members: &'a Value, pointer: &str) -> Option<&'a Value> {
    match pointer.strip_prefix('/') {
        Some(token) if members.is_object() && !token.contains(['/', '~']) => members.get(token),
        _ => members.pointer(pointer),
    }
}

/// The id: a string, or the text of an integer as it stands in the body.
fn event_id(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => Some(number.to_string()).filter(|text| is_integer(text))?,
        _ => return None,
    };
    is_word(&text, MAX_EVENT_ID_BYTES).then_some(text)
}

/// The one value of a header; an error where it stands there twice or is no plain text.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Option<Result<&'a str, ()>> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    Some(if values.next().is_none() { value.to_str().map_err(|_| ()) } else { Err(()) })
}

fn time(value: &Value, format: TimeFormat) -> Option<Timestamp> {
    match format {
        TimeFormat::Rfc3339 => Timestamp::parse(value.as_str()?).ok(),
        TimeFormat::Unix => value.as_i64()?.checked_mul(1_000_000).map(Timestamp::from_micros),
    }
}

fn is_word(text: &str, max: usize) -> bool {
    !text.is_empty() && text.len() <= max && !text.contains(char::is_control)
}

fn is_integer(text: &str) -> bool {
    text.strip_prefix('-').unwrap_or(text).bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a type fits a pattern: exact, or with one `*` at its beginning or end.
fn matches(pattern: &str, event_type: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => event_type.ends_with(end),
        (None, Some(start)) => event_type.starts_with(start),
        (None, None) => event_type == pattern,
    }
}

fn holds(when: &TestWhen, members: &Value) -> bool {
    match members.pointer(&when.pointer) {
        Some(Value::String(text)) => *text == when.equals,
        Some(Value::Null) => when.equals == "null",
        Some(Value::Bool(value)) => when.equals == value.to_string(),
        Some(Value::Number(number)) => when.equals == number.to_string(),
        Some(Value::Array(_) | Value::Object(_)) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::{source, verified, verified_with};
    use super::*;

    fn of(body: &str) -> Extract {
        let source = source("accbooks");
        extract(&source, &verified(&source, "live", body.as_bytes()))
    }

    #[test]
    fn a_usable_event_is_read_whole() {
        assert_eq!(
            of(r#"{"id":"evt_1","type":"invoice.paid","created_at":"2026-04-15T14:32:00Z","data":{}}"#),
            Extract {
                event_id: Some("evt_1".to_owned()),
                event_type: "invoice.paid".to_owned(),
                occurred_at: Timestamp::parse("2026-04-15T14:32:00Z").ok(),
                unusable: None,
                test: None,
            }
        );
    }

    #[test]
    fn ids_and_types_are_usable_or_say_why() {
        use Unusable::{DuplicateMember, EventIdInvalid, EventIdMissing, EventTypeMissing, NotAnObject, NotJson};
        let longest = "x".repeat(255);
        let quoted = |text: &str| format!(r#"{{"type":"t","id":"{text}"}}"#);
        for (body, id, unusable) in [
            (quoted("e1").as_str(), Some("e1"), None),
            (&quoted(&longest), Some(longest.as_str()), None),
            (&quoted(&"x".repeat(256)), None, Some(EventIdInvalid)),
            (&quoted(&"é".repeat(128)), None, Some(EventIdInvalid)),
            (&quoted("é ü"), Some("é ü"), None),
            (&quoted(""), None, Some(EventIdInvalid)),
            (&quoted("a\\u0000b"), None, Some(EventIdInvalid)),
            (&quoted("a\\nb"), None, Some(EventIdInvalid)),
            (r#"{"type":"t","id":12345678901234567890123}"#, Some("12345678901234567890123"), None),
            (r#"{"type":"t","id":-7}"#, Some("-7"), None),
            (r#"{"type":"t","id":7.0}"#, None, Some(EventIdInvalid)),
            (r#"{"type":"t","id":7e3}"#, None, Some(EventIdInvalid)),
            (r#"{"type":"t","id":true}"#, None, Some(EventIdInvalid)),
            (r#"{"type":"t","id":["a"]}"#, None, Some(EventIdInvalid)),
            (r#"{"type":"t","id":null}"#, None, Some(EventIdMissing)),
            (r#"{"type":"t"}"#, None, Some(EventIdMissing)),
            (r#"{}"#, None, Some(EventIdMissing)),
            (r#"{"id":"e1"}"#, Some("e1"), Some(EventTypeMissing)),
            (r#"{"id":"e1","type":7}"#, Some("e1"), Some(EventTypeMissing)),
            (r#"{"id":"e1","type":""}"#, Some("e1"), Some(EventTypeMissing)),
            (r#"{"id":"e1","type":"t","id":"e2"}"#, None, Some(DuplicateMember)),
            (r#"{"id":"e1","type":"t","\u0069d":"e1"}"#, None, Some(DuplicateMember)),
            (r#"{"id":"e1","type":"t","type":"u"}"#, None, Some(DuplicateMember)),
            (r#"{"id":"e1","type":"t","note":1,"note":2}"#, Some("e1"), None),
            ("[]", None, Some(NotAnObject)),
            ("7", None, Some(NotAnObject)),
            ("id=1", None, Some(NotJson)),
            ("", None, Some(NotJson)),
        ] {
            let read = of(body);
            assert_eq!((read.event_id.as_deref(), read.unusable), (id, unusable), "{body}");
        }
    }

    #[test]
    fn a_time_that_is_none_makes_no_event_unusable() {
        for time in ["null", "17", "\"yesterday\"", "\"2026-05-02\"", "{}"] {
            let read = of(&format!(r#"{{"id":"e1","type":"t","created_at":{time}}}"#));
            assert_eq!((read.occurred_at, read.unusable), (None, None), "{time}");
        }
    }

    #[test]
    fn the_first_pointer_that_hits_counts() {
        let mut source = source("accbooks");
        source.id = vec!["/a/b".to_owned(), "/a~1b".to_owned(), "/c".to_owned()];
        for (body, id) in [
            (r#"{"type":"t","a":{"b":"1"},"c":"3"}"#, Some("1")),
            (r#"{"type":"t","a":{"b":null},"a/b":"2","c":"3"}"#, Some("2")),
            (r#"{"type":"t","a":{},"c":"3"}"#, Some("3")),
            (r#"{"type":"t","a":{"b":{}},"c":"3"}"#, None),
            (r#"{"type":"t","a/b":"2","a/b":"2"}"#, None),
        ] {
            assert_eq!(extract(&source, &verified(&source, "live", body.as_bytes())).event_id.as_deref(), id, "{body}");
        }
    }

    #[test]
    fn headers_say_id_and_type_where_the_body_does_not() {
        use Unusable::{EventIdInvalid, EventIdMissing, EventTypeMissing, NotJson};
        let github = source("github");
        let mut both = github.clone();
        (both.id, both.event_type) = (vec!["/id".to_owned()], vec!["/type".to_owned()]);
        let (id, event) = ("x-github-delivery", "x-github-event");
        let long = [b'x'; 256];
        for (source, body, headers, expected) in [
            (&github, "{}", &[(id, b"d-1".as_slice()), (event, b"push")][..], (Some("d-1"), "push", None)),
            (&github, r#"{"id":"b","type":"b"}"#, &[(id, b"d-1"), (event, b"push")], (Some("d-1"), "push", None)),
            (&github, "payload=%7B%7D", &[(id, b"d-1"), (event, b"push")], (Some("d-1"), "push", Some(NotJson))),
            (&github, "{}", &[(event, b"push")], (None, "push", Some(EventIdMissing))),
            (&github, "{}", &[(id, b"d-1"), (id, b"d-2"), (event, b"push")], (None, "push", Some(EventIdInvalid))),
            (&github, "{}", &[(id, b""), (event, b"push")], (None, "push", Some(EventIdInvalid))),
            (&github, "{}", &[(id, b"\xc3\xa9"), (event, b"push")], (None, "push", Some(EventIdInvalid))),
            (&github, "{}", &[(id, &long), (event, b"push")], (None, "push", Some(EventIdInvalid))),
            (&github, "{}", &[(id, b"d-1"), (event, &long)], (Some("d-1"), "", Some(EventTypeMissing))),
            (&github, "{}", &[(id, b"d-1")], (Some("d-1"), "", Some(EventTypeMissing))),
            (&both, r#"{"id":"b","type":"t"}"#, &[(id, b"d-1"), (event, b"push")], (Some("b"), "t", None)),
            (&both, r#"{"id":null}"#, &[(id, b"d-1"), (event, b"push")], (Some("d-1"), "push", None)),
            (&both, r#"{"id":{}}"#, &[(id, b"d-1"), (event, b"push")], (None, "push", Some(EventIdInvalid))),
        ] {
            let read = extract(source, &verified_with(source, "live", body.as_bytes(), headers));
            let is = (read.event_id.as_deref(), read.event_type.as_str(), read.unusable);
            assert_eq!(is, expected, "{body} {headers:?}");
        }
        let ping = verified_with(&github, "live", b"{}", &[(id, b"d-1"), (event, b"ping")]);
        assert_eq!(extract(&github, &ping).test, Some(TestMark::EventType));
        let standard = source("standard-webhooks");
        let read = extract(&standard, &verified(&standard, "live", br#"{"type":"invoice.paid"}"#));
        assert_eq!((read.event_id.as_deref(), read.unusable), (Some("msg_1"), None));
    }

    #[test]
    fn times_in_seconds_are_read_where_the_source_writes_them() {
        let stripe = source("stripe");
        for (time, micros) in [
            ("1686089970", Some(1_686_089_970_000_000)),
            ("-1", Some(-1_000_000)),
            ("1686089970.5", None),
            ("9223372036854775807", None),
            ("1e400", None),
            ("\"1686089970\"", None),
            ("\"2026-04-15T14:32:00Z\"", None),
        ] {
            let body = format!(r#"{{"id":"evt_1","type":"t","created":{time}}}"#);
            let read = extract(&stripe, &verified(&stripe, "live", body.as_bytes()));
            assert_eq!((read.occurred_at.map(Timestamp::as_micros), read.unusable), (micros, None), "{time}");
        }
    }

    #[test]
    fn providers_say_what_is_a_test() {
        for (preset, body, mark) in [
            ("stripe", r#"{"id":"evt_1","type":"t","livemode":false}"#, Some(TestMark::Pointer)),
            ("stripe", r#"{"id":"evt_1","type":"t","livemode":true}"#, None),
            ("shopify", r#"{"id":820982911946154508,"test":true}"#, Some(TestMark::Pointer)),
            ("shopify", r#"{"id":820982911946154508,"test":false}"#, None),
            ("slack", r#"{"type":"url_verification","challenge":"c"}"#, Some(TestMark::EventType)),
            ("slack", r#"{"type":"event_callback","event_id":"Ev1","event":{"type":"app_mention"}}"#, None),
        ] {
            let source = source(preset);
            let read = extract(&source, &verified(&source, "live", body.as_bytes()));
            assert_eq!(read.test, mark, "{body}");
        }
    }

    #[test]
    fn tests_are_marked_by_key_type_or_member() {
        let mut source = source("accbooks");
        source.test_types.push("probe.*".to_owned());
        source.test_when = Some(TestWhen { pointer: "/livemode".to_owned(), equals: "false".to_owned() });
        for (key, body, mark) in [
            ("live", r#"{"id":"1","type":"invoice.paid"}"#, None),
            ("live", r#"{"id":"1","type":"test"}"#, Some(TestMark::EventType)),
            ("live", r#"{"id":"1","type":"webhook.test"}"#, Some(TestMark::EventType)),
            ("live", r#"{"id":"1","type":"probe.any"}"#, Some(TestMark::EventType)),
            ("live", r#"{"id":"1","type":"testing"}"#, None),
            ("live", r#"{"id":"1","type":"a.test.b"}"#, None),
            ("live", r#"{"id":"1","type":"t","livemode":false}"#, Some(TestMark::Pointer)),
            ("live", r#"{"id":"1","type":"t","livemode":"false"}"#, Some(TestMark::Pointer)),
            ("live", r#"{"id":"1","type":"t","livemode":true}"#, None),
            ("live", r#"{"id":"1","type":"t","livemode":[false]}"#, None),
            ("test", r#"{"id":"1","type":"test"}"#, Some(TestMark::Secret)),
            ("test", "not json", Some(TestMark::Secret)),
            ("live", r#"{"type":"ping"}"#, Some(TestMark::EventType)),
        ] {
            assert_eq!(extract(&source, &verified(&source, key, body.as_bytes())).test, mark, "{key} {body}");
        }
    }

    proptest::proptest! {
        #[test]
        fn an_id_is_always_a_usable_key(id in proptest::prelude::any::<String>(), event_type in proptest::prelude::any::<String>()) {
            let read = of(&serde_json::json!({"id": id, "type": event_type}).to_string());
            match read.event_id {
                Some(read) => proptest::prop_assert!(read == id && is_word(&read, MAX_EVENT_ID_BYTES)),
                None => proptest::prop_assert_eq!(read.unusable, Some(Unusable::EventIdInvalid)),
            }
            proptest::prop_assert!(read.event_type.is_empty() || read.event_type == event_type);
        }
    }
}
