//! A body's JSON as a tree that borrows from it: texts without escapes and numbers as they stand, members in their order.
//!
//! serde_json's own tree allocates for every member, text and number and hashes every name, which was the largest part
//! of what an event cost the router; and with its exact numbers it cannot borrow. It stays the measure: what this reads,
//! refuses and writes is what that does, which the tests hold it to.

use std::borrow::Cow;
use std::collections::HashMap;

/// Deepest nesting, as serde_json's: the parser calls itself.
const MAX_DEPTH: usize = 127;
/// Members up to which names are compared one by one rather than hashed.
const FEW: usize = 32;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Json<'a> {
    Null,
    Bool(bool),
    /// As it is spelled, but for an exponent, which has a small `e` and a sign.
    Number(Cow<'a, str>),
    Text(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    Object(Object<'a>),
}

/// Members in their order; of a name that comes twice the last value, at the first one's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object<'a>(Vec<(Cow<'a, str>, Json<'a>)>);

impl<'a> Json<'a> {
    /// Reads a whole body; none where it is not JSON.
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut parser = Parser { text: std::str::from_utf8(body).ok()?, at: 0 };
        let value = parser.value(MAX_DEPTH)?;
        parser.space();
        (parser.at == body.len()).then_some(value)
    }

    /// The value at a JSON pointer (RFC 6901).
    pub(super) fn pointer(&self, pointer: &str) -> Option<&Self> {
        if pointer.is_empty() {
            return Some(self);
        }
        pointer.strip_prefix('/')?.split('/').try_fold(self, |value, token| {
            let token = match token.contains('~') {
                true => Cow::Owned(token.replace("~1", "/").replace("~0", "~")),
                false => Cow::Borrowed(token),
            };
            match value {
                Self::Object(object) => object.get(&token),
                Self::Array(array) => array.get(index(&token)?),
                _ => None,
            }
        })
    }

    pub(super) const fn as_object(&self) -> Option<&Object<'a>> {
        if let Self::Object(object) = self { Some(object) } else { None }
    }

    pub(super) const fn as_array(&self) -> Option<&Vec<Self>> {
        if let Self::Array(array) = self { Some(array) } else { None }
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// As JSON text, without space.
    pub(super) fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(true) => out.push_str("true"),
            Self::Bool(false) => out.push_str("false"),
            Self::Number(number) => out.push_str(number),
            Self::Text(text) => quote(text, matches!(text, Cow::Borrowed(_)), out),
            Self::Array(array) => {
                out.push('[');
                for (n, item) in array.iter().enumerate() {
                    if n > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(object) => object.write(out),
        }
    }
}

impl<'a> Object<'a> {
    /// The member of this name.
    pub(super) fn get(&self, name: &str) -> Option<&Json<'a>> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    /// As JSON text, without space.
    pub(super) fn write(&self, out: &mut String) {
        out.push('{');
        for (n, (name, value)) in self.0.iter().enumerate() {
            if n > 0 {
                out.push(',');
            }
            quote(name, matches!(name, Cow::Borrowed(_)), out);
            out.push(':');
            value.write(out);
        }
        out.push('}');
    }

    fn of(members: Vec<(Cow<'a, str>, Json<'a>)>) -> Self {
        if members.len() <= FEW && !has_twice(&members) {
            return Self(members);
        }
        let mut places: HashMap<Cow<'a, str>, usize> = HashMap::with_capacity(members.len());
        let mut once: Vec<(Cow<'a, str>, Json<'a>)> = Vec::with_capacity(members.len());
        for (name, value) in members {
            match places.get(&name).and_then(|at| once.get_mut(*at)) {
                Some(member) => member.1 = value,
                None => {
                    places.insert(name.clone(), once.len());
                    once.push((name, value));
                }
            }
        }
        Self(once)
    }
}

/// Whether a name comes twice. Most are told apart by one of 64 bits, by length and ends, and are not compared.
fn has_twice(members: &[(Cow<'_, str>, Json<'_>)]) -> bool {
    let mut met = 0_u64;
    for (n, (name, _)) in members.iter().enumerate() {
        let ends = name.as_bytes().first().zip(name.as_bytes().last());
        let (first, last) = ends.map_or((0, 0), |(first, last)| (usize::from(*first), usize::from(*last)));
        let bit = 1 << ((name.len().wrapping_mul(7) ^ first ^ (last << 2)) & 63);
        if met & bit != 0 && members[..n].iter().any(|(own, _)| own == name) {
            return true;
        }
        met |= bit;
    }
    false
}

/// An array's index as a pointer spells it: no sign, no zero before other digits.
fn index(token: &str) -> Option<usize> {
    let is_plain = !token.starts_with('+') && (token == "0" || !token.starts_with('0'));
    is_plain.then(|| token.parse().ok()).flatten()
}

/// Writes a text of a body, which needs no escape where it `is_borrowed`: it stood there without one.
fn quote(text: &str, is_borrowed: bool, out: &mut String) {
    out.push('"');
    if is_borrowed {
        out.push_str(text);
        out.push('"');
        return;
    }
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate().filter(|(_, byte)| matches!(byte, b'"' | b'\\' | 0..0x20)) {
        out.push_str(text.get(plain..at).unwrap_or_default());
        plain = at + 1;
        out.push('\\');
        match byte {
            b'"' | b'\\' => out.push(char::from(byte)),
            0x08 => out.push('b'),
            b'\t' => out.push('t'),
            b'\n' => out.push('n'),
            0x0c => out.push('f'),
            b'\r' => out.push('r'),
            other => {
                out.push_str("u00");
                for digit in [other >> 4, other & 15] {
                    out.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
                }
            }
        }
    }
    out.push_str(text.get(plain..).unwrap_or_default());
    out.push('"');
}

/// Where the first byte stands that is not simply a part of a text. Eight bytes are told at once: in each, the highest bit
/// of a byte that is a quote, a backslash or a control character is set, and of none before the first such byte.
fn end_of_plain(bytes: &[u8]) -> Option<usize> {
    const EACH: u64 = u64::MAX / 255;
    const HIGH: u64 = EACH << 7;
    let is = |word: u64, byte: u8| {
        let differs = word ^ (EACH * u64::from(byte));
        differs.wrapping_sub(EACH) & !differs
    };
    let mut at = 0;
    while let Some(eight) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*eight);
        let control = word.wrapping_sub(EACH * 0x20) & !word;
        let ends = (is(word, b'"') | is(word, b'\\') | control) & HIGH;
        if ends != 0 {
            return Some(at + ends.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    bytes.get(at..)?.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).map(|more| at + more)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn eat(&mut self, byte: u8) -> bool {
        let is = self.peek() == Some(byte);
        self.at += usize::from(is);
        is
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    fn word(&mut self, word: &str, value: Json<'a>) -> Option<Json<'a>> {
        self.text.get(self.at..)?.starts_with(word).then(|| {
            self.at += word.len();
            value
        })
    }

    /// A value and the space before it; `depth` more levels may follow.
    fn value(&mut self, depth: usize) -> Option<Json<'a>> {
        self.space();
        match self.peek()? {
            b'n' => self.word("null", Json::Null),
            b't' => self.word("true", Json::Bool(true)),
            b'f' => self.word("false", Json::Bool(false)),
            b'"' => self.string().map(Json::Text),
            b'-' | b'0'..=b'9' => self.number().map(Json::Number),
            b'[' => self.array(depth.checked_sub(1)?),
            b'{' => self.object(depth.checked_sub(1)?),
            _ => None,
        }
    }

    fn array(&mut self, depth: usize) -> Option<Json<'a>> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.eat(b']') {
            return Some(Json::Array(items));
        }
        loop {
            items.push(self.value(depth)?);
            self.space();
            match self.next()? {
                b',' => {}
                b']' => return Some(Json::Array(items)),
                _ => return None,
            }
        }
    }

    fn object(&mut self, depth: usize) -> Option<Json<'a>> {
        self.at += 1;
        let mut members = Vec::new();
        self.space();
        if self.eat(b'}') {
            return Some(Json::Object(Object(members)));
        }
        loop {
            self.space();
            if self.peek()? != b'"' {
                return None;
            }
            let name = self.string()?;
            self.space();
            if !self.eat(b':') {
                return None;
            }
            members.push((name, self.value(depth)?));
            self.space();
            match self.next()? {
                b',' => {}
                b'}' => return Some(Json::Object(Object::of(members))),
                _ => return None,
            }
        }
    }

    fn digits(&mut self) -> Option<()> {
        let from = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        (self.at > from).then_some(())
    }

    fn number(&mut self) -> Option<Cow<'a, str>> {
        let from = self.at;
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        let mantissa = self.text.get(from..self.at)?;
        if !self.eat(b'e') && !self.eat(b'E') {
            return Some(Cow::Borrowed(mantissa));
        }
        let sign = if self.eat(b'-') { "-" } else { "+" };
        if sign == "+" {
            self.eat(b'+');
        }
        let from = self.at;
        self.digits()?;
        Some(Cow::Owned(format!("{mantissa}e{sign}{}", self.text.get(from..self.at)?)))
    }

    /// A text, from its opening quote on.
    fn string(&mut self) -> Option<Cow<'a, str>> {
        self.at += 1;
        let mut built: Option<String> = None;
        loop {
            let rest = self.text.get(self.at..)?;
            let plain = end_of_plain(rest.as_bytes())?;
            let chunk = rest.get(..plain)?;
            self.at += plain;
            match self.next()? {
                b'"' => {
                    return Some(match built {
                        None => Cow::Borrowed(chunk),
                        Some(text) => Cow::Owned(text + chunk),
                    });
                }
                b'\\' => {
                    let text = built.get_or_insert_default();
                    text.push_str(chunk);
                    let char = self.escaped()?;
                    text.push(char);
                }
                _ => return None,
            }
        }
    }

    fn escaped(&mut self) -> Option<char> {
        Some(match self.next()? {
            byte @ (b'"' | b'\\' | b'/') => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => match self.hex()? {
                high @ 0xd800..=0xdbff => {
                    if !self.eat(b'\\') || !self.eat(b'u') {
                        return None;
                    }
                    let low = self.hex().filter(|low| (0xdc00..=0xdfff).contains(low))?;
                    char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00))?
                }
                // Half of a pair by itself is none.
                other => char::from_u32(other)?,
            },
            _ => return None,
        })
    }

    fn hex(&mut self) -> Option<u32> {
        (0..4).try_fold(0, |sum, _| Some(sum << 4 | char::from(self.next()?).to_digit(16)?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn written(value: &Json<'_>) -> String {
        let mut out = String::new();
        value.write(&mut out);
        out
    }

    /// Reads, refuses and writes as serde_json does.
    fn compare(body: &[u8]) {
        let theirs = serde_json::from_slice::<Value>(body).ok();
        let ours = Json::parse(body);
        let shown = String::from_utf8_lossy(body);
        assert_eq!(ours.as_ref().map(written), theirs.map(|value| value.to_string()), "{shown}");
    }

    #[test]
    fn reads_refuses_and_writes_as_serde_json() {
        for body in [
            r#"{"a":1,"b":[true,false,null],"c":{"d":"e"}}"#,
            r#" { "a" : [ ] , "b" : { } } "#,
            r#"{"a":1,"b":2,"a":3}"#,
            "-0",
            "0.10",
            "1E+5",
            "1e-05",
            "-12.340e0",
            "1234567890123456789012345678901234567890.000000000000000001",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "-",
            "--1",
            "nul",
            "truex",
            "[1,]",
            "[,1]",
            "[1 2]",
            r#"{"a":1,}"#,
            r#"{"a"}"#,
            r#"{"a":}"#,
            "{1:2}",
            "",
            " ",
            "1 1",
            "\"a",
            "\"\u{1}\"",
            "\"\u{7f}\u{e4}\u{1f600}\"",
            r#""\"\\\/\b\f\n\r\t\u0001\u001f\u00e4\ud83d\ude00""#,
            r#""\ud83d""#,
            r#""\ude00""#,
            r#""\ud83d\u0041""#,
            r#""\ud83dx""#,
            r#""\u12g4""#,
            r#""\x""#,
            "\u{feff}1",
        ] {
            compare(body.as_bytes());
        }
        compare(b"\"\xff\"");
        compare(b"[1\xff]");
        for depth in [126, 127, 128, 129, 10_000] {
            compare(format!("{}1{}", "[".repeat(depth), "]".repeat(depth)).as_bytes());
            compare(format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth)).as_bytes());
        }
        let many = (0..100).map(|n| format!(r#""m{}":{n}"#, n % 70)).collect::<Vec<_>>().join(",");
        compare(format!("{{{many}}}").as_bytes());
    }

    #[test]
    fn a_plain_run_ends_where_it_ends() {
        for end in [b'"', b'\\', 0, 0x1f] {
            for at in 0..50 {
                let mut text = vec![b'x'; at];
                text.extend([end, b'"']);
                assert_eq!(end_of_plain(&text), Some(at), "{end}");
                assert_eq!(end_of_plain(&text[..at]), None);
            }
        }
        assert_eq!(end_of_plain("\u{7f}\u{80}\u{1f600} ".repeat(9).as_bytes()), None);
        // A byte is told right whatever stands before it.
        for pair in 0..=u16::MAX {
            let text = [b"x".as_slice(), &pair.to_be_bytes(), b"xxxxxx"].concat();
            let end = text.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
            assert_eq!(end_of_plain(&text), end, "{pair:04x}");
        }
    }

    #[test]
    fn a_name_that_comes_twice_is_found_among_any_others() {
        for count in [1, 2, FEW - 1, FEW, FEW + 1, 100] {
            let members = |n: usize| format!(r#""n{n}":{n},"#);
            let all: String = (0..count).map(members).collect();
            compare(format!("{{{}}}", all.trim_end_matches(',')).as_bytes());
            for twice in 0..count {
                compare(format!(r#"{{{all}"n{twice}":"again","other":null}}"#).as_bytes());
            }
        }
    }

    #[test]
    fn a_pointer_leads_where_serde_json_leads() {
        let body = r#"{"a":[10,[20,21],{"b":30}],"":{"":1},"x/y":2,"m~n":3,"01":4}"#;
        let (ours, theirs) = (Json::parse(body.as_bytes()).unwrap(), serde_json::from_str::<Value>(body).unwrap());
        for pointer in [
            "", "/", "//", "/a", "/a/0", "/a/1/1", "/a/2/b", "/a/00", "/a/+1", "/a/-", "/a/9", "/a/01", "/x~1y",
            "/m~0n", "/01", "a", "/b", "/a/2/b/c",
        ] {
            let found = (ours.pointer(pointer).map(written), theirs.pointer(pointer).map(ToString::to_string));
            assert_eq!(found.0, found.1, "{pointer}");
        }
    }

    fn value() -> impl Strategy<Value = String> {
        let text = any::<String>().prop_map(|text| Value::String(text).to_string());
        let escaped = proptest::collection::vec(any::<u16>(), 0..4)
            .prop_map(|units| format!("\"{}\"", units.iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>()));
        let number = "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?";
        let leaf = prop_oneof![text, escaped, number, Just("null".to_owned()), Just("true".to_owned())];
        leaf.prop_recursive(5, 40, 6, |inner| {
            let member = (any::<u8>(), inner.clone()).prop_map(|(name, value)| format!("\"n{}\" : {value}", name % 9));
            prop_oneof![
                proptest::collection::vec(inner, 0..6).prop_map(|items| format!("[{}]", items.join(" ,\n"))),
                proptest::collection::vec(member, 0..6).prop_map(|members| format!("{{ {} }}", members.join(","))),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_is_json_is_the_same_to_both(body in value()) {
            compare(body.as_bytes());
        }

        /// One byte of it changed: mostly no JSON any more.
        #[test]
        fn whatever_is_nearly_json_is_the_same_to_both(body in value(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut body = body.into_bytes();
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] = byte;
            }
            compare(&body);
        }

        #[test]
        fn nothing_makes_it_panic(body in any::<Vec<u8>>()) {
            compare(&body);
        }
    }
}
