//! A folder of this host that a machine has, as stored in `machine.json`.

use std::path::PathBuf;

use goloo_model::spec::Mount;
use serde::{Deserialize, Serialize};

/// A shared folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredFolder")]
pub struct SharedFolder {
    /// The folder.
    pub source: PathBuf,
    /// Whether QEMU refuses the guest to write.
    pub readonly: bool,
}

/// Earlier versions stored only the path.
#[derive(Deserialize)]
#[serde(untagged)]
enum StoredFolder {
    Path(PathBuf),
    Folder { source: PathBuf, readonly: bool },
}

impl From<StoredFolder> for SharedFolder {
    fn from(stored: StoredFolder) -> Self {
        match stored {
            StoredFolder::Path(source) => Self { source, readonly: false },
            StoredFolder::Folder { source, readonly } => Self { source, readonly },
        }
    }
}

impl From<&Mount> for SharedFolder {
    fn from(mount: &Mount) -> Self {
        Self { source: mount.source.clone(), readonly: mount.readonly }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn shares_of_all_versions_are_read() {
        let readonly = SharedFolder { source: "/b".into(), readonly: true };
        let written = serde_json::to_string(&readonly).unwrap();
        let read: Vec<SharedFolder> = serde_json::from_str(&format!(r#"["/a", {written}]"#)).unwrap();
        assert_eq!(read, [SharedFolder { source: "/a".into(), readonly: false }, readonly]);
    }
}
