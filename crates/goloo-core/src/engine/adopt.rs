//! Adopt: makes a record for a machine that is at the provider and that no record leads to.

use super::register::same_machine;
use super::{Engine, EngineError};
use crate::name::{OperationId, VmId, VmName};
use crate::provider::{Adopted, resource};
use crate::record::{Creator, Extra, History, Origin, OriginKind, Phase, Record, SCHEMA, SshAccess};
use crate::store::Snapshot;
use crate::time::Timestamp;

/// What an adopt is asked to do.
pub struct AdoptRequest<'r> {
    /// What the VM is to be called.
    pub name: VmName,
    /// The machine's id at its provider; without it the name counts there too.
    pub id: Option<String>,
    /// Who asks.
    pub created_by: Creator,
    /// The way into the machine of this id, where it is known.
    pub access: &'r dyn Fn(&VmId) -> Option<SshAccess>,
}

/// The lock that all adopts take: under two names at once one machine could get two records.
pub fn adopt_lock() -> VmName {
    VmName::of_lock("adopt")
}

impl Engine<'_> {
    /// Makes the record. Nothing is changed at the provider.
    pub async fn adopt(&self, request: &AdoptRequest<'_>) -> Result<Record, EngineError> {
        let _alone = self.store.lock(&adopt_lock(), self.owner).await?;
        let adopted = self.provider.adopt(&request.name, request.id.as_deref()).await;
        let record = self.adopted_record(request, adopted.map_err(EngineError::Unrecorded)?);
        self.refuse_known(&record).await?;
        self.register(record, &Snapshot::default()).await
    }

    /// A machine has one record.
    async fn refuse_known(&self, record: &Record) -> Result<(), EngineError> {
        for vm in self.store.list().await?.entries {
            let Some(known) = self.load_unless_broken(&vm.name).await? else { continue };
            if same_machine(&known.record, record) {
                return Err(EngineError::Refused {
                    what: format!("that machine has a record already: it is the VM \"{}\"", vm.name),
                    hint: format!("goloo status {}", vm.name),
                });
            }
        }
        Ok(())
    }

    fn adopted_record(&self, request: &AdoptRequest<'_>, adopted: Adopted) -> Record {
        let now = Timestamp::now();
        let operation = OperationId::generate();
        let place = adopted.resources.first().map(|(_, id)| id.clone());
        let id = adopted.id.unwrap_or_else(VmId::generate);
        let mut record = Record {
            schema: SCHEMA,
            ssh: (request.access)(&id),
            id,
            serial: 0,
            name: request.name.clone(),
            stack: request.name.as_str().into(),
            provider: self.provider.kind(),
            phase: Phase::Ready,
            created_at: now,
            updated_at: now,
            created_by: request.created_by.clone(),
            source_config_path: None,
            origin: Some(Origin {
                how: OriginKind::Adopted,
                from: request.id.clone().or(place).unwrap_or_else(|| request.name.to_string()).into(),
                checked: true,
                extra: Extra::new(),
            }),
            hosts_entry: false,
            protected: false,
            ends_at: None,
            tags: std::collections::BTreeMap::new(),
            github_users: Vec::new(),
            provisioning: None,
            operation: None,
            resources: adopted.resources.iter().map(|(kind, id)| resource(kind, id, &operation)).collect(),
            local: None,
            aws: None,
            history: History::default(),
            proof: None,
            extra: Extra::new(),
        };
        if let Some(made) = adopted.made {
            super::set_addresses(&mut record, made);
        }
        record
    }
}
