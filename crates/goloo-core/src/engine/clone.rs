//! Clone: claim the new name, copy the machine, save what came of it.
//!
//! Both VMs are locked throughout: the source must not be started or deleted while it is copied.

use super::create::taken;
use super::work::{UnderWay, leaves_work};
use super::{Engine, EngineError};
use crate::name::{VmId, VmName};
use crate::provider::{Clones, LiveState, ProviderError};
use crate::record::{
    Creator, History, Operation, OperationKind, Origin, OriginKind, Outcome, Phase, Record, SCHEMA,
};
use crate::store::{StoreError, VmLock};
use crate::time::Timestamp;

impl<'a> Engine<'a> {
    /// Makes `copy` as a copy of the stopped VM `source`. It is stopped too.
    pub async fn clone_vm(
        &self,
        source: &VmName,
        copy: &VmName,
        created_by: &Creator,
    ) -> Result<Record, EngineError> {
        self.clones(source)?;
        let (mut from, mut lock) = self.take_both(source, copy).await?;
        super::refuse_unfinished(&from.record)?;
        if let Some(other) = super::record_under(&mut *lock).await? {
            return Err(taken(&other));
        }
        self.expect_at_rest(&from.record).await?;
        let snapshot = from.lock.snapshot().await?;
        let mut record = self.copy_of(&from.record, copy, created_by);
        // A copy of somebody else's VM, or of changed files, isn't this folder's own either.
        let is_ours = self.here.created_from(&from.record, &snapshot);
        if is_ours {
            record.prove(self.here, snapshot.digest());
        }
        self.ready(&mut record, is_ours, &*lock);
        lock.create(&mut record, &snapshot).await?;
        UnderWay::new(self, lock, record, is_ours).copy_from(&from.record).await
    }

    /// Locks in the order of the names: of two clones that cross, one gets both.
    async fn take_both(
        &self,
        source: &VmName,
        copy: &VmName,
    ) -> Result<(UnderWay<'_, 'a>, Box<dyn VmLock>), EngineError> {
        if source == copy {
            return Err(taken(&self.take(source).await?.record));
        }
        if source < copy {
            let from = self.take(source).await?;
            return Ok((from, self.store.lock(copy, self.owner).await?));
        }
        let lock = self.store.lock(copy, self.owner).await?;
        Ok((self.take(source).await?, lock))
    }

    fn clones(&self, source: &VmName) -> Result<&'a dyn Clones, EngineError> {
        let provider = self.provider.kind();
        self.provider.clones().ok_or_else(|| EngineError::Provider {
            name: source.clone(),
            kind: OperationKind::Clone,
            source: ProviderError::Unsupported {
                what: format!("{provider} can't copy its machines"),
                hint: format!("goloo recreate {source} --as NAME makes another one from the same files"),
            },
        })
    }

    /// Asked before the name is claimed, so that a machine that runs costs nothing.
    async fn expect_at_rest(&self, source: &Record) -> Result<(), EngineError> {
        let name = &source.name;
        match self.provider.observe(&[source]).await.first().map(|observed| observed.state) {
            Some(LiveState::Running) => Err(EngineError::Provider {
                name: name.clone(),
                kind: OperationKind::Clone,
                source: ProviderError::Unsupported {
                    what: format!("\"{name}\" runs, and a copy wants it stopped"),
                    hint: format!("goloo stop {name}"),
                },
            }),
            Some(LiveState::Missing) => Err(EngineError::Refused {
                what: format!("the machine of \"{name}\" is gone"),
                hint: format!("goloo delete {name} archives its record"),
            }),
            _ => Ok(()),
        }
    }

    fn copy_of(&self, source: &Record, copy: &VmName, created_by: &Creator) -> Record {
        let now = Timestamp::now();
        let origin = Origin {
            how: OriginKind::Cloned,
            from: source.name.as_str().into(),
            checked: true,
            extra: serde_json::Map::new(),
        };
        let operation = Operation { source: Some(source.id.clone()), ..self.operation(OperationKind::Clone) };
        let mut record = Record {
            schema: SCHEMA,
            id: VmId::generate(),
            serial: 0,
            name: copy.clone(),
            phase: Phase::Creating,
            created_at: now,
            updated_at: now,
            created_by: created_by.clone(),
            origin: Some(origin),
            hosts_entry: false,
            protected: false,
            ends_at: None,
            operation: None,
            resources: Vec::new(),
            local: None,
            aws: None,
            history: History::default(),
            proof: None,
            ..source.clone()
        };
        record.begin(operation);
        record
    }
}

impl UnderWay<'_, '_> {
    /// From the durable intent to the durable result.
    async fn copy_from(&mut self, source: &Record) -> Result<Record, EngineError> {
        self.stop_if_interrupted(OperationKind::Clone)?;
        let clones = self.engine.clones(&source.name)?;
        let (copy, mut work) = self.lend();
        match clones.clone_machine(source, &copy, &mut work).await {
            Ok(()) => {}
            Err(error) if leaves_work(&error) => return Err(self.midway(OperationKind::Clone, error)),
            Err(error) => return Err(self.undo(OperationKind::Clone, error).await),
        }
        self.record.phase = source.phase;
        self.record.end(Outcome::Done, None);
        self.save_result().await?;
        Ok(self.record.clone())
    }

    /// Goes on with a clone that was interrupted.
    pub(super) async fn copy_again(&mut self) -> Result<Record, EngineError> {
        let engine = self.engine;
        let from = engine.take_source(&self.record).await?;
        engine.expect_at_rest(&from.record).await?;
        self.copy_from(&from.record).await
    }
}

impl<'a> Engine<'a> {
    /// The VM that a clone was begun from, locked; not another one that has its name now.
    async fn take_source(&self, copy: &Record) -> Result<UnderWay<'_, 'a>, EngineError> {
        let from = copy.origin.as_ref().map_or("", |origin| origin.from.as_str());
        let gone = || EngineError::Refused {
            what: format!("\"{from}\", which \"{}\" was to be a copy of, is gone", copy.name),
            hint: format!("goloo delete {}", copy.name),
        };
        let name = VmName::parse(from).map_err(|_| gone())?;
        let source = match self.take(&name).await {
            Err(EngineError::Store(StoreError::NotFound { .. })) => return Err(gone()),
            taken => taken?,
        };
        let wanted = copy.operation.as_ref().and_then(|operation| operation.source.as_ref());
        if wanted != Some(&source.record.id) {
            return Err(gone());
        }
        super::refuse_unfinished(&source.record)?;
        Ok(source)
    }
}
