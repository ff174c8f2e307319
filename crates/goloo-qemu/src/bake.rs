//! Baked images: the disks of provisioned machines, in the image cache.

use std::path::Path;

use async_trait::async_trait;
use goloo_images::{CachedImage, ImageEntry, ImageError, Watch, baked_name, qemu_img};
use goloo_model::events::{Event, Events};
use goloo_model::hint::NextStep;
use goloo_model::provider::{BakedImage, Bakes, Machine, ProviderError, Work};
use goloo_model::record::{Baking, Digest, Record};
use goloo_model::spec::ResolvedStack;

use crate::blocking;
use crate::context::QemuProvider;
use crate::error::image_failed;
use crate::launch;
use crate::snapshot::image_options;

#[async_trait]
impl Bakes for QemuProvider {
    async fn base(&self, stack: &ResolvedStack) -> Result<Option<String>, ProviderError> {
        let cached = self.settings.cache.cached(&stack.image, stack.image_sha256.as_deref());
        Ok(cached.map(|entry| entry.sha256))
    }

    async fn fetch_base(
        &self,
        stack: &ResolvedStack,
        events: &dyn Events,
        interrupted: &(dyn Fn() -> bool + Sync),
    ) -> Result<String, ProviderError> {
        let watcher = Watcher { events, interrupted };
        let image = self.settings.cache.ensure(&stack.image, stack.image_sha256.as_deref(), &watcher);
        Ok(image.map_err(image_failed)?.entry.sha256)
    }

    async fn find(&self, _: &ResolvedStack, key: &Digest) -> Result<Option<BakedImage>, ProviderError> {
        let found = self.settings.cache.baked(key.as_str()).map_err(image_failed)?;
        Ok(found.map(|image| baked(key, &image.entry)))
    }

    async fn keep(
        &self,
        record: &Record,
        baking: &Baking,
        work: &mut dyn Work,
    ) -> Result<BakedImage, ProviderError> {
        let (_, files) = self.at_rest(record, "baking")?;
        work.step("making the image");
        let (cache, key) = (self.settings.cache.clone(), baking.key.as_str().to_owned());
        let name = baked_name(&record.stack.to_string());
        let kept = blocking::watched(work, move |watch| {
            cache.add_baked(&key, &name, watch, |target| flatten(cache.qemu_img(), &files.disk(), target))
        })
        .await?
        .map_err(|KeepError(error)| error)?;
        Ok(baked(&baking.key, &kept))
    }
}

impl QemuProvider {
    /// The baked image that a machine is made from.
    pub(crate) fn baked_image(&self, key: &Digest, machine: &Machine) -> Result<CachedImage, ProviderError> {
        let found = self.settings.cache.baked(key.as_str()).map_err(image_failed)?;
        self.settings.cache.note_use(key.as_str());
        found.ok_or_else(|| {
            ProviderError::failed(
                format!("the baked image of the stack {} was removed meanwhile", machine.stack.stack),
                NextStep::Delete(machine.name.clone()).text(", then create it again"),
            )
        })
    }
}

fn baked(key: &Digest, entry: &ImageEntry) -> BakedImage {
    BakedImage { key: key.clone(), disk: entry.virtual_size, size: entry.bytes }
}

/// A disk as one file, without the images below it.
fn flatten(program: &Path, disk: &Path, target: &Path) -> Result<(), KeepError> {
    let mut command = qemu_img::command(program);
    command.args(["convert", "-q", "-O", "qcow2", "--image-opts"]).arg(image_options(disk)).arg(target);
    launch::run_qemu_img(command, "the disk can't be copied").map(drop).map_err(KeepError)
}

struct KeepError(ProviderError);

impl From<ImageError> for KeepError {
    fn from(error: ImageError) -> Self {
        Self(image_failed(error))
    }
}

/// Watches work of the image cache before there is an operation.
struct Watcher<'w> {
    events: &'w dyn Events,
    interrupted: &'w (dyn Fn() -> bool + Sync),
}

impl Watch for Watcher<'_> {
    fn event(&self, event: Event) {
        self.events.event(event);
    }

    fn stopped(&self) -> bool {
        (self.interrupted)()
    }
}
