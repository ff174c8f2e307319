//! `goloo resume`

use std::time::Instant;

use goloo::grants;
use goloo_engine::{Agreed, Resumed};
use goloo_model::record::{OperationKind, Record};
use goloo_model::store::Snapshot;

use super::ask::Question;
use super::{apply, bake, consent, created, dns, rename, replace};
use crate::app::App;
use crate::error::CliError;
use crate::options::WaitArgs;
use crate::{exit, json};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    wait: WaitArgs,
    /// Don't ask for confirmation before continuing an operation that wasn't started with this state folder
    #[arg(short = 'y', long)]
    yes: bool,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let began = Instant::now();
    let name = args.wait.vm.of(app)?;
    let vm = app.session.to_resume(&name)?;
    let agreed = agreed(app, &vm.record, args.yes)?;
    let left =
        format!("the operation on \"{name}\" is still unfinished: run `goloo resume {name}` to continue");
    let resumed = app.act(args.wait.timeout, &left, |run| {
        let resumed = app.session.resume(&vm, agreed.as_ref(), run)?;
        if let Some(new) = new_vm(&resumed) {
            app.session.tell_others(new, run);
        }
        Ok(resumed)
    })?;
    let done = match resumed {
        Resumed::Created(created) => return Ok(created::report(app, &created, began.elapsed())),
        Resumed::Nothing => format!("{name} has no unfinished operation"),
        Resumed::Deleted(id) => format!("deleted {name}; the archived record is {id}"),
        Resumed::Cloned(copy) => {
            created::report_copy(app, &copy);
            return Ok(exit::DONE);
        }
        Resumed::Imported(record) => {
            created::report_import(app, &record);
            return Ok(exit::DONE);
        }
        Resumed::Applied(applied) => {
            return Ok(apply::report(app, &applied, &[]));
        }
        Resumed::Replaced(replaced) => {
            replace::report(app, &replaced, &[]);
            return Ok(exit::DONE);
        }
        Resumed::Renamed(renamed) => {
            rename::report(app, &renamed);
            return Ok(exit::DONE);
        }
        Resumed::Baked(baked) => return Ok(bake::report(app, &baked, &vm.record.stack, None)),
        Resumed::Power(OperationKind::Suspend) => format!("{name} is suspended"),
        Resumed::Names(change) => return Ok(dns::report(app, &change)),
        Resumed::Power(OperationKind::Stop) => format!("{name} is stopped"),
        Resumed::Power(_) => format!("{name} is running"),
    };
    if app.ui.json() {
        app.ui.result(&json::Resumed { resumed: &done });
    } else {
        app.ui.line(&done);
    }
    Ok(exit::DONE)
}

/// The VM that the operation has made, if that is done.
fn new_vm(resumed: &Resumed) -> Option<&Record> {
    match resumed {
        Resumed::Created(created) => Some(&created.record),
        Resumed::Replaced(replaced) => Some(&replaced.record),
        _ => None,
    }
}

/// Asks for confirmation before continuing an operation that somebody else may have started, and returns what the user
/// agreed to. `None` if it was started with this state folder.
fn agreed(app: &App, record: &Record, yes: bool) -> Result<Option<Agreed>, CliError> {
    let Some(agreed) = app.session.needs_agreement(record)? else { return Ok(None) };
    let Some(operation) = &record.operation else { return Ok(None) };
    let name = &record.name;
    let owner = &operation.owner;
    let mut seen = vec![format!(
        "According to the record, {} on {} started this {} of {name} ({}); it may have been started with another state folder.",
        owner.user, owner.host, operation.kind, record.provider
    )];
    if operation.kind == OperationKind::Create {
        seen.extend(given(app, record, &agreed.snapshot)?);
    }
    if !yes {
        let question = Question {
            asks: "resume asks before it continues an operation that somebody else may have started",
            lost: seen,
            question: "Continue?",
            words: None,
            declined: "nothing was done",
            again: format!("check `goloo status {name}`, then run `goloo resume {name} --yes`"),
        };
        question.ask_showing(app)?;
    }
    Ok(Some(agreed))
}

/// What the machine of a create can access, one per line.
fn given(app: &App, record: &Record, snapshot: &Snapshot) -> Result<Vec<String>, CliError> {
    let stack = app.session.stack_of_snapshot(record, snapshot)?;
    let mut grants = grants::of_stack(&stack, app.session.provider_info(record.provider)?);
    grants.extend(grants::of_operation(record));
    let mut given: Vec<String> = grants.iter().map(consent::text).collect();
    if !given.is_empty() {
        given.iter_mut().for_each(|line| line.insert_str(0, "  "));
        given.insert(0, "It gives the VM:".to_owned());
    }
    Ok(given)
}
