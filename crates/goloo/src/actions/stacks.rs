//! Stacks: where they are, whether they changed, and the library.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use goloo_model::name::VmName;
use goloo_model::spec::Diagnostic;
use goloo_model::store::SNAPSHOT_FILES;

use crate::error::{Error, RequestError};
use crate::files::{self, Staged};
use crate::library::{Library, files_of, others_in};
use crate::preflight;
use crate::registry::{Known, Registry};
use crate::session::Session;
use crate::stack::{self, Found, Lookup, Place};

/// A stack compared with the registry's entry for its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StackState {
    /// No VM was created from it.
    New,
    /// Its files are the same as when a VM was last created from it.
    Unchanged,
    /// Its files have changed since.
    Changed,
    /// Its files are the same, and the recorded folder no longer exists.
    Moved,
    /// The last VM was created from a stack of this name in another folder.
    Elsewhere(PathBuf),
    /// Its folder no longer exists.
    Gone,
}

impl StackState {
    /// The stable word for it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Unchanged => "unchanged",
            Self::Changed => "changed",
            Self::Moved => "moved",
            Self::Elsewhere(_) => "elsewhere",
            Self::Gone => "gone",
        }
    }

    /// The state of a stack in this folder, whose files have this digest.
    fn of(folder: &Path, digest: Option<&str>, known: Option<&Known>) -> Self {
        let Some(known) = known else { return Self::New };
        let is_same = digest == Some(known.digest.as_str());
        match known.folder == folder {
            true if is_same => Self::Unchanged,
            true => Self::Changed,
            false if is_stack(&known.folder) => Self::Elsewhere(known.folder.clone()),
            false if is_same => Self::Moved,
            false => Self::Changed,
        }
    }
}

/// A stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedStack {
    /// Its name.
    pub name: String,
    /// Where `create` finds it; `None` when only the registry has it.
    pub place: Option<Place>,
    /// Its folder.
    pub folder: PathBuf,
    /// Whether it changed.
    pub state: StackState,
    /// The registry's entry for the name.
    pub known: Option<Known>,
    /// The folder of a stack with the same files, if the registered folder no longer exists.
    pub seems_at: Option<PathBuf>,
}

impl ListedStack {
    /// The stable word for its place: `registry` when only the registry has it.
    pub fn place_word(&self) -> &'static str {
        self.place.map_or("registry", Place::as_str)
    }
}

/// A valid stack.
#[derive(Debug)]
pub struct ValidStack {
    /// Its folder.
    pub folder: PathBuf,
    /// What may be wrong with it.
    pub warnings: Vec<Diagnostic>,
}

/// A stack that was copied into the library.
#[derive(Debug)]
pub struct ImportedStack {
    /// The folder that it was copied from.
    pub source: PathBuf,
    /// Its folder in the library.
    pub folder: PathBuf,
    /// The files that were not copied.
    pub others: Vec<String>,
}

impl Session {
    /// The stacks in all places, and those that only the registry has, by name. `known` is what the registry has.
    pub fn stacks(&self, mut known: BTreeMap<String, Known>) -> Vec<ListedStack> {
        let mut digests: Vec<(String, PathBuf)> = Vec::new();
        let mut stacks = Vec::new();
        for (name, (place, folder)) in stack::all(&self.paths.config) {
            let digest = digest(&folder, &name);
            let known = known.remove(&name);
            let state = StackState::of(&folder, digest.as_deref(), known.as_ref());
            digests.extend(digest.map(|digest| (digest, folder.clone())));
            stacks.push(ListedStack { name, place: Some(place), folder, state, known, seems_at: None });
        }
        stacks.extend(known.into_iter().map(|(name, known)| only_registered(name, known, &digests)));
        stacks.sort_by(|a, b| a.name.cmp(&b.name));
        stacks
    }

    /// The stack that `create` uses: by its name, or in a folder. `known` is what the registry has.
    ///
    /// # Errors
    /// As [`Self::last_folder`] and [`Lookup::find`].
    pub fn find_stack(
        &self,
        name: &str,
        folder: Option<&Path>,
        known: &BTreeMap<String, Known>,
    ) -> Result<Found, Error> {
        let last = self.last_folder(known, name)?;
        Lookup { given: name, folder, last, config_dir: &self.paths.config }.find(&*self.events)
    }

    /// The stack in a folder, or in the folder's subfolder of this name.
    ///
    /// # Errors
    /// As [`Lookup::find`].
    pub fn stack_in(&self, name: &str, folder: &Path) -> Result<Found, Error> {
        let lookup = Lookup { given: name, folder: Some(folder), last: None, config_dir: &self.paths.config };
        lookup.find(&*self.events)
    }

    /// Checks a stack: by its name, by its folder, or the one in the working directory.
    ///
    /// # Errors
    /// [`StackError::Invalid`](crate::stack::StackError::Invalid) with all problems; as [`Lookup::find`].
    pub fn validate(&self, name: Option<String>, folder: Option<PathBuf>) -> Result<ValidStack, Error> {
        let here = std::env::current_dir().map_err(RequestError::NoWorkingDirectory)?;
        let folder = folder.or_else(|| name.is_none().then(|| here.clone()));
        let place = folder.as_deref().unwrap_or(&here);
        let named =
            name.or_else(|| std::path::absolute(place).ok()?.file_name()?.to_str().map(str::to_owned));
        let given = named.unwrap_or_else(|| "stack".to_owned());
        let folder = folder.as_deref();
        let lookup = Lookup { given: &given, folder, last: None, config_dir: &self.paths.config };
        let found = lookup.find(&*self.events)?;
        let (stack, mut warnings) = found.examine(self, &given)?;
        let here = preflight::findings(&found, &stack, self.provider_info(self.local_provider()?)?);
        if !here.problems.is_empty() {
            return Err(found.invalid(here.problems));
        }
        warnings.extend(here.warnings);
        Ok(ValidStack { folder: found.folder().to_owned(), warnings })
    }

    /// Saves the new folder of a stack that was moved, and returns it.
    ///
    /// # Errors
    /// [`RequestError::UnregisteredStack`]; as [`Self::stack_in`].
    pub fn relocate_stack(&self, name: &str, folder: &Path) -> Result<PathBuf, Error> {
        let found = self.stack_in(name, folder)?;
        let folder = found.folder().to_owned();
        let is_registered = Registry::new(&self.paths.state).relocate(&*self.events, name, &folder)?;
        match is_registered {
            true => Ok(folder),
            false => Err(RequestError::UnregisteredStack { name: name.to_owned(), folder }.into()),
        }
    }

    /// Copies a stack into the library. `force` replaces one that is there.
    ///
    /// # Errors
    /// As [`Library::import`].
    pub fn import_stack(&self, name: &VmName, folder: &Path, force: bool) -> Result<ImportedStack, Error> {
        let source = self.stack_in(name.as_str(), folder)?.folder().to_owned();
        let library = Library::of(self);
        library.import(self, name, &source, force)?;
        let others = others_in(&source).unwrap_or_default();
        Ok(ImportedStack { source, folder: library.place(name), others })
    }

    /// Copies a stack of the library into a folder, which is created when it doesn't exist, and returns the folder.
    /// `force` replaces files of a stack that is there.
    ///
    /// # Errors
    /// [`RequestError::ForeignFile`], [`RequestError::FileExists`], and when a file can't be read or written.
    pub fn export_stack(&self, name: &VmName, folder: &Path, force: bool) -> Result<PathBuf, Error> {
        let found = Library::of(self).read(name)?;
        // Without a trailing slash: it would require an existing folder.
        let target = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        let target: PathBuf = target.components().collect();
        if target.exists() {
            // Also when it is empty: it may be the working directory of a process.
            into_folder(&found, name, &target, force)?;
        } else {
            new_folder(&found, name, &target)?;
        }
        Ok(target)
    }
}

/// A stack that only the registry has, with the folder that a VM was last created from.
fn only_registered(name: String, known: Known, digests: &[(String, PathBuf)]) -> ListedStack {
    let folder = known.folder.clone();
    let state = match is_stack(&folder) {
        true => StackState::of(&folder, digest(&folder, &name).as_deref(), Some(&known)),
        false => StackState::Gone,
    };
    let same = || digests.iter().find(|(digest, _)| *digest == known.digest);
    let seems_at = (state == StackState::Gone).then(same).flatten().map(|(_, folder)| folder.clone());
    ListedStack { name, place: None, folder, state, known: Some(known), seems_at }
}

fn is_stack(folder: &Path) -> bool {
    folder.join("config.json").is_file()
}

/// `None` when it can't be read, which counts as changed.
fn digest(folder: &Path, name: &str) -> Option<String> {
    Found::read(folder, name).ok().map(|found| found.digest())
}

/// Creates the folder in one step.
fn new_folder(found: &Found, name: &VmName, target: &Path) -> Result<(), Error> {
    let failed = |error: io::Error| Error::cannot("write", target, error);
    goloo_sys::umask::restore();
    let above = target.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(above).map_err(failed)?;
    let staged = Staged::copy(found.folder(), &files_of(found.folder()), target).map_err(failed)?;
    staged.share().map_err(failed)?;
    // Another process may have created it just now.
    if staged.publish(target).map_err(failed)? { Ok(()) } else { into_folder(found, name, target, false) }
}

/// Copies into a folder that has files: replaces none of them without `force`.
fn into_folder(found: &Found, name: &VmName, target: &Path, force: bool) -> Result<(), Error> {
    let there = files_of(target);
    if let Some(foreign) = there.iter().find(|file| found.file(file).is_none()) {
        return Err(RequestError::ForeignFile { path: target.join(foreign), name: name.clone() }.into());
    }
    let exists =
        |path: PathBuf, can_replace| RequestError::FileExists { path, can_replace, name: name.clone() };
    if let Some(first) = there.first().filter(|_| !force) {
        return Err(exists(target.join(first), true).into());
    }
    // config.json last: it makes the folder a stack.
    for file in SNAPSHOT_FILES.iter().rev() {
        let Some(content) = found.file(file) else { continue };
        let path = target.join(file);
        let written = if force { files::replace(&path, content) } else { files::write_new(&path, content) };
        written.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => exists(path.clone(), false).into(),
            _ => Error::cannot("write", &path, error),
        })?;
    }
    Ok(())
}
