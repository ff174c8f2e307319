//! The VMs of environments in the store, the words that mean them, and the lock of an environment.

use goloo_model::events::EventContext;
use goloo_model::name::{EnvironmentId, VmName};
use goloo_model::provider::{LiveState, Networks};
use goloo_model::provider_id::ProviderId;
use goloo_model::record::{Membership, Record};
use goloo_model::store::{StoreError, VmLock};

use super::graph::{self, TaskResult};
use super::{EnvironmentError, addresses};
use crate::error::Error;
use crate::operation::RunOptions;
use crate::session::Session;
use crate::{identity, observe};

/// Held while an environment is brought up or taken down: two processes at once could choose the same addresses.
pub struct EnvironmentLock(#[expect(dead_code, reason = "dropping it releases the lock")] Box<dyn VmLock>);

/// Separates an environment from a machine of it.
const SEPARATOR: char = '/';

impl Session {
    /// Takes the lock of an environment.
    ///
    /// # Errors
    /// [`EnvironmentError::Busy`], with its holder; errors of the store.
    pub fn lock_environment(&self, environment: &VmName) -> Result<EnvironmentLock, Error> {
        let name = VmName::of_lock(&format!("environment-{environment}"));
        match self.local(self.store.lock(&name, &identity::owner())) {
            Ok(lock) => Ok(EnvironmentLock(lock)),
            Err(Error::Store(StoreError::Locked { holder, lease_end, .. })) => {
                Err(EnvironmentError::Busy { environment: environment.clone(), holder, lease_end }.into())
            }
            Err(error) => Err(error),
        }
    }

    /// All records, also those of VMs that are to replace others.
    pub(super) fn all_records(&self) -> Result<Vec<Record>, Error> {
        let entries = self.local(self.store.records())?.entries;
        Ok(entries.into_iter().map(|loaded| loaded.record).collect())
    }

    /// A VM's place in its environment, if no VM has it now.
    pub(crate) fn free_membership(&self, record: &Record) -> Result<Option<Membership>, Error> {
        let Some(member) = &record.membership else { return Ok(None) };
        let vms = self.local(self.store.list())?.entries.into_iter();
        let is_taken = vms.filter_map(|vm| vm.membership).any(|other| other.is_same_machine(member));
        Ok((!is_taken).then(|| member.clone()))
    }

    /// Gives a machine that is made again its place in the network that its environment has now. Addresses are chosen again,
    /// since another machine may have the old one. The caller holds the environment's lock until the place is in a record.
    ///
    /// # Errors
    /// When no network is free; errors of the store and of the provider's settings.
    pub fn renew_network(&self, member: &mut Membership, provider: ProviderId) -> Result<(), Error> {
        let records = self.all_records()?;
        let all = records.iter().filter_map(|record| record.membership.as_ref());
        let others: Vec<_> = all.filter(|other| other.environment == member.environment).collect();
        let was_networked = others.is_empty() && member.is_networked();
        (member.network, member.environment_id) = (None, None);
        if !was_networked && !others.iter().any(|other| other.is_networked()) {
            return Ok(());
        }
        let id = others.iter().find_map(|other| other.environment_id.clone());
        member.environment_id = Some(id.unwrap_or_else(EnvironmentId::generate));
        if self.provider(provider)?.networks().is_some_and(Networks::takes_addresses) {
            let environment = member.environment.clone();
            addresses::assign(&environment, &records, std::iter::once(member))?;
        }
        Ok(())
    }

    /// Tells the running machines in the network of a VM's environment where the VM is, since it is new. What fails is only
    /// a warning: bringing the environment up repeats it.
    pub fn tell_others(&self, record: &Record, run: &RunOptions<'_>) {
        if let Err(error) = self.try_to_tell_others(record, run) {
            let (name, reason) = (&record.name, error.in_one_line());
            self.warn(format!("the other machines may not know where \"{name}\" is now: {reason}"));
        }
    }

    fn try_to_tell_others(&self, record: &Record, run: &RunOptions<'_>) -> Result<(), Error> {
        let Some(own) = record.membership.as_ref().filter(|member| member.is_networked()) else {
            return Ok(());
        };
        let mut others = self.all_records()?;
        others.retain(|other| {
            let is_member = other.membership.as_ref().is_some_and(|it| it.environment == own.environment);
            is_member && other.id != record.id && other.operation.is_none() && other.replacing.is_none()
        });
        let states = observe::inspect(self, &others.iter().collect::<Vec<_>>());
        let running = others.iter().zip(states).filter(|(_, live)| live.state == LiveState::Running);
        let running: Vec<_> =
            running.filter_map(|(other, _)| Some((&other.name, other.membership.as_ref()?))).collect();
        graph::run(&vec![Vec::new(); running.len()], default_jobs(), run.interrupt, |place| {
            let (name, member) = running[place];
            if let Err(error) = self.join_network(name, member, run) {
                let reason = error.in_one_line();
                self.warn(format!("\"{name}\" may not know where \"{}\" is now: {reason}", record.name));
            }
            TaskResult { value: (), is_good: true }
        });
        Ok(())
    }

    /// The VMs that a word on a command line means: a VM, an environment, or a machine of one (`shop/web`, `shop/web-1`).
    /// A VM comes before an environment of the same name, which is `shop/`. A word that means nothing known is taken as
    /// the name of a VM.
    ///
    /// # Errors
    /// When the word isn't a name, or no VM belongs to it; errors of the store.
    pub fn vms_of_word(&self, word: &str) -> Result<Vec<VmName>, Error> {
        let Some((environment, machine)) = split(word) else {
            let name = VmName::parse(word)?;
            if self.local(self.store.names())?.iter().any(|known| known == word) {
                return Ok(vec![name]);
            }
            let members = self.members_of(&name, "")?;
            return Ok(if members.is_empty() { vec![name] } else { members });
        };
        let members = self.members_of(&environment, machine)?;
        match members.is_empty() {
            true => Err(EnvironmentError::NoVms { given: word.to_owned() }.into()),
            false => Ok(members),
        }
    }

    /// The only VM that a word means.
    ///
    /// # Errors
    /// As [`Self::vms_of_word`], and when it means several.
    pub fn vm_of_word(&self, word: &str) -> Result<VmName, Error> {
        if split(word).is_none() {
            return Ok(VmName::parse(word)?);
        }
        let names = self.vms_of_word(word)?;
        match &names[..] {
            [name] => Ok(name.clone()),
            _ => Err(EnvironmentError::SeveralVms { given: word.to_owned(), names }.into()),
        }
    }

    /// The VMs of an environment or, unless `machine` is empty, of a machine of it.
    fn members_of(&self, environment: &VmName, machine: &str) -> Result<Vec<VmName>, Error> {
        let is_meant = |member: &Membership| {
            let is_machine =
                machine.is_empty() || member.machine.as_str() == machine || member.short_name() == machine;
            member.environment == *environment && is_machine
        };
        let vms = self.local(self.store.list())?.entries.into_iter();
        Ok(vms.filter(|vm| vm.membership.as_deref().is_some_and(is_meant)).map(|vm| vm.name).collect())
    }

    /// Connects a running VM to the network of its environment, and tells its machine the names of the others. `planned`
    /// is its place in the network by the plan of `up`. May be repeated at any time.
    ///
    /// # Errors
    /// Errors of the store, the provider and the machine.
    pub fn join_network(
        &self,
        name: &VmName,
        planned: &Membership,
        run: &RunOptions<'_>,
    ) -> Result<Record, Error> {
        let provider = self.managed(name)?.provider;
        let context = EventContext::of(name, None);
        Ok(self.operate(context, &*provider, run, async |engine| engine.join_network(name, planned).await)??)
    }
}

/// An environment and a machine of it, or nothing after the slash. A path isn't one.
fn split(word: &str) -> Option<(VmName, &str)> {
    let (environment, machine) = word.split_once(SEPARATOR)?;
    let is_machine = machine.is_empty() || VmName::parse(machine).is_ok();
    VmName::parse(environment).ok().filter(|_| is_machine).map(|environment| (environment, machine))
}

/// How many machines are worked on at the same time by default: as many as this computer has processors, since each
/// boots on it.
pub(super) fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(2, |cpus| cpus.get().clamp(2, 8))
}
