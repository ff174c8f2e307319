//! The addresses that may reach port 22 of a VM in AWS, where the stack says "me" and no address of this computer is
//! known: the user is asked.

use std::io::IsTerminal;
use std::net::IpAddr;

use goloo::actions::{PlannedCreate, SshSources};
use goloo_model::provider::ProviderError;
use goloo_model::spec::{ResolvedStack, SshSource, ssh_source};

use crate::app::App;
use crate::error::CliError;
use crate::output::hint;

/// Replaces "me" with addresses: those `known` from an earlier create, else this computer's.
pub fn resolve(app: &App, planned: &mut PlannedCreate, known: &[String]) -> Result<(), CliError> {
    let stack = &planned.plan.machine.stack;
    let learnt = match app.session.ssh_sources(planned, known)? {
        SshSources::Settled => return Ok(()),
        SshSources::Known(sources) => {
            planned.plan.machine.stack.ssh_cidr = sources;
            return Ok(());
        }
        SshSources::PublicAddress(address) => address,
        SshSources::Unavailable(ProviderError::Unavailable { what, hint }) => {
            ask(app, stack, what, hint::text(&hint))?
        }
        SshSources::Unavailable(error) => return Err(error.into()),
    };
    app.ui.note(&format!("port 22 is open to {learnt}, this computer's public address (vm.ssh_cidr)"));
    planned.plan.machine.stack.replace_me(&learnt);
    Ok(())
}

/// Asks the user when there is a terminal.
fn ask(app: &App, stack: &ResolvedStack, what: String, hint: String) -> Result<SshSource, CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::usage(what, hint));
    }
    app.ui.warning(&what);
    let question = format!("Which addresses may reach port 22 of {}, as 198.51.100.7/32?", stack.name);
    let answer = app.ui.ask(&question);
    let address = answer.parse::<IpAddr>().ok().map(SshSource::of_address);
    let source = address.or_else(|| ssh_source(&answer).filter(|source| *source != SshSource::Me));
    source.ok_or_else(|| {
        CliError::usage(format!("\"{answer}\" is neither an IP address nor a CIDR block"), hint)
    })
}
