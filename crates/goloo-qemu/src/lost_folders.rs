//! Which folders running machines have lost, because a virtiofsd was killed.

use std::io;
use std::path::{Path, PathBuf};

use crate::machine::{self, MachineFile};
use crate::process;
use crate::shared_folder::SharedFolder;
use crate::virtiofs::{Virtiofs, process_name};

/// A folder that a running machine has lost.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LostFolder {
    pub(crate) machine: String,
    pub(crate) source: PathBuf,
}

/// The folders that running machines have lost.
pub(crate) fn find(vms: &Path) -> io::Result<Vec<LostFolder>> {
    let mut lost = Vec::new();
    for machine in machine::all(vms)? {
        lost.extend(lost_by(vms, &machine)?);
    }
    Ok(lost)
}

fn lost_by(vms: &Path, machine: &MachineFile) -> io::Result<Vec<LostFolder>> {
    let files = machine::folder_of(vms, &machine.id);
    if machine.virtiofs != Virtiofs::Used || machine::running(&files, machine)?.is_none() {
        return Ok(Vec::new());
    }
    let alive = process::names_of_shares(files.folder())?;
    let is_lost =
        |(index, _): &(usize, &SharedFolder)| !alive.contains(&process_name(files.folder(), *index));
    let lost = machine.mounts.iter().enumerate().filter(is_lost);
    Ok(lost
        .map(|(_, folder)| LostFolder { machine: machine.name.clone(), source: folder.source.clone() })
        .collect())
}
