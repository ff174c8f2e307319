//! Brings an environment up: what each machine needs, as a plan, and the steps that carry it out.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use goloo_engine::{Applied, Created, Replaced, Verdict};
use goloo_model::change::{Cost, Setting, SettingChange};
use goloo_model::environment::{Environment, EnvironmentMachine, OrderedMember, Selection, ordered, removed};
use goloo_model::name::{EnvironmentId, VmName};
use goloo_model::provider::{LiveState, Networks};
use goloo_model::provider_id::ProviderId;
use goloo_model::record::{Membership, OperationKind, Overrides, Phase, Record};
use goloo_model::spec::Size;

use super::members::default_jobs;
use super::source::EnvironmentSource;
use super::stacks::{self, MemberStack};
use super::{EnvironmentError, MemberRefusal, addresses};
use crate::actions::{
    ApplyOptions, CreateOptions, PlannedApply, PlannedCreate, PlannedReplacement, ReplaceOutcome,
};
use crate::error::Error;
use crate::operation::{ManagedVm, RunOptions};
use crate::session::Session;
use crate::{observe, preflight};

/// What is brought up, and where.
#[derive(Debug, Clone, Copy)]
pub struct UpOptions<'a> {
    /// The machines; what they wait for is brought up too.
    pub selection: &'a Selection,
    /// The provider of all machines, whatever the file says.
    pub provider: Option<ProviderId>,
    /// The provider of new machines for which neither that nor the file names one.
    pub default_provider: ProviderId,
    /// What is done for changes that a machine can't get in place.
    pub may: Permitted,
}

/// What is done for changes that a machine can't get in place. Where neither is permitted, they are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permitted {
    /// Whether changed documents are run in the machine again.
    pub reprovision: bool,
    /// Whether VMs are replaced by new ones.
    pub replace: bool,
}

/// What a machine of an environment needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberAction {
    /// It doesn't exist.
    Create,
    /// An operation on it was interrupted; what else it needs is seen after that.
    Resume(OperationKind),
    /// These settings differ.
    Apply {
        /// The settings that are changed.
        settings: Vec<Setting>,
        /// Whether a running machine is restarted.
        restarts: bool,
        /// Whether its documents are run in it again.
        reprovisions: bool,
    },
    /// These settings differ, and take a new VM: once that is ready, the old one is deleted.
    Replace {
        /// The settings that differ.
        settings: Vec<Setting>,
    },
    /// It is off.
    Start,
    /// Its provisioning has failed, or its result is unknown: it is asked again.
    Check,
    /// Nothing.
    Nothing,
    /// It is left alone, and what waits for it too.
    Refused(MemberRefusal),
}

/// One machine in a plan.
pub struct UpStep {
    /// The VM.
    pub name: VmName,
    /// Which machine of the environment it is, with its address.
    pub member: Membership,
    /// Its provider.
    pub provider: ProviderId,
    /// What it needs.
    pub action: MemberAction,
    /// What differs and stays: it takes a new VM, or provisioning again.
    pub left: Vec<SettingChange>,
    /// Whether it is protected, so that no new VM replaces it.
    pub is_protected: bool,
    /// The places of the steps that come before.
    pub after: Vec<usize>,
    /// Whether its provider needs to connect it, and its machine needs to know the names of the others.
    pub is_networked: bool,
    stack: MemberStack,
    wanted_provider: Option<ProviderId>,
    may: Permitted,
    work: StepWork,
}

/// What a step carries out.
enum StepWork {
    Create(Box<PlannedCreate>),
    Resume(Box<ManagedVm>),
    Apply(Box<PlannedApply>),
    Replace(Box<PlannedReplacement>),
    Start,
    Check,
    Nothing(Box<Record>),
    Refused(MemberRefusal),
}

/// What an environment needs. Nothing has been changed yet.
pub struct PlannedUp {
    /// The environment.
    pub environment: Environment,
    /// Its machines, each after those that it waits for.
    pub steps: Vec<UpStep>,
    /// VMs that the file no longer has; they are left alone.
    pub removed: Vec<VmName>,
    /// Information for the user.
    pub warnings: Vec<String>,
    /// How many steps run at the same time by default.
    pub jobs: usize,
}

/// How a step ended.
#[derive(Debug)]
pub enum MemberDone {
    /// Nothing was to be done.
    Unchanged(Box<Record>),
    /// The VM is new.
    Created(Box<Created>),
    /// The VM was changed.
    Applied(Box<Applied>),
    /// A new VM has replaced it.
    Replaced(Box<Replaced>),
    /// The new VM that was to replace it isn't ready. The old one is as it was.
    NotReplaced(Box<Created>),
    /// The VM was started.
    Started(Box<Record>),
    /// The result of its provisioning was read again.
    Checked(Box<Record>, Verdict),
    /// An interrupted operation was finished. Changes that take a restart or more are left, since nobody agreed to that.
    Resumed(Box<Record>),
}

impl MemberDone {
    /// The record as it was last saved.
    pub fn record(&self) -> &Record {
        match self {
            Self::Unchanged(record)
            | Self::Started(record)
            | Self::Checked(record, _)
            | Self::Resumed(record) => record,
            Self::Created(created) | Self::NotReplaced(created) => &created.record,
            Self::Applied(applied) => &applied.record,
            Self::Replaced(replaced) => &replaced.record,
        }
    }

    /// The result of a provisioning that was awaited.
    pub fn verdict(&self) -> Option<&Verdict> {
        match self {
            Self::Created(created) | Self::NotReplaced(created) => created.verdict.as_ref(),
            Self::Applied(applied) => applied.verdict.as_ref(),
            Self::Checked(_, verdict) => Some(verdict),
            Self::Unchanged(_) | Self::Started(_) | Self::Resumed(_) | Self::Replaced(_) => None,
        }
    }

    /// Whether what waits for the machine can use it.
    pub fn is_good(&self) -> bool {
        let is_replaced = !matches!(self, Self::NotReplaced(_));
        is_replaced && self.verdict().is_none_or(|verdict| verdict.result.is_good())
    }
}

impl UpStep {
    /// The create that is ready to run, if a new VM is made.
    pub fn create_mut(&mut self) -> Option<&mut PlannedCreate> {
        match &mut self.work {
            StepWork::Create(planned) => Some(planned),
            StepWork::Replace(planned) => Some(&mut planned.create),
            _ => None,
        }
    }

    /// The same, to be read.
    pub fn planned_create(&self) -> Option<&PlannedCreate> {
        match &self.work {
            StepWork::Create(planned) => Some(planned),
            StepWork::Replace(planned) => Some(&planned.create),
            _ => None,
        }
    }

    /// The replacement that is ready to run, if there is one.
    pub fn replacement(&self) -> Option<&PlannedReplacement> {
        match &self.work {
            StepWork::Replace(planned) => Some(planned),
            _ => None,
        }
    }

    /// Whether a running machine is restarted.
    pub fn restarts(&self) -> bool {
        matches!(self.action, MemberAction::Apply { restarts: true, .. })
    }

    /// Whether its documents are run in the machine again.
    pub fn reprovisions(&self) -> bool {
        matches!(self.action, MemberAction::Apply { reprovisions: true, .. })
    }
}

impl PlannedUp {
    /// The places of the steps that each step waits for.
    pub fn after(&self) -> Vec<Vec<usize>> {
        self.steps.iter().map(|step| step.after.clone()).collect()
    }

    /// Whether no machine needs anything.
    pub fn is_empty(&self) -> bool {
        self.steps.iter().all(|step| step.action == MemberAction::Nothing)
    }
}

/// A bound on the rounds of a step: resume, create or apply, start, and apply what needed a running machine.
const ROUNDS: usize = 5;

impl Session {
    /// Plans what an environment needs. The caller holds its lock until the plan is carried out. Nothing is changed or
    /// written; keys of users are fetched.
    ///
    /// # Errors
    /// [`EnvironmentError`] with all problems in the files; errors of the store and of providers' settings.
    pub fn plan_up(&self, source: &EnvironmentSource, options: UpOptions<'_>) -> Result<PlannedUp, Error> {
        let environment = &source.environment;
        let order = ordered(environment, options.selection).map_err(EnvironmentError::from)?;
        let records = self.all_records()?;
        let known = Known::of(self, environment, &records);
        let mut members: Vec<(&EnvironmentMachine, Membership)> = environment.members().collect();
        let mut providers = BTreeMap::new();
        for (machine, member) in &mut members {
            member.network = known.any_of(member).and_then(|record| record.membership.as_ref()?.network);
            let id = known.provider_of(machine, member, options);
            if let Entry::Vacant(new) = providers.entry(id) {
                new.insert(self.provider(id)?);
            }
        }
        let takes_address = |id: &ProviderId| {
            providers.get(id).and_then(|provider| provider.networks()).is_some_and(Networks::takes_addresses)
        };
        if environment.network {
            let id = known.environment_id();
            members.iter_mut().for_each(|(_, member)| member.environment_id = Some(id.clone()));
            let networked = members
                .iter_mut()
                .filter(|(machine, member)| takes_address(&known.provider_of(machine, member, options)))
                .map(|(_, member)| member);
            addresses::assign(&environment.name, &records, networked)?;
        }
        let resolved = stacks::resolve(self, source, &members, |member| known.name_of(member))?;
        let mut all: Vec<Option<MemberStack>> = resolved.into_iter().map(Some).collect();
        let mut steps = Vec::new();
        for OrderedMember { member, after } in order {
            let place =
                members.iter().position(|(_, other)| other.is_same_machine(&member)).expect("it is a member");
            let (machine, member) = (members[place].0, members[place].1.clone());
            let stack = all[place].take().expect("each member comes once");
            let provider = known.provider_of(machine, &member, options);
            let wanted_provider = options.provider.or(machine.provider);
            let step = Draft {
                name: known.name_of(&member),
                provider,
                wanted_provider,
                member: &member,
                stack: &stack,
                may: options.may,
            };
            let seen = known.seen(&member);
            let (work, left) = self.assess(&step, known.taken(&member), seen)?;
            steps.push(UpStep {
                action: work.action(seen.live()),
                is_protected: seen.vm.is_some_and(|(record, _)| record.protected),
                may: options.may,
                name: step.name.clone(),
                is_networked: environment.network,
                provider,
                wanted_provider,
                left,
                after,
                work,
                stack,
                member,
            });
        }
        Ok(PlannedUp {
            warnings: memory_warning(self, &steps).into_iter().collect(),
            removed: known.removed(),
            environment: environment.clone(),
            jobs: default_jobs(),
            steps,
        })
    }

    /// Carries out a step. `may_restart` says whether the user agreed to restarts that only turn out to be needed after an
    /// interrupted operation is finished.
    ///
    /// # Errors
    /// Errors of the store, the provider and the operations.
    pub fn run_up_step(
        &self,
        step: UpStep,
        may_restart: bool,
        run: &RunOptions<'_>,
    ) -> Result<MemberDone, Error> {
        let UpStep { name, member, provider, stack, wanted_provider, may, is_networked, mut work, .. } = step;
        let draft = Draft { name, provider, wanted_provider, member: &member, stack: &stack, may };
        let (mut done, mut applied) = (None, false);
        for _ in 0..ROUNDS {
            match work {
                StepWork::Refused(refusal) => {
                    return Err(EnvironmentError::Refused { name: draft.name, refusal }.into());
                }
                StepWork::Nothing(record) => return Ok(done.unwrap_or(MemberDone::Unchanged(record))),
                StepWork::Create(planned) => {
                    return Ok(MemberDone::Created(Box::new(self.create(*planned, run)?)));
                }
                StepWork::Check => {
                    let (record, verdict) = self.wait(&draft.name, run)?;
                    return Ok(MemberDone::Checked(Box::new(record), verdict));
                }
                StepWork::Start => {
                    let record = self.start(&draft.name, run)?;
                    if !applied {
                        return Ok(MemberDone::Started(Box::new(record)));
                    }
                }
                StepWork::Apply(planned) => {
                    let planned = match planned.reprovisions() {
                        true => Box::new(self.ready_for_documents(&draft, *planned, is_networked, run)?),
                        false => planned,
                    };
                    done = Some(MemberDone::Applied(Box::new(self.apply(*planned, run)?)));
                    applied = true;
                }
                StepWork::Replace(planned) => {
                    return Ok(match self.replace(*planned, run)? {
                        ReplaceOutcome::Done(replaced) => MemberDone::Replaced(replaced),
                        ReplaceOutcome::NotReady(created) => MemberDone::NotReplaced(created),
                    });
                }
                StepWork::Resume(vm) => {
                    self.resume(&vm, None, run)?;
                    let record = Box::new(vm.record);
                    done = Some(MemberDone::Resumed(record));
                }
            }
            let record = self.recorded(&draft.name)?.filter(|record| record.replacing.is_none());
            let live = record.as_ref().map(|record| self.observe(record)).transpose()?;
            let replacement = self.replacement_of(&member)?;
            let seen = Seen {
                vm: record.as_ref().zip(live.map(|live| live.state)),
                replacement: replacement.as_ref(),
            };
            work = self.assess(&draft, None, seen)?.0;
            if work.action(seen.live()).is_asked_for() && !may_restart && done.is_some() {
                break;
            }
        }
        Ok(match (done, self.recorded(&draft.name)?) {
            (Some(done), _) => done,
            (None, Some(record)) => MemberDone::Unchanged(Box::new(record)),
            (None, None) => return Err(goloo_model::store::StoreError::NotFound { name: draft.name }.into()),
        })
    }

    /// Starts a machine that is off, which can't be provisioned again, and tells it the names of the others: their
    /// addresses may have changed, and its documents may need them. Returns what is to be applied then.
    fn ready_for_documents(
        &self,
        draft: &Draft<'_>,
        planned: PlannedApply,
        is_networked: bool,
        run: &RunOptions<'_>,
    ) -> Result<PlannedApply, Error> {
        let name = &draft.name;
        let starts = !self.is_running(&planned)?;
        if starts {
            self.start(name, run)?;
        }
        if is_networked {
            self.join_network(name, draft.member, run)?;
        }
        match starts || is_networked {
            true => self.plan_member_apply(draft, &self.record(name)?, true),
            false => Ok(planned),
        }
    }

    /// What a machine needs, and what differs and stays. `taken` is a VM that has its name and isn't it.
    fn assess(
        &self,
        draft: &Draft<'_>,
        taken: Option<&Record>,
        seen: Seen<'_>,
    ) -> Result<(StepWork, Vec<SettingChange>), Error> {
        let refused = |refusal| Ok((StepWork::Refused(refusal), Vec::new()));
        if let Some(new) = seen.unfinished_replacement() {
            return Ok((self.assess_unfinished(new)?, Vec::new()));
        }
        if let Some(other) = taken {
            let owner = other.membership.as_ref().map(|member| member.environment.clone());
            return refused(MemberRefusal::NameTaken(owner));
        }
        let Some((record, live)) = seen.vm else {
            return Ok((StepWork::Create(Box::new(self.plan_member_create(draft)?)), Vec::new()));
        };
        if let Some(place) = record.elsewhere(&self.here()) {
            return refused(MemberRefusal::Elsewhere(place));
        }
        if let Some(wanted) = draft.wanted_provider.filter(|wanted| *wanted != record.provider) {
            return refused(MemberRefusal::OtherProvider { has: record.provider, wanted });
        }
        if record.operation.is_some() {
            return Ok((self.assess_unfinished(record)?, Vec::new()));
        }
        if live == LiveState::Missing {
            return refused(MemberRefusal::MachineMissing);
        }
        let mut planned = self.plan_member_apply(draft, record, false)?;
        if draft.may.reprovision && planned.impossible().any(|change| change.cost == Cost::Reprovision) {
            planned = self.plan_member_apply(draft, record, true)?;
        }
        let left: Vec<_> = planned.impossible().cloned().collect();
        if draft.may.replace && !left.is_empty() && !record.protected {
            if let Some(new) = seen.replacement {
                return refused(MemberRefusal::ReplacementNotReady { new: new.name.clone() });
            }
            let planned = self.plan_replacement(planned)?;
            return Ok((StepWork::Replace(Box::new(planned)), Vec::new()));
        }
        let work = match live {
            _ if !planned.is_empty() => StepWork::Apply(Box::new(planned)),
            LiveState::Stopped | LiveState::Suspended => StepWork::Start,
            _ if record.phase == Phase::Degraded => StepWork::Check,
            _ => StepWork::Nothing(Box::new(record.clone())),
        };
        Ok((work, left))
    }

    /// The end of an interrupted operation, unless somebody else may have started it.
    fn assess_unfinished(&self, record: &Record) -> Result<StepWork, Error> {
        if let Some(place) = record.elsewhere(&self.here()) {
            return Ok(StepWork::Refused(MemberRefusal::Elsewhere(place)));
        }
        Ok(match self.needs_agreement(record)? {
            Some(_) => StepWork::Refused(MemberRefusal::Unproven(unfinished(record))),
            None => StepWork::Resume(Box::new(self.managed(&record.name)?)),
        })
    }

    /// The VM that is to replace a machine, if there is one.
    fn replacement_of(&self, member: &Membership) -> Result<Option<Record>, Error> {
        let mut records = self.all_records()?.into_iter();
        Ok(records.find(|record| record.replacing.is_some() && is_machine(record, member)))
    }

    fn plan_member_create(&self, draft: &Draft<'_>) -> Result<PlannedCreate, Error> {
        let MemberStack { found, resolved, overrides } = draft.stack;
        let is_here = self.provider_info(draft.provider)?.is_host_bound();
        let options = CreateOptions {
            hosts_entry: is_here && self.settings.hosts,
            overrides: overrides.clone(),
            // With overrides, the snapshot's config.json isn't the user's.
            applied_config: found.config_digest().filter(|_| !overrides.is_empty()),
            membership: Some(draft.member.clone()),
            ..CreateOptions::new(draft.provider)
        };
        let mut planned = self.plan_create(found, resolved.stack.clone(), options)?;
        planned.snapshot = found.snapshot_with(overrides)?;
        Ok(planned)
    }

    /// The file's values replace all that were set for the VM alone.
    fn plan_member_apply(
        &self,
        draft: &Draft<'_>,
        record: &Record,
        reprovision: bool,
    ) -> Result<PlannedApply, Error> {
        let wanted = &draft.stack.overrides;
        let set: Vec<String> = wanted.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let unset = obsolete(&record.overrides, wanted);
        let options = ApplyOptions {
            folder: Some(draft.stack.found.folder()),
            set: &set,
            unset: &unset,
            restart: true,
            reprovision,
            ..ApplyOptions::default()
        };
        self.plan_apply(&record.name, &options)
    }
}

/// The keys that a VM has and shouldn't.
fn obsolete(has: &Overrides, wanted: &Overrides) -> Vec<String> {
    let is_wanted = |key: &str| wanted.iter().any(|(other, _)| other == key);
    has.iter().map(|(key, _)| key).filter(|key| !is_wanted(key)).map(str::to_owned).collect()
}

/// A machine that is planned.
struct Draft<'d> {
    name: VmName,
    provider: ProviderId,
    wanted_provider: Option<ProviderId>,
    member: &'d Membership,
    stack: &'d MemberStack,
    may: Permitted,
}

/// What exists of a machine.
#[derive(Clone, Copy)]
struct Seen<'r> {
    vm: Option<(&'r Record, LiveState)>,
    /// The VM that is to replace it.
    replacement: Option<&'r Record>,
}

impl<'r> Seen<'r> {
    fn live(&self) -> Option<LiveState> {
        self.vm.map(|(_, live)| live)
    }

    /// A replacement that was interrupted. One that has failed is kept beside the VM until the user deletes it.
    fn unfinished_replacement(&self) -> Option<&'r Record> {
        let has_failed = |new: &Record| new.operation.is_none() && new.phase != Phase::Ready;
        self.replacement.filter(|new| self.vm.is_none() || !has_failed(new))
    }
}

/// The operation of a VM that is to be continued. A replacement that is ready has none between its create and the move
/// of the name.
fn unfinished(record: &Record) -> OperationKind {
    record.operation.as_ref().map_or(OperationKind::Replace, |operation| operation.kind)
}

fn is_machine(record: &Record, member: &Membership) -> bool {
    record.membership.as_ref().is_some_and(|other| other.is_same_machine(member))
}

impl MemberAction {
    /// Whether the user is asked before: a machine is interrupted, or deleted.
    fn is_asked_for(&self) -> bool {
        match self {
            Self::Apply { restarts, reprovisions, .. } => *restarts || *reprovisions,
            Self::Replace { .. } => true,
            _ => false,
        }
    }
}

impl StepWork {
    fn action(&self, live: Option<LiveState>) -> MemberAction {
        match self {
            Self::Create(_) => MemberAction::Create,
            Self::Resume(vm) => MemberAction::Resume(unfinished(&vm.record)),
            Self::Apply(planned) => MemberAction::Apply {
                settings: planned.settings().to_vec(),
                restarts: planned.restarts() && live == Some(LiveState::Running),
                reprovisions: planned.reprovisions(),
            },
            Self::Replace(planned) => MemberAction::Replace {
                settings: planned.changes.iter().map(|change| change.setting).collect(),
            },
            Self::Start => MemberAction::Start,
            Self::Check => MemberAction::Check,
            Self::Nothing(_) => MemberAction::Nothing,
            Self::Refused(refusal) => MemberAction::Refused(refusal.clone()),
        }
    }
}

/// The records, as far as they concern an environment, with the states of its machines.
struct Known<'k> {
    environment: &'k Environment,
    records: &'k [Record],
    states: BTreeMap<VmName, LiveState>,
}

impl<'k> Known<'k> {
    fn of(session: &Session, environment: &'k Environment, records: &'k [Record]) -> Self {
        let is_own = |record: &&Record| {
            record.membership.as_ref().is_some_and(|member| member.environment == environment.name)
        };
        let own: Vec<&Record> = records.iter().filter(is_own).collect();
        let states = own.iter().map(|record| record.name.clone()).zip(observe::inspect(session, &own));
        let states = states.map(|(name, live)| (name, live.state)).collect();
        Self { environment, records, states }
    }

    fn seen(&self, member: &Membership) -> Seen<'k> {
        Seen {
            vm: self.record_of(member).map(|record| (record, self.state_of(record))),
            replacement: self.replacement_of(member),
        }
    }

    /// Without those that are to replace others.
    fn vms(&self) -> impl Iterator<Item = &'k Record> {
        self.records.iter().filter(|record| record.replacing.is_none())
    }

    /// Its VM, or the one that is to replace it: when that has its name, the old one may not exist any more.
    fn any_of(&self, member: &Membership) -> Option<&'k Record> {
        self.record_of(member).or_else(|| self.replacement_of(member))
    }

    fn replacement_of(&self, member: &Membership) -> Option<&'k Record> {
        self.records.iter().find(|record| record.replacing.is_some() && is_machine(record, member))
    }

    fn record_of(&self, member: &Membership) -> Option<&'k Record> {
        self.vms().find(|record| is_machine(record, member))
    }

    /// The one that its VMs have, or a new one.
    fn environment_id(&self) -> EnvironmentId {
        let memberships = self.records.iter().filter_map(|record| record.membership.as_ref());
        let mut own = memberships.filter(|member| member.environment == self.environment.name);
        own.find_map(|member| member.environment_id.clone()).unwrap_or_else(EnvironmentId::generate)
    }

    fn state_of(&self, record: &Record) -> LiveState {
        self.states.get(&record.name).copied().unwrap_or(LiveState::Unknown)
    }

    /// The name of its VM, which may have been renamed; the one that it will have, if a replacement is to get it.
    fn name_of(&self, member: &Membership) -> VmName {
        let (old, new) = (self.record_of(member), self.replacement_of(member));
        let moves = |record: &&Record| record.operation.as_ref()?.replacement.as_deref().cloned();
        if let Some(moving) = old.iter().chain(&new).find_map(moves) {
            return moving.name;
        }
        let has_name = |new: &&Record| old.is_none_or(|old| old.replaced_by.as_ref() == Some(&new.id));
        let named = new.filter(has_name).or(old);
        named.map_or_else(|| default_name(member), |record| record.name.clone())
    }

    /// A VM that has the name of a machine that doesn't exist.
    fn taken(&self, member: &Membership) -> Option<&'k Record> {
        if self.any_of(member).is_some() {
            return None;
        }
        let name = default_name(member);
        self.records.iter().find(|record| record.name == name)
    }

    fn provider_of(
        &self,
        machine: &EnvironmentMachine,
        member: &Membership,
        options: UpOptions<'_>,
    ) -> ProviderId {
        let existing = self.any_of(member).map(|record| record.provider);
        existing.or(options.provider).or(machine.provider).unwrap_or(options.default_provider)
    }

    fn removed(&self) -> Vec<VmName> {
        let memberships = self.vms().filter_map(|record| record.membership.as_ref());
        let own: Vec<&Membership> =
            memberships.filter(|member| member.environment == self.environment.name).collect();
        removed(self.environment, own.into_iter()).into_iter().map(|member| self.name_of(member)).collect()
    }
}

/// Of a machine in a checked environment, whose names are short enough.
fn default_name(member: &Membership) -> VmName {
    let name = format!("{}-{}", member.environment, member.short_name());
    VmName::parse(&name).expect("the environment's file was checked")
}

/// A warning if the machines that begin to run on this computer need more memory than it has left. All of them run in the
/// end, so making fewer at a time would help nothing.
fn memory_warning(session: &Session, steps: &[UpStep]) -> Option<String> {
    let begins = |step: &&UpStep| {
        let is_here = session.provider_info(step.provider).is_ok_and(|info| info.is_host_bound());
        is_here && (step.planned_create().is_some() || step.action == MemberAction::Start)
    };
    let needed: u64 =
        steps.iter().filter(begins).map(|step| step.stack.resolved.stack.memory.as_bytes()).sum();
    let left = preflight::available_memory().filter(|left| left.as_bytes() < needed)?;
    let (needed, left) = (Size::bytes(needed), Size::bytes(left.as_bytes() >> 20 << 20));
    Some(format!(
        "the machines that are made or started need {needed} of memory, but only {left} of this computer's are available"
    ))
}
