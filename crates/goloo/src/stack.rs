//! Where stacks lie, and reading one. Nothing here writes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use goloo_core::cloud_init::{self, ComposeInput, HostKey, compose};
use goloo_core::record::UserKeys;
use goloo_core::spec::{self, Problem, Resolved, ResolvedStack, Sources};
use goloo_core::store::{SNAPSHOT_FILES, Snapshot};
use goloo_os::read;

use crate::app::App;
use crate::error::CliError;
use crate::files;
use crate::output::Ui;
use crate::preflight;

/// A search for a stack.
pub struct Lookup<'a> {
    /// The name on the command line.
    pub given: &'a str,
    /// `-f`: the stack itself, or the folder that it is in.
    pub folder: Option<&'a Path>,
    /// The folder that this name was last created from.
    pub last: Option<LastFolder>,
    /// goloo's folder for settings, which has the library of stacks.
    pub config_dir: &'a Path,
}

/// Where a stack was when a VM was last made from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LastFolder {
    /// As this computer remembers it.
    Known(PathBuf),
    /// As a record says that somebody else may have written: it is named, and not read.
    OfOthers(PathBuf),
}

impl LastFolder {
    fn known(&self) -> Option<&Path> {
        match self {
            Self::Known(folder) => Some(folder),
            Self::OfOthers(_) => None,
        }
    }
}

impl Lookup<'_> {
    /// Finds and reads the stack. The error names every place that was tried.
    pub fn find(&self, ui: &Ui) -> Result<Found, CliError> {
        let places = self.places();
        if let Some(folder) = places.iter().find(|place| place.join("config.json").is_file()) {
            return Found::read(folder, self.given);
        }
        let last = self.last.as_ref().and_then(LastFolder::known);
        if let Some(last) = last.filter(|last| last.join("config.json").is_file()) {
            ui.note(&format!(
                "using the stack that \"{}\" was last created from: {}",
                self.given,
                last.display()
            ));
            return Found::read(last, self.given);
        }
        Err(self.not_found(&places))
    }

    fn places(&self) -> Vec<PathBuf> {
        if let Some(folder) = self.folder {
            return vec![folder.to_owned(), folder.join(self.given)];
        }
        folders_of_stacks(self.config_dir).map(|folder| folder.join(self.given)).collect()
    }

    fn not_found(&self, places: &[PathBuf]) -> CliError {
        let hint = if self.given.contains(['/', '.']) {
            format!("a path goes behind -f: goloo create NAME -f {}", self.given)
        } else if let Some(LastFolder::OfOthers(folder)) = &self.last {
            format!(
                "the record names {}, which this computer doesn't know; where you trust it, goloo create {} -f PATH",
                folder.display(),
                self.given
            )
        } else if self.last.is_some() {
            format!(
                "goloo config relocate {} DIR says where its folder is now; -f PATH names one",
                self.given
            )
        } else {
            format!("goloo init base ./stacks/{} writes one there; -f PATH names a folder", self.given)
        };
        let mut error = CliError::not_found(format!("there is no stack \"{}\"", self.given), hint);
        let last = self.last.as_ref().and_then(LastFolder::known);
        let tried = places.iter().map(PathBuf::as_path).chain(last);
        let tried = tried.map(|place| absolute(place).join("config.json"));
        error.causes = tried.map(|place| format!("{} isn't there", place.display())).collect();
        error
    }
}

/// Where `create` looks for a stack by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The folder in `GOLOO_STACK_FOLDER`.
    Variable,
    /// `./stacks`.
    Here,
    /// The library.
    Library,
}

impl Place {
    /// The word in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Variable => "GOLOO_STACK_FOLDER",
            Self::Here => "stacks",
            Self::Library => "library",
        }
    }
}

fn places(config_dir: &Path) -> impl Iterator<Item = (Place, PathBuf)> {
    let variable = std::env::var_os("GOLOO_STACK_FOLDER").filter(|value| !value.is_empty());
    let variable = variable.map(|folder| (Place::Variable, folder.into()));
    let others = [(Place::Here, "stacks".into()), (Place::Library, config_dir.join("stacks"))];
    variable.into_iter().chain(others)
}

/// The folders in which `create` looks for a stack by its name; they needn't be there.
pub fn folders_of_stacks(config_dir: &Path) -> impl Iterator<Item = PathBuf> {
    places(config_dir).map(|(_, folder)| folder)
}

/// The stacks in all places where `create` looks by itself, by name; of two with one name the one that
/// `create` would take.
pub fn all(config_dir: &Path) -> BTreeMap<String, (Place, PathBuf)> {
    let mut stacks = BTreeMap::new();
    for (place, folder) in places(config_dir) {
        for (name, path) in stacks_in(&folder) {
            stacks.entry(name).or_insert_with(|| (place, absolute(&path)));
        }
    }
    stacks
}

/// The names of the library's stacks, also of those that `create` finds elsewhere first.
pub fn in_library(config_dir: &Path) -> BTreeSet<String> {
    let library = places(config_dir).filter(|(place, _)| *place == Place::Library);
    library.flat_map(|(_, folder)| stacks_in(&folder)).map(|(name, _)| name).collect()
}

/// The stacks in a folder, with their names; one that isn't there has none.
fn stacks_in(folder: &Path) -> impl Iterator<Item = (String, PathBuf)> + use<> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let named = entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()));
    named.filter(|(name, path)| path.join("config.json").is_file() && !files::is_staged(name))
}

/// The path that leads to the same place from every folder.
pub fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}

/// A stack's files, byte for byte.
#[derive(Debug)]
pub struct Found {
    folder: PathBuf,
    name: String,
    files: Snapshot,
}

impl Found {
    /// Reads the stack in this folder.
    pub fn read(folder: &Path, given: &str) -> Result<Self, CliError> {
        let folder = absolute(folder);
        let folders = preflight::folders_in_place_of_files(&folder);
        if !folders.is_empty() {
            return Err(CliError::invalid(folders, format!("fix the files in {}", folder.display())));
        }
        let mut files = Snapshot::default();
        for file in SNAPSHOT_FILES {
            if let Some(content) = read_file(&folder.join(file))? {
                files.files.insert(file.to_owned(), content);
            }
        }
        let name = folder.file_name().map_or(given.into(), |name| name.to_string_lossy()).into_owned();
        Ok(Self { folder, name, files })
    }

    /// The files of a VM's snapshot; relative paths in them count from `folder`.
    pub fn from_snapshot(files: Snapshot, name: &str, folder: PathBuf) -> Self {
        Self { folder, name: name.to_owned(), files }
    }

    /// One of its files; `None` when it hasn't got it.
    pub fn file(&self, file: &str) -> Option<&[u8]> {
        self.files.files.get(file).map(Vec::as_slice)
    }

    /// The same stack with another text in one of its files.
    pub fn with_file(&self, file: &str, content: Vec<u8>) -> Self {
        let mut files = self.files.clone();
        files.files.insert(file.to_owned(), content);
        Self { folder: self.folder.clone(), name: self.name.clone(), files }
    }

    /// The SHA-256 of the files with their names; the same wherever the stack lies.
    pub fn digest(&self) -> String {
        self.files.digest().as_str().to_owned()
    }

    /// The stack's folder, absolute.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The files, for the record.
    pub fn snapshot(&self) -> Snapshot {
        self.files.clone()
    }

    /// The stack with all defaults filled in; notes and warnings are shown.
    pub fn resolve(&self, app: &App, given: &str, as_name: Option<&str>) -> Result<ResolvedStack, CliError> {
        let resolved = self.resolved(app, given, as_name)?;
        resolved.warnings.iter().for_each(|warning| app.ui.warning(&warning.to_string()));
        Ok(resolved.stack)
    }

    /// The same; only notes are shown.
    fn resolved(&self, app: &App, given: &str, as_name: Option<&str>) -> Result<Resolved, CliError> {
        let file = |name: &str| self.files.files.get(name).map(Vec::as_slice);
        let sources = Sources {
            given,
            as_name,
            stack: &self.name,
            folder: &self.folder,
            config: file("config.json").unwrap_or_default(),
            cloud_init: file("cloud-init.yaml"),
            configure: file("configure.sh"),
            home: &app.paths.home,
        };
        let resolved = spec::resolve(&sources).map_err(|problems| self.invalid(problems))?;
        resolved.notes.iter().for_each(|note| app.ui.note(note));
        Ok(resolved)
    }

    /// What is wrong with the files, as an error.
    pub fn invalid(&self, problems: Vec<Problem>) -> CliError {
        CliError::invalid(problems, format!("fix the files in {}", self.folder.display()))
    }

    /// Checks all that can be checked without fetching keys and without a provider; warnings are shown.
    pub fn check(&self, app: &App, given: &str) -> Result<(), CliError> {
        let (_, warnings) = self.examine(app, given)?;
        warnings.iter().for_each(|warning| app.ui.warning(&warning.to_string()));
        Ok(())
    }

    /// The same; the warnings come back with the stack.
    pub fn examine(&self, app: &App, given: &str) -> Result<(ResolvedStack, Vec<Problem>), CliError> {
        let Resolved { stack, mut warnings, .. } = self.resolved(app, given, None)?;
        let users = stack.users.iter().map(|user| UserKeys {
            username: user.username.clone(),
            github_username: None,
            keys: if user.keys.is_empty() { Vec::new() } else { vec![SOME_KEY.to_owned()] },
        });
        let input = ComposeInput {
            stack: &stack,
            users: &users.collect::<Vec<_>>(),
            client_key: SOME_KEY,
            host_key: &HostKey::generate(),
            provider: app.local_provider(),
        };
        let composed = compose(&input).map_err(|problems| self.invalid(problems))?;
        warnings.extend(composed.warnings.iter().map(|text| of_document(text)));
        warnings.extend(composed.findings);
        Ok((stack, warnings))
    }
}

/// A warning about the document as a whole.
fn of_document(text: &str) -> Problem {
    let prefix = format!("{}: ", cloud_init::FILE);
    Problem {
        file: cloud_init::FILE.to_owned(),
        pointer: String::new(),
        line: 1,
        column: 1,
        message: text.strip_prefix(&prefix).unwrap_or(text).to_owned(),
        hint: "see docs/cloud-init.md".to_owned(),
    }
}

/// A key of nobody, for checks that mustn't ask anyone for keys.
const SOME_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA nobody";

/// A file of a stack; `None` when it isn't there.
pub fn read_file(path: &Path) -> Result<Option<Vec<u8>>, CliError> {
    match read::file(path, read::FILE_MAX) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == ErrorKind::FileTooLarge => Err(CliError::usage(
            format!("{} is larger than {} KiB", path.display(), read::FILE_MAX >> 10),
            "fetch large files from cloud-init instead of writing them into it",
        )),
        Err(error) => Err(CliError::cannot("read", path, &error)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::args::Color;

    fn ui() -> Ui {
        Ui::new(Color::Never, 0, false)
    }

    fn stack(folder: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("config.json"), "{}").unwrap();
    }

    fn lookup<'a>(folder: Option<&'a Path>, last: Option<PathBuf>, config_dir: &'a Path) -> Lookup<'a> {
        Lookup { given: "web", folder, last: last.map(LastFolder::Known), config_dir }
    }

    #[test]
    fn a_path_may_be_the_stack_or_the_folder_that_it_is_in() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        stack(&root.join("web"));
        for place in [root.clone(), root.join("web")] {
            let found = lookup(Some(&place), None, Path::new("/nowhere")).find(&ui()).unwrap();
            assert_eq!(found.folder(), root.join("web"));
        }
    }

    #[test]
    fn the_library_comes_before_the_last_folder() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        let last = root.join("elsewhere");
        stack(&last);
        let found = lookup(None, Some(last.clone()), &root).find(&ui()).unwrap();
        assert_eq!(found.folder(), last);
        stack(&root.join("stacks/web"));
        let found = lookup(None, Some(last), &root).find(&ui()).unwrap();
        assert_eq!(found.folder(), root.join("stacks/web"));
    }

    #[test]
    fn every_place_that_was_tried_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let error = lookup(None, Some("/gone/web".into()), temp.path()).find(&ui()).unwrap_err();
        let causes = error.causes.join("\n");
        for place in ["/stacks/web/config.json", "/gone/web/config.json", &temp.path().display().to_string()]
        {
            assert!(causes.contains(place), "{place} isn't in {causes}");
        }
        assert_eq!(error.code, crate::exit::NOT_FOUND);
    }

    #[test]
    fn a_folder_that_somebody_else_s_record_names_is_shown_and_not_read() {
        let temp = tempfile::tempdir().unwrap();
        let theirs = temp.path().join("theirs/web");
        stack(&theirs);
        let last = Some(LastFolder::OfOthers(theirs.clone()));
        let lookup = Lookup { last, ..lookup(None, None, temp.path()) };
        let error = lookup.find(&ui()).unwrap_err();
        assert!(
            error.hint.contains(&theirs.display().to_string()) && error.hint.contains("-f PATH"),
            "{error:?}"
        );
        assert!(!error.causes.join(" ").contains("theirs"), "it wasn't looked at: {error:?}");
    }

    #[test]
    fn a_huge_file_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        stack(&temp.path().join("web"));
        let file = std::fs::File::create(temp.path().join("web/cloud-init.yaml")).unwrap();
        file.set_len(read::FILE_MAX + 1).unwrap();
        let error = lookup(Some(temp.path()), None, temp.path()).find(&ui()).unwrap_err();
        assert!(error.message.contains("larger than 1024 KiB"), "{error:?}");
    }

    #[test]
    fn a_digest_tells_stacks_apart_and_not_where_they_lie() {
        let stack = |files: &[(&str, &str)], folder: &str| {
            let files = files.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()));
            Found::from_snapshot(Snapshot { files: files.collect() }, "web", folder.into()).digest()
        };
        let one = stack(&[("config.json", "{}"), ("configure.sh", "true")], "/a");
        assert_eq!(one, stack(&[("config.json", "{}"), ("configure.sh", "true")], "/b"));
        assert_ne!(one, stack(&[("config.json", "{}")], "/a"));
        assert_ne!(one, stack(&[("cloud-init.yaml", "true"), ("config.json", "{}")], "/a"));
        assert_ne!(one, stack(&[("config.json", "{}12 configure.sh 4 true")], "/a"));
    }
}
