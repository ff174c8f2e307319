//! Bake: a VM is created, and if it was provisioned without errors, its disk is kept as an image from which others are
//! made. The VM is deleted in the end. All of it is one record, so that a killed bake can be resumed or deleted.

use goloo_cloudinit::generalize_script;
use goloo_model::events::Event;
use goloo_model::hint::NextStep;
use goloo_model::name::{ArchiveId, VmName};
use goloo_model::provider::{BakedImage, Bakes, LiveState, StopMode};
use goloo_model::record::{OperationKind, Outcome, Phase, Step};
use tokio::time::Instant;

use super::work::LockedOperation;
use crate::create::{CreateRequest, Created};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::guest_script;

/// The result of a bake.
#[derive(Debug)]
pub enum Baked {
    /// The image is kept; the VM that it was made of is in the archive.
    Kept {
        /// The image.
        image: BakedImage,
        /// The archived record.
        archived: ArchiveId,
    },
    /// The VM wasn't provisioned without errors, so nothing is kept of it but its archived record.
    NotGood(Box<Created>),
}

impl Engine<'_> {
    /// Creates a VM and makes a baked image of it. The request says that it is for baking.
    pub async fn bake(&self, request: CreateRequest) -> Result<Baked, EngineError> {
        let mut locked = self.claim(&request).await?;
        let created = locked.make(&request.plan.machine).await?;
        locked.end_bake(created).await
    }
}

impl LockedOperation<'_, '_> {
    /// Begins the operation that follows the create of a VM for baking; saved together with the create's end.
    pub(super) fn begin_bake(&mut self) {
        let is_good = self.record.phase == Phase::Ready;
        let kind = if is_good { OperationKind::Bake } else { OperationKind::Delete };
        self.record.begin(self.engine.operation(kind));
    }

    /// What follows the create of a VM for baking.
    pub(super) async fn end_bake(&mut self, created: Created) -> Result<Baked, EngineError> {
        if self.record.phase == Phase::Ready {
            return self.keep_baked(self.engine.deadline()).await;
        }
        self.record.phase = Phase::Deleting;
        self.remove().await?;
        Ok(Baked::NotGood(Box::new(created)))
    }

    /// From the durable intent to the archive; also what `resume` continues.
    pub(super) async fn keep_baked(&mut self, deadline: Instant) -> Result<Baked, EngineError> {
        let step = self.record.operation.as_ref().map(|operation| operation.step);
        if step == Some(Step::Intent) {
            self.generalize(deadline).await?;
        }
        let image = self.keep_image().await?;
        self.record.end(Outcome::Done, None);
        self.record.begin(self.engine.operation(OperationKind::Delete));
        self.record.phase = Phase::Deleting;
        self.save_result().await?;
        let archived = self.remove().await?;
        Ok(Baked::Kept { image, archived })
    }

    /// Removes from the machine what belongs to it alone.
    async fn generalize(&mut self, deadline: Instant) -> Result<(), EngineError> {
        self.stop_if_interrupted(OperationKind::Bake)?;
        if matches!(self.engine.state_of(&self.record).await, LiveState::Stopped | LiveState::Suspended) {
            return Err(EngineError::Refused {
                what: format!(
                    "\"{}\" was stopped while it was baked, so its disk can't become an image",
                    self.record.name
                ),
                hint: NextStep::Delete(self.record.name.clone()).text(", then bake again"),
            });
        }
        self.reach(OperationKind::Bake, deadline).await?;
        self.engine
            .events
            .event(Event::Step { what: "removing what belongs to this machine alone".to_owned() });
        let ran = guest_script::run(self.engine, &self.record, &generalize_script(), &[]).await;
        ran.map_err(|error| self.midway(OperationKind::Bake, error))?;
        if let Some(operation) = &mut self.record.operation {
            operation.step = Step::Recording;
        }
        self.save_result().await
    }

    async fn keep_image(&mut self) -> Result<BakedImage, EngineError> {
        self.stop_if_interrupted(OperationKind::Bake)?;
        let provider = self.engine.provider;
        // Before the memory is saved: copies of the machine have nothing to do with goloo's connections to it.
        self.engine.guest.end_connections(&self.record).await;
        let is_with_memory = self.record.baking.as_ref().is_some_and(|baking| baking.memory);
        let mode = if is_with_memory { StopMode::Suspend } else { StopMode::Graceful };
        let (record, mut work) = self.lend();
        let stopped = provider.stop(&record, mode, &mut work).await;
        stopped.map_err(|error| self.midway(OperationKind::Bake, error))?;
        let bakes = self.engine.bakes(&self.record.name)?;
        let Some(baking) = self.record.baking.clone() else {
            let what = format!("the record of \"{}\" doesn't say what is baked", self.record.name);
            return Err(EngineError::Refused {
                what,
                hint: NextStep::Delete(self.record.name.clone()).into(),
            });
        };
        let (record, mut work) = self.lend();
        let kept = bakes.keep(&record, &baking, &mut work).await;
        kept.map_err(|error| self.midway(OperationKind::Bake, error))
    }
}

impl<'a> Engine<'a> {
    fn bakes(&self, name: &VmName) -> Result<&'a dyn Bakes, EngineError> {
        let title = self.provider.info().title;
        self.provider.bakes().ok_or_else(|| EngineError::Refused {
            what: format!("{title} makes no baked images"),
            hint: NextStep::Delete(name.clone()).into(),
        })
    }
}
