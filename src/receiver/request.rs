//! A request before and after its sender is known: different types.

use std::net::IpAddr;

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::http::request::Parts;
use uuid::Uuid;

use crate::config::{Source, TimeAt};
use crate::event::{Sha256, Timestamp};
use crate::outcome::Answer;
use crate::signature::{self, Claim, Fault};

/// A whole request of which nobody knows who sent it. Its body must not be looked into.
pub struct RawRequest {
    /// Our id of it (UUIDv7).
    pub id: Uuid,
    /// The sender's address: the connection's other end, or for whom a trusted proxy forwards.
    pub peer: IpAddr,
    /// SHA-256 of the client's certificate, where the source asks for one.
    pub client_certificate: Option<Sha256>,
    /// Headers.
    pub headers: HeaderMap,
    /// The body as it came.
    pub body: Bytes,
    /// When the body was whole.
    pub received_at: Timestamp,
}

/// A request that one of the source's secrets signed. Only [`RawRequest::verify`] makes one.
pub struct Verified {
    request: RawRequest,
    signature: String,
    key_id: String,
    test_key: bool,
}

impl RawRequest {
    /// Proves who sent the request: the signature over the raw body, and over time and id where the scheme signs them,
    /// must be one of the source's secrets', retired ones excepted.
    ///
    /// # Errors
    /// [`Answer::SignatureMissing`] without a header of the scheme; [`Answer::SignatureInvalid`] where one is repeated
    /// or not ASCII, or the signature was made with no key of the source; [`Answer::TimestampOutOfRange`] where it was
    /// made for another time than about now.
    pub fn verify(self, source: &Source) -> Result<Verified, Answer> {
        let scheme = &source.scheme;
        let claim = Claim {
            signature: self.one(&scheme.header)?,
            timestamp: match &scheme.timestamp {
                Some(TimeAt::Header(name)) => Some(self.one(name)?),
                Some(TimeAt::Member(_)) | None => None,
            },
            id: scheme.id_header.as_deref().map(|name| self.one(name)).transpose()?,
        };
        let live = || source.secrets.iter().filter(|secret| !secret.verify_only);
        let now_s = self.received_at.as_micros().div_euclid(1_000_000);
        let keys = live().map(|secret| secret.value.expose());
        let position = signature::verify(scheme, claim, &self.body, now_s, keys).map_err(|fault| match fault {
            Fault::Invalid => Answer::SignatureInvalid,
            Fault::OutOfTime => Answer::TimestampOutOfRange,
        })?;
        let key = live().nth(position).ok_or(Answer::SignatureInvalid)?;
        let (signature, key_id, test_key) = (claim.signature.to_owned(), key.id.clone(), key.test);
        Ok(Verified { signature, key_id, test_key, request: self })
    }

    /// The one value of a header that the signature stands on. Of two, another reader of the evidence could take the
    /// other one.
    fn one(&self, name: &str) -> Result<&str, Answer> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next().ok_or(Answer::SignatureMissing)?;
        if values.next().is_some() {
            return Err(Answer::SignatureInvalid);
        }
        value.to_str().map_err(|_| Answer::SignatureInvalid)
    }
}

/// Bytes of a request's head, as HTTP/1.1 writes them: method and address, and each header with what goes around it.
pub(super) fn head_bytes(head: &Parts) -> usize {
    let address = head.uri.path_and_query().map_or(0, |address| address.as_str().len());
    let headers = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    head.method.as_str().len() + address + headers.sum::<usize>()
}

impl Verified {
    /// The request that was signed.
    #[must_use]
    pub const fn request(&self) -> &RawRequest {
        &self.request
    }

    /// The signature header's value as received.
    #[must_use]
    pub fn signature(&self) -> &str {
        &self.signature
    }

    /// Id of the secret that matched.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Whether that secret signs tests only.
    #[must_use]
    pub const fn is_test_key(&self) -> bool {
        self.test_key
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::{Config, Secret, SourceSecret};

    /// A source with the settings of a preset and secrets `live`, `old` (retired) and `test`, named as their values.
    pub(in super::super) fn source(name: &str) -> Source {
        let text = format!(
            "[sources.{name}]\npath = \"/x\"\nsecrets = [{{ id = \"live\", value = \"env:S\" }}, {{ id = \"old\", value = \"env:S\", verify_only = true }}, {{ id = \"test\", value = \"env:S\", test = true }}]"
        );
        let env = |_: &str| Some("whsec_Y2FuYXJ5".to_owned());
        let mut config = Config::parse(&text, "test.toml", &env, &[]).unwrap();
        let mut source = config.sources.remove(name).unwrap();
        source.secrets = source
            .secrets
            .into_iter()
            .map(|secret| SourceSecret { value: Secret::new(secret.id.as_bytes()), ..secret })
            .collect();
        source
    }

    /// A request with these signature headers.
    pub(in super::super) fn raw(body: &[u8], headers: &[(&str, &[u8])]) -> RawRequest {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = hyper::header::HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, hyper::header::HeaderValue::from_bytes(value).unwrap());
        }
        RawRequest {
            id: Uuid::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0001),
            peer: "192.0.2.7".parse().unwrap(),
            client_certificate: Some(Sha256::of(b"certificate")),
            headers: map,
            body: Bytes::copy_from_slice(body),
            received_at: Timestamp::from_micros(NOW_S * 1_000_000),
        }
    }

    const NOW_S: i64 = 1_777_000_000;

    /// The body signed with the secret of this name.
    pub(in super::super) fn verified(source: &Source, key: &str, body: &[u8]) -> Verified {
        verified_with(source, key, body, &[])
    }

    /// The same with further headers.
    pub(in super::super) fn verified_with(source: &Source, key: &str, body: &[u8], more: &[(&str, &[u8])]) -> Verified {
        let signed = signature::headers(&source.scheme, key.as_bytes(), "msg_1", NOW_S, body);
        let mut headers: Vec<(&str, &[u8])> = signed.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
        headers.extend(more);
        raw(body, &headers).verify(source).unwrap_or_else(|answer| panic!("{answer}"))
    }

    /// What is answered to a request of this preset whose n-th header of the signature is replaced by `with`.
    fn answer(preset: &str, n: usize, with: &[&[u8]]) -> Result<(), Answer> {
        let source = source(preset);
        let signed = signature::headers(&source.scheme, b"live", "msg_1", NOW_S, b"{}");
        let mut headers: Vec<(&str, &[u8])> = Vec::new();
        for (at, (name, value)) in signed.iter().enumerate() {
            match at {
                _ if at == n => headers.extend(with.iter().map(|value| (name.as_str(), *value))),
                _ => headers.push((name, value.as_bytes())),
            }
        }
        raw(b"{}", &headers).verify(&source).map(drop)
    }

    #[test]
    fn every_header_of_the_signature_stands_there_once() {
        use Answer::{SignatureInvalid, SignatureMissing, TimestampOutOfRange};
        let now = NOW_S.to_string();
        let (now, late) = (now.as_bytes(), (NOW_S - 301).to_string());
        let cases: [(&str, usize, &[&[u8]], _); 15] = [
            ("standard-webhooks", 9, &[], Ok(())),
            ("standard-webhooks", 0, &[], Err(SignatureMissing)),
            ("standard-webhooks", 1, &[], Err(SignatureMissing)),
            ("standard-webhooks", 2, &[], Err(SignatureMissing)),
            ("standard-webhooks", 1, &[b"msg_1", b"msg_1"], Err(SignatureInvalid)),
            ("standard-webhooks", 1, &[b"msg_2"], Err(SignatureInvalid)),
            ("standard-webhooks", 1, &[b"\xff"], Err(SignatureInvalid)),
            ("standard-webhooks", 2, &[now, now], Err(SignatureInvalid)),
            ("slack", 9, &[], Ok(())),
            ("slack", 0, &[], Err(SignatureMissing)),
            ("slack", 1, &[], Err(SignatureMissing)),
            ("slack", 1, &[now, now], Err(SignatureInvalid)),
            ("slack", 1, &[late.as_bytes()], Err(SignatureInvalid)),
            ("stripe", 9, &[], Ok(())),
            ("stripe", 0, &[], Err(SignatureMissing)),
        ];
        for (preset, n, with, expected) in cases {
            assert_eq!(answer(preset, n, with), expected, "{preset} {n} {with:?}");
        }
        for preset in ["standard-webhooks", "slack", "stripe"] {
            let source = source(preset);
            for away in [-301, 301] {
                let signed = signature::headers(&source.scheme, b"live", "msg_1", NOW_S + away, b"{}");
                let headers: Vec<(&str, &[u8])> = signed.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
                assert_eq!(raw(b"{}", &headers).verify(&source).map(drop), Err(TimestampOutOfRange), "{preset} {away}");
            }
        }
    }

    #[test]
    fn a_head_is_as_long_as_it_is_written() {
        let written = "POST /api/x?a=1\r\nhost: x\r\nx-n: 1\r\nx-n: 22\r\n";
        let request = hyper::Request::post("http://host/api/x?a=1").header("host", "x").header("x-n", "1");
        let (head, ()) = request.header("x-n", "22").body(()).unwrap().into_parts();
        assert_eq!(head_bytes(&head), written.len() - " \r\n".len());
    }

    #[test]
    fn only_a_live_key_of_the_source_lets_a_request_in() {
        const BODY: &[u8] = b"{}";
        const HEADER: &str = "accbooks-signature";
        let source = source("accbooks");
        let sign = |key: &str| signature::sign(&source.scheme, key.as_bytes(), BODY);
        let (live, old, test) = (sign("live"), sign("old"), sign("test"));
        let verify = |headers: &[(&str, &[u8])]| {
            raw(BODY, headers).verify(&source).map(|v| (v.key_id().to_owned(), v.is_test_key()))
        };
        assert_eq!(verify(&[(HEADER, live.as_bytes())]), Ok(("live".to_owned(), false)));
        assert_eq!(verify(&[(HEADER, test.as_bytes())]), Ok(("test".to_owned(), true)));
        assert_eq!(verify(&[]), Err(Answer::SignatureMissing));
        assert_eq!(verify(&[("x-accelex-signature", live.as_bytes())]), Err(Answer::SignatureMissing));
        for bad in [b"".as_slice(), b"sha256=", old.as_bytes(), b"sha256=\xff\xfe", sign("stranger").as_bytes()] {
            assert_eq!(verify(&[(HEADER, bad)]), Err(Answer::SignatureInvalid), "{}", bad.escape_ascii());
        }
        assert_eq!(verify(&[(HEADER, live.as_bytes()), (HEADER, live.as_bytes())]), Err(Answer::SignatureInvalid));
    }
}
