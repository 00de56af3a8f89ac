//! Why something cannot go into a table, and why a table or the role stops.

use crate::avro::AvroError;
use crate::kafka::control::ControlError;
use crate::kafka::identity::IdentityError;
use crate::kafka::layout::LayoutError;
use crate::lifecycle::Panicked;

/// Why a schema or a record does not fit a table. What a dead letter says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    /// The schema has something that a table cannot have.
    #[error("column {column}: {what}")]
    Schema { column: String, what: String },
    /// The table has the column with another type.
    #[error("column {column}: the schema says {schema}, the table has {table}")]
    Type { column: String, schema: String, table: String },
    /// The table asks for a column that the writer's schema lacks.
    #[error("column {column} is required by the table, and the record's schema lacks it")]
    Lacks { column: String },
    /// A null where the table has none.
    #[error("column {column} is null, and the table requires it")]
    Null { column: String },
    /// The bytes end before the value does.
    #[error("the record ends too early")]
    Short,
    /// The value ends before the bytes do.
    #[error("{0} bytes follow the record's end")]
    Long(usize),
    /// No number of the type.
    #[error("a number is out of its type's range")]
    Number,
    /// Not UTF-8.
    #[error("a text is not UTF-8")]
    Text,
    /// A branch or symbol that the schema does not have.
    #[error("a branch or symbol is not in the schema")]
    Branch,
    /// More digits than the column holds.
    #[error("column {column}: a decimal has more than {precision} digits")]
    Decimal { column: String, precision: u32 },
    /// Outside the years that every reader of tables knows.
    #[error("column {column}: a time is outside the years 1 to 9999")]
    Time { column: String },
    /// Not in the wire format, or its schema cannot be had.
    #[error("{0}")]
    Undecodable(String),
}

/// Why the lake ended other than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Topics or schemas are missing or wrong.
    #[error(transparent)]
    Ground(#[from] LayoutError),
    /// A schema of ours cannot be a table.
    #[error("table {table}: {reason}")]
    Schema {
        /// Name of the table.
        table: String,
        /// What cannot be.
        reason: String,
    },
    /// A schema of ours is unusable.
    #[error(transparent)]
    Avro(#[from] AvroError),
    /// Catalog or store are configured in a way that cannot work.
    #[error("lake: {0}")]
    Config(String),
    /// Catalog or store failed.
    #[error("lake: {what}: {}", told(cause))]
    Catalog {
        /// What was asked.
        what: String,
        /// The library's error.
        cause: Box<iceberg::Error>,
    },
    /// A table is not as we left it.
    #[error("table {table} {why}")]
    Stopped {
        /// Name of the table.
        table: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// `control` cannot be read or written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// `control` cannot be read or written.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A table's thread panicked: a fault of this program.
    #[error(transparent)]
    Panicked(#[from] Panicked),
}

impl Error {
    pub(super) fn catalog(what: impl Into<String>) -> impl FnOnce(iceberg::Error) -> Self {
        let what = what.into();
        move |cause| Self::Catalog { what, cause: Box::new(cause) }
    }
}

/// An error of the library with its cause, on one line: what it shows itself is several.
pub(super) fn told(error: &iceberg::Error) -> String {
    let mut text = error.message().to_owned();
    // Of what the library knows besides, the status alone: an answer's text may hold a token.
    let shown = error.to_string();
    let status = ["status: ", "code: "].iter().find_map(|name| shown.split_once(name)).map(|(_, rest)| rest);
    if let Some(status) = status.and_then(|rest| rest.get(..3)).filter(|code| code.bytes().all(|b| b.is_ascii_digit()))
    {
        text = format!("{text} {status}");
    }
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let more = inner.to_string();
        let more = more.split('\n').next().unwrap_or_default();
        if !text.contains(more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text.chars().take(1000).collect()
}
