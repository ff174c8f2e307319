//! What a create would do, as a value: `--dry-run` prints it, the engine runs it.

use crate::cloud_init::{self, ComposeInput};
use crate::name::{OperationId, VmId};
use crate::provider::{Machine, Provider, ProviderError, ProviderPlan};
use crate::record::{ProviderKind, SshAccess, UserKeys};
use crate::secret::PrivateKey;
use crate::spec::Problem;

/// A create, worked out and checked; nothing has been touched yet.
#[derive(Debug, Clone)]
pub struct CreatePlan {
    /// Who makes the machine.
    pub kind: ProviderKind,
    /// The machine to make.
    pub machine: Machine,
    /// How goloo will log in.
    pub ssh: SshAccess,
    /// The private half of the machine's host key.
    pub host_key_private: PrivateKey,
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
    /// The user's document can't be sent.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    CloudInit(Vec<Problem>),
}

/// Works out a create. `resumed` are the ids of one that was begun before.
pub fn create(
    input: &ComposeInput<'_>,
    provider: &dyn Provider,
    resumed: Option<(VmId, OperationId)>,
) -> Result<CreatePlan, PlanError> {
    let composed = cloud_init::compose(input).map_err(PlanError::CloudInit)?;
    let findings = composed.findings.iter().map(ToString::to_string).collect();
    let (id, token) = resumed.unwrap_or_else(|| (VmId::generate(), OperationId::generate()));
    let machine = Machine {
        id,
        name: input.stack.name.clone(),
        token,
        stack: input.stack.clone(),
        user_data: composed.user_data,
        host_key: input.host_key.public_openssh.clone(),
        keep_failed: false,
        force_dns: false,
    };
    Ok(CreatePlan {
        kind: provider.kind(),
        provider: provider.plan(&machine)?,
        machine,
        ssh: SshAccess {
            user: composed.login_user,
            account: Some(cloud_init::account()),
            login_problem: None,
            host_key: input.host_key.public_openssh.clone(),
            extra: serde_json::Map::new(),
        },
        host_key_private: input.host_key.private_openssh.clone(),
        users: input.users.to_vec(),
        warnings: [composed.warnings, findings].concat(),
    })
}
