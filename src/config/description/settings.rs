//! What a description asks of its user, and the user's answer.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::config::checks;
use crate::config::fault::{Complaint, did_you_mean};
use crate::config::reader::{Reader, not};
use crate::config::secret::{self, Secret};
use crate::config::tree::{Node, Table, Value};
use crate::config::values::text;

/// One of the `settings` that a target may have.
#[derive(Clone, Debug, PartialEq)]
pub struct SettingSpec {
    /// What it is for, to be shown where it is missing.
    pub doc: String,
    /// Its type.
    pub kind: SettingType,
    /// Its value where the user says none; without one it is required.
    pub default: Option<Json>,
    /// Whether it may be left out without a default; it is null then.
    pub optional: bool,
    /// The texts that it may be, where not any.
    pub choices: Vec<String>,
}

/// Types of settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingType {
    /// Text.
    Text,
    /// A whole number.
    Integer,
    /// True or false.
    Flag,
    /// A list of texts.
    List,
    /// A table from text to text.
    Table,
}

/// A secret that a description needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretSpec {
    /// What it is, and where to get it.
    pub doc: String,
    /// Whether the target may do without.
    pub optional: bool,
}

const TYPES: [(&str, SettingType); 5] = [
    ("text", SettingType::Text),
    ("integer", SettingType::Integer),
    ("flag", SettingType::Flag),
    ("list", SettingType::List),
    ("table", SettingType::Table),
];

impl SettingSpec {
    pub(super) fn read_all(root: &mut Reader<'_>) -> BTreeMap<String, Self> {
        let mut specs = BTreeMap::new();
        for (name, place, table) in root.named("settings") {
            if let Err(complaint) = checks::field(&name) {
                root.cx.fault(&place, &root.path_of(&format!("settings.{name}")), complaint);
            }
            let spec = Self::read(root.entry("settings", &name, place, table));
            specs.insert(name, spec);
        }
        specs
    }

    fn read(mut r: Reader<'_>) -> Self {
        let kind = r.choice("type", &TYPES).unwrap_or(SettingType::Text);
        let spec = Self {
            doc: r.text("doc", checks::some),
            kind,
            default: r.take("default", "", |node| value(node, kind)),
            optional: r.optional_flag("optional"),
            choices: if r.has("choices") { r.texts("choices", checks::some) } else { Vec::new() },
        };
        r.finish();
        spec
    }

    fn accept(&self, node: Node) -> Result<Json, Complaint> {
        let value = value(node, self.kind)?;
        match value.as_str() {
            Some(text) if !self.choices.is_empty() && !self.choices.iter().any(|choice| choice == text) => {
                Err(Complaint::new("is none of the values that it may have").hint(self.choices.join(", ")))
            }
            _ => Ok(value),
        }
    }
}

impl SecretSpec {
    pub(super) fn read_all(root: &mut Reader<'_>) -> BTreeMap<String, Self> {
        let mut specs = BTreeMap::new();
        for (name, place, table) in root.named("secrets") {
            let mut r = root.entry("secrets", &name, place, table);
            let spec = Self { doc: r.text("doc", checks::some), optional: r.optional_flag("optional") };
            r.finish();
            specs.insert(name, spec);
        }
        specs
    }
}

/// The user's settings by these specifications; what is missing is named with its text. Those that may be left out and
/// are stand as null.
pub(crate) fn read_settings(r: &mut Reader<'_>, specs: &BTreeMap<String, SettingSpec>) -> BTreeMap<String, Json> {
    let mut given = table(r, "settings");
    let mut settings = BTreeMap::new();
    for (name, spec) in specs {
        let path = format!("settings.{name}");
        let value = match given.remove(name) {
            None if spec.default.is_none() && !spec.optional => {
                r.missing(&path, &spec.doc);
                None
            }
            None => Some(spec.default.clone().unwrap_or(Json::Null)),
            Some(node) => {
                let place = node.place.clone();
                let accepted = spec.accept(node);
                accepted.map_err(|complaint| r.cx.fault(&place, &r.path_of(&path), complaint.or_hint(&spec.doc))).ok()
            }
        };
        settings.insert(name.clone(), value.unwrap_or(Json::Null));
    }
    unknown(r, "settings", given, specs.keys().map(String::as_str));
    settings
}

/// The user's secrets by these specifications; `signing` is the one that stands beside the table.
pub(crate) fn read_secrets(
    r: &mut Reader<'_>,
    specs: &BTreeMap<String, SecretSpec>,
    signing: Option<Secret>,
) -> BTreeMap<String, Secret> {
    const SIGNING: &str = "signing_secret";
    let mut given = table(r, "secrets");
    let mut secrets = BTreeMap::new();
    for (name, spec) in specs {
        let beside = name == SIGNING;
        let path = if beside { name.clone() } else { format!("secrets.{name}") };
        if beside {
            match signing.clone() {
                Some(secret) => drop(secrets.insert(name.clone(), secret)),
                None if spec.optional || r.spoilt(SIGNING) => {}
                None => r.missing(&path, &format!("{}: write \"env:NAME\" or \"file:PATH\"", spec.doc)),
            }
            continue;
        }
        match given.remove(name) {
            None if spec.optional => {}
            None => r.missing(&path, &format!("{}: write \"env:NAME\" or \"file:PATH\"", spec.doc)),
            Some(node) => {
                let place = node.place.clone();
                match text(node).and_then(|reference| secret::resolve(&reference, r.cx.env)) {
                    Ok(secret) => drop(secrets.insert(name.clone(), secret)),
                    Err(complaint) => r.cx.fault(&place, &r.path_of(&path), complaint),
                }
            }
        }
    }
    if signing.is_some() && !specs.contains_key(SIGNING) {
        r.fault(SIGNING, Complaint::new("is not used by this preset: it does not sign"));
    }
    unknown(r, "secrets", given, specs.keys().map(String::as_str));
    secrets
}

fn table(r: &mut Reader<'_>, key: &'static str) -> Table {
    let table = r.take(key, "", |node| match node.value {
        Value::Table(table) => Ok(table),
        other => Err(not("a table", &other)),
    });
    table.unwrap_or_default()
}

fn unknown<'k>(r: &Reader<'_>, section: &str, left: Table, known: impl Iterator<Item = &'k str> + Clone) {
    for (key, node) in left {
        let hint = did_you_mean(&key, known.clone()).unwrap_or_else(|| {
            let known: Vec<String> = known.clone().map(|key| format!("`{key}`")).collect();
            if known.is_empty() {
                "this preset has none".to_owned()
            } else {
                format!("known here: {}", known.join(", "))
            }
        });
        let complaint = Complaint::new("is not one of the preset's").hint(hint);
        r.cx.fault(&node.place, &r.path_of(&format!("{section}.{key}")), complaint);
    }
}

/// A table from text to text.
pub(super) fn texts(node: Node) -> Result<Vec<(String, String)>, Complaint> {
    match node.value {
        Value::Table(table) => table.into_iter().map(|(key, node)| Ok((key, text(node)?))).collect(),
        other => Err(not("a table of texts", &other)),
    }
}

fn value(node: Node, kind: SettingType) -> Result<Json, Complaint> {
    match (kind, node.value) {
        (SettingType::Text, Value::Text(text)) => {
            checks::some(&text)?;
            Ok(Json::from(text))
        }
        (SettingType::Integer, Value::Integer(number)) => Ok(Json::from(number)),
        (SettingType::Flag, Value::Flag(flag)) => Ok(Json::from(flag)),
        (SettingType::List, Value::List(items)) => items.into_iter().map(|item| text(item).map(Json::from)).collect(),
        (SettingType::Table, Value::Table(table)) => {
            table.into_iter().map(|(key, node)| text(node).map(|text| (key, Json::from(text)))).collect()
        }
        (SettingType::Text, other) => Err(not("text", &other).hint("put it into quotes")),
        (SettingType::Integer, other) => Err(not("a whole number", &other)),
        (SettingType::Flag, other) => Err(not("true or false", &other)),
        (SettingType::List, other) => Err(not("a list of texts", &other)),
        (SettingType::Table, other) => Err(not("a table of texts", &other)),
    }
}
