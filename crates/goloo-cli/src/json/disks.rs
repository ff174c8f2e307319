//! Snapshots of disks, and exports of VMs.

use goloo::actions::ExportedVm;
use goloo_model::name::SnapshotLabel;
use goloo_model::provider::DiskSnapshot;
use goloo_model::time::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

/// A snapshot was taken.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TakenSnapshot<'a> {
    snapshot: Label<'a>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Label<'a> {
    label: &'a str,
}

impl<'a> TakenSnapshot<'a> {
    pub fn new(label: &'a SnapshotLabel) -> Self {
        Self { snapshot: Label { label: label.as_str() } }
    }
}

/// A snapshot was deleted.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DeletedSnapshot<'a> {
    /// The label
    pub deleted: &'a str,
}

/// A disk was restored.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Restored<'a> {
    /// The label of the snapshot
    pub restored: &'a str,
}

/// The snapshots of a VM's disk, oldest first.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SnapshotList<'a> {
    snapshots: Vec<ListedSnapshot<'a>>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ListedSnapshot<'a> {
    label: &'a str,
    /// null if the provider doesn't report it
    created_at: Option<Timestamp>,
}

impl<'a> From<&'a [DiskSnapshot]> for SnapshotList<'a> {
    fn from(all: &'a [DiskSnapshot]) -> Self {
        let listed = |one: &'a DiskSnapshot| ListedSnapshot { label: &one.label, created_at: one.created_at };
        Self { snapshots: all.iter().map(listed).collect() }
    }
}

/// A VM was exported.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Exported<'a> {
    export: ExportedFile<'a>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ExportedFile<'a> {
    /// The VM's name
    name: &'a str,
    /// The VM's id
    id: &'a str,
    /// The absolute path of the file
    file: String,
    /// The size of the file in bytes
    bytes: u64,
}

impl<'a> From<&'a ExportedVm> for Exported<'a> {
    fn from(exported: &'a ExportedVm) -> Self {
        let ExportedVm { name, id, file, bytes } = exported;
        let file = file.to_string_lossy().into_owned();
        Self { export: ExportedFile { name: name.as_str(), id: id.as_str(), file, bytes: *bytes } }
    }
}
