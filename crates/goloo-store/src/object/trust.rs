//! Whom requests to the service trust: [`goloo_sys::tls`], or the file that AWS's own tools would read.

use std::path::PathBuf;
use std::sync::Arc;

use goloo_model::store::StoreError;
use goloo_sys::tls::{self, TrustError};
use rustls::ClientConfig;

use super::settings::ObjectSettings;

/// The file in `AWS_CA_BUNDLE`.
pub(super) fn ca_bundle() -> Option<PathBuf> {
    std::env::var_os("AWS_CA_BUNDLE").filter(|file| !file.is_empty()).map(PathBuf::from)
}

/// The settings of connections to the service.
pub(super) fn client_config(settings: &ObjectSettings) -> Result<Arc<ClientConfig>, StoreError> {
    let roots = tls::trusted(ca_bundle().as_deref()).map_err(|error| misconfigured(settings, error))?;
    let config = ClientConfig::builder_with_provider(tls::provider()).with_safe_default_protocol_versions();
    let config = config.map_err(|error| settings.unusable(error))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

pub(super) fn misconfigured(settings: &ObjectSettings, error: TrustError) -> StoreError {
    let (message, hint) = match error {
        TrustError::NoRoots(error) => (error.to_string(), error.hint()),
        TrustError::Bundle(error) => (
            format!("AWS_CA_BUNDLE names {}, which can't be used: {}", error.path.display(), error.detail),
            "set AWS_CA_BUNDLE to a file of certificates in PEM format, or unset it",
        ),
    };
    StoreError::Misconfigured { place: settings.location.clone(), message, hint: hint.into() }
}
