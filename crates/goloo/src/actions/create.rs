//! Creates a VM: plans it from the stack's files, then carries out the plan.

use std::collections::BTreeMap;

use goloo_cloudinit::ComposeInput;
use goloo_engine::plan::{self, CreatePlan, MachineIdentity};
use goloo_engine::{CreateRequest, Created, ReplacementRequest, free_machine_name, taken};
use goloo_model::events::EventContext;
use goloo_model::host_key::HostKey;
use goloo_model::name::{OperationId, VmId, VmName};
use goloo_model::provider::{Provider, ProviderError};
use goloo_model::provider_id::ProviderId;
use goloo_model::record::{Digest, Membership, OperationKind, Overrides, PrivateAddress, Record};
use goloo_model::spec::{ResolvedStack, SshSource};
use goloo_model::store::{Snapshot, StoreError};

use super::resume::known_sources;
use crate::error::Error;
use crate::operation::RunOptions;
use crate::registry::Known;
use crate::render::ProcessRenderer;
use crate::session::Session;
use crate::stack::{Found, LastFolder};
use crate::{identity, keys, preflight};

/// How a VM is created from a stack.
#[derive(Debug, Clone)]
pub struct CreateOptions {
    /// The provider.
    pub provider: ProviderId,
    /// GitHub users whose keys are added. They are in the resolved stack already, see
    /// [`with_github_users`](goloo_model::spec::with_github_users), and are kept in the record.
    pub github_users: Vec<String>,
    /// The user's own labels.
    pub tags: BTreeMap<String, String>,
    /// Whether the machine of a create that fails is kept.
    pub keep_failed: bool,
    /// Whether DNS names in AWS are taken over from their current owners.
    pub force_dns: bool,
    /// Whether to wait until the machine is provisioned.
    pub wait: bool,
    /// Whether the VM gets an entry in this computer's hosts file.
    pub hosts_entry: bool,
    /// Whether it is made from the baked image of the stack, if there is one.
    pub use_baked: bool,
    /// The overrides in the resolved stack, which are kept in the record.
    pub overrides: Overrides,
    /// The config.json whose settings the resolved stack has, if it isn't the one in the stack's files.
    pub applied_config: Option<Digest>,
    /// The environment that the VM is to belong to.
    pub membership: Option<Membership>,
}

impl CreateOptions {
    /// Options for this provider: wait for the provisioning, use a baked image, everything else off or empty.
    pub fn new(provider: ProviderId) -> Self {
        Self {
            provider,
            github_users: Vec::new(),
            tags: BTreeMap::new(),
            keep_failed: false,
            force_dns: false,
            wait: true,
            hosts_entry: false,
            use_baked: true,
            overrides: Overrides::default(),
            applied_config: None,
            membership: None,
        }
    }
}

/// A create that is ready to run. Nothing has been created yet.
pub struct PlannedCreate {
    /// What would be created. [`CreatePlan::warnings`] and [`CreatePlan::diagnostics`] list what the user should know beforehand.
    pub plan: CreatePlan,
    /// The provider that would create it.
    pub provider: Box<dyn Provider>,
    pub(crate) snapshot: Snapshot,
    pub(super) replacement: Option<ReplacementRequest>,
    options: CreateOptions,
}

/// The addresses that may connect to port 22 of a VM in AWS.
pub enum SshSources {
    /// The stack names them, or the VM is local.
    Settled,
    /// Those that an earlier create used.
    Known(Vec<SshSource>),
    /// This computer's public address.
    PublicAddress(SshSource),
    /// This computer's address can't be found: the user has to name it.
    Unavailable(ProviderError),
}

impl Session {
    /// The addresses for "me" in the stack of a plan: those `known` from an earlier create, else this computer's.
    /// Nothing is changed.
    ///
    /// # Errors
    /// [`Error::NoEventQueue`].
    pub fn ssh_sources(&self, planned: &PlannedCreate, known: &[String]) -> Result<SshSources, Error> {
        let (stack, provider) = (&planned.plan.machine.stack, &planned.provider);
        if provider.info().is_host_bound() || !stack.ssh_cidr.contains(&SshSource::Me) {
            return Ok(SshSources::Settled);
        }
        if !known.is_empty() {
            let sources = known_sources(known);
            return Ok(if sources.is_empty() { SshSources::Settled } else { SshSources::Known(sources) });
        }
        Ok(match self.wait_for(provider.public_address())? {
            Ok(None) => SshSources::Settled,
            Ok(Some(address)) => SshSources::PublicAddress(SshSource::of_address(address)),
            Err(error) => SshSources::Unavailable(error),
        })
    }

    /// Plans a VM from a stack: fetches its users' keys, composes its user-data and asks the provider for its steps.
    /// Nothing is created or written.
    ///
    /// # Errors
    /// When the name is taken, keys can't be fetched, or this provider can't create the stack.
    pub fn plan_create(
        &self,
        found: &Found,
        stack: ResolvedStack,
        options: CreateOptions,
    ) -> Result<PlannedCreate, Error> {
        let provider = self.provider(options.provider)?;
        self.expect_free(&stack.name)?;
        let mut planned = self.plan_stack(provider, found, stack, options)?;
        let plan = &mut planned.plan;
        if plan.machine.machine_name != plan.machine.name {
            plan.warnings.push(format!(
                "the machine is called {} at {}: a VM that was renamed has the machine {}",
                plan.machine.machine_name, plan.kind, plan.machine.name
            ));
        }
        Ok(planned)
    }

    /// As [`Self::plan_create`], for any name.
    pub(super) fn plan_stack(
        &self,
        provider: Box<dyn Provider>,
        found: &Found,
        stack: ResolvedStack,
        options: CreateOptions,
    ) -> Result<PlannedCreate, Error> {
        let info = provider.info();
        let mut warnings = preflight::findings(found, &stack, info).warnings;
        warnings.extend(preflight::ignored_keys(found, &stack, info));
        let network = options.membership.as_ref().and_then(|membership| membership.network);
        let mut plan = self.make_plan(&*provider, stack, network)?;
        plan.diagnostics.extend(warnings);
        plan.machine.membership.clone_from(&options.membership);
        if options.use_baked {
            self.use_baked(&*provider, &mut plan)?;
        }
        plan.machine.keep_failed = options.keep_failed;
        plan.machine.force_dns = options.force_dns;
        if options.hosts_entry {
            let path = self.hosts_file().path().display().to_string();
            plan.provider.steps.push(format!("add {} to {path}", plan.machine.name));
        }
        Ok(PlannedCreate { plan, provider, options, snapshot: found.snapshot(), replacement: None })
    }

    /// Creates the machine of a plan, and waits until it is provisioned if the options say so.
    ///
    /// # Errors
    /// Errors of the store, the provider and the operation. The record of a create that failed or was interrupted stays
    /// for [`Self::resume`] and [`Self::delete`].
    pub fn create(&self, planned: PlannedCreate, run: &RunOptions<'_>) -> Result<Created, Error> {
        let PlannedCreate { plan, provider, options, snapshot, replacement } = planned;
        let request = CreateRequest {
            plan,
            snapshot,
            created_by: self.creator()?,
            github_users: options.github_users,
            tags: options.tags,
            wait: options.wait,
            hosts_entry: options.hosts_entry,
            baking: None,
            overrides: options.overrides,
            applied_config: options.applied_config,
            replacement,
        };
        let context = EventContext::of(request.name(), Some(OperationKind::Create));
        Ok(self.operate(context, &*provider, run, async |engine| engine.create(request).await)??)
    }

    /// Reports a taken name before keys are fetched; the claim itself decides later.
    pub(super) fn expect_free(&self, name: &VmName) -> Result<(), Error> {
        let Some(mut loaded) = self.local(self.store.load(name))? else { return Ok(()) };
        if loaded.record.operation.is_some() {
            // Only under the lock can a running create be told from an interrupted one, by the record that is read
            // under it: its holder may have just finished.
            let mut lock = self.local(self.store.lock(name, &identity::owner()))?;
            let Some(now) = self.local(lock.load())? else { return Ok(()) };
            loaded = now;
        }
        Err(taken(&loaded.record).into())
    }

    pub(super) fn make_plan(
        &self,
        provider: &dyn Provider,
        stack: ResolvedStack,
        network: Option<PrivateAddress>,
    ) -> Result<CreatePlan, Error> {
        let users = keys::fetch(self, &stack)?;
        let id = VmId::generate();
        let name = self.local(free_machine_name(&*self.store, &stack.name, &id))?;
        let machine = MachineIdentity { id, token: OperationId::generate(), name };
        let input = ComposeInput {
            stack: &stack,
            users: &users,
            client_key: &self.keys.client_key()?.0,
            host_key: None,
            provider: provider.info(),
            network: network.filter(|_| provider.networks().is_some()),
            renderer: &ProcessRenderer,
        };
        Ok(plan::create(&input, &HostKey::generate(), provider, machine)?)
    }

    /// The folder that a VM of this name was last created from: the one in the registry (see
    /// [`Registry::all`](crate::registry::Registry::all)), else an active VM's, else the newest archived one's.
    ///
    /// # Errors
    /// Errors of the store.
    pub fn last_folder(
        &self,
        remembered: &BTreeMap<String, Known>,
        name: &str,
    ) -> Result<Option<LastFolder>, Error> {
        if let Some(known) = remembered.get(name) {
            return Ok(Some(LastFolder::Known(known.folder.clone())));
        }
        let Ok(name) = VmName::parse(name) else { return Ok(None) };
        match pollster::block_on(self.store.load(&name)) {
            Ok(Some(loaded)) => return Ok(self.source_of(&loaded.record)),
            // A broken record names no stack.
            Ok(None) | Err(StoreError::Broken(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let newest = self.local(self.store.archive_of(&name))?.entries.into_iter().next();
        Ok(newest.and_then(|entry| self.source_of(&entry.record)))
    }

    fn source_of(&self, record: &Record) -> Option<LastFolder> {
        let folder = record.source_config_path.as_deref()?.to_owned();
        let is_ours = self.here().created(record);
        Some(if is_ours { LastFolder::Known(folder) } else { LastFolder::OfOthers(folder) })
    }
}
