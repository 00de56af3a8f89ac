//! One exchange with a target over TLS: whom it may be, and who we are.
//!
//! The certificates in `targets/` are for `localhost` and good for a hundred years; their keys protect nothing.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod certificates;
pub(crate) mod described;
mod hostile;
mod late;
mod oauth;
pub(crate) mod presets;
mod prism;
mod proxy;
mod tickets;
mod tryton;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use ledgerhook::config::Config;
use ledgerhook::event::{AttemptOutcome, FeedRecord, Record, Sha256, Timestamp};
use ledgerhook::targets::{Answer, Client, ClientError};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

const CA: &str = include_str!("targets/ca.pem");
const SERVER: (&str, &str) = (include_str!("targets/server.pem"), include_str!("targets/server.key"));
const CLIENT: (&str, &str) = (include_str!("targets/client.pem"), include_str!("targets/client.key"));

/// A server on TLS that says 200 to whom its authority knows; its port.
fn server(asks: bool) -> u16 {
    drop(rustls::crypto::ring::default_provider().install_default());
    let certificate = CertificateDer::from_pem_slice(SERVER.0.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(SERVER.1.as_bytes()).unwrap();
    let builder = ServerConfig::builder();
    let builder = if asks {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(CA.as_bytes()).unwrap()).unwrap();
        builder.with_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    listen(builder.with_single_cert(vec![certificate], key).unwrap())
}

/// The same with another certificate.
fn server_with(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> u16 {
    listen(ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap())
}

fn listen(config: ServerConfig) -> u16 {
    listen_slowly(config, Duration::ZERO)
}

/// The same by a server that waits before it reads on.
fn listen_slowly(config: ServerConfig, pause: Duration) -> u16 {
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let slow = Slow { stream, pause };
            let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), slow);
            let mut head = [0; 16 * 1024];
            // Who is not let in makes these fail.
            if stream.read(&mut head).is_ok_and(|n| n > 0) {
                drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"));
                stream.conn.send_close_notify();
                drop(stream.flush());
            }
            // An end with something unread in it would be a reset, which may overtake what was said.
            drop(stream.sock.stream.set_read_timeout(Some(Duration::from_secs(1))));
            drop(stream.sock.stream.shutdown(Shutdown::Write));
            while stream.sock.stream.read(&mut head).is_ok_and(|n| n > 0) {}
        }
    });
    port
}

struct Slow {
    stream: TcpStream,
    pause: Duration,
}

impl Read for Slow {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        std::thread::sleep(self.pause);
        self.stream.read(into)
    }
}

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

fn client(port: u16, tls: &str) -> Result<Client, ClientError> {
    client_at(&format!("https://localhost:{port}/"), tls)
}

fn client_at(url: &str, more: &str) -> Result<Client, ClientError> {
    let toml = format!(
        r#"
[targets.erp]
preset = "sandbox"
records = ["feeds"]
start = "now"
url = "{url}"
{more}
"#
    );
    let env = |name: &str| {
        let value = match name {
            "CA" => CA,
            "OTHER" => CLIENT.0,
            "CERTIFICATE" => CLIENT.0,
            "KEY" => CLIENT.1,
            _ => "canary",
        };
        Some(value.to_owned())
    };
    let config = Config::parse(&toml, "test.toml", &env, &[]).unwrap_or_else(|faults| panic!("{faults}"));
    Client::new(&config.targets["erp"])
}

fn feed() -> Record {
    Record::from(FeedRecord {
        event_id: "e-1".to_owned(),
        source: "accelex".to_owned(),
        event_type: "feed.updated".to_owned(),
        entity_id: "f-1".to_owned(),
        occurred_at: None,
        received_at: Timestamp::from_micros(0),
        body_sha256: Sha256::of(b""),
        work_unit_id: None,
        provenance: None,
        validation: Vec::new(),
        attributes: "{}".to_owned(),
        bank_feed_id: None,
        bank: None,
        transactions_imported: None,
        synced_at: None,
    })
}

async fn send(port: u16, tls: &str) -> Answer {
    client(port, tls).unwrap().send(&Arc::new(feed()), Timestamp::now(), false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_is_who_its_authority_says() {
    let port = server(false);
    assert_eq!(send(port, r#"tls = { ca = "env:CA" }"#).await.status, Some(200));
    for stranger in ["", r#"tls = { ca = "env:OTHER" }"#] {
        let answer = send(port, stranger).await;
        assert_eq!((answer.status, answer.verdict.outcome), (None, AttemptOutcome::Retry), "{stranger}: {answer:?}");
        assert_eq!(answer.verdict.reason.to_string(), "connect_failed", "nothing was sent: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_asks_who_we_are_is_told() {
    let port = server(true);
    let known = r#"tls = { ca = "env:CA", client_certificate = "env:CERTIFICATE", client_key = "env:KEY" }"#;
    let answer = send(port, known).await;
    assert_eq!((answer.status, answer.excerpt.as_deref()), (Some(200), Some("ok")));
    assert_eq!(send(port, r#"tls = { ca = "env:CA" }"#).await.status, None);
}

#[test]
fn what_is_no_certificate_is_refused_and_not_repeated() {
    drop(rustls::crypto::ring::default_provider().install_default());
    for bad in [
        r#"tls = { ca = "env:BAD" }"#,
        r#"tls = { client_certificate = "env:BAD", client_key = "env:KEY" }"#,
        r#"tls = { client_certificate = "env:CERTIFICATE", client_key = "env:BAD" }"#,
    ] {
        let Err(error) = client(1, bad) else { panic!("{bad} was taken") };
        let text = format!("{error} {error:?}");
        assert!(matches!(error, ClientError::Tls(_)) && !text.contains("canary"), "{text}");
    }
}
