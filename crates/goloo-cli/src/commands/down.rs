//! `goloo down`

use std::path::PathBuf;

use clap_complete::engine::ArgValueCandidates;
use goloo::environment::graph::TaskEnd;
use goloo::environment::{EnvironmentSource, PlannedDown};
use goloo_model::environment::Selection;
use goloo_model::name::{ArchiveId, VmName};

use super::ask::Question;
use super::delete::{self, NO_WAIT};
use crate::app::App;
use crate::each::GraphEnd;
use crate::error::CliError;
use crate::options::Json;
use crate::{complete, exit, json};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machines, by their names in goloo.json; by default all
    #[arg(value_name = "MACHINE", add = ArgValueCandidates::new(complete::machines))]
    machines: Vec<String>,
    /// The environment, which needs no goloo.json; by default the one in it
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(complete::environments))]
    env: Option<String>,
    /// The environment's file, or its folder; by default goloo.json in this folder
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    file: Option<PathBuf>,
    /// Keep this machine
    #[arg(long, value_name = "MACHINE", add = ArgValueCandidates::new(complete::machines))]
    keep: Vec<String>,
    /// How many machines are deleted at the same time; by default one for each processor, at most 8
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    jobs: Option<u16>,
    /// Don't ask for confirmation
    #[arg(short = 'y', long)]
    yes: bool,
    #[command(flatten)]
    json: Json,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let (environment, source) = environment(app, args)?;
    let _lock = app.session.lock_environment(&environment)?;
    let selection = Selection::of(args.machines.iter().cloned());
    let keep = Selection::of(args.keep.iter().cloned());
    let file = source.as_ref().map(|source| &source.environment);
    let planned = app.session.plan_down(&environment, file, &selection, &keep)?;
    if !app.ui.json() {
        say_kept(app, &planned);
    }
    if planned.vms.is_empty() {
        if app.ui.json() {
            app.ui.result(&json::TakenDown::new(&planned, &[]));
        } else {
            app.ui.line("nothing is deleted");
        }
        return Ok(exit::DONE);
    }
    if !args.yes {
        ask(app, &environment, &planned)?;
    }
    carry_out(app, &planned, args.jobs.map_or(planned.jobs, usize::from))
}

/// The environment, and its file if there is one for it.
fn environment(app: &App, args: &Args) -> Result<(VmName, Option<EnvironmentSource>), CliError> {
    let read = app.session.read_environment(args.file.as_deref());
    let Some(name) = &args.env else {
        let source = read?;
        return Ok((source.environment.name.clone(), Some(source)));
    };
    let name = VmName::parse(name)?;
    // Without -f, a file here is only a help: it may be of another environment.
    let source = if args.file.is_some() { Some(read?) } else { read.ok() };
    Ok((name.clone(), source.filter(|source| source.environment.name == name)))
}

fn say_kept(app: &App, planned: &PlannedDown) {
    for name in &planned.protected {
        app.ui.note(&format!("{name} stays, since it is protected; `goloo unprotect {name}` changes that"));
    }
    for name in &planned.kept {
        app.ui.note(&format!("{name} stays (--keep)"));
    }
}

fn ask(app: &App, environment: &VmName, planned: &PlannedDown) -> Result<(), CliError> {
    let mut lost = vec!["This will be deleted permanently:".to_owned()];
    lost.extend(planned.vms.iter().map(delete::deleted));
    let is_elsewhere = delete::names_elsewhere(app, &planned.vms).is_some();
    let question = Question {
        asks: "down asks for confirmation",
        lost,
        question: "Delete?",
        words: is_elsewhere.then(|| environment.to_string()),
        declined: "nothing was deleted",
        again: format!("goloo down --env {environment} --yes"),
    };
    question.ask(app)
}

fn carry_out(app: &App, planned: &PlannedDown, jobs: usize) -> Result<u8, CliError> {
    let ends = app.act_graph(
        planned.vms.iter().map(|record| (record.name.clone(), record)).collect(),
        (&planned.after, jobs, NO_WAIT),
        "VMs may be partly deleted: run `goloo down` again to continue",
        |record, run| app.session.delete(record, run),
        |_| true,
        |name, id| {
            if !app.ui.json() {
                app.ui.line(&delete::done(name, id));
            }
        },
    )?;
    if app.ui.json() {
        app.ui.result(&json::TakenDown::new(planned, &ends));
    } else {
        say_skipped(app, planned, &ends);
    }
    Ok(exit::worst(ends.iter().map(|end| match end {
        TaskEnd::Ran(Err(error)) => error.code,
        TaskEnd::NotStarted => exit::INTERRUPTED,
        TaskEnd::Ran(Ok(_)) | TaskEnd::Skipped(_) => exit::DONE,
    })))
}

fn say_skipped(app: &App, planned: &PlannedDown, ends: &[GraphEnd<ArchiveId>]) {
    for (record, end) in planned.vms.iter().zip(ends) {
        if let TaskEnd::Skipped(because) = end {
            let because = &planned.vms[*because].name;
            app.ui.warning(&format!(
                "{} stays, since {because}, which depends on it, was not deleted",
                record.name
            ));
        }
    }
}
