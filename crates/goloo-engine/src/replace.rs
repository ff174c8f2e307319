//! Replace: a new VM beside an old one gets its name, and the old one is deleted.
//!
//! The new VM is created under another name, and its record says which VM it is to replace. Once it is ready, both get the
//! intent, the old VM moves to a third name, and the new one to the name of the old one. From any point of that, the
//! records tell what is left to do. Until then the old VM is not changed, apart from its DNS names, which move last.

use goloo_model::change::Setting;
use goloo_model::dns::VmRef;
use goloo_model::events::Event;
use goloo_model::hint::{Hint, NextStep};
use goloo_model::name::{ArchiveId, VmId, VmName};
use goloo_model::provider::{ChangeTime, MachineChange, ProviderError};
use goloo_model::provider_info::MachinePlace;
use goloo_model::record::{NameChange, Operation, OperationKind, Outcome, Phase, Record, Replacement};
use goloo_model::store::{StoreError, VmLock};
use goloo_sys::error_chain::in_one_line;

use crate::engine::{Engine, changed_meanwhile, record_under, refuse_unfinished};
use crate::error::EngineError;
use crate::protect::refuse_protected;
use crate::work::LockedOperation;

use super::create::{ReplacementRequest, taken};

/// A VM that has replaced another one.
#[derive(Debug)]
pub struct Replaced {
    /// The record as it was last saved.
    pub record: Record,
    /// The id of the other VM.
    pub old: VmId,
    /// The record of the other VM in the archive; `None` if an earlier attempt archived it.
    pub archived: Option<ArchiveId>,
}

/// What is stored under one of the three names of a replacement.
enum Place<'e, 'a> {
    Old(Box<LockedOperation<'e, 'a>>),
    New(Box<LockedOperation<'e, 'a>>),
    Free(Box<dyn VmLock>),
    Other(Box<Record>),
}

/// The names of a replacement, locked.
struct Places<'e, 'a> {
    at_name: Place<'e, 'a>,
    at_new_name: Place<'e, 'a>,
    at_old_name: Place<'e, 'a>,
}

/// Both VMs, after the name has moved.
struct MovedPair<'e, 'a> {
    old: LockedOperation<'e, 'a>,
    new: LockedOperation<'e, 'a>,
}

impl<'a> Engine<'a> {
    /// Locks the VM that is to be replaced and the name of the new one, so that no two replacements of it begin.
    pub(super) async fn lock_for_replacement(
        &self,
        request: &ReplacementRequest,
    ) -> Result<(LockedOperation<'_, 'a>, Box<dyn VmLock>), EngineError> {
        let (old, new) = self.lock_both(&request.old.name, &request.name).await?;
        let old = self.take_under(old).await?;
        self.expect_agreed(&old.record, Some(&request.old))?;
        self.expect_replaceable(&old.record)?;
        match self.replacement_of(&old.record.id).await? {
            Some(other) => Err(exists(&other, &old.record.name)),
            None => Ok((old, new)),
        }
    }

    fn expect_replaceable(&self, old: &Record) -> Result<(), EngineError> {
        refuse_unfinished(old)?;
        if let Some(operation) = &old.operation {
            return Err(EngineError::Unfinished { name: old.name.clone(), kind: operation.kind });
        }
        refuse_protected(old)?;
        if let Some(replacing) = &old.replacing {
            return Err(exists(old, &replacing.name));
        }
        self.expect_own_machine_name(old)
    }

    /// The VM that is to replace the one with this id, if there is one.
    async fn replacement_of(&self, old: &VmId) -> Result<Option<Record>, StoreError> {
        let records = self.store.records().await?.entries.into_iter().map(|loaded| loaded.record);
        let is_it = |record: &Record| record.replacing.as_ref().is_some_and(|replacing| replacing.id == *old);
        Ok(records.into_iter().find(is_it))
    }

    async fn vm_of_id(&self, id: &VmId) -> Result<Option<Record>, StoreError> {
        let listed = self.store.list().await?.entries.into_iter().find(|vm| vm.id == *id);
        let Some(listed) = listed else { return Ok(None) };
        Ok(self.store.load(&listed.name).await?.map(|loaded| loaded.record))
    }

    /// Gives a VM that is ready the name of the one that it is to replace, and deletes that one. What an interrupted call
    /// has done is not done again.
    pub async fn finish_replacement(&self, name: &VmName) -> Result<Replaced, EngineError> {
        let loaded = self.store.load(name).await?;
        let new = loaded.ok_or_else(|| StoreError::NotFound { name: name.clone() })?.record;
        let Some(replacing) = &new.replacing else { return Err(changed_meanwhile(name)) };
        self.expect_trusted(&new)?;
        let old = match self.vm_of_id(&replacing.id).await? {
            None => return self.end_replacement(self.take(name).await?, None).await,
            Some(old) => old,
        };
        // Somebody else may have written an operation that wasn't started here.
        let is_ours = self.here.started_operation(&old) && old.replaced_by.as_ref() == Some(&new.id);
        match old.operation.as_ref().filter(|_| is_ours) {
            Some(begun) if begun.kind == OperationKind::Replace => {
                return self.replace(&Operation { owner: self.owner.clone(), ..begun.clone() }).await;
            }
            Some(begun) if begun.kind == OperationKind::Delete => {
                let new = self.take(name).await?;
                let mut old = self.take(&old.name).await?;
                old.begin_removal().await?;
                let archived = old.remove().await?;
                return self.end_replacement(new, Some(archived)).await;
            }
            _ => {}
        }
        if new.phase != Phase::Ready {
            return Err(exists(&new, &old.name));
        }
        if self.interrupt.is_raised() {
            return Err(EngineError::Midway {
                name: name.clone(),
                kind: OperationKind::Replace,
                source: ProviderError::Interrupted,
            });
        }
        self.expect_replaceable(&old)?;
        self.take_dns_names(&new, &old).await?;
        let replacement = Replacement {
            old_name: free_name(&old.name, "old", &self.store.names().await?),
            name: old.name,
            old: old.id,
            new: new.id,
            new_name: new.name,
        };
        let operation = self.operation(OperationKind::Replace);
        let operation = Operation { replacement: Some(Box::new(replacement)), ..operation };
        self.replace(&operation).await
    }

    /// Continues an interrupted move of a name.
    pub(super) async fn replace(&self, operation: &Operation) -> Result<Replaced, EngineError> {
        let replacement = operation.replacement.as_deref().ok_or_else(|| EngineError::Refused {
            what: "the record doesn't contain which VM replaces which".to_owned(),
            hint: Hint::from("replace it by an older copy: ").step(NextStep::StatePushOlder),
        })?;
        let places = match self.lock_places(replacement).await? {
            Places { at_name: Place::New(new), at_old_name: Place::Free(_), .. } => {
                return self.end_replacement(*new, None).await;
            }
            places => places,
        };
        let places = self.save_intents(places, operation, replacement).await?;
        let MovedPair { mut old, mut new } = self.move_name(places, replacement).await?;
        // Both records have the same operation, which counts as open until one of them ends it: the old VM's first.
        old.begin_removal().await?;
        if new.end_move() {
            new.save_result().await?;
        }
        let archived = old.remove().await?;
        self.end_replacement(new, Some(archived)).await
    }

    async fn take_dns_names(&self, new: &Record, old: &Record) -> Result<(), EngineError> {
        if self.provider.dns().is_some_and(|dns| dns.shares(new, old)) {
            self.dns_swap(&new.name, Some(&old.name), false, None).await?;
        }
        Ok(())
    }

    async fn lock_places(&self, replacement: &Replacement) -> Result<Places<'_, 'a>, EngineError> {
        let Replacement { name, new_name, old_name, .. } = replacement;
        let mut names = [name, new_name, old_name];
        names.sort_unstable();
        let mut locks = Vec::with_capacity(names.len());
        for name in names {
            locks.push(self.store.lock(name, self.owner).await?);
        }
        let mut lock_of = |name: &VmName| {
            let index = locks.iter().position(|lock| lock.name() == name);
            index.map(|index| locks.swap_remove(index)).ok_or_else(|| changed_meanwhile(name))
        };
        let (at_name, at_new_name, at_old_name) = (lock_of(name)?, lock_of(new_name)?, lock_of(old_name)?);
        Ok(Places {
            at_name: self.place(at_name, replacement).await?,
            at_new_name: self.place(at_new_name, replacement).await?,
            at_old_name: self.place(at_old_name, replacement).await?,
        })
    }

    async fn place(
        &self,
        mut lock: Box<dyn VmLock>,
        replacement: &Replacement,
    ) -> Result<Place<'_, 'a>, EngineError> {
        Ok(match record_under(&mut *lock).await? {
            None => Place::Free(lock),
            Some(record) if record.id == replacement.old => {
                Place::Old(Box::new(self.take_under(lock).await?))
            }
            Some(record) if record.id == replacement.new => {
                Place::New(Box::new(self.take_under(lock).await?))
            }
            Some(other) => Place::Other(Box::new(other)),
        })
    }

    /// Saves the intent in both records where the old VM still has its name; the old VM's first.
    async fn save_intents<'e>(
        &'e self,
        places: Places<'e, 'a>,
        operation: &Operation,
        replacement: &Replacement,
    ) -> Result<Places<'e, 'a>, EngineError> {
        let Replacement { name, new_name, old_name, .. } = replacement;
        let Places { at_name: Place::Old(mut old), at_new_name, at_old_name } = places else {
            return Ok(places);
        };
        if matches!(at_old_name, Place::Old(_)) {
            return Ok(Places { at_name: Place::Old(old), at_new_name, at_old_name });
        }
        let is_begun = old.is_under(operation);
        if !is_begun {
            self.expect_replaceable(&old.record)?;
        }
        let autostart = old.record.autostart;
        old.record.replaced_by = Some(replacement.new.clone());
        old.begin_replacement(operation, name, old_name).await?;
        let new = match at_new_name {
            Place::New(mut new) => {
                new.record.autostart = autostart;
                new.begin_replacement(operation, new_name, name).await.map(|()| new)
            }
            _ => Err(changed_meanwhile(new_name)),
        };
        match new {
            Ok(new) => Ok(Places { at_name: Place::Old(old), at_new_name: Place::New(new), at_old_name }),
            Err(error) => {
                old.record.replaced_by = None;
                old.record.fail(&error);
                old.save_result().await?;
                Err(error)
            }
        }
    }

    /// Moves the old VM to its other name, and the new VM to the name that is free then.
    async fn move_name<'e>(
        &'e self,
        places: Places<'e, 'a>,
        replacement: &Replacement,
    ) -> Result<MovedPair<'e, 'a>, EngineError> {
        let Places { at_name, at_new_name, at_old_name } = places;
        let Replacement { name, old_name, .. } = replacement;
        let (old, at_name) = match (at_name, at_old_name) {
            (Place::Old(old), Place::Free(to)) => {
                let (old, free) = self.move_record(*old, to, old_name).await?;
                (old, Place::Free(free))
            }
            (Place::Old(mut copy), Place::Old(old)) => {
                self.remove_old(&mut copy).await?;
                (*old, Place::Free(copy.lock))
            }
            (Place::Old(_), Place::Other(other)) => return Err(taken(&other)),
            (at_name, Place::Old(old)) => (*old, at_name),
            _ => return Err(changed_meanwhile(name)),
        };
        let new = match (at_name, at_new_name) {
            (Place::Free(to), Place::New(new)) => self.move_record(*new, to, name).await?.0,
            (Place::New(new), Place::New(mut copy)) => {
                self.remove_old(&mut copy).await?;
                *new
            }
            (Place::New(new), _) => *new,
            (Place::Other(_), Place::New(new)) => return Err(name_taken(name, &new.record.name)),
            _ => return Err(changed_meanwhile(name)),
        };
        Ok(MovedPair { old, new })
    }

    /// The old VM no longer exists: the new one gets the ports that were taken, and isn't a replacement any more.
    async fn end_replacement(
        &self,
        mut new: LockedOperation<'_, 'a>,
        archived: Option<ArchiveId>,
    ) -> Result<Replaced, EngineError> {
        new.end_move();
        let Some(replacing) = new.record.replacing.take() else {
            return Err(changed_meanwhile(&new.record.name));
        };
        let has_replaced = archived.is_some() || new.record.name == replacing.name;
        if has_replaced {
            new.claim_ports().await;
            new.claim_private_address().await;
            new.record.replaces = Some(replacing.id.clone());
        }
        new.save_result().await?;
        if !has_replaced {
            let name = new.record.name.clone();
            return Err(EngineError::Refused {
                what: format!("the VM that \"{name}\" was to replace no longer exists"),
                hint: NextStep::Rename { vm: name, to: replacing.name }.text(" gives it the name of that VM"),
            });
        }
        crate::network_names::write_or_warn(self, &new.record).await;
        Ok(Replaced { record: new.record.clone(), old: replacing.id, archived })
    }

    /// Ends the replacement of a VM that was deleted. That is done, so a failure is only a warning.
    pub(super) async fn end_replacement_of(&self, old: &Record) {
        let Some(new) = &old.replaced_by else { return };
        let ended = match self.vm_of_id(new).await {
            Ok(Some(new)) if new.replacing.is_some() => self.finish_replacement(&new.name).await.map(drop),
            found => found.map(drop).map_err(EngineError::from),
        };
        if let Err(error) = ended {
            self.events.event(Event::Warning(in_one_line(&error)));
        }
    }

    /// Continues what a resumed VM is a part of: a replacement, of either VM.
    pub(super) async fn replacement_after_resume(
        &self,
        name: &VmName,
    ) -> Result<Option<Replaced>, EngineError> {
        let Some(loaded) = self.store.load(name).await? else { return Ok(None) };
        let record = loaded.record;
        let new = match record.replacing {
            Some(_) => Some(record),
            None => self.replacement_of(&record.id).await?,
        };
        match new {
            Some(new) => self.finish_replacement(&new.name).await.map(Some),
            None => Ok(None),
        }
    }

    /// Refuses a record that somebody else may have written: the VM in it would be deleted.
    fn expect_trusted(&self, new: &Record) -> Result<(), EngineError> {
        if self.here.trust.is_trusted(new) {
            return Ok(());
        }
        let name = &new.name;
        Err(EngineError::Refused {
            what: format!(
                "\"{name}\" can't replace another VM: its record doesn't prove that it was created with this state folder"
            ),
            hint: NextStep::Status(name.clone()).text(" shows who created it"),
        })
    }

    /// Refuses to delete a VM that has got the DNS names of the one that it is to replace: that one would lose them.
    pub(super) fn refuse_taken_names(&self, new: &Record) -> Result<(), EngineError> {
        let previous = self.provider.dns().and_then(|dns| dns.previous(new)).and_then(|previous| previous.vm);
        let old = new.replacing.as_ref();
        match previous {
            Some(VmRef { id, name }) if old.is_some_and(|old| old.id == id) => Err(EngineError::Refused {
                what: format!("\"{}\" has the DNS names of \"{name}\", which it is to replace", new.name),
                hint: NextStep::DnsRollback(new.name.clone()).text(" returns them"),
            }),
            _ => Ok(()),
        }
    }
}

impl LockedOperation<'_, '_> {
    fn is_under(&self, operation: &Operation) -> bool {
        self.record.operation.as_ref().is_some_and(|found| found.id == operation.id)
    }

    async fn begin_replacement(
        &mut self,
        operation: &Operation,
        from: &VmName,
        to: &VmName,
    ) -> Result<(), EngineError> {
        if self.is_under(operation) {
            return Ok(());
        }
        if let Some(other) = &self.record.operation {
            return Err(EngineError::Unfinished { name: self.record.name.clone(), kind: other.kind });
        }
        let rename = Some(NameChange { from: from.clone(), to: to.clone() });
        self.record.begin(Operation { rename, ..operation.clone() });
        self.save_intent().await
    }

    /// Begins to delete a VM whose name another one has by now.
    async fn begin_removal(&mut self) -> Result<(), EngineError> {
        refuse_protected(&self.record)?;
        let is_begun =
            self.record.operation.as_ref().is_some_and(|operation| operation.kind == OperationKind::Delete);
        if is_begun {
            self.record.begin_again(self.engine.owner);
        } else {
            let by = self.record.replaced_by.as_ref().map(|id| format!("replaced by {id}"));
            self.record.end(Outcome::Done, by);
            self.record.begin(self.engine.operation(OperationKind::Delete));
            self.record.phase = Phase::Deleting;
        }
        self.save_intent().await
    }

    /// Ends the move of a name to this VM; `false` if it has ended before.
    fn end_move(&mut self) -> bool {
        let is_open =
            self.record.operation.as_ref().is_some_and(|operation| operation.kind == OperationKind::Replace);
        if is_open {
            self.name_host();
            let old = self.record.replacing.as_ref().map(|old| format!("instead of {}", old.id));
            self.record.end(Outcome::Done, old);
        }
        is_open
    }

    /// The address that the old machine had in its environment's network. The guest knows it, and uses it as soon as the
    /// network card is there. A failure is only a warning: the next start connects it.
    async fn claim_private_address(&mut self) {
        let replacing = self.record.replacing.take();
        let connected = self.connect_network().await;
        self.record.replacing = replacing;
        if let Err(error) = connected {
            self.engine.events.event(Event::Warning(in_one_line(&error)));
        }
    }

    /// The ports that the old machine had, where ports are this computer's. The machine works without them, so a failure
    /// is only a warning.
    async fn claim_ports(&mut self) {
        let provider = self.engine.provider;
        let Some(target) = self.record.resolved.clone().filter(|stack| !stack.ports.is_empty()) else {
            return;
        };
        let Some(changes) = provider.changes().filter(|_| provider.info().place == MachinePlace::Loopback)
        else {
            return;
        };
        let (mut record, mut work) = self.lend();
        // As if it had none, so that each is chosen again.
        record.resolved.iter_mut().for_each(|stack| stack.ports.clear());
        let change = MachineChange { settings: &[Setting::Ports], target: &target, time: ChangeTime::Now };
        match changes.change(&record, change, &mut work).await {
            Ok(made) => made.write_to(&mut self.record),
            Err(error) => {
                let events = self.engine.events;
                events.event(Event::Warning(format!("its ports stay as they are: {}", in_one_line(&error))));
                if let Some(hint) = error.hint() {
                    events.event(Event::Hint(hint.clone()));
                }
            }
        }
    }
}

/// The error where a VM that is to replace another one exists already.
fn exists(new: &Record, old: &VmName) -> EngineError {
    EngineError::ReplacementExists { name: old.clone(), new: new.name.clone(), phase: new.phase }
}

fn name_taken(name: &VmName, new: &VmName) -> EngineError {
    EngineError::Refused {
        what: format!("another VM is called \"{name}\" by now"),
        hint: Hint::from("rename or delete that VM, then run ").step(NextStep::Resume(new.clone())),
    }
}

/// A name that isn't in use: the VM's with this ending, and a number if need be.
pub fn free_name(name: &VmName, ending: &str, used: &[String]) -> VmName {
    let numbers = std::iter::once(String::new()).chain((2_u32..).map(|number| format!("-{number}")));
    let mut names = numbers.map(|number| name.with_ending(&format!("-{ending}{number}")));
    let is_free = |name: &VmName| !used.iter().any(|used| used == name.as_str());
    names.find(is_free).expect("there are more numbers than VMs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_in_use_is_followed_by_the_next() {
        let name = |text: &str| VmName::parse(text).expect("a name");
        let used = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(free_name(&name("web"), "new", &[]), name("web-new"));
        assert_eq!(free_name(&name("web"), "new", &used(&["web", "web-new"])), name("web-new-2"));
        let long = "w".repeat(63);
        let first = format!("{}-old", "w".repeat(59));
        assert_eq!(free_name(&name(&long), "old", &[]).as_str(), first);
        assert_eq!(free_name(&name(&long), "old", &[first]).as_str(), format!("{}-old-2", "w".repeat(57)));
    }
}
