//! Rows to columns, batch by batch.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Date32Type, Decimal128Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array as _, RecordBatch};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;

use super::*;
use crate::avro;
use crate::event::{Decimal, InvoiceLine, InvoiceRecord, Validation};
use crate::lake::schema;

fn parse(schema: &Value) -> Avro {
    Avro::parse(schema).unwrap()
}

fn record(fields: Value) -> Value {
    let mut all = vec![json!({"name": "received_at", "type": {"type": "long", "logicalType": "timestamp-micros"}})];
    all.extend(fields.as_array().cloned().unwrap_or_default());
    json!({"type": "record", "name": "R", "fields": all})
}

/// Records of one schema as a batch of the table of another.
fn batch(writer: &Value, table: &Value, data: &[Vec<u8>]) -> Result<RecordBatch, Unfit> {
    let table = schema::of(&parse(table)).unwrap();
    let plan = Plan::new(&parse(writer), &table)?;
    let arrow = Arc::new(iceberg::arrow::schema_to_arrow_schema(&table).unwrap());
    let mut sinks: Vec<Sink> = arrow.fields().iter().map(|field| Sink::new(field.data_type()).unwrap()).collect();
    for (offset, datum) in data.iter().enumerate() {
        plan.check(datum)?;
        for (sink, own) in sinks.iter_mut().zip(0..OWN) {
            match sink {
                Sink::Text(b) => b.append_value("t"),
                Sink::Int(b) => b.append_value(0),
                Sink::Long(b) => b.append_value(i64::try_from(offset).unwrap()),
                _ => panic!("column {own}"),
            }
        }
        plan.append(datum, &mut sinks)?;
    }
    let columns = sinks.iter_mut().map(|sink| sink.finish().unwrap()).collect();
    Ok(RecordBatch::try_new(arrow, columns).unwrap())
}

/// A datum by apache-avro, another implementation than the one that writes our topics.
fn datum(schema: &Value, fields: Vec<(&str, apache_avro::types::Value)>) -> Vec<u8> {
    let schema = apache_avro::Schema::parse_str(&schema.to_string()).unwrap();
    let mut all = vec![("received_at".to_owned(), apache_avro::types::Value::TimestampMicros(7))];
    all.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
    apache_avro::to_avro_datum(&schema, apache_avro::types::Value::Record(all)).unwrap()
}

fn invoice(amount: Option<Decimal>, lines: usize) -> InvoiceRecord {
    let text = include_str!("../../simulate/fixtures/accelex/invoice.resolved.json");
    assert!(text.contains("outcome"));
    InvoiceRecord {
        event_id: "e-1".to_owned(),
        source: "accelex".to_owned(),
        event_type: "invoice.resolved".to_owned(),
        entity_id: "inv-9".to_owned(),
        occurred_at: None,
        received_at: crate::event::Timestamp::from_micros(1_777_713_243_120_001),
        body_sha256: crate::event::Sha256::of(b"x"),
        work_unit_id: None,
        provenance: None,
        validation: vec![Validation { rule: Some("r".to_owned()), result: None, score: amount, detail: None }],
        attributes: "{}".to_owned(),
        direction: crate::event::Direction::Payable,
        status: crate::event::InvoiceStatus::Paid,
        invoice_id: None,
        invoice_number: None,
        customer_id: None,
        supplier: None,
        purchase_order: None,
        issue_date: None,
        due_date: None,
        currency: None,
        total_amount: amount,
        tax_amount: None,
        lines: (0..lines)
            .map(|n| InvoiceLine {
                description: Some(n.to_string()),
                quantity: amount,
                unit_price: None,
                amount: None,
                account: None,
            })
            .collect(),
        decision: None,
        anomalies: vec![],
        issued_at: None,
        sent_at: None,
        paid_at: None,
        due_at: None,
    }
}

fn schema_of(name: &str) -> Value {
    serde_json::from_str(avro::source(name).unwrap()).unwrap()
}

proptest! {
    #[test]
    fn our_decimals_come_through_exactly(values in prop::collection::vec(prop::option::of(-(10_i128.pow(38) - 1)..10_i128.pow(38)), 1..20)) {
        let writer = avro::Schema::ours("InvoiceRecord").unwrap();
        let amounts: Vec<Option<Decimal>> = values.iter().map(|v| v.and_then(Decimal::from_unscaled)).collect();
        let data: Vec<Vec<u8>> = amounts.iter().enumerate()
            .map(|(n, amount)| writer.write(&invoice(*amount, n % 3), Vec::new()).unwrap()).collect();
        let schema = schema_of("InvoiceRecord");
        let batch = batch(&schema, &schema, &data).unwrap();
        let totals = batch.column_by_name("total_amount").unwrap().as_primitive::<Decimal128Type>();
        prop_assert_eq!(totals.iter().collect::<Vec<_>>(), values.clone());
        let lines = batch.column_by_name("lines").unwrap().as_list::<i32>();
        let quantities = lines.values().as_struct().column_by_name("quantity").unwrap();
        let expected: Vec<Option<i128>> = values.iter().enumerate().flat_map(|(n, v)| vec![*v; n % 3]).collect();
        prop_assert_eq!(quantities.as_primitive::<Decimal128Type>().iter().collect::<Vec<_>>(), expected);
        for row in 0..data.len() {
            prop_assert_eq!(lines.value(row).len(), row % 3);
        }
    }

    /// Whatever the bytes are: a verdict, and a checked record can be appended.
    #[test]
    fn no_bytes_break_it(mut bytes in prop::collection::vec(any::<u8>(), 0..200), cut in any::<prop::sample::Index>()) {
        let writer = avro::Schema::ours("InvoiceRecord").unwrap();
        let good = writer.write(&invoice(None, 2), Vec::new()).unwrap();
        let keep = cut.index(good.len());
        bytes.splice(0..0, good[..keep].iter().copied());
        let schema = schema_of("InvoiceRecord");
        drop(batch(&schema, &schema, &[bytes]));
    }
}

#[test]
fn every_type_comes_through() {
    use apache_avro::types::Value as V;
    let schema = record(json!([
        {"name": "yes", "type": "boolean"},
        {"name": "small", "type": "int"},
        {"name": "large", "type": "long"},
        {"name": "f", "type": "float"},
        {"name": "d", "type": "double"},
        {"name": "raw", "type": "bytes"},
        {"name": "text", "type": "string"},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "kind", "type": {"type": "enum", "name": "K", "symbols": ["A", "B"]}},
        {"name": "maybe", "type": ["null", "long"]},
        {"name": "last", "type": ["string", "null"]},
        {"name": "m", "type": {"type": "map", "values": "int"}},
        {"name": "s", "type": ["null", {"type": "record", "name": "S", "fields": [{"name": "x", "type": "int"}]}]},
        {"name": "l", "type": {"type": "array", "items": {"type": "array", "items": "int"}}},
    ]));
    let row = |n: i64, present: bool| {
        let s = V::Record(vec![("x".to_owned(), V::Int(5))]);
        let inner = |of: &[i32]| V::Array(of.iter().map(|i| V::Int(*i)).collect());
        datum(
            &schema,
            vec![
                ("yes", V::Boolean(present)),
                ("small", V::Int(i32::MIN)),
                ("large", V::Long(i64::MAX - n)),
                ("f", V::Float(1.5)),
                ("d", V::Double(-2.25)),
                ("raw", V::Bytes(vec![0, 255])),
                ("text", V::String("ü".to_owned())),
                ("day", V::Date(-1)),
                ("kind", V::Enum(1, "B".to_owned())),
                ("maybe", V::Union(u32::from(present), Box::new(if present { V::Long(n) } else { V::Null }))),
                (
                    "last",
                    V::Union(u32::from(!present), Box::new(if present { V::String("z".to_owned()) } else { V::Null })),
                ),
                ("m", V::Map([("k".to_owned(), V::Int(3))].into())),
                ("s", V::Union(u32::from(present), Box::new(if present { s } else { V::Null }))),
                ("l", V::Array(vec![inner(&[1, 2]), inner(&[]), inner(&[3])])),
            ],
        )
    };
    let batch = batch(&schema, &schema, &[row(0, true), row(1, false)]).unwrap();
    let column = |name: &str| batch.column_by_name(name).unwrap();
    assert_eq!(column("kafka_offset").as_primitive::<Int64Type>().values(), &[0, 1]);
    assert_eq!(column("received_at").as_primitive::<TimestampMicrosecondType>().values(), &[7, 7]);
    assert_eq!(column("yes").as_boolean().iter().collect::<Vec<_>>(), [Some(true), Some(false)]);
    assert_eq!(column("small").as_primitive::<Int32Type>().value(0), i32::MIN);
    assert_eq!(column("large").as_primitive::<Int64Type>().values(), &[i64::MAX, i64::MAX - 1]);
    assert_eq!(column("f").as_primitive::<arrow_array::types::Float32Type>().value(1), 1.5);
    assert_eq!(column("d").as_primitive::<arrow_array::types::Float64Type>().value(1), -2.25);
    assert_eq!(column("raw").as_binary::<i64>().value(0), [0, 255]);
    assert_eq!(column("text").as_string::<i32>().value(0), "ü");
    assert_eq!(column("day").as_primitive::<Date32Type>().value(0), -1);
    assert_eq!(column("kind").as_string::<i32>().value(0), "B");
    assert_eq!(column("maybe").as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(0), None]);
    assert_eq!(column("last").as_string::<i32>().iter().collect::<Vec<_>>(), [Some("z"), None]);
    let m = column("m").as_map();
    assert_eq!((m.keys().as_string::<i32>().value(1), m.values().as_primitive::<Int32Type>().value(1)), ("k", 3));
    let s = column("s").as_struct();
    assert_eq!((s.is_null(0), s.is_null(1)), (false, true));
    assert_eq!(s.column(0).as_primitive::<Int32Type>().value(0), 5);
    let l = column("l").as_list::<i32>();
    let inner = l.value(1);
    let inner = inner.as_list::<i32>();
    assert_eq!((0..3).map(|n| inner.value(n).len()).collect::<Vec<_>>(), [2, 0, 1]);
}

#[test]
fn writers_older_and_newer_than_the_table_fit() {
    use apache_avro::types::Value as V;
    let old = record(json!([{"name": "a", "type": "int"}]));
    let new = record(json!([
        {"name": "b", "type": {"type": "array", "items": ["null", "string"]}},
        {"name": "a", "type": "int"},
        {"name": "c", "type": ["null", "string"], "default": null},
    ]));
    let item = V::Union(1, Box::new(V::String("x".to_owned())));
    let written = datum(
        &new,
        vec![("b", V::Array(vec![item])), ("a", V::Int(2)), ("c", V::Union(1, Box::new(V::String("y".to_owned()))))],
    );
    let narrow = batch(&new, &old, &[written]).unwrap();
    assert_eq!(narrow.column_by_name("a").unwrap().as_primitive::<Int32Type>().value(0), 2);
    assert_eq!(narrow.num_columns(), OWN + 2);

    let added = record(json!([{"name": "a", "type": "long"}, {"name": "c", "type": ["null", "string"]}]));
    let wide = batch(&old, &added, &[datum(&old, vec![("a", V::Int(-3))])]).unwrap();
    assert_eq!(wide.column_by_name("a").unwrap().as_primitive::<Int64Type>().value(0), -3, "an int fits a long");
    assert!(wide.column_by_name("c").unwrap().is_null(0));

    let required = record(json!([{"name": "a", "type": "int"}, {"name": "c", "type": "string"}]));
    assert_eq!(
        batch(&old, &required, &[]).unwrap_err().to_string(),
        "column c is required by the table, and the record's schema lacks it"
    );
    let other = record(json!([{"name": "a", "type": "string"}]));
    assert_eq!(
        batch(&old, &other, &[]).unwrap_err().to_string(),
        "column a: the schema says int, the table has string"
    );
}

#[test]
fn what_does_not_fit_is_said() {
    use apache_avro::types::Value as V;
    let schema = record(json!([
        {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "opt", "type": ["null", "int"]},
    ]));
    let plan = Plan::new(&parse(&schema), &schema::of(&parse(&schema)).unwrap()).unwrap();
    let bytes = |amount: &[u8], day: i32| {
        let plain = record(json!([
            {"name": "amount", "type": "bytes"}, {"name": "day", "type": "int"}, {"name": "opt", "type": ["null", "int"]},
        ]));
        datum(
            &plain,
            vec![("amount", V::Bytes(amount.to_vec())), ("day", V::Int(day)), ("opt", V::Union(0, Box::new(V::Null)))],
        )
    };
    let fits = |data: &[u8]| plan.check(data).map(drop).map_err(|unfit| unfit.to_string());
    assert_eq!(fits(&bytes(&[0x27, 0x0f], 0)), Ok(()));
    assert_eq!(fits(&bytes(&[0, 0, 0, 0x27, 0x0f], 0)), Ok(()), "leading zeros are no digits");
    assert_eq!(fits(&bytes(&[], 0)), Ok(()), "no bytes at all are zero");
    assert_eq!(fits(&bytes(&[0x27, 0x10], 0)).unwrap_err(), "column amount: a decimal has more than 4 digits");
    assert_eq!(fits(&bytes(&[0xd8, 0xf0], 0)).unwrap_err(), "column amount: a decimal has more than 4 digits");
    assert_eq!(fits(&bytes(&[1; 17], 0)).unwrap_err(), "column amount: a decimal has more than 4 digits");
    assert_eq!(fits(&bytes(&[1], i32::MAX)).unwrap_err(), "column day: a time is outside the years 1 to 9999");
    let good = bytes(&[1], 0);
    assert_eq!(fits(&good[..good.len() - 1]).unwrap_err(), Unfit::Short.to_string());
    assert_eq!(fits(&[good.as_slice(), &[0]].concat()).unwrap_err(), "1 bytes follow the record's end");
    let mut branch = good.clone();
    *branch.last_mut().unwrap() = 4;
    assert_eq!(fits(&branch).unwrap_err(), Unfit::Branch.to_string());
    let strict = record(json!([{"name": "opt", "type": "int"}]));
    let plan = Plan::new(
        &parse(&record(json!([{"name": "opt", "type": ["null", "int"]}]))),
        &schema::of(&parse(&strict)).unwrap(),
    )
    .unwrap();
    let null = [14, 0];
    assert_eq!(plan.check(&null).unwrap_err().to_string(), "column opt is null, and the table requires it");
}

#[test]
fn sixteen_bytes_and_their_sign() {
    let cases: [(&[u8], Option<i128>); 6] = [
        (&[0xff], Some(-1)),
        (&[0xff, 0xff, 0x00], Some(-256)),
        (&[0x00, 0x80], Some(128)),
        (&[0x7f; 16], None),
        (&[&[0x00][..], &[0x80], &[0; 15]].concat(), None),
        (&[&[0xff][..], &[0x7f], &[0; 15]].concat(), None),
    ];
    for (bytes, value) in cases {
        assert_eq!(unscaled(bytes, 38), value, "{bytes:?}");
    }
}

#[test]
fn keys_are_those_of_the_record() {
    let schema = schema_of("InvoiceRecord");
    let plan = Plan::new(&parse(&schema), &schema::of(&parse(&schema)).unwrap()).unwrap();
    let record = invoice(None, 1);
    let data = avro::Schema::ours("InvoiceRecord").unwrap().write(&record, Vec::new()).unwrap();
    let keys = plan.check(&data).unwrap();
    assert_eq!(
        (keys.received_at, keys.source.of(&data), keys.entity.of(&data)),
        (1_777_713_243_120_001, &b"accelex"[..], &b"inv-9"[..])
    );
}
