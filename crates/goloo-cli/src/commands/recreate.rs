//! `goloo recreate`

use goloo::environment::EnvironmentLock;

use super::consent::Consent;
use super::create;
use crate::app::App;
use crate::error::CliError;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A VM's name (of an active one, else the newest archived one), or an id in the archive
    #[arg(value_name = "ARCHIVE-ID|NAME")]
    what: String,
    /// Don't ask for confirmation when somebody else may have written the VM's stack
    #[arg(short = 'y', long)]
    yes: bool,
    #[command(flatten)]
    options: create::Options,
}

pub fn run(app: &App, mut args: Args) -> Result<u8, CliError> {
    let recreation = app.session.recreation(&args.what)?;
    let record = &recreation.record;
    if args.options.users.is_empty() {
        args.options.users.clone_from(&record.github_users);
    }
    // Those from the command line come last and override the others.
    let tags = record.tags.clone().into_iter().chain(std::mem::take(&mut args.options.tags));
    args.options.tags = tags.collect();
    let name = args.options.as_name.get_or_insert_with(|| record.name.to_string());
    args.options.membership = recreation.membership_as(name);
    let chosen = &mut args.options.provider;
    if chosen.provider.is_none() && !chosen.aws && !chosen.local {
        chosen.provider = Some(record.provider);
    }
    let elsewhere = chosen.aws
        || chosen
            .provider
            .and_then(|id| app.session.providers.info(id))
            .is_some_and(|info| !info.is_host_bound());
    args.options.hosts.hosts |= record.hosts_entry && !elsewhere;
    args.options.applied.clone_from(&recreation.applied);
    args.options.overrides = recreation.overrides();
    args.options.applied_config.clone_from(&record.applied_config);
    if recreation.is_ours {
        args.options.ssh_cidr = recreation.ssh_sources(&app.session.providers);
    } else {
        args.options.consent = Some(Consent::for_snapshot_of(record, &args.what, args.yes));
    }
    let _lock = join_again(app, &mut args.options)?;
    create::from_stack(app, &recreation.stack, &record.stack, &args.options)
}

/// Gives a machine of an environment its place in the network there. No other machine gets the same address as long as
/// the lock is held.
fn join_again(app: &App, options: &mut create::Options) -> Result<Option<EnvironmentLock>, CliError> {
    let provider = options.provider.choose(app)?.id;
    let Some(member) = &mut options.membership else { return Ok(None) };
    // A plan that is only printed reserves nothing.
    let lock = (!options.dry_run).then(|| app.session.lock_environment(&member.environment)).transpose()?;
    app.session.renew_network(member, provider)?;
    Ok(lock)
}
