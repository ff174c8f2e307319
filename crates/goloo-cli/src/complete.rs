//! Shell completion: VM names come from the store, stacks from where `create` finds them.
//!
//! A completion can't report an error; it offers nothing in that case.

use std::collections::BTreeSet;

use clap_complete::engine::CompletionCandidate;

use goloo_store::Options;

use goloo::backend::Backend;
use goloo::paths::{self, Paths};
use goloo::registry::Registry;
use goloo::{settings::Settings, stack};

/// The names of all active VMs.
pub fn vm_names() -> Vec<CompletionCandidate> {
    offered(|settings, paths| names_in(&settings.backend(&paths.home).ok()?, &paths))
}

/// The names of all active VMs, where they are stored on this computer.
pub fn local_vm_names() -> Vec<String> {
    found(|settings, paths| names_in(&local_backend(&settings, &paths)?, &paths))
}

/// The backend, unless it is a service: that takes time, and may cost something.
fn local_backend(settings: &Settings, paths: &Paths) -> Option<Backend> {
    settings.backend(&paths.home).ok().filter(|backend| !backend.files(paths).is_empty())
}

/// Names aren't encrypted: no key is needed.
fn names_in(backend: &Backend, paths: &Paths) -> Option<Vec<String>> {
    let store = backend.open(paths, Options::default()).ok()?;
    pollster::block_on(store.names()).ok()
}

/// The ids in the archive, newest first, where they are stored on this computer: a bucket would have to be read whole.
pub fn archive_ids() -> Vec<CompletionCandidate> {
    offered(|settings, paths| {
        let backend = local_backend(&settings, &paths)?;
        let seal = settings.seal(&paths.home).ok()?;
        let store = backend.open(&paths, Options { seal, ..Options::default() }).ok()?;
        let archive = pollster::block_on(store.archive_list()).ok()?;
        Some(archive.entries.into_iter().map(|archived| archived.id.to_string()).collect::<Vec<_>>())
    })
}

/// The keys of settings.json.
pub fn settings_keys() -> Vec<CompletionCandidate> {
    goloo::settings::KEYS.into_iter().map(CompletionCandidate::new).collect()
}

/// The stacks that `create` finds by name, including those in the registry.
pub fn stacks() -> Vec<CompletionCandidate> {
    offered(|_, paths| {
        let mut names: BTreeSet<_> = stack::all(&paths.config).into_keys().collect();
        names.extend(Registry::new(&paths.state).names());
        Some(names)
    })
}

/// The stacks of the library.
pub fn library_stacks() -> Vec<CompletionCandidate> {
    offered(|_, paths| Some(stack::in_library(&paths.config)))
}

/// The stacks in the registry.
pub fn remembered_stacks() -> Vec<CompletionCandidate> {
    offered(|_, paths| Some(Registry::new(&paths.state).names()))
}

fn offered<T: IntoIterator<Item = String>>(
    look: impl FnOnce(Settings, Paths) -> Option<T>,
) -> Vec<CompletionCandidate> {
    // The shell inserts the word unquoted: names that need quotes aren't offered.
    let plain = |name: &String| shlex::try_quote(name).is_ok_and(|quoted| quoted == *name);
    found(look).into_iter().filter(plain).map(CompletionCandidate::new).collect()
}

/// What is found with the user's settings; nothing where they can't be used.
fn found<T: IntoIterator<Item = String>>(look: impl FnOnce(Settings, Paths) -> Option<T>) -> Vec<String> {
    let names = || {
        let home = paths::home().ok()?;
        let config = Paths::config_dir(&home);
        Paths::check_config(&config).ok()?;
        let settings = Settings::read(&config).ok()?;
        let state = settings.state_dir(&home);
        let paths = Paths::resolve(home, state);
        paths.check_private().ok()?;
        look(settings, paths)
    };
    names().into_iter().flatten().collect()
}
