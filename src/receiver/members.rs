//! A JSON object whose repeated members are known.
//!
//! serde_json keeps the last of several members of one name, other parsers the first: two readers of one signed body
//! could then see two ids. Repetition inside of members is left to serde_json: the last one counts.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

/// What a body holds.
#[derive(Debug, PartialEq)]
pub(super) enum Body {
    /// One object.
    Object {
        /// Its members, the last of each name.
        members: Value,
        /// Names that stand there more than once.
        repeated: BTreeSet<String>,
    },
    /// One other JSON value.
    Other,
    /// Not one JSON value, not UTF-8, or nested more than 127 levels.
    NotJson,
}

impl Body {
    /// Reads a body whole.
    pub(super) fn read(body: &[u8]) -> Self {
        // serde hands numbers of arbitrary precision over as maps too: only the text tells an object for sure.
        let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
        if first != Some(&b'{') {
            return serde_json::from_slice::<Value>(body).map_or(Self::NotJson, |_| Self::Other);
        }
        match serde_json::from_slice::<Members>(body) {
            Ok(read) => Self::Object { members: Value::Object(read.members), repeated: read.repeated },
            Err(_) => Self::NotJson,
        }
    }
}

struct Members {
    members: Map<String, Value>,
    repeated: BTreeSet<String>,
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut read = Members { members: Map::new(), repeated: BTreeSet::new() };
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if read.members.insert(name.clone(), value).is_some() {
                        read.repeated.insert(name);
                    }
                }
                Ok(read)
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let read = match Body::read(body.as_bytes()) {
                Body::Object { .. } => "object",
                Body::Other => "other",
                Body::NotJson => "not json",
            };
            assert_eq!(read, is, "{body:?}");
        }
        assert_eq!(Body::read(b"{\"a\":\"\xff\"}"), Body::NotJson);
    }

    #[test]
    fn repeated_members_are_named_and_the_last_one_counts() {
        let Body::Object { members, repeated } = Body::read(br#"{"a":1,"b":{"c":1,"c":2},"a":2,"\u0061":3}"#) else {
            panic!("an object");
        };
        assert_eq!(members, serde_json::json!({"a": 3, "b": {"c": 2}}));
        assert_eq!(repeated, BTreeSet::from(["a".to_owned()]));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(body: Vec<u8>) {
            let _ = Body::read(&body);
        }

        #[test]
        fn agrees_with_serde_json(text in r#"[ \[\]{}:,"a0-9.eE\\u-]{0,40}"#) {
            let plain = serde_json::from_str::<Value>(&text);
            match Body::read(text.as_bytes()) {
                Body::Object { members, .. } => proptest::prop_assert_eq!(plain.ok(), Some(members)),
                Body::Other => proptest::prop_assert!(plain.is_ok_and(|value| !value.is_object())),
                Body::NotJson => proptest::prop_assert!(plain.is_err()),
            }
        }
    }
}
