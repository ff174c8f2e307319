//! The providers of this command: what its arguments may name, before a session is opened.

use std::sync::OnceLock;

use goloo::{Providers, providers};
use goloo_model::provider_id::ProviderId;
use goloo_model::query::{Filter, QueryError};

/// What `--aws` stands for.
pub const AWS: ProviderId = ProviderId::known("aws");

/// Set once, when the program starts: functions that parse arguments have no other way to it.
static PROVIDERS: OnceLock<Providers> = OnceLock::new();

/// Makes these the command's providers, unless it has some.
pub fn set(own: Providers) {
    // A second command in one process has those of the first.
    let _ = PROVIDERS.set(own);
}

/// The command's providers.
pub fn all() -> &'static Providers {
    PROVIDERS.get_or_init(providers)
}

/// Parses `--provider`.
pub fn parse(text: &str) -> Result<ProviderId, String> {
    let ids = all().ids();
    let known = ids.iter().find(|id| id.as_str() == text);
    known.copied().ok_or_else(|| format!("the providers are {}", goloo::providers::listed(&ids)))
}

/// Parses `--filter`.
pub fn filter(text: &str) -> Result<Filter, QueryError> {
    Filter::parse(text, &all().ids())
}
