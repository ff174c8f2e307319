//! What a create would do, as a value: `--dry-run` prints it, the engine runs it.

use crate::provider::{Machine, ProviderError, ProviderPlan};
use crate::record::{SshAccess, UserKeys};

/// A create, worked out and checked; nothing has been touched yet.
#[derive(Debug, Clone)]
pub struct CreatePlan {
    /// k
    pub kind: crate::record::ProviderKind,
    /// The machine to make.
    pub machine: Machine,
    /// How goloo will log in.
    pub ssh: SshAccess,
    /// The private half of the machine's host key, in OpenSSH's PEM form.
    pub host_key_private: String,
    /// The users with the keys that were found for them.
    pub users: Vec<UserKeys>,
    /// What the provider would do.
    pub provider: ProviderPlan,
    /// What a person should know before.
    pub warnings: Vec<String>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The provider can't make such a machine.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// c
    #[error("c")]
    CloudInit(Vec<crate::spec::Problem>),
}

/// The error with its causes, in one line.
pub fn describe(error: &PlanError) -> String {
    error.to_string()
}
/// s
pub fn create(_: &crate::cloud_init::ComposeInput<'_>, _: &dyn crate::provider::Provider, _: Option<(crate::name::VmId, crate::name::OperationId)>) -> Result<CreatePlan, PlanError> { todo!() }
