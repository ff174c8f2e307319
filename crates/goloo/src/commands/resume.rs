//! `goloo resume`

use std::time::Instant;

use goloo_core::cloud_init::{ComposeInput, HostKey};
use goloo_core::engine::{RebuildError, Resumed};
use goloo_core::plan;
use goloo_core::provider::{Machine, Provider};
use goloo_core::record::{CreateInputs, OperationKind, Record};
use goloo_core::store::Snapshot;

use super::WaitArgs;
use crate::app::App;
use crate::error::CliError;
use crate::exit;

pub fn run(app: &App, args: &WaitArgs) -> Result<u8, CliError> {
    let began = Instant::now();
    let name = args.vm.parse()?;
    let record = app.record(&name)?;
    let provider = app.provider_of(&record)?;
    refuse_changed_snapshot(app, &record)?;
    let left = format!("\"{name}\" still isn't finished: goloo resume {name}");
    let rebuild = |record: &Record, inputs: &CreateInputs, snapshot: &Snapshot| {
        machine(app, &*provider, record, inputs, snapshot)
    };
    let resumed =
        app.operate(&*provider, args.timeout, &left, async |engine| engine.resume(&name, &rebuild).await)??;
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

/// The machine is worked out again from files in the store. Where others write there, they may be others than those
/// that it was begun with, and give it folders of this computer.
fn refuse_changed_snapshot(app: &App, record: &Record) -> Result<(), CliError> {
    let is_create =
        record.operation.as_ref().is_some_and(|operation| operation.kind == OperationKind::Create);
    if !is_create || !record.provider.is_local() {
        return Ok(());
    }
    let name = &record.name;
    let found = super::create::stack_of(app.local(app.store.snapshot(name))?, record);
    if app.wrote(record, &found) {
        return Ok(());
    }
    let stack = found.resolve(app, &record.stack, Some(name.as_str()))?;
    match super::consent::taken(&stack, record.provider).first() {
        None => Ok(()),
        Some(taken) => Err(CliError::failed(
            format!(
                "the stored files of \"{name}\" aren't those that it was begun with here, and take {taken}"
            ),
            format!("goloo delete {name}, and create it again"),
        )),
    }
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
