//! VMs whose records were imported by `state push`, `restore` or `move` without proof that they were created with this
//! state folder. Stored as a small file in it, one id per line. In a private store, all other records are the user's
//! own.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use goloo_model::events::Events;
use goloo_model::name::VmId;
use goloo_model::record::{LocalContext, Record};
use goloo_sys::read;

use crate::error::{Error, StateFile, StateFileError};
use crate::files;

fn file(state: &Path) -> PathBuf {
    state.join("imported-vms")
}

/// Their ids; `None` if the file can't be read, in which case any record may be one of them.
pub fn read(state: &Path) -> Option<BTreeSet<VmId>> {
    match read::own_text(&file(state), read::FILE_MAX) {
        Ok(text) => text.lines().map(|line| VmId::parse(line).ok()).collect(),
        Err(error) => (error.kind() == ErrorKind::NotFound).then(BTreeSet::new),
    }
}

/// Adds the ids of those records that are unproven. Call it before the records are written to the store.
///
/// # Errors
/// When the file can't be read or written, or gets too large: nothing may be imported in that case.
pub fn note<'r>(
    state: &Path,
    here: &LocalContext,
    events: &dyn Events,
    records: impl IntoIterator<Item = &'r Record>,
) -> Result<(), Error> {
    let path = file(state);
    let unproven = records.into_iter().filter(|record| !here.created(record)).map(|record| record.id.clone());
    let unproven: BTreeSet<VmId> = unproven.collect();
    if unproven.is_empty() {
        return Ok(());
    }
    let failed = |error: io::Error| Error::cannot("write", &path, error);
    let _lock = files::lock(&path.with_extension("lock"), events).map_err(failed)?;
    let mut known = read(state)
        .ok_or_else(|| StateFileError::Damaged { path: path.clone(), file: StateFile::Imported })?;
    known.extend(unproven);
    let lines: String = known.iter().map(|id| format!("{id}\n")).collect();
    if lines.len() as u64 > read::FILE_MAX {
        return Err(StateFileError::TooMany { path, records: known.len() }.into());
    }
    files::replace(&path, lines.as_bytes()).map_err(failed)
}
