//! What a create would do, as a value: `--dry-run` prints it, the engine runs it.

use goloo_cloudinit::ComposeInput;
use goloo_model::host_key::HostKey;
use goloo_model::name::{OperationId, VmId, VmName};
use goloo_model::provider::{Machine, Provider, ProviderError, ProviderPlan};
use goloo_model::provider_id::ProviderId;
use goloo_model::record::{SshAccess, UserKeys};
use goloo_model::secret::PrivateKey;
use goloo_model::spec::Diagnostic;

/// A planned and checked create; nothing has been changed yet.
#[derive(Debug, Clone)]
pub struct CreatePlan {
    /// The provider of the machine.
    pub kind: ProviderId,
    /// The machine to create.
    pub machine: Machine,
    /// How goloo will log in.
    pub ssh: SshAccess,
    /// The private half of the machine's host key.
    pub host_key_private: PrivateKey,
    /// The users with the keys that were found for them.
    pub users: Vec<UserKeys>,
    /// What the provider would do.
    pub provider: ProviderPlan,
    /// Warnings for the user.
    pub warnings: Vec<String>,
    /// What may be wrong with the user's files.
    pub diagnostics: Vec<Diagnostic>,
}

/// Why planning failed.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The provider doesn't support such a machine.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The user's document is invalid or too large.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    CloudInit(Vec<Diagnostic>),
}

/// What identifies a machine at its provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineIdentity {
    /// The VM's id.
    pub id: VmId,
    /// The create's token.
    pub token: OperationId,
    /// The name that the provider is to know the machine by.
    pub name: VmName,
}

/// Plans a create, or continues to plan an interrupted one of this machine.
pub fn create(
    input: &ComposeInput<'_>,
    host_key: &HostKey,
    provider: &dyn Provider,
    machine: MachineIdentity,
) -> Result<CreatePlan, PlanError> {
    let input = &ComposeInput { host_key: Some(host_key), ..*input };
    let composed = goloo_cloudinit::compose(input).map_err(PlanError::CloudInit)?;
    let MachineIdentity { id, token, name: machine_name } = machine;
    let machine = Machine {
        id,
        name: input.stack.name.clone(),
        machine_name,
        token,
        stack: input.stack.clone(),
        user_data: composed.user_data,
        identity: composed.identity,
        host_key: host_key.public_openssh.clone(),
        keep_failed: false,
        force_dns: false,
        baked: None,
        membership: None,
        is_replacement: false,
        is_for_baking: false,
    };
    Ok(CreatePlan {
        kind: provider.id(),
        provider: provider.plan(&machine)?,
        machine,
        ssh: SshAccess {
            user: composed.login_user,
            account: Some(goloo_cloudinit::account()),
            login_problem: None,
            host_key: host_key.public_openssh.clone(),
            extra: serde_json::Map::new(),
        },
        host_key_private: host_key.private_openssh.clone(),
        users: input.users.to_vec(),
        warnings: composed.warnings,
        diagnostics: composed.diagnostics,
    })
}
