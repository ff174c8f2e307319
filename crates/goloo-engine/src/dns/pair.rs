//! The two VMs of a move of names, locked.

use crate::engine::Engine;
use crate::error::EngineError;
use crate::work::LockedOperation;
use goloo_model::dns::{ChangeState, DnsChange, RecordSet, VmRef};
use goloo_model::name::{OperationId, VmName};
use goloo_model::provider::DnsNames;
use goloo_model::record::{Operation, OperationKind, Outcome, Record};
use goloo_model::store::StoreError;

/// The two VMs of a move of names, as far as they exist.
pub(super) struct Pair<'e, 'a> {
    engine: &'e Engine<'a>,
    pub dns: &'a dyn DnsNames,
    taker: Option<LockedOperation<'e, 'a>>,
    giver: Option<LockedOperation<'e, 'a>>,
}

impl<'a> Engine<'a> {
    /// Takes both locks in the order of the names, so that two opposite moves can't deadlock.
    pub(super) async fn take_pair(
        &self,
        dns: &'a dyn DnsNames,
        taker: Option<&VmName>,
        giver: Option<&VmName>,
    ) -> Result<Pair<'_, 'a>, EngineError> {
        let mut pair = Pair { engine: self, dns, taker: None, giver: None };
        if taker < giver {
            pair.taker = self.take_if_there(taker).await?;
            pair.giver = self.take_if_there(giver).await?;
        } else {
            pair.giver = self.take_if_there(giver).await?;
            pair.taker = self.take_if_there(taker).await?;
        }
        Ok(pair)
    }

    async fn take_if_there(
        &self,
        name: Option<&VmName>,
    ) -> Result<Option<LockedOperation<'_, 'a>>, EngineError> {
        let Some(name) = name else { return Ok(None) };
        match self.take(name).await {
            Err(EngineError::Store(StoreError::NotFound { .. })) => Ok(None),
            taken => taken.map(Some),
        }
    }
}

impl<'e, 'a> Pair<'e, 'a> {
    pub fn expect_taker(&self, name: &VmName) -> Result<&Record, EngineError> {
        expect(&self.taker, name)
    }

    pub fn expect_giver(&self, name: &VmName) -> Result<&Record, EngineError> {
        expect(&self.giver, name)
    }

    /// The taker, if it is still the same VM.
    pub fn same_taker(&self, vm: &VmRef) -> Option<&Record> {
        self.taker.as_ref().map(|taker| &taker.record).filter(|taker| taker.id == vm.id)
    }

    /// Releases the VMs whose record doesn't contain this operation: their part is done, or they are different VMs.
    pub fn keep_those_under(&mut self, operation: &OperationId) {
        let is_under = |vm: &LockedOperation<'_, '_>| {
            vm.record.operation.as_ref().is_some_and(|locked| locked.id == *operation)
        };
        self.taker = self.taker.take().filter(is_under);
        self.giver = self.giver.take().filter(is_under);
    }

    /// Saves the intent in both records. If that fails, neither keeps it.
    pub async fn save_intents(&mut self, kind: OperationKind, change: &DnsChange) -> Result<(), EngineError> {
        let operation = Operation { dns: Some(change.clone()), ..self.engine.operation(kind) };
        let dns = self.dns;
        let mut saved = Ok(());
        for vm in self.both() {
            dns.note(change, &operation.id, &mut vm.record);
            vm.record.begin(operation.clone());
            saved = vm.save_intent().await;
            if let Err(error) = &saved {
                vm.record.fail(error);
                break;
            }
        }
        if let Err(error) = &saved {
            self.take_back_intents(error).await?;
        }
        saved
    }

    async fn take_back_intents(&mut self, why: &EngineError) -> Result<(), EngineError> {
        for vm in self.both().filter(|vm| vm.record.operation.is_some()) {
            vm.record.fail(why);
            vm.save_result().await?;
        }
        Ok(())
    }

    /// Saves the result in both records.
    pub async fn settle(&mut self, change: &DnsChange, live: &[RecordSet]) -> Result<(), EngineError> {
        let dns = self.dns;
        let outcome = if change.stand(live) == ChangeState::After { Outcome::Done } else { Outcome::Failed };
        for vm in self.both() {
            dns.settle(change, live, &mut vm.record);
            vm.record.end(outcome, None);
            vm.save_result().await?;
        }
        Ok(())
    }

    fn both(&mut self) -> impl Iterator<Item = &mut LockedOperation<'e, 'a>> {
        self.taker.iter_mut().chain(&mut self.giver)
    }
}

fn expect<'r>(vm: &'r Option<LockedOperation<'_, '_>>, name: &VmName) -> Result<&'r Record, EngineError> {
    let record = vm.as_ref().map(|vm| &vm.record);
    Ok(record.ok_or_else(|| StoreError::NotFound { name: name.clone() })?)
}
