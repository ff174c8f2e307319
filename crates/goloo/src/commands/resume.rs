//! `goloo resume`

use std::time::Instant;

use goloo_core::cloud_init::{ComposeInput, HostKey};
use goloo_core::engine::{Agreed, RebuildError, Resumed};
use goloo_core::plan;
use goloo_core::provider::{Machine, Provider};
use goloo_core::record::{CreateInputs, OperationKind, Record};
use goloo_core::store::Snapshot;

use super::WaitArgs;
use super::ask::Question;
use crate::app::App;
use crate::error::CliError;
use crate::exit;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    wait: WaitArgs,
    /// Don't ask before going on with what wasn't begun with this state folder
    #[arg(short = 'y', long)]
    yes: bool,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let began = Instant::now();
    let name = args.wait.vm.parse()?;
    let record = app.record(&name)?;
    let provider = app.provider_of(&record)?;
    let agreed = agreed(app, record, args.yes)?;
    let left = format!("\"{name}\" still isn't finished: goloo resume {name}");
    let rebuild = |record: &Record, inputs: &CreateInputs, snapshot: &Snapshot| {
        machine(app, &*provider, record, inputs, snapshot)
    };
    let resumed = app.operate(&*provider, args.wait.timeout, &left, async |engine| {
        engine.resume(&name, agreed.as_ref(), &rebuild).await
    })??;
    let done = match resumed {
        Resumed::Created(created) => return Ok(super::create::report(app, &created, began.elapsed())),
        Resumed::Nothing => format!("{name} has nothing to resume: goloo status {name}"),
        Resumed::Deleted(id) => format!("{name} is deleted; its record is {id} in the archive"),
        Resumed::Cloned(record) => return Ok(super::clone::report(app, &record)),
        Resumed::Power(OperationKind::Suspend) => format!("{name} is suspended"),
        Resumed::Names(change) => return Ok(super::dns::report(app, &change)),
        Resumed::Power(OperationKind::Stop) => format!("{name} is stopped"),
        Resumed::Power(_) => format!("{name} runs"),
    };
    if app.ui.json() {
        app.ui.result(serde_json::json!({"resumed": done}));
    } else {
        app.ui.line(&done);
    }
    Ok(exit::DONE)
}

/// Asks before anything is gone on with that somebody else may have written, and keeps what was agreed to. Nothing where
/// it was begun with this state folder.
fn agreed(app: &App, record: Record, yes: bool) -> Result<Option<Agreed>, CliError> {
    let (here, name) = (app.here(), record.name.clone());
    let Some(operation) = &record.operation else { return Ok(None) };
    let is_create = operation.kind == OperationKind::Create;
    let snapshot = if is_create { app.local(app.store.snapshot(&name))? } else { Snapshot::default() };
    if here.started_operation(&record) && (!is_create || here.created_from(&record, &snapshot)) {
        return Ok(None);
    }
    let owner = &operation.owner;
    let mut seen = vec![format!(
        "{} on {} is said to have begun this {} of {name} ({}); it can't be shown that it was begun with this state folder.",
        owner.user, owner.host, operation.kind, record.provider
    )];
    if is_create {
        seen.extend(given(app, &record, &snapshot)?);
    }
    if !yes {
        let question = Question {
            asks: "resume asks before it continues an operation that somebody else may have started",
            lost: seen,
            question: "Go on?",
            words: None,
            declined: "nothing was done",
            again: format!("read goloo status {name}; then goloo resume {name} --yes"),
        };
        question.ask_showing(app)?;
    }
    Ok(Some(Agreed { record, snapshot }))
}

/// What the machine of a create is given, a line each.
fn given(app: &App, record: &Record, snapshot: &Snapshot) -> Result<Vec<String>, CliError> {
    let found = super::create::stack_of(snapshot.clone(), record);
    let stack = found.resolve(app, &record.stack, Some(record.name.as_str()))?;
    let stack = goloo_core::spec::with_github_users(stack, &record.github_users);
    let mut given = super::consent::taken(&stack, record.provider);
    let inputs = record.operation.as_ref().and_then(|operation| operation.inputs.as_ref());
    let users = inputs.map(|inputs| inputs.users.as_slice()).unwrap_or_default();
    given.extend(
        users.iter().map(|user| format!("{} keys that log in as {}", user.keys.len(), user.username)),
    );
    let forces = inputs.is_some_and(|inputs| inputs.force_dns);
    given.extend(forces.then(|| "its DNS names, taken over from their current owners".to_owned()));
    let blocks = inputs.map(|inputs| inputs.ssh_cidr.join(", ")).filter(|blocks| !blocks.is_empty());
    given.extend(blocks.map(|blocks| format!("port 22 open to {blocks}")));
    given.extend(record.hosts_entry.then(|| format!("the name {} in /etc/hosts", record.name)));
    if !given.is_empty() {
        given.iter_mut().for_each(|line| line.insert_str(0, "  "));
        given.insert(0, "It gives to the VM:".to_owned());
    }
    Ok(given)
}

/// The machine that the interrupted create was making: from its snapshot, its keys, its host key.
fn machine(
    app: &App,
    provider: &dyn Provider,
    record: &Record,
    inputs: &CreateInputs,
    snapshot: &Snapshot,
) -> Result<Machine, RebuildError> {
    let failed = |error: CliError| {
        let problems = error.problems.iter().map(crate::output::problem_line);
        RebuildError(
            std::iter::once(error.message.clone())
                .chain(error.causes)
                .chain(problems)
                .collect::<Vec<_>>()
                .join(": "),
        )
    };
    let found = super::create::stack_of(snapshot.clone(), record);
    let stack = found.resolve(app, &record.stack, Some(record.name.as_str())).map_err(failed)?;
    let mut stack = goloo_core::spec::with_github_users(stack, &record.github_users);
    super::ssh_sources::use_known(&mut stack, &inputs.ssh_cidr);
    let host_key =
        HostKey::from_private(&inputs.host_key).map_err(|error| RebuildError(error.to_string()))?;
    let client_key = app.keys.client_key().map_err(failed)?;
    let input = ComposeInput {
        stack: &stack,
        users: &inputs.users,
        client_key: &client_key.0,
        host_key: &host_key,
        provider: record.provider,
    };
    let token = record.operation.as_ref().map(|operation| operation.token.clone());
    let ids = token.map(|token| (record.id.clone(), token));
    let plan = plan::create(&input, provider, ids).map_err(|error| RebuildError(error.to_string()))?;
    Ok(Machine { force_dns: inputs.force_dns, ..plan.machine })
}
