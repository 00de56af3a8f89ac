//! Takes a table apart key by key: records every fault instead of stopping at the first, and at the end
//! reports what was not asked for.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::fault::{Complaint, Fault, Faults, Place, did_you_mean};
use super::tree::{Node, Table, Value};

/// What options of descriptions begin with.
pub(super) const DESCRIPTION: &str = "description";

/// What all readers of one configuration share.
pub(super) struct Context<'e> {
    /// Looks up the variables that `env:` references name.
    pub(super) env: &'e dyn Fn(&str) -> Option<String>,
    faults: RefCell<Vec<(Place, Fault)>>,
    options: RefCell<BTreeMap<String, String>>,
}

impl<'e> Context<'e> {
    pub(super) fn new(env: &'e dyn Fn(&str) -> Option<String>) -> Self {
        Self { env, faults: RefCell::default(), options: RefCell::default() }
    }

    /// Records a fault of the key `key` at `place`.
    pub(super) fn fault(&self, place: &Place, key: &str, complaint: Complaint) {
        let fault = place.fault(key, complaint);
        self.faults.borrow_mut().push((place.clone(), fault));
    }

    /// `value` when nothing was wrong, else all faults in order.
    pub(super) fn conclude<T>(self, value: T) -> Result<T, Faults> {
        let mut faults = self.faults.into_inner();
        if faults.is_empty() {
            return Ok(value);
        }
        faults.sort_by(|(a, x), (b, y)| (a, &x.key).cmp(&(b, &y.key)));
        Err(Faults(faults.into_iter().map(|(_, fault)| fault).collect()))
    }

    /// Every option asked for so far, `*` for names and positions, with its limits in words.
    #[cfg(test)]
    pub(super) fn options(&self) -> BTreeMap<String, String> {
        self.options.borrow().clone()
    }
}

/// One table being read.
///
/// The methods give a stand-in where a value is missing or wrong: the fault is on record, so no
/// configuration made with the stand-in leaves [`Context::conclude`].
pub(super) struct Reader<'c> {
    pub(super) cx: &'c Context<'c>,
    place: Place,
    path: String,
    pattern: String,
    left: Table,
    places: BTreeMap<&'static str, Place>,
    wrong: BTreeSet<&'static str>,
    known: Vec<&'static str>,
    /// Nothing can be in this table, so nothing is called missing.
    blind: bool,
}

impl<'c> Reader<'c> {
    /// A reader of the whole file.
    pub(super) fn root(cx: &'c Context<'c>, place: Place, table: Table) -> Self {
        Self::new(cx, place, table, String::new(), String::new())
    }

    /// A reader of a target's description. Its options are no options of the configuration.
    pub(super) fn of_description(cx: &'c Context<'c>, place: Place, table: Table) -> Self {
        Self::new(cx, place, table, String::new(), DESCRIPTION.to_owned())
    }

    fn new(cx: &'c Context<'c>, place: Place, left: Table, path: String, pattern: String) -> Self {
        Self {
            cx,
            place,
            path,
            pattern,
            left,
            places: BTreeMap::new(),
            wrong: BTreeSet::new(),
            known: Vec::new(),
            blind: false,
        }
    }

    /// Takes `key` and converts it; none when it is absent or, which is recorded, wrong.
    ///
    /// `limits` says in words what is allowed beyond the type.
    pub(super) fn take<T>(
        &mut self,
        key: &'static str,
        limits: &str,
        convert: impl FnOnce(Node) -> Result<T, Complaint>,
    ) -> Option<T> {
        self.option(key, limits);
        let node = self.node(key)?;
        match convert(node) {
            Ok(value) => Some(value),
            Err(complaint) => {
                self.fault(key, complaint);
                self.wrong.insert(key);
                None
            }
        }
    }

    /// The table under `key` as it stands, for names that its writer chooses; its absence is a fault.
    pub(super) fn table_at(&mut self, key: &'static str, hint: &str) -> Table {
        if !self.has(key) {
            self.missing(key, hint);
        }
        self.option(key, "");
        self.table(key).map(|(_, table)| table).unwrap_or_default()
    }

    /// Like [`Reader::take`], and its absence is a fault.
    pub(super) fn require<T>(
        &mut self,
        key: &'static str,
        limits: &str,
        convert: impl FnOnce(Node) -> Result<T, Complaint>,
    ) -> Option<T> {
        if !self.has(key) {
            self.missing(key, "");
        }
        self.take(key, limits, convert)
    }

    /// Whether `key` is there and was not taken yet.
    pub(super) fn has(&self, key: &str) -> bool {
        self.left.contains_key(key)
    }

    /// Whether `key` was there and nothing was wrong with it, so that it can be compared with others.
    pub(super) fn clean(&self, key: &str) -> bool {
        self.places.contains_key(key) && !self.wrong.contains(key)
    }

    /// Whether `key` was there and wrong.
    pub(super) fn spoilt(&self, key: &str) -> bool {
        self.wrong.contains(key)
    }

    /// Remembers that something inside `key` has a fault of its own.
    pub(super) fn spoil(&mut self, key: &'static str) {
        self.wrong.insert(key);
    }

    /// Records that `key` is missing.
    pub(super) fn missing(&self, key: &str, hint: &str) {
        if self.blind {
            return;
        }
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        self.fault(key, Complaint::new("is missing").maybe_hint(hint));
    }

    /// Records a fault of `key`, at its own line when it was taken, else at the table's.
    pub(super) fn fault(&self, key: &str, complaint: Complaint) {
        let place = self.places.get(key).unwrap_or(&self.place);
        self.cx.fault(place, &join(&self.path, key), complaint);
    }

    /// Records a fault that lies between `key` and `other`, at the one the user wrote.
    pub(super) fn fault_between(&self, key: &str, other: &str, complaint: Complaint) {
        let built_in = matches!(self.places.get(key), Some(Place::BuiltIn { .. }) | None);
        self.fault(if built_in && self.places.contains_key(other) { other } else { key }, complaint);
    }

    /// The key path of `key`, e.g. `targets.erp.start`.
    pub(super) fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// Where the table stands.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// A table of options under `key`. One that is no table reads as blind: that it is none is the only fault.
    pub(super) fn section(&mut self, key: &'static str) -> Reader<'c> {
        let blind = self.has(key);
        match self.table(key) {
            Some((place, table)) => self.child(place, table, key, key),
            None => Reader { blind: blind || self.blind, ..self.child(self.place.clone(), Table::new(), key, key) },
        }
    }

    /// A table of options under `key` that may be left out.
    pub(super) fn optional_section(&mut self, key: &'static str) -> Option<Reader<'c>> {
        self.option(key, "");
        let (place, table) = self.table(key)?;
        Some(self.child(place, table, key, key))
    }

    /// The tables under `key` by the name their user gave them.
    pub(super) fn named(&mut self, key: &'static str) -> Vec<(String, Place, Table)> {
        self.option(key, "");
        let (_, tables) = self.table(key).unwrap_or((self.place.clone(), Table::new()));
        let mut named = Vec::new();
        for (name, node) in tables {
            match node.value {
                Value::Table(table) => named.push((name, node.place, table)),
                other => {
                    let path = join(&join(&self.path, key), &name);
                    self.cx.fault(&node.place, &path, not("a table", &other));
                }
            }
        }
        named
    }

    /// A reader of one of [`Reader::named`]'s tables.
    pub(super) fn entry(&self, key: &str, name: &str, place: Place, table: Table) -> Reader<'c> {
        self.child(place, table, &join(key, name), &join(key, "*"))
    }

    /// The tables of the list under `key`; none when absent.
    pub(super) fn rows(&mut self, key: &'static str) -> Vec<Reader<'c>> {
        self.option(key, "");
        let items = match self.node(key).map(|node| node.value) {
            None => return Vec::new(),
            Some(Value::List(items)) => items,
            Some(other) => {
                self.fault(key, not("a list of tables", &other));
                self.spoil(key);
                return Vec::new();
            }
        };
        let mut rows = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let name = format!("{key}[{index}]");
            match item.value {
                Value::Table(table) => {
                    rows.push(self.child(item.place, table, &name, &format!("{key}[*]")));
                }
                other => {
                    let path = join(&self.path, &name);
                    self.cx.fault(&item.place, &path, not("a table", &other));
                    self.spoil(key);
                }
            }
        }
        rows
    }

    /// Reports every key that nobody took.
    pub(super) fn finish(self) {
        for (key, node) in &self.left {
            let hint = did_you_mean(key, self.known.iter().copied()).unwrap_or_else(|| {
                let known: Vec<String> = self.known.iter().map(|key| format!("`{key}`")).collect();
                format!("known here: {}", known.join(", "))
            });
            let complaint = Complaint::new("is not an option").hint(hint);
            self.cx.fault(&node.place, &join(&self.path, key), complaint);
        }
    }

    fn option(&self, key: &str, limits: &str) {
        let option = join(&self.pattern, key);
        self.cx.options.borrow_mut().insert(option, limits.to_owned());
    }

    fn table(&mut self, key: &'static str) -> Option<(Place, Table)> {
        let node = self.node(key)?;
        match node.value {
            Value::Table(table) => Some((node.place, table)),
            other => {
                self.fault(key, not("a table", &other));
                None
            }
        }
    }

    fn node(&mut self, key: &'static str) -> Option<Node> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        let node = self.left.remove(key)?;
        self.places.insert(key, node.place.clone());
        Some(node)
    }

    fn child(&self, place: Place, table: Table, key: &str, pattern: &str) -> Reader<'c> {
        let path = join(&self.path, key);
        Self::new(self.cx, place, table, path, join(&self.pattern, pattern))
    }
}

/// The complaint about a value of another kind than `wanted`.
pub(super) fn not(wanted: &str, value: &Value) -> Complaint {
    Complaint::new(format!("is {}, where {wanted} is expected", value.kind()))
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() || key.is_empty() { format!("{path}{key}") } else { format!("{path}.{key}") }
}
