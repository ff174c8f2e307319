//! VMs whose records came into the store by `state push`, `restore` or `move` without proof that they were created
//! with this state folder: a small file in it, one id per line. In a private store all others are the user's own.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use goloo_core::name::VmId;
use goloo_core::record::Record;
use goloo_os::private::in_shell;
use goloo_os::read;

use crate::app::App;
use crate::error::CliError;
use crate::files;

fn file(state: &Path) -> PathBuf {
    state.join("imported-vms")
}

/// Their ids; `None` where the file can't be read: then any record may be one of them.
pub fn read(state: &Path) -> Option<BTreeSet<VmId>> {
    match read::text(&file(state), read::FILE_MAX) {
        Ok(text) => text.lines().map(|line| VmId::parse(line).ok()).collect(),
        Err(error) => (error.kind() == ErrorKind::NotFound).then(BTreeSet::new),
    }
}

/// Adds those of these records that aren't proven. Call it before they are written to the store.
///
/// # Errors
/// When the file can't be read or written, or gets too large: nothing may be imported then.
pub fn note<'r>(app: &App, records: impl IntoIterator<Item = &'r Record>) -> Result<(), CliError> {
    let (path, here) = (file(&app.paths.state), app.here());
    let unproven = records.into_iter().filter(|record| !here.created(record)).map(|record| record.id.clone());
    let unproven: BTreeSet<VmId> = unproven.collect();
    if unproven.is_empty() {
        return Ok(());
    }
    let failed = |error: io::Error| CliError::cannot("write", &path, &error);
    let _lock = files::lock(&path.with_extension("lock"), &app.ui).map_err(failed)?;
    let mut known = read(&app.paths.state).ok_or_else(|| {
        let what = format!("{} is damaged, so nothing is imported", path.display());
        CliError::failed(
            what,
            format!("rm {}; it lists imported records, which are trusted then", in_shell(&path)),
        )
    })?;
    known.extend(unproven);
    let lines: String = known.iter().map(|id| format!("{id}\n")).collect();
    if lines.len() as u64 > read::FILE_MAX {
        let what = format!("nothing was imported: {} would list {} records", path.display(), known.len());
        return Err(CliError::failed(what, "import them into a state folder of their own (GOLOO_STATE_DIR)"));
    }
    files::replace(&path, lines.as_bytes()).map_err(failed)
}
