//! What a VM is made for, if its disk is to be kept as an image.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::digest::Digest;

/// That a VM exists only to become a baked image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Baking {
    /// The key of the image: a digest of all that went into it.
    pub key: Digest,
    /// Whether the machine's memory is kept too, so that copies of it don't boot.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub memory: bool,
}
