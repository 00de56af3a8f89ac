//! Whatever a provider signs: it becomes an envelope that can be stored, with the body as it came and a usable key.
//!
//! Input: a line with the preset, one with an id's header, one with a type's, then the body.

#![no_main]

use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue};
use ledgerhook::config::Source;
use ledgerhook::event::{Envelope, MAX_EVENT_ID_BYTES, Sha256, Timestamp};
use ledgerhook::kafka::codec::Encoder;
use ledgerhook::receiver::{RawRequest, evidence, extract};
use ledgerhook::signature;
use ledgerhook_fuzz::{cut, sources};
use libfuzzer_sys::fuzz_target;

static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(sources);
static ENCODER: LazyLock<Encoder> = LazyLock::new(|| Encoder::new("Envelope", 1).expect("a schema of ours"));

const NOW_S: i64 = 1_777_000_000;

fuzz_target!(|input: &[u8]| {
    let Some(([preset, id, event_type], body)) = cut::<3>(input) else { return };
    let source = &SOURCES[usize::from(*preset.first().unwrap_or(&0)) % SOURCES.len()];
    let key = source.secrets[0].value.expose();
    let mut headers = HeaderMap::new();
    for (name, value) in signature::headers(&source.scheme, key, "msg_1", NOW_S, body) {
        headers.append(name.parse::<HeaderName>().expect("a name"), value.parse().expect("a value"));
    }
    for (name, value) in [(&source.id_header, id), (&source.type_header, event_type)] {
        let name = name.as_ref().map(|name| name.parse::<HeaderName>().expect("a name"));
        if let (Some(name), Ok(value)) = (name, HeaderValue::from_bytes(value))
            && !headers.contains_key(&name)
        {
            headers.append(name, value);
        }
    }
    let request = RawRequest {
        id: uuid::Uuid::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0001),
        peer: std::net::Ipv4Addr::LOCALHOST.into(),
        client_certificate: None,
        headers,
        body: bytes::Bytes::copy_from_slice(body),
        received_at: Timestamp::from_micros(NOW_S * 1_000_000),
    };
    let verified = request.verify(source).unwrap_or_else(|answer| panic!("signed, and refused: {answer}"));
    let read = extract::extract(source, &verified);
    let envelope: Envelope = evidence::envelope(source, &verified, &read, "receiver-1");
    assert_eq!(envelope.body, body);
    assert_eq!(envelope.body_sha256, Sha256::of(body));
    assert!(!envelope.event_id.is_empty() && envelope.event_id.len() <= MAX_EVENT_ID_BYTES);
    assert!(!envelope.event_id.contains(char::is_control) && !envelope.event_type.contains(char::is_control));
    assert!(envelope.unusable.is_some() || read.event_id.is_some() && !envelope.event_type.is_empty());
    ENCODER.encode(&envelope).expect("it fits the schema");
});
