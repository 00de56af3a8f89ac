//! Invoices in a real Tryton: created, validated, posted, and read back through Tryton's own API.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::sync::Arc;

use ledgerhook::event::{AttemptOutcome, Record, Timestamp};
use ledgerhook::targets::{Answer, Client};
use serde_json::{Value, json};

use crate::common::cutting::Cutting;
use crate::common::real::{Real, http, real};
use crate::common::records::{attempts, dead_letters, deliver, ended, produce, record};
use crate::common::{install, within};

fn settings(tryton: &Real, more: &str) -> String {
    format!(
        r#"
[targets.tryton.secrets]
password = "{}"
[targets.tryton.settings]
user = "{}"
payable_account = "2100"
receivable_account = "1100"
expense_account = "5900"
revenue_account = "4000"
tax_account = "2200"
{more}
"#,
        tryton.secret("PASSWORD"),
        tryton.get("LOGIN"),
    )
}

fn client(tryton: &Real, more: &str) -> Client {
    tryton.client(&tryton.table(r#"["invoices"]"#, tryton.get("URL"), &settings(tryton, more)))
}

async fn send(client: &Client, record: &Record) -> Answer {
    client.send(&Arc::new(record.clone()), Timestamp::now(), false).await
}

/// What Tryton itself says.
async fn rpc(tryton: &Real, method: &str, params: Value) -> Value {
    let request = http().post(format!("{}rpc/", tryton.get("URL")));
    let request = request.basic_auth(tryton.get("LOGIN"), Some(tryton.get("PASSWORD")));
    let (status, answer) = tryton.ask(request.json(&json!({ "id": 0, "method": method, "params": params }))).await;
    assert!(status == 200 && answer["error"].is_null(), "{method}: {status} {answer}");
    answer["result"].clone()
}

/// The invoices with a reference that begins so: what Tryton keeps of each.
async fn invoices(tryton: &Real, reference: &str) -> Vec<Value> {
    let fields = json!([
        "type",
        "state",
        "number",
        "reference",
        "description",
        "total_amount",
        "tax_amount",
        "invoice_date",
        "accounting_date",
        "comment",
        "party.code",
        "currency.code"
    ]);
    let domain = json!([["reference", "like", format!("{reference}%")]]);
    let context = json!({ "company": 1 });
    let found = rpc(tryton, "model.account.invoice.search_read", json!([domain, 0, null, null, fields, context])).await;
    found.as_array().unwrap().clone()
}

/// A number that no other test has.
fn unique() -> String {
    uuid::Uuid::now_v7().simple().to_string()[16..].to_uppercase()
}

fn payable(name: &str) -> Value {
    json!({
        "invoice_id": format!("inv_{name}"), "invoice_number": format!("INV-{name}"),
        "supplier": { "id": "sup_4410", "name": "Harbour Freight & Logistics Ltd", "tax_id": "GB123456789" },
        "purchase_order": format!("PO-{name}"), "issue_date": "2026-10-29", "due_date": "2026-11-28", "currency": "GBP",
        "total_amount": 120.05, "tax_amount": 20.01,
        "lines": [
            { "description": "Pallet storage, per week", "quantity": 3, "unit_price": 25.01, "amount": 75.03, "account": "5010" },
            { "description": "Handling", "quantity": 1, "unit_price": 25.01, "amount": 25.01, "account": "5020" },
        ],
        "decision": "approve", "anomalies": [],
    })
}

fn with(mut members: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        members[name] = value.clone();
    }
    members
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suppliers_invoice_is_posted() {
    let tryton = real("tryton").await;
    let (client, name) = (client(tryton, ""), unique());
    let answer = send(&client, &record("invoice.resolved", &payable(&name))).await;
    assert_eq!(answer.verdict.outcome, AttemptOutcome::Delivered, "{answer:?}");
    // The attempt's excerpt holds what Tryton gave it.
    assert!(answer.excerpt.as_deref().unwrap_or_default().contains("posted"), "{answer:?}");

    let found = invoices(tryton, &format!("INV-{name}")).await;
    let [invoice] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((&invoice["state"], &invoice["type"]), (&json!("posted"), &json!("in")));
    assert!(invoice["number"].as_str().unwrap().starts_with("P2026/"), "{invoice}");
    assert_eq!(invoice["total_amount"]["decimal"], "120.05");
    assert_eq!(invoice["tax_amount"]["decimal"], "20.01");
    assert_eq!(invoice["description"], format!("accelex/inv_{name}"));
    assert_eq!(invoice["party."]["code"], "sup_4410");
    assert_eq!(invoice["comment"], format!("Purchase order PO-{name}"));
    assert_eq!(invoice["invoice_date"], json!({ "__class__": "date", "year": 2026, "month": 10, "day": 29 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customers_invoice_is_posted_for_a_customer_that_it_brings() {
    let tryton = real("tryton").await;
    let name = unique();
    let members = json!({ "invoice_id": format!("out_{name}"), "customer_id": format!("cust_{name}"), "amount": 2500.00,
        "currency": "EUR", "issued_at": "2026-04-15T14:31:55Z" });
    let created = record("invoice.created", &members);
    // Nobody has said that unknown customers are welcome.
    let answer = send(&client(tryton, ""), &created).await;
    assert_eq!(answer.verdict.outcome, AttemptOutcome::Rejected, "{answer:?}");
    assert!(answer.fault.as_deref().unwrap_or_default().contains("create_parties is off"), "{answer:?}");

    let client = client(tryton, "create_parties = true");
    let answer = send(&client, &created).await;
    assert_eq!(answer.verdict.outcome, AttemptOutcome::Delivered, "{answer:?}");
    let found = invoices(tryton, &format!("out_{name}")).await;
    let [invoice] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((&invoice["state"], &invoice["type"]), (&json!("posted"), &json!("out")));
    assert!(invoice["number"].as_str().unwrap().starts_with('S'), "{invoice}");
    assert_eq!(invoice["total_amount"]["decimal"], "2500.00");
    assert_eq!(
        (&invoice["party."]["code"], &invoice["currency."]["code"]),
        (&json!(format!("cust_{name}")), &json!("EUR"))
    );
    assert_eq!(invoice["accounting_date"], json!({ "__class__": "date", "year": 2026, "month": 4, "day": 15 }));

    // The rest of its life makes no second one.
    let paid = record("invoice.paid", &members);
    assert_eq!(send(&client, &paid).await.verdict.outcome, AttemptOutcome::Filtered);
    assert_eq!(invoices(tryton, &format!("out_{name}")).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_of_another_event_is_found_and_another_one_of_its_number_refused() {
    let tryton = real("tryton").await;
    let (client, name) = (client(tryton, ""), unique());
    let first = record("invoice.resolved", &payable(&name));
    assert_eq!(send(&client, &first).await.verdict.outcome, AttemptOutcome::Delivered);
    for again in [first, record("invoice.resolved", &payable(&name))] {
        assert_eq!(send(&client, &again).await.verdict.outcome, AttemptOutcome::Duplicate);
    }
    for changes in [json!({ "total_amount": 120.06, "tax_amount": 20.02 }), json!({ "invoice_id": "inv_other" })] {
        let answer = send(&client, &record("invoice.resolved", &with(payable(&name), &changes))).await;
        assert_eq!(answer.verdict.outcome, AttemptOutcome::Rejected, "{answer:?}");
        assert_eq!(answer.verdict.reason.to_string(), "number_taken", "{answer:?}");
    }
    assert_eq!(invoices(tryton, &format!("INV-{name}")).await.len(), 1, "not even a draft is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_that_a_crash_left_is_posted() {
    let tryton = real("tryton").await;
    let (client, name) = (client(tryton, ""), unique());
    let invoice = record("invoice.resolved", &payable(&name));
    // The answer to the creation is lost, and nothing comes after it.
    let cutting = Cutting::before(tryton.get("URL"), |_, _, body| contains(body, "account.invoice.create")).await;
    let cut = tryton.client(&tryton.table(r#"["invoices"]"#, &cutting.url, &settings(tryton, "")));
    let answer = send(&cut, &invoice).await;
    assert_eq!(answer.verdict.outcome, AttemptOutcome::Unresolved, "{answer:?}");
    let states = |found: &[Value]| found.iter().map(|invoice| invoice["state"].clone()).collect::<Vec<_>>();
    assert_eq!(states(&invoices(tryton, &format!("INV-{name}")).await), ["draft"]);

    let answer = client.send(&Arc::new(invoice.clone()), Timestamp::now(), true).await;
    assert_eq!(answer.verdict.outcome, AttemptOutcome::Delivered, "{answer:?}");
    assert_eq!(states(&invoices(tryton, &format!("INV-{name}")).await), ["posted"]);
}

fn contains(body: &[u8], part: &str) -> bool {
    body.windows(part.len()).any(|window| window == part.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_before_anything_is_made() {
    let tryton = real("tryton").await;
    let (client, name) = (client(tryton, ""), unique());
    for (changes, words) in [
        (json!({ "supplier": { "id": "sup_nobody" } }), "create_parties is off"),
        (json!({ "supplier": null }), "no id of its supplier or customer"),
        (json!({ "currency": "XXX" }), "the answer has no currency"),
        (json!({ "currency": null }), "no currency"),
        (json!({ "currency": "JPY" }), "more decimals than the 0"),
        (json!({ "total_amount": 120.051, "tax_amount": 20.011 }), "more decimals than the 2"),
        (json!({ "total_amount": 120.06 }), "no lines and taxes that add up"),
        (json!({ "total_amount": null }), "no total amount"),
        (
            json!({ "tax_amount": 0, "total_amount": 1, "lines": [{ "amount": 1, "account": "9999" }] }),
            "no account 9999",
        ),
    ] {
        let answer = send(&client, &record("invoice.resolved", &with(payable(&name), &changes))).await;
        assert_eq!(answer.verdict.outcome, AttemptOutcome::Rejected, "{changes}: {answer:?}");
        let said = format!("{} {}", answer.fault.unwrap_or_default(), answer.excerpt.unwrap_or_default());
        assert!(said.contains(words), "{changes}: {said}");
    }
    // A day of no fiscal year is known to Tryton alone: its own words come along.
    let changes = json!({ "issue_date": "2001-01-01" });
    let answer = send(&client, &record("invoice.resolved", &with(payable(&unique()), &changes))).await;
    assert_eq!(answer.verdict.reason.to_string(), "refused", "{answer:?}");
    assert!(answer.excerpt.as_deref().unwrap_or_default().contains("create a period for the date"), "{answer:?}");
    assert_eq!(invoices(tryton, &format!("INV-{name}")).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_no_fault_of_the_record() {
    let tryton = real("tryton").await;
    let table = tryton.table(r#"["invoices"]"#, tryton.get("URL"), &settings(tryton, ""));
    let forged = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(forged.path(), "not the password").unwrap();
    let table = table.replace(&tryton.secret("PASSWORD"), &format!("file:{}", forged.path().display()));
    let answer = send(&tryton.client(&table), &record("invoice.resolved", &payable(&unique()))).await;
    assert_eq!(answer.verdict.outcome, AttemptOutcome::Credentials, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_text_holds_it_stays_text() {
    let tryton = real("tryton").await;
    let client = client(tryton, "");
    for text in [
        "\"}],{\\",
        "a\nb\r\nc\td",
        "🧾💷 é",
        "\u{202e}evil\u{202c} \u{200f}",
        "{{ 7 * 7 }}{% raw %}",
        "'; DROP TABLE x; --",
    ] {
        let name = unique();
        let lines = json!([{ "description": text, "amount": 10, "account": "5010" }]);
        let changes = json!({ "lines": lines, "tax_amount": null, "total_amount": 10, "purchase_order": text });
        let answer = send(&client, &record("invoice.resolved", &with(payable(&name), &changes))).await;
        assert_eq!(answer.verdict.outcome, AttemptOutcome::Delivered, "{text:?}: {answer:?}");
        let domain = json!([["invoice.reference", "=", format!("INV-{name}")]]);
        let context = json!({ "company": 1 });
        let params = json!([domain, 0, null, null, ["description"], context]);
        let found = rpc(tryton, "model.account.invoice.line.search_read", params).await;
        assert_eq!(found[0]["description"], text);
    }
    let name = unique();
    let long = "x".repeat(100_000);
    let lines = json!([{ "description": long, "amount": "99999999999999.99", "account": "5010" }]);
    let changes = json!({ "lines": lines, "tax_amount": null, "total_amount": "99999999999999.99" });
    let text = with(payable(&name), &changes).to_string().replace("\"99999999999999.99\"", "99999999999999.99");
    let answer = send(&client, &record("invoice.resolved", &serde_json::from_str(&text).unwrap())).await;
    assert_eq!(answer.verdict.outcome, AttemptOutcome::Delivered, "{answer:?}");
    assert_eq!(invoices(tryton, &format!("INV-{name}")).await[0]["total_amount"]["decimal"], "99999999999999.99");
}

/// A hundred answers are lost after Tryton has acted, at the creation, validation and posting of 34 invoices.
#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_make_no_second_invoice() {
    let tryton = real("tryton").await;
    let changes = ["invoice.create", "invoice.validate_invoice", "invoice.post"];
    let cutting = Cutting::before(tryton.get("URL"), move |_, _, body| {
        changes.iter().any(|change| contains(body, &format!("\"model.account.{change}\"")))
    })
    .await;
    let table = tryton.table(r#"["invoices"]"#, &cutting.url, &settings(tryton, ""));
    let installation = install(&table).await;
    let name = unique();
    let records: Vec<Record> =
        (0..34).map(|n| record("invoice.resolved", &payable(&format!("{name}-{n:02}")))).collect();
    produce(&installation, &records).await;
    let role = deliver(&installation);
    let ended = || ended(&installation.metrics.render(), "tryton") == 34;
    // Each of its tries is a dozen of requests, and the breaker takes so many lost answers for trouble of the target.
    within(400, "all is delivered", ended).await;
    installation.stop.cancel();
    role.await.unwrap().unwrap();

    assert_eq!(cutting.count(), 102);
    let found = invoices(tryton, &format!("INV-{name}")).await;
    assert_eq!(found.len(), 34);
    assert!(found.iter().all(|invoice| invoice["state"] == "posted" && invoice["total_amount"]["decimal"] == "120.05"));
    let unresolved = attempts(&installation).await.iter().filter(|a| a.outcome == AttemptOutcome::Unresolved).count();
    assert_eq!((unresolved, dead_letters(&installation).await.len()), (102, 0));
}
