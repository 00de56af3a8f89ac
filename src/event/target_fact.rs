//! What is said of a target in `control`, to all instances that deliver to it.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// A fact about a target: body of a [`super::Control`] of kind TARGET, as JSON.
///
/// ```json
/// {"what":"pause","id":"019a...","paused":true,"by":"ann@ops","reason":"ERP closes its books","at":1777000000000000}
/// {"what":"window","trouble":"rate_limited","until":1777000030000000}
/// {"what":"heard","id":"019a..."}
/// ```
///
/// Times are microseconds since 1970, UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum TargetFact {
    /// An operator's word.
    Pause(Pause),
    /// The target as a whole is left alone, or is no longer.
    Window {
        /// Why it is in trouble; none when it works.
        trouble: Option<String>,
        /// Until when nothing is tried; then one try at a time, until one works. Where it works, the end of the window
        /// that is over: what ends later was opened by someone who knows better.
        until: Timestamp,
    },
    /// An instance goes by the operator's last word, and nothing of before it is under way.
    Heard {
        /// Which word.
        id: String,
    },
}

/// An operator's word on a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Id of the operation.
    pub id: String,
    /// Whether the target is paused from then on.
    pub paused: bool,
    /// Who said so.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub at: Timestamp,
}

impl TargetFact {
    /// Name of the fact in `control`. `instance` is who says it, where each says its own.
    #[must_use]
    pub fn name(&self, target: &str, instance: &str) -> String {
        match self {
            Self::Pause(_) => format!("{target}/pause"),
            Self::Window { .. } => format!("{target}/window/{instance}"),
            Self::Heard { .. } => format!("{target}/heard/{instance}"),
        }
    }

    /// The target that a fact with this name is about.
    #[must_use]
    pub fn target(name: &str) -> &str {
        name.split('/').next().unwrap_or(name)
    }
}

/// What instances said of a target's windows, put together. The order in which it is heard does not matter: of the windows
/// the one that ends last counts, and it is over when that one, or one that ends later, was said to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    last: Option<OpenWindow>,
    over: Option<Timestamp>,
}

/// A window, as the instance that opened it said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenWindow {
    /// Until when nothing is tried.
    pub until: Timestamp,
    /// Who says so, and asks first whether the target works again.
    pub instance: String,
    /// Why.
    pub trouble: String,
}

impl Windows {
    /// Takes in what `instance` said with a [`TargetFact::Window`].
    pub fn hear(&mut self, instance: &str, trouble: Option<String>, until: Timestamp) {
        match trouble {
            Some(trouble) => {
                let said = OpenWindow { until, instance: instance.to_owned(), trouble };
                self.last = self.last.take().max(Some(said));
            }
            None => self.over = self.over.max(Some(until)),
        }
    }

    /// Takes in what was put together elsewhere.
    pub fn merge(&mut self, other: &Self) {
        self.last = self.last.take().max(other.last.clone());
        self.over = self.over.max(other.over);
    }

    /// The window that is open, or was probed when last heard of.
    #[must_use]
    pub fn open(&self) -> Option<&OpenWindow> {
        self.last.as_ref().filter(|last| Some(last.until) > self.over)
    }

    /// Windows that end then, or before, are over.
    #[must_use]
    pub const fn over(&self) -> Option<Timestamp> {
        self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_the_same_in_whatever_order_they_are_heard() {
        let at = Timestamp::from_micros;
        let said = [
            ("a", Some("failing"), 10),
            ("b", Some("rate_limited"), 30),
            // Its probe was asked before b was told to wait.
            ("a", None, 10),
            ("c", Some("credentials"), 30),
            ("c", Some("unreachable"), 20),
        ];
        for turn in 0..said.len() {
            let mut windows = Windows::default();
            let mut turned = said;
            turned.rotate_left(turn);
            for (instance, trouble, until) in turned.iter().chain(turned.iter().rev()) {
                windows.hear(instance, trouble.map(str::to_owned), at(*until));
            }
            let open = windows.open().map(|open| (open.instance.as_str(), open.trouble.as_str(), open.until));
            assert_eq!(open, Some(("c", "credentials", at(30))));
            windows.hear("a", None, at(29));
            assert!(windows.open().is_some());
            windows.hear("a", None, at(30));
            assert_eq!((windows.open(), windows.over()), (None, Some(at(30))));
            let mut other = Windows::default();
            other.hear("d", Some("failing".to_owned()), at(40));
            other.merge(&windows);
            windows.merge(&other);
            assert_eq!((windows.open().map(|open| open.until), &windows), (Some(at(40)), &other));
        }
    }

    #[test]
    fn the_form_is_what_is_documented() {
        let at = Timestamp::from_micros(1_777_000_000_000_000);
        let pause = Pause { id: "1".to_owned(), paused: true, by: "ann@ops".to_owned(), reason: None, at };
        for (fact, name, json) in [
            (
                TargetFact::Pause(pause),
                "erp/pause",
                r#"{"what":"pause","id":"1","paused":true,"by":"ann@ops","reason":null,"at":1777000000000000}"#,
            ),
            (
                TargetFact::Window { trouble: Some("failing".to_owned()), until: at },
                "erp/window/a-1",
                r#"{"what":"window","trouble":"failing","until":1777000000000000}"#,
            ),
            (TargetFact::Heard { id: "1".to_owned() }, "erp/heard/a-1", r#"{"what":"heard","id":"1"}"#),
        ] {
            assert_eq!((fact.name("erp", "a-1").as_str(), TargetFact::target(name)), (name, "erp"));
            assert_eq!(serde_json::to_string(&fact).unwrap(), json);
            assert_eq!(serde_json::from_str::<TargetFact>(json).unwrap(), fact);
        }
    }
}
