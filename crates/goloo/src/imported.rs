//! VMs whose records came into the store by `state push`, `restore` or `move` without proof that they were created
//! with this state folder: a small file in it, one id per line. In a private store all others are the user's own.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use goloo_core::name::VmId;
use goloo_core::record::Record;
use goloo_os::read;

use crate::app::App;
use crate::error::CliError;
use crate::files;

fn file(state: &Path) -> PathBuf {
    state.join("imported-vms")
}

/// Their ids; none where the file doesn't exist or can't be read.
pub fn read(state: &Path) -> BTreeSet<VmId> {
    let text = read::text(&file(state), read::FILE_MAX).unwrap_or_default();
    text.lines().filter_map(|line| VmId::parse(line).ok()).collect()
}

/// Adds those of these records that aren't proven. Call it before they are written to the store.
///
/// # Errors
/// When the file can't be written: nothing may be imported then.
pub fn note<'r>(app: &App, records: impl IntoIterator<Item = &'r Record>) -> Result<(), CliError> {
    let (state, here) = (&app.paths.state, app.here());
    let known = read(state);
    let unproven = records.into_iter().filter(|record| !here.created(record) && !known.contains(&record.id));
    let lines: String = unproven.map(|record| format!("{}\n", record.id)).collect();
    if lines.is_empty() {
        return Ok(());
    }
    let path = file(state);
    let open = || OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
    let written = files::ensure_folder(state).and_then(|()| open()).and_then(|mut file| {
        file.write_all(lines.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| CliError::cannot("write", &path, &error))
}
