//! Signatures of requests, by a scheme that is data: the receiver verifies with it, the provider simulator signs.
//!
//! | file | idea |
//! |---|---|
//! | `mac` | the keyed hash over what a scheme signs |
//! | `verify` | whether one of some keys made a request's signature |

mod mac;
#[cfg(test)]
mod tests;
mod verify;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::config::{Encoding, Scheme, TimeAt};

pub use verify::{Claim, Fault, verify};

/// What is signed before the body, by schemes that do.
#[derive(Clone, Copy, Debug, Default)]
struct Stamp<'a> {
    timestamp: &'a str,
    id: &'a str,
}

/// The signature header's value that a provider with this key would send, for a scheme that signs the body alone.
#[must_use]
pub fn sign(scheme: &Scheme, key: &[u8], body: &[u8]) -> String {
    value(scheme, key, Stamp::default(), body)
}

/// Headers that a provider with this key would send at this time (seconds since 1970) for an event of this id: the
/// signature's, and those of the time and the id where the scheme has them.
#[must_use]
pub fn headers(scheme: &Scheme, key: &[u8], id: &str, now_s: i64, body: &[u8]) -> Vec<(String, String)> {
    let timestamp = now_s.to_string();
    let mut headers = vec![(scheme.header.clone(), value(scheme, key, Stamp { timestamp: &timestamp, id }, body))];
    if let Some(name) = &scheme.id_header {
        headers.push((name.clone(), id.to_owned()));
    }
    if let Some(TimeAt::Header(name)) = &scheme.timestamp {
        headers.push((name.clone(), timestamp));
    }
    headers
}

fn value(scheme: &Scheme, key: &[u8], stamp: Stamp<'_>, body: &[u8]) -> String {
    let digest = mac::digest(scheme, key, stamp, body);
    let mut value = String::new();
    if let (Some(TimeAt::Member(member)), Some(separator)) = (&scheme.timestamp, scheme.separator) {
        value.push_str(member);
        value.push_str(stamp.timestamp);
        value.push(separator);
    }
    value.push_str(scheme.prefix.as_deref().unwrap_or_default());
    match scheme.encodings.first() {
        Some(Encoding::Base64) => value.push_str(&BASE64.encode(digest)),
        Some(Encoding::Hex) | None => value.push_str(&hex::encode(digest)),
    }
    value
}
