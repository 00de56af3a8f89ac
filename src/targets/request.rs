//! Requests: templates, and what they become.

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::Value as Json;

use super::template::{Compiled, Leaf, Scope, Subject, TemplateError, Templates, Tree};
use crate::config::description::{Body, Request};

/// A compiled request.
pub(super) struct RequestTemplate {
    method: String,
    path: Option<Compiled>,
    query: Vec<(Leaf, Tree)>,
    headers: Vec<(Leaf, Tree)>,
    body: BodyTemplate,
}

enum BodyTemplate {
    Empty,
    Json(Tree),
    Form(Vec<(Leaf, Tree)>),
}

/// What is sent, but for what says who we are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    /// Method.
    pub method: String,
    /// Path behind the target's URL, percent-encoded.
    pub path: String,
    /// Names and values of the query.
    pub query: Vec<(String, String)>,
    /// Names and values of headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl RequestTemplate {
    /// Compiles a request's templates.
    pub(super) fn compile(templates: &mut Templates, place: &str, request: &Request) -> Result<Self, TemplateError> {
        let mut members = |section: &str, source: &[(String, crate::config::description::Tree)]| {
            let each = source.iter().map(|(name, tree)| {
                let place = format!("{place}.{section}.{name}");
                Ok((Leaf::compile(templates, &place, name)?, Tree::compile(templates, &place, tree)?))
            });
            each.collect::<Result<Vec<_>, TemplateError>>()
        };
        let (query, headers) = (members("query", &request.query)?, members("headers", &request.headers)?);
        let body = match &request.body {
            Body::Empty => BodyTemplate::Empty,
            Body::Form(form) => BodyTemplate::Form(members("form", form)?),
            Body::Json(tree) => BodyTemplate::Json(Tree::compile(templates, &format!("{place}.json"), tree)?),
        };
        let path = Some(request.path.as_str()).filter(|path| !path.is_empty());
        let path = path.map(|path| templates.path(&format!("{place}.path"), path)).transpose()?;
        Ok(Self { method: request.method.clone(), path, query, headers, body })
    }

    /// Renders it. Members of the query, headers and forms that are null are left out.
    pub(super) fn render(
        &self,
        templates: &Templates,
        scope: &Scope,
        record: &dyn Subject,
    ) -> Result<Prepared, TemplateError> {
        let texts = |members: &[(Leaf, Tree)]| {
            let mut texts = Vec::new();
            for (name, tree) in members {
                match (name.text(templates, scope, record)?, tree.build(templates, scope, record)?) {
                    (None, _) | (_, Json::Null) => {}
                    (Some(name), Json::String(text)) => texts.push((name, text)),
                    (Some(name), other) => texts.push((name, other.to_string())),
                }
            }
            Ok::<_, TemplateError>(texts)
        };
        let mut headers = texts(&self.headers)?;
        let typed = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        let (kind, body) = match &self.body {
            BodyTemplate::Empty => (None, Vec::new()),
            // Without a tree of it first.
            BodyTemplate::Json(tree) if tree.is_record() => (Some("application/json"), record.text()),
            BodyTemplate::Json(tree) => {
                (Some("application/json"), tree.build(templates, scope, record)?.to_string().into_bytes())
            }
            BodyTemplate::Form(form) => {
                (Some("application/x-www-form-urlencoded"), encoded(&texts(form)?).into_bytes())
            }
        };
        if let Some(kind) = kind.filter(|_| !typed) {
            headers.insert(0, ("content-type".to_owned(), kind.to_owned()));
        }
        Ok(Prepared {
            method: self.method.clone(),
            path: self.path.as_ref().map(|path| templates.render(path, scope)).transpose()?.unwrap_or_default(),
            query: texts(&self.query)?,
            headers,
            body: body.into(),
        })
    }
}

impl Prepared {
    /// The request as text, for people: body and all, but for what says who we are.
    #[must_use]
    pub fn show(&self, url: &str) -> String {
        let mut text = format!("{} {}{}", self.method, url.trim_end_matches('/'), self.path);
        for (n, (name, value)) in self.query.iter().enumerate() {
            // Into a string, writing cannot fail.
            let _ = write!(text, "{}{name}={value}", if n == 0 { '?' } else { '&' });
        }
        for (name, value) in &self.headers {
            let _ = write!(text, "\n{name}: {value}");
        }
        if !self.body.is_empty() {
            let body = String::from_utf8_lossy(&self.body);
            let pretty = serde_json::from_str::<Json>(&body).map(|json| format!("{json:#}"));
            let _ = write!(text, "\n\n{}", pretty.unwrap_or_else(|_| body.into_owned()));
        }
        text
    }
}

/// Pairs as a form: percent-encoded, a space as `+`.
pub(super) fn encoded(pairs: &[(String, String)]) -> String {
    let base = reqwest::Url::parse("http://form/");
    let query = base.map(|mut url| {
        url.query_pairs_mut().extend_pairs(pairs);
        url.query().unwrap_or_default().to_owned()
    });
    query.unwrap_or_default()
}
