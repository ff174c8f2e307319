//! The command line. Doc comments are the help text; each command's own arguments are defined next to its
//! implementation, in `commands/`.
//!
//! A command's arguments are built only when that command is used (`defer`): building all of them took
//! a third of the time of `goloo --version`. Their types have no doc comments: clap would show those as
//! the help of the command.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser};
use goloo_model::printable::is_printable_text;

use crate::commands::Command;
use crate::help;
use crate::options::{Color, LogLevel, NO_NAME};
use crate::output;

/// Create the same virtual machine on your own computer or in AWS, and never lose track of it.
///
/// A stack is a folder with a config.json and, optionally, a cloud-init.yaml and a configure.sh. goloo
/// creates VMs from stacks and keeps a record of each one until it is deleted. Commands work from any folder.
#[derive(Debug, Parser)]
#[command(name = "goloo", version, max_term_width = 100, disable_help_subcommand = true, after_help = AFTER_HELP)]
pub struct Cli {
    /// Show the provisioning log while waiting for a machine, and all columns in lists
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = GLOBAL)]
    pub verbose: u8,
    /// When to use color: auto, always or never
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true,
        help_heading = GLOBAL
    )]
    pub color: Color,
    /// Log internal operations: error, warn, info, debug or trace; GOLOO_LOG does the same
    #[arg(long, global = true, value_name = "LEVEL", hide_possible_values = true, help_heading = GLOBAL)]
    pub log: Option<LogLevel>,
    /// Append the log to this file instead of writing it to standard error; GOLOO_LOG_FILE does the same
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL)]
    pub log_file: Option<PathBuf>,
    /// What to do
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The heading of the options that all commands have.
const GLOBAL: &str = "Global options";

const AFTER_HELP: &str = "\
Get started:
  goloo init web     write a stack to ./stacks/web
  goloo create web   create a VM from it
  goloo ssh web      log in to the VM
  goloo help create  explain a command and its options";

/// Parses the command line.
pub fn parse(argv: &[OsString]) -> Result<Cli, clap::Error> {
    try_parse(argv).map_err(|error| with_words_escaped(argv, error))
}

/// The help of a command, which clap returns in place of a result; or its error, where there is no such command.
pub fn help(words: &[String]) -> clap::Error {
    let words = ["goloo"].into_iter().chain(words.iter().map(String::as_str)).chain(["--help"]);
    let argv: Vec<OsString> = words.map(OsString::from).collect();
    parse(&argv).expect_err("with --help there is no result")
}

fn try_parse<W: Into<OsString>>(argv: impl IntoIterator<Item = W>) -> Result<Cli, clap::Error> {
    let argv: Vec<OsString> = argv.into_iter().map(Into::into).collect();
    let argv = with_no_name_marked(argv);
    match parse_with(Cli::command(), &argv) {
        // Only the overview shows the groups; composing them at every start would take time.
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            parse_with(help::grouped(Cli::command()), &argv)
        }
        parsed => parsed,
    }
}

/// Repeats the first `--` if a command that runs another one has no VM before it: clap removes one, and then the first
/// word after it would be the VM.
fn with_no_name_marked(mut argv: Vec<OsString>) -> Vec<OsString> {
    let Some(at) = argv.iter().position(|word| word == NO_NAME) else { return argv };
    let before = parse_with(Cli::command(), &argv[..at]);
    if before.is_ok_and(|cli| cli.command.is_some_and(|command| command.lacks_its_vm())) {
        argv.insert(at, NO_NAME.into());
    }
    argv
}

fn parse_with(mut command: clap::Command, argv: &[OsString]) -> Result<Cli, clap::Error> {
    let mut matches = command.try_get_matches_from_mut(argv)?;
    Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// The same error with the arguments escaped, since clap repeats them in its message.
fn with_words_escaped(argv: &[OsString], error: clap::Error) -> clap::Error {
    let words: Vec<_> = argv.iter().map(|word| word.to_string_lossy()).collect();
    if words.iter().all(|word| is_printable_text(word)) {
        return error;
    }
    let again = try_parse(words.iter().map(|word| output::one_line(word).into_owned()));
    match again {
        Err(again) if again.kind() == error.kind() => again,
        // The escaped arguments give no error, or another one: use the first sentence of clap's message, on one line.
        _ => {
            let text = error.render().to_string();
            let text = text.trim_start_matches("error: ").trim();
            Cli::command().error(error.kind(), output::one_line(text))
        }
    }
}

/// Whether errors are printed as JSON: determined before parsing, since parsing can fail too.
pub fn asks_for_json(argv: &[OsString]) -> bool {
    argv.iter().take_while(|word| *word != "--").any(|word| word == "--json")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn building_the_arguments_keeps_each_command_description() {
        fn compare(before: &clap::Command, after: &clap::Command) {
            assert_eq!(
                before.get_about().map(ToString::to_string),
                after.get_about().map(ToString::to_string),
                "{}",
                after.get_name()
            );
            for child in before.get_subcommands() {
                compare(child, after.find_subcommand(child.get_name()).expect("the same commands"));
            }
        }
        let before = super::Cli::command();
        let mut after = before.clone();
        after.build();
        compare(&before, &after);
    }
}
