//! How a stack differs from the snapshot that a VM was created from.

use std::path::Path;

use goloo_model::record::Digest;
use goloo_model::store::{SNAPSHOT_FILES, Snapshot};
use goloo_sys::read;

/// The difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drift {
    /// There is none.
    None,
    /// In these files.
    Changed(Vec<FileChange>),
    /// The stack's folder no longer exists or can't be read.
    Gone,
    /// Not compared, since somebody else may have written the folder's path.
    Unknown,
}

/// A file that was changed, added or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// Its name.
    pub file: &'static str,
    /// Its content in the snapshot; `None` when it was not there.
    pub before: Option<Vec<u8>>,
    /// Its content now; `None` when it is not there.
    pub now: Option<Vec<u8>>,
}

impl Drift {
    /// The stable word for it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Changed(_) => "changed",
            Self::Gone => "gone",
            Self::Unknown => "unknown",
        }
    }

    /// The files that differ.
    pub fn changes(&self) -> &[FileChange] {
        match self {
            Self::Changed(changes) => changes,
            Self::None | Self::Gone | Self::Unknown => &[],
        }
    }

    /// Compares a snapshot with the stack's folder as it is now. A config.json with the digest `applied` is no
    /// difference: the VM was changed to it.
    pub fn between(snapshot: &Snapshot, applied: Option<&Digest>, folder: Option<&Path>) -> Self {
        let Some(folder) = folder.filter(|folder| folder.join("config.json").is_file()) else {
            return Self::Gone;
        };
        let changes = SNAPSHOT_FILES.into_iter().map(|file| FileChange {
            file,
            before: snapshot.files.get(file).cloned(),
            now: read::file(&folder.join(file), read::FILE_MAX).ok(),
        });
        let is_applied = |change: &FileChange| {
            change.file == "config.json"
                && applied.is_some()
                && config_digest(change.now.as_deref()) == applied.cloned()
        };
        let changes: Vec<_> =
            changes.filter(|change| change.before != change.now && !is_applied(change)).collect();
        if changes.is_empty() { Self::None } else { Self::Changed(changes) }
    }
}

/// The digest by which a record names a config.json.
pub(crate) fn config_digest(config: Option<&[u8]>) -> Option<Digest> {
    let files = [("config.json".to_owned(), config?.to_vec())].into();
    Some(Snapshot { files }.digest())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_added_or_removed_file_is_drift() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |file: &str, text: &str| std::fs::write(folder.path().join(file), text).expect("written");
        let changed = |snapshot: &Snapshot| {
            let drift = Drift::between(snapshot, None, Some(folder.path()));
            drift.changes().iter().map(|change| change.file).collect::<Vec<_>>()
        };
        write("config.json", "{}");
        let mut snapshot = Snapshot::default();
        snapshot.files.insert("config.json".into(), b"{}".to_vec());
        assert_eq!(Drift::between(&snapshot, None, Some(folder.path())), Drift::None);
        write("configure.sh", "true");
        assert_eq!(changed(&snapshot), ["configure.sh"]);
        snapshot.files.insert("cloud-init.yaml".into(), b"#cloud-config\n".to_vec());
        assert_eq!(changed(&snapshot), ["cloud-init.yaml", "configure.sh"]);
        assert_eq!(Drift::between(&snapshot, None, Some(Path::new("/nowhere"))), Drift::Gone);
        assert_eq!(Drift::between(&snapshot, None, None), Drift::Gone);
    }
}
