//! Templates of requests, as they stand in a description.

use crate::config::checks;
use crate::config::fault::Complaint;
use crate::config::reader::{Reader, not};
use crate::config::tree::{Node, Value};

/// A request to be rendered.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Method, in upper case.
    pub method: String,
    /// Template of the path behind the target's URL; empty for the URL itself.
    pub path: String,
    /// Names and templates of the query.
    pub query: Vec<(String, Tree)>,
    /// Names and templates of headers.
    pub headers: Vec<(String, Tree)>,
    /// The body.
    pub body: Body,
}

/// Body of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// None.
    Empty,
    /// JSON.
    Json(Tree),
    /// A form, percent-encoded.
    Form(Vec<(String, Tree)>),
}

/// A tree whose texts are templates.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// A template.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// True or false.
    Flag(bool),
    /// A list.
    List(Vec<Tree>),
    /// A table; its keys are templates too.
    Table(Vec<(String, Tree)>),
}

const METHODS: [(&str, &str); 6] =
    [("GET", "GET"), ("POST", "POST"), ("PUT", "PUT"), ("PATCH", "PATCH"), ("DELETE", "DELETE"), ("HEAD", "HEAD")];

impl Request {
    pub(super) fn read(r: &mut Reader<'_>) -> Self {
        let (json, form) = (r.take("json", "", tree), r.take("form", "", members));
        if json.is_some() && form.is_some() {
            r.fault("form", Complaint::new("a request has either `json` or `form`"));
        }
        Self {
            method: r.choice("method", &METHODS).unwrap_or("GET").to_owned(),
            path: r.optional_text("path", checks::some).unwrap_or_default(),
            query: r.take("query", "", members).unwrap_or_default(),
            headers: r.take("headers", "", headers).unwrap_or_default(),
            body: match (json, form) {
                (Some(json), _) => Body::Json(json),
                (None, Some(form)) => Body::Form(form),
                (None, None) => Body::Empty,
            },
        }
    }
}

/// A tree out of TOML.
pub(super) fn tree(node: Node) -> Result<Tree, Complaint> {
    Ok(match node.value {
        Value::Text(text) | Value::Time(text) => Tree::Text(text),
        Value::Integer(number) => Tree::Integer(number),
        Value::Flag(flag) => Tree::Flag(flag),
        Value::List(items) => Tree::List(items.into_iter().map(tree).collect::<Result<_, _>>()?),
        table @ Value::Table(_) => Tree::Table(members(Node { value: table, place: node.place })?),
        Value::Odd => {
            return Err(Complaint::new("has a fraction, which would not stay exact").hint("\"{{ '0.5' | number }}\""));
        }
    })
}

pub(super) fn members(node: Node) -> Result<Vec<(String, Tree)>, Complaint> {
    match node.value {
        Value::Table(table) => table.into_iter().map(|(key, node)| Ok((key, tree(node)?))).collect(),
        other => Err(not("a table", &other)),
    }
}

fn headers(node: Node) -> Result<Vec<(String, Tree)>, Complaint> {
    let headers = members(node)?;
    headers.iter().try_for_each(|(name, _)| checks::header(name))?;
    Ok(headers)
}
