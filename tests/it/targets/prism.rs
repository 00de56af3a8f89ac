//! What the presets send, judged by the vendors' own API descriptions: Prism answers as those say, and refuses a request that
//! they do not allow. The descriptions are the vendors', and not part of this project: without the folder that
//! `LEDGERHOOK_VENDOR_SPECS` names, these tests say so and pass.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::io::Write as _;
use std::sync::Arc;

use ledgerhook::event::Timestamp;
use ledgerhook::simulate::fixtures::FIXTURES;
use serde_json::{Value, json};

use crate::common::cutting::Cutting;
use crate::common::not_tested;
use crate::common::real::{http, real};
use crate::common::records::try_record;

/// Texts that break what is pasted rather than built.
const TEXTS: [&str; 9] = [
    "\"}],{\\",
    "a\nb\r\nc\td",
    "🧾💷 é",
    "\u{202e}evil\u{202c} \u{200f}x",
    "{{ 7 * 7 }}{% raw %}",
    "'; DROP TABLE x; --",
    "\u{1}\u{7f}\u{85}",
    " ",
    "",
];
const NUMBERS: [&str; 6] =
    ["0", "-0.000000001", "99999999999999999999999999999.999999999", "-99999999999999999999999999999", "1e3", "0.10"];

/// Every event of the simulator whose record goes to this target, as it is and with one edge value in all of its places.
fn members_of(event_type: &str) -> Vec<Value> {
    let fixture = FIXTURES.iter().find(|fixture| fixture.event_type == event_type).unwrap();
    let event: Value = serde_json::from_slice(&fixture.template().unwrap().event(7, 0).body).unwrap();
    let whole = event.get("outcome").or_else(|| event.get("data")).unwrap().clone();
    let long = "x".repeat(70_000);
    let mut all = vec![whole.clone(), json!({})];
    for text in TEXTS.iter().copied().chain([long.as_str()]) {
        let mut changed = whole.clone();
        replace(&mut changed, &|value| is_text(value).then(|| json!(text)));
        all.push(changed);
    }
    for number in NUMBERS {
        let number: Value = serde_json::from_str(number).unwrap();
        let mut changed = whole.clone();
        replace(&mut changed, &|value| value.is_number().then(|| number.clone()));
        all.push(changed);
    }
    // Each member alone is missing.
    for name in whole.as_object().unwrap().keys() {
        let mut changed = whole.clone();
        changed.as_object_mut().unwrap().remove(name);
        all.push(changed);
    }
    all
}

/// Days and times keep their form: another text there makes no record at all.
fn is_text(value: &Value) -> bool {
    value
        .as_str()
        .is_some_and(|text| text.parse::<jiff::Timestamp>().is_err() && text.parse::<jiff::civil::Date>().is_err())
}

fn replace(value: &mut Value, with: &dyn Fn(&Value) -> Option<Value>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, with)),
        Value::Object(members) => members.values_mut().for_each(|member| replace(member, with)),
        leaf => {
            if let Some(other) = with(leaf) {
                *leaf = other;
            }
        }
    }
}

/// Sends what a preset makes of these types of events, looked for first and not, to Prism with its vendor's description.
async fn judge(
    name: &'static str,
    preset: &str,
    records: &str,
    more: &str,
    wrong: (&str, &str, Value),
    types: &[&str],
) {
    if std::env::var_os("LEDGERHOOK_VENDOR_SPECS").is_none() {
        // Also under `--strict`: the descriptions are their vendors', and no machine gets them by itself.
        return not_tested(&format!("LEDGERHOOK_VENDOR_SPECS names no folder with the description for {preset}"));
    }
    let prism = real(name).await;
    let proxy = Cutting::before(prism.get("URL"), |_, _, _| false).await;
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "a-token").unwrap();
    let table = prism.table(records, &proxy.url, more);
    let table = table.replace(&format!("[targets.{name}"), &format!("[targets.{preset}"));
    let secrets = format!("\n[targets.{preset}.secrets]\napi_token = \"file:{}\"\n", secret.path().display());
    let client = prism.client_of(preset, &format!("{table}{secrets}"));
    // Who allows everything proves nothing.
    let request = http().post(format!("{}{}", prism.get("URL"), wrong.0)).header("authorization", wrong.1);
    let (status, answer) = prism.ask(request.json(&wrong.2)).await;
    assert!(matches!(status, 400 | 422), "{status} {answer}");
    let (mut sent, mut refused) = (0, 0);
    for event_type in types {
        for (n, members) in members_of(event_type).iter().enumerate() {
            // An id that fits, and one that has to be hashed.
            for id in [format!("evt_{n}"), format!("evt \"{n}'\n🧾")] {
                // Members that make no record are the router's to refuse.
                let Some(record) = try_record(event_type, &id, members).map(Arc::new) else { continue };
                let before = proxy.exchanges().len();
                let answer = client.send(&record, Timestamp::now(), n % 2 == 0).await;
                if proxy.exchanges().len() == before {
                    refused += 1
                } else {
                    sent += 1
                }
                assert!(answer.status.is_some() || answer.fault.is_some(), "{event_type}: {answer:?}");
            }
        }
    }
    let exchanges = proxy.exchanges();
    let invalid: Vec<_> = exchanges.iter().filter(|exchange| exchange.status >= 400).collect();
    let shown = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(1_500)]).into_owned();
    if let Some(first) = invalid.first() {
        panic!(
            "{} of {} requests are invalid, e.g. {}\n{}\n{} {}",
            invalid.len(),
            exchanges.len(),
            first.line,
            shown(&first.request),
            first.status,
            shown(&first.answer)
        );
    }
    let posts = exchanges.iter().filter(|exchange| exchange.line.starts_with("POST")).count();
    let _ = writeln!(
        std::io::stderr(),
        "{preset}: {} requests, {posts} of them creations, 0 invalid by the vendor's description; {refused} of {} records refused before anything was sent",
        exchanges.len(),
        sent + refused
    );
    assert!(posts >= 20 * types.len(), "{posts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn zendesk_allows_every_request() {
    let types = [
        "case.closed",
        "bank_feed.error",
        "workflow.failed",
        "compliance.record_generated",
        "payroll.run_finalised",
        "vat.return_filed",
        "company.year_end_closed",
    ];
    let settings = "[targets.prism-zendesk.settings]\nuser = \"agent@example.com\"\ngroup_id = 5";
    let wrong = json!({ "ticket": { "subject": 5, "comment": { "body": "x" } } });
    judge(
        "prism-zendesk",
        "zendesk",
        r#"["cases", "reviews", "compliance"]"#,
        settings,
        ("api/v2/tickets", "Basic YS90b2tlbjpi", wrong),
        &types,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ironclad_allows_every_request() {
    let settings = "[targets.prism-ironclad.settings]\ntype = \"mutualNDA\"\nas_user = \"agent@example.com\"";
    let wrong = json!({ "type": 5, "name": "x" });
    judge(
        "prism-ironclad",
        "ironclad",
        r#"["contracts"]"#,
        settings,
        ("records", "Bearer x", wrong),
        &["contract.processed"],
    )
    .await;
}
