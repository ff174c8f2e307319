//! Environments that can't be brought up or taken down.

use std::path::PathBuf;

use goloo_model::environment::UnknownMachine;
use goloo_model::name::VmName;
use goloo_model::provider_id::ProviderId;
use goloo_model::record::{ForeignOwner, OperationKind};
use goloo_model::spec::Diagnostic;
use goloo_model::time::Timestamp;

/// Why an environment can't be brought up or taken down.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvironmentError {
    /// Its file or its stacks don't validate.
    #[error("{}", problem_count(problems.len()))]
    Invalid {
        /// The problems; those in stacks have the path of the stack's file.
        problems: Vec<Diagnostic>,
        /// The environment's file.
        path: PathBuf,
    },
    /// There is no such file.
    #[error("there is no {}", path.display())]
    NoFile {
        /// The path.
        path: PathBuf,
        /// Whether it was named.
        named: bool,
    },
    /// It was found in the working directory, and may belong to another user.
    #[error("{} is not used: {reason}", path.display())]
    ExposedFile {
        /// The file.
        path: PathBuf,
        /// Who owns it, or may own it.
        reason: String,
    },
    /// It has no such machine.
    #[error(transparent)]
    UnknownMachine(#[from] UnknownMachine),
    /// The store has no VM of this environment, or none of this machine of it.
    #[error("no VM belongs to \"{given}\"")]
    NoVms {
        /// The environment, and the machine after a slash.
        given: String,
    },
    /// Several VMs are meant where there can be only one.
    #[error("\"{given}\" means {} VMs, and this takes one", names.len())]
    SeveralVms {
        /// What was given.
        given: String,
        /// The VMs.
        names: Vec<VmName>,
    },
    /// Another process works on the environment.
    #[error("the environment \"{environment}\" is being changed by {}", holder.as_deref().unwrap_or("another process"))]
    Busy {
        /// The environment.
        environment: VmName,
        /// Who works on it: "ann on laptop (pid 4711)".
        holder: Option<String>,
        /// When the lease expires without a heartbeat; `None` if it ends with the process.
        lease_end: Option<Timestamp>,
    },
    /// There is no private network that is neither used by this computer nor by another environment.
    #[error("no private network is free for the environment \"{environment}\"")]
    NoNetwork {
        /// The environment.
        environment: VmName,
    },
    /// A VM can't be brought up.
    #[error("{}", refused(name, refusal))]
    Refused {
        /// The VM.
        name: VmName,
        /// Why.
        refusal: MemberRefusal,
    },
}

/// Why a machine of an environment is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberRefusal {
    /// A VM that has the name doesn't belong to the environment, but to this one, if any.
    NameTaken(Option<VmName>),
    /// It belongs to another host or state folder.
    Elsewhere(ForeignOwner),
    /// It has another provider than it should have.
    OtherProvider {
        /// The provider that it has.
        has: ProviderId,
        /// The provider that it should have.
        wanted: ProviderId,
    },
    /// Its machine no longer exists.
    MachineMissing,
    /// Its operation may have been started by somebody else.
    Unproven(OperationKind),
    /// The VM that is to replace it was made, and isn't ready.
    ReplacementNotReady {
        /// The VM.
        new: VmName,
    },
}

fn refused(name: &VmName, refusal: &MemberRefusal) -> String {
    match refusal {
        MemberRefusal::NameTaken(None) => format!("the VM \"{name}\" exists and belongs to no environment"),
        MemberRefusal::NameTaken(Some(other)) => {
            format!("the VM \"{name}\" belongs to another machine or environment (\"{other}\")")
        }
        MemberRefusal::Elsewhere(place) => format!("\"{name}\" belongs to {place}"),
        MemberRefusal::OtherProvider { has, wanted } => {
            format!("\"{name}\" exists and was created with {has}, not {wanted}")
        }
        MemberRefusal::MachineMissing => format!("the machine of \"{name}\" no longer exists"),
        MemberRefusal::Unproven(kind) => {
            format!("the {kind} of \"{name}\" was interrupted and may have been started by someone else")
        }
        MemberRefusal::ReplacementNotReady { new } => {
            format!("\"{new}\", which is to replace \"{name}\", isn't ready")
        }
    }
}

impl EnvironmentError {
    /// The stable error code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid",
            Self::NoFile { .. } | Self::NoVms { .. } => "not-found",
            Self::ExposedFile { .. } => "exposed",
            Self::UnknownMachine(_) | Self::SeveralVms { .. } => "usage",
            Self::Busy { .. } => "locked",
            Self::NoNetwork { .. } => "failed",
            Self::Refused { refusal, .. } => match refusal {
                MemberRefusal::NameTaken(_) | MemberRefusal::OtherProvider { .. } => "name-taken",
                MemberRefusal::Elsewhere(_) => "elsewhere",
                MemberRefusal::MachineMissing => "machine-missing",
                MemberRefusal::Unproven(_) | MemberRefusal::ReplacementNotReady { .. } => "unfinished",
            },
        }
    }
}

fn problem_count(count: usize) -> String {
    match count {
        1 => "the environment has a problem".to_owned(),
        count => format!("the environment has {count} problems"),
    }
}
