//! Completion of words by the shell: VM names come from the store, stacks from where `create` finds them.
//!
//! A completion has no way to show an error: it offers nothing then.

use std::collections::BTreeSet;

use clap::CommandFactory;
use clap_complete::CompleteEnv;
use clap_complete::engine::CompletionCandidate;

use goloo_store::{Seal, WaitNotice};

use crate::paths::{self, Paths};
use crate::registry::Registry;
use crate::{args::Cli, exit, output, settings::Settings, stack};

/// Answers and ends the process when the shell asks for completions (`COMPLETE` is set).
pub fn answer_shell() {
    if std::env::var_os("COMPLETE").is_none() {
        return;
    }
    let here = std::env::current_dir().ok();
    match CompleteEnv::with_factory(Cli::command).try_complete(std::env::args_os(), here.as_deref()) {
        Ok(true) => std::process::exit(i32::from(exit::DONE)),
        Ok(false) => {}
        Err(error) => {
            output::plain_error(&error.to_string());
            std::process::exit(i32::from(exit::USAGE));
        }
    }
}

/// The names of all active VMs.
pub fn vm_names() -> Vec<CompletionCandidate> {
    offered(|settings, paths| {
        // Names aren't encrypted.
        let store =
            settings.backend(&paths.home).ok()?.open(&paths, Seal::none(), WaitNotice::default()).ok()?;
        pollster::block_on(store.names()).ok()
    })
}

/// The stacks that `create` finds by their names, also where they were last created from.
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

/// The stacks of which it is remembered where they were last created from.
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
    // The shell puts it on the command line as it is: what would have to be quoted there isn't offered.
    let plain = |name: &String| shlex::try_quote(name).is_ok_and(|quoted| quoted == *name);
    names.filter(plain).map(CompletionCandidate::new).collect()
}
