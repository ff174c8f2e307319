//! Baked images: the disks of provisioned machines, in the image cache.

use std::path::Path;

use async_trait::async_trait;
use goloo_images::{Arch, CachedImage, ImageEntry, ImageError, NewMemory, Watch, qemu_img};
use goloo_model::events::{Event, Events};
use goloo_model::hint::NextStep;
use goloo_model::provider::{BakedImage, BakedMemory, Bakes, Machine, ProviderError, Template, Work};
use goloo_model::record::{Baking, Digest, Record};
use goloo_model::spec::ResolvedStack;

use crate::args::Files;
use crate::blocking;
use crate::context::QemuProvider;
use crate::error::{end_failed, image_failed, missing};
use crate::launch;
use crate::machine::MachineFile;
use crate::saved_machine::SavedMachine;
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

    async fn find(&self, key: &Digest, stack: &ResolvedStack) -> Result<Option<BakedImage>, ProviderError> {
        let found = self.settings.cache.baked(key.as_str()).map_err(image_failed)?;
        let Some(image) = found else { return Ok(None) };
        let mut baked = baked(key, &image.entry);
        if let (Some(memory), Some(entry)) = (&mut baked.memory, &image.entry.memory) {
            memory.unusable = match serde_json::from_value(entry.machine.clone()) {
                Ok(saved) => self.memory_mismatch(&saved, stack)?,
                Err(_) => Some("another version of goloo saved it".to_owned()),
            };
        }
        Ok(Some(baked))
    }

    fn check_memory(&self, stack: &ResolvedStack) -> Result<(), ProviderError> {
        let refused = |what: &str, hint: &str| {
            Err(ProviderError::Unsupported { what: what.to_owned(), hint: hint.to_owned().into() })
        };
        if !stack.mounts.is_empty() {
            let what =
                "the memory of a VM can't be saved while it has folders of this computer mounted (vm.mounts)";
            return refused(what, "omit --memory, or remove vm.mounts");
        }
        if Arch::host() != Arch::X86_64 {
            // Copies would repeat random numbers: nothing tells the guest that its memory was loaded.
            return refused("memory can be baked on x86_64 only", "omit --memory");
        }
        Ok(())
    }

    async fn keep(
        &self,
        record: &Record,
        baking: &Baking,
        work: &mut dyn Work,
    ) -> Result<BakedImage, ProviderError> {
        let (saved, files) = if baking.memory {
            let (saved, files) = self.with_memory(record)?;
            (Some(saved), files)
        } else {
            (None, self.at_rest(record, "baking")?.1)
        };
        work.step("making the image");
        let (cache, key) = (self.settings.cache.clone(), baking.key.as_str().to_owned());
        let name = format!("baked:{}", record.stack);
        let kept = blocking::watched(work, move |watch| {
            let file = files.memory();
            let memory = saved.map(|machine| NewMemory { file: &file, machine });
            let flatten = |target: &Path| flatten(cache.qemu_img(), &files.disk(), target);
            cache.add_baked(&key, &name, memory, watch, flatten)
        })
        .await?
        .map_err(|KeepError(error)| error)?;
        Ok(baked(&baking.key, &kept))
    }

    async fn template(&self, record: &Record) -> Result<Option<Template>, ProviderError> {
        self.template_of(record)
    }

    async fn open(&self, record: &Record, _: &mut dyn Work) -> Result<(), ProviderError> {
        self.open_ports(record).await
    }
}

impl QemuProvider {
    /// What the memory of a suspended machine is of, as the image cache keeps it.
    fn with_memory(&self, record: &Record) -> Result<(serde_json::Value, Files), ProviderError> {
        let files = self.files(record);
        let io = |source| end_failed(files.folder(), source);
        let noted = MachineFile::load(&files).map_err(io)?.ok_or_else(|| missing(record, &files))?;
        let (Some(suspended), Some(host_key)) = (&noted.suspended, &noted.host_key) else {
            return Err(ProviderError::failed(
                format!("the memory of \"{}\" was discarded", record.name),
                NextStep::Delete(record.name.clone()).text(", then bake again"),
            ));
        };
        let template =
            Template { id: record.id.clone(), name: record.name.clone(), host_key: host_key.clone() };
        let saved = SavedMachine {
            kind: self.kind_of(&noted)?,
            machine_type: suspended.machine_type.clone(),
            template: template.into(),
        };
        Ok((serde_json::to_value(saved).expect("it has only string keys"), files))
    }

    /// The baked image that a machine is made from.
    pub(crate) fn baked_image(&self, key: &Digest, machine: &Machine) -> Result<CachedImage, ProviderError> {
        let found = self.settings.cache.baked(key.as_str()).map_err(image_failed)?;
        found.ok_or_else(|| {
            ProviderError::failed(
                format!("the baked image of the stack {} was removed meanwhile", machine.stack.stack),
                NextStep::Delete(machine.name.clone()).text(", then create it again"),
            )
        })
    }
}

fn baked(key: &Digest, entry: &ImageEntry) -> BakedImage {
    let memory = entry.memory.as_ref().map(|memory| BakedMemory { size: memory.bytes, unusable: None });
    BakedImage { key: key.clone(), disk: entry.virtual_size, size: entry.bytes, memory }
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
