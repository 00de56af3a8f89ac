//! Our certificate, refused: at the end of the handshake with TLS 1.2, and behind it with TLS 1.3.

use std::sync::Arc;
use std::time::Duration;

use ledgerhook::event::{AttemptOutcome, Timestamp};
use ledgerhook::targets::{Answer, Scope};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::{CA, SERVER, client, listen_slowly, send};
use crate::common::certificates::Authority;

const NONE: &str = r#"tls = { ca = "env:CA" }"#;
const OURS: &str = r#"tls = { ca = "env:CA", client_certificate = "env:CERTIFICATE", client_key = "env:KEY" }"#;

/// Long enough for a request to be there when our certificate is looked at.
const PAUSE: Duration = Duration::from_millis(100);

/// How a server that asks for certificates is spoken to.
#[derive(Clone, Copy, Debug)]
struct Way {
    version: &'static SupportedProtocolVersion,
    protocol: &'static str,
}

fn ways() -> impl Iterator<Item = Way> {
    [&TLS12, &TLS13].into_iter().flat_map(|version| ["http/1.1", "h2"].map(|protocol| Way { version, protocol }))
}

/// A server that lets in whom this authority knows; its port.
fn server(authority: &str, way: Way, pause: Duration) -> u16 {
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let known = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let certificate = CertificateDer::from_pem_slice(SERVER.0.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(SERVER.1.as_bytes()).unwrap();
    let builder = ServerConfig::builder_with_protocol_versions(&[way.version]).with_client_cert_verifier(known);
    let mut config = builder.with_single_cert(vec![certificate], key).unwrap();
    config.alpn_protocols = vec![way.protocol.as_bytes().to_vec()];
    listen_slowly(config, pause)
}

/// Sends until it is heard why nothing came of it: on a busy machine the pause may be too short.
async fn send_until_heard(port: u16, tls: &str) -> Answer {
    for _ in 0..20 {
        let answer = send(port, tls).await;
        if answer.verdict.reason.to_string() != "connect_failed" {
            return answer;
        }
    }
    panic!("it was never told why");
}

/// That the target refuses who we are, that it acted on nothing, and what it said.
fn assert_refused(answer: &Answer, alert: &str, way: Way) {
    let verdict = &answer.verdict;
    let shown = (verdict.outcome, verdict.scope, verdict.reason.to_string());
    let refused = (AttemptOutcome::Credentials, Scope::Target, "client_certificate_refused".to_owned());
    assert_eq!(shown, refused, "{way:?}: {answer:?}");
    assert!(!verdict.leaves_doubt(), "{way:?}: {answer:?}");
    assert!(answer.fault.as_ref().is_some_and(|fault| fault.contains(alert)), "{way:?}: {answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_refused_is_the_targets_fault() {
    let another = Authority::new("another").pem;
    for way in ways() {
        if way.protocol == "http/1.1" {
            assert_eq!(send(server(CA, way, PAUSE), OURS).await.status, Some(200), "else there is nothing to see");
        }
        assert_refused(&send_until_heard(server(CA, way, PAUSE), NONE).await, "CertificateRequired", way);
        assert_refused(&send_until_heard(server(&another, way, PAUSE), OURS).await, "UnknownCA", way);
    }
}

/// The connection may be gone before the request begins: then nobody hears why, but nothing was sent either.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_refuses_a_certificate_at_once_leaves_no_doubt() {
    for way in ways() {
        let port = server(CA, way, Duration::ZERO);
        for _ in 0..25 {
            let answer = send(port, NONE).await;
            let shown = (answer.verdict.scope, answer.verdict.leaves_doubt());
            assert_eq!(shown, (Scope::Target, false), "{way:?}: {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_refused_is_told_by_a_trial() {
    let way = Way { version: &TLS12, protocol: "http/1.1" };
    let trial = client(server(CA, way, Duration::ZERO), NONE).unwrap().probe(Timestamp::now()).await;
    assert_refused(&trial.answer, "CertificateRequired", way);
    assert_eq!((trial.connected, trial.let_in), (false, Some(false)));
}
