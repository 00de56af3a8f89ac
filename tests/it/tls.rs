//! Who gets to the sources: TLS, client certificates and sender addresses, with real TLS clients and real Kafka.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ledgerhook::config::Config;
use ledgerhook::event::{Envelope, Sha256};
use ledgerhook::receiver::{self, Error, Settings};
use ledgerhook::signature;
use reqwest::Version;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::common::certificates::{Authority, Issued, client, file};
use crate::common::process::{self, Process};
use crate::common::{ENV, Installation, install};

struct Running {
    at: SocketAddr,
    config: Config,
    live: watch::Sender<Arc<receiver::Live>>,
    task: JoinHandle<Result<(), Error>>,
}

/// The installation's configuration with lines added to `[receiver]`, to the source accelex, and at the end.
fn configured(here: &Installation, receiver: &str, accelex: &str, end: &str) -> Config {
    let toml = here.toml.replacen("[receiver]\n", &format!("[receiver]\n{receiver}\n"), 1);
    let toml = toml.replacen("[sources.accelex]\n", &format!("[sources.accelex]\n{accelex}\n"), 1);
    let env = |name: &str| ENV.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
    Config::parse(&format!("{toml}\n{end}"), "test.toml", &env, &[]).unwrap_or_else(|faults| panic!("{faults}"))
}

fn live(config: &Config) -> Arc<receiver::Live> {
    Arc::new(receiver::Live::new(&config.receiver, config.sources.values()).unwrap())
}

async fn start(here: &Installation, config: Config) -> Running {
    let (live, heard_live) = watch::channel(live(&config));
    let settings = Settings {
        receiver: config.receiver.clone(),
        sources: config.sources.values().cloned().collect(),
        live: heard_live,
        data_dir: here.data_dir.path().to_owned(),
        shutdown_budget: Duration::from_secs(20),
    };
    let (say, heard) = oneshot::channel();
    let ground = Arc::clone(&here.ground);
    let task = tokio::spawn(receiver::run(settings, ground, here.role("receiver"), |at| say.send(at).unwrap()));
    let running = Running { at: heard.await.unwrap(), config, live, task };
    here.ready("receiver").await;
    running
}

/// Status, code and HTTP version of an answer.
type Answered = (u16, String, Version);

impl Running {
    /// Sends an event with a signature that is right.
    async fn deliver(
        &self,
        http: &reqwest::Client,
        scheme: &str,
        source: &str,
        id: &str,
        headers: &[(&str, &str)],
    ) -> reqwest::Result<Answered> {
        let body = match source {
            "accelex" => format!(r#"{{"event_id":"{id}","event_type":"invoice.resolved"}}"#),
            _ => format!(r#"{{"id":"{id}","type":"invoice.paid"}}"#),
        };
        let source = &self.config.sources[source];
        let signed = signature::sign(&source.scheme, source.secrets[0].value.expose(), body.as_bytes());
        let mut request = http.post(format!("{scheme}://{}{}", self.at, source.path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.header(&source.scheme.header, signed).body(body).send().await?;
        let (status, version) = (response.status().as_u16(), response.version());
        let body: Value = serde_json::from_slice(&response.bytes().await?).unwrap_or(Value::Null);
        let code = body["status"].as_str().or(body["error"]["code"].as_str()).unwrap_or_default().to_owned();
        Ok((status, code, version))
    }

    async fn end(self, here: &Installation) {
        here.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

async fn received(here: &Installation, source: &str) -> Vec<Envelope> {
    let decoder = here.ground.decoder();
    let mut envelopes: Vec<Envelope> = Vec::new();
    for record in here.records(&format!("received.{source}")).await {
        envelopes.push(decoder.decode(record.value.as_deref()).await.unwrap());
    }
    envelopes.sort_by(|a, b| a.event_id.cmp(&b.event_id));
    envelopes
}

#[tokio::test(flavor = "multi_thread")]
async fn each_source_asks_for_its_own_client_certificates() {
    let here = install("").await;
    let (ours, clients, others) = (Authority::new("ours"), Authority::new("clients"), Authority::new("others"));
    let folder = here.data_dir.path();
    let ca = file(folder, "clients.pem", &clients.pem);
    let accelex = format!("client_ca = \"{}\"\nclient_names = [\"accelex.example\"]", ca.display());
    let tls = ours.issue("127.0.0.1").section(folder);
    let config = configured(&here, "", &accelex, &tls);
    let running = start(&here, config).await;

    let right = clients.issue("accelex.example");
    let builder = || client(&[&ours]);
    let shows = |issued: &Issued| builder().identity(issued.identity()).build().unwrap();
    let none = builder().build().unwrap();
    let one = builder().http1_only().build().unwrap();
    let (known, stranger, misnamed) =
        (shows(&right), shows(&others.issue("accelex.example")), shows(&clients.issue("else.example")));
    let old = builder().identity(right.identity()).tls_version_max(reqwest::tls::Version::TLS_1_2).build().unwrap();
    let accepted = |version| (200, "accepted".to_owned(), version);
    let refused = || (403, "client_certificate_required".to_owned(), Version::HTTP_2);
    for (http, source, id, expected) in [
        (&none, "accbooks", "none", accepted(Version::HTTP_2)),
        (&one, "accbooks", "one", accepted(Version::HTTP_11)),
        (&known, "accbooks", "known", accepted(Version::HTTP_2)),
        // A certificate that nobody asked it for is no reason to lose a provider's events.
        (&stranger, "accbooks", "stranger", accepted(Version::HTTP_2)),
        (&none, "accelex", "none", refused()),
        (&stranger, "accelex", "stranger", refused()),
        (&misnamed, "accelex", "misnamed", refused()),
        (&known, "accelex", "known", accepted(Version::HTTP_2)),
        (&known, "accelex", "known-2", accepted(Version::HTTP_2)),
        (&old, "accelex", "old", accepted(Version::HTTP_2)),
    ] {
        let found = running.deliver(http, "https", source, id, &[]).await.unwrap();
        assert_eq!(found, expected, "{source} {id}");
    }
    let fingerprint = Some(Sha256::of(&right.der).to_string());
    let kept = received(&here, "accelex").await;
    assert_eq!(kept.iter().map(|e| e.event_id.as_str()).collect::<Vec<_>>(), ["known", "known-2", "old"]);
    assert!(kept.iter().all(|envelope| envelope.evidence.client_certificate_sha256 == fingerprint));
    // Not asked for, not proved: not written down.
    let kept = received(&here, "accbooks").await;
    assert_eq!(kept.len(), 4);
    assert!(kept.iter().all(|envelope| envelope.evidence.client_certificate_sha256.is_none()));

    // Another authority counts on the connections that are open too.
    file(folder, "clients.pem", &others.pem);
    running.live.send_replace(live(&configured(&here, "", &accelex, &tls)));
    assert_eq!(running.deliver(&known, "https", "accelex", "x", &[]).await.unwrap(), refused());
    let found = running.deliver(&stranger, "https", "accelex", "y", &[]).await.unwrap();
    assert_eq!(found, accepted(Version::HTTP_2));

    assert!(running.deliver(&none, "http", "accbooks", "plain", &[]).await.is_err(), "plain HTTP to a TLS port");
    let distrustful = client(&[&others]).build().unwrap();
    assert!(running.deliver(&distrustful, "https", "accbooks", "x", &[]).await.is_err(), "the client checks us");
    running.end(&here).await;
}

fn roots(authority: &Authority) -> rustls::RootCertStore {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    roots
}

async fn connect(running: &Running, config: rustls::ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(running.at).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect("127.0.0.1".try_into().unwrap(), stream).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_without_its_key_opens_nothing() {
    let here = install("").await;
    let (ours, clients) = (Authority::new("ours"), Authority::new("clients"));
    let folder = here.data_dir.path();
    let ca = file(folder, "clients.pem", &clients.pem);
    let accelex = format!("client_ca = \"{}\"", ca.display());
    let config = configured(&here, "", &accelex, &ours.issue("127.0.0.1").section(folder));
    let running = start(&here, config).await;
    let (right, other) = (clients.issue("accelex.example"), clients.issue("accelex.example"));
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        for (key, opens) in [(&right.key, true), (&other.key, false)] {
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
            // Unlike the usual way to make one, this does not look whether the key fits.
            let certified = CertifiedKey::new(vec![right.der.clone().into()], key);
            let config = rustls::ClientConfig::builder_with_protocol_versions(&[version])
                .with_root_certificates(roots(&ours))
                .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
            let mut answer = Vec::new();
            // In TLS 1.3 a client learns only with the first answer that its signature was refused.
            if let Ok(mut stream) = connect(&running, config).await {
                let head =
                    "POST /api/accelex/webhook HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
                drop(stream.write_all(head.as_bytes()).await);
                drop(stream.read_to_end(&mut answer).await);
            }
            let answer = String::from_utf8(answer).unwrap();
            // Through the certificate's door, and no further: nothing was signed.
            let expected = if opens { answer.contains("signature_missing") } else { answer.is_empty() };
            assert!(expected, "{version:?} {opens}: {answer}");
        }
    }
    running.end(&here).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_nobody_goes_on_with_does_not_hold_up_the_end() {
    let here = install("").await;
    let ours = Authority::new("ours");
    let section = ours.issue("127.0.0.1").section(here.data_dir.path());
    let config = configured(&here, "header_timeout = \"60s\"", "", &section);
    let running = start(&here, config).await;
    let silent = TcpStream::connect(running.at).await.unwrap();
    let mut begun = TcpStream::connect(running.at).await.unwrap();
    begun.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    // Only an answer on a connection after them shows that they were accepted.
    let http = client(&[&ours]).build().unwrap();
    assert_eq!(running.deliver(&http, "https", "accbooks", "after", &[]).await.unwrap().0, 200);
    let asked = tokio::time::Instant::now();
    running.end(&here).await;
    assert!(asked.elapsed() < Duration::from_secs(10), "well below the 20 s that it may take");
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_a_request_is_closed_before_in_and_after_the_handshake() {
    let here = install("").await;
    let ours = Authority::new("ours");
    let section = ours.issue("127.0.0.1").section(here.data_dir.path());
    let config = configured(&here, "header_timeout = \"1s\"\nmax_connections = 4", "", &section);
    let running = start(&here, config).await;
    let mut silent = TcpStream::connect(running.at).await.unwrap();
    let mut begun = TcpStream::connect(running.at).await.unwrap();
    // The head of a record with a ClientHello of 512 bytes that never comes.
    begun.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots(&ours)).with_no_client_auth();
    let mut through = connect(&running, config).await.unwrap();

    let mut said = Vec::new();
    let bound = Duration::from_secs(20);
    for stream in [&mut silent, &mut begun] {
        // An alert may come first; what counts is that the end comes.
        let closed = tokio::time::timeout(bound, stream.read_to_end(&mut said)).await;
        assert!(closed.is_ok(), "closed");
    }
    drop(tokio::time::timeout(bound, through.read_to_end(&mut said)).await.expect("closed"));
    // Their places are free again: there are only four.
    let http = client(&[&ours]).build().unwrap();
    let found = running.deliver(&http, "https", "accbooks", "after", &[]).await.unwrap();
    assert_eq!(found.0, 200);
    running.end(&here).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_nobody_goes_on_with_shut_nobody_out() {
    let here = install("").await;
    let ours = Authority::new("ours");
    let section = ours.issue("127.0.0.1").section(here.data_dir.path());
    let config = configured(&here, "header_timeout = \"60s\"\nmax_connections = 4", "", &section);
    let running = start(&here, config).await;
    let mut held = Vec::new();
    for n in 0..12 {
        let mut stream = TcpStream::connect(running.at).await.unwrap();
        if n % 2 == 0 {
            // The first may be gone before all are there.
            drop(stream.write_all(&[22, 3, 1, 2, 0, 1]).await);
        }
        held.push(stream);
    }
    let begun = tokio::time::Instant::now();
    let http = client(&[&ours]).build().unwrap();
    assert_eq!(running.deliver(&http, "https", "accbooks", "after", &[]).await.unwrap().0, 200);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}: not by waiting for them", begun.elapsed());
    assert!(here.metrics.receiver_connections_evicted.get() >= 9);
    running.end(&here).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_says_where_a_request_comes_from() {
    let here = install("").await;
    let config = configured(&here, "trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]", "allow_ips = true", "");
    let running = start(&here, config).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let refused = (403, "address_not_allowed".to_owned(), Version::HTTP_11);
    let accepted = (200, "accepted".to_owned(), Version::HTTP_11);
    for (id, headers, expected) in [
        ("1-list", vec![("x-forwarded-for", "52.44.120.7")], &accepted),
        ("2-chain", vec![("x-forwarded-for", "198.51.100.1, 3.216.98.9, 10.0.0.2")], &accepted),
        ("3-forwarded", vec![("forwarded", "for=\"52.44.120.8:4711\";proto=https")], &accepted),
        ("4-mapped", vec![("x-forwarded-for", "::ffff:52.44.120.9")], &accepted),
        ("none", vec![], &refused),
        ("other", vec![("x-forwarded-for", "198.51.100.1")], &refused),
        ("spoofed", vec![("x-forwarded-for", "52.44.120.7, 198.51.100.1")], &refused),
        ("hidden", vec![("forwarded", "for=52.44.120.7, for=_hidden")], &refused),
        ("disagree", vec![("x-forwarded-for", "198.51.100.1"), ("forwarded", "for=52.44.120.7")], &refused),
    ] {
        let found = running.deliver(&http, "http", "accelex", id, &headers).await.unwrap();
        assert_eq!(&found, expected, "{id}");
    }
    // No list for this source.
    let found = running.deliver(&http, "http", "accbooks", "any", &[("x-forwarded-for", "2001:db8::1")]).await.unwrap();
    assert_eq!(found.0, 200);
    let kept = received(&here, "accelex").await;
    let senders: Vec<_> = kept.iter().map(|e| (e.event_id.as_str(), e.evidence.remote_address.as_str())).collect();
    assert_eq!(
        senders,
        [
            ("1-list", "52.44.120.7"),
            ("2-chain", "3.216.98.9"),
            ("3-forwarded", "52.44.120.8"),
            ("4-mapped", "52.44.120.9")
        ]
    );
    assert_eq!(received(&here, "accbooks").await[0].evidence.remote_address, "2001:db8::1");
    running.end(&here).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_other_peer_is_the_sender_whatever_it_says() {
    let here = install("").await;
    let config = configured(&here, "trusted_proxies = [\"10.0.0.0/8\"]", "allow_ips = true", "");
    let running = start(&here, config).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let said = [("x-forwarded-for", "52.44.120.7"), ("forwarded", "for=52.44.120.7")];
    for headers in [&said[..1], &said[1..], &said[..]] {
        let found = running.deliver(&http, "http", "accelex", "e", headers).await.unwrap();
        assert_eq!((found.0, found.1.as_str()), (403, "address_not_allowed"), "{headers:?}");
        let found = running.deliver(&http, "http", "accbooks", "e", headers).await.unwrap();
        assert_eq!(found.0, 200);
    }
    assert!(received(&here, "accbooks").await.iter().all(|e| e.evidence.remote_address == "127.0.0.1"));
    assert!(received(&here, "accelex").await.is_empty());
    running.end(&here).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_simulator_shows_a_certificate_and_check_warns_of_an_expired_one() {
    let here = install("").await;
    let (ours, clients) = (Authority::new("ours"), Authority::new("clients"));
    let folder = here.data_dir.path();
    let ca = file(folder, "clients.pem", &clients.pem);
    let toml =
        here.toml.replacen("[sources.accelex]\n", &format!("[sources.accelex]\nclient_ca = \"{}\"\n", ca.display()), 1);
    let config = file(folder, "tls.toml", &format!("{toml}\n{}", ours.issue("127.0.0.1").section(folder)));
    let mut running = Process::start(&config, &["run", "--role", "receiver"], &[]);
    let at = running.address(&["the receiver listens"]).await;
    running.line(&["role=\"receiver\"", "health: ready"]).await;
    let Issued { certificate, key, .. } = clients.issue("accelex.example");
    let path = |name: &str, text: &str| file(folder, name, text).display().to_string();
    let (ca, certificate, key) = (path("ours.pem", &ours.pem), path("c.pem", &certificate), path("c.key", &key));
    let url = format!("https://{at}/api/accelex/webhook");
    let send = ["send", "accelex", "invoice.resolved", "--url", &url, "--max-wait", "1", "--ca", &ca];
    let known = [&send[..], &["--client-cert", &certificate, "--client-key", &key]].concat();
    let ended = process::run(&config, &known).await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    let ended = process::run(&config, &send).await;
    assert_eq!(ended.code, Some(1), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("403 client_certificate_required"), "{}", ended.stdout);
    running.terminate();
    assert_eq!(running.ended().await.code, Some(0));

    let ended = process::run(&config, &["check"]).await;
    assert!(ended.code == Some(0) && !ended.stderr.contains("certificate"), "{}", ended.stderr);
    ours.issue_until("127.0.0.1", 2021).section(folder);
    let ended = process::run(&config, &["check"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("warning: receiver.tls.certificate: the certificate expired at 2021-01-01"),
        "{}",
        ended.stderr
    );
}
