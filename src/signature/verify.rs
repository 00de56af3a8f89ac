//! Whether one of some keys made a request's signature.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};

use super::{Stamp, mac};
use crate::config::{Algorithm, Encoding, Part, Scheme, TimeAt};

/// What a request says of its signature, as received.
#[derive(Clone, Copy, Debug, Default)]
pub struct Claim<'a> {
    /// Value of the signature's header.
    pub signature: &'a str,
    /// Value of the time's own header, where the scheme has one.
    pub timestamp: Option<&'a str>,
    /// Value of the id's header, likewise.
    pub id: Option<&'a str>,
}

/// Why a signature proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No key made it, or it is not written as the scheme says.
    Invalid,
    /// A key made it, for a time too far from now.
    OutOfTime,
}

/// Which of the keys made the signature, by its position, at this time (seconds since 1970).
///
/// Digests are compared in constant time, and every key is tried whatever came of those before it: how long this takes
/// tells neither how near a guess came nor which key is in use.
///
/// # Errors
/// Why the request is not proved.
pub fn verify<'k>(
    scheme: &Scheme,
    claim: Claim<'_>,
    body: &[u8],
    now_s: i64,
    keys: impl Iterator<Item = &'k [u8]>,
) -> Result<usize, Fault> {
    let stamp = stamp(scheme, claim).ok_or(Fault::Invalid)?;
    let key = match scheme.algorithm {
        Algorithm::HmacSha1 => find::<Hmac<sha1::Sha1>>(scheme, claim.signature, stamp, body, keys),
        Algorithm::HmacSha256 => find::<Hmac<sha2::Sha256>>(scheme, claim.signature, stamp, body, keys),
        Algorithm::HmacSha512 => find::<Hmac<sha2::Sha512>>(scheme, claim.signature, stamp, body, keys),
    };
    let key = key.ok_or(Fault::Invalid)?;
    if scheme.timestamp.is_some() {
        // Digits that are no number of this size are no time near ours either.
        let away = stamp.timestamp.parse().map_or(u64::MAX, |signed_s: i64| signed_s.abs_diff(now_s));
        if away > scheme.tolerance.as_secs() {
            return Err(Fault::OutOfTime);
        }
    }
    Ok(key)
}

/// What is signed before the body; none where it is not there, or not so that it could be signed in one way alone.
///
/// Time and id end where the scheme's text begins. Were a time more than digits, or had an id that text in it, a part of
/// the body could pass for theirs, and one signature would be good for several requests.
fn stamp<'a>(scheme: &Scheme, claim: Claim<'a>) -> Option<Stamp<'a>> {
    let mut stamp = Stamp::default();
    if let Some(at) = &scheme.timestamp {
        stamp.timestamp = match at {
            TimeAt::Header(_) => claim.timestamp?,
            TimeAt::Member(member) => {
                let mut found = tokens(scheme, claim.signature).filter_map(|token| token.strip_prefix(member.as_str()));
                found.next().filter(|_| found.next().is_none())?
            }
        };
        if stamp.timestamp.is_empty() || !stamp.timestamp.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
    }
    if scheme.id_header.is_some() {
        stamp.id = claim.id.filter(|id| !id.is_empty())?;
        let mut behind = scheme.before_body.iter().skip_while(|part| **part != Part::Id).skip(1);
        if matches!(behind.next(), Some(Part::Text(text)) if stamp.id.contains(text.as_str())) {
            return None;
        }
    }
    Some(stamp)
}

fn find<'k, M: Mac + KeyInit + Clone>(
    scheme: &Scheme,
    value: &str,
    stamp: Stamp<'_>,
    body: &[u8],
    keys: impl Iterator<Item = &'k [u8]>,
) -> Option<usize> {
    let length = mac::length(scheme.algorithm);
    let mut found = None;
    for (position, key) in keys.enumerate() {
        let Some(mac) = mac::keyed::<M>(scheme, key, stamp, body) else { continue };
        for digest in digests(scheme, value, length) {
            let hit = digest.get(..length).is_some_and(|digest| mac.clone().verify_slice(digest).is_ok());
            found = found.or(hit.then_some(position));
        }
    }
    found
}

/// Every digest of this many bytes that the value may mean. One in hex is never one in base64 too: their texts' lengths
/// differ.
fn digests<'a>(scheme: &'a Scheme, value: &'a str, length: usize) -> impl Iterator<Item = [u8; mac::MAX_BYTES]> + 'a {
    let texts = tokens(scheme, value).filter_map(|token| match scheme.prefix.as_deref() {
        None => Some(token),
        Some(prefix) => token.strip_prefix(prefix).or((!scheme.prefix_required).then_some(token)),
    });
    texts.flat_map(move |text| scheme.encodings.iter().filter_map(move |encoding| decode(*encoding, text, length)))
}

/// The digest that a text is, in the first `length` bytes.
fn decode(encoding: Encoding, text: &str, length: usize) -> Option<[u8; mac::MAX_BYTES]> {
    let mut digest = [0; mac::MAX_BYTES];
    match encoding {
        Encoding::Hex => hex::decode_to_slice(text, digest.get_mut(..length)?).ok()?,
        Encoding::Base64 => {
            if text.len() != length.div_ceil(3) * 4 || BASE64.decode_slice(text, &mut digest).ok()? != length {
                return None;
            }
        }
    }
    Some(digest)
}

/// Members of the header's value.
fn tokens<'a>(scheme: &Scheme, value: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
    let separator = scheme.separator;
    value.split(move |c| Some(c) == separator).map(|token| token.trim_matches([' ', '\t']))
}
