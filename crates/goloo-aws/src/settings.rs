//! What the provider works with.

use std::path::PathBuf;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_credential_types::Credentials;
use goloo_core::record::Trust;

/// Where nothing else says which.
const REGION: &str = "us-east-1";

/// Amazon's own service that says where a request came from.
pub const CHECKIP: &str = "https://checkip.amazonaws.com";

/// How often AWS is asked how far it is.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Before the first question.
    pub first: Duration,
    /// Between two questions.
    pub then: Duration,
    /// Before a call is tried again that failed by the network's or AWS's mood; longer each time.
    pub again: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { first: Duration::from_secs(5), then: Duration::from_secs(5), again: Duration::from_secs(1) }
    }
}

/// What the provider works with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The region where the stack names none.
    pub region: String,
    /// Whether the environment or the profile named that region.
    pub region_is_given: bool,
    /// How often is asked.
    pub pace: Pace,
    /// Where this machine's public address is asked for.
    pub checkip: String,
    /// The file with the certificates that are trusted, in place of the system's.
    pub ca_bundle: Option<PathBuf>,
    /// Another place than AWS, in place of what `AWS_ENDPOINT_URL` says.
    pub endpoint: Option<String>,
    /// Credentials in place of the standard chain's.
    pub credentials: Option<Credentials>,
    /// Which records are followed to a machine that doesn't carry the record's id.
    pub trust: Trust,
}

impl Settings {
    /// For this region.
    pub fn new(region: impl Into<String>) -> Self {
        Self {
            region: region.into(),
            region_is_given: true,
            pace: Pace::default(),
            checkip: CHECKIP.to_owned(),
            ca_bundle: None,
            endpoint: None,
            credentials: None,
            trust: Trust::default(),
        }
    }

    /// As the environment and the profile say: the region, `AWS_CA_BUNDLE`, `GOLOO_CHECKIP_URL`, and
    /// `GOLOO_AWS_POLL`, the seconds between two questions. Reads files, asks nobody. An instance's metadata isn't
    /// asked for the region: where there is none, that takes seconds.
    pub async fn from_env() -> Self {
        let chain = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
            .or_else(ProfileFileRegionProvider::new());
        let region = chain.region().await.map(|region| region.to_string());
        let mut settings = Self::new(region.clone().unwrap_or_else(|| REGION.to_owned()));
        settings.region_is_given = region.is_some();
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let Some(url) = variable("GOLOO_CHECKIP_URL") {
            settings.checkip = url;
        }
        settings.ca_bundle = variable("AWS_CA_BUNDLE").map(PathBuf::from);
        let seconds = variable("GOLOO_AWS_POLL").and_then(|text| text.parse().ok());
        if let Some(wait) = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
            settings.pace = Pace { first: wait, then: wait, ..settings.pace };
        }
        settings
    }
}
