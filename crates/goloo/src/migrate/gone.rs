//! Remembers which machines of old configs were gone at a migration, so that `list` doesn't show them. It lies in the
//! cache: without it they are shown until the next migration.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use goloo_core::record::Record;
use goloo_os::read;

use crate::files;

/// The machines that are gone.
pub struct Gone {
    path: PathBuf,
    lines: BTreeSet<String>,
}

impl Gone {
    /// Reads what is known; a file that isn't there knows nothing.
    pub fn read(cache: &Path) -> Self {
        let path = cache.join("gone-old-vms");
        let text = read::text(&path, read::FILE_MAX).unwrap_or_default();
        Self { path, lines: text.lines().map(str::to_owned).collect() }
    }

    /// Whether the machine was gone before.
    pub fn knows(&self, record: &Record) -> bool {
        self.lines.contains(&line(record))
    }

    /// Notes that it is. Where that can't be written, `list` goes on showing it.
    pub fn note(&self, record: &Record) {
        let folder = self.path.parent().map_or(Ok(()), files::ensure_folder);
        let open = || OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path);
        let file = folder.and_then(|()| open());
        // In one call, so that two processes don't mix their lines.
        let _ = file.and_then(|mut file| file.write_all(format!("{}\n", line(record)).as_bytes()));
    }
}

/// The machine and the config. Another address is another machine, that the first goloo has made since.
fn line(record: &Record) -> String {
    let id = record.resources.first().map(|resource| &resource.id);
    let from = record.origin.as_ref().map(|origin| &origin.from);
    serde_json::json!([record.provider, id, record.ip(), from]).to_string()
}
