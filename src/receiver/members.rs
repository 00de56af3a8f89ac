//! The members of a JSON object that a source's pointers begin with, and which of them are repeated.
//!
//! serde_json keeps the last of several members of one name, other parsers the first: two readers of one signed body
//! could then see two ids. Repetition inside of members is left to serde_json: the last one counts.
//!
//! All of a body is checked as strictly as if it were kept, and nothing else of it is: a tree of every member was a third
//! of what a request cost.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// What a body holds.
#[derive(Debug, PartialEq)]
pub(super) enum Body {
    /// One object.
    Object {
        /// Its wanted members, the last of each name.
        members: Value,
        /// Wanted names that stand there more than once.
        repeated: BTreeSet<String>,
    },
    /// One other JSON value.
    Other,
    /// Not one JSON value, not UTF-8, or nested more than 127 levels.
    NotJson,
}

impl Body {
    /// Reads a body whole; of an object's members it keeps those of the `wanted` names.
    pub(super) fn read(body: &[u8], wanted: &[Cow<'_, str>]) -> Self {
        // Bytes of members that are not kept would otherwise go unchecked.
        let Ok(text) = std::str::from_utf8(body) else { return Self::NotJson };
        // serde hands numbers of arbitrary precision over as maps too: only the text tells an object for sure.
        let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
        let mut json = serde_json::Deserializer::from_str(text);
        let read = if first == Some(&b'{') {
            json.deserialize_map(Reader { wanted, is_plain: is_plain(text) })
        } else {
            Checked::deserialize(&mut json).map(|Checked| Self::Other)
        };
        read.and_then(|read| json.end().map(|()| read)).unwrap_or(Self::NotJson)
    }
}

/// Deepest nesting that serde_json takes.
const MAX_DEPTH: usize = 127;

/// Whether passing over values is as strict as reading them: serde_json then looks neither at surrogates, which only an
/// escape can write, nor at the depth, which no text with so few brackets reaches.
fn is_plain(text: &str) -> bool {
    // In runs that a byte can count: so it is done in vectors.
    let brackets = |run: &[u8]| usize::from(run.iter().map(|byte| u8::from(matches!(byte, b'{' | b'['))).sum::<u8>());
    text.as_bytes().chunks(255).map(brackets).sum::<usize>() <= MAX_DEPTH && !text.contains("\\u")
}

/// The member of the top that a JSON pointer (RFC 6901) begins with.
pub(super) fn first_token(pointer: &str) -> Cow<'_, str> {
    let token = pointer.strip_prefix('/').and_then(|rest| rest.split('/').next()).unwrap_or_default();
    if token.contains('~') { token.replace("~1", "/").replace("~0", "~").into() } else { token.into() }
}

struct Reader<'w> {
    wanted: &'w [Cow<'w, str>],
    /// Whether values that are not wanted may be passed over.
    is_plain: bool,
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Body;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Body, A::Error> {
        let (mut members, mut repeated) = (Map::new(), BTreeSet::new());
        while let Some(name) = map.next_key_seed(Name { wanted: self.wanted })? {
            let Some(name) = name else {
                // Cheaper, as no number or text becomes a value for it, and most of a body is not wanted.
                if self.is_plain {
                    map.next_value::<IgnoredAny>()?;
                } else {
                    map.next_value::<Checked>()?;
                }
                continue;
            };
            if members.insert(name.to_owned(), map.next_value()?).is_some() {
                repeated.insert(name.to_owned());
            }
        }
        Ok(Body::Object { members: Value::Object(members), repeated })
    }
}

/// A member's name, where it is a wanted one.
struct Name<'w> {
    wanted: &'w [Cow<'w, str>],
}

impl<'de, 'w> DeserializeSeed<'de> for Name<'w> {
    type Value = Option<&'w str>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'w> Visitor<'_> for Name<'w> {
    type Value = Option<&'w str>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }
    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.wanted.iter().map(Cow::as_ref).find(|wanted| *wanted == name))
    }
}

/// Any value, read and forgotten, where `serde::de::IgnoredAny` would not do (see [`is_plain`]).
struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = Self;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }
    /// Objects, and numbers that no machine type holds.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every member is wanted.
    fn read(body: &[u8]) -> Body {
        let names: Vec<String> = match serde_json::from_slice(body) {
            Ok(Value::Object(members)) => members.into_iter().map(|(name, _)| name).collect(),
            _ => Vec::new(),
        };
        let names: Vec<Cow<'_, str>> = names.iter().map(Cow::from).collect();
        Body::read(body, &names)
    }

    #[test]
    fn bodies_are_told_apart() {
        let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
        for (body, is) in [
            ("{}", "object"),
            (" \n{\"a\":1}\t", "object"),
            (&nested(127), "object"),
            (&nested(128), "not json"),
            ("12", "other"),
            ("[{}]", "other"),
            ("null", "other"),
            ("\"{\"", "other"),
            ("", "not json"),
            (" ", "not json"),
            ("{}{}", "not json"),
            ("{} x", "not json"),
            ("{\"a\":1", "not json"),
            ("{}\0", "not json"),
            ("\0{}", "not json"),
            ("\u{feff}{}", "not json"),
            ("{\"a\":\"\\ud800\"}", "not json"),
            ("{\"a\":\"\u{1}\"}", "not json"),
            ("{'a':1}", "not json"),
            ("{\"a\":NaN}", "not json"),
            ("id=1", "not json"),
        ] {
            let read = match Body::read(body.as_bytes(), &[]) {
                Body::Object { .. } => "object",
                Body::Other => "other",
                Body::NotJson => "not json",
            };
            assert_eq!(read, is, "{body:?}");
        }
        assert_eq!(Body::read(b"{\"a\":\"\xff\"}", &[]), Body::NotJson);
    }

    #[test]
    fn repeated_members_are_named_and_the_last_one_counts() {
        let Body::Object { members, repeated } = read(br#"{"a":1,"b":{"c":1,"c":2},"a":2,"\u0061":3}"#) else {
            panic!("an object");
        };
        assert_eq!(members, serde_json::json!({"a": 3, "b": {"c": 2}}));
        assert_eq!(repeated, BTreeSet::from(["a".to_owned()]));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(body: Vec<u8>) {
            let _ = Body::read(&body, &["a".into()]);
        }

        #[test]
        fn what_is_not_kept_is_checked_as_strictly(text in r#"[ \[\]{}:,"a0-9.eE\\udD-]{0,40}"#) {
            let all = format!(r#"{{"a":{text}}}"#);
            let is_json = serde_json::from_str::<Value>(&all).is_ok();
            proptest::prop_assert_eq!(Body::read(all.as_bytes(), &[]) != Body::NotJson, is_json);
        }

        #[test]
        fn what_is_passed_over_is_checked_as_strictly(text in r#"[ \[\]{}:,"a0-9.eE\\nt/-]{0,30}"#) {
            let all = format!(r#"{{"a":{text}}}"#);
            let is_json = serde_json::from_str::<Value>(&all).is_ok();
            proptest::prop_assert_eq!(Body::read(all.as_bytes(), &[]) != Body::NotJson, is_json);
        }

        #[test]
        fn agrees_with_serde_json(text in r#"[ \[\]{}:,"a0-9.eE\\u-]{0,40}"#) {
            let plain = serde_json::from_str::<Value>(&text);
            match read(text.as_bytes()) {
                Body::Object { members, .. } => proptest::prop_assert_eq!(plain.ok(), Some(members)),
                Body::Other => proptest::prop_assert!(plain.is_ok_and(|value| !value.is_object())),
                Body::NotJson => proptest::prop_assert!(plain.is_err()),
            }
        }
    }
}
