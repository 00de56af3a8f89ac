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
        /// Until when nothing is tried; then one try at a time, until one works.
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
            Self::Window { .. } => format!("{target}/window"),
            Self::Heard { .. } => format!("{target}/heard/{instance}"),
        }
    }

    /// The target that a fact with this name is about.
    #[must_use]
    pub fn target(name: &str) -> &str {
        name.split('/').next().unwrap_or(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
                "erp/window",
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
