//! Why an operation didn't come to its end, and what that means for the machine.

use std::path::PathBuf;

use crate::host_names::HostNamesError;
use crate::name::{SnapshotLabel, VmName};
use crate::provider::ProviderError;
use crate::record::{Elsewhere, OperationKind, Phase};
use crate::store::StoreError;

/// Why an operation didn't come to its end.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The name belongs to another VM.
    #[error("the name \"{name}\" is taken by a VM that is {phase}")]
    NameTaken {
        /// The name.
        name: VmName,
        /// What that VM is.
        phase: Phase,
    },
    /// An earlier operation on this VM was interrupted and must be dealt with first.
    #[error("the {kind} of \"{name}\" was interrupted and isn't finished")]
    Unfinished {
        /// The VM.
        name: VmName,
        /// The operation.
        kind: OperationKind,
    },
    /// The machine is on another host or in another state folder, which alone can do anything with it.
    #[error("\"{name}\" belongs to {place}")]
    Elsewhere {
        /// The VM.
        name: VmName,
        /// Where it belongs.
        place: Elsewhere,
    },
    /// The store said no before anything was done at the provider.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Creating failed; what had been made is gone again, and the name is free.
    #[error("\"{name}\" could not be created")]
    CreateFailed {
        /// The VM.
        name: VmName,
        /// Why.
        #[source]
        source: ProviderError,
    },
    /// The provider failed and the record stays as it is.
    #[error("can't {kind} \"{name}\"")]
    Provider {
        /// The VM.
        name: VmName,
        /// The operation.
        kind: OperationKind,
        /// Why.
        #[source]
        source: ProviderError,
    },
    /// The provider failed at something that no record speaks of: nothing is left to finish.
    #[error(transparent)]
    Unrecorded(ProviderError),
    /// A snapshot that there isn't, or that there is already.
    #[error("{name} has {} snapshot \"{label}\"", if *.taken { "already a" } else { "no" })]
    Snapshot {
        /// The VM.
        name: VmName,
        /// The snapshot.
        label: SnapshotLabel,
        /// Whether it is there.
        taken: bool,
    },
    /// Stopped with work left to do; the record leads to whatever exists.
    #[error("the {kind} of \"{name}\" stopped midway")]
    Midway {
        /// The VM.
        name: VmName,
        /// The operation.
        kind: OperationKind,
        /// Why.
        #[source]
        source: ProviderError,
    },
    /// The provider did its part and the record couldn't be saved.
    #[error("\"{name}\" has changed at the provider and its record can't be saved")]
    NotSaved {
        /// The VM.
        name: VmName,
        /// Where the record lies instead; `None` when it could be written nowhere.
        rescued: Option<PathBuf>,
        /// The record without secrets, to be shown when it could be written nowhere.
        json: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The machine is deleted and its name is still in the hosts file; the record stays and leads to it.
    #[error("the machine of \"{name}\" is gone, and its line in the hosts file is still there")]
    HostName {
        /// The VM.
        name: VmName,
        /// Why.
        #[source]
        source: HostNamesError,
    },
    /// The machine was started, and the user ended the wait for SSH.
    #[error("\"{name}\" is running; the wait for SSH was interrupted")]
    NotAwaited {
        /// The VM.
        name: VmName,
    },
    /// The machine didn't come up.
    #[error("\"{name}\" doesn't answer: {reason}")]
    NoAnswer {
        /// The VM.
        name: VmName,
        /// What was seen last.
        reason: String,
    },
    /// A protected or foreign machine, or an operation that its state forbids.
    #[error("{what}")]
    Refused {
        /// What was asked and why not.
        what: String,
        /// What to do instead.
        hint: String,
    },
}
