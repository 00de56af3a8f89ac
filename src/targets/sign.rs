//! The signature of [Standard Webhooks](https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md):
//! HMAC-SHA256 over `{id}.{timestamp}.{body}`, in base64, behind the version `v1`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::config::Secret;

/// What a secret begins with, by the specification.
const PREFIX: &str = "whsec_";

/// A key that signs requests.
#[derive(Clone)]
pub struct SigningKey(Secret);

/// The secret is not of the form `whsec_<base64>`. It says nothing of what it is instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signing secret is not of the form whsec_<base64>")]
pub struct SigningKeyError;

impl SigningKey {
    /// Reads `whsec_<base64>`; the prefix may be missing, as in the specification's own libraries.
    ///
    /// # Errors
    /// When the rest is not base64 of at least one byte.
    pub fn read(secret: &Secret) -> Result<Self, SigningKeyError> {
        let text = secret.expose_str().ok_or(SigningKeyError)?.trim();
        let key = BASE64.decode(text.strip_prefix(PREFIX).unwrap_or(text)).map_err(|_| SigningKeyError)?;
        if key.is_empty() { Err(SigningKeyError) } else { Ok(Self(Secret::new(key))) }
    }

    /// The value of `webhook-signature` for this id, time (seconds since 1970) and body.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp_s: i64, body: &[u8]) -> String {
        // HMAC takes keys of any length; the error type is for other constructions.
        let digest = Hmac::<Sha256>::new_from_slice(self.0.expose()).map(|mac| {
            mac.chain_update(id)
                .chain_update(".")
                .chain_update(timestamp_s.to_string())
                .chain_update(".")
                .chain_update(body)
                .finalize()
                .into_bytes()
                .to_vec()
        });
        format!("v1,{}", BASE64.encode(digest.unwrap_or_default()))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;

    /// The vector that every library of the specification tests with.
    #[test]
    fn signs_as_the_published_vector() {
        for secret in [SECRET, &SECRET[6..], " whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n"] {
            let key = SigningKey::read(&Secret::new(secret)).unwrap();
            assert_eq!(key.sign(ID, 1_614_265_330, BODY), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        }
    }

    #[test]
    fn every_part_counts() {
        let key = SigningKey::read(&Secret::new(SECRET)).unwrap();
        let whole = key.sign(ID, 1, BODY);
        assert_ne!(key.sign("msg", 1, BODY), whole);
        assert_ne!(key.sign(ID, 2, BODY), whole);
        assert_ne!(key.sign(ID, 1, b"{}"), whole);
    }

    #[test]
    fn a_bad_secret_is_refused_and_not_repeated() {
        for bad in ["", "whsec_", "whsec_canary!", "not base64 at all"] {
            let error = SigningKey::read(&Secret::new(bad)).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("canary"));
        }
        let key = SigningKey::read(&Secret::new(SECRET)).unwrap();
        assert_eq!(format!("{key:?}"), "SigningKey(***)");
    }
}
