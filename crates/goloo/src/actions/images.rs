//! The local image cache.

use goloo_images::{CachedImage, Freed, ImageEntry, ListedImage, Watch, build};
use goloo_model::provider_id::ProviderId;
use goloo_model::record::Digest;
use goloo_model::spec::{self, ImageRef};

use crate::error::{Error, RequestError};
use crate::session::Session;

impl Session {
    /// The cached images.
    ///
    /// # Errors
    /// When the cache can't be read.
    pub fn images(&self) -> Result<Vec<ListedImage>, Error> {
        Ok(self.qemu_settings()?.cache.list()?)
    }

    /// The provider whose images are in the cache.
    pub fn image_cache_provider(&self) -> ProviderId {
        goloo_qemu::INFO.id
    }

    /// The baked image in the cache with this key.
    ///
    /// # Errors
    /// When the cache can't be read.
    pub fn cached_bake(&self, key: &Digest) -> Result<Option<ImageEntry>, Error> {
        Ok(self.qemu_settings()?.cache.baked(key.as_str())?.map(|image| image.entry))
    }

    /// Puts an image into the cache: `text` is as in vm.image. An interrupted download continues next time.
    ///
    /// # Errors
    /// [`RequestError::InvalidImage`], and when the image can't be downloaded or used.
    pub fn pull_image(&self, text: &str, watch: &dyn Watch) -> Result<CachedImage, Error> {
        let here = std::env::current_dir().map_err(RequestError::NoWorkingDirectory)?;
        let image = spec::parse_image(text, &here, &self.paths.home)
            .map_err(|problem| RequestError::InvalidImage(Box::new(problem)))?;
        let cache = self.qemu_settings()?.cache;
        Ok(match &image {
            ImageRef::Alias(name) => cache.pull(name, watch)?,
            other => cache.ensure(other, None, watch)?,
        })
    }

    /// Builds a Debian image from packages: by default of this computer's release. Needs root on a Debian machine.
    ///
    /// # Errors
    /// When it can't be built.
    pub fn build_image(&self, name: Option<&str>, watch: &dyn Watch) -> Result<ImageEntry, Error> {
        let name = name.unwrap_or_else(|| build::host_image().unwrap_or("debian-12"));
        goloo_sys::umask::for_system_files();
        Ok(build::build(&self.qemu_settings()?.cache, name, watch)?)
    }

    /// Removes one image by its name in the list.
    ///
    /// # Errors
    /// When there is no such image, or a VM uses it.
    pub fn remove_image(&self, name: &str) -> Result<Freed, Error> {
        let settings = self.qemu_settings()?;
        Ok(settings.cache.remove(name, &settings.vms)?)
    }

    /// Removes images that no VM uses.
    ///
    /// # Errors
    /// When files can't be removed.
    pub fn prune_images(&self) -> Result<Freed, Error> {
        let settings = self.qemu_settings()?;
        Ok(settings.cache.prune(&settings.vms)?)
    }
}
