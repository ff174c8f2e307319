//! The command line. Doc comments are the help text; each command's own arguments stand beside what
//! it does, in `commands/`.
//!
//! A command's arguments are only made when it is the one that is asked for (`defer`): making all of them took
//! a third of the time of `goloo --version`. What describes their types is no doc comment, or clap would take
//! it for the help of the command in that moment.

use std::ffi::OsString;

use clap::{CommandFactory, Parser, ValueEnum};
use goloo_core::printable::is_printable_text;

use crate::commands::Command;
use crate::output;

/// The same virtual machine on your own computer or in AWS, and never a lost one.
///
/// A stack is a folder with a config.json, and if you like a cloud-init.yaml and a configure.sh. goloo
/// makes VMs from stacks and remembers each of them until it is deleted, from whatever folder you ask.
#[derive(Debug, Parser)]
#[command(name = "goloo", version, max_term_width = 100, disable_help_subcommand = true, after_help = AFTER_HELP)]
pub struct Cli {
    /// Show what the machine itself says while it is waited for, and all columns of a list
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Begin with:
  goloo init          write a starter stack into a folder
  goloo create hello  make a VM from the stack ./stacks/hello
  goloo list          every VM, wherever its config lies
  goloo doctor        what is wrong on this machine and how to mend it";

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

// `--json`, for commands that have a result to read.
#[derive(Debug, Clone, Copy, clap::Args)]
#[expect(missing_docs, reason = "clap would take it for a command's help")]
pub struct Json {
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Parses the command line.
pub fn parse(argv: &[OsString]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(argv).map_err(|error| with_words_escaped(argv, error))
}

/// The same error about the same words, escaped as they are shown: clap repeats them between lines of its own.
fn with_words_escaped(argv: &[OsString], error: clap::Error) -> clap::Error {
    let words: Vec<_> = argv.iter().map(|word| word.to_string_lossy()).collect();
    if words.iter().all(|word| is_printable_text(word)) {
        return error;
    }
    let again = Cli::try_parse_from(words.iter().map(|word| output::one_line(word).into_owned()));
    match again {
        Err(again) if again.kind() == error.kind() => again,
        // Not an error any more, or another: clap's first sentence, on one line.
        _ => {
            let text = error.render().to_string();
            let text = text.trim_start_matches("error: ").trim();
            Cli::command().error(error.kind(), output::one_line(text))
        }
    }
}

/// Whether errors are to be JSON: known before anything is parsed, since parsing can fail too.
pub fn asks_for_json(argv: &[OsString]) -> bool {
    argv.iter().take_while(|word| *word != "--").any(|word| word == "--json")
}

/// A duration on the command line: `90s`, `15m`, `8h`, `90d`.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    let seconds = goloo_core::spec::duration_seconds(text)
        .ok_or("a duration looks like 90s, 15m, 8h or 90d (at most 36500d)")?;
    Ok(std::time::Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn a_command_is_described_the_same_before_and_after_its_arguments_are_made() {
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
