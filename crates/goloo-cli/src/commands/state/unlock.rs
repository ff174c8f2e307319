//! `goloo state unlock`

use goloo::actions::LockStatus;
use goloo_model::name::VmName;
use goloo_model::record::OperationKind;
use goloo_model::store::{HeldLock, StoreError};

use crate::app::App;
use crate::commands::ask::Question;
use crate::error::CliError;
use crate::exit;
use crate::options::VmArg;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    vm: VmArg,
    /// Don't ask for confirmation
    #[arg(short = 'y', long)]
    yes: bool,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let name = args.vm.of(app)?;
    let Some(LockStatus { held, operation }) = app.session.lock_status(&name)? else {
        app.ui.say(&format!("{name} is not locked"));
        return Ok(exit::DONE);
    };
    let current_operation = current_operation(&name, operation);
    // Without a lease the lock can't be broken, so there is nothing to lose.
    if held.lease_end.is_some() && !args.yes {
        ask(app, &held, &current_operation)?;
    }
    match app.session.break_lock(&name) {
        Ok(()) => app.ui.line(&format!("broke the lock of {name}; {current_operation}")),
        Err(goloo::Error::Store(error @ StoreError::Unbreakable { .. })) => {
            return Err(ends_with_process(error, &held, &current_operation));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(exit::DONE)
}

fn holder(held: &HeldLock) -> String {
    held.owner.as_ref().map_or_else(|| "another process".to_owned(), ToString::to_string)
}

/// The operation that may still be running at the provider.
fn current_operation(name: &VmName, operation: Option<OperationKind>) -> String {
    match operation {
        Some(kind) => format!(
            "its {kind} may still be in progress: check with `goloo status {name}`, continue with `goloo resume {name}`"
        ),
        None => format!("{name} has no unfinished operation"),
    }
}

fn ask(app: &App, held: &HeldLock, current_operation: &str) -> Result<(), CliError> {
    let name = &held.name;
    let question = Question {
        asks: "unlock asks for confirmation before it breaks a lock",
        lost: vec![
            format!("  {name} is locked by {}", holder(held)),
            format!("  {current_operation}"),
            "  its holder will no longer be able to save changes".to_owned(),
        ],
        question: "Break the lock?",
        words: None,
        declined: "the lock was not broken",
        again: format!("goloo state unlock --yes {name}"),
    };
    question.ask(app)
}

fn ends_with_process(error: StoreError, held: &HeldLock, current_operation: &str) -> CliError {
    let hint = match &held.owner {
        Some(owner) => {
            format!("on {}, run `kill {}` to end the process; {current_operation}", owner.host, owner.pid)
        }
        None => format!("end the goloo process that is working on {}; {current_operation}", held.name),
    };
    CliError { hint, ..error.into() }
}
