//! Whose request a proxy passes on: `X-Forwarded-For`, and `Forwarded` of
//! [RFC 7239](https://www.rfc-editor.org/rfc/rfc7239). Pure.
//!
//! Each proxy appends the address it took the request from, so that the list is read from its end: as long as the one
//! who said it is trusted, what it said is believed. The first address that is no trusted proxy is the sender; all
//! before it a client may have made up. Where an entry is hidden or cannot be read, the proxy that wrote it is the last
//! one known, and it is the sender.
//!
//! A proxy that sets one of the two headers passes on whatever a client wrote into the other. Which one a proxy sets
//! nobody said, so that where both are there they must lead to the same sender: else one of them is made up, and the
//! peer is the sender.

use std::net::{IpAddr, Ipv6Addr};
use std::str::from_utf8;

use crate::config::IpRanges;

/// The sender of a request: the connection's `peer`, or for whom it forwards, if it is one of `trusted`. Of the headers
/// every line's value is given, in the order of the lines. IPv4 addresses written as IPv6 come out as IPv4.
#[must_use]
pub fn sender(peer: IpAddr, x_forwarded_for: &[&[u8]], forwarded: &[&[u8]], trusted: &IpRanges) -> IpAddr {
    let peer = peer.to_canonical();
    if !trusted.contains(peer) {
        return peer;
    }
    let listed = || follow(peer, x_forwarded_for.iter().rev().flat_map(|line| list(line)), trusted);
    let described = || follow(peer, forwarded.iter().rev().flat_map(|line| elements(line)), trusted);
    match (x_forwarded_for.is_empty(), forwarded.is_empty()) {
        (true, true) => peer,
        (false, true) => listed(),
        (true, false) => described(),
        (false, false) => Some(listed()).filter(|sender| *sender == described()).unwrap_or(peer),
    }
}

/// From the peer back to the sender; `hops` begin with the nearest.
fn follow(peer: IpAddr, hops: impl Iterator<Item = Option<IpAddr>>, trusted: &IpRanges) -> IpAddr {
    let mut known = peer;
    for hop in hops {
        let Some(address) = hop else { return known };
        known = address;
        if !trusted.contains(known) {
            return known;
        }
    }
    known
}

/// The entries of one `X-Forwarded-For`, from its end.
fn list(line: &[u8]) -> impl Iterator<Item = Option<IpAddr>> {
    line.rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty()).map(node)
}

/// The elements of one `Forwarded`, from its end; of a line that cannot be read none is known, since a quote that a
/// client left open could hide where the proxy's own words begin.
fn elements(line: &[u8]) -> impl Iterator<Item = Option<IpAddr>> {
    Line { rest: line }.elements().unwrap_or_else(|| vec![None]).into_iter().rev()
}

/// An address as `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`, where the port may be
/// hidden (`:_p`). None for `unknown`, a hidden name (`_name`) or anything else.
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = from_utf8(text).ok()?;
    let (address, port) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (address, port) = bracketed.split_once(']')?;
            (address.parse::<Ipv6Addr>().ok()?.into(), port)
        }
        None => match text.parse::<IpAddr>() {
            Ok(address) => (address, ""),
            Err(_) => {
                let (address, _) = text.split_once(':')?;
                (IpAddr::V4(address.parse().ok()?), text.get(address.len()..)?)
            }
        },
    };
    let is_port = |port: &str| match port.strip_prefix('_') {
        Some(name) => !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)),
        None => (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit()),
    };
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then(|| address.to_canonical())
}

/// What is left to read of one `Forwarded`. Methods give none where it is not in the header's form.
struct Line<'a> {
    rest: &'a [u8],
}

impl<'a> Line<'a> {
    /// Every element's `for`. One without it, or with two, says nothing that can be relied on.
    fn elements(mut self) -> Option<Vec<Option<IpAddr>>> {
        let mut found = Vec::new();
        loop {
            let (mut pairs, mut nodes) = (0, Vec::new());
            loop {
                self.spaces();
                if !matches!(self.rest.first(), None | Some(b',' | b';')) {
                    let name = self.while_true(is_token)?;
                    self.eat(b'=')?;
                    let value = self.value()?;
                    if name.eq_ignore_ascii_case(b"for") {
                        nodes.push(node(&value));
                    }
                    pairs += 1;
                    self.spaces();
                }
                if self.eat(b';').is_none() {
                    break;
                }
            }
            match (nodes.as_slice(), pairs) {
                // An empty element is nothing, as in every list (RFC 9110 section 5.6.1).
                (_, 0) => {}
                ([one], _) => found.push(*one),
                _ => found.push(None),
            }
            if self.rest.is_empty() {
                return Some(found);
            }
            self.eat(b',')?;
        }
    }

    /// A token or a quoted string. Brackets and colons are taken without quotes too, as many proxies write them.
    fn value(&mut self) -> Option<Vec<u8>> {
        if self.eat(b'"').is_none() {
            return self.while_true(|byte| is_token(byte) || b"[]:".contains(&byte)).map(<[u8]>::to_vec);
        }
        let mut value = Vec::new();
        loop {
            match self.next()? {
                b'"' => return Some(value),
                b'\\' => value.push(self.next()?),
                byte => value.push(byte),
            }
        }
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        self.rest = self.rest.strip_prefix(&[byte])?;
        Some(())
    }

    fn spaces(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    /// At least one byte.
    fn while_true(&mut self, holds: impl Fn(u8) -> bool) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|byte| !holds(*byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!taken.is_empty()).then_some(taken)
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
