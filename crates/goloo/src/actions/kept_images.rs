//! Baked images that providers keep, rather than the image cache.

use goloo_images::baked_name;
use goloo_model::provider::{KeptImage, KeptImageState, KeptImages, Provider};
use goloo_model::provider_id::ProviderId;
use goloo_model::record::Record;
use goloo_model::store::StoreError;

use crate::error::{Error, RequestError};
use crate::session::Session;
use goloo_engine::plan::PlanError;

/// A baked image that a provider keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedKeptImage {
    /// The image.
    pub image: KeptImage,
    /// Whether a VM was made from it, or is being baked into it.
    pub in_use: bool,
}

impl ListedKeptImage {
    fn of(image: KeptImage, records: &[Record]) -> Self {
        let is_user = |record: &Record| {
            image.key.is_some() && record.baked_from == image.key || image.vm.as_ref() == Some(&record.id)
        };
        Self { in_use: records.iter().any(is_user), image }
    }

    /// The name by which it can be removed, together with the others of its stack.
    pub fn name(&self) -> String {
        baked_name(&self.image.stack)
    }

    /// Whether `prune` removes it. One that the provider is still making may be somebody else's bake.
    pub fn is_unused(&self) -> bool {
        !self.in_use && self.image.state != KeptImageState::Pending
    }
}

impl Session {
    /// The baked images that this provider keeps.
    ///
    /// # Errors
    /// [`RequestError::NoKeptImages`]; errors of the store and the provider.
    pub fn kept_images(&self, provider: ProviderId) -> Result<Vec<ListedKeptImage>, Error> {
        let records = self.local(self.store.records())?;
        self.kept_beside(
            provider,
            &records.entries.into_iter().map(|loaded| loaded.record).collect::<Vec<_>>(),
        )
    }

    fn kept_beside(&self, provider: ProviderId, records: &[Record]) -> Result<Vec<ListedKeptImage>, Error> {
        let provider = self.provider(provider)?;
        let known: Vec<&Record> = records.iter().filter(|record| record.provider == provider.id()).collect();
        let images = self.wait_for(kept(&*provider)?.list(&known))?.map_err(PlanError::Provider)?;
        Ok(images.into_iter().map(|image| ListedKeptImage::of(image, records)).collect())
    }

    /// Removes images by the id of one, or by the name that all of a stack have. Returns what was removed.
    ///
    /// # Errors
    /// [`RequestError::NoSuchKeptImage`] and [`RequestError::KeptImageInUse`]: nothing is removed then; as
    /// [`Self::kept_images`].
    pub fn remove_kept_images(&self, provider: ProviderId, name: &str) -> Result<Vec<KeptImage>, Error> {
        let (named, others): (Vec<_>, Vec<_>) = self
            .kept_images(provider)?
            .into_iter()
            .partition(|listed| listed.image.id == name || listed.name() == name);
        if named.is_empty() {
            let known = others.iter().map(ListedKeptImage::name).collect();
            return Err(RequestError::NoSuchKeptImage { name: name.to_owned(), known }.into());
        }
        if named.iter().any(|listed| listed.in_use) {
            return Err(RequestError::KeptImageInUse { name: name.to_owned() }.into());
        }
        self.remove_each(provider, named)
    }

    /// Removes those of these images that no VM uses. Returns what was removed.
    ///
    /// # Errors
    /// [`StoreError::Broken`]: a record that can't be read may be of a VM that uses one; as [`Self::kept_images`].
    pub fn prune_kept_images(
        &self,
        provider: ProviderId,
        images: Vec<KeptImage>,
    ) -> Result<Vec<KeptImage>, Error> {
        let records = self.local(self.store.records())?;
        if let Some(broken) = records.broken.into_iter().next() {
            return Err(StoreError::Broken(broken).into());
        }
        let records: Vec<Record> = records.entries.into_iter().map(|loaded| loaded.record).collect();
        let mut unused: Vec<_> =
            images.into_iter().map(|image| ListedKeptImage::of(image, &records)).collect();
        unused.retain(ListedKeptImage::is_unused);
        self.remove_each(provider, unused)
    }

    fn remove_each(
        &self,
        provider: ProviderId,
        images: Vec<ListedKeptImage>,
    ) -> Result<Vec<KeptImage>, Error> {
        let provider = self.provider(provider)?;
        let kept = kept(&*provider)?;
        let mut removed = Vec::new();
        for ListedKeptImage { image, .. } in images {
            self.wait_for(kept.remove(&image))?.map_err(PlanError::Provider)?;
            removed.push(image);
        }
        Ok(removed)
    }
}

fn kept(provider: &dyn Provider) -> Result<&dyn KeptImages, RequestError> {
    let kept = provider.bakes().and_then(|bakes| bakes.kept());
    kept.ok_or_else(|| RequestError::NoKeptImages { provider: provider.id() })
}
