//! Templates: texts with `{{ expressions }}`, compiled once, strict about what is not there.
//!
//! Two dialects. Requests are rendered strictly: what is undefined or null fails, since a document with a hole is worse
//! than none. Answers are read chainably: an answer without `error` simply has no `error.code`.

mod filters;
mod tree;
mod values;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use minijinja::value::{Object, Value};
use minijinja::{Environment, Error, ErrorKind, Output, State, UndefinedBehavior};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value as Json;

use crate::event::Record;
pub(super) use tree::{Leaf, Tree};
pub(super) use values::{Subject, from_engine, to_engine};

/// Everything but RFC 3986's unreserved characters: what is put into a path stays inside its segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// What the value of an expression is called inside its template.
const VALUE: &str = "value__";
/// What the notes of a rendering are called inside.
const NOTES: &str = "notes__";
/// What templates of paths are called, by which their values are told.
const PATH: &str = "path:";

/// What is wrong with a template or with what went into it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct TemplateError {
    /// Where the template stands in the description, e.g. `records.cases.steps[0].json.subject`.
    pub place: String,
    /// What is wrong.
    pub what: String,
}

/// How undefined values are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// They fail.
    Strict,
    /// They are false, and have undefined members.
    Chainable,
}

/// The templates of one description.
pub(super) struct Templates {
    env: Environment<'static>,
    count: usize,
}

/// A compiled template or expression, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Compiled {
    name: String,
    place: String,
}

/// The variables that a rendering knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope(Vec<(&'static str, Slot)>, Vec<(String, Value)>);

/// A variable's value.
#[derive(Clone, Debug)]
enum Slot {
    /// It is there.
    Made(Value),
    /// It is made of a record's attributes when a template asks for it first.
    Unread(Arc<Unread>),
}

#[derive(Debug)]
struct Unread {
    record: Arc<Record>,
    made: OnceLock<Value>,
}

impl Slot {
    fn value(&self) -> Value {
        match self {
            Self::Made(value) => value.clone(),
            Self::Unread(unread) => {
                let read = || to_engine(&serde_json::from_str(unread.record.attributes()).unwrap_or_default());
                unread.made.get_or_init(read).clone()
            }
        }
    }
}

/// What a rendering did to a field and has to be told, e.g. that it was cut.
#[derive(Debug, Default)]
struct Notes(Mutex<Vec<String>>);

impl Object for Notes {}

impl Scope {
    /// A scope that takes notes.
    pub(super) fn new() -> Self {
        Self(vec![(NOTES, Slot::Made(Value::from_object(Notes::default())))], Vec::new())
    }

    /// Sets a variable.
    pub(super) fn set(&mut self, name: &'static str, value: &Json) {
        self.set_value(name, to_engine(value));
    }

    /// Sets a variable to a value of the engine's.
    pub(super) fn set_value(&mut self, name: &'static str, value: Value) {
        self.put(name, Slot::Made(value));
    }

    /// Sets a variable to a table of which templates use few members.
    pub(super) fn set_members(&mut self, name: &'static str, subject: Arc<dyn Subject>) {
        self.put(name, Slot::Made(Value::from_object(values::Members(subject))));
    }

    /// Sets a variable to what a record's attributes say, null where they are no JSON. They are read where a template
    /// uses it.
    pub(super) fn set_attributes(&mut self, name: &'static str, record: Arc<Record>) {
        self.put(name, Slot::Unread(Arc::new(Unread { record, made: OnceLock::new() })));
    }

    fn put(&mut self, name: &'static str, slot: Slot) {
        self.0.retain(|(known, _)| *known != name);
        self.0.push((name, slot));
    }

    /// The same scope with one more variable.
    fn with(&self, name: &str, value: Value) -> Self {
        let mut scope = self.clone();
        scope.1.push((name.to_owned(), value));
        scope
    }

    /// What was noted, each once, in order.
    pub(super) fn notes(&self) -> Vec<String> {
        let notes = self.0.iter().find(|(name, _)| *name == NOTES).map(|(_, slot)| slot.value());
        let notes = notes.as_ref().and_then(Value::downcast_object_ref::<Notes>);
        notes.map(|notes| notes.0.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap_or_default()
    }
}

impl Object for Scope {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let key = key.as_str()?;
        let own = self.1.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.clone());
        own.or_else(|| self.0.iter().find(|(name, _)| *name == key).map(|(_, slot)| slot.value()))
    }
}

impl Templates {
    /// None yet.
    pub(super) fn new(dialect: Dialect) -> Self {
        let mut env = Environment::new();
        env.set_undefined_behavior(match dialect {
            Dialect::Strict => UndefinedBehavior::Strict,
            Dialect::Chainable => UndefinedBehavior::Chainable,
        });
        env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        env.set_formatter(format);
        filters::add(&mut env);
        Self { env, count: 0 }
    }

    /// Compiles an expression.
    pub(super) fn expression(&mut self, place: &str, source: &str) -> Result<Compiled, TemplateError> {
        // Alone first: what is no expression must not become one by what is put around it.
        let failed = |error: Error| {
            let column =
                error.range().and_then(|range| source.get(..range.start)).map(|before| before.chars().count() + 1);
            let at = column.map_or_else(String::new, |column| format!("column {column}: "));
            TemplateError { place: place.to_owned(), what: format!("{at}{}", told(&error)) }
        };
        self.env.compile_expression_owned(source.to_owned()).map_err(failed)?;
        self.check_filters(place, source)?;
        self.add(place, "", &format!("{{% set {VALUE} = ({source}) %}}"))
    }

    /// The names that an expression asks for, with members as far as they are named outright, sorted; functions are none.
    pub(super) fn names(&self, source: &str) -> Vec<String> {
        let Ok(expression) = self.env.compile_expression(source) else { return Vec::new() };
        let is_function = |name: &String| self.env.globals().any(|(known, _)| known == name);
        let names: BTreeSet<String> = expression.undeclared_variables(true).into_iter().collect();
        names.into_iter().filter(|name| !is_function(name)).collect()
    }

    /// Compiles a text with expressions in it.
    pub(super) fn text(&mut self, place: &str, source: &str) -> Result<Compiled, TemplateError> {
        self.check_code(place, source)?;
        self.add(place, "", source)
    }

    /// Compiles the template of a path, whose values are percent-encoded.
    pub(super) fn path(&mut self, place: &str, source: &str) -> Result<Compiled, TemplateError> {
        self.check_code(place, source)?;
        self.add(place, PATH, source)
    }

    /// Refuses filters that are none in all code of a text.
    fn check_code(&self, place: &str, source: &str) -> Result<(), TemplateError> {
        for (open, close) in [("{{", "}}"), ("{%", "%}")] {
            for code in source.split(open).skip(1) {
                self.check_filters(place, code.split(close).next().unwrap_or_default())?;
            }
        }
        Ok(())
    }

    /// Refuses filters that are none: the engine finds them out only when it comes to use them, which may be in a
    /// branch that no sample takes.
    fn check_filters(&self, place: &str, code: &str) -> Result<(), TemplateError> {
        for name in filters::named(code) {
            let applied = self.env.empty_state().apply_filter(&name, &[]);
            if applied.is_err_and(|error| error.kind() == ErrorKind::UnknownFilter) {
                return Err(TemplateError { place: place.to_owned(), what: format!("no filter is called `{name}`") });
            }
        }
        Ok(())
    }

    fn add(&mut self, place: &str, kind: &str, source: &str) -> Result<Compiled, TemplateError> {
        let name = format!("{kind}{}", self.count);
        self.count += 1;
        let added = self.env.add_template_owned(name.clone(), source.to_owned());
        added.map_err(|error| TemplateError { place: place.to_owned(), what: told(&error) })?;
        Ok(Compiled { name, place: place.to_owned() })
    }

    /// The value of an expression.
    pub(super) fn value(&self, expression: &Compiled, scope: &Scope) -> Result<Value, TemplateError> {
        let value = self.env.get_template(&expression.name).and_then(|template| {
            let captured = template.render_captured(Value::from_object(scope.clone()))?;
            Ok(captured.state().lookup(VALUE).unwrap_or(Value::UNDEFINED))
        });
        value.map_err(|error| expression.error(told(&error)))
    }

    /// The value of an expression as JSON; an undefined one fails.
    pub(super) fn json(&self, expression: &Compiled, scope: &Scope) -> Result<Json, TemplateError> {
        from_engine(&self.value(expression, scope)?).map_err(|what| expression.error(what))
    }

    /// Whether an expression is true.
    pub(super) fn holds(&self, expression: &Compiled, scope: &Scope) -> Result<bool, TemplateError> {
        let value = self.value(expression, scope)?;
        if value.is_undefined() && self.env.undefined_behavior() == UndefinedBehavior::Strict {
            return Err(expression.error("is undefined".to_owned()));
        }
        Ok(value.is_true())
    }

    /// A text.
    pub(super) fn render(&self, template: &Compiled, scope: &Scope) -> Result<String, TemplateError> {
        let rendered = self.env.get_template(&template.name);
        let rendered = rendered.and_then(|found| found.render(Value::from_object(scope.clone())));
        rendered.map_err(|error| template.error(told(&error)))
    }
}

impl Compiled {
    /// An error at its place.
    pub(super) fn error(&self, what: String) -> TemplateError {
        TemplateError { place: self.place.clone(), what }
    }
}

/// Puts a value into a text.
fn format(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    let text = match from_engine(value) {
        Ok(Json::String(text)) => text,
        Ok(Json::Null) => return Err(Error::new(ErrorKind::InvalidOperation, "is null")),
        Ok(Json::Array(_) | Json::Object(_)) => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "a list or table cannot stand in a text; `| json` makes text of it",
            ));
        }
        Ok(other) => other.to_string(),
        Err(what) => return Err(Error::new(ErrorKind::UndefinedError, what)),
    };
    let written = if state.name().starts_with(PATH) {
        out.write_str(&utf8_percent_encode(&text, SEGMENT).to_string())
    } else {
        out.write_str(&text)
    };
    written.map_err(Error::from)
}

/// An error of the engine in words, without its source's place, which is another than the reader's.
fn told(error: &Error) -> String {
    match error.detail() {
        Some(detail) => detail.to_owned(),
        None => error.kind().to_string(),
    }
}

#[cfg(test)]
mod tests;
