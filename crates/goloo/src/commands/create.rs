//! `goloo create`

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap_complete::engine::ArgValueCandidates;
use goloo_core::cloud_init::{ComposeInput, HostKey};
use goloo_core::engine::{CreateRequest, Created, Verdict};
use goloo_core::name::VmName;
use goloo_core::plan::{self, CreatePlan};
use goloo_core::provider::Provider;
use goloo_core::record::{ProviderKind, ProvisioningResult, Record};
use goloo_core::spec::{ResolvedStack, with_github_users};
use goloo_core::store::{Snapshot, StoreError};
use serde_json::json;

use super::ssh_sources;
use crate::app::App;
use crate::error::CliError;
use crate::output::{Style, duration};
use crate::registry::Registry;
use crate::stack::{Found, LastFolder, Lookup};
use crate::{args, complete, exit, identity, keys, preflight};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The stack: a folder's name, looked for in ./stacks and the other places for stacks
    #[arg(add = ArgValueCandidates::new(complete::stacks))]
    pub name: String,
    #[command(flatten)]
    pub options: Options,
    /// The stack's folder, or the folder that it is in
    #[arg(short = 'f', long = "folder", value_name = "PATH")]
    pub folder: Option<PathBuf>,
}

// What `create` and `recreate` have in common.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub provider: ProviderArgs,
    #[command(flatten)]
    pub hosts: HostsArgs,
    /// GitHub users, comma-separated: the first one's keys become the login user's, the others become
    /// users of their own
    #[arg(short = 'u', long = "users", value_name = "GITHUB,…", value_delimiter = ',', value_parser = github_user)]
    pub users: Vec<String>,
    /// Call the VM this, whatever the stack says
    #[arg(long = "as", value_name = "VM")]
    pub as_name: Option<String>,
    /// Give the VM a label, to find it by: list --tag shows those that have it
    #[arg(long = "tag", value_name = "K=V", value_parser = goloo_core::tags::parse)]
    pub tags: Vec<(String, String)>,
    /// Leave what is there of a create that fails, to be looked at; `goloo delete` removes it
    #[arg(long)]
    pub keep_failed: bool,
    /// In AWS: take the DNS names over from whoever has them
    #[arg(long)]
    pub force: bool,
    /// Return as soon as the machine runs; `goloo wait` reads the verdict later
    #[arg(long)]
    pub no_wait: bool,
    /// How long to wait for SSH and cloud-init together
    #[arg(long, value_name = "D", default_value = "15m", value_parser = args::duration)]
    pub timeout: Duration,
    /// Print what would be made, and make nothing
    #[arg(long)]
    pub dry_run: bool,
    // Of a snapshot that somebody else may have written: what it takes of this computer is asked for first.
    #[arg(skip)]
    pub consent: Option<super::consent::Consent>,
    // Who could reach port 22 of the VM that is made again, where its stack says "me".
    #[arg(skip)]
    pub ssh_cidr: Vec<String>,
    #[command(flatten)]
    pub json: args::Json,
}

// Who makes the machine.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub struct ProviderArgs {
    /// Make an EC2 instance
    #[arg(long)]
    pub aws: bool,
    /// Make a VM on this computer
    #[arg(long)]
    pub local: bool,
    /// Make it with this provider
    #[arg(long, value_name = "P", value_parser = provider_kind)]
    pub provider: Option<ProviderKind>,
}

// Whether this computer knows the VM by its name.
#[derive(Debug, clap::Args)]
pub struct HostsArgs {
    /// Give the VM a line in this computer's /etc/hosts
    #[arg(long, conflicts_with = "no_hosts")]
    pub hosts: bool,
    /// Leave /etc/hosts alone, whatever settings.json says
    #[arg(long)]
    pub no_hosts: bool,
}

impl HostsArgs {
    fn wanted(&self, app: &App, provider: ProviderKind) -> Result<bool, CliError> {
        if self.hosts && !provider.is_local() {
            return Err(CliError::usage(
                format!("--hosts is for VMs on this computer, and {provider} makes this one elsewhere"),
                "dns.domain in config.json gives it a name: leave --hosts away",
            ));
        }
        Ok(provider.is_local() && !self.no_hosts && (self.hosts || app.settings.hosts))
    }
}

pub(super) fn provider_kind(text: &str) -> Result<ProviderKind, String> {
    let known = ProviderKind::ALL.iter().find(|kind| kind.as_str() == text);
    known.copied().ok_or_else(|| "the providers are qemu, multipass and aws".to_owned())
}

fn github_user(text: &str) -> Result<String, String> {
    let name = text.trim();
    let sound = goloo_core::spec::is_github_user(name);
    sound.then(|| name.to_owned()).ok_or_else(|| {
        "that is no GitHub user: give names as in github.com/NAME, with commas between".to_owned()
    })
}

impl ProviderArgs {
    fn choose(&self, app: &App) -> ProviderKind {
        match (self.provider, self.aws) {
            (Some(kind), _) => kind,
            (None, true) => ProviderKind::Aws,
            (None, false) => local_provider(app),
        }
    }
}

/// What `--local` means here; said where nobody has said it before.
fn local_provider(app: &App) -> ProviderKind {
    let kind = app.local_provider();
    if kind == ProviderKind::Multipass && app.settings.local_provider().is_none() {
        app.ui.note("multipass makes this VM, as it is installed here; --provider or localProvider in settings.json names another");
    }
    kind
}

pub fn run(app: &App, args: Args) -> Result<u8, CliError> {
    let registry = Registry::new(&app.paths.state);
    let lookup = Lookup {
        given: &args.name,
        folder: args.folder.as_deref(),
        last: last_source(app, &registry, &args.name)?,
        config_dir: &app.paths.config,
    };
    let found = lookup.find(&app.ui)?;
    from_stack(app, &found, &args.name, args.options, &|| registry.remember(&app.ui, &args.name, &found))
}

/// Makes a VM from a stack's files, wherever they were read. `remember` is called before anything is made,
/// and only when something is.
pub fn from_stack(
    app: &App,
    found: &Found,
    given: &str,
    options: Options,
    remember: &dyn Fn(),
) -> Result<u8, CliError> {
    let resolved = found.resolve(app, given, options.as_name.as_deref())?;
    let stack = with_github_users(resolved, &options.users);
    let kind = options.provider.choose(app);
    if let Some(consent) = options.consent {
        consent.ask(app, &stack, kind, options.hosts.hosts, options.dry_run)?;
    }
    let hosts_entry = options.hosts.wanted(app, kind)?;
    refuse_force_here(options.force, kind)?;
    let provider = app.provider(kind)?;
    refuse_taken(app, &stack.name)?;
    let mut here = preflight::findings(found, &stack, kind).warnings;
    here.extend(preflight::ignored_keys(found, &stack, kind));
    let mut plan = make_plan(app, &*provider, stack)?;
    plan.warnings.extend(here.iter().map(ToString::to_string));
    plan.machine.keep_failed = options.keep_failed;
    plan.machine.force_dns = options.force;
    if hosts_entry {
        let (name, path) = (&plan.machine.name, app.hosts_file().path().display().to_string());
        plan.provider.steps.push(format!("give {name} a line in {path}"));
    }
    for warning in plan.warnings.iter().chain(&plan.provider.warnings) {
        app.ui.warning(warning);
    }
    if options.dry_run {
        print_plan(app, &plan);
        return Ok(exit::DONE);
    }
    ssh_sources::resolve(app, &*provider, &mut plan.machine.stack, &options.ssh_cidr)?;
    let request = CreateRequest {
        snapshot: found.snapshot(),
        created_by: app.creator()?,
        github_users: options.users,
        tags: options.tags.into_iter().collect(),
        wait: !options.no_wait,
        hosts_entry,
        plan,
    };
    remember();
    carry_out(app, &*provider, request, options.timeout)
}

/// Said rather than ignored: who writes `--force` expects something of it.
fn refuse_force_here(force: bool, provider: ProviderKind) -> Result<(), CliError> {
    if force && provider.is_local() {
        return Err(CliError::usage(
            format!("--force takes over DNS names in AWS, and {provider} makes this VM here"),
            "leave --force away, or make it in AWS: --aws",
        ));
    }
    Ok(())
}

/// A taken name is said before keys are fetched; the claim itself decides later.
fn refuse_taken(app: &App, name: &VmName) -> Result<(), CliError> {
    let Some(mut loaded) = app.local(app.store.load(name))? else { return Ok(()) };
    if loaded.record.operation.is_some() {
        // Under way or interrupted? Who can take the lock knows, and only what is read under it counts:
        // whoever had it may just have come to the end.
        let mut lock = app.local(app.store.lock(name, &identity::owner()))?;
        let Some(now) = app.local(lock.load())? else { return Ok(()) };
        loaded = now;
    }
    Err(goloo_core::engine::taken(&loaded.record).into())
}

fn make_plan(app: &App, provider: &dyn Provider, stack: ResolvedStack) -> Result<CreatePlan, CliError> {
    let users = keys::fetch(app, &stack)?;
    let input = ComposeInput {
        stack: &stack,
        users: &users,
        client_key: &app.keys.client_key()?.0,
        host_key: &HostKey::generate(),
        provider: provider.kind(),
    };
    Ok(plan::create(&input, provider, None)?)
}

fn print_plan(app: &App, plan: &CreatePlan) {
    let machine = &plan.machine;
    let user_data = String::from_utf8_lossy(&machine.user_data);
    if app.ui.json() {
        let mut body = json!({
            "name": machine.name, "provider": plan.kind, "stack": machine.stack.stack,
            "steps": plan.provider.steps,
            "warnings": plan.warnings.iter().chain(&plan.provider.warnings).collect::<Vec<_>>(),
            "userData": user_data,
        });
        body[plan.kind.as_str()] = plan.provider.detail.clone();
        app.ui.result(json!({"plan": body}));
        return;
    }
    app.ui.line(&format!(
        "{} would be made by {} from {}:",
        machine.name,
        plan.kind,
        machine.stack.folder.display()
    ));
    for step in &plan.provider.steps {
        app.ui.line(&format!("  - {step}"));
    }
}

fn carry_out(
    app: &App,
    provider: &dyn Provider,
    request: CreateRequest,
    limit: Duration,
) -> Result<u8, CliError> {
    let began = Instant::now();
    let name = request.plan.machine.name.clone();
    let left = format!("\"{name}\" may be half made: goloo resume {name}, or goloo delete {name}");
    let created = app.operate(provider, limit, &left, async |engine| engine.create(request).await)??;
    Ok(report(app, &created, began.elapsed()))
}

/// Shows what was made; the exit code says whether its provisioning went well.
pub fn report(app: &App, created: &Created, took: Duration) -> u8 {
    let record = &created.record;
    if app.ui.json() {
        app.ui.result(json!({"vm": super::status::record_json(record)}));
    }
    if let Some(verdict) = created.verdict.as_ref().filter(|verdict| !verdict.result.is_good()) {
        explain(app, record, verdict);
        return exit::DEGRADED;
    }
    if !app.ui.json() {
        if let Some(verdict) = &created.verdict {
            warn_of(app, verdict);
        }
        let result = created.verdict.as_ref().map(|verdict| verdict.result);
        print_made(app, record, result, took);
    }
    exit::DONE
}

/// What the machine itself warned of.
pub fn warn_of(app: &App, verdict: &Verdict) {
    for warning in &verdict.errors {
        app.ui.warning(warning);
    }
}

fn print_made(app: &App, record: &Record, result: Option<ProvisioningResult>, took: Duration) {
    let name = &record.name;
    match result {
        None => app.ui.line(&format!("{name} runs; goloo wait {name} waits for its provisioning")),
        Some(_) => {
            app.ui.marked_line(Style::Green, "✓", &format!("{name} is ready ({})", duration(took)));
        }
    }
    if let (Some(ip), Some(port)) = (record.ip(), record.ssh_port()) {
        app.ui.line(&format!("  address  {ip}:{port}"));
    }
    app.ui.line(&format!("  log in   goloo ssh {name}"));
}

/// Why a machine that is up isn't ready.
pub fn explain(app: &App, record: &Record, verdict: &Verdict) {
    let name = &record.name;
    if !verdict.log.is_empty() {
        let which = if verdict.result == ProvisioningResult::Ended { "console" } else { "provisioning log" };
        app.ui.say(&format!("the end of its {which}:"));
        app.ui.say_excerpt(&verdict.log.join("\n"));
    }
    let (what, hint) = what_became(name, verdict.result, &super::reach::without_ssh(app, record));
    let mut error = CliError::new(exit::DEGRADED, "degraded", what, hint);
    error.causes.clone_from(&verdict.errors);
    if !app.ui.json() {
        app.ui.error(&error);
    }
}

/// What became of a machine that isn't ready, and only commands that work in that state.
fn what_became(name: &VmName, result: ProvisioningResult, without_ssh: &str) -> (String, String) {
    let inside = format!(
        "run `goloo logs {name}` for all of it, `goloo ssh {name}` to look inside, or `goloo delete {name}`"
    );
    match result {
        ProvisioningResult::Dropped => {
            (format!("{name} is up, and cloud-init ignored its document or a part of it"), inside)
        }
        ProvisioningResult::Ended => (
            format!("{name} powered off before its provisioning was done"),
            format!(
                "run `{without_ssh}` for what it did last, `goloo start {name}`, or `goloo delete {name}`"
            ),
        ),
        ProvisioningResult::Unknown => (
            format!("{name} is up, and goloo does not know whether it is provisioned"),
            format!(
                "run `{without_ssh}` to see its boot progress, `goloo wait {name}` to continue waiting, or `goloo delete {name}`"
            ),
        ),
        ProvisioningResult::Failed | ProvisioningResult::Done | ProvisioningResult::DoneWithWarnings => {
            (format!("{name} is up, and its provisioning failed"), inside)
        }
    }
}

/// The folder that this name was last created from: what the registry remembers, else an active VM's, else
/// the newest archived one's.
fn last_source(app: &App, registry: &Registry, name: &str) -> Result<Option<LastFolder>, CliError> {
    if let Some(known) = registry.all(&app.ui).remove(name) {
        return Ok(Some(LastFolder::Known(known.folder)));
    }
    let Ok(name) = VmName::parse(name) else { return Ok(None) };
    match pollster::block_on(app.store.load(&name)) {
        Ok(Some(loaded)) => return Ok(source_of(app, &loaded.record)),
        // A broken one says nothing of its stack.
        Ok(None) | Err(StoreError::Broken(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let newest = app.local(app.store.archive_of(&name))?.entries.into_iter().next();
    Ok(newest.and_then(|entry| source_of(app, &entry.record)))
}

fn source_of(app: &App, record: &Record) -> Option<LastFolder> {
    let folder = record.source_config_path.as_deref()?.to_owned();
    let is_ours = app.here().created(record);
    Some(if is_ours { LastFolder::Known(folder) } else { LastFolder::OfOthers(folder) })
}

/// Files of a snapshot as a stack, for `recreate`.
pub fn stack_of(snapshot: Snapshot, record: &Record) -> Found {
    let folder = record.source_config_path.as_deref().map(Path::to_owned);
    let folder = folder.unwrap_or_else(|| PathBuf::from(record.stack.as_str()));
    Found::from_snapshot(snapshot, &record.stack, folder)
}
