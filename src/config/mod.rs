//! The configuration: one TOML file, environment overrides, and everything that is wrong with them at once.
//!
//! A leaf: it imports nothing of ours, and each stage is handed its own section by value.
//!
//! Values come in layers, later ones replacing earlier ones: the embedded `config/default.toml` (which is also the
//! manual of every option), the user's file, then `LEDGERHOOK__SECTION__KEY` variables. `[sources.<name>]` and
//! `[targets.<name>]` lie on a preset, an embedded file of `config/sources` or `config/targets`; routes begin
//! with the embedded `config/routes.toml`. The embedded files are the only place where a default stands.
//!
//! | file | idea |
//! |---|---|
//! | `tree` | TOML as values that know their line, and the layering |
//! | `reader`, `values` | takes tables apart, records faults, reports what nobody asked for |
//! | `fault` | a fault, where it is, and how it is shown |
//! | `units`, `checks`, `secret` | forms of text: durations and sizes, URLs and pointers, references to secrets |
//! | `ranges`, `tls` | ranges of IP addresses, certificates and keys |
//! | `presets` | the embedded descriptions of sources and targets |
//! | `description` | what a target is, as data |
//! | the others | one or a few sections each |

mod checks;
pub mod description;
mod fault;
mod kafka;
mod lake;
mod presets;
mod process;
mod ranges;
mod reader;
mod route;
mod scheme;
mod secret;
mod source;
mod spool;
mod stages;
mod target;
#[cfg(test)]
mod tests;
mod tls;
mod tree;
mod units;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use fault::did_you_mean;
pub use fault::{Fault, Faults};
pub use kafka::{Kafka, RegistryAuth, SchemaRegistry};
pub use lake::{Catalog, CatalogKind, Commit, Lake, S3};
pub use process::{Admin, Log, LogFormat, Sandbox, Shutdown};
pub use ranges::IpRanges;
pub use route::Route;
pub use scheme::{Algorithm, Encoding, KeyForm, Part, Scheme, TimeAt};
pub use secret::Secret;
pub use source::{Source, SourceSecret, TestWhen, TimeFormat};
pub use spool::Spool;
pub use stages::{Delivery, Receiver, Router};
pub use target::{OnGiveUp, OnStale, RateLimit, Retry, Start, Target, TargetTls};
pub use tls::{ClientAuth, ClientCa, Identity, Tls};

use fault::{Complaint, Place};
use reader::{Context, Reader};
use source::Listener;
use tree::Table;

/// The record topics' short names, without [`Kafka::topic_prefix`].
pub const RECORD_TOPICS: [&str; 7] =
    ["invoices", "contracts", "cases", "compliance", "transactions", "reviews", "feeds"];

/// Every option with its text, unit, limits and default.
pub const DEFAULT_TOML: &str = include_str!("../../config/default.toml");

/// Reads a duration as options have them: `"250ms"`, `"5s"`, `"30d"`.
///
/// # Errors
/// What is wrong with it.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    units::duration(text).map_err(fault::Complaint::text)
}

/// The file that is read when none is named.
const USUAL_FILE: &str = "ledgerhook.toml";

/// Names of the presets of `[targets.<name>]`.
pub fn target_presets() -> impl Iterator<Item = &'static str> {
    presets::target_names()
}

/// A configuration without faults. Secrets are resolved.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory of everything kept on this machine; relative to the working directory.
    pub data_dir: PathBuf,
    /// `[kafka]`.
    pub kafka: Kafka,
    /// `[schema_registry]`.
    pub schema_registry: SchemaRegistry,
    /// `[receiver]`.
    pub receiver: Receiver,
    /// `[router]`.
    pub router: Router,
    /// `[delivery]`.
    pub delivery: Delivery,
    /// `[sources.<name>]` by name; none unless configured, since each needs a secret.
    pub sources: BTreeMap<String, Source>,
    /// The built-in routes and the user's; one for each source and event type.
    pub routes: Vec<Route>,
    /// `[targets.<name>]` by name.
    pub targets: BTreeMap<String, Target>,
    /// `[lake]`.
    pub lake: Lake,
    /// `[admin]`.
    pub admin: Admin,
    /// `[sandbox]`.
    pub sandbox: Sandbox,
    /// `[log]`.
    pub log: Log,
    /// `[shutdown]`.
    pub shutdown: Shutdown,
}

impl Config {
    /// Reads the file at `path` with this process's environment. Without a path: `ledgerhook.toml`, or the embedded
    /// defaults where there is none.
    ///
    /// # Errors
    ///
    /// Every fault of the file and the environment; also when the file cannot be read.
    pub fn load(path: Option<&Path>) -> Result<Self, Faults> {
        let file = path.unwrap_or(Path::new(USUAL_FILE));
        let origin = file.display().to_string();
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if path.is_none() && error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => {
                let what = format!("cannot be read: {error}");
                return Err(Faults(vec![Fault::of_file(&origin, None, what)]));
            }
        };
        // Not `vars`: it panics on the first variable that is not UTF-8, whosever it is.
        let mut overrides = Vec::new();
        for (name, value) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if !name.starts_with(tree::OVERRIDE_PREFIX) {
                continue;
            }
            match value.into_string() {
                Ok(value) => overrides.push((name, value)),
                Err(_) => return Err(Faults(vec![Fault::of_file(&name, None, "is not UTF-8".to_owned())])),
            }
        }
        Self::parse(&text, &origin, &|name| std::env::var(name).ok(), &overrides)
    }

    /// Reads `text`, a TOML file called `origin`. `env` answers for variables named in `env:` references; `overrides`
    /// are `LEDGERHOOK__SECTION__KEY` variables with their values.
    ///
    /// # Errors
    ///
    /// Every fault, in the order of the file, then of the variables. A text that is not TOML has its syntax faults
    /// alone.
    pub fn parse(
        text: &str,
        origin: &str,
        env: &dyn Fn(&str) -> Option<String>,
        overrides: &[(String, String)],
    ) -> Result<Self, Faults> {
        let cx = Context::new(env);
        let table = Self::layers(&cx, text, origin, overrides).map_err(Faults)?;
        let config = Self::read(&cx, origin, table);
        cx.conclude(config)
    }

    /// The embedded defaults: no sources, no targets.
    ///
    /// # Errors
    ///
    /// None in a program that passed its tests: the embedded files are read as any other.
    pub fn defaults() -> Result<Self, Faults> {
        Self::parse("", "defaults", &|_| None, &[])
    }

    /// The defaults, the file and the overrides, laid over one another.
    fn layers(cx: &Context<'_>, text: &str, origin: &str, overrides: &[(String, String)]) -> Result<Table, Vec<Fault>> {
        let mut table = presets::built_in(cx, "default.toml", DEFAULT_TOML);
        tree::overlay(&mut table, tree::parse(text, &Place::start_of(origin))?);
        // In order of names, so that a whole table comes before what stands in it.
        for (variable, value) in overrides.iter().collect::<BTreeSet<_>>() {
            let place = Place::Variable(Arc::from(variable.as_str()));
            if let Err((key, complaint)) = tree::put_override(&mut table, variable, value, &place) {
                cx.fault(&place, &key, complaint);
            }
        }
        Ok(table)
    }

    fn read(cx: &Context<'_>, origin: &str, table: Table) -> Self {
        let means_lake = lake::is_meant(&table);
        let listens = ["receiver", "admin"].map(|section| {
            let place = tree::place_of(&table, section, "listen").cloned();
            (place, format!("{section}.listen"))
        });
        let tls = tree::table_of(&table, "receiver").and_then(|receiver| tree::table_of(receiver, "tls"));
        let (says_tls, says_client_ca) = (tls.is_some(), tls.is_some_and(|tls| tls.contains_key("client_ca")));
        let mut r = Reader::root(cx, Place::start_of(origin), table);
        let receiver = Receiver::read(r.section("receiver"));
        let routes = Route::read_all(&mut r);
        let routed = routes.iter().map(|(_, _, route)| route.source.as_str()).collect();
        let client_ca = receiver.tls.as_ref().and_then(|tls| tls.client_ca.clone());
        let listener = Listener { says_tls, says_client_ca, client_ca };
        let (sources, complete) = Source::read_all(&mut r, &routed, &listener);
        // A source that could not be read may be the one that a route is for.
        if complete {
            route::check_owners(cx, &routes, &sources);
        }
        let config = Self {
            data_dir: PathBuf::from(r.text("data_dir", checks::some)),
            kafka: Kafka::read(r.section("kafka")),
            schema_registry: SchemaRegistry::read(r.section("schema_registry")),
            receiver,
            router: Router::read(r.section("router")),
            delivery: Delivery::read(r.section("delivery")),
            targets: Target::read_all(&mut r),
            lake: Lake::read(r.section("lake"), means_lake),
            admin: Admin::read(r.section("admin")),
            sandbox: Sandbox::read(r.section("sandbox")),
            log: Log::read(r.section("log")),
            shutdown: Shutdown::read(r.section("shutdown")),
            routes: routes.into_iter().map(|(_, _, route)| route).collect(),
            sources,
        };
        if config.receiver.listen == config.admin.listen && config.admin.listen.port() != 0 {
            // Places of the user's come first: the fault goes to what they wrote, not to a default it meets.
            if let Some((Some(place), key)) = listens.iter().min() {
                let complaint = Complaint::new("`receiver.listen` and `admin.listen` are the same address");
                cx.fault(place, key, complaint.hint("each has a port of its own"));
            }
        }
        r.finish();
        config
    }
}
