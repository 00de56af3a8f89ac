//! The keyed hash over what a scheme signs.

use hmac::{Hmac, KeyInit, Mac};

use super::Stamp;
use crate::config::{Algorithm, Part, Scheme};

/// Room for the longest digest, and for what base64 takes its last group for while it decodes.
pub(super) const MAX_BYTES: usize = 66;

/// The digest of what this scheme signs.
pub(super) fn digest(scheme: &Scheme, key: &[u8], stamp: Stamp<'_>, body: &[u8]) -> Vec<u8> {
    fn of<M: Mac + KeyInit>(scheme: &Scheme, key: &[u8], stamp: Stamp<'_>, body: &[u8]) -> Vec<u8> {
        keyed::<M>(scheme, key, stamp, body).map(|mac| mac.finalize().into_bytes().to_vec()).unwrap_or_default()
    }
    match scheme.algorithm {
        Algorithm::HmacSha1 => of::<Hmac<sha1::Sha1>>(scheme, key, stamp, body),
        Algorithm::HmacSha256 => of::<Hmac<sha2::Sha256>>(scheme, key, stamp, body),
        Algorithm::HmacSha512 => of::<Hmac<sha2::Sha512>>(scheme, key, stamp, body),
    }
}

/// Bytes of a digest of this scheme.
pub(super) const fn length(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::HmacSha1 => 20,
        Algorithm::HmacSha256 => 32,
        Algorithm::HmacSha512 => 64,
    }
}

/// The hash with all that is signed in it. HMAC takes keys of any length: never none.
pub(super) fn keyed<M: Mac + KeyInit>(scheme: &Scheme, key: &[u8], stamp: Stamp<'_>, body: &[u8]) -> Option<M> {
    let mut mac = <M as KeyInit>::new_from_slice(key).ok()?;
    for part in &scheme.before_body {
        mac.update(match part {
            Part::Text(text) => text.as_bytes(),
            Part::Timestamp => stamp.timestamp.as_bytes(),
            Part::Id => stamp.id.as_bytes(),
        });
    }
    mac.update(body);
    Some(mac)
}
