//! `goloo logs`

use std::io::Write;
use std::time::Duration;

use goloo_core::engine::AS_ROOT;
use goloo_core::provider::{Errand, LiveState, Provider};
use goloo_core::record::Record;

use super::VmArg;
use super::reach::{self, ShownLines, Way};
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
        return app.wait_for(console(&*provider, &record, args));
    }
    let follow = if args.follow { " -F" } else { "" };
    let script = format!("{AS_ROOT}exec $s tail -n +1{follow} /var/log/cloud-init-output.log");
    let in_shell = ["sh".to_owned(), "-c".to_owned(), script.clone()];
    match reach::way(app, &name, Errand::Run(&in_shell))? {
        Way::Ssh(_, target) => reach::show_output(&reach::script_command(app, &target, &script)?),
        Way::Native(words) => reach::show_output(&words),
    }
}

/// Prints the console, and with `follow` what comes until the machine is off.
async fn console(provider: &dyn Provider, record: &Record, args: &Args) -> Result<u8, CliError> {
    let (mut offset, mut lines) = (0, ShownLines::default());
    let mut stdout = std::io::stdout();
    loop {
        let piece = provider.console(record, offset).await?;
        offset = piece.next;
        let is_idle = piece.bytes.is_empty();
        let written = if args.raw {
            stdout.write_all(&piece.bytes).and_then(|()| stdout.flush())
        } else if is_idle {
            // A prompt has no end.
            lines.end(&mut stdout)
        } else {
            lines.take(&piece.bytes, &mut stdout)
        };
        if let Err(error) = written {
            return reach::unless_reader_is_gone(error);
        }
        if !is_idle {
            continue;
        }
        if !args.follow {
            return Ok(exit::DONE);
        }
        let live = provider.observe(&[record]).await;
        if !live.first().is_some_and(|live| live.state == LiveState::Running) {
            return Ok(exit::DONE);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
