//! Why an operation failed, and what that means for the machine.

use std::path::PathBuf;

use goloo_model::hint::Hint;
use goloo_model::host_names::HostNamesError;
use goloo_model::name::{SnapshotLabel, VmName};
use goloo_model::provider::ProviderError;
use goloo_model::record::{ForeignOwner, OperationKind, Phase};
use goloo_model::store::StoreError;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The name belongs to another VM.
    #[error("the name \"{name}\" is taken by a VM that is {phase}")]
    NameTaken {
        /// The name.
        name: VmName,
        /// The phase of that VM.
        phase: Phase,
    },
    /// An earlier operation on this VM was interrupted and must be finished first.
    #[error("the {kind} of \"{name}\" was interrupted and must be completed first")]
    Unfinished {
        /// The VM.
        name: VmName,
        /// The operation.
        kind: OperationKind,
    },
    /// A VM that is to replace this one exists already.
    #[error("\"{new}\", which is {phase}, is to replace \"{name}\"")]
    ReplacementExists {
        /// The VM.
        name: VmName,
        /// The VM that is to replace it.
        new: VmName,
        /// The phase of that VM.
        phase: Phase,
    },
    /// The machine belongs to another host or state folder, and can be managed only from there.
    #[error("\"{name}\" belongs to {place}")]
    Elsewhere {
        /// The VM.
        name: VmName,
        /// Where it belongs.
        place: ForeignOwner,
    },
    /// The store returned an error before anything was done at the provider.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Creating failed; what had been created was removed, and the name is free.
    #[error("\"{name}\" could not be created")]
    CreateFailed {
        /// The VM.
        name: VmName,
        /// The cause.
        #[source]
        source: ProviderError,
    },
    /// The provider failed and the record is unchanged.
    #[error("can't {kind} \"{name}\"")]
    Provider {
        /// The VM.
        name: VmName,
        /// The operation.
        kind: OperationKind,
        /// The cause.
        #[source]
        source: ProviderError,
    },
    /// The provider failed at an action that isn't recorded: nothing is left to finish.
    #[error(transparent)]
    Unrecorded(ProviderError),
    /// A snapshot that doesn't exist, or already exists.
    #[error("{name} {} snapshot \"{label}\"", if *.taken { "already has a" } else { "has no" })]
    Snapshot {
        /// The VM.
        name: VmName,
        /// The snapshot.
        label: SnapshotLabel,
        /// Whether it exists.
        taken: bool,
    },
    /// Interrupted before completion; the record refers to everything that exists.
    #[error("the {kind} of \"{name}\" was interrupted")]
    Midway {
        /// The VM.
        name: VmName,
        /// The operation.
        kind: OperationKind,
        /// The cause.
        #[source]
        source: ProviderError,
    },
    /// The provider succeeded, but the record couldn't be saved.
    #[error("\"{name}\" was changed at the provider, but its record can't be saved")]
    NotSaved {
        /// The VM.
        name: VmName,
        /// Where the record was written instead; `None` if it couldn't be written anywhere.
        rescued: Option<PathBuf>,
        /// The record without secrets, to be shown if it couldn't be written anywhere.
        json: String,
        /// The cause.
        #[source]
        source: StoreError,
    },
    /// The machine is deleted but its name is still in the hosts file; the record is kept and refers to it.
    #[error("the machine of \"{name}\" no longer exists, but its /etc/hosts entry couldn't be removed")]
    HostName {
        /// The VM.
        name: VmName,
        /// The cause.
        #[source]
        source: HostNamesError,
    },
    /// The machine was started, and the user stopped waiting for SSH.
    #[error("\"{name}\" is running; the wait for SSH was interrupted")]
    NotAwaited {
        /// The VM.
        name: VmName,
    },
    /// The machine was started but doesn't answer.
    #[error("\"{name}\" doesn't answer: {reason}")]
    NoAnswer {
        /// The VM.
        name: VmName,
        /// The last error.
        reason: String,
    },
    /// A protected or foreign machine, or an operation that its state forbids.
    #[error("{what}")]
    Refused {
        /// What was requested and why it was refused.
        what: String,
        /// What to do instead.
        hint: Hint,
    },
}
