//! `[[routes]]`: which record an event type becomes.

use std::collections::{BTreeMap, BTreeSet};

use super::checks;
use super::fault::{Complaint, Place, did_you_mean};
use super::presets::{self, SOURCES};
use super::reader::{Context, Reader, not};
use super::source::Source;
use super::tree::Value;
use super::values::text;

/// The routes that need no configuration.
const BUILT_IN: &str = include_str!("../../config/routes.toml");

/// One event type's way to its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Whose events: [`Source::routes`], which for sources of a preset is the preset's name.
    pub source: String,
    /// The exact event type.
    pub event_type: String,
    /// The record topic, one of [`RECORD_TOPICS`](super::RECORD_TOPICS).
    pub record: String,
    /// JSON pointer of the object that holds the members; empty for the whole body.
    pub members: String,
    /// JSON pointer, inside that object, of the entity's id.
    pub entity: String,
    /// Record fields with a value of their own, e.g. `direction`.
    pub set: BTreeMap<String, String>,
    /// Record fields whose member has another name: field to JSON pointer inside the object.
    pub rename: BTreeMap<String, String>,
}

/// A route, where it stands, and its key path.
pub(super) type Placed = (Place, String, Route);

impl Route {
    /// The built-in routes, replaced and extended by the user's `[[routes]]`.
    pub(super) fn read_all(root: &mut Reader<'_>) -> Vec<Placed> {
        let embedded = presets::built_in(root.cx, "routes.toml", BUILT_IN);
        let place = Place::BuiltIn { file: "routes.toml", line: 1 };
        let mut file = Reader::root(root.cx, place, embedded);
        let mut routes = Self::read_rows(&mut file);
        file.finish();
        for own in Self::read_rows(root) {
            match routes.iter_mut().find(|(_, _, route)| route.same_event(&own.2)) {
                Some(built_in) => *built_in = own,
                None => routes.push(own),
            }
        }
        routes
    }

    fn read_rows(root: &mut Reader<'_>) -> Vec<Placed> {
        let mut routes: Vec<Placed> = Vec::new();
        for (index, row) in root.rows("routes").into_iter().enumerate() {
            let path = format!("routes[{index}]");
            let placed = Self::read(row, &path);
            if routes.iter().any(|(_, _, route)| route.same_event(&placed.2)) && !placed.2.event_type.is_empty() {
                let what = format!("`{}` of `{}` has two routes", placed.2.event_type, placed.2.source);
                root.cx.fault(&placed.0, &path, Complaint::new(what));
            }
            routes.push(placed);
        }
        routes
    }

    fn read(mut r: Reader<'_>, path: &str) -> Placed {
        let route = Self {
            source: r.text("source", checks::some),
            event_type: r.text("event_type", checks::some),
            record: r.text("record", checks::record_topic),
            members: r.text("members", checks::pointer),
            entity: r.text("entity", checks::inner_pointer),
            set: fields(&mut r, "set", |_| Ok(())),
            rename: fields(&mut r, "rename", checks::inner_pointer),
        };
        for field in route.set.keys().filter(|field| route.rename.contains_key(*field)) {
            r.fault("rename", Complaint::new(format!("`{field}` stands in `set` too")));
        }
        let placed = (r.place().clone(), path.to_owned(), route);
        r.finish();
        placed
    }

    fn same_event(&self, other: &Self) -> bool {
        self.source == other.source && self.event_type == other.event_type
    }
}

/// Faults of routes that no source reads.
pub(super) fn check_owners(cx: &Context<'_>, routes: &[Placed], sources: &BTreeMap<String, Source>) {
    let mut readers: BTreeSet<&str> = SOURCES.names().collect();
    readers.extend(sources.values().map(|source| source.routes.as_str()));
    for (place, path, route) in routes {
        if readers.contains(route.source.as_str()) || route.source.is_empty() {
            continue;
        }
        let what = format!("no source reads the routes of `{}`", route.source);
        let hint = match sources.get(&route.source) {
            Some(source) => Some(format!(
                "source `{0}` reads those of `{1}`: name `{1}` here, or set sources.{0}.routes = \"{0}\"",
                source.name, source.routes
            )),
            None => did_you_mean(&route.source, readers.iter().copied()),
        };
        cx.fault(place, &format!("{path}.source"), Complaint::new(what).maybe_hint(hint));
    }
}

/// A table from record fields to text.
fn fields(r: &mut Reader<'_>, key: &'static str, check: fn(&str) -> Result<(), Complaint>) -> BTreeMap<String, String> {
    let table = r.take(key, "", |node| match node.value {
        Value::Table(table) => Ok(table),
        other => Err(not("a table", &other)),
    });
    let mut fields = BTreeMap::new();
    for (field, node) in table.unwrap_or_default() {
        let place = node.place.clone();
        let value = checks::field(&field).and_then(|()| text(node)).and_then(|text| check(&text).map(|()| text));
        match value {
            Ok(value) => {
                fields.insert(field, value);
            }
            Err(complaint) => r.cx.fault(&place, &r.path_of(&format!("{key}.{field}")), complaint),
        }
    }
    fields
}
