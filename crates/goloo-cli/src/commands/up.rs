//! `goloo up`

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap_complete::engine::ArgValueCandidates;
use goloo::environment::graph::TaskEnd;
use goloo::environment::{
    EnvironmentError, MemberAction, MemberDone, Permitted, PlannedUp, UpOptions, UpStep,
};
use goloo_engine::Applied;
use goloo_model::change::{Cost, Setting};
use goloo_model::environment::Selection;
use goloo_model::name::VmName;
use goloo_model::provider::LiveState;
use goloo_model::record::Membership;

use super::ask::Question;
use super::create::ProviderArgs;
use super::created::{self, WayOn};
use super::{delete, replace, ssh_sources};
use crate::app::App;
use crate::each::GraphEnd;
use crate::error::CliError;
use crate::options::{Json, duration};
use crate::output::{Column, Mark, Table, diagnostic_line, duration as shown_duration};
use crate::{complete, exit, json};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machines, by their names in goloo.json; what they wait for is brought up too. By default all
    #[arg(value_name = "MACHINE", add = ArgValueCandidates::new(complete::machines))]
    machines: Vec<String>,
    /// The environment's file, or its folder; by default goloo.json in this folder
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    file: Option<PathBuf>,
    #[command(flatten)]
    provider: ProviderArgs,
    /// Run changed cloud-init.yaml and configure.sh in their machines, which restarts these
    #[arg(long)]
    reprovision: bool,
    /// Where a change needs a new VM, create one beside the old one; once it is ready, it gets the name, and the old one is
    /// deleted
    #[arg(long)]
    replace: bool,
    /// Don't ask for confirmation. What --reprovision and --replace are for is done only if they are given
    #[arg(short = 'y', long)]
    yes: bool,
    /// Only print what would be done
    #[arg(long)]
    dry_run: bool,
    /// How many machines are worked on at the same time; by default one for each processor, at most 8
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    jobs: Option<u16>,
    /// How long to wait for SSH and cloud-init of each machine
    #[arg(long, value_name = "D", default_value = "15m", value_parser = duration)]
    timeout: Duration,
    #[command(flatten)]
    json: Json,
}

/// What `up` needs to know after a step has run.
struct Known {
    name: VmName,
    action: MemberAction,
    member: Membership,
}

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let source = app.session.read_environment(args.file.as_deref())?;
    let environment = &source.environment.name;
    let default = args.provider.choose(app)?.id;
    let selection = Selection::of(args.machines.iter().cloned());
    let options = UpOptions {
        selection: &selection,
        provider: args.provider.is_given().then_some(default),
        default_provider: default,
        may: permitted(args),
    };
    // A plan that is only printed reserves nothing.
    let _lock = if args.dry_run { None } else { Some(app.session.lock_environment(environment)?) };
    let mut planned = app.session.plan_up(&source, options)?;
    warn(app, &planned);
    if args.dry_run {
        show(app, &planned, true);
        return Ok(exit::DONE);
    }
    if !app.ui.json() {
        show(app, &planned, false);
    }
    if !args.yes {
        ask(app, &planned, args)?;
    }
    for step in &mut planned.steps {
        let replacement = step.replacement();
        let known = replacement.map(|planned| planned.known_ssh_sources(&app.session)).unwrap_or_default();
        if let Some(create) = step.create_mut() {
            ssh_sources::resolve(app, create, &known)?;
        }
    }
    carry_out(app, planned, args)
}

/// By default all that the user can be asked about. With `--yes` nothing is lost, or run twice, unless it is asked for.
fn permitted(args: &Args) -> Permitted {
    let is_open = !args.yes && !args.reprovision && !args.replace;
    Permitted { reprovision: is_open || args.reprovision, replace: is_open || args.replace }
}

fn warn(app: &App, planned: &PlannedUp) {
    let mut said = BTreeSet::new();
    let mut warn_once = |text: String| {
        if said.insert(text.clone()) {
            app.ui.warning(&text);
        }
    };
    planned.warnings.iter().cloned().for_each(&mut warn_once);
    for plan in planned.steps.iter().filter_map(UpStep::planned_create).map(|create| &create.plan) {
        plan.diagnostics.iter().map(diagnostic_line).for_each(&mut warn_once);
        plan.warnings.iter().chain(&plan.provider.warnings).cloned().for_each(&mut warn_once);
    }
}

fn show(app: &App, planned: &PlannedUp, dry_run: bool) {
    if app.ui.json() {
        app.ui.result(&json::EnvironmentPlanned::new(planned));
        return;
    }
    let name = &planned.environment.name;
    match (planned.is_empty(), dry_run) {
        (true, true) => app.ui.line(&format!("{name} is as its file says")),
        (true, false) => {}
        (false, _) => {
            let mut table =
                Table::new(&[Column::name("VM"), Column::text("PROVIDER", 2), Column::text("ACTION", 1)]);
            for step in planned.steps.iter().filter(|step| step.action != MemberAction::Nothing) {
                table.row([step.name.to_string(), step.provider.to_string(), action_text(step)]);
            }
            app.ui.table(&table);
        }
    }
    for step in planned.steps.iter().filter(|step| !step.left.is_empty()) {
        say_left(app, step);
    }
    if !planned.removed.is_empty() {
        let names: Vec<&str> = planned.removed.iter().map(VmName::as_str).collect();
        app.ui.note(&format!(
            "not in the file of {name} any more, and left alone: {}; delete them with `goloo delete {}`",
            names.join(", "),
            names.join(" ")
        ));
    }
}

/// Names what differs and stays.
fn say_left(app: &App, step: &UpStep) {
    let name = &step.name;
    let of_cost = |cost: Cost| -> Vec<&str> {
        step.left.iter().filter(|change| change.cost == cost).map(|change| change.setting.key()).collect()
    };
    let (again, replace) = (of_cost(Cost::Reprovision), of_cost(Cost::Replace));
    if !again.is_empty() {
        app.ui.note(&format!(
            "{name}: {} changed; `goloo up --reprovision` runs it in the machine",
            again.join(", ")
        ));
    }
    if !replace.is_empty() {
        let way_out = match step.is_protected {
            true => format!("but {name} is protected; `goloo unprotect {name}` allows it"),
            false => "which needs a new VM; `goloo up --replace` makes one".to_owned(),
        };
        app.ui.note(&format!("{name}: {} changed, {way_out}", replace.join(", ")));
    }
}

fn action_text(step: &UpStep) -> String {
    match &step.action {
        MemberAction::Create => "create".to_owned(),
        MemberAction::Resume(kind) => format!("continue the interrupted {kind}"),
        MemberAction::Apply { settings, restarts, reprovisions } => {
            let keys = if settings.is_empty() { "its overrides".to_owned() } else { keys(settings) };
            let takes = match (reprovisions, restarts) {
                (true, _) => " (provisions it again)",
                (false, true) => " (restarts it)",
                (false, false) => "",
            };
            format!("change {keys}{takes}")
        }
        MemberAction::Replace { settings } => format!("replace it by a new VM, for {}", keys(settings)),
        MemberAction::Start => "start".to_owned(),
        MemberAction::Check => "check its provisioning again".to_owned(),
        MemberAction::Nothing => "nothing".to_owned(),
        MemberAction::Refused(refusal) => {
            let refused = EnvironmentError::Refused { name: step.name.clone(), refusal: refusal.clone() };
            format!("left alone: {refused}")
        }
    }
}

fn keys(settings: &[Setting]) -> String {
    settings.iter().copied().map(Setting::key).collect::<Vec<_>>().join(", ")
}

/// Asks once for all that is lost or interrupted.
fn ask(app: &App, planned: &PlannedUp, args: &Args) -> Result<(), CliError> {
    let names = |is_meant: &dyn Fn(&UpStep) -> bool| -> String {
        let names = planned.steps.iter().filter(|step| is_meant(step)).map(|step| step.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    let replaced = names(&|step| step.replacement().is_some());
    let again = names(&UpStep::reprovisions);
    let restarted = names(&|step| step.restarts() && !step.reprovisions());
    let asks = match (replaced.is_empty(), again.is_empty(), restarted.is_empty()) {
        (false, ..) => "up asks before it replaces VMs",
        (true, false, _) => "up asks before it provisions machines again",
        (true, true, false) => "up asks before it restarts machines",
        (true, true, true) => return Ok(()),
    };
    let mut questions = Vec::new();
    if !replaced.is_empty() {
        questions.push(format!("replace {replaced}"));
    }
    if !again.is_empty() {
        questions.push(format!("provision {again} again"));
    }
    if !restarted.is_empty() {
        questions.push(format!("restart {restarted}"));
    }
    let options = [
        (args.reprovision, again.is_empty(), "--reprovision "),
        (args.replace, replaced.is_empty(), "--replace "),
    ];
    let options = options.iter().filter(|(is_given, is_empty, _)| *is_given || !is_empty);
    let options: String = options.map(|(.., option)| *option).collect();
    let olds: Vec<_> =
        planned.steps.iter().filter_map(UpStep::replacement).map(|planned| planned.old.clone()).collect();
    let question = Question {
        asks,
        lost: lost(planned, &again),
        question: &format!("{}?", capitalized(&questions.join(", "))),
        words: if olds.is_empty() { None } else { delete::names_elsewhere(app, &olds) },
        declined: "nothing was changed",
        again: match options.is_empty() {
            true => "goloo up --yes".to_owned(),
            false => {
                format!("`goloo up {options}--yes` does it, `goloo up --yes` makes the other changes alone")
            }
        },
    };
    question.ask_showing(app)
}

/// What is lost, or done a second time.
fn lost(planned: &PlannedUp, again: &str) -> Vec<String> {
    let mut lost = Vec::new();
    let replacements: Vec<_> = planned.steps.iter().filter_map(UpStep::replacement).collect();
    if !replacements.is_empty() {
        lost.push(
            "New VMs will be created beside these, and get their names once they are ready. Then these will be deleted \
             permanently:"
                .to_owned(),
        );
    }
    for planned in replacements {
        lost.extend(delete::deleted_with_snapshots(&planned.old, &planned.snapshots));
    }
    if !again.is_empty() {
        lost.push(format!(
            "All of cloud-init.yaml and configure.sh runs a second time, commands in runcmd too, in: {again}"
        ));
    }
    lost
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

fn carry_out(app: &App, planned: PlannedUp, args: &Args) -> Result<u8, CliError> {
    let began = Instant::now();
    let (after, jobs) = (planned.after(), args.jobs.map_or(planned.jobs, usize::from));
    let PlannedUp { environment, steps, removed, .. } = planned;
    let known: Vec<Known> = steps
        .iter()
        .map(|step| Known {
            name: step.name.clone(),
            action: step.action.clone(),
            member: step.member.clone(),
        })
        .collect();
    let ends = app.act_graph(
        steps.into_iter().map(|step| (step.name.clone(), step)).collect(),
        (&after, jobs, args.timeout),
        "VMs may be incomplete: run `goloo up` again to continue",
        |step, run| app.session.run_up_step(step, args.yes, run),
        MemberDone::is_good,
        |name, done| report(app, name, done, began.elapsed()),
    )?;
    let mut codes: Vec<u8> = ends.iter().map(code).collect();
    say_skipped(app, &known, &ends);
    if environment.network {
        codes.push(join(app, &known, &ends, args.timeout)?);
    }
    let code = exit::worst(codes);
    if app.ui.json() {
        let machines = known.iter().map(|known| (&known.name, &known.action)).zip(&ends);
        app.ui.result(&json::BroughtUp::new(&environment.name, machines, &removed));
    } else if code == exit::DONE {
        let text = format!("{} is up ({})", environment.name, shown_duration(began.elapsed()));
        app.ui.marked_line(Mark::Good, &text);
    }
    Ok(code)
}

fn report(app: &App, name: &VmName, done: &MemberDone, took: Duration) {
    if let MemberDone::NotReplaced(created) = done {
        app.ui.note(&replace::not_replaced(name, &created.record.name));
    }
    if let Some(verdict) = done.verdict().filter(|verdict| !verdict.result.is_good()) {
        let is_new = matches!(done, MemberDone::Created(_) | MemberDone::NotReplaced(_));
        let way_on = if is_new { WayOn::Delete } else { WayOn::Reprovision };
        created::explain(app, done.record(), verdict, way_on);
        return;
    }
    if !app.ui.json() {
        app.ui.line(&match done {
            MemberDone::Unchanged(_) | MemberDone::NotReplaced(_) => return,
            MemberDone::Created(_) => format!("{name} is ready ({})", shown_duration(took)),
            MemberDone::Applied(applied) => applied_text(name, applied),
            MemberDone::Replaced(_) => format!("{name} is a new VM ({})", shown_duration(took)),
            MemberDone::Started(_) => format!("{name} is running"),
            MemberDone::Checked(..) => format!("{name} is ready"),
            MemberDone::Resumed(_) => {
                format!("{name}: the interrupted operation is finished; `goloo up` shows what it needs now")
            }
        });
    }
}

fn applied_text(name: &VmName, applied: &Applied) -> String {
    match (&applied.verdict, applied.pending.is_empty()) {
        (Some(_), _) => format!("{name} is changed and provisioned again"),
        (None, false) => format!("{name} is changed, in part at its next start: `goloo restart {name}`"),
        (None, true) => format!("{name} is changed"),
    }
}

fn code(end: &GraphEnd<MemberDone>) -> u8 {
    match end {
        TaskEnd::Ran(Ok(done)) if done.is_good() => exit::DONE,
        TaskEnd::Ran(Ok(_)) => exit::DEGRADED,
        TaskEnd::Ran(Err(error)) => error.code,
        // The one that it waited for has the code.
        TaskEnd::Skipped(_) => exit::DONE,
        TaskEnd::NotStarted => exit::INTERRUPTED,
    }
}

fn say_skipped(app: &App, known: &[Known], ends: &[GraphEnd<MemberDone>]) {
    if app.ui.json() {
        return;
    }
    for (one, end) in known.iter().zip(ends) {
        match end {
            TaskEnd::Skipped(because) => {
                app.ui.warning(&format!(
                    "{} was skipped, since {} is not ready",
                    one.name, known[*because].name
                ));
            }
            TaskEnd::NotStarted => app.ui.warning(&format!("{} was not started with", one.name)),
            TaskEnd::Ran(_) => {}
        }
    }
}

/// Connects all machines that are ready, and tells each the names of the others: only now all addresses are known.
fn join(app: &App, known: &[Known], ends: &[GraphEnd<MemberDone>], limit: Duration) -> Result<u8, CliError> {
    let is_ready = |end: &GraphEnd<MemberDone>| matches!(end, TaskEnd::Ran(Ok(done)) if done.is_good());
    let ready = known.iter().zip(ends).filter(|(_, end)| is_ready(end)).map(|(known, _)| known);
    let items: Vec<_> = ready.map(|known| (known.name.clone(), &known.member)).collect();
    if items.is_empty() || ends.iter().any(|end| matches!(end, TaskEnd::NotStarted)) {
        return Ok(exit::DONE);
    }
    let left = "names of machines may be out of date: run `goloo up` again";
    let joined = app.act_each(
        items,
        limit,
        left,
        |name, member, run| {
            let record = app.session.record(name)?;
            let is_running = app.session.observe(&record)?.state == LiveState::Running;
            if is_running { app.session.join_network(name, member, run).map(drop) } else { Ok(()) }
        },
        |_, ()| {},
    )?;
    Ok(joined.code(|()| exit::DONE))
}
