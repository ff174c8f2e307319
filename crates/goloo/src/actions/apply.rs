//! Changes VMs to what their stacks and overrides say.

use std::path::Path;

use goloo_engine::{Applied, ApplyRequest, GuestInputs, Reprovision};
use goloo_model::access::LoginName;
use goloo_model::change::{Cost, Documents, Setting, SettingChange, changes};
use goloo_model::events::{Event, EventContext};
use goloo_model::name::VmName;
use goloo_model::provider::{LiveState, Provider};
use goloo_model::record::{ApplyInputs, OperationKind, Overrides, Record, RecordedStack, UserKeys};
use goloo_model::spec::{KeySource, ResolvedStack, with_github_users};
use goloo_model::store::Snapshot;

use super::reprovision;
use crate::error::{Error, RequestError};
use crate::keys;
use crate::operation::{ManagedVm, RunOptions};
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
    /// Whether the machine is provisioned again where its documents differ, or its provisioning failed.
    pub reprovision: bool,
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
    reprovision: Option<Reprovision>,
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
        let is_made = |cost: Cost| cost.keeps_machine() || (cost == Cost::Reprovision && self.reprovisions());
        self.changes.iter().filter(move |change| !is_made(change.cost))
    }

    /// Whether nothing is to be done: neither to the machine nor to its record, and no apply is to be finished.
    pub fn is_empty(&self) -> bool {
        let record = &self.vm.record;
        let is_unfinished =
            record.operation.as_ref().is_some_and(|operation| operation.kind == OperationKind::Apply);
        let changes_nothing = self.inputs.settings.is_empty() && !self.reprovisions();
        changes_nothing && self.overrides == record.overrides && !is_unfinished
    }

    /// The settings that are changed.
    pub fn settings(&self) -> &[Setting] {
        &self.inputs.settings
    }

    /// Whether something takes a restart.
    pub fn restarts(&self) -> bool {
        self.reprovisions() || self.changes.iter().any(|change| change.cost == Cost::Restart)
    }

    /// Whether the machine is provisioned again.
    pub fn reprovisions(&self) -> bool {
        self.reprovision.is_some()
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
        let continues = reprovision::interrupted(record).is_some();
        if continues && (options.only_overrides || !options.restart) {
            return Err(RequestError::UnfinishedReprovision { name: name.clone() }.into());
        }
        let overrides = changed_overrides(record, options)?;
        if !self.here().trust.is_trusted(record) {
            expect_given(&overrides, record, options)?;
        }
        let snapshot = self.local(self.store.snapshot(name))?;
        let made_from = Found::of_record(snapshot.clone(), record);
        let had = self.before(record, &made_from)?;
        let found = self.stack_now(record, &snapshot, options.folder, options.only_overrides)?;
        let config = found.config_digest();
        let stack = self.resolve_with(&found, record, &overrides)?;
        let mut wanted = Side { stack: recorded(&stack, name)?, documents: Documents::of(&stack) };
        if options.only_overrides {
            wanted = had.with_overridden(&wanted, &overrides);
        }
        let mut changes = changes(info, (&had.stack, &had.documents), (&wanted.stack, &wanted.documents));
        if !options.only_overrides && has_other_keys(self, record, &stack, &changes) {
            changes.push(SettingChange {
                setting: Setting::Users,
                before: None,
                after: Some("other keys".to_owned()),
                cost: info.changes.of(Setting::Users, &had.stack, &wanted.stack),
            });
            changes.sort_by_key(|change| change.setting);
        }
        let reprovisions = continues || (options.reprovision && needs_provisioning(record, &changes));
        let is_made = |cost: Cost| cost.keeps_machine() || (cost == Cost::Reprovision && reprovisions);
        let settings: Vec<_> =
            changes.iter().filter(|change| is_made(change.cost)).map(|change| change.setting).collect();
        let is_complete = settings.len() == changes.len();
        let (mut users, mut login_user, mut reprovision) = (Vec::new(), login_user(record), None);
        if reprovisions || settings.contains(&Setting::Users) {
            let (found_users, composed) = self.compose_again(&stack, info)?;
            login_user = composed.login_user;
            if settings.contains(&Setting::Users) {
                users.clone_from(&found_users);
            }
            if reprovisions {
                composed.warnings.iter().for_each(|warning| self.warn(warning.clone()));
                composed.diagnostics.iter().for_each(|warning| self.warn(warning.to_string()));
                let (user_data, files) = (composed.user_data, found.snapshot());
                reprovision = Some(Reprovision { user_data, files, users: found_users });
            }
        }
        let inputs = ApplyInputs {
            target: wanted.stack,
            settings,
            users,
            overrides: overrides.clone(),
            config: config.filter(|_| is_complete && !options.only_overrides),
            login_user,
            restart: options.restart,
            reprovision: reprovision.as_ref().map(|with| with.files.digest()),
            running: false,
        };
        let is_own = options.folder.is_some() || snapshot.files.contains_key("config.json");
        let source = StackSource { found, stack, is_own };
        Ok(PlannedApply { changes, overrides, had: had.stack, inputs, vm, source, reprovision })
    }

    /// Makes the planned changes.
    ///
    /// # Errors
    /// Errors of the store, the provider and the operation. What was changed before an error is recorded as changed.
    pub fn apply(&self, planned: PlannedApply, run: &RunOptions<'_>) -> Result<Applied, Error> {
        let PlannedApply { vm: ManagedVm { record, provider }, had, inputs, reprovision, .. } = planned;
        let context = EventContext::of(&record.name, Some(OperationKind::Apply));
        let client_key = &self.keys.client_key()?.0;
        let guest = GuestInputs { client_key, reprovision: reprovision.as_ref() };
        let request = ApplyRequest { record, had, inputs };
        Ok(self.operate(context, &*provider, run, async |engine| engine.apply(request, guest).await)??)
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
            Some(_) => {
                let overrides = record.reprovisioned.as_ref().map(|with| with.overrides.clone());
                self.resolve_with(made_from, record, &overrides.unwrap_or_default())?
            }
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
    pub(super) fn stack_now(
        &self,
        record: &Record,
        snapshot: &Snapshot,
        folder: Option<&Path>,
        only_overrides: bool,
    ) -> Result<Found, Error> {
        let folder = match folder {
            Some(folder) => Some(folder.to_owned()),
            None if only_overrides => None,
            None => self.known_folder(record)?.filter(|folder| folder.join("config.json").is_file()),
        };
        if let Some(folder) = folder {
            return Found::read(&folder, &record.stack);
        }
        let made_from = Found::of_record(snapshot.clone(), record);
        if made_from.file("config.json").is_none() {
            return Ok(made_from.with_file("config.json", b"{}".to_vec()));
        }
        if !only_overrides {
            self.events.event(Event::Note(format!(
                "the stack of \"{}\" no longer exists; its recorded files are used",
                record.name
            )));
        }
        Ok(made_from)
    }

    pub(super) fn resolve_with(
        &self,
        found: &Found,
        record: &Record,
        overrides: &Overrides,
    ) -> Result<ResolvedStack, Error> {
        let stack = found.resolve_with(self, overrides, &record.stack, Some(record.guest_name()))?;
        Ok(with_github_users(stack, &record.github_users))
    }
}

/// Whether keys that the stack only refers to, at GitHub or in files, aren't those that the machine has. Keys that can't
/// be fetched are no obstacle to other changes.
fn has_other_keys(
    session: &Session,
    record: &Record,
    stack: &ResolvedStack,
    changes: &[SettingChange],
) -> bool {
    let is_elsewhere = |source: &KeySource| !matches!(source, KeySource::Inline(_));
    let refers = stack.users.iter().any(|user| user.keys.iter().any(is_elsewhere));
    let is_changed = changes.iter().any(|change| change.setting == Setting::Users);
    let Some(installed) = record.user_keys.as_ref().filter(|_| refers && !is_changed) else {
        return false;
    };
    match keys::fetch(session, stack) {
        Ok(users) => UserKeys::digest(&users) != *installed,
        Err(error) => {
            session.note(format!("whether keys of users have changed is unknown: {}", error.in_one_line()));
            false
        }
    }
}

/// Whether provisioning again does something: a machine whose provisioning failed may have to run the same again.
fn needs_provisioning(record: &Record, changes: &[SettingChange]) -> bool {
    let has_failed = record.provisioning.as_ref().is_some_and(|last| !last.result.is_good());
    has_failed || changes.iter().any(|change| change.cost == Cost::Reprovision)
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
