//! Bakes stacks: makes images of provisioned machines, from which others are made.

use goloo_cloudinit::{ComposeInput, bake_key, needs_a_boot, per_machine_values};
use goloo_engine::plan::{CreatePlan, PlanError};
use goloo_engine::{Baked, CreateRequest};
use goloo_model::events::EventContext;
use goloo_model::name::{NAME_MAX, VmName};
use goloo_model::provider::{BakedImage, Bakes, Provider, ProviderError};
use goloo_model::provider_id::ProviderId;
use goloo_model::record::{Baking, Digest, OperationKind, Overrides, UserKeys};
use goloo_model::spec::{Diagnostic, KeySource, ResolvedStack};

use crate::error::{Error, RequestError};
use crate::keys;
use crate::operation::RunOptions;
use crate::render::ProcessRenderer;
use crate::session::Session;
use crate::stack::Found;

/// The result of [`Session::bake`].
#[derive(Debug)]
pub enum BakeResult {
    /// There was an image of this stack as it is.
    AlreadyBaked(BakedImage),
    /// A VM was created for it; whether an image was made of it.
    Ended(Baked),
}

impl Session {
    /// Makes a baked image of a stack, unless there is one; with the machine's memory if `memory`. GitHub users are in the stack already, as for
    /// [`Session::plan_create`](Self::plan_create).
    ///
    /// # Errors
    /// When the provider makes no images or the document contains what differs between machines; as
    /// [`Self::plan_create`](Self::plan_create) and [`Self::create`](Self::create).
    pub fn bake(
        &self,
        found: &Found,
        mut stack: ResolvedStack,
        provider: ProviderId,
        memory: bool,
        run: &RunOptions<'_>,
    ) -> Result<BakeResult, Error> {
        // The memory of the machine is kept with the key that logs in to it, which the provider has to know.
        self.keys.client_key()?;
        let provider = self.provider(provider)?;
        let bakes = bakes(&*provider)?;
        if memory {
            bakes.check_memory(&stack).map_err(PlanError::Provider)?;
        }
        stack.ttl = None;
        let mut plan = self.make_plan(&*provider, stack, None)?;
        self.refuse(per_machine_values, &plan, &*provider)?;
        if memory {
            self.refuse(needs_a_boot, &plan, &*provider)?;
        }
        let interrupted = || run.interrupt.is_raised();
        let fetched = bakes.fetch_base(&plan.machine.stack, &*self.events, &interrupted);
        let base = self.wait_for(fetched)?.map_err(PlanError::Provider)?;
        let key = self.key_of(&*provider, &plan, &base)?;
        let image = self.wait_for(bakes.find(&key, &plan.machine.stack))?.map_err(PlanError::Provider)?;
        let has_memory = |image: &BakedImage| image.memory.as_ref().is_some_and(|it| it.unusable.is_none());
        if let Some(image) = image.filter(|image| !memory || has_memory(image)) {
            return Ok(BakeResult::AlreadyBaked(image));
        }
        self.become_machine_for_baking(&mut plan)?;
        let request = CreateRequest {
            plan,
            snapshot: found.snapshot(),
            created_by: self.creator()?,
            github_users: Vec::new(),
            tags: std::collections::BTreeMap::new(),
            wait: true,
            hosts_entry: false,
            overrides: Overrides::default(),
            applied_config: None,
            replacement: None,
            baking: Some(Baking { key, memory }),
        };
        let context = EventContext::of(&request.plan.machine.name, Some(OperationKind::Bake));
        let baked = self.operate(context, &*provider, run, async |engine| engine.bake(request).await)??;
        Ok(BakeResult::Ended(baked))
    }

    /// Has a machine made from the baked image that fits it. If that can't be looked up, the machine is made from
    /// scratch, with a warning.
    pub(super) fn use_baked(&self, provider: &dyn Provider, plan: &mut CreatePlan) -> Result<(), Error> {
        match self.find_baked(provider, plan)? {
            Ok(found) => plan.machine.baked = found.map(|image| image.key),
            Err(error) => plan
                .warnings
                .push(format!("the VM is made from scratch, since baked images can't be looked up: {error}")),
        }
        plan.provider = provider.plan(&plan.machine).map_err(PlanError::Provider)?;
        Ok(())
    }

    fn find_baked(
        &self,
        provider: &dyn Provider,
        plan: &CreatePlan,
    ) -> Result<Result<Option<BakedImage>, ProviderError>, Error> {
        let Some(bakes) = provider.bakes() else { return Ok(Ok(None)) };
        let stack = &plan.machine.stack;
        let base = match self.wait_for(bakes.base(stack))? {
            Ok(Some(base)) => base,
            Ok(None) => return Ok(Ok(None)),
            Err(error) => return Ok(Err(error)),
        };
        let key = self.key_of(provider, plan, &base)?;
        let found = self.wait_for(bakes.find(&key, stack))?;
        Ok(found.map(|found| found.filter(|image| image.disk <= stack.disk.as_bytes())))
    }

    /// Checks whether the memory of a machine of this stack can be baked too, as far as its provider can tell.
    ///
    /// # Errors
    /// When it can't, and when the provider makes no images.
    pub fn check_bake_memory(&self, stack: &ResolvedStack, provider: ProviderId) -> Result<(), Error> {
        let provider = self.provider(provider)?;
        Ok(bakes(&*provider)?.check_memory(stack).map_err(PlanError::Provider)?)
    }

    /// The key of the image that would be baked of a stack now. `None` if that can't be told from what is here: its base
    /// image isn't in the cache, or it has users whose keys are at GitHub.
    ///
    /// # Errors
    /// When the stack can't be used; as the provider's.
    pub fn bake_key(&self, stack: &ResolvedStack, provider: ProviderId) -> Result<Option<Digest>, Error> {
        let provider = self.provider(provider)?;
        let is_at_github = |source: &KeySource| matches!(source, KeySource::GitHub(_));
        let (Some(bakes), false) =
            (provider.bakes(), stack.users.iter().any(|user| user.keys.iter().any(is_at_github)))
        else {
            return Ok(None);
        };
        let Some(base) = self.wait_for(bakes.base(stack))?.map_err(PlanError::Provider)? else {
            return Ok(None);
        };
        let users = keys::fetch(self, stack)?;
        self.with_input(&*provider, (stack, &users), |input| bake_key(input, &base)).map(Some)
    }

    fn key_of(&self, provider: &dyn Provider, plan: &CreatePlan, base: &str) -> Result<Digest, Error> {
        self.with_input(provider, (&plan.machine.stack, &plan.users), |input| bake_key(input, base))
    }

    /// Refuses a document in which there is something that this finds.
    fn refuse(
        &self,
        find: impl FnOnce(&ComposeInput<'_>) -> Result<Vec<Diagnostic>, Vec<Diagnostic>>,
        plan: &CreatePlan,
        provider: &dyn Provider,
    ) -> Result<(), Error> {
        let found = self.with_input(provider, (&plan.machine.stack, &plan.users), find)?;
        match found.is_empty() {
            true => Ok(()),
            false => Err(PlanError::CloudInit(found).into()),
        }
    }

    fn with_input<T>(
        &self,
        provider: &dyn Provider,
        (stack, users): (&ResolvedStack, &[UserKeys]),
        work: impl FnOnce(&ComposeInput<'_>) -> Result<T, Vec<Diagnostic>>,
    ) -> Result<T, Error> {
        let input = ComposeInput {
            stack,
            users,
            client_key: &self.keys.client_key()?.0,
            host_key: None,
            provider: provider.info(),
            network: None,
            renderer: &ProcessRenderer,
        };
        Ok(work(&input).map_err(PlanError::CloudInit)?)
    }

    /// The VM has a name of its own.
    fn become_machine_for_baking(&self, plan: &mut CreatePlan) -> Result<(), Error> {
        let name = bake_name(&plan.machine.name);
        self.expect_free(&name)?;
        let machine = &mut plan.machine;
        machine.machine_name =
            self.local(goloo_engine::free_machine_name(&*self.store, &name, &machine.id))?;
        machine.name = name;
        machine.is_for_baking = true;
        for_baking(&mut machine.stack);
        Ok(())
    }
}

/// Without what only a VM in use has. The document was rendered with it.
pub(super) fn for_baking(stack: &mut ResolvedStack) {
    stack.ports.clear();
    stack.auto_ports = false;
    stack.dns = None;
    // A Spot Instance can't be stopped.
    stack.spot = false;
}

fn bakes(provider: &dyn Provider) -> Result<&dyn Bakes, RequestError> {
    provider.bakes().ok_or_else(|| RequestError::NoBaking { provider: provider.id() })
}

/// The name of the VM that is baked, for a stack whose VMs have this name by default.
fn bake_name(name: &VmName) -> VmName {
    let text: String = format!("bake-{name}").chars().take(NAME_MAX).collect();
    VmName::parse(text.trim_end_matches('-')).unwrap_or_else(|_| name.clone())
}
