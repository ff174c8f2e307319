//! `goloo logs`

use std::ffi::OsString;
use std::time::Duration;

use goloo::actions::{Console, Route};
use goloo_engine::AS_ROOT;
use goloo_model::name::VmName;
use goloo_model::provider::GuestRequest;

use super::program::{self, LogLimits};
use crate::app::App;
use crate::error::CliError;
use crate::exit;
use crate::options::OptionalVm;
use crate::output::LogText;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    vm: OptionalVm,
    /// Keep printing new output
    #[arg(short, long)]
    follow: bool,
    /// Show the machine's console, which works without SSH
    #[arg(long, conflicts_with = "cloud_init")]
    console: bool,
    /// Print the console's bytes unescaped: the guest's control characters reach your terminal
    #[arg(long, requires = "console")]
    raw: bool,
    /// Show cloud-init's log (the default)
    #[arg(long)]
    cloud_init: bool,
}

const LIMITS: LogLimits = LogLimits { time: Duration::from_secs(600), size: 256 << 20 };

/// The polling interval for a growing console.
const PAUSE: Duration = Duration::from_millis(500);

pub fn run(app: &App, args: &Args) -> Result<u8, CliError> {
    if args.console {
        let machine = app.session.console(&args.vm.of(app)?)?;
        return app.wait_for(console(app, &machine, args));
    }
    let names = match &args.vm.name {
        Some(word) => app.session.vms_of_word(word)?,
        None => vec![args.vm.of(app)?],
    };
    match &names[..] {
        [name] => {
            let limits = (!args.follow).then_some(LIMITS);
            program::show_log(app, &log_words(app, name, args)?, limits)
        }
        _ => program::show_each_labelled(app, &names, |name| log_words(app, name, args)),
    }
}

/// The words that print the log of a VM.
fn log_words(app: &App, name: &VmName, args: &Args) -> Result<Vec<OsString>, CliError> {
    let follow = if args.follow { " -F" } else { "" };
    let script = format!("{AS_ROOT}exec $s tail -n +1{follow} /var/log/cloud-init-output.log");
    let in_shell = ["sh".to_owned(), "-c".to_owned(), script.clone()];
    match app.session.route(name, GuestRequest::Run(&in_shell))? {
        Route::Ssh(_, target) => {
            let mut words = app.session.ssh_script(&target, &script)?;
            // A lost connection is noticed within a minute.
            words.splice(1..1, ["-o", "ServerAliveInterval=15"].map(OsString::from));
            Ok(words)
        }
        Route::Native(words) => Ok(words),
    }
}

/// Prints the console, and with `follow` new output until the machine is off. Line ends and tabs are kept; everything
/// else that a terminal would interpret is escaped, unless raw bytes are requested.
async fn console(app: &App, machine: &Console, args: &Args) -> Result<u8, CliError> {
    let (mut offset, mut text) = (0, LogText::default());
    loop {
        let piece = machine.read(offset).await?;
        offset = piece.next;
        match args.raw {
            true => app.ui.raw(&piece.bytes),
            false => app.ui.log(&mut text, &piece.bytes),
        }
        let is_idle = piece.bytes.is_empty();
        let is_over = is_idle && (!args.follow || !machine.is_running().await);
        // The reader has closed the pipe.
        if is_over || !app.ui.is_read() {
            app.ui.end_log(&mut text);
            return Ok(exit::DONE);
        }
        if is_idle {
            tokio::time::sleep(PAUSE).await;
        }
    }
}
