//! Certificates and keys out of files, and what is said about those that cannot be used.

use std::path::Path;

use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::{CANARY, source};
use crate::config::{Config, Faults};

/// A folder with `cert.pem`, valid in these years, its `key.pem`, and files that are of no use.
pub(super) fn files(years: std::ops::Range<i32>) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut params = CertificateParams::new(vec!["receiver.example".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
    let certificate = params.self_signed(&key).unwrap().pem();
    for (name, text) in [
        ("cert.pem", certificate.as_str()),
        ("key.pem", &key.serialize_pem()),
        ("other.pem", &other.serialize_pem()),
        ("secret.pem", CANARY),
        ("empty.pem", ""),
        ("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ("torn.pem", &certificate[..certificate.len() / 2]),
        ("large.pem", &"x".repeat((1 << 20) + 1)),
    ] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn parse(dir: &Path, text: &str) -> Result<Config, Faults> {
    // `@` and `file:` stand for the folder.
    let text =
        text.replace("file:", &format!("file:{}/", dir.display())).replace("= \"@", &format!("= \"{}/", dir.display()));
    Config::parse(&text, "t.toml", &|_| Some(CANARY.to_owned()), &[])
}

const TLS: &str = "[receiver.tls]\ncertificate = \"@cert.pem\"\nkey = \"file:key.pem\"\n";

#[test]
fn a_certificate_is_read_with_its_key() {
    let dir = files(2020..4096);
    let config = parse(dir.path(), TLS).unwrap();
    let tls = config.receiver.tls.as_ref().unwrap();
    assert_eq!((tls.identity.certified.cert.len(), tls.client_ca.is_some()), (1, false));
    let shown = format!("{config:?}");
    assert!(shown.contains("Identity { certificates: 1, .. }"), "{shown}");
    for (time, is) in [
        ("2019-12-31T23:59:59Z", Some("not valid before 2020")),
        ("2026-01-01T00:00:00Z", None),
        ("4096-01-01T00:00:01Z", Some("expired at 4096")),
    ] {
        let said = tls.identity.outdated(time.parse::<Timestamp>().unwrap());
        assert_eq!(said.is_some(), is.is_some(), "{said:?}");
        assert!(is.is_none_or(|is| said.as_ref().unwrap().contains(is)), "{said:?}");
    }
}

#[test]
fn who_asks_for_client_certificates() {
    let dir = files(2020..4096);
    let own = source("own", "client_ca = \"@cert.pem\"\nclient_names = [\"a\"]");
    let clients = |text: &str| {
        let config = parse(dir.path(), text).unwrap();
        config.sources.values().map(|s| s.client.as_ref().map(|client| client.names.len())).collect::<Vec<_>>()
    };
    assert_eq!(clients(&format!("{TLS}{own}{}", source("none", ""))), [None, Some(1)]);
    assert_eq!(clients(&format!("{TLS}client_ca = \"@cert.pem\"\n{own}{}", source("none", ""))), [Some(0), Some(1)]);
    let named = source("named", "client_names = [\"a\", \"b\"]");
    assert_eq!(clients(&format!("{TLS}client_ca = \"@cert.pem\"\n{named}")), [Some(2)]);
}

#[test]
fn faults_of_certificates() {
    let dir = files(2020..4096);
    for (text, expected) in [
        (TLS.replace("cert.pem", "gone.pem"), "t.toml:2: receiver.tls.certificate: cannot read file `"),
        (TLS.replace("cert.pem", "empty.pem"), "receiver.tls.certificate: file `"),
        (TLS.replace("cert.pem", "key.pem"), "holds no certificate; PEM, not DER"),
        (TLS.replace("cert.pem", "broken.pem"), "receiver.tls.certificate: holds a certificate that cannot be read"),
        (TLS.replace("cert.pem", "torn.pem"), "receiver.tls.certificate: file `"),
        (TLS.replace("cert.pem", "large.pem"), "is over 1MiB"),
        (TLS.replace("file:key.pem", "file:gone.pem"), "t.toml:3: receiver.tls.key: cannot read secret file"),
        (TLS.replace("file:key.pem", "file:secret.pem"), "receiver.tls.key: holds no private key"),
        (TLS.replace("file:key.pem", "file:cert.pem"), "receiver.tls.key: holds no private key"),
        (TLS.replace("file:key.pem", "file:other.pem"), "t.toml:3: receiver.tls.key: does not fit the certificate"),
        (TLS.replace("file:key.pem", "/key.pem"), "receiver.tls.key: is not a reference to a secret"),
        (TLS.replace("key =", "keys ="), "receiver.tls.key: is missing; write \"file:PATH\""),
        (format!("{TLS}client_ca = \"@gone.pem\""), "t.toml:4: receiver.tls.client_ca: cannot read file"),
        (format!("{TLS}client_ca = \"@broken.pem\""), "receiver.tls.client_ca: holds a certificate that cannot"),
        (source("a", "client_ca = \"@cert.pem\""), "t.toml:8: sources.a.client_ca: needs TLS"),
        (source("a", "client_names = [\"a\"]"), "t.toml:8: sources.a.client_names: has no authority"),
        (
            format!("{TLS}{}", source("a", "client_names = [\"a\"]")),
            "t.toml:11: sources.a.client_names: has no authority",
        ),
        (
            format!("{TLS}{}", source("a", "client_ca = \"@empty.pem\"\nclient_names = [\"a\"]")),
            "t.toml:11: sources.a.client_ca: file `",
        ),
    ] {
        let said = parse(dir.path(), &text).expect_err(&text).to_string();
        let lines = if text.contains("keys") { 2 } else { 1 };
        assert!(said.contains(expected) && said.lines().count() == lines, "{text}\n{said}");
        assert!(!said.contains(CANARY), "{said}");
    }
}

#[test]
fn a_faulty_authority_of_the_receiver_is_one_fault() {
    let dir = files(2020..4096);
    let text = format!("{TLS}client_ca = \"@gone.pem\"\n{}", source("a", "client_names = [\"a\"]"));
    let said = parse(dir.path(), &text).unwrap_err().to_string();
    assert_eq!(said.lines().count(), 1, "{said}");
}
