//! The stable code for each error of the lower crates: for scripts, and in `--json` as `error.code`.

use std::io::{self, ErrorKind};

use goloo_engine::EngineError;
use goloo_engine::plan::PlanError;
use goloo_model::host_names::HostNamesError;
use goloo_model::provider::ProviderError;
use goloo_model::record::ForeignOwner;
use goloo_model::store::{ServiceProblem, StoreError};

/// The code for an error of the operating system.
pub fn of_io(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => "permission",
        _ => "io",
    }
}

/// The code for an error of a store.
pub fn of_store(error: &StoreError) -> &'static str {
    match error {
        StoreError::NameTaken { .. } => "name-taken",
        StoreError::NotFound { .. } | StoreError::NotArchived { .. } => "not-found",
        StoreError::Locked { .. } | StoreError::Unbreakable { .. } => "locked",
        StoreError::Stale { .. } => "stale",
        StoreError::Broken(_) => "broken",
        StoreError::Newer { .. } => "newer",
        StoreError::Unsuitable { .. } => "unsuitable",
        StoreError::Moved { .. } => "moved",
        StoreError::NotMoved { .. } => "not-moved",
        StoreError::LockLost { .. } => "lock-lost",
        StoreError::NoBucket { .. } => "no-bucket",
        StoreError::Unreachable { .. } => "unreachable",
        StoreError::Denied { .. } => "denied",
        StoreError::Misconfigured { .. } => "misconfigured",
        StoreError::Service { problem, .. } => match problem {
            ServiceProblem::ClockSkew => "clock-skew",
            ServiceProblem::SsoSession { .. } => "sso-expired",
            ServiceProblem::UnknownAuthority => "unknown-authority",
            ServiceProblem::WrongRegion { .. } => "wrong-region",
        },
        StoreError::UnsafeWrites { .. } => "unsafe-writes",
        StoreError::NotInBuild { .. } => "unsupported",
        StoreError::Damaged { .. } => "damaged",
        StoreError::Untrusted { .. } => "untrusted",
        StoreError::LockTable { source, .. } if source.is_busy() => "locked",
        StoreError::LockTable { .. } => "lock-table",
        StoreError::Backend { .. } => "store",
        StoreError::Io { source, .. } => of_io(source),
    }
}

/// The code for an error of a provider.
pub fn of_provider(error: &ProviderError) -> &'static str {
    match error {
        ProviderError::Unavailable { .. } => "unavailable",
        ProviderError::Unsupported { .. } => "unsupported",
        ProviderError::Permission { .. } => "permission",
        ProviderError::Failed { .. } => "failed",
        ProviderError::Unfinished { .. } => "unfinished",
        ProviderError::Interrupted => "interrupted",
        ProviderError::Record(_) => "io",
    }
}

/// The code for a plan that can't be made.
pub fn of_plan(error: &PlanError) -> &'static str {
    match error {
        PlanError::Provider(error) => of_provider(error),
        PlanError::CloudInit(_) => "invalid",
    }
}

/// The code for a failed operation.
pub fn of_engine(error: &EngineError) -> &'static str {
    match error {
        EngineError::Store(error) => of_store(error),
        EngineError::Unrecorded(error) => of_provider(error),
        EngineError::CreateFailed { source, .. } | EngineError::Provider { source, .. } => {
            of_provider(source)
        }
        EngineError::NameTaken { .. } | EngineError::Snapshot { taken: true, .. } => "name-taken",
        EngineError::Snapshot { .. } => "not-found",
        EngineError::Unfinished { .. } => "unfinished",
        EngineError::ReplacementExists { .. } => "replacement-exists",
        EngineError::Elsewhere { place, .. } => match place {
            ForeignOwner::Host { .. } => "other-host",
            ForeignOwner::StateFolder { .. } => "other-state-folder",
            ForeignOwner::OtherVm => "other-vm",
            ForeignOwner::Unproven => "unproven-record",
        },
        EngineError::Midway { .. } => "midway",
        EngineError::NotSaved { .. } => "not-saved",
        EngineError::HostName { source: HostNamesError::Denied { .. }, .. } => "permission",
        EngineError::HostName { .. } => "midway",
        EngineError::NotAwaited { .. } => "interrupted",
        EngineError::NoAnswer { .. } => "no-answer",
        EngineError::Refused { .. } => "refused",
    }
}
