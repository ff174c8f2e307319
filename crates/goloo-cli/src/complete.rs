//! Shell completion: VM names come from the store, stacks from where `create` finds them.
//!
//! A completion can't report an error; it offers nothing in that case.

use std::collections::BTreeSet;

use clap_complete::engine::CompletionCandidate;

use goloo_store::{Seal, WaitNotice};

use goloo::paths::{self, Paths};
use goloo::registry::Registry;
use goloo::{settings::Settings, stack};

/// The names of all active VMs.
pub fn vm_names() -> Vec<CompletionCandidate> {
    offered(|settings, paths| {
        // Names aren't encrypted.
        let store =
            settings.backend(&paths.home).ok()?.open(&paths, Seal::none(), WaitNotice::default()).ok()?;
        pollster::block_on(store.names()).ok()
    })
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
    let names = names().into_iter().flatten();
    // The shell inserts the word unquoted: names that need quotes aren't offered.
    let plain = |name: &String| shlex::try_quote(name).is_ok_and(|quoted| quoted == *name);
    names.filter(plain).map(CompletionCandidate::new).collect()
}
