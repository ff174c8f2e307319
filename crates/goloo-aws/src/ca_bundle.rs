//! `AWS_CA_BUNDLE`: a file with the certificates that are trusted in place of the system's.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Why the file can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct CaBundleError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub detail: String,
}

/// The file's text. Each certificate is tried here: the SDK takes a bad one for a bug of its caller's.
pub fn read(path: &Path) -> Result<Vec<u8>, CaBundleError> {
    let failed = |detail: String| CaBundleError { path: path.to_owned(), detail };
    let text = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| failed(format!("it isn't in PEM form: {error:?}")))?;
        roots.add(certificate).map_err(|error| failed(format!("a certificate in it is bad: {error}")))?;
    }
    if roots.is_empty() {
        return Err(failed("there is no certificate in it".to_owned()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_that_holds_no_certificates_is_refused_with_the_reason() {
        let folder = std::env::temp_dir().join(format!("goloo-ca-bundle-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let refused = |text: &[u8]| {
            let path = folder.join("bundle.pem");
            std::fs::write(&path, text).unwrap();
            read(&path).unwrap_err().detail
        };
        assert_eq!(refused(b""), "there is no certificate in it");
        assert_eq!(refused(b"not PEM"), "there is no certificate in it");
        let cut = b"-----BEGIN CERTIFICATE-----\nAAAA\n";
        assert!(refused(cut).starts_with("it isn't in PEM form"), "{}", refused(cut));
        let bad = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(refused(bad).starts_with("a certificate in it is bad"), "{}", refused(bad));
        assert!(read(&folder.join("absent.pem")).unwrap_err().detail.contains("No such file"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
