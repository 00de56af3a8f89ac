//! The envelope of a verified request, with what an auditor needs to prove it again. Pure.

use std::collections::BTreeMap;

use hyper::{HeaderMap, header};

use super::extract::Extract;
use super::request::Verified;
use crate::config::Source;
use crate::event::{Envelope, Evidence, Origin, Sha256};

/// Bound on the headers kept, names and values together, in bytes. Heads of providers' requests are under 2 KiB; with a
/// body at its limit the envelope still leaves most of Kafka's 4 MiB free.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// What the name of a header that is not kept contains: it may carry a credential.
const CREDENTIALS: [&str; 8] =
    ["authorization", "cookie", "token", "secret", "api-key", "api_key", "apikey", "password"];

/// The envelope of a request taken by this receiver.
#[must_use]
pub fn envelope(source: &Source, request: &Verified, read: &Extract, receiver_id: &str) -> Envelope {
    let raw = request.request();
    let request_id = raw.id.to_string();
    Envelope {
        event_id: read.event_id.clone().unwrap_or_else(|| request_id.clone()),
        source: source.name.clone(),
        event_type: read.event_type.clone(),
        occurred_at: read.occurred_at,
        received_at: raw.received_at,
        content_type: raw
            .headers
            .get(header::CONTENT_TYPE)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
        body: raw.body.clone(),
        body_sha256: Sha256::of(&raw.body),
        unusable: read.unusable.map(|why| why.name().to_owned()),
        test: read.test.map(|mark| mark.name().to_owned()),
        evidence: Evidence {
            signature_header: source.scheme.header.clone(),
            signature_value: request.signature().to_owned(),
            algorithm: source.scheme.notation(),
            key_id: request.key_id().to_owned(),
            remote_address: raw.peer.to_canonical().to_string(),
            client_certificate_sha256: raw.client_certificate.map(|sha256| sha256.to_string()),
            request_id,
            receiver_id: receiver_id.to_owned(),
            headers: headers(&raw.headers, &relied_on(source)),
        },
        origin: Origin::Live,
    }
}

/// Headers that the proof, the id or the type came from: without them the event could not be checked again.
fn relied_on(source: &Source) -> Vec<&str> {
    let named = [source.id_header.as_deref(), source.type_header.as_deref()];
    source.scheme.signed_headers().chain(named.into_iter().flatten()).collect()
}

/// Whether one of [`CREDENTIALS`] stands in the name. Each is looked for only where its first letter stands: eight
/// searches of each name would be half of what a request's headers cost.
fn may_carry_credential(name: &str) -> bool {
    let at = |n: usize| name.as_bytes().get(n..).unwrap_or_default();
    (0..name.len()).any(|n| match at(n).first() {
        Some(b'a' | b'c' | b'p' | b's' | b't') => CREDENTIALS.iter().any(|word| at(n).starts_with(word.as_bytes())),
        _ => false,
    })
}

/// Headers by name, repeats joined by a comma, without credentials. What goes over the bound is left out, in the order
/// of names; those `relied_on` are kept whatever they are called, and come first.
fn headers(map: &HeaderMap, relied_on: &[&str]) -> BTreeMap<String, String> {
    let mut kept = BTreeMap::new();
    let mut room = MAX_HEADER_BYTES;
    let relied_on = |name: &str| relied_on.iter().any(|header| header.eq_ignore_ascii_case(name));
    let may_stay = |name: &&str| relied_on(name) || !may_carry_credential(name);
    // The map's own order is no order.
    let mut names: Vec<&str> = map.keys().map(header::HeaderName::as_str).filter(may_stay).collect();
    names.sort_unstable_by_key(|name| (!relied_on(name), *name));
    for name in names {
        let mut value = String::new();
        for (n, one) in map.get_all(name).iter().enumerate() {
            value.push_str(if n == 0 { "" } else { ", " });
            value.push_str(&String::from_utf8_lossy(one.as_bytes()));
        }
        let left = room.checked_sub(name.len() + value.len());
        if left.is_some() || relied_on(name) {
            room = left.unwrap_or(0);
            kept.insert(name.to_owned(), value);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::super::extract::extract;
    use super::super::request::tests::{raw, source, verified};
    use super::*;

    #[test]
    fn an_envelope_holds_what_came() {
        let source = source("accbooks");
        let body = br#"{"id":"evt_1","type":"invoice.paid"}"#;
        let request = verified(&source, "live", body);
        let envelope = envelope(&source, &request, &extract(&source, &request), "receiver-1");
        assert_eq!(envelope.body, &body[..]);
        assert_eq!(envelope.body_sha256, Sha256::of(body));
        assert_eq!(envelope.event_id, "evt_1");
        assert_eq!(envelope.evidence.key_id, "live");
        assert_eq!(envelope.evidence.algorithm, "hmac-sha256");
        assert_eq!(envelope.evidence.remote_address, "192.0.2.7");
        let certificate = envelope.evidence.client_certificate_sha256;
        assert_eq!(certificate, Some(Sha256::of(b"certificate").to_string()));
        assert_eq!(envelope.evidence.signature_value, request.signature());
        assert_eq!(envelope.evidence.receiver_id, "receiver-1");
    }

    #[test]
    fn an_envelope_holds_all_that_was_signed() {
        let source = source("standard-webhooks");
        let request = verified(&source, "live", b"{}");
        let evidence = envelope(&source, &request, &extract(&source, &request), "r").evidence;
        assert_eq!(evidence.algorithm, "hmac-sha256 {webhook-id}.{webhook-timestamp}.{body}");
        assert_eq!(
            (evidence.headers["webhook-id"].as_str(), &*evidence.headers["webhook-timestamp"]),
            ("msg_1", "1777000000")
        );
    }

    #[test]
    fn without_an_id_the_request_id_stands_for_it() {
        let source = source("accbooks");
        let request = verified(&source, "live", b"not json");
        let envelope = envelope(&source, &request, &extract(&source, &request), "r");
        assert_eq!(envelope.event_id, request.request().id.to_string());
        assert_eq!(envelope.evidence.request_id, envelope.event_id);
        assert_eq!(envelope.unusable.as_deref(), Some("not_json"));
    }

    #[test]
    fn no_credential_is_kept() {
        let kept = headers(
            &raw(
                b"",
                &[
                    ("user-agent", b"AccBooks/1"),
                    ("x-n", b"1"),
                    ("x-n", b"\xff"),
                    ("authorization", b"x"),
                    ("proxy-authorization", b"x"),
                    ("cookie", b"x"),
                    ("set-cookie", b"x"),
                    ("x-auth-token", b"x"),
                    ("client-secret", b"x"),
                    ("x-api-key", b"x"),
                    ("x-apikey", b"x"),
                    ("my-password", b"x"),
                ],
            )
            .headers,
            &[],
        );
        let wanted = [("user-agent", "AccBooks/1"), ("x-n", "1, \u{fffd}")];
        assert_eq!(kept, wanted.map(|(n, v)| (n.to_owned(), v.to_owned())).into());
    }

    #[test]
    fn credentials_are_found_wherever_they_stand_in_a_name() {
        let firsts: std::collections::BTreeSet<u8> = CREDENTIALS.iter().map(|word| word.as_bytes()[0]).collect();
        assert_eq!(firsts, b"acpst".iter().copied().collect(), "the letters that are looked at");
        for word in CREDENTIALS {
            for name in [word.to_owned(), format!("x-{word}"), format!("{word}-2"), format!("aa{word}cc")] {
                assert!(may_carry_credential(&name), "{name}");
            }
            assert!(!may_carry_credential(&word[1..]) && !may_carry_credential(&word[..word.len() - 1]), "{word}");
        }
        for name in ["", "a", "accept", "content-type", "x-accelex-signature", "user-agent", "pass-word", "toke\u{e9}n"]
        {
            assert!(!may_carry_credential(name), "{name}");
        }
    }

    #[test]
    fn headers_are_bounded() {
        let long = vec![b'a'; MAX_HEADER_BYTES];
        let kept = |relied_on: &[&str]| {
            let kept = headers(&raw(b"", &[("a", b"1"), ("b", &long), ("c-token", b"2")]).headers, relied_on);
            kept.into_keys().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(kept(&[]), "a");
        assert_eq!(kept(&["C-Token"]), "a c-token", "what the proof stands on is kept whatever its name");
        assert_eq!(kept(&["B"]), "b", "and whatever its size");
    }
}
