//! What a [`Reader`] reads: one method per kind of option.

use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::fault::{Complaint, did_you_mean};
use super::reader::{Reader, not};
use super::scheme::KeyForm;
use super::secret::{self, Secret};
use super::tree::{Node, Value};
use super::{checks, units};

impl Reader<'_> {
    /// Text that `check` accepts.
    pub(super) fn text(&mut self, key: &'static str, check: fn(&str) -> Result<(), Complaint>) -> String {
        self.require(key, "", |node| checked(node, check)).unwrap_or_default()
    }

    /// Text that `check` accepts, or nothing.
    pub(super) fn optional_text(
        &mut self,
        key: &'static str,
        check: fn(&str) -> Result<(), Complaint>,
    ) -> Option<String> {
        self.take(key, "", |node| checked(node, check))
    }

    /// A list of texts that `check` accepts.
    pub(super) fn texts(&mut self, key: &'static str, check: fn(&str) -> Result<(), Complaint>) -> Vec<String> {
        self.items(key, |text| check(text).map(|()| text.to_owned()))
    }

    /// A list of texts, each converted; each fault at its own line.
    pub(super) fn items<T>(&mut self, key: &'static str, convert: impl Fn(&str) -> Result<T, Complaint>) -> Vec<T> {
        let items = self.require(key, "", |node| match node.value {
            Value::List(items) => Ok(items),
            Value::Text(_) => Err(Complaint::new("is text, where a list of texts is expected")
                .hint(format!("put it into brackets: {key} = [\"...\"]"))),
            other => Err(not("a list of texts", &other)),
        });
        let mut converted = Vec::new();
        for (index, item) in items.unwrap_or_default().into_iter().enumerate() {
            let place = item.place.clone();
            match text(item).and_then(|text| convert(&text)) {
                Ok(item) => converted.push(item),
                Err(complaint) => {
                    let path = self.path_of(&format!("{key}[{index}]"));
                    self.cx.fault(&place, &path, complaint);
                    self.spoil(key);
                }
            }
        }
        converted
    }

    /// A whole number within `range`.
    pub(super) fn number<T>(&mut self, key: &'static str, range: RangeInclusive<T>) -> T
    where
        T: TryFrom<i64> + PartialOrd + Display + Default,
    {
        let limits = format!("{} to {}", range.start(), range.end());
        self.require(key, &limits, |node| match node.value {
            Value::Integer(number) => T::try_from(number)
                .ok()
                .filter(|number| range.contains(number))
                .ok_or_else(|| Complaint::new(format!("is {number}, where {limits} is allowed"))),
            other => Err(not("a whole number", &other)),
        })
        .unwrap_or_default()
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str) -> bool {
        self.require(key, "", flag).unwrap_or_default()
    }

    /// `true` or `false`; false when left out.
    pub(super) fn optional_flag(&mut self, key: &'static str) -> bool {
        self.take(key, "", flag).unwrap_or_default()
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let known: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let limits = known.join(" or ");
        self.require(key, &limits, |node| word(&text(node)?, words))
    }

    /// A duration within `range`.
    pub(super) fn duration(&mut self, key: &'static str, range: RangeInclusive<Duration>) -> Duration {
        let limits = duration_limits(&range);
        self.require(key, &limits, |node| duration_within(node, &range)).unwrap_or_default()
    }

    /// A duration within `range`, or nothing.
    pub(super) fn optional_duration(&mut self, key: &'static str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let limits = duration_limits(&range);
        self.take(key, &limits, |node| duration_within(node, &range))
    }

    /// A size in bytes within `range`; `why` explains the upper limit.
    pub(super) fn size(&mut self, key: &'static str, range: RangeInclusive<u64>, why: &str) -> u64 {
        let show = units::show_size;
        let limits = format!("{} to {}", show(*range.start()), show(*range.end()));
        let size = self.require(key, &limits, |node| {
            let size = match node.value {
                Value::Text(text) => units::size(&text)?,
                Value::Integer(number) => {
                    return Err(Complaint::new("is a number without a unit")
                        .hint(format!("\"{number}B\"? units are B, KiB, MiB, GiB")));
                }
                other => return Err(not("a size such as \"1MiB\"", &other)),
            };
            if range.contains(&size) {
                return Ok(size);
            }
            let complaint = Complaint::new(format!("is {}, where {limits} is allowed", show(size)));
            Err(complaint.maybe_hint((!why.is_empty()).then(|| why.to_owned())))
        });
        size.unwrap_or_default()
    }

    /// An address to listen on.
    pub(super) fn listen(&mut self, key: &'static str) -> SocketAddr {
        self.require(key, "", |node| checks::listen(&text(node)?)).unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// A key by reference, written in this form.
    pub(super) fn key(&mut self, key: &'static str, form: KeyForm) -> Secret {
        if !self.has(key) {
            self.missing(key, "write \"env:NAME\" or \"file:PATH\"");
        }
        let env = self.cx.env;
        let read = |node| secret::resolve(&text(node)?, env).and_then(|secret| form.key(secret));
        self.take(key, "", read).unwrap_or_else(|| Secret::new([]))
    }

    /// A secret by reference, or nothing.
    pub(super) fn optional_secret(&mut self, key: &'static str) -> Option<Secret> {
        let env = self.cx.env;
        self.take(key, "", |node| secret::resolve(&text(node)?, env))
    }
}

/// Text as it stands.
pub(super) fn text(node: Node) -> Result<String, Complaint> {
    match node.value {
        Value::Text(text) => Ok(text),
        other => Err(not("text", &other).hint("put it into quotes")),
    }
}

/// The value of one of `words`.
pub(super) fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, Complaint> {
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let hint = did_you_mean(text, words.iter().map(|(word, _)| *word));
        Complaint::new(format!("is \"{text}\""))
            .hint(hint.unwrap_or_else(|| format!("it is one of {}", known.join(", "))))
    })
}

fn checked(node: Node, check: fn(&str) -> Result<(), Complaint>) -> Result<String, Complaint> {
    let text = text(node)?;
    check(&text).map(|()| text)
}

fn flag(node: Node) -> Result<bool, Complaint> {
    match node.value {
        Value::Flag(flag) => Ok(flag),
        other => Err(not("true or false", &other)),
    }
}

fn duration_limits(range: &RangeInclusive<Duration>) -> String {
    let show = units::show_duration;
    format!("{} to {}", show(*range.start()), show(*range.end()))
}

fn duration_within(node: Node, range: &RangeInclusive<Duration>) -> Result<Duration, Complaint> {
    let duration = match node.value {
        Value::Text(text) => units::duration(&text)?,
        Value::Integer(number) => {
            return Err(
                Complaint::new("is a number without a unit").hint(format!("\"{number}s\"? units are ms, s, m, h, d"))
            );
        }
        other => return Err(not("a duration such as \"5s\"", &other)),
    };
    if range.contains(&duration) {
        return Ok(duration);
    }
    let (is, limits) = (units::show_duration(duration), duration_limits(range));
    Err(Complaint::new(format!("is {is}, where {limits} is allowed")))
}
