//! Saves which machines of v0 configs were missing at a migration, so that they aren't listed. The file is in the
//! cache: without it they are listed until the next migration.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use goloo_model::record::Record;
use goloo_sys::read;

use crate::files;

/// The machines that no longer exist.
pub struct MissingVms {
    path: PathBuf,
    lines: BTreeSet<String>,
}

impl MissingVms {
    /// Reads the file; a missing file means that no machine was missing.
    pub fn read(cache: &Path) -> Self {
        let path = cache.join("gone-old-vms");
        let text = read::text(&path, read::FILE_MAX).unwrap_or_default();
        Self { path, lines: text.lines().map(str::to_owned).collect() }
    }

    /// Whether the machine was missing before.
    pub fn contains(&self, record: &Record) -> bool {
        self.lines.contains(&line(record))
    }

    /// Adds a machine. If the file can't be written, the machine is listed again.
    pub fn add(&self, record: &Record) {
        let folder = self.path.parent().map_or(Ok(()), files::ensure_folder);
        let open = || OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path);
        let file = folder.and_then(|()| open());
        // Written in one call, so that concurrent processes don't interleave their lines.
        let _ = file.and_then(|mut file| file.write_all(format!("{}\n", line(record)).as_bytes()));
    }
}

/// Identifies the machine and the config. A different address means a different machine, which goloo v0 created later.
fn line(record: &Record) -> String {
    let id = record.resources.first().map(|resource| &resource.id);
    let from = record.origin.as_ref().map(|origin| &origin.from);
    serde_json::json!([record.provider, id, record.ip(), from]).to_string()
}
