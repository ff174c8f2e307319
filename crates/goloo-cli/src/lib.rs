//! The command line program: arguments in, exit code out. A library so that `xtask` can generate the man pages, the
//! completions and the reference from the same definitions.

mod app;
pub mod args;
mod commands;
mod complete;
mod completion_request;
mod completion_words;
mod each;
mod error;
pub mod exit;
mod help;
mod json;
mod legacy;
mod log;
mod options;
mod other_tools;
mod output;
mod providers;
mod signals;

pub use json::{OutputSchema, schemas as output_schemas};

use std::ffi::OsString;
use std::process::ExitCode;

use app::App;
use clap::CommandFactory;
use error::CliError;
use goloo::Providers;
use output::Ui;

/// Runs the command line `argv` (with the program's name first), with goloo's own providers.
pub fn main(argv: Vec<OsString>) -> ExitCode {
    run(argv, goloo::providers())
}

/// The same with these providers: for a program that adds one of its own.
pub fn run(argv: Vec<OsString>, providers: Providers) -> ExitCode {
    providers::set(providers);
    goloo_sys::umask::make_private();
    signals::survive_file_limit();
    signals::see_children_end();
    output::escape_panics();
    if let Some(code) = goloo::answer(&argv) {
        return code;
    }
    if let Some(code) = complete_in_shell(&argv) {
        return code;
    }
    let (argv, legacy_note) = legacy::rewrite(argv);
    let json = args::asks_for_json(&argv);
    let cli = match args::parse(&argv) {
        Ok(cli) => cli,
        Err(error) => return invalid(&argv, &error, json),
    };
    let ui = Ui::new(cli.color, cli.verbose, json);
    if let Err(error) = log::start(&ui, cli.log, cli.log_file) {
        ui.error(&error);
        return ExitCode::from(error.code);
    }
    if let Some(note) = legacy_note {
        ui.note(&note);
    }
    if let Err(shortage) = goloo_sys::headroom::check() {
        ui.error(&CliError::failed(shortage.to_string(), shortage.hint()).because(shortage.cause()));
        return ExitCode::from(exit::FAILED);
    }
    let Some(command) = cli.command else {
        return ExitCode::from(written(&ui, commands::start_screen(&ui), true));
    };
    let only_reads = command.only_reads();
    let result = match command {
        commands::Command::Help(asked) => return usage(&args::help(&asked.words), json),
        commands::Command::Settings(command) => commands::settings(&ui, &command),
        command if command.is_for_root() => {
            App::for_root(ui.clone()).and_then(|app| commands::run(&app, command, args::Cli::command))
        }
        command => App::new(ui.clone()).and_then(|app| {
            let result = commands::run(&app, command, args::Cli::command);
            app.session.update_ssh_config();
            result.map_err(|error| app.suggest(error))
        }),
    };
    ui.finish();
    let code = result.unwrap_or_else(|error| {
        ui.error(&error);
        error.code
    });
    ExitCode::from(written(&ui, code, only_reads))
}

/// Prints the completions if the shell asks for them.
fn complete_in_shell(argv: &[OsString]) -> Option<ExitCode> {
    match completion_request::answer(argv) {
        Ok(candidates) => {
            output::completions(&candidates?);
            Some(ExitCode::SUCCESS)
        }
        Err(error) => {
            output::plain_error(&error.to_string());
            Some(ExitCode::from(exit::USAGE))
        }
    }
}

/// Prints why a command line is invalid, or the help that it asks for.
fn invalid(argv: &[OsString], error: &clap::Error, json: bool) -> ExitCode {
    let Some(explained) = other_tools::explain(error, argv) else { return usage(error, json) };
    let ui = Ui::new(options::Color::Never, 0, json);
    ui.error(&explained);
    ExitCode::from(written(&ui, explained.code, true))
}

/// Prints clap's own output: usage errors, and `--help` and `--version`, which are no errors.
fn usage(error: &clap::Error, json: bool) -> ExitCode {
    let ui = Ui::new(options::Color::Never, 0, json);
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

/// The exit code of the process after a command with exit code `code`: a result that can't be written is an error.
fn written(ui: &Ui, code: u8, only_reads: bool) -> u8 {
    let Some(cause) = ui.unwritten() else { return code };
    let hint = if only_reads {
        "check the file, disk or terminal that standard output goes to, then run the command again"
    } else {
        "run `goloo list` or `goloo status NAME`: only the output was lost"
    };
    ui.error_text(&CliError::new(exit::FAILED, "io", "can't write to standard output", hint).because(&cause));
    if code == exit::DONE { exit::FAILED } else { code }
}
