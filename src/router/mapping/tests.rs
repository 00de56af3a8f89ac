//! The mapping's rules, field by field, on the built-in table of routes.

use serde_json::json;

use super::*;
use crate::avro::Schema;
use crate::config::Config;
use crate::event::{Evidence, Origin, Sha256, Timestamp, ToJson};

fn routes() -> Vec<Route> {
    Config::defaults().unwrap_or_else(|faults| panic!("{faults}")).routes
}

fn mapper() -> Mapper {
    Mapper::new([("accelex", "accelex"), ("accbooks", "accbooks"), ("second", "accbooks")], &routes()).unwrap()
}

fn envelope(source: &str, event_type: &str, body: &str) -> Envelope {
    Envelope {
        event_id: "evt_1".into(),
        source: source.into(),
        event_type: event_type.into(),
        occurred_at: Some(Timestamp::from_micros(5)),
        received_at: Timestamp::from_micros(7),
        content_type: None,
        body: body.to_owned().into(),
        body_sha256: Sha256::of(body.as_bytes()),
        unusable: None,
        test: None,
        evidence: Evidence::absent(),
        origin: Origin::Live,
    }
}

fn mapped(source: &str, event_type: &str, body: &str) -> Value {
    mapper().map(&envelope(source, event_type, body)).unwrap().to_json()
}

fn fault(source: &str, event_type: &str, body: &str) -> MappingFault {
    mapper().map(&envelope(source, event_type, body)).unwrap_err()
}

#[test]
fn the_providers_sample_becomes_a_receivable() {
    let body = r#"{"id":"evt_01HXYZ123","type":"invoice.paid","created_at":"2026-04-15T14:32:00Z",
        "data":{"invoice_id":"inv_0123","customer_id":"cust_456","amount":2500.00,"currency":"GBP","paid_at":"2026-04-15T14:31:55Z"}}"#;
    let record = mapped("second", "invoice.paid", body);
    for (field, value) in [
        ("direction", json!("RECEIVABLE")),
        ("status", json!("PAID")),
        ("entity_id", json!("inv_0123")),
        ("total_amount", json!("2500")),
        ("currency", json!("GBP")),
        ("paid_at", json!("2026-04-15T14:31:55.000000Z")),
        ("due_at", Value::Null),
        ("source", json!("second")),
    ] {
        assert_eq!(record[field], value, "{field}");
    }
    let attributes = record["attributes"].as_str().unwrap();
    assert!(attributes.contains(r#""amount":2500.00"#), "the spelling stays: {attributes}");
}

#[test]
fn every_route_gives_every_field_of_its_schema_and_fits_it() {
    let sources: BTreeMap<&str, &str> = topics::RECORDS.into();
    for route in routes() {
        let body = if route.members == "/data" { r#"{"data":{}}"# } else { r#"{"outcome":{}}"# };
        let record = mapper().map(&envelope(&route.source, &route.event_type, body)).unwrap();
        assert_eq!(record.topic(), route.record);
        assert_eq!(record.entity_id(), "evt_1", "without its entity the event's id stands in");
        let schema = sources[route.record.as_str()];
        let names: Vec<String> = record.to_json().as_object().unwrap().keys().cloned().collect();
        assert_eq!(names, fields_of(schema), "{}", route.event_type);
        let schema = Schema::ours(schema).unwrap();
        let written = match &record {
            Record::Invoice(r) => schema.write(r, vec![]),
            Record::Contract(r) => schema.write(r, vec![]),
            Record::Case(r) => schema.write(r, vec![]),
            Record::Compliance(r) => schema.write(r, vec![]),
            Record::Transaction(r) => schema.write(r, vec![]),
            Record::Review(r) => schema.write(r, vec![]),
            Record::Feed(r) => schema.write(r, vec![]),
        };
        written.unwrap();
    }
    assert_eq!(routes().len(), 16);
}

#[test]
fn members_are_read_by_the_rules() {
    let body = |outcome: &str| format!(r#"{{"work_unit_id":"wu_1","outcome":{outcome}}}"#);
    let record = mapped(
        "accelex",
        "invoice.resolved",
        &body(
            r#"{"invoice_id":7731,"invoice_number":12.50,"total_amount":"12.5","tax_amount":null,"issue_date":"2026-05-02T23:00:00-05:00",
            "supplier":{"id":"s1","extra":1},"lines":[{"quantity":1e1,"unit_price":0.1},{}],"anomalies":["late",{"k":1}],"unheard_of":true}"#,
        ),
    );
    for (field, value) in [
        ("entity_id", json!("7731")),
        ("work_unit_id", json!("wu_1")),
        ("invoice_number", json!("12.50")),
        ("total_amount", json!("12.5")),
        ("tax_amount", Value::Null),
        ("issue_date", json!("2026-05-02")),
        ("supplier", json!({"id":"s1","name":null,"tax_id":null})),
        ("anomalies", json!(["late", r#"{"k":1}"#])),
        ("validation", json!([])),
    ] {
        assert_eq!(record[field], value, "{field}");
    }
    assert_eq!(record["lines"][0]["quantity"], "10");
    assert_eq!(record["lines"][1]["account"], Value::Null);
    assert!(record["attributes"].as_str().unwrap().contains("unheard_of"));
    let contract = mapped("accelex", "contract.processed", &body(r#"{"counterparty":{"name":"ACME"}}"#));
    assert_eq!(contract["counterparty"], r#"{"name":"ACME"}"#);
}

#[test]
fn a_feed_error_keeps_both_times() {
    let body = r#"{"data":{"bank_feed_id":"bf","occurred_at":"2026-01-01T00:00:00Z"}}"#;
    let record = mapped("accbooks", "bank_feed.error", body);
    assert_eq!(record["error_occurred_at"], "2026-01-01T00:00:00.000000Z");
    assert_eq!(record["occurred_at"], "1970-01-01T00:00:00.000005Z");
}

#[test]
fn what_cannot_be_mapped_says_why_and_where() {
    use QuarantineReason::{AmountOutOfRange, MemberInvalid, MembersMissing, UnknownEventType};
    let outcome = |members: &str| format!(r#"{{"outcome":{members}}}"#);
    for (event_type, body, reason, detail) in [
        ("invoice.imagined", "{}".to_owned(), UnknownEventType, "no route for invoice.imagined of accelex"),
        ("invoice.resolved", "{}".to_owned(), MembersMissing, "/outcome is not an object"),
        ("invoice.resolved", outcome("[]"), MembersMissing, "/outcome is not an object"),
        (
            "invoice.resolved",
            outcome(r#"{"total_amount":1e400}"#),
            AmountOutOfRange,
            "/outcome/total_amount does not fit decimal(38,9) exactly",
        ),
        (
            "invoice.resolved",
            outcome(r#"{"lines":[{},{"amount":0.0000000001}]}"#),
            AmountOutOfRange,
            "/outcome/lines/1/amount does not fit decimal(38,9) exactly",
        ),
        (
            "invoice.resolved",
            outcome(r#"{"total_amount":"a lot"}"#),
            MemberInvalid,
            "/outcome/total_amount is not a decimal number",
        ),
        (
            "invoice.resolved",
            outcome(r#"{"total_amount":[1]}"#),
            MemberInvalid,
            "/outcome/total_amount is not a decimal number",
        ),
        (
            "invoice.resolved",
            outcome(r#"{"due_date":"soon"}"#),
            MemberInvalid,
            "/outcome/due_date is not an ISO 8601 day such as 2026-05-02",
        ),
        ("invoice.resolved", outcome(r#"{"supplier":"ACME"}"#), MemberInvalid, "/outcome/supplier is not an object"),
        ("invoice.resolved", outcome(r#"{"lines":{}}"#), MemberInvalid, "/outcome/lines is not an array"),
    ] {
        assert_eq!(fault("accelex", event_type, &body), MappingFault { reason, detail: detail.to_owned() }, "{body}");
    }
    let feed = r#"{"data":{"transactions_imported":1.5}}"#;
    assert_eq!(
        fault("accbooks", "bank_feed.synced", feed).detail,
        "/data/transactions_imported is not a whole number of 64 bits"
    );
    let long = format!(r#"{{"outcome":{{"invoice_id":"{}"}}}}"#, "x".repeat(1025));
    assert_eq!(fault("accelex", "invoice.resolved", &long).reason, MemberInvalid);
}

#[test]
fn a_users_route_leads_to_a_record_without_code() {
    let toml = r#"
[sources.accbooks]
secrets = [{ id = "a", value = "env:S" }]
[[routes]]
source = "accbooks"
event_type = "credit_note.issued"
record = "invoices"
members = "/data"
entity = "/credit_note_id"
set = { direction = "RECEIVABLE", status = "CREATED", decision = "credit" }
rename = { total_amount = "/totals/gross", invoice_number = "/number" }
"#;
    let config = Config::parse(toml, "t.toml", &|_| Some("s".into()), &[]).unwrap_or_else(|faults| panic!("{faults}"));
    let mapper = Mapper::new([("accbooks", "accbooks")], &config.routes).unwrap();
    let body = r#"{"data":{"credit_note_id":"cn_1","totals":{"gross":-10.01},"number":"C-7"}}"#;
    let record = mapper.map(&envelope("accbooks", "credit_note.issued", body)).unwrap();
    assert_eq!(record.key(), "accbooks/cn_1");
    let json = record.to_json();
    assert_eq!(
        (&json["total_amount"], &json["invoice_number"], &json["decision"]),
        (&json!("-10.01"), &json!("C-7"), &json!("credit"))
    );
}

#[test]
fn a_faulty_table_is_refused() {
    let base = || routes().into_iter().find(|r| r.event_type == "invoice.resolved").unwrap();
    let refused = |change: &dyn Fn(&mut Route)| {
        let mut route = base();
        change(&mut route);
        Mapper::new([("accelex", "accelex")], &[route]).unwrap_err().to_string()
    };
    assert_eq!(refused(&|r| r.record = "bills".into()), "invoice.resolved: no record topic bills");
    assert_eq!(
        refused(&|r| drop(r.rename.insert("amount".into(), "/a".into()))),
        "invoice.resolved: InvoiceRecord has no field amount"
    );
    assert_eq!(
        refused(&|r| drop(r.set.insert("direction".into(), "SIDEWAYS".into()))),
        "invoice.resolved: direction cannot be SIDEWAYS; it is one of PAYABLE, RECEIVABLE"
    );
    assert_eq!(refused(&|r| drop(r.set.remove("status"))), "invoice.resolved: a route to invoices must set status");
}
