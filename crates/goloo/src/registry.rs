//! The folder that each stack was last created from, so that `create NAME` works from anywhere: a small file
//! in the state folder. It is only a convenience: if it can't be used, `create` continues without it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use goloo_model::events::{Event, Events};
use goloo_model::record::Extra;
use goloo_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::files;
use crate::paths::Paths;
use crate::stack::{self, Found, StackError};

/// The format that this goloo writes.
const SCHEMA: u32 = 1;

/// The entry of one stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    /// The folder that it was last created from.
    pub folder: PathBuf,
    /// The digest of its files then.
    pub digest: String,
    /// The time of that create.
    pub created_at: Timestamp,
    /// Fields of a later version.
    #[serde(flatten)]
    extra: Extra,
}

/// `registry.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Content {
    schema: u32,
    stacks: BTreeMap<String, Known>,
    #[serde(flatten)]
    extra: Extra,
}

impl Default for Content {
    fn default() -> Self {
        Self { schema: SCHEMA, stacks: BTreeMap::new(), extra: Extra::new() }
    }
}

/// Why the file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// It is damaged.
    #[error(
        "{} is broken ({error}), so goloo can't tell which folders stacks were created from; restore it from a backup, or the next create starts a new file",
        path.display()
    )]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: serde_json::Error,
    },
    /// It can't be read, or not by this version: the file itself is not damaged.
    #[error(transparent)]
    Unread(Error),
}

/// The registry in a state folder; the file may not exist.
pub struct Registry {
    path: PathBuf,
    /// An error is reported only once.
    is_reported: Cell<bool>,
}

/// The names of all stacks that `create` finds: those in its places, and those in the registry.
pub fn stack_names(paths: &Paths) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = stack::all(&paths.config).into_keys().collect();
    names.extend(Registry::new(&paths.state).names());
    names
}

impl Registry {
    /// The registry of this state folder.
    pub fn new(state: &Path) -> Self {
        Self { path: state.join("registry.json"), is_reported: Cell::new(false) }
    }

    /// All entries, by the stack's name.
    ///
    /// # Errors
    /// [`RegistryError`]. The caller should report it and continue.
    pub fn all(&self) -> Result<BTreeMap<String, Known>, RegistryError> {
        let content = self.read().inspect_err(|_| self.is_reported.set(true))?;
        Ok(content.stacks)
    }

    /// The names of the entries, sorted; empty when the file can't be read.
    pub fn names(&self) -> Vec<String> {
        self.read().map(|content| content.stacks.into_keys().collect()).unwrap_or_default()
    }

    /// Saves the folder that a stack is created from. A failure is only a warning.
    pub fn remember(&self, events: &dyn Events, name: &str, found: &Found) {
        let known = Known {
            folder: found.folder().to_owned(),
            digest: found.digest(),
            created_at: Timestamp::now(),
            extra: Extra::new(),
        };
        let remembered = self.change(events, |stacks| {
            stacks.insert(name.to_owned(), known);
        });
        if let Err(error) = remembered {
            let folder = found.folder().display();
            events.event(Event::Warning(format!(
                "can't record the folder of the stack \"{name}\", {folder}: {}",
                error.in_one_line()
            )));
        }
    }

    /// Saves the new folder of a stack; keeps the digest of the last create. `false` when there is no entry.
    ///
    /// # Errors
    /// When the file can't be read or written.
    pub fn relocate(&self, events: &dyn Events, name: &str, folder: &Path) -> Result<bool, Error> {
        self.change(events, |stacks| match stacks.get_mut(name) {
            Some(known) => {
                folder.clone_into(&mut known.folder);
                true
            }
            None => false,
        })
    }

    fn change<T>(
        &self,
        events: &dyn Events,
        change: impl FnOnce(&mut BTreeMap<String, Known>) -> T,
    ) -> Result<T, Error> {
        let failed = |error: io::Error| Error::cannot("write", &self.path, error);
        let _lock = files::lock(&self.path.with_extension("lock"), events).map_err(failed)?;
        let mut content = match self.read() {
            Ok(content) => content,
            Err(RegistryError::Unread(error)) => return Err(error),
            Err(broken @ RegistryError::Broken { .. }) => {
                if !self.is_reported.replace(true) {
                    events.event(Event::Warning(broken.to_string()));
                }
                self.keep_aside(events).map_err(failed)?;
                Content::default()
            }
        };
        let result = change(&mut content.stacks);
        let mut json = serde_json::to_vec_pretty(&content).map_err(|error| failed(error.into()))?;
        json.push(b'\n');
        files::replace(&self.path, &json).map_err(failed)?;
        Ok(result)
    }

    fn read(&self) -> Result<Content, RegistryError> {
        let bytes = match files::read_own(&self.path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(Content::default()),
            Err(error) => return Err(RegistryError::Unread(Error::cannot("read", &self.path, error))),
        };
        #[derive(Deserialize)]
        struct Head {
            schema: u32,
        }
        if serde_json::from_slice::<Head>(&bytes).is_ok_and(|head| head.schema > SCHEMA) {
            let newer = StackError::NewerRegistry { path: self.path.clone() };
            return Err(RegistryError::Unread(newer.into()));
        }
        serde_json::from_slice(&bytes)
            .map_err(|error| RegistryError::Broken { path: self.path.clone(), error })
    }

    /// Keeps a copy of a broken file, which may still be useful.
    fn keep_aside(&self, events: &dyn Events) -> io::Result<()> {
        let aside = self.path.with_extension(format!("json.broken-{}", Timestamp::now().compact()));
        fs::rename(&self.path, &aside)?;
        events.event(Event::Note(format!("kept a copy of the broken file: {}", aside.display())));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use goloo_model::events::NoEvents;
    use goloo_model::store::Snapshot;

    use super::*;

    fn stack(folder: &str) -> Found {
        Found::from_snapshot(Snapshot::default(), "web", folder.into())
    }

    #[test]
    fn concurrent_writers_lose_no_entries() {
        let state = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for n in 0..16 {
                let state = state.path();
                scope.spawn(move || {
                    Registry::new(state).remember(&NoEvents, &format!("web-{n}"), &stack("/a"))
                });
            }
        });
        assert_eq!(Registry::new(state.path()).all().unwrap().len(), 16);
        let left = files::names(state.path()).unwrap();
        assert_eq!(left, ["registry.json", "registry.lock"]);
    }

    #[test]
    fn a_registry_of_a_newer_version_is_left_unchanged() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("registry.json");
        let newer = r#"{"schema": 2, "stacks": []}"#;
        fs::write(&path, newer).unwrap();
        let registry = Registry::new(state.path());
        registry.remember(&NoEvents, "web", &stack("/a"));
        let error = registry.all().unwrap_err();
        assert!(matches!(error, RegistryError::Unread(Error::Stack(StackError::NewerRegistry { .. }))));
        assert_eq!(fs::read_to_string(&path).unwrap(), newer);
    }

    #[test]
    fn fields_of_a_later_version_are_kept() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("registry.json");
        let stack_json =
            r#"{"folder": "/b", "digest": "x", "createdAt": "2025-01-15T10:30:00Z", "inner": 1}"#;
        fs::write(&path, format!(r#"{{"schema": 1, "stacks": {{"db": {stack_json}}}, "outer": 2}}"#))
            .unwrap();
        Registry::new(state.path()).remember(&NoEvents, "web", &stack("/a"));
        let json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!((&json["stacks"]["db"]["inner"], &json["outer"]), (&1.into(), &2.into()));
        assert_eq!(json["stacks"]["web"]["folder"], "/a");
    }
}
