//! Changes VMs to what their stacks and overrides say.

use std::path::Path;

use goloo_cloudinit::{ComposeInput, compose};
use goloo_engine::{Applied, ApplyRequest};
use goloo_model::access::LoginName;
use goloo_model::change::{Cost, Documents, Setting, SettingChange, changes};
use goloo_model::events::{Event, EventContext};
use goloo_model::host_key::HostKey;
use goloo_model::name::VmName;
use goloo_model::provider::{LiveState, Provider};
use goloo_model::provider_info::ProviderInfo;
use goloo_model::record::{ApplyInputs, OperationKind, Overrides, Record, RecordedStack, UserKeys};
use goloo_model::spec::{ResolvedStack, with_github_users};
use goloo_model::store::Snapshot;

use crate::error::{Error, RequestError};
use crate::keys;
use crate::operation::{ManagedVm, RunOptions};
use crate::render::ProcessRenderer;
use crate::session::Session;
use crate::stack::Found;

/// What a VM is to be changed to.
#[derive(Debug, Clone, Default)]
pub struct ApplyOptions<'a> {
    /// The stack's folder, instead of the recorded one.
    pub folder: Option<&'a Path>,
    /// Overrides to add, as `KEY=VALUE`.
    pub set: &'a [String],
    /// The keys of overrides to remove.
    pub unset: &'a [String],
    /// Whether only the overrides are changed, and the stack isn't read again.
    pub only_overrides: bool,
    /// Whether the machine may be restarted.
    pub restart: bool,
}

/// Planned changes; nothing has been changed yet.
pub struct PlannedApply {
    /// All differences, also those that apply can't make.
    pub changes: Vec<SettingChange>,
    /// The overrides as they will be.
    pub overrides: Overrides,
    pub(super) vm: ManagedVm,
    pub(super) source: StackSource,
    had: RecordedStack,
    inputs: ApplyInputs,
}

/// The stack as it is now.
pub(super) struct StackSource {
    pub found: Found,
    /// With the overrides.
    pub stack: ResolvedStack,
    /// Whether it belongs to the VM: one that was adopted may have none.
    pub is_own: bool,
}

impl PlannedApply {
    /// The VM's record.
    pub fn record(&self) -> &Record {
        &self.vm.record
    }

    /// What apply can't make.
    pub fn impossible(&self) -> impl Iterator<Item = &SettingChange> {
        self.changes.iter().filter(|change| !change.cost.keeps_machine())
    }

    /// Whether nothing is to be done: neither to the machine nor to its record, and no apply is to be finished.
    pub fn is_empty(&self) -> bool {
        let record = &self.vm.record;
        let is_unfinished =
            record.operation.as_ref().is_some_and(|operation| operation.kind == OperationKind::Apply);
        self.inputs.settings.is_empty() && self.overrides == record.overrides && !is_unfinished
    }

    /// Whether something takes a restart.
    pub fn restarts(&self) -> bool {
        self.changes.iter().any(|change| change.cost == Cost::Restart)
    }

    /// Whether what takes a restart can wait for the next one.
    pub fn restart_can_wait(&self) -> bool {
        self.vm.provider.info().changes.restart_can_wait
    }
}

/// A stack, with its documents.
struct Side {
    stack: RecordedStack,
    documents: Documents,
}

impl Side {
    /// With the overridden settings of another: the rest of it is older than what the VM has.
    fn with_overridden(&self, other: &Self, overrides: &Overrides) -> Self {
        let mut stack = self.stack.clone();
        let settings: Vec<_> = overrides.iter().filter_map(|(key, _)| Setting::of_key(key)).collect();
        settings.iter().for_each(|setting| stack.take(*setting, &other.stack));
        let documents =
            if settings.contains(&Setting::Variables) { &other.documents } else { &self.documents };
        Self { stack, documents: documents.clone() }
    }
}

impl Session {
    /// Plans how to change a VM. Nothing is changed or written; keys are fetched if users change.
    ///
    /// # Errors
    /// When the stack or an override is invalid or the VM belongs elsewhere; errors of the store.
    pub fn plan_apply(&self, name: &VmName, options: &ApplyOptions<'_>) -> Result<PlannedApply, Error> {
        let vm = self.managed(name)?;
        let (record, info) = (&vm.record, vm.provider.info());
        let overrides = changed_overrides(record, options)?;
        if !self.here().trust.is_trusted(record) {
            expect_given(&overrides, record, options)?;
        }
        let snapshot = self.local(self.store.snapshot(name))?;
        let made_from = Found::of_record(snapshot.clone(), record);
        let had = self.before(record, &made_from)?;
        let found = self.stack_now(record, &snapshot, options)?;
        let config = found.config_digest();
        let stack = self.resolve_with(&found, record, &overrides)?;
        let mut wanted = Side { stack: recorded(&stack, name)?, documents: Documents::of(&stack) };
        if options.only_overrides {
            wanted = had.with_overridden(&wanted, &overrides);
        }
        let changes = changes(info, (&had.stack, &had.documents), (&wanted.stack, &wanted.documents));
        let settings: Vec<_> = changes
            .iter()
            .filter(|change| change.cost.keeps_machine())
            .map(|change| change.setting)
            .collect();
        let is_complete = settings.len() == changes.len();
        let (users, login_user) = match settings.contains(&Setting::Users) {
            true => self.users_of(&stack, info)?,
            false => (Vec::new(), login_user(record)),
        };
        let inputs = ApplyInputs {
            target: wanted.stack,
            settings,
            users,
            overrides: overrides.clone(),
            config: config.filter(|_| is_complete && !options.only_overrides),
            login_user,
            restart: options.restart,
            running: false,
        };
        let is_own = options.folder.is_some() || snapshot.files.contains_key("config.json");
        let source = StackSource { found, stack, is_own };
        Ok(PlannedApply { changes, overrides, had: had.stack, inputs, vm, source })
    }

    /// Makes the planned changes.
    ///
    /// # Errors
    /// Errors of the store, the provider and the operation. What was changed before an error is recorded as changed.
    pub fn apply(&self, planned: PlannedApply, run: &RunOptions<'_>) -> Result<Applied, Error> {
        let PlannedApply { vm: ManagedVm { record, provider }, had, inputs, .. } = planned;
        let context = EventContext::of(&record.name, Some(OperationKind::Apply));
        let client_key = self.keys.client_key()?.0.clone();
        let request = ApplyRequest { record, had, inputs };
        Ok(self.operate(context, &*provider, run, async |engine| engine.apply(request, &client_key).await)??)
    }

    /// Whether a planned VM's machine is running: only then a restart is one.
    ///
    /// # Errors
    /// [`Error::NoEventQueue`].
    pub fn is_running(&self, planned: &PlannedApply) -> Result<bool, Error> {
        let (provider, record): (&dyn Provider, _) = (&*planned.vm.provider, &planned.vm.record);
        let observed = self.wait_for(provider.observe(&[record]))?.pop();
        Ok(observed.is_some_and(|observed| observed.state == LiveState::Running))
    }

    /// What the VM has: its record says it, or the files that it was created from.
    fn before(&self, record: &Record, made_from: &Found) -> Result<Side, Error> {
        let stack = match made_from.file("config.json") {
            Some(_) => self.resolve_with(made_from, record, &Overrides::default())?,
            None => self.resolve_with(
                &made_from.with_file("config.json", b"{}".to_vec()),
                record,
                &record.overrides,
            )?,
        };
        let documents = Documents::of(&stack);
        let stack = match &record.resolved {
            Some(resolved) => (**resolved).clone(),
            None => recorded(&stack, &record.name)?,
        };
        Ok(Side { stack, documents })
    }

    /// The stack as it is now. A VM without one keeps the files that it was created from.
    fn stack_now(
        &self,
        record: &Record,
        snapshot: &Snapshot,
        options: &ApplyOptions<'_>,
    ) -> Result<Found, Error> {
        let folder = match options.folder {
            Some(folder) => Some(folder.to_owned()),
            None if options.only_overrides => None,
            None => self.known_folder(record)?.filter(|folder| folder.join("config.json").is_file()),
        };
        if let Some(folder) = folder {
            return Found::read(&folder, &record.stack);
        }
        let made_from = Found::of_record(snapshot.clone(), record);
        if made_from.file("config.json").is_none() {
            return Ok(made_from.with_file("config.json", b"{}".to_vec()));
        }
        if !options.only_overrides {
            self.events.event(Event::Note(format!(
                "the stack of \"{}\" no longer exists; its recorded files are used",
                record.name
            )));
        }
        Ok(made_from)
    }

    fn resolve_with(
        &self,
        found: &Found,
        record: &Record,
        overrides: &Overrides,
    ) -> Result<ResolvedStack, Error> {
        let stack = found.resolve_with(self, overrides, &record.stack, Some(record.guest_name()))?;
        Ok(with_github_users(stack, &record.github_users))
    }

    /// The users with their keys, and who logs in.
    fn users_of(
        &self,
        stack: &ResolvedStack,
        info: &ProviderInfo,
    ) -> Result<(Vec<UserKeys>, LoginName), Error> {
        let users = keys::fetch(self, stack)?;
        let input = ComposeInput {
            stack,
            users: &users,
            client_key: &self.keys.client_key()?.0,
            host_key: &HostKey::generate(),
            provider: info,
            renderer: &ProcessRenderer,
        };
        let composed = compose(&input).map_err(goloo_engine::plan::PlanError::CloudInit)?;
        Ok((users, composed.login_user))
    }
}

fn recorded(stack: &ResolvedStack, name: &VmName) -> Result<RecordedStack, RequestError> {
    RecordedStack::of(stack).ok_or_else(|| RequestError::StackTooLarge { name: name.clone() })
}

fn login_user(record: &Record) -> LoginName {
    record.ssh.as_ref().map_or_else(goloo_cloudinit::account, |ssh| ssh.user.clone())
}

/// Refuses overrides that aren't given now: in a shared store, others can have written them.
fn expect_given(
    overrides: &Overrides,
    record: &Record,
    options: &ApplyOptions<'_>,
) -> Result<(), RequestError> {
    let mut given = Overrides::default();
    options.set.iter().try_for_each(|text| given.add(text).map(drop))?;
    if *overrides == given {
        return Ok(());
    }
    Err(RequestError::UntrustedOverrides { name: record.name.clone() })
}

fn changed_overrides(record: &Record, options: &ApplyOptions<'_>) -> Result<Overrides, RequestError> {
    let mut overrides = record.overrides.clone();
    for key in options.unset {
        if !overrides.remove(key)? {
            return Err(RequestError::NoOverride { name: record.name.clone(), key: key.clone() });
        }
    }
    for text in options.set {
        overrides.add(text)?;
    }
    Ok(overrides)
}
