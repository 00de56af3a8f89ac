//! Who may see what: with a token configured, everything but health asks for it.

use axum::http::{HeaderMap, header};

use crate::config::Secret;
use crate::event::Sha256;

/// Whether a request with these headers may see what is protected by this token.
pub(super) fn may_see(token: Option<&Secret>, headers: &HeaderMap) -> bool {
    let Some(token) = token else { return true };
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let given = values.next().filter(|_| values.next().is_none()).and_then(|value| bearer(value.as_bytes()));
    given.is_some_and(|given| same(given, token.expose()))
}

/// The token of `Bearer <token>`; the scheme's case does not matter (RFC 9110, section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// Compares in constant time: digests first, so that not even the length shows.
fn same(a: &[u8], b: &[u8]) -> bool {
    let (a, b) = (Sha256::of(a), Sha256::of(b));
    a.as_bytes().iter().zip(b.as_bytes()).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_opens() {
        let token = Secret::new("s3cret");
        let with = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, axum::http::HeaderValue::from_static(value));
            }
            headers
        };
        for good in ["Bearer s3cret", "bearer s3cret", "Bearer  s3cret "] {
            assert!(may_see(Some(&token), &with(&[good])), "{good}");
        }
        for bad in
            ["", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3cret1", "s3cret", "Basic s3cret", "Bearer S3CRET"]
        {
            assert!(!may_see(Some(&token), &with(&[bad])), "{bad}");
        }
        assert!(!may_see(Some(&token), &with(&[])));
        assert!(!may_see(Some(&token), &with(&["Bearer s3cret", "Bearer s3cret"])));
        assert!(may_see(None, &with(&[])));
    }
}
