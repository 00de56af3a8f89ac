//! What is wrong with a configuration: collected, sorted, shown one per line.

use std::fmt;
use std::sync::Arc;

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file as it was named, or the environment variable that set the value.
    pub origin: String,
    /// Line in that file, counted from 1; none for a variable or a whole file.
    pub line: Option<usize>,
    /// Key path such as `targets.erp.start`; empty when the file as a whole is meant.
    pub key: String,
    /// What is wrong. Never quotes a value that may be a secret.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Fault {
    /// A fault of a whole file or variable: it cannot be read.
    pub(super) fn of_file(origin: &str, line: Option<usize>, what: String) -> Self {
        Self { origin: origin.to_owned(), line, key: String::new(), what, hint: None }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.what)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// Every fault of one configuration, in the order of the file, then of the variables.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct Faults(pub(super) Vec<Fault>);

impl Faults {
    /// The faults in order; never empty.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }
}

fn lines(faults: &[Fault]) -> String {
    let lines: Vec<String> = faults.iter().map(Fault::to_string).collect();
    lines.join("\n")
}

/// Where a value came from. The order of the variants is the order in which faults are shown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// A line of the user's file.
    Line { file: Arc<str>, line: usize },
    /// An environment override.
    Variable(Arc<str>),
    /// A line of an embedded file: the user did not write the value.
    BuiltIn { file: &'static str, line: usize },
}

impl Place {
    /// The first line of the user's file.
    pub(super) fn start_of(file: &str) -> Self {
        Self::Line { file: Arc::from(file), line: 1 }
    }

    /// The same file at another line.
    pub(super) fn at_line(&self, line: usize) -> Self {
        match self {
            Self::Line { file, .. } => Self::Line { file: Arc::clone(file), line },
            Self::Variable(name) => Self::Variable(Arc::clone(name)),
            Self::BuiltIn { file, .. } => Self::BuiltIn { file, line },
        }
    }

    /// The fault `complaint` makes of the key `key` here.
    pub(super) fn fault(&self, key: &str, complaint: Complaint) -> Fault {
        let (origin, line) = match self {
            Self::Line { file, line } => (file.to_string(), Some(*line)),
            Self::Variable(name) => (name.to_string(), None),
            Self::BuiltIn { file, line } => (format!("built-in {file}"), Some(*line)),
        };
        Fault { origin, line, key: key.to_owned(), what: complaint.what, hint: complaint.hint }
    }
}

/// What is wrong with a value, before it is known where the value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) what: String,
    pub(super) hint: Option<String>,
}

impl Complaint {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None }
    }

    /// What is wrong and what to do, on one line.
    pub(super) fn text(self) -> String {
        self.hint.map_or_else(|| self.what.clone(), |hint| format!("{}: {hint}", self.what))
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// This hint where there is none yet.
    pub(super) fn or_hint(mut self, hint: &str) -> Self {
        self.hint.get_or_insert_with(|| hint.to_owned());
        self
    }

    pub(super) fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

/// `did you mean ...?` for the nearest of `known`, when it is near enough to be a slip of the pen.
pub(crate) fn did_you_mean<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    // A third of the word, so that short keys do not match one another, and never more than three.
    let allowed = (written.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|candidate| (distance(written, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| format!("did you mean `{candidate}`?"))
}

/// Levenshtein distance: insertions, deletions and replacements, one row of the table at a time.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut left = i + 1;
        let mut diagonal = i;
        for (above, to) in row.iter_mut().skip(1).zip(&b) {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = *above;
            left = replaced.min(left + 1).min(*above + 1);
            *above = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{did_you_mean, distance};

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("listen", "listen", 0),
            ("lisen", "listen", 1),
            ("flaw", "lawn", 2),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn only_near_words_are_suggested() {
        let known = ["listen", "linger", "max_in_flight"];
        assert_eq!(did_you_mean("lisen", known).as_deref(), Some("did you mean `listen`?"));
        assert_eq!(did_you_mean("max_inflight", known).as_deref(), Some("did you mean `max_in_flight`?"));
        assert_eq!(did_you_mean("spool", known), None);
    }
}
