//! `goloo create`

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap_complete::engine::ArgValueCandidates;
use goloo::actions::{CreateOptions, PlannedCreate};
use goloo_engine::plan::CreatePlan;
use goloo_model::name::VmName;
use goloo_model::provider_id::ProviderId;
use goloo_model::provider_info::{LocalChoice, ProviderInfo};
use goloo_model::record::{AppliedSettings, Digest, Membership, Overrides};
use goloo_model::spec::with_github_users;

use super::consent::Consent;
use super::later_bake::LaterBake;
use super::{created, remembered, ssh_sources};
use crate::app::App;
use crate::error::CliError;
use crate::options::{Json, duration};
use crate::output::diagnostic_line;
use crate::{complete, exit, json, providers};
use goloo::error::RequestError;
use goloo::registry::Registry;
use goloo::stack::Found;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The stack: the name of a folder in GOLOO_STACK_FOLDER, ./stacks or the library, or a path with a slash, such as
    /// ./web. Several stacks are created at once. By default the stack in -f, or in this folder
    #[arg(value_name = "STACK", add = ArgValueCandidates::new(complete::stacks))]
    pub names: Vec<String>,
    #[command(flatten)]
    pub options: Options,
    /// The stack's folder, or its parent folder
    #[arg(short = 'f', long = "folder", value_name = "PATH")]
    pub folder: Option<PathBuf>,
}

// Options shared by `create` and `recreate`.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub provider: ProviderArgs,
    #[command(flatten)]
    pub hosts: HostsArgs,
    /// GitHub users, comma-separated: the login user gets the first one's keys, the others become
    /// separate users
    #[arg(short = 'u', long = "users", value_name = "GITHUB,...", value_delimiter = ',', value_parser = github_user)]
    pub users: Vec<String>,
    /// The VM's name; by default the stack's
    #[arg(long = "as", value_name = "VM")]
    pub as_name: Option<String>,
    /// Tag the VM; `list --tag` filters by tags
    #[arg(long = "tag", value_name = "K=V", value_parser = goloo_model::tags::parse)]
    pub tags: Vec<(String, String)>,
    /// Keep the machine when the create fails, for inspection; `goloo delete` removes it
    #[arg(long)]
    pub keep_failed: bool,
    /// In AWS: take over DNS names that have another owner
    #[arg(long)]
    pub force: bool,
    /// Return as soon as the machine is running; `goloo wait` waits for its provisioning later
    #[arg(long)]
    pub no_wait: bool,
    /// Make it from scratch, even if its stack is baked
    #[arg(long)]
    pub no_bake: bool,
    /// How long to wait for SSH and cloud-init together
    #[arg(long, value_name = "D", default_value = "15m", value_parser = duration)]
    pub timeout: Duration,
    /// Print what would be created, and create nothing
    #[arg(long)]
    pub dry_run: bool,
    // For a snapshot that somebody else may have written: asks for confirmation of what it can access.
    #[arg(skip)]
    pub consent: Option<Consent>,
    // The addresses that could reach port 22 of the recreated VM if its stack says "me".
    #[arg(skip)]
    pub ssh_cidr: Vec<String>,
    // What the recreated VM had that isn't in its files.
    #[arg(skip)]
    pub applied: Option<AppliedSettings>,
    #[arg(skip)]
    pub overrides: Overrides,
    #[arg(skip)]
    pub applied_config: Option<Digest>,
    #[arg(skip)]
    pub membership: Option<Membership>,
    #[command(flatten)]
    pub json: Json,
}

// The provider.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub struct ProviderArgs {
    /// Create an EC2 instance
    #[arg(long)]
    pub aws: bool,
    /// Create a VM on this computer
    #[arg(long)]
    pub local: bool,
    /// Create it with this provider
    #[arg(long, value_name = "P", value_parser = providers::parse, add = ArgValueCandidates::new(complete::providers))]
    pub provider: Option<ProviderId>,
}

// Whether this computer resolves the VM's name.
#[derive(Debug, clap::Args)]
pub struct HostsArgs {
    /// Add the VM to this computer's /etc/hosts
    #[arg(long, conflicts_with = "no_hosts")]
    pub hosts: bool,
    /// Don't change /etc/hosts, even if settings.json says so
    #[arg(long)]
    pub no_hosts: bool,
}

impl HostsArgs {
    fn wanted(&self, app: &App, provider: &ProviderInfo) -> Result<bool, CliError> {
        let (id, is_here) = (provider.id, provider.is_host_bound());
        if self.hosts && !is_here {
            return Err(CliError::usage(
                format!("--hosts is only for VMs on this computer, and {id} creates this one elsewhere"),
                "omit --hosts; set dns.domain in config.json to give the VM a DNS name",
            ));
        }
        Ok(is_here && !self.no_hosts && (self.hosts || app.session.settings.hosts))
    }
}

pub(super) fn github_user(text: &str) -> Result<String, String> {
    let name = text.trim();
    let sound = goloo_model::spec::is_github_user(name);
    sound.then(|| name.to_owned()).ok_or_else(|| {
        "this is not a GitHub user name: write names as in github.com/NAME, separated by commas".to_owned()
    })
}

impl ProviderArgs {
    /// Whether one of the options is given.
    pub fn is_given(&self) -> bool {
        self.aws || self.local || self.provider.is_some()
    }

    pub fn choose(&self, app: &App) -> Result<&'static ProviderInfo, CliError> {
        match (self.provider, self.aws) {
            (Some(id), _) => Ok(app.session.provider_info(id)?),
            (None, true) => Ok(app.session.provider_info(providers::AWS)?),
            (None, false) => local_provider(app),
        }
    }
}

/// The provider of `--local`; notes the default when the settings name none.
fn local_provider(app: &App) -> Result<&'static ProviderInfo, CliError> {
    let info = app.session.provider_info(app.session.local_provider()?)?;
    let is_default = app.session.settings.local_provider().is_none();
    if is_default && info.local_choice == LocalChoice::IfInstalled {
        app.ui.note(&format!("using {}, since it is installed; set --provider, or localProvider in settings.json, to use another provider", info.id));
    }
    Ok(info)
}

pub fn run(app: &App, args: Args) -> Result<u8, CliError> {
    let requests = requests(&args.names, args.folder.as_deref())?;
    if requests.len() > 1 && args.options.as_name.is_some() {
        return Err(CliError::usage(
            "--as names one VM, and several stacks are given",
            "omit --as, or create the VMs one after the other",
        ));
    }
    let registry = Registry::new(&app.session.paths.state);
    let known = remembered::stacks(app, &registry);
    let found = requests
        .iter()
        .map(|(name, folder)| Ok((name.as_str(), app.session.find_stack(name, folder.as_deref(), &known)?)));
    let found: Vec<(&str, Found)> = found.collect::<Result<_, CliError>>()?;
    let (options, mut planned) = (&args.options, Vec::new());
    for (name, found) in &found {
        planned.extend(plan(app, found, name, options)?.map(|planned| (planned, *name, found)));
    }
    let remember = |name: &str, found: &Found| registry.remember(&*app.session.events, name, found);
    planned.iter().for_each(|(_, name, found)| remember(name, found));
    carry_out_and_bake(app, planned.into_iter().map(|(planned, ..)| planned).collect(), options.timeout)
}

/// The error and the hint where no stack is named, and none is in the working folder.
pub(super) const NO_STACK_HERE: (&str, &str) = (
    "a stack must be named, since there is no config.json in this folder",
    "run `goloo config list` to list your stacks, or `goloo init web` to write one",
);

/// The name and the folder of each stack on the command line.
pub(super) fn requests(
    names: &[String],
    folder: Option<&Path>,
) -> Result<Vec<(String, Option<PathBuf>)>, CliError> {
    let of_path = |path: &Path| {
        let folder = folder_of(path);
        let absolute = goloo::stack::absolute(&folder);
        let name = absolute.file_name().map(|name| name.to_string_lossy().into_owned());
        (name.unwrap_or_default(), Some(folder))
    };
    if let (true, Some(folder)) = (names.is_empty(), folder) {
        return Ok(vec![of_path(folder)]);
    }
    if names.is_empty() {
        let here = Path::new(".");
        if !here.join("config.json").is_file() {
            return Err(CliError::usage(NO_STACK_HERE.0, NO_STACK_HERE.1));
        }
        return Ok(vec![of_path(here)]);
    }
    if names.len() > 1 && folder.is_some() {
        return Err(CliError::usage(
            "-f names the folder of one stack, and several are given",
            "write the stacks as paths: goloo create ./web ./db",
        ));
    }
    let is_path = |name: &str| name.contains('/') || name == "." || name == "..";
    let request = |name: &String| match folder {
        None if is_path(name) => of_path(Path::new(name)),
        folder => (name.clone(), folder.map(folder_of)),
    };
    Ok(names.iter().map(request).collect())
}

/// The stack's folder, also where its config.json is named.
fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if path.file_name() == Some("config.json".as_ref()) && path.is_file() => {
            if folder.as_os_str().is_empty() { ".".into() } else { folder.to_owned() }
        }
        _ => path.to_owned(),
    }
}

/// Creates a VM from a stack's files that are not read from its folder.
pub fn from_stack(app: &App, found: &Found, given: &str, options: &Options) -> Result<u8, CliError> {
    let planned = plan(app, found, given, options)?;
    carry_out_and_bake(app, planned.into_iter().collect(), options.timeout)
}

/// A VM to be created, and the bake that follows.
type Planned<'f> = (PlannedCreate, Option<LaterBake<'f>>);

/// Plans a VM from a stack's files; `None` where the plan is only printed.
fn plan<'f>(
    app: &App,
    found: &'f Found,
    given: &str,
    options: &Options,
) -> Result<Option<Planned<'f>>, CliError> {
    let as_name = options.as_name.as_deref().map(VmName::parse).transpose()?;
    let mut resolved = found.resolve(&app.session, given, as_name.as_ref())?;
    if let Some(applied) = &options.applied {
        applied.give_to(&mut resolved).map_err(RequestError::from).map_err(goloo::Error::from)?;
    }
    let stack = with_github_users(resolved, &options.users);
    let provider = options.provider.choose(app)?;
    if let Some(consent) = &options.consent {
        consent.ask(app, &stack, provider, options.hosts.hosts, options.dry_run)?;
    }
    let hosts_entry = options.hosts.wanted(app, provider)?;
    refuse_force_here(options.force, provider)?;
    let create = CreateOptions {
        provider: provider.id,
        github_users: options.users.clone(),
        tags: options.tags.iter().cloned().collect(),
        keep_failed: options.keep_failed,
        force_dns: options.force,
        wait: !options.no_wait,
        hosts_entry,
        use_baked: !options.no_bake,
        overrides: options.overrides.clone(),
        applied_config: options.applied_config.clone(),
        membership: options.membership.clone(),
    };
    // Someone else's stack is only created, which was agreed to.
    let may_bake = create.wait && create.use_baked && options.consent.is_none();
    let bake = if may_bake { LaterBake::of(found, &stack, provider.id) } else { None };
    let mut planned = app.session.plan_create(found, stack, create)?;
    planned.plan.diagnostics.iter().for_each(|diagnostic| app.ui.warning(&diagnostic_line(diagnostic)));
    for warning in planned.plan.warnings.iter().chain(&planned.plan.provider.warnings) {
        app.ui.warning(warning);
    }
    if planned.plan.machine.baked.is_some() {
        let stack = &planned.plan.machine.stack.stack;
        app.ui.note(&format!("using the baked image of {stack}; --no-bake makes the VM from scratch"));
    }
    if options.dry_run {
        print_plan(app, &planned.plan);
        return Ok(None);
    }
    ssh_sources::resolve(app, &mut planned, &options.ssh_cidr)?;
    let bake = bake.filter(|bake| bake.is_needed(&planned));
    Ok(Some((planned, bake)))
}

/// Returns an error, since a `--force` without effect would be misleading.
fn refuse_force_here(force: bool, provider: &ProviderInfo) -> Result<(), CliError> {
    if force && provider.is_host_bound() {
        return Err(CliError::usage(
            format!(
                "--force only takes over DNS names in AWS, and {} creates this VM on this computer",
                provider.id
            ),
            "omit --force, or create the VM in AWS with --aws",
        ));
    }
    Ok(())
}

fn print_plan(app: &App, plan: &CreatePlan) {
    if app.ui.json() {
        app.ui.result(&json::CreatePlanned::from(plan));
        return;
    }
    let machine = &plan.machine;
    app.ui.line(&format!(
        "{} would be created by {} from {}:",
        machine.name,
        plan.kind,
        machine.stack.folder.display()
    ));
    for step in &plan.provider.steps {
        app.ui.line(&format!("  - {step}"));
    }
}

/// Stacks are baked only if all went well: a stack of which several VMs were made is baked once.
fn carry_out_and_bake(app: &App, planned: Vec<Planned<'_>>, limit: Duration) -> Result<u8, CliError> {
    let (planned, bakes): (Vec<_>, Vec<_>) = planned.into_iter().unzip();
    let code = carry_out(app, planned, limit)?;
    if code == exit::DONE {
        bakes.into_iter().flatten().for_each(|bake| bake.carry_out(app));
    }
    Ok(code)
}

fn carry_out(app: &App, mut planned: Vec<PlannedCreate>, limit: Duration) -> Result<u8, CliError> {
    let began = Instant::now();
    let name = |planned: &PlannedCreate| planned.plan.machine.name.clone();
    match planned.len() {
        0 => return Ok(exit::DONE),
        1 => {
            let planned = planned.remove(0);
            let name = name(&planned);
            let left = format!(
                "\"{name}\" may be incomplete: run `goloo resume {name}` to continue, or `goloo delete {name}`"
            );
            let created = app.act(limit, &left, |run| {
                let created = app.session.create(planned, run)?;
                app.session.tell_others(&created.record, run);
                Ok(created)
            })?;
            return Ok(created::report(app, &created, began.elapsed()));
        }
        _ => {}
    }
    let results = app.act_each(
        planned.into_iter().map(|planned| (name(&planned), planned)).collect(),
        limit,
        "VMs may be incomplete: run `goloo list`, and `goloo resume NAME` for each to continue",
        |_, planned, run| app.session.create(planned, run),
        |_, created| created::report_in_text(app, created, began.elapsed()),
    )?;
    if app.ui.json() {
        app.ui.result(&results.to_json(|created| &created.record));
    }
    Ok(results.code(created::exit_code))
}
