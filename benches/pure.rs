//! What the pure parts of the path cost per event, each beside the least that such work could cost.
//!
//! Bodies are the simulator's own events; where a size is named, a member of text pads them to it. Before anything is
//! timed, both ends of a pair are held against each other: the same digest, the same bytes, the same value.

use std::hint::black_box;

use apache_avro::Schema as ApacheSchema;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hmac::{Hmac, KeyInit as _, Mac as _};
use ledgerhook::avro::{self, Schema};
use ledgerhook::config::{Config, Source};
use ledgerhook::event::{Envelope, InvoiceRecord, Record, Timestamp};
use ledgerhook::kafka::codec::Encoder;
use ledgerhook::receiver::{RawRequest, Verified, evidence, extract};
use ledgerhook::router::mapping::Mapper;
use ledgerhook::signature::{self, Claim};
use ledgerhook::simulate::fixtures::FIXTURES;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use sha2::Sha256;
use uuid::Uuid;

/// A usual body: between AccBooks' few members and AccelEx's invoice of several lines.
const BODY_BYTES: usize = 1536;
const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
/// Of the events' ids and amounts.
const SEED: u64 = 1;
/// Stands for what a registry would give.
const SCHEMA_ID: u32 = 7;

fn config() -> Config {
    let text = r#"
        [sources.accelex]
        secrets = [{ id = "bench", value = "env:KEY" }]
        [sources.accbooks]
        secrets = [{ id = "bench", value = "env:KEY" }]
    "#;
    let env = |_: &str| Some(String::from_utf8_lossy(KEY).into_owned());
    Config::parse(text, "bench.toml", &env, &[]).expect("the configuration above is valid")
}

fn source(name: &str) -> Source {
    config().sources.remove(name).expect("both providers are configured")
}

/// An event as its provider sends it.
fn body(event_type: &str) -> Vec<u8> {
    let fixture = FIXTURES.iter().find(|fixture| fixture.event_type == event_type).expect("a known type");
    fixture.template().expect("fixtures are JSON").event(SEED, 1).body
}

/// The same with a member of text at its end, so that it is [`BODY_BYTES`] long.
fn padded(event_type: &str) -> Vec<u8> {
    const MEMBER: &str = r#","note":"""#;
    let mut body = body(event_type);
    let room = BODY_BYTES.checked_sub(body.len() + MEMBER.len()).expect("fixtures are smaller than the padded body");
    body.pop();
    body.extend_from_slice(format!(r#","note":"{}"}}"#, "n".repeat(room)).as_bytes());
    assert_eq!(body.len(), BODY_BYTES);
    body
}

/// The body as a request that its provider signed, with the headers of a usual client.
fn verified(source: &Source, body: Vec<u8>) -> Verified {
    let signature = signature::sign(&source.scheme, KEY, &body);
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (source.scheme.header.as_str(), signature.as_str()),
        ("host", "hooks.example.com"),
        ("user-agent", "provider/1.0"),
        ("content-type", "application/json"),
        ("content-length", "1536"),
        ("accept", "*/*"),
    ] {
        let name = HeaderName::try_from(name).expect("a header's name");
        headers.insert(name, HeaderValue::try_from(value).expect("a header's value"));
    }
    let request = RawRequest {
        id: Uuid::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0001),
        peer: std::net::Ipv4Addr::LOCALHOST.into(),
        client_certificate: None,
        headers,
        body: body.into(),
        received_at: Timestamp::from_micros(1_777_000_000_000_000),
    };
    request.verify(source).expect("the signature is right")
}

fn envelope(source: &Source, body: Vec<u8>) -> Envelope {
    let request = verified(source, body);
    evidence::envelope(source, &request, &extract::extract(source, &request), "receiver-1")
}

/// Raw body and header value -> whether the provider sent it.
fn verify(c: &mut Criterion) {
    let mut group = c.benchmark_group("verify_1536B");
    group.throughput(Throughput::Elements(1));
    for (name, event_type) in [("accelex", "invoice.resolved"), ("accbooks", "invoice.paid")] {
        let (source, body) = (source(name), padded(event_type));
        let value = signature::sign(&source.scheme, KEY, &body);
        let verify = |value: &str, body: &[u8]| {
            let claim = Claim { signature: value, ..Claim::default() };
            signature::verify(&source.scheme, claim, body, 0, [KEY].into_iter())
        };
        assert_eq!(verify(&value, &body), Ok(0));
        group.bench_function(name, |b| b.iter(|| verify(black_box(&value), black_box(&body))));
    }
    let body = padded("invoice.resolved");
    let mac = |body: &[u8]| Hmac::<Sha256>::new_from_slice(KEY).expect("any length").chain_update(body);
    let digest = mac(&body).finalize().into_bytes();
    group.bench_function("floor_hmac_sha2", |b| {
        b.iter(|| mac(black_box(&body)).verify_slice(black_box(&digest)).is_ok());
    });
    group.finish();
}

/// Verified request -> envelope, as the receiver makes it.
fn parse(c: &mut Criterion) {
    let source = source("accelex");
    let request = verified(&source, padded("invoice.resolved"));
    let mut group = c.benchmark_group("parse_1536B");
    group.throughput(Throughput::Elements(1));
    group.bench_function("extract", |b| b.iter(|| extract::extract(&source, black_box(&request))));
    group.bench_function("extract_and_envelope", |b| {
        b.iter(|| {
            let read = extract::extract(&source, black_box(&request));
            evidence::envelope(&source, &request, &read, "receiver-1")
        });
    });
    let body = request.request().body.clone();
    group.bench_function("floor_serde_json_value", |b| b.iter(|| serde_json::from_slice::<Value>(black_box(&body))));
    group.finish();
}

/// Envelope -> typed record, as the router maps it.
fn map(c: &mut Criterion) {
    let config = config();
    let mapper = mapper(&config);
    let mut group = c.benchmark_group("map");
    group.throughput(Throughput::Elements(1));
    for (name, event_type) in [("accelex", "invoice.resolved"), ("accbooks", "invoice.paid")] {
        let envelope = envelope(&source(name), body(event_type));
        group.bench_function(event_type, |b| b.iter(|| mapper.map(black_box(&envelope))));
        group.bench_function(format!("{event_type}_floor_serde_json_value"), |b| {
            b.iter(|| serde_json::from_slice::<Value>(black_box(&envelope.body)));
        });
    }
    group.finish();
}

fn mapper(config: &Config) -> Mapper {
    let sources = config.sources.values().map(|source| (source.name.as_str(), source.routes.as_str()));
    Mapper::new(sources, &config.routes).expect("the built-in routes are valid")
}

/// Values <-> framed Avro. The other crate writes serde types straight to the wire as well, and reads them by way of
/// its tree of values, which is its only way; it keeps the logical types, that is, decimals.
fn codec(c: &mut Criterion) {
    let envelope = envelope(&source("accelex"), padded("invoice.resolved"));
    one_codec(c, "Envelope", &envelope);
    let config = config();
    let mapper = mapper(&config);
    for (name, event_type) in [("accelex", "invoice.resolved"), ("accbooks", "invoice.paid")] {
        let envelope = self::envelope(&source(name), body(event_type));
        match mapper.map(&envelope) {
            Ok(Record::Invoice(record)) if name == "accelex" => one_codec(c, "InvoiceRecord", &record),
            Ok(Record::Invoice(record)) => {
                print_size(event_type, &encoder("InvoiceRecord").encode::<InvoiceRecord>(&record).expect("it fits"));
            }
            other => panic!("{event_type} became {other:?}"),
        }
    }
}

fn encoder(schema: &str) -> Encoder {
    Encoder::new(schema, SCHEMA_ID).expect("a schema of ours")
}

fn print_size(what: &str, framed: &[u8]) {
    println!("framed size of {what}: {} bytes", framed.len());
}

fn one_codec<T>(c: &mut Criterion, name: &str, value: &T)
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let (encoder, schema) = (encoder(name), Schema::ours(name).expect("a schema of ours"));
    let apache = ApacheSchema::parse_str(avro::source(name).expect("a schema of ours")).expect("it is valid");
    let write_apache = || {
        let mut out = Vec::with_capacity(256);
        apache_avro::write_avro_datum_ref(&apache, black_box(value), &mut out).map(|_| out)
    };
    let read_apache = |mut datum: &[u8]| {
        let tree = apache_avro::from_avro_datum(&apache, &mut datum, None)?;
        apache_avro::from_value::<T>(&tree)
    };

    let framed = encoder.encode(value).expect("it fits the schema");
    let datum = &framed[5..];
    assert_eq!(write_apache().expect("it fits the schema"), datum);
    assert_eq!(schema.read::<T>(datum).expect("it was written with it"), *value);
    assert_eq!(read_apache(datum).expect("it was written with it"), *value);
    print_size(name, &framed);

    let mut group = c.benchmark_group(format!("encode_{name}"));
    group.throughput(Throughput::Elements(1));
    group.bench_function("ours", |b| b.iter(|| encoder.encode(black_box(value))));
    group.bench_function("apache_avro", |b| b.iter(write_apache));
    group.finish();
    let mut group = c.benchmark_group(format!("decode_{name}"));
    group.throughput(Throughput::Elements(1));
    group.bench_function("ours", |b| b.iter(|| schema.read::<T>(black_box(datum))));
    group.bench_function("apache_avro", |b| b.iter(|| read_apache(black_box(datum))));
    group.finish();
}

criterion_group!(benches, verify, parse, map, codec);
criterion_main!(benches);
