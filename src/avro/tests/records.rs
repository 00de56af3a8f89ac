//! A record's JSON is the same by every way: as a tree, as text, and member by member.

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use serde_json::Map;

use super::*;

/// Texts that are something else where they are not escaped, or are cut in the wrong place.
const TEXTS: [&str; 12] = [
    "",
    "\"",
    "\\",
    "\\u0041",
    "a\nb\r\t\u{8}\u{c}\0\u{1f}\u{7f}",
    "\u{2028}\u{2029}\u{202e}\u{feff}",
    "ß\u{1f4b6}\u{10ffff}",
    "\",\"event_id\":\"forged",
    "null",
    "{{ record }}",
    "</script>",
    "-0.000000001",
];
const DECIMALS: [i128; 6] = [0, -1, 1_500_000_000, -200, 10_i128.pow(38) - 1, 1 - 10_i128.pow(38)];

/// Writes the datum of some value of this part of a schema.
fn datum(node: &Value, rng: &mut SmallRng, schema: &Value, out: &mut Vec<u8>) {
    match (node, node["type"].as_str()) {
        (Value::Array(union), _) => {
            let n = rng.random_range(0..union.len());
            long(n as i64, out);
            datum(&union[n], rng, schema, out);
        }
        (Value::String(name), _) if !["null", "string", "int", "long", "boolean", "bytes"].contains(&name.as_str()) => {
            datum(named(schema, name).unwrap(), rng, schema, out);
        }
        (Value::String(name), _) => primitive(name, false, rng, out),
        (_, Some("record")) => {
            node["fields"].as_array().unwrap().iter().for_each(|field| datum(&field["type"], rng, schema, out));
        }
        (_, Some("enum")) => long(rng.random_range(0..node["symbols"].as_array().unwrap().len()) as i64, out),
        (_, Some(kind @ ("array" | "map"))) => {
            let n = rng.random_range(0..3_usize);
            if n > 0 {
                long(n as i64, out);
            }
            for key in 0..n {
                if kind == "map" {
                    bytes(format!("{key}{}", TEXTS[rng.random_range(0..TEXTS.len())]).as_bytes(), out);
                }
                datum(if kind == "map" { &node["values"] } else { &node["items"] }, rng, schema, out);
            }
            out.push(0);
        }
        (_, Some(name)) => primitive(name, node["logicalType"] == "decimal", rng, out),
        (_, None) => datum(&node["type"], rng, schema, out),
    }
}

fn primitive(name: &str, decimal: bool, rng: &mut SmallRng, out: &mut Vec<u8>) {
    match name {
        "null" => {}
        "string" => bytes(TEXTS[rng.random_range(0..TEXTS.len())].as_bytes(), out),
        "int" => long(rng.random::<i32>().into(), out),
        "long" => long(rng.random::<i64>() >> rng.random_range(0..64), out),
        "boolean" => out.push(rng.random_range(0..2)),
        "bytes" if decimal => bytes(&DECIMALS[rng.random_range(0..DECIMALS.len())].to_be_bytes(), out),
        // Every other one is a SHA-256.
        "bytes" => bytes(&rng.random::<[u8; 32]>(), out),
        other => panic!("{other}"),
    }
}

fn long(n: i64, out: &mut Vec<u8>) {
    let mut zigzag = ((n << 1) ^ (n >> 63)) as u64;
    while zigzag > 0x7f {
        out.push((zigzag & 0x7f) as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

fn bytes(bytes: &[u8], out: &mut Vec<u8>) {
    long(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}

/// The type of this name, defined somewhere in the schema.
fn named<'a>(node: &'a Value, name: &str) -> Option<&'a Value> {
    match node {
        // A field may have the same name, and neither of the two.
        Value::Object(members) if node["name"] == name && (node["fields"].is_array() || node["symbols"].is_array()) => {
            Some(node)
        }
        Value::Object(members) => members.values().find_map(|member| named(member, name)),
        Value::Array(items) => items.iter().find_map(|item| named(item, name)),
        _ => None,
    }
}

/// Some record of each type, the same for the same seed.
pub(crate) fn records(seed: u64) -> Vec<Record> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut of = |name: &str| {
        let schema = Schema::ours(name).unwrap();
        let mut datum_of = Vec::new();
        datum(schema.tree(), &mut rng, schema.tree(), &mut datum_of);
        (schema, datum_of)
    };
    macro_rules! all {
        ($($type:ident),*) => { vec![$({ let (schema, datum) = of(stringify!($type)); schema.read::<$type>(&datum).unwrap().into() }),*] };
    }
    all![InvoiceRecord, ContractRecord, CaseRecord, ComplianceRecord, TransactionRecord, ReviewRecord, FeedRecord]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn json_is_the_same_by_every_way(seed in any::<u64>()) {
        for record in records(seed) {
            let tree = record.to_json();
            let mut text = b"before ".to_vec();
            record.write_json(&mut text);
            let text = String::from_utf8(text.split_off(7)).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Value>(&text).unwrap(), &tree);
            // Texts are signed and compared as bytes: the spelling is the same too.
            prop_assert_eq!(text, tree.to_string());
            let members = record.names().iter().map(|name| ((*name).to_owned(), record.member(name).unwrap()));
            prop_assert_eq!(&Value::Object(members.collect::<Map<_, _>>()), &tree);
            prop_assert!(record.names().iter().eq(tree.as_object().unwrap().keys()));
            prop_assert_eq!(Some(record.attributes()), tree["attributes"].as_str());
            for name in ["", "nowhere", "r#type", "EVENT_ID", "event_id "] {
                prop_assert_eq!(record.member(name), None);
            }
        }
    }
}
