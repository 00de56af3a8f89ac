//! Rust types and schemas say the same: fields by name, and values that come back unchanged.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use super::*;
use crate::event::*;

pub(crate) mod records;

fn round_trip<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(schema: &str, value: &T) {
    let schema = Schema::ours(schema).unwrap();
    let datum = schema.write(value, Vec::new()).unwrap();
    assert_eq!(&schema.read::<T>(&datum).unwrap(), value);
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), Just(String::new()), Just("\u{202e}ß\u{1f4b6}\0\"".to_owned())]
}
fn maybe<T: std::fmt::Debug>(some: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    proptest::option::of(some)
}
fn time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_micros)
}
fn day() -> impl Strategy<Value = Date> {
    any::<i32>().prop_map(Date::from_days)
}
fn decimal() -> impl Strategy<Value = Decimal> {
    let limit = 10_i128.pow(38) - 1;
    prop_oneof![-limit..=limit, -200_i128..200, Just(limit), Just(-limit), Just(i128::from(i64::MIN))]
        .prop_map(|n| Decimal::from_unscaled(n).unwrap())
}
fn hash() -> impl Strategy<Value = Sha256> {
    any::<[u8; 32]>().prop_map(Sha256::from_bytes)
}

prop_compose! {
    fn invoice()(
        texts in proptest::collection::vec(text(), 9),
        maybes in proptest::collection::vec(maybe(text()), 9),
        decimals in proptest::collection::vec(maybe(decimal()), 6),
        days in (maybe(day()), maybe(day())),
        times in proptest::collection::vec(maybe(time()), 6),
        received_at in time(),
        body_sha256 in hash(),
        anomalies in proptest::collection::vec(text(), 0..4),
        status in 0..6_usize,
        nested in any::<bool>(),
    ) -> InvoiceRecord {
        InvoiceRecord {
            event_id: texts[0].clone(), source: texts[1].clone(), event_type: texts[2].clone(),
            entity_id: texts[3].clone(), occurred_at: times[0], received_at, body_sha256,
            work_unit_id: maybes[0].clone(),
            provenance: nested.then(|| Provenance {
                pipeline: maybes[1].clone(), pipeline_version: maybes[2].clone(), document_uri: None,
                document_sha256: maybes[3].clone(), processed_at: times[1],
            }),
            validation: vec![Validation {
                rule: maybes[4].clone(), result: None, score: decimals[0], detail: maybes[5].clone(),
            }],
            attributes: texts[4].clone(),
            direction: if nested { Direction::Payable } else { Direction::Unknown },
            status: InvoiceStatus::ALL[status].0,
            invoice_id: maybes[6].clone(), invoice_number: maybes[7].clone(), customer_id: maybes[8].clone(),
            supplier: nested.then(|| Supplier { id: maybes[0].clone(), name: None, tax_id: maybes[1].clone() }),
            purchase_order: None, issue_date: days.0, due_date: days.1, currency: maybes[2].clone(),
            total_amount: decimals[1], tax_amount: decimals[2],
            lines: vec![InvoiceLine {
                description: maybes[3].clone(), quantity: decimals[3], unit_price: decimals[4],
                amount: decimals[5], account: None,
            }],
            decision: None, anomalies, issued_at: times[2], sent_at: times[3], paid_at: times[4], due_at: times[5],
        }
    }
}

prop_compose! {
    fn envelope()(
        texts in proptest::collection::vec(text(), 9),
        maybes in proptest::collection::vec(maybe(text()), 4),
        body in proptest::collection::vec(any::<u8>(), 0..300),
        times in (maybe(time()), time()),
        origin in 0..4_usize,
    ) -> Envelope {
        Envelope {
            event_id: texts[0].clone(), source: texts[1].clone(), event_type: texts[2].clone(),
            occurred_at: times.0, received_at: times.1, content_type: maybes[0].clone(),
            body_sha256: Sha256::of(&body), body: body.into(), unusable: maybes[1].clone(), test: maybes[2].clone(),
            evidence: Evidence {
                signature_header: texts[3].clone(), signature_value: texts[4].clone(), algorithm: texts[5].clone(),
                key_id: texts[6].clone(), remote_address: texts[7].clone(), client_certificate_sha256: maybes[3].clone(),
                request_id: texts[8].clone(), receiver_id: texts[0].clone(),
                headers: BTreeMap::from([(texts[1].clone(), texts[2].clone())]),
            },
            origin: Origin::ALL[origin].0,
        }
    }
}

prop_compose! {
    fn attempt()(texts in proptest::collection::vec(text(), 7), maybes in proptest::collection::vec(maybe(text()), 3),
        numbers in (any::<i32>(), any::<i64>(), any::<i32>(), any::<i64>(), maybe(any::<i32>())), at in time(),
        next_try_at in maybe(time()), outcome in 0..8_usize) -> Attempt {
        Attempt {
            target: texts[0].clone(), event_id: texts[1].clone(), source: texts[2].clone(),
            record_topic: texts[3].clone(), record_partition: numbers.0, record_offset: numbers.1,
            record_key: texts[4].clone(), n: numbers.2, started_at: at, duration_us: numbers.3, status: numbers.4,
            outcome: AttemptOutcome::ALL[outcome].0, reason: texts[5].clone(), answer: maybes[0].clone(), notes: maybes[2].clone(),
            next_try_at, replay_id: maybes[1].clone(), worker_id: texts[6].clone(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn invoices_come_back(record in invoice()) {
        round_trip("InvoiceRecord", &record);
    }

    #[test]
    fn envelopes_and_their_quarantine_come_back(envelope in envelope(), at in time()) {
        round_trip("Envelope", &envelope);
        let quarantined = Quarantined {
            envelope, reason: "body_mismatch".to_owned(), detail: None, quarantined_at: at,
            received_partition: 3, received_offset: i64::MAX, settled: Some("routed".to_owned()),
        };
        round_trip("Quarantined", &quarantined);
    }

    #[test]
    fn markers_come_back(bodies in proptest::collection::vec(hash(), 0..5), at in time(), place in maybe(text())) {
        let seen = Seen {
            state: SeenState::Routed, body_sha256: bodies, first_routed_at: at,
            record_topic: place.clone(), record_key: place.clone(),
            decided: vec![DecidedBody {
                body_sha256: Sha256::of(b"x"), state: SeenState::Discarded, record_topic: None, record_key: place,
            }],
        };
        round_trip("Seen", &seen);
    }

    #[test]
    fn dead_letters_come_back_with_their_record(record in invoice(), attempt in attempt(), raw in maybe(Just(vec![0, 255]))) {
        round_trip("Attempt", &attempt);
        let dead = DeadLetter {
            target: "erp".to_owned(), event_id: record.event_id.clone(), source: record.source.clone(),
            record_topic: "invoices".to_owned(), record_partition: 0, record_offset: 7,
            record: raw.is_none().then(|| record.into()), undecodable: raw, reason: "rejected".to_owned(), detail: None,
            dead_at: Timestamp::from_micros(1), attempts_total: 1, attempts: vec![attempt], replay_id: None, settled: None,
        };
        round_trip("DeadLetter", &dead);
    }

    #[test]
    fn what_delivery_keeps_comes_back(attempt in attempt(), times in proptest::collection::vec(maybe(time()), 3), at in time(),
        numbers in (any::<i32>(), any::<i64>(), any::<i64>(), any::<bool>()), offsets in proptest::collection::vec(any::<i64>(), 0..9)) {
        round_trip("Parked", &Parked { spent_us: numbers.1, next_try_at: times[0], doubt_first_at: times[1],
            doubt_last_at: times[2], parked_at: at, tries: numbers.0, attempts: vec![attempt], ..parked() });
        round_trip("Progress", &Progress { next_offset: numbers.1, end_offset: numbers.2, open: offsets, at,
            handed_over: numbers.3, ..progress() });
        round_trip("Parked", &Parked { redelivery: None, ..parked() });
        round_trip("Redelivery", &Redelivery { requested_at: at, tried_at: times[0], interval_us: numbers.1,
            allow_stale: numbers.3, ..redelivery() });
    }
}

fn parked() -> Parked {
    Parked {
        target: "erp".to_owned(),
        key: Some("accelex/i-1".to_owned()),
        record_topic: "invoices".to_owned(),
        record_partition: 1,
        record_offset: 2,
        value: vec![0, 255],
        headers: BTreeMap::from([("traceparent".to_owned(), vec![1].into())]),
        parked_at: Timestamp::default(),
        tries: 3,
        next_try_at: None,
        reason: Some("http_500".to_owned()),
        failures: 2,
        spent_us: 4,
        doubt_first_at: None,
        doubt_last_at: None,
        attempts: Vec::new(),
        redelivery: Some(Redelivered { offset: 5, replay_id: "r".to_owned(), allow_stale: true, settles: true }),
    }
}

fn redelivery() -> Redelivery {
    Redelivery {
        replay_id: "r".to_owned(),
        target: "erp".to_owned(),
        key: Some("accelex/i-1".to_owned()),
        record_topic: "invoices".to_owned(),
        record_partition: 1,
        record_offset: 2,
        value: vec![0, 255],
        headers: BTreeMap::from([("traceparent".to_owned(), vec![1].into())]),
        requested_at: Timestamp::default(),
        actor: "ann@ops".to_owned(),
        allow_stale: true,
        settles: true,
        tried_at: None,
        interval_us: 0,
    }
}

fn progress() -> Progress {
    Progress {
        record_topic: "invoices".to_owned(),
        record_partition: 1,
        next_offset: 2,
        end_offset: 9,
        open: vec![2, 5],
        tried: vec![Tried { offset: 5, tries: 1 }],
        sent_below: 7,
        handed_over: true,
        at: Timestamp::default(),
        worker_id: "delivery-1".to_owned(),
        entity: Some("accelex/i-1".to_owned()),
        delivered_to: Some(Timestamp::from_micros(1)),
    }
}

/// A field that only one side has would be written as null, or skipped, without a word. (The records of the record
/// topics are compared where they are built, in the mapping.)
#[test]
fn types_have_the_fields_of_their_schemas() {
    let names = |json: Value| json.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let envelope = envelope().new_tree(&mut runner).unwrap().current();
    let envelope = Envelope { body: b"{}".as_slice().into(), ..envelope };
    let attempt = attempt().new_tree(&mut runner).unwrap().current();
    assert_eq!(names(envelope.to_json()), fields("Envelope"));
    assert_eq!(names(attempt.to_json()), fields("Attempt"));
    let seen = Seen {
        state: SeenState::Routed,
        body_sha256: vec![],
        first_routed_at: Timestamp::from_micros(0),
        record_topic: None,
        record_key: None,
        decided: vec![],
    };
    assert_eq!(names(seen.to_json()), fields("Seen"));
    let quarantined = Quarantined {
        envelope,
        reason: String::new(),
        detail: None,
        quarantined_at: Timestamp::from_micros(0),
        received_partition: 0,
        received_offset: 0,
        settled: None,
    };
    assert_eq!(names(quarantined.to_json()), fields("Quarantined"));
    let dead = DeadLetter {
        target: String::new(),
        event_id: String::new(),
        source: String::new(),
        record_topic: String::new(),
        record_partition: 0,
        record_offset: 0,
        record: None,
        undecodable: None,
        reason: String::new(),
        detail: None,
        dead_at: Timestamp::from_micros(0),
        attempts_total: 0,
        attempts: vec![],
        replay_id: None,
        settled: None,
    };
    assert_eq!(names(dead.to_json()), fields("DeadLetter"));
    assert_eq!(names(serde_json::to_value(parked()).unwrap()), fields("Parked"));
    assert_eq!(names(serde_json::to_value(progress()).unwrap()), fields("Progress"));
}

fn fields(schema: &str) -> Vec<String> {
    let tree: Value = serde_json::from_str(source(schema).unwrap()).unwrap();
    tree["fields"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn schemas_are_documented_and_can_grow() {
    fn check(name: &str, node: &Value) {
        match node {
            Value::Array(all) => all.iter().for_each(|n| check(name, n)),
            Value::Object(members) => {
                if let Some(fields) = members.get("fields").and_then(Value::as_array) {
                    assert!(members.get("doc").is_some(), "{name}: {} has no doc", members["name"]);
                    for field in fields {
                        assert!(field.get("doc").is_some(), "{name}: field {} has no doc", field["name"]);
                        check(name, &field["type"]);
                    }
                }
                if members.get("type") == Some(&Value::from("enum")) {
                    let default = members.get("default").unwrap_or_else(|| panic!("{name}: enum without default"));
                    assert!(members["symbols"].as_array().unwrap().contains(default));
                }
                ["items", "values"].iter().filter_map(|m| members.get(*m)).for_each(|n| check(name, n));
            }
            _ => {}
        }
    }
    for (name, text) in SOURCES {
        let tree: Value = serde_json::from_str(text).unwrap();
        assert_eq!(tree["name"], *name);
        assert_eq!(tree["namespace"], "io.ledgerhook");
        check(name, &tree);
        Schema::ours(name).unwrap();
    }
    for topic in crate::topics::all(["a"], ["t"], std::time::Duration::from_secs(1)) {
        source(topic.schema).unwrap();
    }
}

#[test]
fn a_symbol_of_a_newer_schema_is_unknown() {
    let newer = r#"{"type":"enum","name":"SeenState","symbols":["FORGOTTEN"],"default":"FORGOTTEN"}"#;
    let newer = Schema::parse("newer", newer).unwrap();
    assert_eq!(newer.read::<SeenState>(&[0]).unwrap(), SeenState::Unknown);
}

#[test]
fn a_field_of_a_newer_or_older_schema_does_no_harm() {
    let newer = source("Seen").unwrap().replacen(
        "\"fields\": [",
        "\"fields\": [{\"name\":\"new\",\"type\":\"string\",\"default\":\"\"},",
        1,
    );
    let newer = Schema::parse("newer", &newer).unwrap();
    let mut datum = vec![6, b'n', b'e', b'w'];
    let seen = Seen {
        state: SeenState::Test,
        body_sha256: vec![],
        first_routed_at: Timestamp::from_micros(1),
        record_topic: None,
        record_key: None,
        decided: vec![],
    };
    datum = Schema::ours("Seen").unwrap().write(&seen, datum).unwrap();
    assert_eq!(newer.read::<Seen>(&datum).unwrap(), seen);
}

/// Data written by fastavro (`tests/foreign/vectors`): read by our types, shown as they should be, and written again
/// byte for byte.
#[test]
fn what_another_implementation_wrote_is_read_and_written_the_same() {
    fn check<T: Serialize + DeserializeOwned>(name: &str, vectors: &Value, show: impl Fn(&T) -> Value) {
        let schema = Schema::ours(name).unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        assert!(cases.len() >= 5, "{name}: {} cases", cases.len());
        for case in cases {
            let what = format!("{name}/{}", case["name"].as_str().unwrap());
            let datum = hex::decode(case["datum_hex"].as_str().unwrap()).unwrap();
            let value: T = schema.read(&datum).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(show(&value), case["json"], "{what}");
            assert_eq!(hex::encode(schema.write(&value, Vec::new()).unwrap()), hex::encode(&datum), "{what}");
        }
    }
    /// People see a body as text where it is text; the vectors hold its bytes.
    fn with_hex_body(envelope: &Envelope) -> Value {
        let mut json = envelope.to_json();
        json.as_object_mut().unwrap().shift_remove("body_hex");
        json["body"] = hex::encode(&envelope.body).into();
        json
    }
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign/vectors");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let vectors: Value = serde_json::from_str(&text).unwrap();
        let name = vectors["schema"].as_str().unwrap().to_owned();
        match name.as_str() {
            "Envelope" => check::<Envelope>(&name, &vectors, with_hex_body),
            "Seen" => check::<Seen>(&name, &vectors, ToJson::to_json),
            "Quarantined" => check::<Quarantined>(&name, &vectors, |quarantined| {
                let mut json = quarantined.to_json();
                json["envelope"] = with_hex_body(&quarantined.envelope);
                json
            }),
            "Attempt" => check::<Attempt>(&name, &vectors, ToJson::to_json),
            "DeadLetter" => check::<DeadLetter>(&name, &vectors, ToJson::to_json),
            "InvoiceRecord" => check::<InvoiceRecord>(&name, &vectors, ToJson::to_json),
            "ContractRecord" => check::<ContractRecord>(&name, &vectors, ToJson::to_json),
            "CaseRecord" => check::<CaseRecord>(&name, &vectors, ToJson::to_json),
            "ComplianceRecord" => check::<ComplianceRecord>(&name, &vectors, ToJson::to_json),
            "TransactionRecord" => check::<TransactionRecord>(&name, &vectors, ToJson::to_json),
            "ReviewRecord" => check::<ReviewRecord>(&name, &vectors, ToJson::to_json),
            "FeedRecord" => check::<FeedRecord>(&name, &vectors, ToJson::to_json),
            other => panic!("vectors of {other} have no type here"),
        }
        names.push(name);
    }
    assert_eq!(names.len(), 12, "{names:?}");
}
