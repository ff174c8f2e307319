//! What is in the file: its members, their order and their largest sizes, and the manifest.

use goloo_model::record::MAX_RECORD_BYTES;
use goloo_model::store::SNAPSHOT_FILES;
use goloo_model::text::Label;
use goloo_model::time::Timestamp;
use goloo_sys::read;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The format that this version writes and reads.
pub(super) const SCHEMA: u32 = 1;

pub(super) const MANIFEST: &str = "goloo-export.json";
pub(super) const STATE: &str = "state.json";
pub(super) const USER_DATA: &str = "user-data";
pub(super) const DISK: &str = "disk.qcow2";
/// As `sha256sum` writes it, for all members before it.
pub(super) const SUMS: &str = "SHA256SUMS";

/// The size of a header, and what members are padded to.
pub(super) const BLOCK: u64 = 512;
/// The two blocks of zeros after the last member.
pub(super) const END: u64 = 2 * BLOCK;

/// The first member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The format of the file.
    pub schema: u32,
    /// The version of goloo that wrote it.
    pub goloo: Label,
    /// When the export began.
    pub exported_at: Timestamp,
    /// Who exported it.
    pub exported_by: ExportedBy,
    /// The provider's description of the machine.
    pub machine: Value,
}

/// Who exported a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedBy {
    /// The user's login name.
    pub user: Label,
    /// The host's name.
    pub host: Label,
}

/// A member that a file may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MemberRule {
    pub(super) name: &'static str,
    /// The largest size, in bytes.
    pub(super) max: u64,
    pub(super) required: bool,
}

/// All members, in their order.
pub(super) fn members() -> Vec<MemberRule> {
    let required = |name, max| MemberRule { name, max, required: true };
    let mut members = vec![required(MANIFEST, 64 << 10), required(STATE, MAX_RECORD_BYTES as u64)];
    members.extend(SNAPSHOT_FILES.map(|name| MemberRule { name, max: read::FILE_MAX, required: false }));
    // The user-data has three files of at most 1 MiB in base64, and goloo's part.
    members.extend([required(USER_DATA, 8 << 20), required(DISK, u64::MAX >> 1), required(SUMS, 4 << 10)]);
    members
}
