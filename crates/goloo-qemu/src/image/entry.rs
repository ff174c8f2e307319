//! What the cache knows of one image.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use goloo_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::arch::Arch;

/// How an image came into the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Downloaded from its publisher, by its alias.
    Published,
    /// Built on this machine from packages.
    Built,
    /// Downloaded from an address that the user gave.
    Url,
    /// Copied from a file of the user.
    Path,
}

impl Origin {
    /// The word in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Built => "built",
            Self::Url => "url",
            Self::Path => "path",
        }
    }
}

/// A disk image's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// QEMU's own.
    Qcow2,
    /// The disk's bytes as they are.
    Raw,
}

impl Format {
    /// As QEMU names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
        }
    }
}

/// A user's file as it was when it was copied.
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

/// What the cache knows of one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Alias, address or path.
    pub name: String,
    /// The guest's architecture.
    pub arch: Arch,
    /// How it came here.
    pub origin: Origin,
    /// Its SHA-256.
    pub sha256: String,
    /// Its format.
    pub format: Format,
    /// Its size as a file, in bytes.
    pub bytes: u64,
    /// The size of the disk that it holds, in bytes.
    pub virtual_size: u64,
    /// When it came here.
    pub taken_at: Timestamp,
    /// The digest in the publisher's list, to see whether there is a newer one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) published_digest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stamp: Option<Stamp>,
}
