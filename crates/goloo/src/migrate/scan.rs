//! Finds the state of goloo v0 in folders of stacks. Writes nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use goloo_model::spec::Diagnostic;
use goloo_model::spec::old_state::{self, V0Config, V0Vm, may_hold_state};
use goloo_model::store::{SNAPSHOT_FILES, Snapshot};

use crate::error::{Error, ImportFailure, MigrateError};
use crate::stack::{absolute, folders_of_stacks, foreign, read_file};

const CONFIG: &str = "config.json";

/// A VM of a v0 config.
pub struct Candidate {
    /// What the config says.
    pub vm: V0Vm,
    /// The stack's name.
    pub stack: String,
    /// The stack's folder.
    pub folder: PathBuf,
    /// The stack's files.
    pub snapshot: Snapshot,
}

impl Candidate {
    /// The path of the config that holds the state.
    pub fn from(&self) -> &str {
        &self.vm.place.file
    }

    /// That config's content.
    pub fn config(&self) -> Option<&[u8]> {
        self.snapshot.files.get(CONFIG).map(Vec::as_slice)
    }
}

/// A config, or a part of it, without a VM to import.
pub struct Skipped {
    /// The config's path.
    pub from: String,
    /// Why.
    pub reason: String,
}

/// The result of a scan.
#[derive(Default)]
pub struct Scan {
    /// The VMs.
    pub candidates: Vec<Candidate>,
    /// VMs whose name goloo no longer allows, each with the problem.
    pub unfit: Vec<(Candidate, Diagnostic)>,
    /// State without a VM to import.
    pub skipped: Vec<Skipped>,
    /// State that can't be used.
    pub failures: Vec<ImportFailure>,
    seen: BTreeSet<PathBuf>,
}

/// Whether the user named the stack's folder or its parent folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    Yes,
    No,
}

/// The entries of a folder of stacks, sorted; empty when it doesn't exist.
fn stacks_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut stacks: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    stacks.sort_unstable();
    stacks
}

impl Scan {
    /// Searches all places for stacks, and the current folder if it is a stack. Stacks of other users are skipped,
    /// since the user didn't name them.
    pub fn usual_places(config_dir: &Path) -> Self {
        let mut scan = Self::default();
        let stacks = folders_of_stacks(config_dir).flat_map(|folder| stacks_in(&folder));
        stacks.chain([PathBuf::from(".")]).for_each(|stack| scan.stack(&stack, Named::No));
        scan
    }

    /// Searches one stack, or a folder of stacks.
    ///
    /// # Errors
    /// [`MigrateError::NotAFolder`].
    pub fn of(path: &Path) -> Result<Self, MigrateError> {
        let mut scan = Self::default();
        if !path.is_dir() {
            return Err(MigrateError::NotAFolder { path: path.to_owned() });
        }
        if has_config(path) {
            scan.stack(path, Named::Yes)
        } else {
            stacks_in(path).iter().for_each(|stack| scan.stack(stack, Named::Yes));
        }
        Ok(scan)
    }

    /// Whether nothing was found: neither a VM nor a problem.
    pub fn is_empty(&self) -> bool {
        self.candidates.is_empty() && self.unfit.is_empty() && self.failures.is_empty()
    }

    fn stack(&mut self, folder: &Path, named: Named) {
        let mut configs = Vec::new();
        for name in config_names() {
            let path = folder.join(&name);
            match read_config(&path) {
                Ok(content) => configs.extend(content.map(|content| Config { name, content })),
                Err(error) => self.skipped.push(Skipped {
                    from: absolute(&path).display().to_string(),
                    reason: error.in_one_line(),
                }),
            }
        }
        if configs.iter().any(|config| may_hold_state(&config.content)) {
            let folder = absolute(folder);
            if let Some(reason) = foreign(&folder).filter(|_| named == Named::No) {
                let from = folder.display().to_string();
                return self.skipped.push(Skipped { from, reason });
            }
            // Two paths may refer to the same folder.
            if self.seen.insert(folder.clone()) {
                self.read(&folder, &configs);
            }
        }
    }

    fn read(&mut self, folder: &Path, configs: &[Config]) {
        let path = |config: &Config| folder.join(&config.name).display().to_string();
        let paths: Vec<String> = configs.iter().map(path).collect();
        let (mut own, mut beside) = (None, Vec::new());
        for (config, path) in configs.iter().zip(&paths) {
            let old = V0Config { path, bytes: &config.content };
            if config.name == CONFIG { own = Some(old) } else { beside.push(old) }
        }
        let stack = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let state = old_state::read(&stack, own, &beside);
        self.failures.extend(state.diagnostics.into_iter().map(ImportFailure::Invalid));
        for (place, why) in state.passed_over {
            let reason = format!("line {}: {why}", place.line);
            self.skipped.push(Skipped { from: place.file, reason });
        }
        let valid = state.vms.into_iter().map(|vm| (vm, None));
        let unfit = state.unfit.into_iter().map(|(vm, problem)| (vm, Some(problem)));
        for (vm, unfit) in valid.chain(unfit) {
            let config = configs.iter().zip(&paths).find(|(_, path)| **path == vm.place.file);
            let Some((config, _)) = config else { continue };
            match snapshot(folder, config) {
                Ok(snapshot) => {
                    let candidate =
                        Candidate { vm, stack: stack.clone(), folder: folder.to_owned(), snapshot };
                    match unfit {
                        None => self.candidates.push(candidate),
                        Some(problem) => self.unfit.push((candidate, problem)),
                    }
                }
                Err(error) => {
                    let failure = ImportFailure::Unreadable { place: vm.place, error: Box::new(error) };
                    self.failures.push(failure);
                }
            }
        }
    }
}

/// A config of a stack; its name is relative to the stack's folder.
struct Config {
    name: String,
    content: Vec<u8>,
}

/// The configs that may have state: the stack's own, and those in the folders next to it.
fn config_names() -> impl Iterator<Item = String> {
    let beside = old_state::FOLDERS.map(|folder| format!("{folder}/{CONFIG}"));
    std::iter::once(CONFIG.to_owned()).chain(beside)
}

fn has_config(folder: &Path) -> bool {
    config_names().any(|name| folder.join(name).is_file())
}

/// A config's content; `None` when it doesn't exist or isn't a regular file.
fn read_config(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    if path.is_file() { read_file(path) } else { Ok(None) }
}

/// The files that the VM was created from. Those next to its config take precedence over the stack's.
fn snapshot(stack: &Path, config: &Config) -> Result<Snapshot, Error> {
    let mut snapshot = Snapshot::default();
    let beside = stack.join(&config.name);
    for file in SNAPSHOT_FILES {
        let content = match read_file(&beside.with_file_name(file))? {
            Some(content) => Some(content),
            None => read_file(&stack.join(file))?,
        };
        snapshot.files.extend(content.map(|content| (file.to_owned(), content)));
    }
    // The content that the state was read from.
    snapshot.files.insert(CONFIG.to_owned(), config.content.clone());
    Ok(snapshot)
}
