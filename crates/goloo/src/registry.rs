//! The folder that each stack was last created from, so that `create NAME` works from anywhere: a small file
//! in the state folder. It is a memory and no more: whatever is wrong with it, `create` goes on without.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use goloo_core::record::Extra;
use goloo_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::CliError;
use crate::files;
use crate::output::Ui;
use crate::stack::Found;

/// The format that this goloo writes.
const SCHEMA: u32 = 1;

/// What is remembered of one stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    /// The folder that it was last created from.
    pub folder: PathBuf,
    /// The digest of its files then.
    pub digest: String,
    /// When that was.
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
enum Unusable {
    /// It is damaged.
    Broken(String),
    /// It can't be read, or not by this goloo: nothing is wrong with the file itself.
    Unread(CliError),
}

/// The registry in a state folder; the file needn't be there.
pub struct Registry {
    path: PathBuf,
    /// What is wrong is said once.
    said: Cell<bool>,
}

impl Registry {
    /// The one in this state folder.
    pub fn new(state: &Path) -> Self {
        Self { path: state.join("registry.json"), said: Cell::new(false) }
    }

    /// All that is remembered, by the stack's name. Where it can't be read that is said, and nothing is
    /// remembered.
    pub fn all(&self, ui: &Ui) -> BTreeMap<String, Known> {
        match self.read() {
            Ok(content) => content.stacks,
            Err(unusable) => {
                self.say(ui, &unusable);
                BTreeMap::new()
            }
        }
    }

    /// The names of which something is remembered, sorted; none where it can't be read.
    pub fn names(&self) -> Vec<String> {
        self.read().map(|content| content.stacks.into_keys().collect()).unwrap_or_default()
    }

    /// Remembers from where a stack is created. What can't be remembered is a warning.
    pub fn remember(&self, ui: &Ui, name: &str, found: &Found) {
        let known = Known {
            folder: found.folder().to_owned(),
            digest: found.digest(),
            created_at: Timestamp::now(),
            extra: Extra::new(),
        };
        let remembered = self.change(ui, |stacks| {
            stacks.insert(name.to_owned(), known);
        });
        if let Err(error) = remembered {
            let folder = found.folder().display();
            ui.warning(&format!(
                "it isn't remembered that \"{name}\" is at {folder}: {}",
                error.in_one_line()
            ));
        }
    }

    /// Notes where a stack lies now; what it was when it was last created stays. `false` when nothing is
    /// remembered of it.
    pub fn relocate(&self, ui: &Ui, name: &str, folder: &Path) -> Result<bool, CliError> {
        self.change(ui, |stacks| match stacks.get_mut(name) {
            Some(known) => {
                folder.clone_into(&mut known.folder);
                true
            }
            None => false,
        })
    }

    fn change<T>(
        &self,
        ui: &Ui,
        change: impl FnOnce(&mut BTreeMap<String, Known>) -> T,
    ) -> Result<T, CliError> {
        let failed = |error: io::Error| CliError::cannot("write", &self.path, &error);
        let _lock = files::lock(&self.path.with_extension("lock"), ui).map_err(failed)?;
        let mut content = match self.read() {
            Ok(content) => content,
            Err(Unusable::Unread(error)) => return Err(error),
            Err(unusable @ Unusable::Broken(_)) => {
                self.say(ui, &unusable);
                self.keep_aside(ui).map_err(failed)?;
                Content::default()
            }
        };
        let result = change(&mut content.stacks);
        let mut json = serde_json::to_vec_pretty(&content).map_err(|error| failed(error.into()))?;
        json.push(b'\n');
        files::replace(&self.path, &json).map_err(failed)?;
        Ok(result)
    }

    fn read(&self) -> Result<Content, Unusable> {
        let bytes = match files::read_own(&self.path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(Content::default()),
            Err(error) => return Err(Unusable::Unread(CliError::cannot("read", &self.path, &error))),
        };
        #[derive(Deserialize)]
        struct Head {
            schema: u32,
        }
        if serde_json::from_slice::<Head>(&bytes).is_ok_and(|head| head.schema > SCHEMA) {
            let what = format!("{} was written by a newer goloo", self.path.display());
            return Err(Unusable::Unread(CliError::failed(what, "update goloo")));
        }
        serde_json::from_slice(&bytes).map_err(|error| Unusable::Broken(error.to_string()))
    }

    fn say(&self, ui: &Ui, unusable: &Unusable) {
        if self.said.replace(true) {
            return;
        }
        let path = self.path.display();
        ui.warning(&match unusable {
            Unusable::Broken(error) => format!(
                "{path} is broken ({error}), so it isn't known where stacks were created from; the next create begins a new one, or restore it from a backup"
            ),
            Unusable::Unread(error) => format!(
                "it isn't known where stacks were created from: {} ({})",
                error.in_one_line(),
                error.hint
            ),
        });
    }

    /// Nothing that may be of use is overwritten.
    fn keep_aside(&self, ui: &Ui) -> io::Result<()> {
        let aside = self.path.with_extension(format!("json.broken-{}", Timestamp::now().compact()));
        fs::rename(&self.path, &aside)?;
        ui.note(&format!("the broken file is kept: {}", aside.display()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::args::Color;
    use goloo_core::store::Snapshot;

    fn ui() -> Ui {
        Ui::new(Color::Never, 0, false)
    }

    fn stack(folder: &str) -> Found {
        Found::from_snapshot(Snapshot::default(), "web", folder.into())
    }

    #[test]
    fn many_who_remember_at_once_forget_nothing() {
        let state = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for n in 0..16 {
                let state = state.path();
                scope.spawn(move || Registry::new(state).remember(&ui(), &format!("web-{n}"), &stack("/a")));
            }
        });
        assert_eq!(Registry::new(state.path()).all(&ui()).len(), 16);
        let left = files::names(state.path()).unwrap();
        assert_eq!(left, ["registry.json", "registry.lock"]);
    }

    #[test]
    fn one_of_a_newer_goloo_is_left_as_it_is() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("registry.json");
        let newer = r#"{"schema": 2, "stacks": []}"#;
        fs::write(&path, newer).unwrap();
        let registry = Registry::new(state.path());
        registry.remember(&ui(), "web", &stack("/a"));
        assert!(registry.all(&ui()).is_empty());
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
        Registry::new(state.path()).remember(&ui(), "web", &stack("/a"));
        let json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!((&json["stacks"]["db"]["inner"], &json["outer"]), (&1.into(), &2.into()));
        assert_eq!(json["stacks"]["web"]["folder"], "/a");
    }
}
