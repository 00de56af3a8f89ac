//! Rules that say what an answer means.

use crate::config::checks;
use crate::config::fault::Complaint;
use crate::config::reader::{Reader, not};
use crate::config::tree::{Node, Value};

/// A rule: what answers it is for, and what they mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerRule {
    /// Statuses that it is for; empty for all.
    pub status: Vec<Statuses>,
    /// Expression over `answer` that has to be true.
    pub when: Option<String>,
    /// What they mean.
    pub is: Meaning,
    /// Stable name of it, in place of `http_<status>`.
    pub reason: Option<String>,
    /// Expression that gives the wait until the next try: seconds, or a date.
    pub retry_after: Option<String>,
    /// Whether the target as a whole is meant, where it is a transient fault.
    pub whole_target: bool,
}

/// Statuses from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statuses {
    /// First.
    pub first: u16,
    /// Last.
    pub last: u16,
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Done.
    Success,
    /// The target says that it has the document: to be proved.
    Duplicate,
    /// Of a look-up: there is none.
    Absent,
    /// Transient: try again.
    Retry,
    /// The target said to slow down.
    RateLimited,
    /// It refused our credentials.
    Credentials,
    /// It refused the record for good.
    Rejected,
    /// It may or may not have acted.
    Unknown,
}

const MEANINGS: [(&str, Meaning); 8] = [
    ("success", Meaning::Success),
    ("duplicate", Meaning::Duplicate),
    ("absent", Meaning::Absent),
    ("retry", Meaning::Retry),
    ("rate_limited", Meaning::RateLimited),
    ("credentials", Meaning::Credentials),
    ("rejected", Meaning::Rejected),
    ("unknown", Meaning::Unknown),
];

impl AnswerRule {
    pub(super) fn read_all(root: &mut Reader<'_>) -> Vec<Self> {
        root.rows("answers").into_iter().map(Self::read).collect()
    }

    fn read(mut r: Reader<'_>) -> Self {
        let rule = Self {
            status: r.take("status", "", statuses).unwrap_or_default(),
            when: r.optional_text("when", checks::some),
            is: r.choice("is", &MEANINGS).unwrap_or(Meaning::Rejected),
            reason: r.optional_text("reason", checks::field),
            retry_after: r.optional_text("retry_after", checks::some),
            whole_target: r.optional_flag("whole_target"),
        };
        if rule.status.is_empty() && rule.when.is_none() {
            r.missing("status", "a rule without `status` and `when` would be for every answer");
        }
        r.finish();
        rule
    }
}

pub(super) fn statuses(node: Node) -> Result<Vec<Statuses>, Complaint> {
    let Value::List(items) = node.value else { return Err(not("a list of statuses", &node.value)) };
    items.into_iter().map(status).collect()
}

fn status(node: Node) -> Result<Statuses, Complaint> {
    let bad = || Complaint::new("is not a status").hint("a number from 100 to 599, or \"5xx\"");
    let (first, last) = match node.value {
        Value::Integer(number) => (number, number),
        Value::Text(text) => {
            let class = text.strip_suffix("xx").and_then(|class| class.parse::<i64>().ok()).ok_or_else(bad)?;
            (class * 100, class * 100 + 99)
        }
        other => return Err(not("a status", &other)),
    };
    match (u16::try_from(first), u16::try_from(last)) {
        (Ok(first), Ok(last)) if first >= 100 && last < 600 => Ok(Statuses { first, last }),
        _ => Err(bad()),
    }
}

impl Statuses {
    /// Whether a status is one of them.
    #[must_use]
    pub const fn contains(self, status: u16) -> bool {
        self.first <= status && status <= self.last
    }
}
