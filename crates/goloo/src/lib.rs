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
mod imported;
mod keys;
mod legacy;
mod library;
mod migrate;
mod observe;
mod open_operations;
mod output;
mod paths;
mod preflight;
mod registry;
mod rescue;
mod settings;
mod signals;
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
    signals::survive_file_limit();
    output::escape_panics();
    if let Some(code) = goloo_qemu::answer(&argv) {
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
    if let Err(shortage) = goloo_os::headroom::check() {
        ui.error(&CliError::failed(shortage.to_string(), shortage.hint()).because(shortage.cause()));
        return ExitCode::from(exit::FAILED);
    }
    let only_reads = cli.command.only_reads();
    let result = match cli.command {
        commands::Command::Settings(command) => commands::settings(&ui, &command),
        command if command.is_for_root() => {
            App::for_root(ui.clone()).and_then(|app| commands::run(&app, command))
        }
        command => App::new(ui.clone()).and_then(|app| commands::run(&app, command)),
    };
    ui.finish();
    let code = result.unwrap_or_else(|error| {
        ui.error(&error);
        error.code
    });
    ExitCode::from(written(&ui, code, only_reads))
}

/// clap's own words; `--help` and `--version` arrive here too and are no errors.
fn usage(error: &clap::Error, json: bool) -> ExitCode {
    let ui = Ui::new(args::Color::Never, 0, json);
    let text = error.render().to_string();
    if !error.use_stderr() {
        ui.document(&text);
        return ExitCode::from(written(&ui, exit::DONE, true));
    }
    if json {
        let message = text.trim().trim_start_matches("error: ").to_owned();
        ui.error(&CliError::usage(message, "goloo --help"));
    } else {
        ui.usage(&text);
    }
    ExitCode::from(written(&ui, exit::USAGE, true))
}

/// How the process ends whose command ended with `code`: a result that standard output didn't take is an error.
fn written(ui: &Ui, code: u8, only_reads: bool) -> u8 {
    let Some(cause) = ui.unwritten() else { return code };
    let hint = if only_reads {
        "check the file, disk or terminal that it goes to, then run the command again"
    } else {
        "only what it prints is lost: `goloo list` shows the VMs, `goloo status NAME` one of them"
    };
    ui.error_text(&CliError::new(exit::FAILED, "io", "can't write to standard output", hint).because(&cause));
    if code == exit::DONE { exit::FAILED } else { code }
}
