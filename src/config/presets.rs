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

/// Presets of `[targets.<name>]`.
pub(super) const TARGETS: Presets = Presets(&[
    ("webhook", "targets/webhook.toml", include_str!("../../config/targets/webhook.toml")),
    ("sandbox", "targets/sandbox.toml", include_str!("../../config/targets/sandbox.toml")),
]);

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
