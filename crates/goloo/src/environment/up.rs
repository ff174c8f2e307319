//! Brings an environment up: what each machine needs, as a plan, and the steps that carry it out.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use goloo_engine::{Applied, Created, Verdict};
use goloo_model::change::{Setting, SettingChange};
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
use crate::actions::{ApplyOptions, CreateOptions, PlannedApply, PlannedCreate};
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
    /// The places of the steps that come before.
    pub after: Vec<usize>,
    /// Whether its provider needs to connect it, and its machine needs to know the names of the others.
    pub is_networked: bool,
    stack: MemberStack,
    wanted_provider: Option<ProviderId>,
    work: StepWork,
}

/// What a step carries out.
enum StepWork {
    Create(Box<PlannedCreate>),
    Resume(Box<ManagedVm>),
    Apply(Box<PlannedApply>),
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
    /// The VM was started.
    Started(Box<Record>),
    /// The result of its provisioning was read again.
    Checked(Box<Record>, Verdict),
    /// An interrupted operation was finished. Changes that take a restart are left, since nobody agreed to that.
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
            Self::Created(created) => &created.record,
            Self::Applied(applied) => &applied.record,
        }
    }

    /// The result of a provisioning that was awaited.
    pub fn verdict(&self) -> Option<&Verdict> {
        match self {
            Self::Created(created) => created.verdict.as_ref(),
            Self::Applied(applied) => applied.verdict.as_ref(),
            Self::Checked(_, verdict) => Some(verdict),
            Self::Unchanged(_) | Self::Started(_) | Self::Resumed(_) => None,
        }
    }

    /// Whether what waits for the machine can use it.
    pub fn is_good(&self) -> bool {
        self.verdict().is_none_or(|verdict| verdict.result.is_good())
    }
}

impl UpStep {
    /// The create that is ready to run, if the machine doesn't exist.
    pub fn create_mut(&mut self) -> Option<&mut PlannedCreate> {
        match &mut self.work {
            StepWork::Create(planned) => Some(planned),
            _ => None,
        }
    }

    /// The same, to be read.
    pub fn planned_create(&self) -> Option<&PlannedCreate> {
        match &self.work {
            StepWork::Create(planned) => Some(planned),
            _ => None,
        }
    }

    /// Whether a running machine is restarted.
    pub fn restarts(&self) -> bool {
        matches!(self.action, MemberAction::Apply { restarts: true, .. })
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
            member.network = known.record_of(member).and_then(|record| record.membership.as_ref()?.network);
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
            };
            let seen = known.record_of(&member).map(|record| (record, known.state_of(record)));
            let (work, left) = self.assess(&step, known.taken(&member), seen)?;
            steps.push(UpStep {
                action: work.action(seen.map(|(_, live)| live)),
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
        let UpStep { name, member, provider, stack, wanted_provider, mut work, .. } = step;
        let draft = Draft { name, provider, wanted_provider, member: &member, stack: &stack };
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
                    done = Some(MemberDone::Applied(Box::new(self.apply(*planned, run)?)));
                    applied = true;
                }
                StepWork::Resume(vm) => {
                    self.resume(&vm, None, run)?;
                    let record = Box::new(vm.record);
                    done = Some(MemberDone::Resumed(record));
                }
            }
            let record = self.recorded(&draft.name)?;
            let live = record.as_ref().map(|record| self.observe(record)).transpose()?;
            let seen = record.as_ref().zip(live.map(|live| live.state));
            work = self.assess(&draft, None, seen)?.0;
            let action = work.action(seen.map(|(_, state)| state));
            let is_unagreed = matches!(action, MemberAction::Apply { restarts: true, .. }) && !may_restart;
            if is_unagreed && done.is_some() {
                break;
            }
        }
        Ok(match (done, self.recorded(&draft.name)?) {
            (Some(done), _) => done,
            (None, Some(record)) => MemberDone::Unchanged(Box::new(record)),
            (None, None) => return Err(goloo_model::store::StoreError::NotFound { name: draft.name }.into()),
        })
    }

    /// What a machine needs, and what differs and stays. `taken` is a VM that has its name and isn't it.
    fn assess(
        &self,
        draft: &Draft<'_>,
        taken: Option<&Record>,
        seen: Option<(&Record, LiveState)>,
    ) -> Result<(StepWork, Vec<SettingChange>), Error> {
        let refused = |refusal| Ok((StepWork::Refused(refusal), Vec::new()));
        if let Some(other) = taken {
            let owner = other.membership.as_ref().map(|member| member.environment.clone());
            return refused(MemberRefusal::NameTaken(owner));
        }
        let Some((record, live)) = seen else {
            return Ok((StepWork::Create(Box::new(self.plan_member_create(draft)?)), Vec::new()));
        };
        if let Some(place) = record.elsewhere(&self.here()) {
            return refused(MemberRefusal::Elsewhere(place));
        }
        if let Some(wanted) = draft.wanted_provider.filter(|wanted| *wanted != record.provider) {
            return refused(MemberRefusal::OtherProvider { has: record.provider, wanted });
        }
        if let Some(operation) = &record.operation {
            return match self.needs_agreement(record)? {
                Some(_) => refused(MemberRefusal::Unproven(operation.kind)),
                None => Ok((StepWork::Resume(Box::new(self.managed(&record.name)?)), Vec::new())),
            };
        }
        if live == LiveState::Missing {
            return refused(MemberRefusal::MachineMissing);
        }
        let planned = self.plan_member_apply(draft, record)?;
        let left: Vec<_> = planned.impossible().cloned().collect();
        let work = match live {
            _ if !planned.is_empty() => StepWork::Apply(Box::new(planned)),
            LiveState::Stopped | LiveState::Suspended => StepWork::Start,
            _ if record.phase == Phase::Degraded => StepWork::Check,
            _ => StepWork::Nothing(Box::new(record.clone())),
        };
        Ok((work, left))
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
    fn plan_member_apply(&self, draft: &Draft<'_>, record: &Record) -> Result<PlannedApply, Error> {
        let wanted = &draft.stack.overrides;
        let set: Vec<String> = wanted.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let unset = obsolete(&record.overrides, wanted);
        let options = ApplyOptions {
            folder: Some(draft.stack.found.folder()),
            set: &set,
            unset: &unset,
            restart: true,
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
}

impl StepWork {
    fn action(&self, live: Option<LiveState>) -> MemberAction {
        match self {
            Self::Create(_) => MemberAction::Create,
            Self::Resume(vm) => {
                let kind = vm.record.operation.as_ref().map(|operation| operation.kind);
                kind.map_or(MemberAction::Nothing, MemberAction::Resume)
            }
            Self::Apply(planned) => MemberAction::Apply {
                settings: planned.settings().to_vec(),
                restarts: planned.restarts() && live == Some(LiveState::Running),
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

    fn record_of(&self, member: &Membership) -> Option<&'k Record> {
        let mut own = self.records.iter();
        own.find(|record| record.membership.as_ref().is_some_and(|other| other.is_same_machine(member)))
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

    /// The name of its VM, which may have been renamed.
    fn name_of(&self, member: &Membership) -> VmName {
        match self.record_of(member) {
            Some(record) => record.name.clone(),
            None => default_name(member),
        }
    }

    /// A VM that has the name of a machine that doesn't exist.
    fn taken(&self, member: &Membership) -> Option<&'k Record> {
        if self.record_of(member).is_some() {
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
        let existing = self.record_of(member).map(|record| record.provider);
        existing.or(options.provider).or(machine.provider).unwrap_or(options.default_provider)
    }

    fn removed(&self) -> Vec<VmName> {
        let memberships = self.records.iter().filter_map(|record| record.membership.as_ref());
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

/// A warning if the new machines on this computer need more memory than it has.
fn memory_warning(session: &Session, steps: &[UpStep]) -> Option<String> {
    let is_new = |step: &&UpStep| {
        let is_here = session.provider_info(step.provider).is_ok_and(|info| info.is_host_bound());
        is_here && step.action == MemberAction::Create
    };
    let needed: u64 =
        steps.iter().filter(is_new).map(|step| step.stack.resolved.stack.memory.as_bytes()).sum();
    let has = preflight::memory().filter(|has| has.as_bytes() < needed)?;
    let (needed, has) = (Size::bytes(needed), Size::bytes(has.as_bytes() >> 20 << 20));
    Some(format!("the new machines need {needed} of memory, but this computer has {has}"))
}
