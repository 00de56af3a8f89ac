//! Signatures over raw bodies, by a scheme that is data: the receiver verifies with it, the provider simulator signs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::Hmac;

use crate::config::{Algorithm, Encoding, Scheme};

/// The header value a provider with this secret would send.
#[must_use]
pub fn sign(scheme: &Scheme, secret: &[u8], body: &[u8]) -> String {
    let digest = match scheme.algorithm {
        Algorithm::HmacSha1 => mac::<Hmac<sha1::Sha1>>(secret, body),
        Algorithm::HmacSha256 => mac::<Hmac<sha2::Sha256>>(secret, body),
        Algorithm::HmacSha512 => mac::<Hmac<sha2::Sha512>>(secret, body),
    };
    let text = match scheme.encodings.first() {
        Some(Encoding::Base64) => BASE64.encode(digest),
        Some(Encoding::Hex) | None => hex::encode(digest),
    };
    match &scheme.prefix {
        Some(prefix) => format!("{prefix}{text}"),
        None => text,
    }
}

/// Whether `value` is this secret's signature of the body. Compares in constant time.
#[must_use]
pub fn matches(scheme: &Scheme, secret: &[u8], value: &str, body: &[u8]) -> bool {
    let value = value.trim_matches([' ', '\t']);
    let text = match scheme.prefix.as_deref().map(|prefix| value.strip_prefix(prefix)) {
        None => value,
        Some(Some(text)) => text,
        Some(None) if scheme.prefix_required => return false,
        Some(None) => value,
    };
    // A digest in hex is never one of the same algorithm in base64: their lengths differ.
    scheme.encodings.iter().any(|encoding| {
        let claimed = match encoding {
            Encoding::Hex => hex::decode(text).ok(),
            Encoding::Base64 => BASE64.decode(text).ok(),
        };
        claimed.is_some_and(|claimed| match scheme.algorithm {
            Algorithm::HmacSha1 => verify::<Hmac<sha1::Sha1>>(secret, body, &claimed),
            Algorithm::HmacSha256 => verify::<Hmac<sha2::Sha256>>(secret, body, &claimed),
            Algorithm::HmacSha512 => verify::<Hmac<sha2::Sha512>>(secret, body, &claimed),
        })
    })
}

fn mac<M: hmac::Mac + hmac::KeyInit>(secret: &[u8], body: &[u8]) -> Vec<u8> {
    // HMAC takes keys of any length; the error type is for other constructions.
    <M as hmac::KeyInit>::new_from_slice(secret)
        .map(|mac| mac.chain_update(body).finalize().into_bytes().to_vec())
        .unwrap_or_default()
}

fn verify<M: hmac::Mac + hmac::KeyInit>(secret: &[u8], body: &[u8], claimed: &[u8]) -> bool {
    <M as hmac::KeyInit>::new_from_slice(secret).is_ok_and(|mac| mac.chain_update(body).verify_slice(claimed).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accelex() -> Scheme {
        Scheme {
            header: "x-accelex-signature".to_owned(),
            algorithm: Algorithm::HmacSha256,
            encodings: vec![Encoding::Hex, Encoding::Base64],
            prefix: Some("sha256=".to_owned()),
            prefix_required: false,
        }
    }

    /// RFC 4231, test case 2.
    const KEY: &[u8] = b"Jefe";
    const BODY: &[u8] = b"what do ya want for nothing?";
    const HEX: &str = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";

    #[test]
    fn takes_each_form_the_guide_allows_and_no_other() {
        let base64 = BASE64.encode(hex::decode(HEX).unwrap());
        for good in [
            HEX.to_owned(),
            HEX.to_uppercase(),
            format!("sha256={HEX}"),
            base64.clone(),
            format!("sha256={base64}"),
            format!(" {HEX} "),
        ] {
            assert!(matches(&accelex(), KEY, &good, BODY), "{good}");
        }
        for bad in [
            "",
            "sha256=",
            &HEX[..62],
            &format!("{HEX}00"),
            &format!("sha1={HEX}"),
            &format!("sha256=sha256={HEX}"),
            &HEX.replace('5', "6"),
            "é",
        ] {
            assert!(!matches(&accelex(), KEY, bad, BODY), "{bad}");
        }
        assert!(!matches(&accelex(), b"other", HEX, BODY));
        let strict = Scheme { prefix_required: true, encodings: vec![Encoding::Hex], ..accelex() };
        assert!(matches(&strict, KEY, &format!("sha256={HEX}"), BODY));
        assert!(!matches(&strict, KEY, HEX, BODY));
        assert_eq!(sign(&strict, KEY, BODY), format!("sha256={HEX}"));
    }

    proptest::proptest! {
        #[test]
        fn a_changed_byte_is_never_accepted(body in proptest::collection::vec(0_u8.., 1..200), at in 0_usize..200, flip in 1_u8..) {
            let value = sign(&accelex(), KEY, &body);
            proptest::prop_assert!(matches(&accelex(), KEY, &value, &body));
            let mut changed = body.clone();
            let at = at % changed.len();
            changed[at] ^= flip;
            proptest::prop_assert!(!matches(&accelex(), KEY, &value, &changed));
        }
    }
}
