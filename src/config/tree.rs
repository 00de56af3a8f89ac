//! Parsed TOML that knows where each value stands, and the layers laid over one another.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::fault::{Complaint, Fault, Place};

/// What every environment override begins with.
pub(super) const OVERRIDE_PREFIX: &str = "LEDGERHOOK__";

/// A table by key.
pub(super) type Table = BTreeMap<String, Node>;

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
}

/// The kinds of values that options are made of.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Flag(bool),
    /// A TOML date or time, as RFC 3339 text.
    Time(String),
    /// A number that no option can hold: a fraction, or beyond 64 bits.
    Odd,
    List(Vec<Node>),
    Table(Table),
}

impl Value {
    /// The kind in words, for faults. The value itself is never shown: it may be a secret.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Integer(_) => "a whole number",
            Self::Flag(_) => "true or false",
            Self::Time(_) => "a date or time",
            Self::Odd => "a fraction or a number beyond 64 bits",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// Reads a whole TOML text whose lines are at `origin`, or every syntax fault in it.
pub(super) fn parse(text: &str, origin: &Place) -> Result<Table, Vec<Fault>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let lines = Lines::of(text);
    if errors.is_empty() {
        return Ok(convert_table(table.get_ref(), &lines, origin));
    }
    let fault = |error: &toml::de::Error| {
        // At the end of the text the parser has no place: it is the last line then.
        let at = error.span().map_or(text.len(), |span| span.start);
        // Its message names what was expected and never quotes the text, which may hold a secret.
        let complaint = Complaint::new(format!("is not TOML: {}", error.message()));
        origin.at_line(lines.number(at)).fault("", complaint)
    };
    let mut faults: Vec<Fault> = errors.iter().map(fault).collect();
    faults.sort_by_key(|fault| fault.line);
    Err(faults)
}

/// Lays `over` on `base`: tables are merged, everything else is replaced.
pub(super) fn overlay(base: &mut Table, over: Table) {
    for (key, node) in over {
        match (base.get_mut(&key), node) {
            (
                Some(Node { value: Value::Table(below), place }),
                Node { value: Value::Table(above), place: above_place },
            ) => {
                overlay(below, above);
                *place = above_place;
            }
            (_, node) => {
                base.insert(key, node);
            }
        }
    }
}

/// The place of a key in a section, where both are there.
pub(super) fn place_of<'t>(root: &'t Table, section: &str, key: &str) -> Option<&'t Place> {
    table_of(root, section)?.get(key).map(|node| &node.place)
}

/// The table under a key, where one is there.
pub(super) fn table_of<'t>(root: &'t Table, key: &str) -> Option<&'t Table> {
    match &root.get(key)?.value {
        Value::Table(table) => Some(table),
        _ => None,
    }
}

/// Puts one environment override into the tree: `LEDGERHOOK__ROUTER__DEDUPE_WINDOW` is `router.dedupe_window`.
///
/// # Errors
///
/// The key and what is wrong when the name leads nowhere: an empty part, or a part below something that is no table.
pub(super) fn put_override(
    root: &mut Table,
    variable: &str,
    value: &str,
    place: &Place,
) -> Result<(), (String, Complaint)> {
    let path = variable.strip_prefix(OVERRIDE_PREFIX).unwrap_or_default();
    let parts: Vec<String> = path.split("__").map(str::to_lowercase).collect();
    if parts.iter().any(String::is_empty) {
        let complaint = Complaint::new("names no option")
            .hint("the form is LEDGERHOOK__SECTION__KEY, two underscores between the parts");
        return Err((String::new(), complaint));
    }
    let mut over = Node { value: override_value(value, place), place: place.clone() };
    let mut table = root;
    let mut walked: Vec<&str> = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        walked.push(part);
        let key = existing_key(table, part);
        if index + 1 == parts.len() {
            if let (Some(below), Value::Table(_)) = (table.get(&key), &over.value) {
                // The table keeps the place it has in the file: what it lacks is lacking there.
                over.place = below.place.clone();
            }
            overlay(table, BTreeMap::from([(key, over)]));
            break;
        }
        let node = table.entry(key).or_insert_with(|| Node { value: Value::Table(Table::new()), place: place.clone() });
        let kind = node.value.kind();
        let Value::Table(below) = &mut node.value else {
            let complaint = Complaint::new(format!("is {kind}: nothing can be set below it"));
            return Err((walked.join("."), complaint));
        };
        table = below;
    }
    Ok(())
}

/// Variables cannot hold `-`, names of sources and targets can: `MY_ERP` means `my-erp` where that stands.
fn existing_key(table: &Table, part: &str) -> String {
    if table.contains_key(part) {
        return part.to_owned();
    }
    let same = table.keys().find(|key| key.replace('-', "_").to_lowercase() == part);
    same.cloned().unwrap_or_else(|| part.to_owned())
}

/// A TOML value where it reads as one, plain text otherwise.
fn override_value(text: &str, place: &Place) -> Value {
    match DeValue::parse(text) {
        Ok(value) => convert(value.get_ref(), &Lines::of(text), place),
        Err(_) => Value::Text(text.to_owned()),
    }
}

fn convert(value: &DeValue<'_>, lines: &Lines, origin: &Place) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map_or(Value::Odd, Value::Integer)
        }
        DeValue::Float(_) => Value::Odd,
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Datetime(time) => Value::Time(time.to_string()),
        DeValue::Array(items) => Value::List(
            items
                .iter()
                .map(|item| Node {
                    value: convert(item.get_ref(), lines, origin),
                    place: lines.place(item.span(), origin),
                })
                .collect(),
        ),
        DeValue::Table(table) => Value::Table(convert_table(table, lines, origin)),
    }
}

fn convert_table(table: &DeTable<'_>, lines: &Lines, origin: &Place) -> Table {
    table
        .iter()
        .map(|(key, value)| {
            let node = Node {
                value: convert(value.get_ref(), lines, origin),
                // The key's line: a table's own span need not begin at its header.
                place: lines.place(key.span(), origin),
            };
            (key.get_ref().to_string(), node)
        })
        .collect()
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(newlines.map(|(at, _)| at).collect())
    }

    /// Number of the line at a byte, from 1.
    fn number(&self, at: usize) -> usize {
        self.0.partition_point(|newline| *newline < at) + 1
    }

    fn place(&self, span: Range<usize>, origin: &Place) -> Place {
        origin.at_line(self.number(span.start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn file() -> Place {
        Place::Line { file: Arc::from("t.toml"), line: 1 }
    }

    fn at<'t>(table: &'t Table, path: &str) -> &'t Node {
        let (first, rest) = path.split_once('.').unwrap_or((path, ""));
        let node = &table[first];
        match &node.value {
            Value::Table(below) if !rest.is_empty() => at(below, rest),
            _ => node,
        }
    }

    #[test]
    fn every_value_knows_its_line() {
        let text = "a = 1\n[b]\nc = [\n  \"x\",\n  \"y\",\n]\n\n[[d]]\ne = 1\n[[d]]\nf = 2\n[g.h]\ni.j = 3\n";
        let table = parse(text, &file()).unwrap();
        for (path, line) in [("a", 1), ("b", 2), ("b.c", 3), ("g", 12), ("g.h", 12), ("g.h.i.j", 13)] {
            assert_eq!(at(&table, path).place, file().at_line(line), "{path}");
        }
        let lines = |path: &str| match &at(&table, path).value {
            Value::List(items) => items.iter().map(|item| item.place.clone()).collect(),
            _ => vec![],
        };
        assert_eq!(lines("b.c"), [file().at_line(4), file().at_line(5)]);
        assert_eq!(lines("d"), [file().at_line(8), file().at_line(10)]);
    }

    #[test]
    fn every_syntax_fault_is_named() {
        let faults = parse("a = \n[b]\nc = 1\nc = 2\n[d\n", &file()).unwrap_err();
        let lines: Vec<_> = faults.iter().filter_map(|fault| fault.line).collect();
        assert_eq!(lines, [1, 4, 5], "{faults:?}");
    }

    #[test]
    fn layers() {
        let mut base = parse("[a]\nx = 1\ny = [1, 2]\n[a.t]\nk = 1", &file()).unwrap();
        overlay(&mut base, parse("[a]\ny = [3]\nz = 4\nt.l = 2", &file()).unwrap());
        assert!(matches!(at(&base, "a.x").value, Value::Integer(1)));
        assert!(matches!(&at(&base, "a.y").value, Value::List(items) if items.len() == 1));
        assert!(matches!(at(&base, "a.z").value, Value::Integer(4)));
        assert!(matches!(at(&base, "a.t.k").value, Value::Integer(1)));
        assert!(matches!(at(&base, "a.t.l").value, Value::Integer(2)));
    }

    #[test]
    fn overrides() {
        let place = |variable: &str| Place::Variable(Arc::from(variable));
        let mut root = parse("[a]\nx = 1\n[targets.my-erp]\nurl = \"u\"", &file()).unwrap();
        for (variable, value) in [
            ("LEDGERHOOK__A__X", "2"),
            ("LEDGERHOOK__A__Y", "5s"),
            ("LEDGERHOOK__A__Z", "\"5\""),
            ("LEDGERHOOK__TARGETS__MY_ERP__URL", "https://other/"),
            ("LEDGERHOOK__NEW", "{ deep = [true] }"),
        ] {
            put_override(&mut root, variable, value, &place(variable)).unwrap();
        }
        assert!(matches!(at(&root, "a.x").value, Value::Integer(2)));
        assert_eq!(at(&root, "a.x").place, place("LEDGERHOOK__A__X"));
        assert!(matches!(&at(&root, "a.y").value, Value::Text(text) if text == "5s"));
        assert!(matches!(&at(&root, "a.z").value, Value::Text(text) if text == "5"));
        assert!(matches!(&at(&root, "targets.my-erp.url").value, Value::Text(text) if text == "https://other/"));
        assert!(matches!(at(&root, "new.deep").value, Value::List(_)));
        assert_eq!(at(&root, "a").place, file().at_line(1));
        for variable in ["LEDGERHOOK__", "LEDGERHOOK__A____X", "LEDGERHOOK__A__X__Y"] {
            assert!(put_override(&mut root, variable, "1", &place(variable)).is_err(), "{variable}");
        }
    }
}
