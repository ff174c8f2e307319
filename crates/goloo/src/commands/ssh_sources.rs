//! Who may reach port 22 of a VM in AWS, where the stack says "me": asked for before anything is made.

use std::io::IsTerminal;
use std::net::IpAddr;

use goloo_core::provider::{Provider, ProviderError};
use goloo_core::spec::{ResolvedStack, SshSource, ssh_source};

use crate::app::App;
use crate::error::CliError;

/// Puts addresses in the place of "me": those that are `known` from an earlier create, else this computer's.
pub fn resolve(
    app: &App,
    provider: &dyn Provider,
    stack: &mut ResolvedStack,
    known: &[String],
) -> Result<(), CliError> {
    if provider.kind().is_local() || !stack.ssh_cidr.contains(&SshSource::Me) {
        return Ok(());
    }
    if !known.is_empty() {
        use_known(stack, known);
        return Ok(());
    }
    let learnt = match app.wait_for(provider.public_address()) {
        Ok(None) => return Ok(()),
        Ok(Some(address)) => SshSource::of_address(address),
        Err(ProviderError::Unavailable { what, hint }) => ask(app, stack, what, hint)?,
        Err(error) => return Err(error.into()),
    };
    app.ui.note(&format!("port 22 is open to {learnt}, this computer's public address (vm.ssh_cidr)"));
    stack.replace_me(&learnt);
    Ok(())
}

/// Takes the blocks that an earlier create found. One that a later version wrote in a form of its own is left out.
pub fn use_known(stack: &mut ResolvedStack, known: &[String]) {
    let sources: Vec<SshSource> = known.iter().filter_map(|block| ssh_source(block)).collect();
    if !sources.is_empty() {
        stack.ssh_cidr = sources;
    }
}

/// Where there is a terminal, a person may know it.
fn ask(app: &App, stack: &ResolvedStack, what: String, hint: String) -> Result<SshSource, CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::usage(what, hint));
    }
    app.ui.warning(&what);
    let question = format!("Which addresses may reach port 22 of {}, as 198.51.100.7/32?", stack.name);
    let answer = app.ui.ask(&question);
    let address = answer.parse::<IpAddr>().ok().map(SshSource::of_address);
    let source = address.or_else(|| ssh_source(&answer).filter(|source| *source != SshSource::Me));
    source.ok_or_else(|| CliError::usage(format!("\"{answer}\" is no address and no CIDR block"), hint))
}
