//! Whatever stands in the headers of a signature: it is looked at without panic, and nothing is proved by it, since the
//! fuzzer has no key.
//!
//! Input: a line with preset and time, the signature's value, the time's, the id's, then the body.

#![no_main]

use std::sync::LazyLock;

use ledgerhook::config::Source;
use ledgerhook::signature::{Claim, verify};
use ledgerhook_fuzz::{cut, sources};
use libfuzzer_sys::fuzz_target;

static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(sources);

fuzz_target!(|input: &[u8]| {
    let Some(([first, signature, timestamp, id], body)) = cut::<4>(input) else { return };
    let texts = [signature, timestamp, id].map(std::str::from_utf8);
    let [Ok(signature), Ok(timestamp), Ok(id)] = texts else { return };
    let Some((preset, now_s)) = first.split_first() else { return };
    let now_s = std::str::from_utf8(now_s).ok().and_then(|text| text.parse().ok()).unwrap_or(1_700_000_000);
    let source = &SOURCES[usize::from(*preset) % SOURCES.len()];
    let claim = Claim { signature, timestamp: Some(timestamp), id: Some(id) };
    let keys = || source.secrets.iter().map(|secret| secret.value.expose());
    let found = verify(&source.scheme, claim, body, now_s, keys());
    assert!(found.is_err(), "a signature without the key");
});
