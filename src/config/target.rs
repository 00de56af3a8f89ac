//! `[targets.<name>]`: where records go.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value as Json;

use super::checks;
use super::description::{Auth, Description, Grant, IdempotencyClass, read_secrets, read_settings};
use super::fault::{Complaint, Place};
use super::presets::{self, Described};
use super::reader::{Reader, not};
use super::secret::Secret;
use super::tree::{Node, Value};

/// A system of record.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The table's name: part of topics' names, of metric labels and of keys.
    pub name: String,
    /// What kind of system it is.
    pub description: Arc<Description>,
    /// The record topics it takes, out of [`RECORD_TOPICS`](super::RECORD_TOPICS); at least one, none twice, in
    /// alphabetical order.
    pub records: Vec<String>,
    /// Which of their records go to it: an expression over the record; none for all.
    pub filter: Option<String>,
    /// Where it begins when it has no position yet.
    pub start: Start,
    /// Where requests go, http or https. Shown in logs and metrics: it holds no user, password or token.
    pub url: String,
    /// Whether it may stand at a private, loopback or link-local address.
    pub allow_private_addresses: bool,
    /// The proxy that all requests to it go by, an http URL without a path; none for straight to the target.
    pub proxy: Option<String>,
    /// User and password at the proxy, as `user:password`.
    pub proxy_login: Option<Secret>,
    /// What the description's templates ask for, by name; null where it may be left out and is.
    pub settings: BTreeMap<String, Json>,
    /// The secrets that the description names.
    pub secrets: BTreeMap<String, Secret>,
    /// File that keeps the newest refresh token; always there where the description has one.
    pub token_file: Option<PathBuf>,
    /// How long the target may still act on a request whose answer was lost.
    pub settle: Duration,
    /// When a failed attempt is repeated, and for how long.
    pub retry: Retry,
    /// What becomes of a record that is given up.
    pub on_give_up: OnGiveUp,
    /// What becomes of a record that is older than one of its entity that the target has had.
    pub on_stale: OnStale,
    /// Longest wait for a whole answer, from the beginning of the attempt.
    pub timeout: Duration,
    /// Longest wait for the connection; part of `timeout`.
    pub connect_timeout: Duration,
    /// Records under way at the target at one time, in all instances together. Each instance with partitions of the
    /// target may have one, so it holds where no more instances deliver than this.
    pub max_concurrency: usize,
    /// Records sent whose end is not committed yet, in all instances together: what a crash repeats at most. Not below
    /// `max_concurrency`.
    pub max_unsettled: usize,
    /// How fast requests may be made, in all instances together; none for as fast as they come. No time as long as the
    /// limit's has more of them.
    pub rate_limit: Option<RateLimit>,
    /// TLS beyond the usual.
    pub tls: TargetTls,
}

/// Certificates of a target that is not of the public web; PEM each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TargetTls {
    /// Authorities that its certificate may come from, in place of the system's.
    pub ca: Option<Secret>,
    /// Our certificate with its chain.
    pub client_certificate: Option<Secret>,
    /// The key of our certificate.
    pub client_key: Option<Secret>,
}

/// Most requests in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// How many.
    pub requests: u32,
    /// In which time.
    pub per: Duration,
}

/// Where a new target begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what is recorded from now on.
    Now,
    /// With the oldest record there is.
    Earliest,
    /// With the first record of this time or later.
    At(Timestamp),
}

/// Repeats of failed attempts: exponential from `first` to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Wait before the first repeat.
    pub first: Duration,
    /// Longest wait between two attempts.
    pub max: Duration,
    /// Time from the first attempt after which the record is given up.
    pub give_up_after: Duration,
}

/// What becomes of a record that is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnGiveUp {
    /// It becomes a dead letter, and the entity's next record is tried.
    DeadLetter,
    /// The entity stays parked until an operator decides.
    Hold,
}

/// What becomes of a record that is older, by the provider's clock, than one of its entity that the target has had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStale {
    /// It ends as filtered.
    Skip,
    /// It is delivered as any other.
    Deliver,
}

const ON_STALE: [(&str, OnStale); 2] = [("skip", OnStale::Skip), ("deliver", OnStale::Deliver)];
const GIVE_UPS: [(&str, OnGiveUp); 2] = [("dead_letter", OnGiveUp::DeadLetter), ("hold", OnGiveUp::Hold)];

const SECOND: Duration = Duration::from_secs(1);

impl Target {
    /// Reads all of `[targets]`.
    pub(super) fn read_all(root: &mut Reader<'_>) -> BTreeMap<String, Self> {
        let mut targets = BTreeMap::new();
        for (name, place, table) in root.named("targets") {
            let path = root.path_of(&format!("targets.{name}"));
            if let Err(complaint) = checks::name(&name) {
                root.cx.fault(&place, &path, complaint);
            }
            if let Some(described) = presets::describe(root.cx, &path, &name, &place, table) {
                let target = Self::read(root, &name, place, described);
                targets.insert(name, target);
            }
        }
        targets
    }

    fn read(root: &Reader<'_>, name: &str, place: Place, described: Described) -> Self {
        let Described { preset, place: described_at, description, table } = described;
        let r = Reader::of_description(root.cx, described_at, description);
        let description = Description::read(r, &preset);
        Self::read_user(root.entry("targets", name, place, table), name, description)
    }

    fn read_user(mut r: Reader<'_>, name: &str, description: Description) -> Self {
        if !r.has("start") {
            r.missing("start", "\"now\", \"earliest\" or a time: a new target must say where it begins");
        }
        if !r.has("records") {
            r.missing("records", "the record topics it takes, as in records = [\"invoices\"]");
        }
        // The preset was followed before; its key is known here.
        r.optional_text("preset", checks::some);
        agreed(&mut r, &description);
        let signing_secret = r.optional_secret("signing_secret");
        let max_concurrency: usize = r.number("max_concurrency", 1..=1_000);
        let max_unsettled: usize =
            if r.has("max_unsettled") { r.number("max_unsettled", 1..=10_000) } else { max_concurrency };
        if r.clean("max_concurrency") && r.clean("max_unsettled") && max_unsettled < max_concurrency {
            let what = "`max_unsettled` is less than `max_concurrency`: what is under way is not settled yet";
            r.fault_between("max_unsettled", "max_concurrency", Complaint::new(what));
        }
        let said = if r.has("on_stale") { r.choice("on_stale", &ON_STALE) } else { None };
        let target = Self {
            name: name.to_owned(),
            records: records(&mut r, &description),
            filter: r.optional_text("filter", checks::some),
            start: r.take("start", "", start).unwrap_or(Start::Now),
            url: r.text("url", checks::url),
            allow_private_addresses: r.flag("allow_private_addresses"),
            proxy: r.optional_text("proxy", checks::proxy),
            proxy_login: r.optional_secret("proxy_login"),
            settings: read_settings(&mut r, &description.settings),
            secrets: read_secrets(&mut r, &description.secrets, signing_secret),
            token_file: r.optional_text("token_file", checks::some).map(PathBuf::from),
            settle: r.duration("settle", Duration::ZERO..=3_600 * SECOND),
            retry: Retry::read(r.section("retry")),
            on_give_up: r.choice("on_give_up", &GIVE_UPS).unwrap_or(OnGiveUp::DeadLetter),
            on_stale: said.unwrap_or(match description.idempotency.class {
                // An upsert would write what is old over what is new; elsewhere each record has a document of its own.
                IdempotencyClass::Upsert => OnStale::Skip,
                _ => OnStale::Deliver,
            }),
            timeout: r.duration("timeout", 100 * SECOND / 1_000..=600 * SECOND),
            connect_timeout: r.duration("connect_timeout", 100 * SECOND / 1_000..=60 * SECOND),
            max_concurrency,
            max_unsettled,
            rate_limit: r.optional_section("rate_limit").map(RateLimit::read),
            tls: r.optional_section("tls").map(TargetTls::read).unwrap_or_default(),
            description: Arc::new(description),
        };
        let rotates =
            matches!(&target.description.auth, Auth::OAuth(oauth) if matches!(oauth.grant, Grant::RefreshToken(_)));
        if rotates && target.token_file.is_none() && !r.spoilt("token_file") {
            r.missing(
                "token_file",
                "a file of its own that this process may write: the target changes the refresh token",
            );
        }
        if target.proxy_login.is_some() && target.proxy.is_none() && !r.spoilt("proxy") {
            r.fault("proxy_login", Complaint::new("is there without `proxy`"));
        }
        if r.clean("timeout") && r.clean("connect_timeout") && target.connect_timeout > target.timeout {
            r.fault_between("connect_timeout", "timeout", Complaint::new("`connect_timeout` is longer than `timeout`"));
        }
        r.finish();
        target
    }
}

impl TargetTls {
    fn read(mut r: Reader<'_>) -> Self {
        for (one, other) in [("client_certificate", "client_key"), ("client_key", "client_certificate")] {
            if r.has(one) && !r.has(other) {
                r.missing(other, "a certificate and its key go together");
            }
        }
        let tls = Self {
            ca: r.optional_secret("ca"),
            client_certificate: r.optional_secret("client_certificate"),
            client_key: r.optional_secret("client_key"),
        };
        r.finish();
        tls
    }
}

impl RateLimit {
    fn read(mut r: Reader<'_>) -> Self {
        let limit = Self {
            requests: r.number("requests", 1..=1_000_000),
            per: r.duration("per", SECOND..=24 * 3_600 * SECOND),
        };
        r.finish();
        limit
    }
}

impl Retry {
    fn read(mut r: Reader<'_>) -> Self {
        let retry = Self {
            first: r.duration("first", SECOND / 10..=3_600 * SECOND),
            max: r.duration("max", SECOND / 10..=24 * 3_600 * SECOND),
            give_up_after: r.duration("give_up_after", SECOND..=365 * 24 * 3_600 * SECOND),
        };
        for (low, high, fits) in
            [("first", "max", retry.first <= retry.max), ("max", "give_up_after", retry.max <= retry.give_up_after)]
        {
            if r.clean(low) && r.clean(high) && !fits {
                r.fault_between(low, high, Complaint::new(format!("`{low}` is longer than `{high}`")));
            }
        }
        r.finish();
        retry
    }
}

/// Whoever uses what was never tried has to say so.
fn agreed(r: &mut Reader<'_>, description: &Description) {
    let agrees = r.optional_flag("experimental");
    if description.experimental && !agrees && !r.spoilt("experimental") {
        let what = format!(
            "is missing: preset `{}` never met a real system or its maker's own description of it",
            description.name
        );
        r.fault("experimental", Complaint::new(what).hint("`experimental = true` says that you try it all the same"));
    }
}

fn records(r: &mut Reader<'_>, description: &Description) -> Vec<String> {
    if !r.has("records") {
        return Vec::new();
    }
    let taken: Vec<&str> = description.records.keys().map(String::as_str).collect();
    let mut records = r.items("records", |text| {
        checks::record_topic(text)?;
        if taken.is_empty() || taken.contains(&text) {
            return Ok(text.to_owned());
        }
        let complaint = Complaint::new(format!("preset `{}` does not take `{text}`", description.name));
        Err(complaint.hint(format!("it takes {}", taken.join(", "))))
    });
    if r.clean("records") && records.is_empty() {
        r.fault("records", Complaint::new("is empty: nothing would ever go there"));
    }
    records.sort_unstable();
    let named = records.len();
    records.dedup();
    if records.len() < named {
        r.fault("records", Complaint::new("names a topic twice"));
    }
    records
}

fn start(node: Node) -> Result<Start, Complaint> {
    let text = match node.value {
        Value::Text(text) | Value::Time(text) => text,
        other => return Err(not("text or a time", &other)),
    };
    match text.as_str() {
        "now" => Ok(Start::Now),
        "earliest" => Ok(Start::Earliest),
        time => time.parse().map(Start::At).map_err(|_| {
            Complaint::new("is not a place to start")
                .hint("\"now\", \"earliest\", or a time with its zone such as \"2026-05-01T00:00:00Z\"")
        }),
    }
}
