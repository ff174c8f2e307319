//! Adopt: creates a record for a machine at the provider that has none.

use super::register::same_machine;
use crate::engine::Engine;
use crate::error::EngineError;
use goloo_model::hint::NextStep;
use goloo_model::name::{OperationId, VmId, VmName};
use goloo_model::provider::{Adopted, resource};
use goloo_model::record::{Creator, Extra, NewRecord, Origin, OriginKind, Phase, Record, SshAccess};
use goloo_model::store::Snapshot;

/// The parameters of an adopt.
pub struct AdoptRequest<'r> {
    /// The name for the VM.
    pub name: VmName,
    /// The machine's id at its provider; without it the VM's name is used there too.
    pub id: Option<String>,
    /// The user who adopts it.
    pub created_by: Creator,
    /// Returns how to log in to the machine with this id, if known.
    pub access: &'r dyn Fn(&VmId) -> Option<SshAccess>,
}

/// The lock that every adopt takes: concurrent adopts under two names could create two records for one machine.
pub fn adopt_lock() -> VmName {
    VmName::of_lock("adopt")
}

impl Engine<'_> {
    /// Creates the record. Nothing is changed at the provider.
    pub async fn adopt(&self, request: &AdoptRequest<'_>) -> Result<Record, EngineError> {
        let _alone = self.store.lock(&adopt_lock(), self.owner).await?;
        let adopted = self.provider.adopt(&request.name, request.id.as_deref()).await;
        let record = self.adopted_record(request, adopted.map_err(EngineError::Unrecorded)?);
        self.refuse_known(&record).await?;
        self.register(record, &Snapshot::default()).await
    }

    /// Refuses a machine that already has a record.
    async fn refuse_known(&self, record: &Record) -> Result<(), EngineError> {
        for vm in self.store.list().await?.entries {
            let Some(known) = self.load_unless_broken(&vm.name).await? else { continue };
            if same_machine(&known.record, record) {
                return Err(EngineError::Refused {
                    what: format!("that machine already has a record: the VM \"{}\"", vm.name),
                    hint: NextStep::Status(vm.name.clone()).into(),
                });
            }
        }
        Ok(())
    }

    fn adopted_record(&self, request: &AdoptRequest<'_>, adopted: Adopted) -> Record {
        let operation = OperationId::generate();
        let place = adopted.resources.first().map(|(_, id)| id.clone());
        let mut record = Record::new(NewRecord {
            id: adopted.id.unwrap_or_else(VmId::generate),
            name: request.name.clone(),
            stack: request.name.as_str().into(),
            provider: self.provider.id(),
            host_bound: self.provider.info().is_host_bound(),
            phase: Phase::Ready,
            created_by: request.created_by.clone(),
        });
        record.set_machine_name(adopted.name.unwrap_or_else(|| request.name.clone()));
        record.ssh = (request.access)(&record.id);
        record.origin = Some(Origin {
            how: OriginKind::Adopted,
            from: request.id.clone().or(place).unwrap_or_else(|| request.name.to_string()).into(),
            checked: true,
            export: None,
            extra: Extra::new(),
        });
        record.resources =
            adopted.resources.iter().map(|(kind, id)| resource(kind, id, &operation)).collect();
        if let Some(endpoints) = adopted.endpoints {
            endpoints.write_to(&mut record);
        }
        record
    }
}
