//! The VMs that a command works on: those that are named, else the one that is meant.

use std::collections::BTreeSet;

use goloo::actions::DefaultVm;
use goloo_model::name::VmName;

use crate::app::App;
use crate::error::CliError;
use crate::exit;
use crate::options::{OptionalVm, VmArg, VmsArg};

/// How many names an error lists.
const NAMES_SHOWN: usize = 8;

impl VmArg {
    /// The VM.
    pub fn of(&self, app: &App) -> Result<VmName, CliError> {
        Ok(app.session.vm_of_word(&self.name)?)
    }
}

impl OptionalVm {
    /// The VM that is named; else the one that is meant, with a note.
    pub fn of(&self, app: &App) -> Result<VmName, CliError> {
        match &self.name {
            Some(name) => Ok(app.session.vm_of_word(name)?),
            None => default_vm(app),
        }
    }
}

impl VmsArg {
    /// The VMs that are named, each once; all VMs here with `--all`; else the one that is meant, with a note.
    pub fn of(&self, app: &App) -> Result<Vec<VmName>, CliError> {
        if self.all {
            return all_here(app);
        }
        if self.names.is_empty() {
            return Ok(vec![default_vm(app)?]);
        }
        distinct(app, &self.names)
    }
}

/// The VMs that words on the command line mean, each once: VMs, environments, and machines of those.
pub fn distinct(app: &App, words: &[String]) -> Result<Vec<VmName>, CliError> {
    let mut names = Vec::new();
    for word in words {
        names.extend(app.session.vms_of_word(word)?);
    }
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    Ok(names)
}

/// All VMs on this computer.
pub fn all_here(app: &App) -> Result<Vec<VmName>, CliError> {
    let names = app.session.vms_here()?;
    if names.is_empty() {
        return Err(none("there are no VMs on this computer"));
    }
    Ok(names)
}

/// The VM that is meant where none is named, with a note.
pub fn default_vm(app: &App) -> Result<VmName, CliError> {
    // Without a working directory there is no stack in it.
    let here = std::env::current_dir().unwrap_or_default();
    match app.session.default_vm(&here)? {
        DefaultVm::OfFolder(name) => {
            app.ui.note(&format!("using {name}, which was created from the stack in this folder"));
            Ok(name)
        }
        DefaultVm::Only(name) => {
            app.ui.note(&format!("using {name}, the only VM"));
            Ok(name)
        }
        DefaultVm::None => Err(none("there are no VMs")),
        DefaultVm::Several(names) => Err(several(&names)),
    }
}

fn none(message: &str) -> CliError {
    CliError::new(exit::NOT_FOUND, "not-found", message, "run `goloo create NAME` to create one from a stack")
}

fn several(names: &[VmName]) -> CliError {
    let shown: Vec<_> = names.iter().take(NAMES_SHOWN).map(VmName::as_str).collect();
    let more = if names.len() > NAMES_SHOWN { ", ..." } else { "" };
    let message = match names {
        [] => "a VM must be named, since records can't be read".to_owned(),
        [one] => format!("a VM must be named: {one} may not be the only one, since records can't be read"),
        _ => format!("a VM must be named: there are {} ({}{more})", names.len(), shown.join(", ")),
    };
    CliError::usage(message, "add the VM's NAME; `goloo list` lists all VMs")
}
