//! Checks this provider's requirements without changing anything.

use std::path::PathBuf;

use goloo_model::check::Check;
use goloo_model::hint::Hint;
use goloo_model::provider::ProviderError;

use crate::context::AwsProvider;
use crate::settings::Settings;

/// Checks the credentials' identity. If nothing on this machine is configured for AWS, no request is sent and that
/// isn't a failure: most users create only local machines, and a chain that ends at the instance metadata service takes
/// seconds to find nothing.
pub async fn doctor(settings: &Settings) -> Vec<Check> {
    if !is_set_up() {
        return vec![Check::absent(
            "no AWS credentials are set up here; only VMs in AWS need them",
            Hint::default(),
        )];
    }
    let region = region(settings);
    let provider = AwsProvider::new(settings.clone());
    vec![match provider.session.identity().await.map_err(ProviderError::from) {
        Ok(identity) => Check::ok(format!("AWS: {} in {region}", identity.arn)),
        Err(ProviderError::Permission { what, hint } | ProviderError::Failed { what, hint, .. }) => {
            Check::failed(what, hint)
        }
        Err(error) => Check::failed(error.to_string(), Hint::default()),
    }]
}

fn region(settings: &Settings) -> String {
    let why = if settings.region_is_given { "" } else { " (neither AWS_REGION nor the profile names one)" };
    format!("{}{why}", settings.region)
}

/// Whether the environment or the usual files configure AWS.
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
