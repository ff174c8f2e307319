//! Finds the first goloo's state in folders of stacks. Nothing here writes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use goloo_core::spec::Problem;
use goloo_core::spec::old_state::{self, OldConfig, OldVm, may_hold_state};
use goloo_core::store::{SNAPSHOT_FILES, Snapshot};

use crate::error::CliError;
use crate::stack::{absolute, folders_of_stacks, read_file};

const CONFIG: &str = "config.json";

/// A VM that an old config speaks of.
pub struct Candidate {
    /// What the config says.
    pub vm: OldVm,
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

/// A place that leads to no new VM.
pub struct Skipped {
    /// The config's path.
    pub from: String,
    /// Why.
    pub reason: String,
}

/// All that was found.
#[derive(Default)]
pub struct Scan {
    /// The VMs.
    pub candidates: Vec<Candidate>,
    /// VMs whose name goloo doesn't allow any more, each with the problem.
    pub unfit: Vec<(Candidate, Problem)>,
    /// State that leads to no VM.
    pub skipped: Vec<Skipped>,
    /// State that can't be taken.
    pub problems: Vec<Problem>,
    seen: BTreeSet<PathBuf>,
}

impl Scan {
    /// Looks into all places where stacks lie, and into the current folder when it is a stack.
    pub fn usual_places(config_dir: &Path) -> Self {
        let mut scan = Self::default();
        for folder in folders_of_stacks(config_dir) {
            scan.folder_of_stacks(&folder);
        }
        scan.stack(Path::new("."));
        scan
    }

    /// Looks into one stack, or into a folder of stacks.
    pub fn of(path: &Path) -> Result<Self, CliError> {
        let mut scan = Self::default();
        if !path.is_dir() {
            let message = format!("{} is no folder", path.display());
            return Err(CliError::not_found(
                message,
                "give a stack's folder, or the folder that stacks are in",
            ));
        }
        if has_config(path) {
            scan.stack(path)
        } else {
            scan.folder_of_stacks(path)
        }
        Ok(scan)
    }

    /// Nothing was found that anybody needs to know of.
    pub fn is_empty(&self) -> bool {
        self.candidates.is_empty() && self.unfit.is_empty() && self.problems.is_empty()
    }

    fn folder_of_stacks(&mut self, folder: &Path) {
        // A place that isn't there has no stacks.
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut stacks: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        stacks.sort_unstable();
        stacks.iter().for_each(|stack| self.stack(stack));
    }

    fn stack(&mut self, folder: &Path) {
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
            // One folder may be reached in two ways.
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
            let old = OldConfig { path, bytes: &config.content };
            if config.name == CONFIG { own = Some(old) } else { beside.push(old) }
        }
        let stack = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let state = old_state::read(&stack, own, &beside);
        self.problems.extend(state.problems);
        for (place, why) in state.passed_over {
            let reason = format!("line {}: {why}", place.line);
            self.skipped.push(Skipped { from: place.file, reason });
        }
        let sound = state.vms.into_iter().map(|vm| (vm, None));
        let unfit = state.unfit.into_iter().map(|(vm, problem)| (vm, Some(problem)));
        for (vm, unfit) in sound.chain(unfit) {
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
                Err(error) => self.problems.push(vm.place.problem(error.in_one_line(), error.hint)),
            }
        }
    }
}

/// A config of a stack; its name is a path from the stack's folder.
struct Config {
    name: String,
    content: Vec<u8>,
}

/// The configs that may hold state: the stack's own, and those in the folders beside it.
fn config_names() -> impl Iterator<Item = String> {
    let beside = old_state::FOLDERS.map(|folder| format!("{folder}/{CONFIG}"));
    std::iter::once(CONFIG.to_owned()).chain(beside)
}

fn has_config(folder: &Path) -> bool {
    config_names().any(|name| folder.join(name).is_file())
}

/// A config's content; `None` when there is no such file, or no file to read to its end.
fn read_config(path: &Path) -> Result<Option<Vec<u8>>, CliError> {
    if path.is_file() { read_file(path) } else { Ok(None) }
}

/// The files that the VM was made from. Those beside its config count before the stack's.
fn snapshot(stack: &Path, config: &Config) -> Result<Snapshot, CliError> {
    let mut snapshot = Snapshot::default();
    let beside = stack.join(&config.name);
    for file in SNAPSHOT_FILES {
        let content = match read_file(&beside.with_file_name(file))? {
            Some(content) => Some(content),
            None => read_file(&stack.join(file))?,
        };
        snapshot.files.extend(content.map(|content| (file.to_owned(), content)));
    }
    // As it was when its state was read.
    snapshot.files.insert(CONFIG.to_owned(), config.content.clone());
    Ok(snapshot)
}
