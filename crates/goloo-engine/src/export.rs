//! Export: a stopped VM is written to a file, under its lock. The VM and its record stay as they are.

use goloo_model::hint::{Hint, NextStep};
use goloo_model::name::VmName;
use goloo_model::provider::{Exports, LiveState, ProviderError, Work};
use goloo_model::record::Record;
use goloo_model::store::Snapshot;

use crate::engine::Engine;
use crate::error::EngineError;

/// A stopped VM that nobody else can start while it is written.
pub struct VmAtRest<'a> {
    /// Its record, without an operation.
    pub record: &'a Record,
    /// The files that it was created from.
    pub snapshot: &'a Snapshot,
    /// What its provider can do.
    pub exports: &'a dyn Exports,
}

impl<'a> Engine<'a> {
    /// Runs `write` with a stopped VM that has no unfinished operation.
    pub async fn export<T>(
        &self,
        name: &VmName,
        write: impl AsyncFnOnce(VmAtRest<'_>, &mut dyn Work) -> T,
    ) -> Result<T, EngineError> {
        let exports = self.exports(name)?;
        let mut locked = self.take(name).await?;
        if let Some(operation) = &locked.record.operation {
            return Err(EngineError::Unfinished { name: name.clone(), kind: operation.kind });
        }
        crate::engine::refuse_unfinished(&locked.record)?;
        self.expect_stopped(&locked.record).await?;
        let snapshot = locked.lock.snapshot().await?;
        let (record, mut work) = locked.lend();
        Ok(write(VmAtRest { record: &record, snapshot: &snapshot, exports }, &mut work).await)
    }

    fn exports(&self, name: &VmName) -> Result<&'a dyn Exports, EngineError> {
        self.provider.exports().ok_or_else(|| {
            EngineError::Unrecorded(ProviderError::Unsupported {
                what: format!("{} doesn't support exports", self.provider.id()),
                hint: Hint::from("copy what you need: ").step(NextStep::CopyFrom(name.clone())),
            })
        })
    }

    async fn expect_stopped(&self, record: &Record) -> Result<(), EngineError> {
        let name = &record.name;
        let refused = |what, hint| Err(EngineError::Unrecorded(ProviderError::Unsupported { what, hint }));
        match self.state_of(record).await {
            LiveState::Stopped => Ok(()),
            LiveState::Running => refused(
                format!("\"{name}\" is running and must be stopped before it can be exported"),
                NextStep::stop(name).into(),
            ),
            LiveState::Missing => Err(EngineError::Refused {
                what: format!("the machine of \"{name}\" no longer exists"),
                hint: NextStep::Delete(name.clone()).text(" archives its record"),
            }),
            _ => refused(
                format!("it is unknown whether \"{name}\" is stopped"),
                NextStep::Status(name.clone()).text(" shows why"),
            ),
        }
    }
}
