//! Whom all connections of goloo trust: the system's certificate authorities, as its other programs do. `SSL_CERT_FILE`
//! and `SSL_CERT_DIR` take their place; no authority is compiled in. For AWS's services a file may be named instead
//! (`AWS_CA_BUNDLE`), as for AWS's own tools.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls_native_certs::CertificateResult;
use thiserror::Error;

/// There is no authority to trust.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no CA certificates were found on this computer{}", details(.detail))]
pub struct NoRoots {
    /// Why none could be read; empty where there is none.
    pub detail: String,
}

fn details(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}

impl NoRoots {
    /// What to do.
    pub fn hint(&self) -> &'static str {
        "install the system's certificates (package ca-certificates), or set SSL_CERT_FILE to a file of certificates in PEM format"
    }
}

/// Why a file of certificates can't be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{detail}")]
pub struct BundleError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub detail: String,
}

/// Why nobody can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TrustError {
    /// The system has no certificates.
    #[error(transparent)]
    NoRoots(#[from] NoRoots),
    /// The file that takes their place can't be used.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// Certificates that the user names in place of the system's, all of them valid.
#[derive(Debug, Clone)]
pub struct CertificateBundle {
    /// The file's text.
    pub pem: Vec<u8>,
    /// The authorities in it.
    pub roots: RootCertStore,
}

impl CertificateBundle {
    /// Reads a file. Each certificate is tried here: others would skip a bad one, or panic over it.
    ///
    /// # Errors
    /// When it can't be read, has no certificate, or an invalid one.
    pub fn read(path: &Path) -> Result<Self, BundleError> {
        let failed = |detail: String| BundleError { path: path.to_owned(), detail };
        let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate =
                certificate.map_err(|error| failed(format!("it isn't in PEM format: {error:?}")))?;
            roots
                .add(certificate)
                .map_err(|error| failed(format!("it contains an invalid certificate: {error}")))?;
        }
        if roots.is_empty() {
            return Err(failed("it contains no certificate".to_owned()));
        }
        Ok(Self { pem, roots })
    }
}

/// The system's certificates; read once in a process, when the first connection needs them.
///
/// # Errors
/// When there are none.
pub fn system_certificates() -> Result<&'static [CertificateDer<'static>], NoRoots> {
    static READ: OnceLock<Result<Vec<CertificateDer<'static>>, NoRoots>> = OnceLock::new();
    READ.get_or_init(|| valid(rustls_native_certs::load_native_certs())).as_deref().map_err(Clone::clone)
}

/// What was read, without what is no authority. A system may have certificates that can't be parsed.
fn valid(read: CertificateResult) -> Result<Vec<CertificateDer<'static>>, NoRoots> {
    let is_valid = |certificate: &CertificateDer<'_>| {
        RootCertStore::empty().add(certificate.clone().into_owned()).is_ok()
    };
    let certificates: Vec<_> = read.certs.into_iter().filter(is_valid).collect();
    if certificates.is_empty() {
        let detail = read.errors.first().map(ToString::to_string).unwrap_or_default();
        return Err(NoRoots { detail });
    }
    Ok(certificates)
}

/// The authorities in the file `bundle`, or else the system's.
///
/// # Errors
/// When there are none.
pub fn trusted(bundle: Option<&Path>) -> Result<RootCertStore, TrustError> {
    if let Some(path) = bundle {
        return Ok(CertificateBundle::read(path)?.roots);
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(system_certificates()?.iter().cloned());
    Ok(roots)
}

/// The cryptography of all connections.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_without_valid_certificates_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |text: &[u8]| {
            let path = folder.path().join("bundle.pem");
            std::fs::write(&path, text).unwrap();
            CertificateBundle::read(&path).unwrap_err().detail
        };
        assert_eq!(refused(b""), "it contains no certificate");
        assert_eq!(refused(b"not PEM"), "it contains no certificate");
        let cut = b"-----BEGIN CERTIFICATE-----\nAAAA\n";
        assert!(refused(cut).starts_with("it isn't in PEM format"), "{}", refused(cut));
        let bad = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(refused(bad).starts_with("it contains an invalid certificate"), "{}", refused(bad));
        let absent = CertificateBundle::read(&folder.path().join("absent.pem")).unwrap_err();
        assert!(absent.detail.contains("No such file"));
    }

    #[test]
    fn a_system_without_valid_certificates_is_an_error_that_says_why_and_what_to_do() {
        let none = valid(CertificateResult::default()).unwrap_err();
        assert_eq!(none.to_string(), "no CA certificates were found on this computer");
        assert!(none.hint().contains("SSL_CERT_FILE"));
        let absent = Path::new("/nowhere/certificates.pem");
        let unread = valid(rustls_native_certs::load_certs_from_paths(Some(absent), None)).unwrap_err();
        assert!(unread.to_string().contains("/nowhere/certificates.pem"), "{unread}");
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("odd.pem");
        std::fs::write(&odd, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(valid(rustls_native_certs::load_certs_from_paths(Some(&odd), None)).is_err());
    }
}
