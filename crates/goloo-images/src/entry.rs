//! What the cache knows about one image.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use goloo_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::arch::Arch;

/// How an image was added to the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageOrigin {
    /// Downloaded from its publisher by alias.
    Published,
    /// Built on this machine from packages.
    Built,
    /// Downloaded from an address the user gave.
    Url,
    /// Copied from a user's file.
    Path,
    /// Made of a machine that was provisioned by a stack.
    Baked,
}

impl ImageOrigin {
    /// The word used in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Built => "built",
            Self::Url => "url",
            Self::Path => "path",
            Self::Baked => "baked",
        }
    }
}

/// A disk image's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// QEMU's own format.
    Qcow2,
    /// The raw bytes of the disk.
    Raw,
}

impl Format {
    /// The name QEMU uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
        }
    }
}

/// Identifies the version of a user's file that was copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stamp {
    size: u64,
    modified_s: i64,
    modified_ns: i64,
    inode: u64,
}

impl Stamp {
    pub fn of(data: &Metadata) -> Self {
        Self { size: data.len(), modified_s: data.mtime(), modified_ns: data.mtime_nsec(), inode: data.ino() }
    }
}

/// What the cache knows about one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageEntry {
    /// Alias, address or path.
    pub name: String,
    /// The guest's architecture.
    pub arch: Arch,
    /// How it was added.
    pub origin: ImageOrigin,
    /// Its SHA-256.
    pub sha256: String,
    /// Its format.
    pub format: Format,
    /// The size of the file, in bytes.
    pub bytes: u64,
    /// The size of the disk that it holds, in bytes.
    pub virtual_size: u64,
    /// When it was added.
    pub taken_at: Timestamp,
    /// The digest in the publisher's list, to detect a newer version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) published_digest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stamp: Option<Stamp>,
    /// The memory of the machine that it was made of, if that was kept too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryEntry>,
}

/// The saved memory of a machine, in a file beside its image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryEntry {
    /// The size of the file, in bytes.
    pub bytes: u64,
    /// What kind of machine can load it; only the provider reads this.
    pub machine: serde_json::Value,
}
