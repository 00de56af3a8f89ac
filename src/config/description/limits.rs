//! Headers in which a target says what is left of its limit.

use crate::config::checks;
use crate::config::reader::Reader;

/// Which headers tell of a limit, beside `Retry-After`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The header with the number of requests that are left; none where only refusals tell.
    pub remaining: Option<String>,
    /// The header that says when it is full again.
    pub reset: String,
    /// How that is written.
    pub reset_is: ResetForm,
}

/// How a time of being full again is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetForm {
    /// Any of the others, which can be told apart.
    Any,
    /// Seconds from the answer on.
    Seconds,
    /// Seconds since 1970.
    Epoch,
    /// A date, as HTTP or RFC 3339 write it.
    Date,
}

const FORMS: [(&str, ResetForm); 4] =
    [("any", ResetForm::Any), ("seconds", ResetForm::Seconds), ("epoch", ResetForm::Epoch), ("date", ResetForm::Date)];

impl Limits {
    pub(super) fn read(mut r: Reader<'_>) -> Self {
        let said = r.has("reset_is");
        let limits = Self {
            remaining: r.optional_text("remaining", checks::header),
            reset: r.text("reset", checks::header),
            reset_is: if said { r.choice("reset_is", &FORMS).unwrap_or(ResetForm::Any) } else { ResetForm::Any },
        };
        r.finish();
        limits
    }
}
