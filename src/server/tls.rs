//! What a TLS handshake is made with: our certificate, the protocols, and a client's certificate where it has one.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme, version,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::client::ClientCertificate;
use crate::config::{ClientCa, Identity};

/// Protocols in the order of our preference.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// Largest chain that a client may show, in bytes: it stays in memory as long as its connection, proved or not. Usual
/// ones of two or three certificates take 2 to 5 KiB.
const MAX_CHAIN_BYTES: usize = 16 * 1024;

/// What handshakes are made with. Cheap to clone.
#[derive(Clone)]
pub struct Settings(TlsAcceptor);

impl Settings {
    /// Settings that show this identity. Clients are asked for a certificate where `asked` names authorities, and may
    /// come without.
    ///
    /// # Errors
    /// When the cryptography at hand cannot speak TLS 1.2 and 1.3: a fault of the build.
    pub fn new(identity: &Identity, asked: &[ClientCa]) -> Result<Self, Error> {
        // Said out loud: a default of the process could be another library's.
        let provider = Arc::new(ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])?;
        let builder = if asked.is_empty() {
            builder.with_no_client_auth()
        } else {
            let hints = asked.iter().flat_map(|ca| ca.roots.subjects()).collect();
            builder.with_client_cert_verifier(Arc::new(Possession { hints, algorithms }))
        };
        let certified = SingleCertAndKey::from(Arc::clone(&identity.certified));
        let mut config = builder.with_cert_resolver(Arc::new(certified));
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Makes the handshake; the caller bounds its time.
    ///
    /// # Errors
    /// When the client breaks off, speaks no TLS, or does not own the key of the certificate it shows.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
    ) -> std::io::Result<(TlsStream<TcpStream>, Option<ClientCertificate>)> {
        let stream = self.0.accept(stream).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(ClientCertificate::new);
        Ok((stream, shown))
    }
}

/// Has a client prove that it owns the key of the certificate it shows, and nothing else. Whose certificate it is, each
/// source asks when a request names it ([`ClientAuth`](super::client::ClientAuth)).
///
/// Were it asked here, one source's wish for certificates would break off the connections of all other providers that
/// happen to show one of their own; and a connection, or a resumed session, would keep what it was allowed before its
/// authority was taken away.
#[derive(Debug)]
struct Possession {
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Possession {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if leaf.len() + others.iter().map(|der| der.len()).sum::<usize>() > MAX_CHAIN_BYTES {
            return Err(Error::InvalidCertificate(CertificateError::BadEncoding));
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
