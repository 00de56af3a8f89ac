//! `[sources.<name>]`: who sends, how it proves itself, and where in the body id, type and time stand.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::checks;
use super::fault::{Complaint, Place, did_you_mean};
use super::presets::SOURCES;
use super::ranges::{self, IpRanges};
use super::reader::Reader;
use super::scheme::{KeyForm, Scheme};
use super::secret::Secret;
use super::tls::{ClientAuth, ClientCa};
use super::units;

/// A quarter of the 4 MiB that topics and producers allow: the body must fit again as record, quarantine and
/// dead letter, where it stands escaped and beside its attempts.
const MAX_BODY: u64 = 1 << 20;

/// Retry schedules are for reports and the provider simulator; no provider repeats an event more often.
const MAX_RETRIES: usize = 1_000;

/// A provider of webhooks.
#[derive(Clone, Debug)]
pub struct Source {
    /// The table's name: part of the topics' names, of record keys and of metric labels.
    pub name: String,
    /// The preset it was laid on.
    pub preset: String,
    /// Path that the provider posts to. No two sources share one.
    pub path: String,
    /// How a request is signed.
    pub scheme: Scheme,
    /// Keys, any of which may match; at least one, and at least one that is not `verify_only`.
    pub secrets: Vec<SourceSecret>,
    /// Largest body in bytes.
    pub max_body: u64,
    /// The provider gives up one attempt after this long.
    pub deadline: Duration,
    /// Part of the deadline, in percent, for which a request waits for Kafka.
    pub ack_budget_percent: u8,
    /// Waits between the provider's attempts, in order; it gives an event up after the last.
    pub retry_schedule: Vec<Duration>,
    /// JSON pointers of the event's id; the first that leads to something counts. Empty only beside `id_header`.
    pub id: Vec<String>,
    /// The header with the id, where no pointer leads to one.
    pub id_header: Option<String>,
    /// JSON pointers of the event's type, likewise.
    pub event_type: Vec<String>,
    /// The header with the type, likewise.
    pub type_header: Option<String>,
    /// JSON pointers of the event's time, likewise; may be empty.
    pub time: Vec<String>,
    /// How that time is written.
    pub time_format: TimeFormat,
    /// Types of test events: exact, or with one `*` at the beginning or end that stands for anything.
    pub test_types: Vec<String>,
    /// A member that marks an event as a test, whatever its type.
    pub test_when: Option<TestWhen>,
    /// Whose routes apply: the `source` of [`Route`](super::Route).
    pub routes: String,
    /// Where requests may come from; none: from anywhere.
    pub addresses: Option<IpRanges>,
    /// What is asked of the client's certificate; none: it needs none.
    pub client: Option<ClientAuth>,
}

/// Ways in which a body writes the event's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeFormat {
    /// Text as in RFC 3339.
    Rfc3339,
    /// A number of whole seconds since 1970.
    Unix,
}

const TIME_FORMATS: [(&str, TimeFormat); 2] = [("rfc3339", TimeFormat::Rfc3339), ("unix", TimeFormat::Unix)];

/// A key that signs requests.
#[derive(Clone, Debug)]
pub struct SourceSecret {
    /// Its name in metrics and evidence; unique within the source.
    pub id: String,
    /// The key as the scheme's HMAC takes it.
    pub value: Secret,
    /// Retired: accepts no request any more, and still proves stored evidence.
    pub verify_only: bool,
    /// What it signs is a test, whatever its type.
    pub test: bool,
}

/// Marks events in which a member has a value as tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestWhen {
    /// JSON pointer of the member.
    pub pointer: String,
    /// The value: the string itself, or the JSON text of any other scalar (`true`, `1`).
    pub equals: String,
}

/// What `[receiver.tls]` means to every source.
pub(super) struct Listener {
    /// It is there, perhaps with faults.
    pub(super) says_tls: bool,
    /// It has a `client_ca`, perhaps with faults.
    pub(super) says_client_ca: bool,
    /// The authority of sources that name none themselves.
    pub(super) client_ca: Option<ClientCa>,
}

impl Source {
    /// How long a request waits for Kafka before the event takes another way.
    pub fn ack_budget(&self) -> Duration {
        self.deadline * u32::from(self.ack_budget_percent) / 100
    }

    /// Reads all of `[sources]`, and says whether none had to be left out. `routed` are the names that routes exist for.
    pub(super) fn read_all(
        root: &mut Reader<'_>,
        routed: &BTreeSet<&str>,
        listener: &Listener,
    ) -> (BTreeMap<String, Self>, bool) {
        let mut sources = BTreeMap::new();
        let mut complete = true;
        let mut paths: BTreeMap<String, String> = BTreeMap::new();
        for (name, place, table) in root.named("sources") {
            let path = root.path_of(&format!("sources.{name}"));
            if let Err(complaint) = checks::name(&name) {
                root.cx.fault(&place, &path, complaint);
            }
            let Some(table) = SOURCES.under(root.cx, &path, &name, &place, table) else {
                complete = false;
                continue;
            };
            let source = Self::read(root.entry("sources", &name, place, table), &name, routed, listener, &mut paths);
            sources.insert(name, source);
        }
        (sources, complete)
    }

    fn read(
        mut r: Reader<'_>,
        name: &str,
        routed: &BTreeSet<&str>,
        listener: &Listener,
        paths: &mut BTreeMap<String, String>,
    ) -> Self {
        let preset = r.text("preset", checks::some);
        let by_default = if routed.contains(preset.as_str()) { &preset } else { name };
        let said_routes = r.optional_text("routes", checks::some);
        if let Some(said) = said_routes.as_deref().filter(|said| !routed.contains(said)) {
            let complaint = Complaint::new(format!("no route is there for `{said}`"));
            r.fault("routes", complaint.maybe_hint(did_you_mean(said, routed.iter().copied())));
        }
        let scheme = Scheme::read(r.section("scheme"));
        let secrets = secrets(&mut r, scheme.key);
        let source = Self {
            routes: said_routes.unwrap_or_else(|| by_default.to_owned()),
            name: name.to_owned(),
            preset,
            path: r.text("path", http_path),
            scheme,
            secrets,
            max_body: r.size("max_body", 1..=MAX_BODY, "four times the body must fit Kafka's 4MiB"),
            deadline: r.duration("deadline", Duration::from_secs(1)..=Duration::from_secs(300)),
            // The rest of the deadline is for the network, for reading the body and for the other way to be durable.
            ack_budget_percent: r.number("ack_budget_percent", 5..=80),
            retry_schedule: retry_schedule(&mut r),
            id: r.texts("id", checks::inner_pointer),
            event_type: r.texts("type", checks::inner_pointer),
            time: r.texts("time", checks::inner_pointer),
            id_header: r.optional_text("id_header", checks::header),
            type_header: r.optional_text("type_header", checks::header),
            time_format: r.choice("time_format", &TIME_FORMATS).unwrap_or(TimeFormat::Rfc3339),
            test_types: r.texts("test_types", test_type),
            test_when: r.optional_section("test_when").map(TestWhen::read),
            addresses: addresses(&mut r),
            client: client(&mut r, listener),
        };
        source.check_places(&mut r);
        if let Some(other) = paths.get(&source.path).filter(|_| !source.path.is_empty()) {
            r.fault(
                "path",
                Complaint::new(format!("is the path of source `{other}` too")).hint("each source has its own"),
            );
        }
        paths.entry(source.path.clone()).or_insert_with(|| name.to_owned());
        r.finish();
        source
    }

    /// Id and type are somewhere, and where a sender could change them, that was said.
    fn check_places(&self, r: &mut Reader<'_>) {
        let may_be_unsigned = r.flag("unsigned_headers");
        for (key, pointers, header_key, header) in [
            ("id", &self.id, "id_header", &self.id_header),
            ("type", &self.event_type, "type_header", &self.type_header),
        ] {
            let Some(header) = header else {
                if r.clean(key) && pointers.is_empty() && !r.spoilt(header_key) {
                    r.fault(key, Complaint::new("names no pointer").hint(format!("as in {key} = [\"/{key}\"]")));
                }
                continue;
            };
            let is_signed = self.scheme.signed_headers().any(|signed| signed.eq_ignore_ascii_case(header));
            if !is_signed && !may_be_unsigned {
                let what = "is not signed: whoever holds one signed body can send it with any value there";
                let hint = "sign it (`scheme.id_header`), or accept that with `unsigned_headers = true`";
                r.fault(header_key, Complaint::new(what).hint(hint));
            }
        }
    }
}

impl TestWhen {
    fn read(mut r: Reader<'_>) -> Self {
        let when = Self { pointer: r.text("pointer", checks::inner_pointer), equals: r.text("equals", |_| Ok(())) };
        r.finish();
        when
    }
}

impl SourceSecret {
    fn read(mut r: Reader<'_>, form: KeyForm) -> (Place, Self) {
        let secret = Self {
            id: r.text("id", secret_id),
            value: r.key("value", form),
            verify_only: r.optional_flag("verify_only"),
            test: r.optional_flag("test"),
        };
        let place = r.place().clone();
        r.finish();
        (place, secret)
    }
}

fn secrets(r: &mut Reader<'_>, form: KeyForm) -> Vec<SourceSecret> {
    let example = "secrets = [{ id = \"2026-11\", value = \"env:NAME\" }]";
    if !r.has("secrets") {
        r.missing("secrets", &format!("as in {example}"));
        return Vec::new();
    }
    let rows = r.rows("secrets");
    if r.clean("secrets") && rows.is_empty() {
        r.fault("secrets", Complaint::new("is empty").hint(format!("as in {example}")));
    }
    let mut ids = BTreeSet::new();
    let mut secrets = Vec::new();
    for (index, row) in rows.into_iter().enumerate() {
        let (place, secret) = SourceSecret::read(row, form);
        if !secret.id.is_empty() && !ids.insert(secret.id.clone()) {
            let path = r.path_of(&format!("secrets[{index}].id"));
            r.cx.fault(&place, &path, Complaint::new(format!("`{}` is there twice", secret.id)));
        }
        secrets.push(secret);
    }
    if !secrets.is_empty() && secrets.iter().all(|secret| secret.verify_only) {
        r.fault("secrets", Complaint::new("are all `verify_only`: no request could be accepted"));
    }
    secrets
}

/// The ranges, where they are to be checked.
fn addresses(r: &mut Reader<'_>) -> Option<IpRanges> {
    let checked = r.flag("allow_ips");
    let ranges = IpRanges::new(r.items("ip_ranges", ranges::range));
    if checked && ranges.is_empty() && r.clean("ip_ranges") {
        r.fault("allow_ips", Complaint::new("is on, and `ip_ranges` is empty: no request could be accepted"));
    }
    checked.then_some(ranges)
}

/// What is asked of the client's certificate, by the source's own authority or the receiver's.
fn client(r: &mut Reader<'_>, listener: &Listener) -> Option<ClientAuth> {
    let says_ca = r.has("client_ca");
    let own = ClientCa::read(r);
    let names = r.texts("client_names", checks::some);
    if says_ca && !listener.says_tls {
        let complaint = Complaint::new("needs TLS: without it no client shows a certificate");
        r.fault("client_ca", complaint.hint("add [receiver.tls]"));
    }
    if !names.is_empty() && !says_ca && !listener.says_client_ca {
        let complaint = Complaint::new("has no authority that would prove a name");
        r.fault("client_names", complaint.hint("add `client_ca` here or in [receiver.tls]"));
    }
    let ca = own.or_else(|| listener.client_ca.clone());
    Some(ClientAuth { ca: ca?, names })
}

/// The waits as listed; `retry_until` repeats the last one for as long as the sum stays within it.
fn retry_schedule(r: &mut Reader<'_>) -> Vec<Duration> {
    let mut schedule = r.items("retry_schedule", units::duration);
    let until = r.optional_duration("retry_until", Duration::from_secs(1)..=Duration::from_secs(30 * 86_400));
    let (Some(until), Some(last)) = (until, schedule.last().copied()) else {
        return schedule;
    };
    let mut sum = schedule.iter().fold(Duration::ZERO, |sum, wait| sum.saturating_add(*wait));
    while sum.saturating_add(last) <= until {
        if schedule.len() == MAX_RETRIES {
            let complaint = Complaint::new(format!("makes more than {MAX_RETRIES} attempts"));
            r.fault("retry_until", complaint.hint("a longer last wait, or a shorter `retry_until`"));
            break;
        }
        sum = sum.saturating_add(last);
        schedule.push(last);
    }
    schedule
}

fn secret_id(text: &str) -> Result<(), Complaint> {
    let inside = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if !text.is_empty() && text.len() <= 63 && text.bytes().all(inside) {
        return Ok(());
    }
    // Not quoted: it may be the secret, in the wrong place.
    Err(Complaint::new("is not a usable id").hint("up to 63 of letters, digits, `.`, `_`, `-`"))
}

fn http_path(text: &str) -> Result<(), Complaint> {
    let inside = |b: u8| b.is_ascii_alphanumeric() || b"/._~-".contains(&b);
    if !text.starts_with('/') || !text.bytes().all(inside) {
        return Err(Complaint::new("is not a path").hint("as in \"/api/accelex/webhook\": letters, digits, `/._~-`"));
    }
    if ["/healthz", "/readyz"].contains(&text) {
        return Err(Complaint::new("is the receiver's own"));
    }
    Ok(())
}

fn test_type(text: &str) -> Result<(), Complaint> {
    checks::some(text)?;
    let stars = text.matches('*').count();
    if stars == 0 || (stars == 1 && (text.starts_with('*') || text.ends_with('*'))) {
        return Ok(());
    }
    Err(Complaint::new("is not a pattern").hint("one `*`, at the beginning or end, as in \"*.test\""))
}
