//! Ranges of IP addresses in CIDR form.

use std::net::IpAddr;

use ipnet::IpNet;

use super::fault::Complaint;

/// Ranges of addresses, IPv4 and IPv6. An IPv4 address that is written as an IPv6 one (`::ffff:192.0.2.1`, as a socket
/// that listens for both sees it) is the IPv4 one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IpRanges(Vec<IpNet>);

impl IpRanges {
    /// Whether one of the ranges holds this address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|range| range.contains(&address))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn new(ranges: Vec<IpNet>) -> Self {
        Self(ranges)
    }
}

/// One range: `192.0.2.0/24`, `2001:db8::/32`, or an address for itself alone.
pub(super) fn range(text: &str) -> Result<IpNet, Complaint> {
    let wrong =
        || Complaint::new("is not an address range").hint("as in \"192.0.2.0/24\", \"2001:db8::/32\" or \"192.0.2.7\"");
    let range = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().map_err(|_| wrong())?,
    };
    // Bits behind the prefix are a slip in one of the two: which one, only the writer knows.
    if range.trunc() != range {
        return Err(Complaint::new("has address bits behind its prefix").hint(format!("\"{}\"?", range.trunc())));
    }
    Ok(canonical(range))
}

/// A range of IPv4 addresses written as IPv6 is one of IPv4: addresses are compared in that form.
fn canonical(range: IpNet) -> IpNet {
    let IpNet::V6(mapped) = range else { return range };
    let inner = mapped.addr().to_ipv4_mapped().zip(mapped.prefix_len().checked_sub(96));
    inner.and_then(|(address, prefix)| IpNet::new(address.into(), prefix).ok()).unwrap_or(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(written: &[&str]) -> IpRanges {
        IpRanges::new(written.iter().map(|text| range(text).unwrap()).collect())
    }

    #[test]
    fn addresses_inside_and_outside() {
        for (written, inside, outside) in [
            ("52.44.120.0/24", vec!["52.44.120.0", "52.44.120.255", "::ffff:52.44.120.7"], vec!["52.44.121.0", "::"]),
            ("192.0.2.7", vec!["192.0.2.7", "::ffff:192.0.2.7"], vec!["192.0.2.8", "192.0.2.6"]),
            ("0.0.0.0/0", vec!["0.0.0.0", "255.255.255.255", "::ffff:1.2.3.4"], vec!["::1", "2001:db8::1"]),
            ("::/0", vec!["::1", "2001:db8::1"], vec!["192.0.2.7", "::ffff:192.0.2.7"]),
            ("2001:db8::/32", vec!["2001:db8::", "2001:db8:ffff::1"], vec!["2001:db9::", "192.0.2.7"]),
            ("::ffff:192.0.2.0/120", vec!["192.0.2.0", "192.0.2.255", "::ffff:192.0.2.9"], vec!["192.0.3.0"]),
            ("::ffff:192.0.2.7", vec!["192.0.2.7"], vec!["192.0.2.8"]),
            // The deprecated IPv4-compatible form is plain IPv6.
            ("::192.0.2.0/120", vec!["::192.0.2.1"], vec!["192.0.2.1"]),
        ] {
            let ranges = ranges(&[written]);
            for address in inside {
                assert!(ranges.contains(address.parse().unwrap()), "{address} in {written}");
            }
            for address in outside {
                assert!(!ranges.contains(address.parse().unwrap()), "{address} not in {written}");
            }
        }
        assert!(ranges(&["10.0.0.0/8", "2001:db8::/32"]).contains("2001:db8::1".parse().unwrap()));
        assert!(!IpRanges::default().contains("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_range() {
        for (text, hint) in [
            ("", "as in"),
            ("localhost", "as in"),
            ("10.0.0.0/33", "as in"),
            ("10.0.0/8", "as in"),
            ("10.0.0.0/-1", "as in"),
            ("10.0.0.0 /8", "as in"),
            ("fe80::1%eth0", "as in"),
            ("[::1]", "as in"),
            ("192.0.2.7/24", "\"192.0.2.0/24\"?"),
            ("2001:db8::1/32", "\"2001:db8::/32\"?"),
        ] {
            let complaint = range(text).expect_err(text);
            assert!(complaint.hint.as_deref().is_some_and(|said| said.contains(hint)), "{text}: {complaint:?}");
        }
    }

    proptest::proptest! {
        /// Against arithmetic on the bits, which knows nothing of the library.
        #[test]
        fn a_range_is_its_prefix(base: u128, prefix in 0_u8..=128, address: u128, near: bool) {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            let base = base & mask;
            // Without it hardly any address would be inside.
            let address = if near { base | (address & !mask) } else { address };
            let (base, address) = (std::net::Ipv6Addr::from(base), std::net::Ipv6Addr::from(address));
            proptest::prop_assume!(base.to_ipv4_mapped().is_none() && address.to_ipv4_mapped().is_none());
            let range = range(&format!("{base}/{prefix}")).unwrap();
            let expected = u128::from(address) & mask == u128::from(base);
            proptest::prop_assert_eq!(IpRanges::new(vec![range]).contains(address.into()), expected);
        }
    }
}
