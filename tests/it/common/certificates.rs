//! Certificates of a test's own authorities.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// Signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub(crate) pem: String,
}

/// A certificate with its key.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) der: Vec<u8>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for this DNS name or address.
    pub(crate) fn issue(&self, name: &str) -> Issued {
        self.issue_until(name, 4096)
    }

    /// One that is valid until the first day of this year.
    pub(crate) fn issue_until(&self, name: &str, year: i32) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued { certificate: certificate.pem(), key: key.serialize_pem(), der: certificate.der().to_vec() }
    }
}

impl Issued {
    /// Certificate and key as files in a folder, and `[receiver.tls]` with them.
    pub(crate) fn section(&self, folder: &Path) -> String {
        let [certificate, key] =
            [("tls.pem", &self.certificate), ("tls.key", &self.key)].map(|(name, text)| file(folder, name, text));
        format!("[receiver.tls]\ncertificate = \"{}\"\nkey = \"file:{}\"\n", certificate.display(), key.display())
    }

    /// For a client that shows it.
    pub(crate) fn identity(&self) -> reqwest::Identity {
        reqwest::Identity::from_pem(format!("{}{}", self.certificate, self.key).as_bytes()).unwrap()
    }
}

/// Writes a file of this name.
pub(crate) fn file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// A client that believes these authorities and no other.
pub(crate) fn client(authorities: &[&Authority]) -> reqwest::ClientBuilder {
    let roots = authorities.iter().map(|authority| reqwest::Certificate::from_pem(authority.pem.as_bytes()).unwrap());
    let builder = reqwest::Client::builder().timeout(std::time::Duration::from_secs(30)).no_proxy();
    builder.tls_certs_only(roots.collect::<Vec<_>>())
}
