//! Certificates: read and proved to fit before anything listens with them.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use x509_cert::der::Decode as _;

use super::fault::Complaint;
use super::reader::Reader;
use super::secret::Secret;
use super::values::text;

/// A bundle of every public authority is a quarter of this; the bound keeps a wrong path from being read whole.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// `[receiver.tls]`: whom the listener shows itself as, and whose clients it asks for.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificate, its intermediates and its key.
    pub identity: Identity,
    /// Who signs the certificates of every source's clients, for sources that do not say it themselves.
    pub client_ca: Option<ClientCa>,
}

/// A certificate with the key that fits it.
#[derive(Clone)]
pub struct Identity {
    /// In the form that the listener takes.
    pub certified: Arc<CertifiedKey>,
    valid: [Timestamp; 2],
}

/// Authorities that sign clients' certificates; at least one.
#[derive(Clone)]
pub struct ClientCa {
    /// In the form that verification takes.
    pub roots: Arc<RootCertStore>,
}

/// What a source asks of its clients' certificates.
#[derive(Clone, Debug)]
pub struct ClientAuth {
    /// Who signs them.
    pub ca: ClientCa,
    /// Names of which the certificate must have one; empty: any certificate of the authority will do.
    pub names: Vec<String>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificates", &self.certified.cert.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for ClientCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCa").field("certificates", &self.roots.len()).finish()
    }
}

impl Identity {
    /// Why clients will refuse the certificate now, if they will.
    #[must_use]
    pub fn outdated(&self, now: Timestamp) -> Option<String> {
        let [from, to] = self.valid;
        if now > to {
            return Some(format!("the certificate expired at {to}: clients refuse it"));
        }
        (now < from).then(|| format!("the certificate is not valid before {from}: clients refuse it"))
    }

    fn new(chain: Vec<CertificateDer<'static>>, key: &Secret) -> Result<Self, (&'static str, Complaint)> {
        let leaf = chain.first().map(CertificateDer::as_ref).unwrap_or_default();
        let leaf = x509_cert::Certificate::from_der(leaf);
        let leaf = leaf.map_err(|error| ("certificate", unreadable(&error)))?;
        let validity = leaf.tbs_certificate().validity();
        let valid = [validity.not_before, validity.not_after].map(|time| {
            let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
            Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
        });
        let none = |_| Complaint::new("holds no private key").hint("PEM, not encrypted: PKCS#8, PKCS#1 or SEC 1");
        let key = PrivateKeyDer::from_pem_slice(key.expose()).map_err(|error| ("key", none(error)))?;
        let certified = CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                let complaint = Complaint::new("does not fit the certificate");
                ("key", complaint.hint("`certificate` begins with the certificate that this key was made for"))
            }
            error => ("key", Complaint::new(format!("cannot be used: {error}")).hint("RSA, ECDSA or Ed25519")),
        })?;
        Ok(Self { certified: Arc::new(certified), valid })
    }
}

impl Tls {
    /// None where a fault is on record.
    pub(super) fn read(mut r: Reader<'_>) -> Option<Self> {
        let chain = r.require("certificate", "", |node| certificates(&text(node)?));
        if !r.has("key") {
            r.missing("key", "write \"file:PATH\" or \"env:NAME\"");
        }
        let key = r.optional_secret("key");
        let identity = match (chain, key) {
            (Some(chain), Some(key)) => Identity::new(chain, &key)
                .map_err(|(option, complaint)| {
                    r.fault(option, complaint);
                })
                .ok(),
            _ => None,
        };
        let client_ca = ClientCa::read(&mut r);
        r.finish();
        Some(Self { identity: identity?, client_ca })
    }
}

impl ClientCa {
    /// The authorities of the option `client_ca`.
    pub(super) fn read(r: &mut Reader<'_>) -> Option<Self> {
        r.take("client_ca", "", |node| Self::of_file(&text(node)?))
    }

    fn of_file(path: &str) -> Result<Self, Complaint> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|error| unreadable(&error))?;
        }
        Ok(Self { roots: Arc::new(roots) })
    }
}

/// The certificates of a PEM file; at least one.
fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, Complaint> {
    let failed = |error: std::io::Error| {
        Complaint::new(format!("cannot read file `{path}`: {error}")).hint("check the path and who may read it")
    };
    let mut pem = Vec::new();
    File::open(path).map_err(failed)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut pem).map_err(failed)?;
    if u64::try_from(pem.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
        return Err(Complaint::new(format!("file `{path}` is over 1MiB")));
    }
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|error| Complaint::new(format!("file `{path}` is no PEM: {error}")))?;
    if found.is_empty() {
        return Err(Complaint::new(format!("file `{path}` holds no certificate")).hint("PEM, not DER"));
    }
    Ok(found)
}

fn unreadable(error: &dyn fmt::Display) -> Complaint {
    Complaint::new(format!("holds a certificate that cannot be read: {error}"))
}
