//! Baked images.

use goloo::actions::ListedKeptImage;
use goloo_model::provider::{BakedImage, KeptImage};
use goloo_model::time::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

/// A baked image.
#[derive(Debug, Serialize, JsonSchema)]
pub struct BakedImageShown<'a> {
    /// A digest of all that went into it
    key: &'a str,
    /// The size of its disk in bytes: a VM made from it can't have a smaller one
    disk: u64,
    /// Its size where it is kept, in bytes
    size: u64,
    /// The size of the VM's memory where it is kept, in bytes, if it was baked too
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<u64>,
}

impl<'a> From<&'a BakedImage> for BakedImageShown<'a> {
    fn from(image: &'a BakedImage) -> Self {
        let memory = image.memory.as_ref().map(|memory| memory.size);
        Self { key: image.key.as_str(), disk: image.disk, size: image.size, memory }
    }
}

/// The baked images that a provider keeps, oldest first.
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeptImageList<'a> {
    images: Vec<KeptImageShown<'a>>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct KeptImageShown<'a> {
    /// Its id at the provider
    id: &'a str,
    /// The stack that it was made of
    stack: &'a str,
    /// A digest of all that went into it; null if the provider has none
    key: Option<&'a str>,
    /// "available", "pending", "failed", or "leftover" of a removal that was interrupted
    state: &'a str,
    /// null if the provider has no regions
    region: Option<&'a str>,
    /// null if the provider doesn't say
    created_at: Option<Timestamp>,
    /// When a VM was last made from it; null if the provider doesn't know
    last_used: Option<Timestamp>,
    /// The size of its disk in bytes
    disk: u64,
    /// Its size where it is kept in bytes, or the most that it can be
    size: u64,
    /// The ids of the snapshots that it consists of
    snapshots: &'a [String],
    /// Whether a VM was made from it, or is being baked into it
    in_use: bool,
    /// Whether a new VM of the stack can't be made from it, since the stack has changed; null if that can't be told
    stack_changed: Option<bool>,
}

impl<'a> KeptImageList<'a> {
    /// `changed` tells whether the stack of an image has changed.
    pub fn of(images: &'a [ListedKeptImage], changed: impl Fn(&KeptImage) -> Option<bool>) -> Self {
        let shown = |ListedKeptImage { image, in_use }: &'a ListedKeptImage| KeptImageShown {
            id: &image.id,
            stack: &image.stack,
            key: image.key.as_ref().map(|key| key.as_str()),
            state: image.state.as_str(),
            region: image.region.as_deref(),
            created_at: image.created_at,
            last_used: image.last_used,
            disk: image.disk,
            size: image.size,
            snapshots: &image.snapshots,
            in_use: *in_use,
            stack_changed: changed(image),
        };
        Self { images: images.iter().map(shown).collect() }
    }
}
