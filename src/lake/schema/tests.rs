//! Avro to Iceberg: types, ids, and what may change.

use serde_json::{Value, json};

use super::*;
use crate::avro::SOURCES;

fn table_of(fields: Value) -> Result<Schema, Unfit> {
    let mut all = json!([
        {"name": "received_at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    ]);
    if let (Value::Array(all), Value::Array(fields)) = (&mut all, fields) {
        all.extend(fields);
    }
    of(&Avro::parse(&json!({"type": "record", "name": "R", "namespace": "n", "fields": all})).unwrap())
}

fn ours(name: &str) -> Schema {
    let (_, text) = SOURCES.iter().find(|(n, _)| *n == name).unwrap();
    of(&Avro::parse(&serde_json::from_str(text).unwrap()).unwrap()).unwrap()
}

/// `name: type` of a column, with `?` where it is optional.
fn shown(schema: &Schema, column: &str) -> String {
    let field = schema.field_by_name(column).unwrap_or_else(|| panic!("no column {column}"));
    format!("{}{}", field.field_type.to_string().replace(", ", ","), if field.required { "" } else { "?" })
}

#[test]
fn every_type_has_its_column() {
    let cases = [
        (json!("boolean"), "boolean"),
        (json!("int"), "int"),
        (json!("long"), "long"),
        (json!("float"), "float"),
        (json!("double"), "double"),
        (json!("bytes"), "binary"),
        (json!("string"), "string"),
        (json!({"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 9}), "decimal(38,9)"),
        (json!({"type": "int", "logicalType": "date"}), "date"),
        (json!({"type": "long", "logicalType": "timestamp-micros"}), "timestamptz"),
        (json!({"type": "enum", "name": "E", "symbols": ["A"]}), "string"),
        (json!(["null", "string"]), "string?"),
        (json!(["string", "null"]), "string?"),
        (json!(["string"]), "string"),
        (json!({"type": "string"}), "string"),
    ];
    for (avro, column) in cases {
        let table = table_of(json!([{"name": "c", "type": avro}])).unwrap();
        assert_eq!(shown(&table, "c"), column, "{avro}");
    }
    let table = table_of(json!([
        {"name": "l", "type": {"type": "array", "items": ["null", "int"]}},
        {"name": "m", "type": {"type": "map", "values": "string"}},
        {"name": "s", "type": ["null", {"type": "record", "name": "S", "fields": [{"name": "a", "type": "int"}]}]},
        {"name": "again", "type": {"type": "array", "items": "S"}},
        {"name": "d", "type": "string", "default": ""},
    ]))
    .unwrap();
    for (column, is) in [
        ("l.element", "int?"),
        ("m.key", "string"),
        ("m.value", "string"),
        ("s.a", "int"),
        ("again.element.a", "int"),
        ("d", "string?"),
    ] {
        assert_eq!(shown(&table, column), is, "{column}");
    }
    assert!(!table.field_by_name("s").unwrap().required);
}

#[test]
fn what_no_table_has_is_refused_with_the_column() {
    let cases = [
        (json!({"type": "fixed", "name": "F", "size": 2}), "column c: the type fixed is not supported"),
        (json!(["int", "string"]), "column c: a table has nothing for union of int, string"),
        (json!({"type": "array", "items": ["int", "long"]}), "column c: a table has nothing for union of int, long"),
        (
            json!({"type": "bytes", "logicalType": "decimal", "precision": 39, "scale": 9}),
            "column c: a table has nothing for decimal(39,9)",
        ),
        (json!("null"), "column c: a table has nothing for null"),
        (json!({"type": "record", "name": "E", "fields": []}), "column c: a table has nothing for record"),
    ];
    for (avro, why) in cases {
        let schema = json!({"type": "record", "name": "R", "fields": [
            {"name": "received_at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
            {"name": "c", "type": avro},
        ]});
        let refused = Avro::parse(&schema).and_then(|avro| of(&avro)).unwrap_err();
        assert_eq!(refused.to_string(), why);
    }
    let itself = json!({"type": "record", "name": "R", "fields": [{"name": "next", "type": ["null", "R"]}]});
    assert!(Avro::parse(&itself).unwrap_err().to_string().contains("contains itself"));
    let ours = table_of(json!([{"name": "kafka_offset", "type": "long"}])).unwrap_err();
    assert_eq!(ours.to_string(), "column kafka_offset: is the name of a column of ours");
    let dayless = of(&Avro::parse(&json!({"type": "record", "name": "R", "fields": []})).unwrap()).unwrap_err();
    assert!(dayless.to_string().starts_with("column received_at: "), "{dayless}");
}

#[test]
fn our_records_are_tables() {
    let invoices = ours("InvoiceRecord");
    for (column, is) in [
        ("kafka_topic", "string"),
        ("kafka_partition", "int"),
        ("kafka_offset", "long"),
        ("event_id", "string"),
        ("received_at", "timestamptz"),
        ("occurred_at", "timestamptz?"),
        ("body_sha256", "binary"),
        ("provenance.processed_at", "timestamptz?"),
        ("validation.element.score", "decimal(38,9)?"),
        ("status", "string"),
        ("issue_date", "date?"),
        ("total_amount", "decimal(38,9)?"),
        ("lines.element.quantity", "decimal(38,9)?"),
        ("anomalies.element", "string"),
    ] {
        assert_eq!(shown(&invoices, column), is, "{column}");
    }
    let events = ours("Envelope");
    for (column, is) in [("body", "binary"), ("evidence.headers.value", "string"), ("origin", "string?")] {
        assert_eq!(shown(&events, column), is, "{column}");
    }
    for (_, record) in crate::topics::RECORDS {
        let table = ours(record);
        let mut ids: Vec<i32> = table.field_id_to_fields().keys().copied().collect();
        ids.sort_unstable();
        assert_eq!(
            ids,
            (1..=table.highest_field_id()).collect::<Vec<_>>(),
            "{record}: each column has an id of its own"
        );
    }
}

#[test]
fn columns_are_added_and_nothing_else() {
    let base = json!([
        {"name": "a", "type": ["null", "int"], "default": null},
        {"name": "s", "type": {"type": "record", "name": "S", "fields": [{"name": "x", "type": "int"}]}},
        {"name": "l", "type": {"type": "array", "items": "S"}},
    ]);
    let table = table_of(base.clone()).unwrap();
    let with = |change: &dyn Fn(&mut Vec<Value>)| {
        let Value::Array(mut fields) = base.clone() else { unreachable!() };
        change(&mut fields);
        missing(&table, &table_of(Value::Array(fields)).unwrap())
    };
    assert_eq!(with(&|_| {}).unwrap().len(), 0);
    assert_eq!(with(&|f| drop(f.remove(0))).unwrap().len(), 0, "a column that is left alone stays");
    assert_eq!(with(&|f| f.push(json!({"name": "b", "type": ["null", "long"]}))).unwrap().len(), 1);
    assert_eq!(with(&|f| f[0]["type"] = json!(["null", "int"])).unwrap().len(), 0);
    let nested = json!([{"name": "x", "type": "int"}, {"name": "y", "type": ["null", "string"]}]);
    // The struct stands there twice.
    assert_eq!(with(&|f| f[1]["type"]["fields"] = nested.clone()).unwrap().len(), 2);
    for (why, change) in [
        (
            "column a: the schema says string, the table has int",
            &(|f: &mut Vec<Value>| f[0]["type"] = json!(["null", "string"])) as &dyn Fn(&mut Vec<Value>),
        ),
        ("column a: the schema says long, the table has int", &|f| f[0]["type"] = json!(["null", "long"])),
        ("column b: is required, and rows that are there already have none", &|f| {
            f.push(json!({"name": "b", "type": "int"}))
        }),
        ("column s: may be missing, and the table requires it", &|f| f[1]["default"] = json!({})),
        ("column s: the schema says int, the table has struct<4: x: required int>", &|f| {
            f[1] = json!({"name": "s", "type": "int"});
            f[2]["type"]["items"] = json!({"type": "record", "name": "S", "fields": [{"name": "x", "type": "int"}]});
        }),
    ] {
        let refused = with(change).err().unwrap_or_else(|| panic!("not refused: {why}")).to_string();
        assert!(refused.starts_with(why.split(", the table has struct").next().unwrap()), "{refused}");
    }
}
