//! The provider's settings.

use std::path::PathBuf;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_credential_types::Credentials;
use goloo_model::record::Trust;

/// The region used by default.
const REGION: &str = "us-east-1";

/// Amazon's service that reports the address a request came from.
pub const CHECKIP: &str = "https://checkip.amazonaws.com";

/// Polling intervals.
#[derive(Debug, Clone, Copy)]
pub struct PollIntervals {
    /// Before the first poll.
    pub first: Duration,
    /// Between two polls.
    pub then: Duration,
    /// Before a call that failed because of a transient network or AWS error is retried; grows with each retry.
    pub again: Duration,
}

impl Default for PollIntervals {
    fn default() -> Self {
        Self { first: Duration::from_secs(5), then: Duration::from_secs(5), again: Duration::from_secs(1) }
    }
}

/// The provider's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The region for stacks that name none.
    pub region: String,
    /// Whether the environment or the profile specified the region.
    pub region_is_given: bool,
    /// Polling intervals.
    pub pace: PollIntervals,
    /// The URL of the service that reports this machine's public address.
    pub checkip: String,
    /// A file of certificates to trust instead of the system's.
    pub ca_bundle: Option<PathBuf>,
    /// An endpoint to use instead of AWS, overriding `AWS_ENDPOINT_URL`.
    pub endpoint: Option<String>,
    /// Credentials to use instead of the standard chain's.
    pub credentials: Option<Credentials>,
    /// Which records are trusted even if the machine doesn't carry the record's id.
    pub trust: Trust,
}

impl Settings {
    /// Settings for this region.
    pub fn new(region: impl Into<String>) -> Self {
        Self {
            region: region.into(),
            region_is_given: true,
            pace: PollIntervals::default(),
            checkip: CHECKIP.to_owned(),
            ca_bundle: None,
            endpoint: None,
            credentials: None,
            trust: Trust::default(),
        }
    }

    /// Reads the environment and the profile: the region, `AWS_CA_BUNDLE`, `GOLOO_CHECKIP_URL`, and `GOLOO_AWS_POLL`,
    /// the seconds between two polls. Reads files but sends no requests. The instance metadata service isn't queried
    /// for the region: where it doesn't exist, that takes seconds.
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
            settings.pace = PollIntervals { first: wait, then: wait, ..settings.pace };
        }
        settings
    }
}
