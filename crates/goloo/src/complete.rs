//! Completion of words by the shell: VM names come from the store.

use clap::CommandFactory;
use clap_complete::CompleteEnv;
use clap_complete::engine::CompletionCandidate;

use goloo_store::Seal;

use crate::{args::Cli, paths, settings::Settings};

/// Answers and ends the process when the shell asks for completions (`COMPLETE` is set).
pub fn answer_shell() {
    if std::env::var_os("COMPLETE").is_some() {
        CompleteEnv::with_factory(Cli::command).complete();
    }
}

/// The names of all active VMs. A completion has no way to show an error: it offers nothing then.
pub fn vm_names() -> Vec<CompletionCandidate> {
    names().unwrap_or_default().into_iter().map(CompletionCandidate::new).collect()
}

fn names() -> Option<Vec<String>> {
    let home = paths::home().ok()?;
    let settings = Settings::read(&paths::Paths::config_dir(&home)).ok()?;
    let paths = paths::Paths::resolve(home.clone(), settings.state_dir(&home));
    // Names aren't encrypted.
    let store = settings.backend(&home).ok()?.open(&paths, Seal::none()).ok()?;
    pollster::block_on(store.names()).ok()
}
