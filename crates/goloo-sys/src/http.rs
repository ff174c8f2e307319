//! Whom requests with ureq trust: as [`crate::tls`] says.

use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::tls::{self, NoRoots};

/// The TLS settings for a request to this URL. Only https needs certificates, which take some time to read.
///
/// # Errors
/// When there are none.
pub fn tls_for(url: &str) -> Result<TlsConfig, NoRoots> {
    let config = TlsConfig::builder().unversioned_rustls_crypto_provider(tls::provider());
    if !url.starts_with("https://") {
        return Ok(config.build());
    }
    let certificates = tls::system_certificates()?.iter();
    let roots = RootCerts::from(certificates.map(|certificate| Certificate::from_der(certificate)));
    Ok(config.root_certs(roots).build())
}
