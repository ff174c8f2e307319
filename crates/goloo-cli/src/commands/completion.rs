//! `goloo completion`

use clap::ValueEnum;
use clap_complete::env::{Bash, Elvish, EnvCompleter, Fish, Powershell, Zsh};

use crate::error::CliError;
use crate::exit;
use crate::output::Ui;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell. For bash, `source <(goloo completion bash)` in ~/.bashrc; for zsh the same in ~/.zshrc, after compinit; for
    /// fish, `goloo completion fish | source` in config.fish
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
}

pub fn run(ui: &Ui, args: &Args) -> Result<u8, CliError> {
    let completer: &dyn EnvCompleter = match args.shell {
        Shell::Bash => &Bash,
        Shell::Elvish => &Elvish,
        Shell::Fish => &Fish,
        Shell::Powershell => &Powershell,
        Shell::Zsh => &Zsh,
    };
    let mut script = Vec::new();
    let written = completer.write_registration("COMPLETE", "goloo", "goloo", "goloo", &mut script);
    written.expect("a vector takes all bytes");
    ui.document(&String::from_utf8_lossy(&script));
    Ok(exit::DONE)
}
