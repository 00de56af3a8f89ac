//! Embedded descriptions that a user's table is laid on, so that it names only what differs.

use super::fault::{Complaint, Place, did_you_mean};
use super::reader::{Context, not};
use super::tree::{self, Node, Table, Value};

/// One embedded file: the preset's name, the file's, its text.
type Embedded = (&'static str, &'static str, &'static str);

/// The presets of one kind of table. The first one holds the values that all others start from.
pub(super) struct Presets(&'static [Embedded]);

/// Presets of `[sources.<name>]`.
pub(super) const SOURCES: Presets = Presets(&[
    ("hmac", "sources/hmac.toml", include_str!("../../config/sources/hmac.toml")),
    ("accelex", "sources/accelex.toml", include_str!("../../config/sources/accelex.toml")),
    ("accbooks", "sources/accbooks.toml", include_str!("../../config/sources/accbooks.toml")),
    (
        "standard-webhooks",
        "sources/standard-webhooks.toml",
        include_str!("../../config/sources/standard-webhooks.toml"),
    ),
    ("stripe", "sources/stripe.toml", include_str!("../../config/sources/stripe.toml")),
    ("github", "sources/github.toml", include_str!("../../config/sources/github.toml")),
    ("shopify", "sources/shopify.toml", include_str!("../../config/sources/shopify.toml")),
    ("slack", "sources/slack.toml", include_str!("../../config/sources/slack.toml")),
]);

/// What every target starts from.
const TARGET_DEFAULTS: (&str, &str) = ("targets.toml", include_str!("../../config/targets.toml"));

macro_rules! target_presets {
    ($($name:literal),* $(,)?) => {
        /// Presets of `[targets.<name>]`.
        const TARGETS: &[Embedded] = &[$((
            $name,
            concat!("targets/", $name, ".toml"),
            include_str!(concat!("../../config/targets/", $name, ".toml")),
        )),*];
    };
}

target_presets!(
    "webhook",
    "sandbox",
    "agiloft",
    "business-central",
    "docusign-clm",
    "erpnext",
    "ironclad",
    "jira-service-management",
    "netsuite",
    "odoo",
    "quickbooks",
    "request-tracker",
    "roundup",
    "salesforce-case",
    "sap-s4hana",
    "servicenow",
    "tryton",
    "xero",
    "zammad",
    "zendesk",
);

/// Names of the targets' presets.
pub(super) fn target_names() -> impl Iterator<Item = &'static str> {
    TARGETS.iter().map(|(name, ..)| *name)
}

/// A target's table and what it is, not read yet.
pub(super) struct Described {
    /// The preset's name, or the path of its file.
    pub(super) preset: String,
    /// Where the description stands.
    pub(super) place: Place,
    /// The description, without its `[defaults]`.
    pub(super) description: Table,
    /// The user's table, laid on those and on what every target starts from.
    pub(super) table: Table,
}

/// Follows a target's preset: one of the embedded ones, or a file of the user's, told by a `/` or its ending.
pub(super) fn describe(cx: &Context<'_>, path: &str, name: &str, place: &Place, table: Table) -> Option<Described> {
    let (preset, said_at) = preset(cx, path, name, place, &table)?;
    let (mut description, described_at) = if is_path(&preset) {
        let at = Place::start_of(&preset);
        let text = std::fs::read_to_string(&preset).map_err(|error| {
            let complaint = Complaint::new(format!("cannot read `{preset}`: {error}"));
            cx.fault(&said_at, &format!("{path}.preset"), complaint.hint("the path of a target's description"));
        });
        match tree::parse(&text.ok()?, &at) {
            Ok(description) => (description, at),
            Err(faults) => {
                for fault in faults {
                    cx.fault(&at.at_line(fault.line.unwrap_or(1)), &fault.key, Complaint::new(fault.what));
                }
                return None;
            }
        }
    } else {
        let known: Vec<&str> = TARGETS.iter().map(|(name, ..)| *name).collect();
        let Some((_, file, text)) = TARGETS.iter().find(|(known, ..)| *known == preset) else {
            let complaint = Complaint::new(format!("no preset is called `{preset}`"));
            let hint = did_you_mean(&preset, known.iter().copied()).unwrap_or_else(|| {
                format!("set `preset` to one of {}, or to the path of a description", known.join(", "))
            });
            cx.fault(&said_at, &format!("{path}.preset"), complaint.hint(hint));
            return None;
        };
        (built_in(cx, file, text), Place::BuiltIn { file, line: 1 })
    };
    let mut layers = built_in(cx, TARGET_DEFAULTS.0, TARGET_DEFAULTS.1);
    if let Some(Node { value: Value::Table(defaults), .. }) = description.remove("defaults") {
        tree::overlay(&mut layers, defaults);
    }
    tree::overlay(&mut layers, table);
    Some(Described { preset, place: described_at, description, table: layers })
}

fn is_path(preset: &str) -> bool {
    preset.contains('/') || preset.ends_with(".toml")
}

/// The preset's name and who said it: the target's own name unless the key `preset` says another.
fn preset(cx: &Context<'_>, path: &str, name: &str, place: &Place, table: &Table) -> Option<(String, Place)> {
    match table.get("preset") {
        None => Some((name.to_owned(), place.clone())),
        Some(Node { value: Value::Text(preset), place }) => Some((preset.clone(), place.clone())),
        Some(Node { value, place }) => {
            cx.fault(place, &format!("{path}.preset"), not("text", value));
            None
        }
    }
}

impl Presets {
    /// The presets' names, the common base first.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(name, _, _)| *name)
    }

    /// The user's `table` laid on its preset, which is the one of its own `name` unless the key `preset` says
    /// another; none, which is recorded, when there is no such preset.
    pub(super) fn under(
        &self,
        cx: &Context<'_>,
        path: &str,
        name: &str,
        place: &Place,
        mut table: Table,
    ) -> Option<Table> {
        let said = table.get("preset").cloned();
        let preset = match said.as_ref().map(|node| &node.value) {
            None => name,
            Some(Value::Text(preset)) => preset,
            Some(other) => {
                let place = said.as_ref().map_or(place, |node| &node.place);
                cx.fault(place, &format!("{path}.preset"), not("text", other));
                return None;
            }
        };
        let known: Vec<&str> = self.names().collect();
        if !known.contains(&preset) {
            let complaint = Complaint::new(format!("no preset is called `{preset}`"));
            let hint = did_you_mean(preset, known.iter().copied())
                .unwrap_or_else(|| format!("set `preset` to one of {}", known.join(", ")));
            let place = said.as_ref().map_or(place, |node| &node.place);
            cx.fault(place, &format!("{path}.preset"), complaint.hint(hint));
            return None;
        }
        if said.is_none() {
            let value = Value::Text(preset.to_owned());
            table.insert("preset".to_owned(), Node { value, place: place.clone() });
        }
        let mut layers = Table::new();
        for (index, (name, file, text)) in self.0.iter().enumerate() {
            if index == 0 || *name == preset {
                tree::overlay(&mut layers, built_in(cx, file, text));
            }
        }
        tree::overlay(&mut layers, table);
        Some(layers)
    }
}

/// An embedded file as a tree. That each one parses is tested; should one not, its faults are reported like a user's.
pub(super) fn built_in(cx: &Context<'_>, file: &'static str, text: &str) -> Table {
    let place = Place::BuiltIn { file, line: 1 };
    tree::parse(text, &place).unwrap_or_else(|faults| {
        for fault in faults {
            let at = place.at_line(fault.line.unwrap_or(1));
            cx.fault(&at, &fault.key, Complaint::new(fault.what));
        }
        Table::new()
    })
}
