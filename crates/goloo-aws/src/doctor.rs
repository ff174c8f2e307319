//! What this provider needs, looked at without changing anything.

use std::path::PathBuf;

use goloo_core::finding::Finding;
use goloo_core::provider::ProviderError;

use crate::provider::AwsProvider;
use crate::settings::Settings;

/// Asks AWS who the credentials are. Where nothing on this machine speaks of AWS it isn't asked, and
/// that is no fault: most people make local machines alone, and a chain that ends at an instance's
/// metadata takes seconds to find nothing.
pub async fn doctor(settings: &Settings) -> Vec<Finding> {
    if !is_set_up() {
        return vec![Finding {
            ok: true,
            what: "no AWS credentials are set up here; only create --aws needs them".to_owned(),
            hint: String::new(),
        }];
    }
    let region = region(settings);
    let provider = AwsProvider::new(settings.clone());
    vec![match provider.session.identity().await.map_err(ProviderError::from) {
        Ok(identity) => {
            Finding { ok: true, what: format!("AWS: {} in {region}", identity.arn), hint: String::new() }
        }
        Err(ProviderError::Permission { what, hint } | ProviderError::Failed { what, hint, .. }) => {
            Finding { ok: false, what, hint }
        }
        Err(error) => Finding { ok: false, what: error.to_string(), hint: String::new() },
    }]
}

fn region(settings: &Settings) -> String {
    let why = if settings.region_is_given { "" } else { " (neither AWS_REGION nor the profile names one)" };
    format!("{}{why}", settings.region)
}

/// Whether the environment or the usual files speak of AWS.
pub fn is_set_up() -> bool {
    const VARIABLES: [&str; 5] = [
        "AWS_ACCESS_KEY_ID",
        "AWS_PROFILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ];
    let file = |variable: &str, name: &str| {
        let given = std::env::var_os(variable).map(PathBuf::from);
        let usual = || std::env::home_dir().map(|home| home.join(".aws").join(name));
        given.or_else(usual).is_some_and(|path| path.exists())
    };
    VARIABLES.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
        || file("AWS_CONFIG_FILE", "config")
        || file("AWS_SHARED_CREDENTIALS_FILE", "credentials")
}
