//! Who the sender is, case by case, and that no client can choose it.

use std::sync::LazyLock;

use super::*;
use crate::config::Config;

/// Read once: properties ask thousands of times.
static PROXIES: LazyLock<IpRanges> = LazyLock::new(|| {
    let text = "[receiver]\ntrusted_proxies = [\"10.0.0.0/8\", \"2001:db8:aaaa::/48\"]";
    Config::parse(text, "t.toml", &|_| None, &[]).unwrap().receiver.trusted_proxies
});

fn bytes<'a>(lines: &[&'a str]) -> Vec<&'a [u8]> {
    lines.iter().map(|line| line.as_bytes()).collect()
}

#[track_caller]
fn case(peer: &str, x_forwarded_for: &[&str], forwarded: &[&str], expected: &str) {
    let found = sender(peer.parse().unwrap(), &bytes(x_forwarded_for), &bytes(forwarded), &PROXIES);
    assert_eq!(found.to_string(), expected, "{peer} {x_forwarded_for:?} {forwarded:?}");
}

#[test]
fn only_a_trusted_peer_is_believed() {
    case("192.0.2.9", &["203.0.113.1"], &[], "192.0.2.9");
    case("192.0.2.9", &[], &["for=203.0.113.1"], "192.0.2.9");
    case("192.0.2.9", &["10.0.0.1"], &["for=10.0.0.1"], "192.0.2.9");
    case("10.0.0.1", &[], &[], "10.0.0.1");
    case("10.0.0.1", &["203.0.113.1"], &[], "203.0.113.1");
    case("::ffff:10.0.0.1", &["203.0.113.1"], &[], "203.0.113.1");
    case("::ffff:192.0.2.9", &["203.0.113.1"], &[], "192.0.2.9");
    case("2001:db8:aaaa::1", &["203.0.113.1"], &[], "203.0.113.1");
    let nobody = sender("127.0.0.1".parse().unwrap(), &[b"203.0.113.1"], &[], &IpRanges::default());
    assert_eq!(nobody.to_string(), "127.0.0.1");
}

#[test]
fn x_forwarded_for() {
    for (lines, expected) in [
        (vec!["203.0.113.1"], "203.0.113.1"),
        (vec![" 203.0.113.1\t"], "203.0.113.1"),
        // The client made up the first one.
        (vec!["52.44.120.1, 203.0.113.1"], "203.0.113.1"),
        (vec!["203.0.113.1, 10.0.0.2, 10.0.0.3"], "203.0.113.1"),
        (vec!["203.0.113.1", "10.0.0.2"], "203.0.113.1"),
        (vec!["52.44.120.1", "203.0.113.1, 10.0.0.2"], "203.0.113.1"),
        (vec!["203.0.113.1,,10.0.0.2,"], "203.0.113.1"),
        // Trusted to the end: the one that is furthest away.
        (vec!["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        (vec![""], "10.0.0.1"),
        (vec!["203.0.113.1:4711"], "203.0.113.1"),
        (vec!["2001:db8::1"], "2001:db8::1"),
        (vec!["[2001:db8::1]"], "2001:db8::1"),
        (vec!["[2001:db8::1]:4711"], "2001:db8::1"),
        (vec!["203.0.113.1, [2001:db8:aaaa::2]:443"], "203.0.113.1"),
        (vec!["::ffff:203.0.113.1"], "203.0.113.1"),
        (vec!["203.0.113.1, ::ffff:10.0.0.2"], "203.0.113.1"),
        // What cannot be read: whoever wrote it is the last one known.
        (vec!["203.0.113.1, unknown"], "10.0.0.1"),
        (vec!["203.0.113.1, unknown, 10.0.0.2"], "10.0.0.2"),
        (vec!["203.0.113.1", "_hidden", "10.0.0.2"], "10.0.0.2"),
        (vec!["203.0.113.1 10.0.0.2"], "10.0.0.1"),
        (vec!["203.0.113.256"], "10.0.0.1"),
        (vec!["203.0.113.1:"], "10.0.0.1"),
        (vec!["203.0.113.1:123456"], "10.0.0.1"),
        (vec!["203.0.113.1:x"], "10.0.0.1"),
        (vec!["[203.0.113.1]"], "10.0.0.1"),
        (vec!["[2001:db8::1"], "10.0.0.1"),
        (vec!["[2001:db8::1]x"], "10.0.0.1"),
        (vec!["fe80::1%eth0"], "10.0.0.1"),
        (vec!["\"203.0.113.1\""], "10.0.0.1"),
        (vec!["0x7f.1"], "10.0.0.1"),
        (vec!["203.0.113.1\0"], "10.0.0.1"),
    ] {
        case("10.0.0.1", &lines, &[], expected);
    }
    let found = sender("10.0.0.1".parse().unwrap(), &[b"203.0.113.1, \xff"], &[], &PROXIES);
    assert_eq!(found.to_string(), "10.0.0.1");
}

#[test]
fn forwarded_of_rfc_7239() {
    for (lines, expected) in [
        (vec!["for=203.0.113.1"], "203.0.113.1"),
        (vec!["For=\"203.0.113.1\""], "203.0.113.1"),
        (vec!["FOR=203.0.113.1;proto=http;by=10.0.0.1"], "203.0.113.1"),
        (vec!["proto=https;by=\"_x\";for=203.0.113.1;host=\"a, b; c\""], "203.0.113.1"),
        (vec!["for=52.44.120.1, for=203.0.113.1"], "203.0.113.1"),
        (vec!["for=203.0.113.1, for=10.0.0.2"], "203.0.113.1"),
        (vec!["for=203.0.113.1", "for=10.0.0.2"], "203.0.113.1"),
        (vec!["for=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17"),
        (vec!["for=\"[2001:db8:cafe::17]\""], "2001:db8:cafe::17"),
        (vec!["for=\"[2001:db8:cafe::17]:_port\""], "2001:db8:cafe::17"),
        (vec!["for=[2001:db8:cafe::17]:4711"], "2001:db8:cafe::17"),
        (vec!["for=203.0.113.1:4711"], "203.0.113.1"),
        (vec!["for=\"203.0.113.1:4711\""], "203.0.113.1"),
        (vec!["for=\"203.0.1\\13.1\""], "203.0.113.1"),
        (vec!["for=203.0.113.1;"], "203.0.113.1"),
        (vec!["for=203.0.113.1 ; proto=http , for=10.0.0.2"], "203.0.113.1"),
        (vec![", for=203.0.113.1,,"], "203.0.113.1"),
        (vec!["for=10.0.0.3, for=10.0.0.2"], "10.0.0.3"),
        (vec![""], "10.0.0.1"),
        (vec!["for=203.0.113.1, for=unknown"], "10.0.0.1"),
        (vec!["for=203.0.113.1, for=Unknown, for=10.0.0.2"], "10.0.0.2"),
        (vec!["for=203.0.113.1, for=_gazonk"], "10.0.0.1"),
        (vec!["for=203.0.113.1, for=\"_hidden:_p\", for=10.0.0.2"], "10.0.0.2"),
        // An element that does not say for whom, or says it twice.
        (vec!["for=203.0.113.1, proto=http"], "10.0.0.1"),
        (vec!["for=203.0.113.1;for=203.0.113.2"], "10.0.0.1"),
        (vec!["for=203.0.113.1, for=203.0.113.2;proto=http;For=203.0.113.3, for=10.0.0.2"], "10.0.0.2"),
        // Lines that are not in the form are worth nothing; those behind them are.
        (vec!["203.0.113.1"], "10.0.0.1"),
        (vec!["for=\"203.0.113.1"], "10.0.0.1"),
        (vec!["for=203.0.113.1 for=10.0.0.2"], "10.0.0.1"),
        (vec!["for = 203.0.113.1"], "10.0.0.1"),
        (vec!["for="], "10.0.0.1"),
        (vec!["=203.0.113.1"], "10.0.0.1"),
        (vec!["for=203.0.113.1", "for=\"x", "for=10.0.0.2"], "10.0.0.2"),
        // A client's open quote must not swallow what the proxy appends.
        (vec!["for=52.44.120.1;x=\", for=203.0.113.1"], "10.0.0.1"),
        (vec!["for=52.44.120.1;x=\", for=\"[2001:db8::1]\";by=\"[2001:db8::2]\""], "10.0.0.1"),
        (vec!["for=52.44.120.1;x=\"\\, for=\"[2001:db8::1]\""], "10.0.0.1"),
    ] {
        case("10.0.0.1", &[], &lines, expected);
    }
}

#[test]
fn both_headers_have_to_agree() {
    case("10.0.0.1", &["203.0.113.1"], &["for=203.0.113.1"], "203.0.113.1");
    case("10.0.0.1", &["203.0.113.1"], &["for=\"203.0.113.1:80\""], "203.0.113.1");
    case("10.0.0.1", &["52.44.120.1, 203.0.113.1"], &["for=203.0.113.1, for=10.0.0.2"], "203.0.113.1");
    case("10.0.0.1", &["203.0.113.1"], &["for=52.44.120.1"], "10.0.0.1");
    case("10.0.0.1", &["52.44.120.1"], &["for=203.0.113.1"], "10.0.0.1");
    case("10.0.0.1", &["203.0.113.1"], &["for=_hidden"], "10.0.0.1");
    case("10.0.0.1", &["203.0.113.1"], &[""], "10.0.0.1");
}

mod properties {
    use std::net::Ipv4Addr;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Pieces from which a client might build something that is read wrongly.
    fn made_up() -> impl Strategy<Value = String> {
        let pieces = [
            "for=52.44.120.1",
            "52.44.120.1",
            "for=\"52.44.120.1\"",
            "\"",
            "\\",
            ";",
            ",",
            "=",
            " ",
            "by=",
            "x=\"",
            "[::1]",
            "_a",
            "unknown",
            "10.0.0.9",
            "for=10.0.0.9",
            "\t",
            "é",
        ];
        vec(prop::sample::select(pieces.to_vec()), 0..12).prop_map(|pieces| pieces.concat())
    }

    /// How a proxy may write the address it took a request from.
    fn written(style: u8, address: IpAddr) -> String {
        match style % 4 {
            0 => format!("for={address}"),
            1 => format!("for=\"{address}:4711\";proto=https;by=\"[2001:db8:aaaa::7]\""),
            2 => format!("proto=https;for=\"{address}\""),
            _ => format!("by=_lb;for={address};host=\"example.com\""),
        }
    }

    proptest! {
        #[test]
        fn a_client_cannot_choose_its_address(
            text in made_up(),
            client: u8,
            proxies in vec(2_u8..200, 0..4),
            styles in vec(0_u8.., 5),
            own_line: bool,
        ) {
            let trusted = &*PROXIES;
            let peer: IpAddr = "10.0.0.1".parse().unwrap();
            let client: IpAddr = Ipv4Addr::new(203, 0, 113, client).into();
            let mut chain = vec![client];
            chain.extend(proxies.iter().map(|n| IpAddr::from(Ipv4Addr::new(10, 0, 0, *n))));

            let appended = chain.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
            let joined = if own_line { appended.clone() } else { format!("{text}, {appended}") };
            prop_assert_eq!(sender(peer, &bytes(&[&text, &joined]), &[], trusted), client);

            let elements: Vec<String> = chain.iter().zip(styles.iter().cycle()).map(|(a, s)| written(*s, *a)).collect();
            let appended = elements.join(", ");
            let joined = if own_line { appended.clone() } else { format!("{text}, {appended}") };
            let found = sender(peer, &[], &bytes(&[&text, &joined]), trusted);
            // A line that the client spoilt is not believed at all.
            prop_assert!(found == client || (!own_line && found == peer), "{} from {:?}", found, joined);
        }

        #[test]
        fn any_bytes_are_read_without_panic(
            peer in prop::sample::select(vec!["10.0.0.1", "192.0.2.9", "2001:db8:aaaa::1"]),
            lists in vec(vec(any::<u8>(), 0..60), 0..3),
            lines in vec(vec(any::<u8>(), 0..60), 0..3),
        ) {
            let trusted = &*PROXIES;
            let peer: IpAddr = peer.parse().unwrap();
            let lists: Vec<&[u8]> = lists.iter().map(Vec::as_slice).collect();
            let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
            let found = sender(peer, &lists, &lines, trusted);
            prop_assert!(trusted.contains(peer) || found == peer);
        }

        #[test]
        fn what_is_written_is_read(text in r#"[fFoOrR]{3}=("[^"\\,;]{0,8}"|[a-z0-9.]{1,8})"#) {
            prop_assert!(Line { rest: text.as_bytes() }.elements().is_some(), "{}", text);
        }
    }
}
