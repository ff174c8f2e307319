//! `goloo logs`

use std::io::Write;
use std::time::Duration;

use goloo_core::engine::AS_ROOT;
use goloo_core::provider::{Errand, LiveState, Provider};
use goloo_core::record::Record;

use super::VmArg;
use super::reach::{self, Way};
use crate::app::App;
use crate::error::CliError;
use crate::exit;

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
        return app.wait_for(console(&*provider, &record, args.follow));
    }
    let follow = if args.follow { " -F" } else { "" };
    let script = format!("{AS_ROOT}exec $s tail -n +1{follow} /var/log/cloud-init-output.log");
    let in_shell = ["sh".to_owned(), "-c".to_owned(), script.clone()];
    match reach::way(app, &name, Errand::Run(&in_shell))? {
        Way::Ssh(_, target) => reach::run_script(app, &target, &script),
        Way::Native(words) => Err(reach::become_program(&words)),
    }
}

/// Prints the console, and with `follow` what comes until the machine is off.
async fn console(provider: &dyn Provider, record: &Record, follow: bool) -> Result<u8, CliError> {
    let mut offset = 0;
    loop {
        let bytes = provider.console(record, offset).await?;
        offset += bytes.len() as u64;
        let written = std::io::stdout().write_all(&bytes).and_then(|()| std::io::stdout().flush());
        // A reader that has gone away wants no more.
        if written.is_err() || (!follow && bytes.is_empty()) {
            return Ok(exit::DONE);
        }
        if bytes.is_empty() {
            let live = provider.observe(&[record]).await;
            if !live.first().is_some_and(|live| live.state == LiveState::Running) {
                return Ok(exit::DONE);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
