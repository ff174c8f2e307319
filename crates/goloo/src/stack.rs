//! Finds and reads stacks. Writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use goloo_cloudinit::{self, ComposeInput, compose};
use goloo_model::events::{Event, Events};
use goloo_model::host_key::HostKey;
use goloo_model::name::VmName;
use goloo_model::record::{Digest, Overrides, Record, UserKeys};
use goloo_model::spec::{self, Diagnostic, Resolved, ResolvedStack, Sources};
use goloo_model::store::{SNAPSHOT_FILES, Snapshot};
use goloo_sys::{private, read};

use crate::error::Error;
use crate::files;
use crate::render::ProcessRenderer;
use crate::session::Session;

pub use crate::error::{LastFolder, StackError, problem_count};

/// A search for a stack.
pub struct Lookup<'a> {
    /// The name on the command line.
    pub given: &'a str,
    /// The stack's folder or its parent folder, if named.
    pub folder: Option<&'a Path>,
    /// The folder that this name was last created from.
    pub last: Option<LastFolder>,
    /// goloo's settings folder, which contains the stack library.
    pub config_dir: &'a Path,
}

impl Lookup<'_> {
    /// Finds and reads the stack.
    ///
    /// # Errors
    /// [`StackError::NotFound`], which names every place that was tried; as [`Found::read`].
    pub fn find(&self, events: &dyn Events) -> Result<Found, Error> {
        let places = self.places();
        if let Some(folder) = places.iter().find(|place| place.join("config.json").is_file()) {
            if self.folder.is_none() {
                refuse_of_others(folder)?;
            }
            return Found::read(folder, self.given);
        }
        let last = self.last.as_ref().and_then(LastFolder::known);
        if let Some(last) = last.filter(|last| last.join("config.json").is_file()) {
            events.event(Event::Note(format!(
                "using the stack that \"{}\" was last created from: {}",
                self.given,
                last.display()
            )));
            return Found::read(last, self.given);
        }
        Err(self.not_found(&places).into())
    }

    fn places(&self) -> Vec<PathBuf> {
        if let Some(folder) = self.folder {
            return vec![folder.to_owned(), folder.join(self.given)];
        }
        folders_of_stacks(self.config_dir).map(|folder| folder.join(self.given)).collect()
    }

    fn not_found(&self, places: &[PathBuf]) -> StackError {
        let last = self.last.as_ref().and_then(LastFolder::known);
        let tried = places.iter().map(PathBuf::as_path).chain(last);
        let tried = tried.map(|place| absolute(place).join("config.json")).collect();
        StackError::NotFound { name: self.given.to_owned(), tried, last: self.last.clone() }
    }
}

/// Why a stack that was found by its name may belong to another user: in a world-writable folder, anyone can create
/// `./stacks`. The parent folder's permissions decide who may replace the stack.
pub fn foreign(folder: &Path) -> Option<String> {
    let files = SNAPSHOT_FILES.map(|file| folder.join(file));
    let mut places = [folder.to_owned()].into_iter().chain(files).chain(folder.parent().map(Path::to_owned));
    places.find_map(|place| private::foreign(&place))
}

fn refuse_of_others(folder: &Path) -> Result<(), StackError> {
    match foreign(folder) {
        Some(reason) => Err(StackError::Exposed { folder: absolute(folder), reason }),
        None => Ok(()),
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
    /// The name in tables and JSON.
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

/// The folders in which `create` looks for a stack by its name; they may not exist.
pub fn folders_of_stacks(config_dir: &Path) -> impl Iterator<Item = PathBuf> {
    places(config_dir).map(|(_, folder)| folder)
}

/// The stacks in all places where `create` looks, by name; of two with the same name, the one that
/// `create` would use.
pub fn all(config_dir: &Path) -> BTreeMap<String, (Place, PathBuf)> {
    let mut stacks = BTreeMap::new();
    for (place, folder) in places(config_dir) {
        for (name, path) in stacks_in(&folder) {
            stacks.entry(name).or_insert_with(|| (place, absolute(&path)));
        }
    }
    stacks
}

/// The names of the library's stacks, also of those that `create` would find elsewhere first.
pub fn in_library(config_dir: &Path) -> BTreeSet<String> {
    let library = places(config_dir).filter(|(place, _)| *place == Place::Library);
    library.flat_map(|(_, folder)| stacks_in(&folder)).map(|(name, _)| name).collect()
}

/// The stacks in a folder, with their names; empty when the folder doesn't exist.
fn stacks_in(folder: &Path) -> impl Iterator<Item = (String, PathBuf)> + use<> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let named = entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()));
    named.filter(|(name, path)| path.join("config.json").is_file() && !files::is_staged(name))
}

/// The absolute path.
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
    ///
    /// # Errors
    /// [`StackError::Invalid`] and [`StackError::TooLarge`], and when a file can't be read.
    pub fn read(folder: &Path, given: &str) -> Result<Self, Error> {
        let folder = absolute(folder);
        let problems = folders_in_place_of_files(&folder);
        if !problems.is_empty() {
            return Err(StackError::Invalid { problems, folder }.into());
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

    /// The files of a VM's snapshot; relative paths in them are resolved from `folder`.
    pub fn from_snapshot(files: Snapshot, name: &str, folder: PathBuf) -> Self {
        Self { folder, name: name.to_owned(), files }
    }

    /// The files of the snapshot that a record's VM was created from.
    pub fn of_record(files: Snapshot, record: &Record) -> Self {
        let folder = record.source_config_path.as_deref().map(Path::to_owned);
        let folder = folder.unwrap_or_else(|| PathBuf::from(record.stack.as_str()));
        Self::from_snapshot(files, &record.stack, folder)
    }

    /// One of its files; `None` when it doesn't have it.
    pub fn file(&self, file: &str) -> Option<&[u8]> {
        self.files.files.get(file).map(Vec::as_slice)
    }

    /// The SHA-256 of config.json; `None` when there is none.
    pub(crate) fn config_digest(&self) -> Option<Digest> {
        crate::drift::config_digest(self.file("config.json"))
    }

    /// As [`Self::resolve`], with overrides in its config.json. What is wrong with an override is reported as such, since
    /// its place isn't in the file.
    pub(crate) fn resolve_with(
        &self,
        session: &Session,
        overrides: &Overrides,
        given: &str,
        as_name: Option<&VmName>,
    ) -> Result<ResolvedStack, Error> {
        if overrides.is_empty() {
            return self.resolve(session, given, as_name);
        }
        match self.overridden(overrides)?.resolve(session, given, as_name) {
            // The file itself is reported first.
            Err(Error::Stack(StackError::Invalid { mut problems, folder })) => {
                self.resolved(session, given, as_name)?;
                for problem in &mut problems {
                    "the overrides".clone_into(&mut problem.file);
                    (problem.line, problem.column) = (1, 1);
                }
                Err(StackError::Invalid { problems, folder }.into())
            }
            resolved => resolved,
        }
    }

    /// The files, with overrides in config.json.
    pub(crate) fn snapshot_with(&self, overrides: &Overrides) -> Result<Snapshot, Error> {
        if overrides.is_empty() {
            return Ok(self.snapshot());
        }
        Ok(self.overridden(overrides)?.files)
    }

    pub(crate) fn overridden(&self, overrides: &Overrides) -> Result<Self, Error> {
        let text = self.file("config.json").unwrap_or_default();
        let mut config = spec::read_config(text).map_err(|problem| self.invalid(vec![problem]))?;
        overrides.apply_to(&mut config);
        let changed = serde_json::to_vec_pretty(&config).expect("a JSON value has only string keys");
        Ok(self.with_file("config.json", changed))
    }

    /// The same stack with the content of one file replaced.
    pub fn with_file(&self, file: &str, content: Vec<u8>) -> Self {
        let mut files = self.files.clone();
        files.files.insert(file.to_owned(), content);
        Self { folder: self.folder.clone(), name: self.name.clone(), files }
    }

    /// The SHA-256 of the files with their names; independent of the stack's folder.
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

    /// The stack with all defaults filled in; notes and warnings are reported.
    ///
    /// # Errors
    /// [`StackError::Invalid`].
    pub fn resolve(
        &self,
        session: &Session,
        given: &str,
        as_name: Option<&VmName>,
    ) -> Result<ResolvedStack, Error> {
        let resolved = self.resolved(session, given, as_name)?;
        for warning in &resolved.warnings {
            session.warn(warning.to_string());
            session.events.event(Event::Hint(warning.hint.clone()));
        }
        Ok(resolved.stack)
    }

    /// Like [`Self::resolve`], but reports only notes.
    fn resolved(&self, session: &Session, given: &str, as_name: Option<&VmName>) -> Result<Resolved, Error> {
        let resolved = self.resolved_silently(session, given, as_name)?;
        resolved.notes.iter().for_each(|note| session.note(note));
        Ok(resolved)
    }

    /// Like [`Self::resolve`], but reports nothing.
    pub(crate) fn resolved_silently(
        &self,
        session: &Session,
        given: &str,
        as_name: Option<&VmName>,
    ) -> Result<Resolved, Error> {
        let file = |name: &str| self.files.files.get(name).map(Vec::as_slice);
        let sources = Sources {
            given,
            as_name,
            stack: &self.name,
            folder: &self.folder,
            config: file("config.json").unwrap_or_default(),
            cloud_init: file("cloud-init.yaml"),
            configure: file("configure.sh"),
            home: &session.paths.home,
            auto_ports: session.settings.auto_ports,
            sections: &session.providers.config_sections(),
        };
        spec::resolve(&sources).map_err(|problems| self.invalid(problems))
    }

    /// The problems in the files, as an error.
    pub fn invalid(&self, problems: Vec<Diagnostic>) -> Error {
        StackError::Invalid { problems, folder: self.folder.clone() }.into()
    }

    /// Checks everything that needs neither the users' keys nor a provider; warnings are reported.
    ///
    /// # Errors
    /// [`StackError::Invalid`].
    pub fn check(&self, session: &Session, given: &str) -> Result<(), Error> {
        let (_, warnings) = self.examine(session, given)?;
        warnings.iter().for_each(|warning| session.warn(warning.to_string()));
        Ok(())
    }

    /// Like [`Self::check`], but returns the warnings together with the stack.
    ///
    /// # Errors
    /// [`StackError::Invalid`].
    pub fn examine(&self, session: &Session, given: &str) -> Result<(ResolvedStack, Vec<Diagnostic>), Error> {
        let Resolved { stack, mut warnings, .. } = self.resolved(session, given, None)?;
        let users = stack.users.iter().map(|user| UserKeys {
            username: user.username.clone(),
            github_username: None,
            keys: if user.keys.is_empty() { Vec::new() } else { vec![SOME_KEY.to_owned()] },
        });
        let input = ComposeInput {
            stack: &stack,
            users: &users.collect::<Vec<_>>(),
            client_key: SOME_KEY,
            host_key: Some(&HostKey::generate()),
            provider: session.provider_info(session.local_provider()?)?,
            network: None,
            renderer: &ProcessRenderer,
        };
        let composed = compose(&input).map_err(|problems| self.invalid(problems))?;
        warnings.extend(composed.warnings.iter().map(|text| of_document(text)));
        warnings.extend(composed.diagnostics);
        Ok((stack, warnings))
    }
}

/// A warning about the document as a whole.
fn of_document(text: &str) -> Diagnostic {
    let prefix = format!("{}: ", goloo_cloudinit::FILE);
    Diagnostic {
        file: goloo_cloudinit::FILE.to_owned(),
        pointer: String::new(),
        line: 1,
        column: 1,
        message: text.strip_prefix(&prefix).unwrap_or(text).to_owned(),
        hint: "see docs/cloud-init.md".into(),
    }
}

/// A dummy key, for checks that must not fetch keys.
const SOME_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA nobody";

/// Folders with the name of a stack file, which can't be read.
fn folders_in_place_of_files(folder: &Path) -> Vec<Diagnostic> {
    let files = SNAPSHOT_FILES.into_iter().filter(|file| folder.join(file).is_dir());
    let problem = |file: &'static str| Diagnostic {
        file: file.to_owned(),
        pointer: String::new(),
        line: 1,
        column: 1,
        message: format!("{file} is a folder"),
        hint: format!("replace it with the file {file}, or rename the folder").into(),
    };
    files.map(problem).collect()
}

/// A file of a stack; `None` when it doesn't exist.
///
/// # Errors
/// [`StackError::TooLarge`], and when it can't be read.
pub fn read_file(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match read::file(path, read::FILE_MAX) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == ErrorKind::FileTooLarge => {
            Err(StackError::TooLarge { path: path.to_owned() }.into())
        }
        Err(error) => Err(Error::cannot("read", path, error)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use goloo_model::events::NoEvents;

    use super::*;

    fn stack(folder: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("config.json"), "{}").unwrap();
    }

    fn lookup<'a>(folder: Option<&'a Path>, last: Option<PathBuf>, config_dir: &'a Path) -> Lookup<'a> {
        Lookup { given: "web", folder, last: last.map(LastFolder::Known), config_dir }
    }

    #[test]
    fn a_path_may_name_the_stack_or_its_parent_folder() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        stack(&root.join("web"));
        for place in [root.clone(), root.join("web")] {
            let found = lookup(Some(&place), None, Path::new("/nowhere")).find(&NoEvents).unwrap();
            assert_eq!(found.folder(), root.join("web"));
        }
    }

    #[test]
    fn the_library_takes_precedence_over_the_last_folder() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        let last = root.join("elsewhere");
        stack(&last);
        let found = lookup(None, Some(last.clone()), &root).find(&NoEvents).unwrap();
        assert_eq!(found.folder(), last);
        stack(&root.join("stacks/web"));
        let found = lookup(None, Some(last), &root).find(&NoEvents).unwrap();
        assert_eq!(found.folder(), root.join("stacks/web"));
    }

    #[test]
    fn every_searched_path_is_reported() {
        let temp = tempfile::tempdir().unwrap();
        let error = lookup(None, Some("/gone/web".into()), temp.path()).find(&NoEvents).unwrap_err();
        let Error::Stack(StackError::NotFound { tried, .. }) = error else { panic!("{error:?}") };
        for place in [Path::new("/gone/web"), &temp.path().join("stacks/web")] {
            assert!(tried.contains(&absolute(place).join("config.json")), "{place:?} isn't in {tried:?}");
        }
        assert!(tried.contains(&absolute(Path::new("stacks/web")).join("config.json")), "{tried:?}");
    }

    #[test]
    fn a_folder_named_by_another_users_record_is_reported_but_not_read() {
        let temp = tempfile::tempdir().unwrap();
        let theirs = temp.path().join("theirs/web");
        stack(&theirs);
        let lookup =
            Lookup { last: Some(LastFolder::OfOthers(theirs.clone())), ..lookup(None, None, temp.path()) };
        let error = lookup.find(&NoEvents).unwrap_err();
        let Error::Stack(StackError::NotFound { tried, last, .. }) = error else { panic!("{error:?}") };
        assert_eq!(last, Some(LastFolder::OfOthers(theirs)));
        assert!(!tried.iter().any(|place| place.display().to_string().contains("theirs")), "{tried:?}");
    }

    #[test]
    fn an_oversized_file_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        stack(&temp.path().join("web"));
        let file = std::fs::File::create(temp.path().join("web/cloud-init.yaml")).unwrap();
        file.set_len(read::FILE_MAX + 1).unwrap();
        let error = lookup(Some(temp.path()), None, temp.path()).find(&NoEvents).unwrap_err();
        assert!(error.to_string().contains("larger than 1024 KiB"), "{error:?}");
    }

    #[test]
    fn a_digest_depends_on_the_files_and_not_on_the_folder() {
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
