//! Where requests may go: no address inside our own walls, unless the target's configuration allows it.
//!
//! A name is checked at each resolution, on the very addresses that the connection then uses, so that a name which
//! changes its address between check and use gains nothing. An address written into the URL never reaches a resolver
//! and is checked by itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Decides about addresses, and resolves names to those that are allowed.
#[derive(Clone, Copy, Debug)]
pub struct Guard {
    allow_private: bool,
}

/// An address that a target may not stand at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is a private, loopback or link-local address; allow_private_addresses is false")]
pub struct AddressRefused(pub IpAddr);

impl Guard {
    /// A guard that lets private addresses pass or not.
    #[must_use]
    pub const fn new(allow_private: bool) -> Self {
        Self { allow_private }
    }

    /// Checks an address.
    ///
    /// # Errors
    /// When it is not a public one.
    pub fn address(self, address: IpAddr) -> Result<(), AddressRefused> {
        if self.allow_private || is_public(address) { Ok(()) } else { Err(AddressRefused(address)) }
    }

    /// Checks the address written into a URL; a name passes, the resolver checks it.
    ///
    /// # Errors
    /// When the URL's host is an address and not a public one.
    pub fn url(self, url: &Url) -> Result<(), AddressRefused> {
        // The parser has brought every spelling of an IPv4 address (hex, octal, one number) into its usual form.
        let host = url.host_str().unwrap_or_default();
        match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            Ok(address) => self.address(address),
            Err(_) => Ok(()),
        }
    }

    /// Checks a name by all the addresses that it has here; one that has none passes. For names that someone else will
    /// resolve: which of the addresses is used is then not ours to choose.
    ///
    /// # Errors
    /// When one of them is not a public one.
    pub async fn name(self, name: &str) -> Result<(), AddressRefused> {
        if self.allow_private {
            return Ok(());
        }
        match tokio::net::lookup_host((name, 0)).await {
            Ok(mut found) => found.try_for_each(|address| self.address(address.ip())),
            Err(_) => Ok(()),
        }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = *self;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let (allowed, refused): (Vec<SocketAddr>, Vec<SocketAddr>) =
                found.into_iter().partition(|address| guard.address(address.ip()).is_ok());
            match (allowed.is_empty(), refused.first()) {
                (true, Some(refused)) => Err(AddressRefused(refused.ip()).into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

/// Whether an address is one of the public internet, by the special-purpose registries of IANA.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        // "This network", multicast, reserved and broadcast.
        || matches!(a, 0 | 224..)
        // Carrier-grade NAT, protocol assignments, benchmarks, the retired 6to4 relays.
        || (a == 192 && b == 88 && c == 99)
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && matches!(b, 18 | 19)))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let words = address.segments();
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match words {
        // Unspecified, loopback.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => false,
        // IPv4-mapped, IPv4-compatible, translated.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => embedded(high, low),
        // NAT64 and 6to4 lead to the IPv4 address inside.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        // Protocol assignments (Teredo and others), documentation.
        [0x2001, 0..0x200 | 0xdb8, ..] | [0x3fff, 0..0x1000, ..] => false,
        // Of all others, global unicast is all that IANA has given out. What is left is unique local, link-local,
        // site-local, multicast, local NAT64, discarded, segment routing, and what nobody has yet.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_pass() {
        let guard = Guard::new(false);
        for public in
            ["1.1.1.1", "8.8.8.8", "172.15.0.1", "100.63.0.1", "2606:4700::1111", "2001:4860::8888", "::ffff:8.8.8.8"]
        {
            assert_eq!(guard.address(public.parse().unwrap()), Ok(()), "{public}");
        }
        for inside in [
            "127.0.0.1",
            "127.9.9.9",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "0.1.2.3",
            "100.64.0.1",
            "192.0.0.8",
            "198.19.0.1",
            "192.88.99.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::10.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:7f00:1::",
            "::ffff:0:10.0.0.1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "5f00::1",
            "4000::1",
            "fe80::1",
            "fec0::1",
            "fd00:ec2::254",
            "ff02::1",
        ] {
            let address = inside.parse().unwrap();
            assert_eq!(guard.address(address), Err(AddressRefused(address)), "{inside}");
            assert_eq!(Guard::new(true).address(address), Ok(()));
        }
    }

    #[test]
    fn addresses_in_urls_are_checked_in_every_spelling() {
        let guard = Guard::new(false);
        for inside in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0177.0.0.1/",
            "https://[::1]:8443/",
            "http://[::ffff:7f00:1]/",
            "http://169.254.169.254/latest/meta-data",
        ] {
            assert!(guard.url(&inside.parse().unwrap()).is_err(), "{inside}");
        }
        for fine in ["https://1.1.1.1/", "https://[2606:4700::1111]/", "https://review.example/hooks"] {
            assert_eq!(guard.url(&fine.parse().unwrap()), Ok(()), "{fine}");
        }
    }

    #[tokio::test]
    async fn names_are_checked_by_their_addresses() {
        let name = || "localhost".parse::<Name>().unwrap();
        let Err(error) = Guard::new(false).resolve(name()).await else { panic!("localhost was resolved") };
        assert!(error.downcast_ref::<AddressRefused>().is_some(), "{error}");
        assert!(Guard::new(true).resolve(name()).await.is_ok());
        assert!(Guard::new(false).name("localhost").await.is_err());
        assert_eq!(Guard::new(true).name("localhost").await, Ok(()));
    }
}
