//! `goloo logs`

use std::time::Duration;

use goloo_core::engine::AS_ROOT;
use goloo_core::provider::{Errand, LiveState, Provider};
use goloo_core::record::Record;

use super::VmArg;
use super::reach::{self, Way};
use crate::app::App;
use crate::error::CliError;
use crate::exit;
use crate::output::LogText;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    vm: VmArg,
    /// Go on showing what comes
    #[arg(short, long)]
    follow: bool,
    /// The machine's console, which works without SSH
    #[arg(long, conflicts_with = "cloud_init")]
    console: bool,
    /// The console's bytes as they are: the guest's control characters reach your terminal
    #[arg(long, requires = "console")]
    raw: bool,
    /// cloud-init's log (the default)
    #[arg(long)]
    cloud_init: bool,
}

/// How often a growing console is looked at.
const PAUSE: Duration = Duration::from_millis(500);

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    let name = args.vm.parse()?;
    if args.console {
        let record = app.record(&name)?;
        let provider = app.provider_of(&record)?;
        return app.wait_for(console(app, &*provider, &record, args));
    }
    let follow = if args.follow { " -F" } else { "" };
    let script = format!("{AS_ROOT}exec $s tail -n +1{follow} /var/log/cloud-init-output.log");
    let in_shell = ["sh".to_owned(), "-c".to_owned(), script.clone()];
    match reach::way(app, &name, Errand::Run(&in_shell))? {
        Way::Ssh(_, target) => reach::show_log(app, &reach::script_command(app, &target, &script)?),
        Way::Native(words) => reach::show_log(app, &words),
    }
}

/// Prints the console, and with `follow` what comes until the machine is off. Its lines and tabs stay; all else that
/// a terminal would act on is escaped, unless raw bytes are asked for.
async fn console(app: &App, provider: &dyn Provider, record: &Record, args: &Args) -> Result<u8, CliError> {
    let (mut offset, mut text) = (0, LogText::default());
    loop {
        let piece = provider.console(record, offset).await?;
        offset = piece.next;
        match args.raw {
            true => app.ui.raw(&piece.bytes),
            false => app.ui.log(&mut text, &piece.bytes),
        }
        let is_idle = piece.bytes.is_empty();
        let is_over = is_idle && (!args.follow || !is_running(provider, record).await);
        // A reader that has gone away wants no more.
        if is_over || !app.ui.is_read() {
            app.ui.end_log(&mut text);
            return Ok(exit::DONE);
        }
        if is_idle {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn is_running(provider: &dyn Provider, record: &Record) -> bool {
    let live = provider.observe(&[record]).await;
    live.first().is_some_and(|live| live.state == LiveState::Running)
}
