//! How a type of records is delivered.

use super::answer::AnswerRule;
use super::request::{Request, Tree, members};
use crate::config::checks;
use crate::config::fault::Complaint;
use crate::config::reader::{Reader, not};
use crate::config::tree::{Node, Value};

/// How records of one type are delivered.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordPlan {
    /// Expression over the record that has to be true, and what it means if it is not.
    pub takes: Option<String>,
    /// Template of our id, in place of the target's.
    pub id: Option<String>,
    /// Values that several templates use, by name.
    pub values: Vec<(String, Tree)>,
    /// How to find the document of a record.
    pub look_up: Option<LookUp>,
    /// What is sent, in order; never empty.
    pub steps: Vec<Step>,
}

/// A request that finds the document of a record by our id.
#[derive(Clone, Debug, PartialEq)]
pub struct LookUp {
    /// The request.
    pub request: Request,
    /// Where in the answer the documents stand as a list; none where the answer is the document.
    pub each: Option<String>,
    /// Whether the answer is text, which `ours` reads, and not JSON.
    pub text: bool,
    /// Expression over `item` that proves that a document is ours.
    pub ours: String,
    /// Values of the document that later steps use: name and JSON pointer.
    pub keep: Vec<(String, String)>,
    /// What answers mean, before the target's own rules.
    pub answers: Vec<AnswerRule>,
}

/// One request of several.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Name, for errors.
    pub name: String,
    /// The request.
    pub request: Request,
    /// Why it may be repeated.
    pub repeat: Repeat,
    /// Expression: where it is true, the step is left out.
    pub unless: Option<String>,
    /// Values of the answer that later steps use: name and JSON pointer.
    pub keep: Vec<(String, String)>,
    /// What it means that the answer has none of a value to keep.
    pub missing: Missing,
    /// What answers mean, before the target's own rules.
    pub answers: Vec<AnswerRule>,
}

/// Why a step may be repeated after a try whose outcome is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It only reads.
    Read,
    /// It writes the same document once more.
    Upsert,
    /// It carries a key that the target remembers.
    Key,
    /// The document is looked for first, and the step left out where it is there.
    LookUp,
    /// The target refuses it; the document is looked for then.
    Refused,
    /// `unless` says by the document's state whether it was done.
    State,
}

/// What it means that an answer lacks a value to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The record is refused: what it names is not there.
    Rejected,
    /// The step may have been done, and nobody knows.
    Unknown,
    /// The value stays undefined.
    GoOn,
}

const REPEATS: [(&str, Repeat); 6] = [
    ("read", Repeat::Read),
    ("upsert", Repeat::Upsert),
    ("key", Repeat::Key),
    ("lookup", Repeat::LookUp),
    ("refused", Repeat::Refused),
    ("state", Repeat::State),
];

const MISSING: [(&str, Missing); 3] =
    [("rejected", Missing::Rejected), ("unknown", Missing::Unknown), ("go_on", Missing::GoOn)];

impl RecordPlan {
    pub(super) fn read(mut r: Reader<'_>) -> Self {
        let plan = Self {
            takes: r.optional_text("takes", checks::some),
            id: r.optional_text("id", checks::some),
            values: r.take("values", "", members).unwrap_or_default(),
            look_up: r.optional_section("look_up").map(LookUp::read),
            steps: r.rows("steps").into_iter().map(Step::read).collect(),
        };
        r.finish();
        plan
    }
}

impl LookUp {
    fn read(mut r: Reader<'_>) -> Self {
        let look_up = Self {
            request: Request::read(&mut r),
            each: r.optional_text("each", checks::pointer),
            text: r.optional_flag("text"),
            ours: r.text("ours", checks::some),
            keep: r.take("keep", "", pointers).unwrap_or_default(),
            answers: AnswerRule::read_all(&mut r),
        };
        r.finish();
        look_up
    }
}

impl Step {
    fn read(mut r: Reader<'_>) -> Self {
        let repeat = r.choice("repeat", &REPEATS).unwrap_or(Repeat::LookUp);
        let missing = r.has("missing").then(|| r.choice("missing", &MISSING)).flatten();
        let step = Self {
            name: r.text("name", checks::field),
            request: Request::read(&mut r),
            repeat,
            unless: r.optional_text("unless", checks::some),
            keep: r.take("keep", "", pointers).unwrap_or_default(),
            missing: missing.unwrap_or(if repeat == Repeat::Read { Missing::Rejected } else { Missing::Unknown }),
            answers: AnswerRule::read_all(&mut r),
        };
        r.finish();
        step
    }

    /// What its way to be repeated lacks.
    pub(super) fn check(&self, has_look_up: bool) -> Result<(), &'static str> {
        match self.repeat {
            Repeat::LookUp | Repeat::Refused if !has_look_up => Err("its `repeat` needs a look_up"),
            Repeat::State if self.unless.is_none() => Err("repeat = \"state\" needs `unless`, which tells the state"),
            _ => Ok(()),
        }
    }
}

fn pointers(node: Node) -> Result<Vec<(String, String)>, Complaint> {
    let Value::Table(table) = node.value else { return Err(not("a table of JSON pointers", &node.value)) };
    let read = |(name, node): (String, Node)| match node.value {
        Value::Text(pointer) => {
            checks::field(&name)?;
            checks::pointer(&pointer)?;
            Ok((name, pointer))
        }
        other => Err(not("a JSON pointer", &other)),
    };
    table.into_iter().map(read).collect()
}
