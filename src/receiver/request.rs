//! A request before and after its sender is known: different types.

use std::net::IpAddr;

use axum::http::HeaderMap;
use axum::http::request::Parts;
use bytes::Bytes;
use uuid::Uuid;

use crate::config::Source;
use crate::event::{Sha256, Timestamp};
use crate::outcome::Answer;
use crate::signature;

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
    /// Proves who sent the request: the signature over the raw body must be one of the source's secrets', retired ones
    /// excepted.
    ///
    /// # Errors
    /// [`Answer::SignatureMissing`] without the header; [`Answer::SignatureInvalid`] where it is repeated, not ASCII,
    /// or made with no key of the source.
    pub fn verify(self, source: &Source) -> Result<Verified, Answer> {
        let mut values = self.headers.get_all(source.scheme.header.as_str()).iter();
        let value = values.next().ok_or(Answer::SignatureMissing)?;
        // Of two signatures, another reader of the evidence could take the other one.
        if values.next().is_some() {
            return Err(Answer::SignatureInvalid);
        }
        let signature = value.to_str().map_err(|_| Answer::SignatureInvalid)?.to_owned();
        let key = source
            .secrets
            .iter()
            .filter(|secret| !secret.verify_only)
            .find(|secret| signature::matches(&source.scheme, secret.value.expose(), &signature, &self.body))
            .ok_or(Answer::SignatureInvalid)?;
        Ok(Verified { signature, key_id: key.id.clone(), test_key: key.test, request: self })
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
            "[sources.{name}]\nsecrets = [{{ id = \"live\", value = \"env:S\" }}, {{ id = \"old\", value = \"env:S\", verify_only = true }}, {{ id = \"test\", value = \"env:S\", test = true }}]"
        );
        let env = |_: &str| Some("unused".to_owned());
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
    pub(in super::super) fn raw(body: &[u8], headers: &[(&'static str, &[u8])]) -> RawRequest {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, axum::http::HeaderValue::from_bytes(value).unwrap());
        }
        RawRequest {
            id: Uuid::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0001),
            peer: "192.0.2.7".parse().unwrap(),
            client_certificate: Some(Sha256::of(b"certificate")),
            headers: map,
            body: Bytes::copy_from_slice(body),
            received_at: Timestamp::from_micros(1_777_000_000_000_000),
        }
    }

    /// The body signed with the secret of this name.
    pub(in super::super) fn verified(source: &Source, key: &str, body: &[u8]) -> Verified {
        let signature = signature::sign(&source.scheme, key.as_bytes(), body);
        raw(body, &[("accbooks-signature", signature.as_bytes()), ("x-accelex-signature", signature.as_bytes())])
            .verify(source)
            .unwrap_or_else(|answer| panic!("{answer}"))
    }

    #[test]
    fn a_head_is_as_long_as_it_is_written() {
        let written = "POST /api/x?a=1\r\nhost: x\r\nx-n: 1\r\nx-n: 22\r\n";
        let request = axum::http::Request::post("http://host/api/x?a=1").header("host", "x").header("x-n", "1");
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
        let verify = |headers: &[(&'static str, &[u8])]| {
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
