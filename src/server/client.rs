//! Whose certificate a client showed: signed by an authority, valid now, and with one of the names asked for.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::config;
use crate::event::Sha256;

/// Answers kept of one connection's certificate: as many as sources can be asked about on it without asking twice.
const MAX_KNOWN: usize = 16;

/// Whose certificates are taken.
#[derive(Debug)]
pub struct ClientAuth {
    verifier: Arc<dyn ClientCertVerifier>,
    names: Vec<String>,
}

impl ClientAuth {
    /// As configured.
    ///
    /// # Errors
    /// When there is no authority; a configuration has at least one.
    pub fn new(asked: &config::ClientAuth) -> Result<Self, VerifierBuilderError> {
        let provider = Arc::new(ring::default_provider());
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::clone(&asked.ca.roots), provider);
        Ok(Self { verifier: builder.build()?, names: asked.names.clone() })
    }

    fn admits(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> bool {
        let Some((leaf, others)) = chain.split_first() else { return false };
        if let Err(error) = self.verifier.verify_client_cert(leaf, others, now) {
            tracing::debug!(%error, "a client's certificate is refused");
            return false;
        }
        self.names.is_empty() || names(leaf).iter().any(|name| self.names.iter().any(|asked| name.is(asked)))
    }
}

/// The chain that a connection's client showed and owns the key of. Nothing else is proved of it yet.
#[derive(Debug)]
pub struct ClientCertificate {
    chain: Vec<CertificateDer<'static>>,
    fingerprint: Sha256,
    /// What was found before: a signature need not be checked again for each request of a connection.
    known: Mutex<Vec<(Arc<ClientAuth>, bool)>>,
}

impl ClientCertificate {
    pub(super) fn new(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let chain: Vec<_> = chain.iter().map(|der| der.clone().into_owned()).collect();
        let fingerprint = Sha256::of(chain.first()?);
        Some(Self { chain, fingerprint, known: Mutex::new(Vec::new()) })
    }

    /// The SHA-256 of the certificate itself, if it is one of those asked for.
    pub fn proved(&self, asked: &Arc<ClientAuth>) -> Option<Sha256> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.iter().find(|(other, _)| Arc::ptr_eq(other, asked)).map(|(_, admitted)| *admitted);
        let admitted = found.unwrap_or_else(|| {
            let admitted = asked.admits(&self.chain, UnixTime::now());
            if known.len() == MAX_KNOWN {
                // Reloads left these behind.
                known.clear();
            }
            known.push((Arc::clone(asked), admitted));
            admitted
        });
        admitted.then_some(self.fingerprint)
    }
}

/// A name that a certificate gives its subject.
#[derive(Debug, PartialEq, Eq)]
enum SubjectName {
    Dns(String),
    Uri(String),
    Common(String),
}

impl SubjectName {
    /// DNS names are compared without regard to case, as DNS does; a wildcard is nobody's name.
    fn is(&self, asked: &str) -> bool {
        match self {
            Self::Dns(name) => !name.contains('*') && name.eq_ignore_ascii_case(asked),
            Self::Uri(name) | Self::Common(name) => name == asked,
        }
    }
}

/// The names of a certificate: DNS names and URIs, or the common name of one that has neither (RFC 9525 section 2,
/// RFC 6125 section 6.4.4: beside alternative names it identifies nobody). None of one that cannot be read.
fn names(der: &[u8]) -> Vec<SubjectName> {
    let Ok(certificate) = Certificate::from_der(der) else { return Vec::new() };
    let certificate = certificate.tbs_certificate();
    let Ok(alternative) = certificate.get_extension::<SubjectAltName>() else { return Vec::new() };
    let alternative = alternative.map(|(_, SubjectAltName(names))| names).unwrap_or_default();
    let names: Vec<SubjectName> = alternative
        .iter()
        .filter_map(|name| match name {
            GeneralName::DnsName(name) => Some(SubjectName::Dns(name.to_string())),
            GeneralName::UniformResourceIdentifier(name) => Some(SubjectName::Uri(name.to_string())),
            _ => None,
        })
        .collect();
    if !names.is_empty() {
        return names;
    }
    let common = certificate.subject().common_name().ok().flatten();
    common.map(|name| SubjectName::Common(name.value().into_owned())).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, Issuer, KeyPair, SanType};

    use super::*;

    /// A certificate with these names, signed by itself.
    fn certificate(common: Option<&str>, alternative: &[SanType]) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(common) = common {
            params.distinguished_name.push(DnType::CommonName, common);
        }
        params.subject_alt_names = alternative.to_vec();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().unwrap())
    }

    fn uri(name: &str) -> SanType {
        SanType::URI(name.try_into().unwrap())
    }

    #[test]
    fn names_of_a_certificate() {
        let address = SanType::IpAddress("192.0.2.1".parse().unwrap());
        for (common, alternative, asked, is) in [
            (Some("accelex"), vec![], "accelex", true),
            (Some("accelex"), vec![], "Accelex", false),
            (Some("accelex"), vec![], "accele", false),
            (None, vec![], "", false),
            (Some("accelex"), vec![dns("a.example")], "accelex", false),
            (Some("accelex"), vec![uri("spiffe://x/a")], "accelex", false),
            (Some("accelex"), vec![address], "accelex", true),
            (None, vec![dns("a.example"), dns("b.example")], "B.Example", true),
            (None, vec![dns("*.example")], "a.example", false),
            (None, vec![dns("*.example")], "*.example", false),
            (None, vec![uri("spiffe://x/a")], "spiffe://x/a", true),
            (None, vec![uri("spiffe://x/a")], "spiffe://x/A", false),
        ] {
            let found = names(&certificate(common, &alternative));
            assert_eq!(found.iter().any(|name| name.is(asked)), is, "{found:?} {asked}");
        }
    }

    #[test]
    fn a_certificate_that_cannot_be_read_has_no_names() {
        let whole = certificate(Some("a"), &[dns("a.example")]);
        assert_eq!(names(&whole), [SubjectName::Dns("a.example".to_owned())]);
        for end in 0..whole.len() {
            assert_eq!(names(&whole[..end]), [], "{end}");
        }
    }

    #[test]
    fn the_authority_and_the_time_count() {
        let authority = |name: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let key = KeyPair::generate().unwrap();
            let root = params.self_signed(&key).unwrap();
            (Issuer::new(params, key), root)
        };
        let ((issuer, root), (stranger, _)) = (authority("ours"), authority("theirs"));
        let signed = |issuer: &Issuer<'_, KeyPair>, until: i32| {
            let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(until, 1, 1);
            params.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap().der().clone()
        };
        let mut roots = rustls::RootCertStore::empty();
        roots.add(root.der().clone()).unwrap();
        let asked = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            let ca = config::ClientCa { roots: Arc::new(roots.clone()) };
            Arc::new(ClientAuth::new(&config::ClientAuth { ca, names }).unwrap())
        };
        let shown = |der| ClientCertificate::new(&[der]).unwrap();
        let ours = signed(&issuer, 4096);
        let certificate = shown(ours.clone());
        assert_eq!(certificate.proved(&asked(&[])), Some(Sha256::of(&ours)));
        assert_eq!(certificate.proved(&asked(&["b.example", "a.example"])), Some(Sha256::of(&ours)));
        assert_eq!(certificate.proved(&asked(&["b.example"])), None);
        assert_eq!(shown(signed(&issuer, 2020)).proved(&asked(&[])), None, "expired");
        assert_eq!(shown(signed(&stranger, 4096)).proved(&asked(&[])), None, "another authority");
        let same = asked(&["b.example"]);
        assert_eq!((certificate.proved(&same), certificate.proved(&same)), (None, None), "asked twice");
        for _ in 0..2 * MAX_KNOWN {
            assert!(certificate.proved(&asked(&[])).is_some());
        }
        assert!(certificate.known.lock().unwrap().len() <= MAX_KNOWN);
        assert!(ClientCertificate::new(&[]).is_none());
    }
}
