//! The receiving end of Standard Webhooks (<https://www.standardwebhooks.com>): written for itself, not shared with the
//! sender, so that each proves the other.

use std::time::Duration;

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::config::Secret;
use crate::event::Timestamp;

/// How far a signed time may be from ours: what the specification's own libraries allow.
const TOLERANCE: Duration = Duration::from_secs(300);

/// The key inside a secret: base64, with or without `whsec_` before it.
pub(super) fn key(secret: &Secret) -> Option<Vec<u8>> {
    let text = secret.expose_str()?;
    BASE64.decode(text.strip_prefix("whsec_").unwrap_or(text)).ok().filter(|key| !key.is_empty())
}

/// What is wrong with a delivery's signature: a code and a message.
pub(super) fn verify(
    key: &[u8],
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<(), (&'static str, &'static str)> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (id, time, signatures) = (text("webhook-id"), text("webhook-timestamp"), text("webhook-signature"));
    if time.is_empty() || signatures.is_empty() {
        return Err(("signature_missing", "webhook-timestamp and webhook-signature are needed"));
    }
    let sent = time.parse::<i64>().ok().and_then(|seconds| seconds.checked_mul(1_000_000));
    let sent = sent.map(Timestamp::from_micros).ok_or(("signature_invalid", "webhook-timestamp is not in seconds"))?;
    if now.since(sent).max(sent.since(now)) > TOLERANCE {
        return Err(("timestamp_out_of_range", "webhook-timestamp is more than five minutes off"));
    }
    let right = signatures.split(' ').filter_map(|one| one.strip_prefix("v1,")).any(|encoded| {
        let Ok(mac) = Hmac::<Sha256>::new_from_slice(key) else { return false };
        let mac = mac.chain_update(id).chain_update(".").chain_update(time).chain_update(".").chain_update(body);
        BASE64.decode(encoded).is_ok_and(|claimed| mac.verify_slice(&claimed).is_ok())
    });
    if right { Ok(()) } else { Err(("signature_invalid", "no signature in webhook-signature is right")) }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    /// The example of the specification's reference libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIME: &str = "1614265330";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn check(time: &str, signature: &str, body: &[u8]) -> Result<(), &'static str> {
        let mut headers = HeaderMap::new();
        for (name, value) in [("webhook-id", ID), ("webhook-timestamp", time), ("webhook-signature", signature)] {
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        let key = key(&Secret::new(SECRET)).unwrap();
        verify(&key, &headers, body, Timestamp::from_micros(1_614_265_330_000_000)).map_err(|(code, _)| code)
    }

    #[test]
    fn takes_the_reference_example_and_nothing_near_it() {
        assert_eq!(check(TIME, SIGNATURE, BODY), Ok(()));
        assert_eq!(check(TIME, &format!("v1,AAAA v2,x {SIGNATURE}"), BODY), Ok(()));
        assert_eq!(check(TIME, SIGNATURE, b"{}"), Err("signature_invalid"));
        assert_eq!(check("1614265331", SIGNATURE, BODY), Err("signature_invalid"));
        assert_eq!(check("1614265000", SIGNATURE, BODY), Err("timestamp_out_of_range"));
        assert_eq!(check("9223372036854775807", SIGNATURE, BODY), Err("signature_invalid"));
        assert_eq!(check(TIME, "", BODY), Err("signature_missing"));
        assert_eq!(check(TIME, &SIGNATURE.replace("v1", "v2"), BODY), Err("signature_invalid"));
    }

    #[test]
    fn a_secret_that_is_not_base64_is_no_key() {
        for (secret, good) in [(SECRET, true), (&SECRET[6..], true), ("whsec_", false), ("not base64!", false)] {
            assert_eq!(key(&Secret::new(secret)).is_some(), good, "{secret}");
        }
    }
}
