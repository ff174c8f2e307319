//! Baked images.

use goloo_model::provider::BakedImage;
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
