//! JSON that is built, not pasted: a tree whose texts are templates. Whatever a field holds, it stays one value.

use serde_json::{Map, Value as Json};

use super::{Compiled, Scope, Subject, TemplateError, Templates};
use crate::config::description;

/// What a table begins with that repeats its `$do` for every item of a list.
const FOR: &str = "$for";
const DO: &str = "$do";
const IF: &str = "$if";
const THEN: &str = "$then";
const ELSE: &str = "$else";

/// A compiled text.
#[derive(Clone, Debug)]
pub(in crate::targets) enum Leaf {
    /// Without any expression.
    Literal(String),
    /// The whole record.
    Record,
    /// A member of the record; the expression says what is wrong where there is none of that name.
    Member(String, Compiled),
    /// One expression and nothing else: it keeps its type.
    Value(Compiled),
    /// A text with expressions in it.
    Text(Compiled),
}

/// A compiled tree.
#[derive(Clone, Debug)]
pub(in crate::targets) enum Tree {
    /// A value as it stands.
    Literal(Json),
    /// A text.
    Leaf(Leaf),
    /// A list.
    List(Vec<Tree>),
    /// A table, with templates as keys.
    Table(Vec<(Leaf, Tree)>),
    /// One item of a list after the other.
    For {
        /// What each is called.
        name: String,
        /// The list.
        list: Compiled,
        /// What becomes of each.
        each: Box<Tree>,
    },
    /// The one or the other.
    If {
        /// The condition.
        condition: Compiled,
        /// Where it holds.
        then: Box<Tree>,
        /// Where it does not; null without.
        otherwise: Option<Box<Tree>>,
    },
}

impl Leaf {
    /// Compiles a text.
    pub(in crate::targets) fn compile(
        templates: &mut Templates,
        place: &str,
        source: &str,
    ) -> Result<Self, TemplateError> {
        if !["{{", "{%", "{#"].iter().any(|mark| source.contains(mark)) {
            return Ok(Self::Literal(source.to_owned()));
        }
        let inner = source.trim().strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
        match inner.filter(|inner| !["{{", "}}", "{%", "{#"].iter().any(|mark| inner.contains(mark))) {
            Some(inner) if inner.trim() == "record" => Ok(Self::Record),
            Some(inner) => {
                let inner = inner.trim().trim_matches('-');
                let expression = templates.expression(place, inner)?;
                // What most expressions are, and what need not go through the engine.
                let member = inner.trim().strip_prefix("record.").filter(|name| is_word(name));
                Ok(match member {
                    Some(name) => Self::Member(name.to_owned(), expression),
                    None => Self::Value(expression),
                })
            }
            None => templates.text(place, source).map(Self::Text),
        }
    }

    fn build(&self, templates: &Templates, scope: &Scope, record: &dyn Subject) -> Result<Json, TemplateError> {
        match self {
            Self::Literal(text) => Ok(Json::from(text.as_str())),
            Self::Record => Ok(record.whole()),
            Self::Member(name, expression) => match record.member(name) {
                Some(value) if !value.is_array() && !value.is_object() => Ok(value),
                // Of tables the engine has an order of its own.
                _ => templates.json(expression, scope),
            },
            Self::Value(expression) => templates.json(expression, scope),
            Self::Text(template) => templates.render(template, scope).map(Json::from),
        }
    }

    /// The text; none where it is null.
    pub(in crate::targets) fn text(
        &self,
        templates: &Templates,
        scope: &Scope,
        record: &dyn Subject,
    ) -> Result<Option<String>, TemplateError> {
        Ok(match self.build(templates, scope, record)? {
            Json::Null => None,
            Json::String(text) => Some(text),
            other => Some(other.to_string()),
        })
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

impl Tree {
    /// Whether it is the whole record, as it stands.
    pub(in crate::targets) const fn is_record(&self) -> bool {
        matches!(self, Self::Leaf(Leaf::Record))
    }

    /// Compiles a tree.
    pub(in crate::targets) fn compile(
        templates: &mut Templates,
        place: &str,
        source: &description::Tree,
    ) -> Result<Self, TemplateError> {
        use description::Tree as Source;
        Ok(match source {
            Source::Integer(number) => Self::Literal(Json::from(*number)),
            Source::Flag(flag) => Self::Literal(Json::from(*flag)),
            Source::Text(text) => Self::Leaf(Leaf::compile(templates, place, text)?),
            Source::List(items) => {
                let items = items.iter().enumerate();
                let items = items.map(|(n, item)| Self::compile(templates, &format!("{place}[{n}]"), item));
                Self::List(items.collect::<Result<_, _>>()?)
            }
            Source::Table(members) => match members.first().map(|(key, _)| key.as_str()) {
                Some(DO | FOR) => Self::repeated(templates, place, members)?,
                Some(ELSE | IF | THEN) => Self::conditional(templates, place, members)?,
                _ => {
                    let mut table = Vec::new();
                    for (key, member) in members {
                        let place = format!("{place}.{key}");
                        table.push((Leaf::compile(templates, &place, key)?, Self::compile(templates, &place, member)?));
                    }
                    Self::Table(table)
                }
            },
        })
    }

    fn repeated(
        templates: &mut Templates,
        place: &str,
        members: &[(String, description::Tree)],
    ) -> Result<Self, TemplateError> {
        let bad = || TemplateError {
            place: place.to_owned(),
            what: "a repeated part is { \"$for\" = \"NAME in EXPRESSION\", \"$do\" = ... }".to_owned(),
        };
        // The keys of a table come in alphabetical order.
        let [(do_key, each), (for_key, description::Tree::Text(text))] = members else { return Err(bad()) };
        if do_key != DO || for_key != FOR {
            return Err(bad());
        }
        let (name, list) = text.split_once(" in ").ok_or_else(bad)?;
        let (name, list) = (name.trim(), list.trim());
        // The record is taken from where it is, not looked for by its name.
        if name == "record" {
            let what = "an item cannot be called `record`, which is the whole record".to_owned();
            return Err(TemplateError { place: place.to_owned(), what });
        }
        Ok(Self::For {
            name: name.to_owned(),
            list: templates.expression(place, list)?,
            each: Box::new(Self::compile(templates, place, each)?),
        })
    }

    fn conditional(
        templates: &mut Templates,
        place: &str,
        members: &[(String, description::Tree)],
    ) -> Result<Self, TemplateError> {
        let of = |wanted: &str| members.iter().find(|(key, _)| key == wanted).map(|(_, tree)| tree);
        let known = members.iter().all(|(key, _)| [IF, THEN, ELSE].contains(&key.as_str()));
        let (Some(description::Tree::Text(condition)), Some(then), true) = (of(IF), of(THEN), known) else {
            let what =
                "a conditional part is { \"$if\" = \"EXPRESSION\", \"$then\" = ..., \"$else\" = ... }".to_owned();
            return Err(TemplateError { place: place.to_owned(), what });
        };
        Ok(Self::If {
            condition: templates.expression(place, condition)?,
            then: Box::new(Self::compile(templates, place, then)?),
            otherwise: of(ELSE).map(|tree| Self::compile(templates, place, tree).map(Box::new)).transpose()?,
        })
    }

    /// Builds the JSON. Members that are null are left out of tables, and kept in lists, whose places count.
    pub(in crate::targets) fn build(
        &self,
        templates: &Templates,
        scope: &Scope,
        record: &dyn Subject,
    ) -> Result<Json, TemplateError> {
        Ok(match self {
            Self::Literal(value) => value.clone(),
            Self::Leaf(leaf) => leaf.build(templates, scope, record)?,
            Self::List(items) => {
                let mut list = Vec::with_capacity(items.len());
                for item in items {
                    match (item, item.build(templates, scope, record)?) {
                        // A repeated part inside a list becomes its items.
                        (Self::For { .. }, Json::Array(items)) => list.extend(items),
                        // A condition without its other branch is no item.
                        (Self::If { otherwise: None, .. }, Json::Null) => {}
                        (_, value) => list.push(value),
                    }
                }
                Json::Array(list)
            }
            Self::Table(members) => {
                let mut table = Map::new();
                for (key, member) in members {
                    let value = member.build(templates, scope, record)?;
                    if let Some(key) = key.text(templates, scope, record)?
                        && !value.is_null()
                    {
                        table.insert(key, value);
                    }
                }
                Json::Object(table)
            }
            Self::For { name, list, each } => {
                let items = templates.value(list, scope)?;
                let items = items.try_iter().map_err(|_| list.error("is no list".to_owned()))?;
                let mut built = Vec::new();
                for (n, item) in items.enumerate() {
                    let scope = scope.with(name, item).with("number", minijinja::Value::from(n + 1));
                    built.push(each.build(templates, &scope, record)?);
                }
                Json::Array(built)
            }
            Self::If { condition, then, otherwise } => match (templates.holds(condition, scope)?, otherwise) {
                (true, _) => then.build(templates, scope, record)?,
                (false, Some(otherwise)) => otherwise.build(templates, scope, record)?,
                (false, None) => Json::Null,
            },
        })
    }
}
