//! `goloo state unlock`

use goloo_core::name::VmName;
use goloo_core::store::{HeldLock, StoreError};

use crate::app::App;
use crate::commands::VmArg;
use crate::commands::ask::Question;
use crate::error::CliError;
use crate::exit;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    vm: VmArg,
    /// Don't ask
    #[arg(short = 'y', long)]
    yes: bool,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let name = args.vm.parse()?;
    let locks = app.wait_for(app.store.locks())?;
    let Some(held) = locks.into_iter().find(|held| held.name == name) else {
        app.ui.say(&format!("nobody holds the lock of {name}"));
        return Ok(exit::DONE);
    };
    let under_way = under_way(app, &name);
    // Without a lease it can't be broken, so there is nothing to lose.
    if held.lease_end.is_some() && !args.yes {
        ask(app, &held, &under_way)?;
    }
    match app.wait_for(app.store.break_lock(&name)) {
        Ok(_) => app.ui.line(&format!("the lock of {name} is free; {under_way}")),
        Err(error @ StoreError::Unbreakable { .. }) => {
            return Err(ends_with_process(error, &held, &under_way));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(exit::DONE)
}

fn holder(held: &HeldLock) -> String {
    held.owner.as_ref().map_or_else(|| "another process".to_owned(), ToString::to_string)
}

/// What may go on at the provider, whoever holds the lock.
fn under_way(app: &App, name: &VmName) -> String {
    let loaded = app.wait_for(app.store.load(name)).ok().flatten();
    match loaded.and_then(|loaded| loaded.record.operation) {
        Some(operation) => format!(
            "its {} may still be under way: goloo status {name} shows what there is, goloo resume {name} finishes it",
            operation.kind
        ),
        None => format!("no operation of {name} is on record"),
    }
}

fn ask(app: &App, held: &HeldLock, under_way: &str) -> Result<(), CliError> {
    let name = &held.name;
    let question = Question {
        asks: "unlock asks before it takes a lock from someone",
        lost: vec![
            format!("  {name} is locked by {}", holder(held)),
            format!("  {under_way}"),
            "  whoever holds it can't save any more what they do".to_owned(),
        ],
        question: "Break the lock?",
        words: None,
        declined: "the lock is as it was",
        again: format!("goloo state unlock --yes {name}"),
    };
    question.ask(app)
}

fn ends_with_process(error: StoreError, held: &HeldLock, under_way: &str) -> CliError {
    let hint = match &held.owner {
        Some(owner) => format!("on {}: kill {} ends it; {under_way}", owner.host, owner.pid),
        None => format!("end the goloo that works on {}; {under_way}", held.name),
    };
    CliError { hint, ..error.into() }
}
