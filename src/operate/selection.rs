//! Which events an operator means.

use serde_json::{Value, json};

use crate::event::{Timestamp, ToJson as _};

/// Which events, of those set aside or given up. Everything given has to hold.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// These ids; any where there are none.
    pub ids: Vec<String>,
    /// Of this source.
    pub source: Option<String>,
    /// For this target.
    pub target: Option<String>,
    /// For this reason.
    pub reason: Option<String>,
    /// Since this time.
    pub from: Option<Timestamp>,
    /// Before this time.
    pub to: Option<Timestamp>,
}

/// What a selection goes by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) event_id: &'a str,
    pub(super) source: &'a str,
    /// None where it was for no target yet.
    pub(super) target: Option<&'a str>,
    pub(super) reason: &'a str,
    pub(super) at: Timestamp,
}

impl Selection {
    /// Whether it takes this one.
    pub(super) fn takes(&self, one: Candidate<'_>) -> bool {
        (self.ids.is_empty() || self.ids.iter().any(|id| id == one.event_id))
            && self.source.as_deref().is_none_or(|source| source == one.source)
            && self.target.as_deref().is_none_or(|target| Some(target) == one.target)
            && self.reason.as_deref().is_none_or(|reason| reason == one.reason)
            && self.from.is_none_or(|from| one.at >= from)
            && self.to.is_none_or(|to| one.at < to)
    }

    /// Whether it leaves anything out.
    #[must_use]
    pub const fn is_everything(&self) -> bool {
        self.ids.is_empty()
            && self.source.is_none()
            && self.target.is_none()
            && self.reason.is_none()
            && self.from.is_none()
            && self.to.is_none()
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "ids": self.ids.iter().take(20).collect::<Vec<_>>(),
            "source": self.source,
            "target": self.target,
            "reason": self.reason,
            "from": self.from.to_json(),
            "to": self.to.to_json(),
        })
    }

    /// What an entry in `audit` names: the one event, or how many.
    pub(super) fn subject(&self, count: usize) -> String {
        match self.ids.as_slice() {
            [id] => id.clone(),
            _ => format!("{count} events"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_given_has_to_hold() {
        let at = Timestamp::from_micros(10);
        let one = Candidate { event_id: "e1", source: "s", target: Some("t"), reason: "r", at };
        let all = Selection::default();
        assert!(all.is_everything() && all.takes(one));
        let text = |text: &str| Some(text.to_owned());
        let time = |micros| Some(Timestamp::from_micros(micros));
        for (selection, wanted) in [
            (Selection { ids: vec!["e0".to_owned(), "e1".to_owned()], ..Selection::default() }, true),
            (Selection { ids: vec!["e0".to_owned()], ..Selection::default() }, false),
            (Selection { source: text("s"), target: text("t"), reason: text("r"), ..Selection::default() }, true),
            (Selection { source: text("x"), ..Selection::default() }, false),
            (Selection { target: text("x"), ..Selection::default() }, false),
            (Selection { reason: text("x"), ..Selection::default() }, false),
            (Selection { from: time(10), to: time(11), ..Selection::default() }, true),
            (Selection { from: time(11), ..Selection::default() }, false),
            (Selection { to: time(10), ..Selection::default() }, false),
        ] {
            assert!(!selection.is_everything());
            assert_eq!(selection.takes(one), wanted, "{selection:?}");
        }
        let of_no_target = Candidate { target: None, ..one };
        assert!(!Selection { target: text("t"), ..Selection::default() }.takes(of_no_target));
    }
}
