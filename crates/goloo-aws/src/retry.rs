//! Waiting for AWS, and how many requests may fail meanwhile.

use goloo_model::events::Event;
use goloo_model::provider::{ProviderError, Work};

use crate::error::AwsError;

/// How many polls in a row may fail during a wait: AWS continues without goloo.
pub(crate) const PATIENCE: u32 = 12;

/// Waits, unless the user interrupts.
pub(crate) async fn pause(wait: std::time::Duration, work: &mut dyn Work) -> Result<(), ProviderError> {
    tokio::select! {
        () = work.interruption() => Err(ProviderError::Interrupted),
        () = tokio::time::sleep(wait) => Ok(()),
    }
}

/// Tolerates an error that may be a transient failure of the network or AWS.
pub(crate) fn tolerate_transient(
    patience: &mut u32,
    error: AwsError,
    work: &mut dyn Work,
) -> Result<(), ProviderError> {
    if !error.is_transient() || *patience == 0 {
        return Err(error.into());
    }
    if *patience == PATIENCE {
        work.events().event(Event::Warning(format!("{error}; retrying")));
    }
    *patience -= 1;
    Ok(())
}
