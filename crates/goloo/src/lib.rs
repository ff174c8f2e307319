//! The command: arguments in, exit code out. A library so that `xtask` can generate the man pages,
//! the completions and the reference from the same definitions.

mod app;
pub mod args;
mod backend;
mod commands;
mod complete;
mod error;
pub mod exit;
mod files;
mod former;
mod hosts;
mod identity;
mod keys;
mod legacy;
mod library;
mod migrate;
mod observe;
mod output;
mod paths;
mod preflight;
mod registry;
mod rescue;
mod settings;
mod ssh;
mod stack;
mod state_id;
mod transfer;

use std::ffi::OsString;
use std::process::ExitCode;

use app::App;
use error::CliError;
use output::Ui;

pub use settings::json_schema as settings_schema;

/// Runs the command line `argv` (with the program's name first).
pub fn main(argv: Vec<OsString>) -> ExitCode {
    goloo_os::umask::make_private();
    if let Some(code) = goloo_qemu::supervise::answer(&argv) {
        return code;
    }
    complete::answer_shell();
    if let Some(code) = hosts::answer_sudo(&argv) {
        return code;
    }
    let (argv, legacy_note) = legacy::rewrite(argv);
    let json = args::asks_for_json(&argv);
    let cli = match args::parse(&argv) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, json),
    };
    let ui = Ui::new(cli.color, cli.verbose, json);
    if let Some(note) = legacy_note {
        ui.note(&note);
    }
    let result = match cli.command {
        commands::Command::Settings(command) => commands::settings(&ui, &command),
        command if command.is_for_root() => {
            App::for_root(ui.clone()).and_then(|app| commands::run(&app, command))
        }
        command => App::new(ui.clone()).and_then(|app| commands::run(&app, command)),
    };
    ui.finish();
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            ui.error(&error);
            ExitCode::from(error.code)
        }
    }
}

/// clap's own words; `--help` and `--version` arrive here too and are no errors.
fn usage(error: &clap::Error, json: bool) -> ExitCode {
    if json && error.use_stderr() {
        let text = error.render().to_string();
        let message = text.trim().trim_start_matches("error: ").to_owned();
        Ui::new(args::Color::Never, 0, true).error(&CliError::usage(message, "goloo --help"));
        return ExitCode::from(exit::USAGE);
    }
    // A reader that has gone away (`goloo --help | head`) is no error of ours.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::DONE })
}
