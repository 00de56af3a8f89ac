//! Every preset with every event of both providers: the requests it makes, word by word.
//!
//! What a preset is given stands in `presets/<preset>.toml`, what it makes of an event in
//! `presets/<preset>/<provider>.<event type>.txt`. `LEDGERHOOK_BLESS=1` writes the latter anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ledgerhook::config::{Config, target_presets};
use ledgerhook::event::{Envelope, Evidence, Origin, Record, Sha256, Timestamp};
use ledgerhook::router::mapping::Mapper;
use ledgerhook::simulate::fixtures::FIXTURES;
use ledgerhook::targets::Client;

const CANARY: &str = "canary-4711";

/// One record of each event type of both providers.
pub(crate) fn records() -> Vec<(String, Record)> {
    let routes = Config::defaults().unwrap().routes;
    let mapper = Mapper::new([("accelex", "accelex"), ("accbooks", "accbooks")], &routes).unwrap();
    let record = |fixture: &ledgerhook::simulate::fixtures::Fixture| {
        let event = fixture.template().unwrap().event(0, 0);
        let envelope = Envelope {
            event_id: event.id.clone(),
            source: fixture.provider.to_owned(),
            event_type: fixture.event_type.to_owned(),
            occurred_at: Some(Timestamp::from_micros(1_777_593_600_000_000)),
            received_at: Timestamp::from_micros(1_777_593_601_000_000),
            content_type: None,
            body_sha256: Sha256::of(&event.body),
            body: event.body.into(),
            unusable: None,
            test: None,
            evidence: Evidence::absent(),
            origin: Origin::Live,
        };
        (format!("{}.{}", fixture.provider, fixture.event_type), mapper.map(&envelope).unwrap())
    };
    FIXTURES.iter().map(record).collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/targets/presets")
}

/// The preset as its file here configures it.
pub(crate) fn config(preset: &str, url: Option<&str>) -> Config {
    let path = folder().join(format!("{preset}.toml"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut overrides = Vec::new();
    if let Some(url) = url {
        overrides.push(("LEDGERHOOK__TARGETS__T__URL".to_owned(), url.to_owned()));
        overrides.push(("LEDGERHOOK__TARGETS__T__ALLOW_PRIVATE_ADDRESSES".to_owned(), "true".to_owned()));
    }
    let folder = std::env::temp_dir();
    let text = text.replace("$TEMP", folder.to_str().unwrap());
    let env = |name: &str| Some(if name == "SIGNING" { "whsec_Y2FuYXJ5LTQ3MTE=" } else { CANARY }.to_owned());
    drop(rustls::crypto::ring::default_provider().install_default());
    Config::parse(&text, &path.display().to_string(), &env, &overrides).unwrap_or_else(|faults| panic!("{faults}"))
}

#[test]
fn every_preset_makes_the_requests_that_are_written_down() {
    let bless = std::env::var_os("LEDGERHOOK_BLESS").is_some();
    let mut faults = Vec::new();
    for preset in target_presets() {
        let config = config(preset, None);
        let target = &config.targets["t"];
        let client = Client::new(target).unwrap_or_else(|error| panic!("{preset}: {error}"));
        let taken: Vec<&str> = target.description.records.keys().map(String::as_str).collect();
        assert_eq!(target.records, taken, "{preset}: its file here takes all it can");
        for (name, record) in records() {
            if !taken.contains(&record.topic()) {
                continue;
            }
            let text = match client.show(&Arc::new(record)) {
                Ok((shown, notes)) => {
                    let texts =
                        shown.iter().map(|shown| format!("== {}\n{}\n", shown.name, client.text_of(&shown.request)));
                    texts.chain(notes.iter().map(|note| format!("== {note}\n"))).collect::<String>()
                }
                Err(error) => format!("refused: {error}\n"),
            };
            assert!(!text.contains(CANARY), "{preset} {name}");
            let path = folder().join(preset).join(format!("{name}.txt"));
            if bless {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, &text).unwrap();
            }
            let written = std::fs::read_to_string(&path).unwrap_or_default();
            if written != text {
                faults.push(format!("{} is not what is made:\n{text}", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_preset_says_what_it_was_proved_on_and_has_its_page() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let index = std::fs::read_to_string(root.join("docs/targets/README.md")).unwrap();
    for preset in target_presets() {
        let text = std::fs::read_to_string(root.join(format!("config/targets/{preset}.toml"))).unwrap();
        assert!(text.starts_with("# Proved on: "), "{preset}");
        let description = &config(preset, None).targets["t"].description;
        let unproved = text.starts_with("# Proved on: nothing");
        assert_eq!(description.experimental, unproved, "{preset}");
        let page = std::fs::read_to_string(root.join(format!("docs/targets/{preset}.md"))).unwrap_or_default();
        for part in ["## What it needs", "## What it creates", "## No second ", "## Limits", "## How to test"] {
            assert!(page.contains(part), "docs/targets/{preset}.md has no {part}");
        }
        for name in description.settings.keys().chain(description.secrets.keys()) {
            assert!(page.contains(&format!("`{name}`")), "docs/targets/{preset}.md does not name {name}");
        }
        let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap_or_default();
        let read = Config::parse(example, "example", &|_| Some(CANARY.to_owned()), &[])
            .unwrap_or_else(|faults| panic!("{preset}: {faults}"));
        assert_eq!(read.targets.values().next().unwrap().description.name, preset);
        assert!(index.contains(&format!("({preset}.md)")), "docs/targets/README.md does not name {preset}");
    }
}

#[test]
fn an_experimental_preset_has_to_be_switched_on_by_name() {
    let text = std::fs::read_to_string(folder().join("xero.toml")).unwrap().replace("experimental = true\n", "");
    let faults = Config::parse(&text, "t.toml", &|_| Some(CANARY.to_owned()), &[]).unwrap_err().to_string();
    assert_eq!(faults.lines().count(), 1, "{faults}");
    assert!(faults.contains("targets.t.experimental: is missing: preset `xero` never met a real system"), "{faults}");
}

#[test]
fn every_missing_setting_is_named_at_once_with_what_it_is_for() {
    let text = "[targets.t]\npreset = \"zendesk\"\nrecords = [\"invoices\"]\nstart = \"now\"\nsettings.group_id = \"x\"\nsettings.grop_id = 1\n";
    let faults = Config::parse(text, "t.toml", &|_| None, &[]).unwrap_err().to_string();
    for part in [
        "targets.t.settings.user: is missing; E-mail address of the agent",
        "targets.t.settings.group_id: is text, where a whole number is expected",
        "targets.t.settings.grop_id: is not one of the preset's; did you mean",
        "targets.t.secrets.api_token: is missing; API token",
        "targets.t.url: is missing",
        "preset `zendesk` does not take `invoices`; it takes cases, compliance, reviews",
    ] {
        assert!(faults.contains(part), "{part}\n{faults}");
    }
}

/// The bodies of the requests that a preset makes of a record, as JSON where they are.
fn bodies(preset: &str, record: &Record) -> Result<Vec<serde_json::Value>, String> {
    let config = config(preset, None);
    let client = Client::new(&config.targets["t"]).unwrap();
    let (shown, _) = client.show(&Arc::new(record.clone())).map_err(|error| error.to_string())?;
    let bodies = shown.iter().filter(|shown| shown.request.body.starts_with(b"{"));
    Ok(bodies.map(|shown| serde_json::from_slice(&shown.request.body).unwrap()).collect())
}

#[test]
fn no_text_breaks_out_of_its_field() {
    const HOSTILE: &str = "\"},\"x\":1,' OR ''='\\\r\n\t\u{0}</a>\u{202e}{{ 7*7 }}{% raw %}{api_token}🙂";
    let hostile = |value: &mut Option<String>| *value = Some(HOSTILE.to_owned());
    for preset in target_presets() {
        let taken = config(preset, None).targets["t"].records.clone();
        for (name, mut record) in records() {
            if !taken.iter().any(|topic| topic == record.topic()) {
                continue;
            }
            match &mut record {
                Record::Invoice(r) => {
                    r.lines.iter_mut().for_each(|line| hostile(&mut line.description));
                    r.supplier.iter_mut().for_each(|supplier| hostile(&mut supplier.name));
                }
                Record::Contract(r) => [&mut r.title, &mut r.counterparty].into_iter().for_each(hostile),
                Record::Case(r) => [&mut r.subject, &mut r.summary, &mut r.message].into_iter().for_each(hostile),
                Record::Compliance(r) => hostile(&mut r.subject),
                Record::Review(r) => [&mut r.reason, &mut r.failed_stage].into_iter().for_each(hostile),
                Record::Transaction(r) => hostile(&mut r.description),
                Record::Feed(r) => hostile(&mut r.bank),
            }
            let plain = records().into_iter().find(|(known, _)| *known == name).unwrap().1;
            let (Ok(hostile), Ok(plain)) = (bodies(preset, &record), bodies(preset, &plain)) else { continue };
            assert_eq!(hostile.len(), plain.len());
            for (hostile, plain) in hostile.iter().zip(&plain) {
                assert_eq!(shape(hostile), shape(plain), "{preset} {name}");
                // Whole texts are whole: nothing in them was taken for a template or a secret's place.
                let (faces, as_is) = (hostile.to_string(), "{{ 7*7 }}{% raw %}{api_token}🙂");
                assert_eq!(faces.matches('🙂').count(), faces.matches(as_is).count(), "{preset} {name}");
            }
        }
    }
}

/// A value without its texts: members that hang on whether a text is there are the same in both.
fn shape(value: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(members) => members
            .iter()
            // A webhook's body is the record itself.
            .filter(|(_, member)| !member.is_null())
            .map(|(name, member)| (name.clone(), shape(member)))
            .filter(|(name, _)| {
                !["subject", "summary", "message", "reason", "failed_stage", "description", "bank"]
                    .contains(&name.as_str())
            })
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::String(_) => Value::Null,
        other => other.clone(),
    }
}

#[test]
fn amounts_are_never_rounded() {
    let (_, Record::Invoice(invoice)) =
        records().into_iter().find(|(name, _)| name == "accelex.invoice.resolved").unwrap()
    else {
        panic!("not an invoice")
    };
    for preset in ["xero", "quickbooks", "netsuite", "business-central", "odoo", "erpnext", "sap-s4hana"] {
        let mut fine = invoice.clone();
        fine.lines.clear();
        fine.total_amount = Some("1234567890123456789.10".parse().unwrap());
        let bodies_of = |invoice: &ledgerhook::event::InvoiceRecord| bodies(preset, &Record::from(invoice.clone()));
        let shown = bodies_of(&fine).unwrap().iter().map(ToString::to_string).collect::<String>();
        assert!(shown.contains("1234567890123456789.10"), "{preset}: {shown}");
        fine.total_amount = Some("12.345".parse().unwrap());
        let refused = bodies_of(&fine).unwrap_err();
        assert!(refused.contains("12.345 has more decimals than the 2 that the target takes"), "{preset}: {refused}");
        fine.total_amount = None;
        let refused = bodies_of(&fine).unwrap_err();
        assert!(refused.contains("the record has no total amount"), "{preset}: {refused}");
        fine.total_amount = Some("1".parse().unwrap());
        fine.currency = None;
        assert!(bodies_of(&fine).is_err(), "{preset}");
    }
}
