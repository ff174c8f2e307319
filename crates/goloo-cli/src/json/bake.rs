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
}

impl<'a> From<&'a BakedImage> for BakedImageShown<'a> {
    fn from(image: &'a BakedImage) -> Self {
        Self { key: image.key.as_str(), disk: image.disk, size: image.size }
    }
}
