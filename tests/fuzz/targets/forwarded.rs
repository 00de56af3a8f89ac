//! Whatever stands in `X-Forwarded-For` and `Forwarded`: it is read without panic, and nobody but a trusted proxy is
//! believed.
//!
//! Input: a line with the peer's address, then lines of `X-Forwarded-For`, an empty line, and lines of `Forwarded`.

#![no_main]

use std::net::IpAddr;
use std::sync::LazyLock;

use ledgerhook::config::{Config, IpRanges};
use ledgerhook::receiver::forwarded::sender;
use ledgerhook_fuzz::cut;
use libfuzzer_sys::fuzz_target;

static TRUSTED: LazyLock<IpRanges> = LazyLock::new(|| {
    let text = "[receiver]\ntrusted_proxies = [\"10.0.0.0/8\", \"fd00::/8\"]\n";
    Config::parse(text, "fuzz.toml", &|_| None, &[]).expect("it is valid").receiver.trusted_proxies
});

fuzz_target!(|input: &[u8]| {
    let Some(([peer], rest)) = cut::<1>(input) else { return };
    let peer = std::str::from_utf8(peer).ok().and_then(|text| text.parse().ok()).unwrap_or(IpAddr::from([10, 0, 0, 1]));
    let lines: Vec<&[u8]> = rest.split(|byte| *byte == b'\n').collect();
    let middle = lines.iter().position(|line| line.is_empty()).unwrap_or(lines.len());
    let (listed, described) = (&lines[..middle], lines.get(middle + 1..).unwrap_or_default());
    let found = sender(peer, listed, described, &TRUSTED);
    assert_eq!(found, found.to_canonical());
    if !TRUSTED.contains(peer.to_canonical()) {
        assert_eq!(found, peer.to_canonical(), "a stranger was believed");
    }
    // Lines that a client made up stand before those of the proxies, and change no sender that a proxy named.
    if !TRUSTED.contains(found) {
        let again = sender(peer, &more(b"198.51.100.7", listed), &more(b"for=198.51.100.7", described), &TRUSTED);
        assert_eq!(found, again, "a client was believed");
    }
});

/// The lines of a header, if there are any, behind one that was made up.
fn more<'a>(made_up: &'a [u8], lines: &[&'a [u8]]) -> Vec<&'a [u8]> {
    if lines.is_empty() { Vec::new() } else { [&[made_up], lines].concat() }
}
