//! Answers a shell that asks what can stand at the cursor. What each argument offers is in `complete`.

use std::ffi::{OsStr, OsString};
use std::io;

use clap::CommandFactory;
use clap_complete::env::Shells;
use clap_complete::{CompleteEnv, engine};
use goloo_model::printable::is_printable_text;

use crate::args::Cli;
use crate::completion_words::Words;

/// The variable with the shell's name, which marks a request.
pub const VARIABLE: &str = "COMPLETE";

/// What separates candidates, in shells that don't want one on each line.
const SEPARATOR: &str = "_CLAP_IFS";

/// What to print for this request; `None` if the process is none.
///
/// # Errors
/// If the shell is unknown.
pub fn answer(argv: &[OsString]) -> io::Result<Option<Vec<u8>>> {
    let Some(shell) = std::env::var_os(VARIABLE).filter(|shell| !shell.is_empty() && shell != "0") else {
        return Ok(None);
    };
    let here = std::env::current_dir().ok();
    let shell = shell.to_string_lossy();
    let shells = Shells::builtins();
    let (Some(words), Some(completer)) = (Words::of(argv), shells.completer(&shell)) else {
        // It asks for the script that sends requests, or it is unknown.
        CompleteEnv::with_factory(Cli::command)
            .try_complete(argv, here.as_deref())
            .map_err(io::Error::other)?;
        return Ok(Some(Vec::new()));
    };
    let words = if shell == "bash" { words.with_colons() } else { words };
    let mut command = command_for(&words);
    let separator = std::env::var(SEPARATOR).ok().filter(|text| !text.is_empty());
    let separator = separator.as_deref().unwrap_or("\n");
    let mut found = Vec::new();
    if shell == "bash" {
        // Its completer would take the index from the environment.
        let candidates = engine::complete(&mut command, words.all.clone(), words.index, here.as_deref())?;
        let values = candidates.iter().map(|candidate| candidate.get_value().to_string_lossy());
        found.extend(values.collect::<Vec<_>>().join(separator).into_bytes());
    } else {
        completer.write_complete(&mut command, words.all.clone(), here.as_deref(), &mut found)?;
    }
    Ok(Some(fitting(&found, words.current(), separator)))
}

/// The command line's definition. Of a command's name and its aliases only one is offered, the first in the alphabet:
/// aliases are left out where the name itself fits, so that it is `status` and not `info`.
fn command_for(words: &Words) -> clap::Command {
    let mut command = Cli::command();
    command.build();
    let mut before = words.all.iter().take(words.index).skip(1);
    if before.any(|word| command.find_subcommand(word).is_some()) {
        return command;
    }
    let current = words.current().to_string_lossy();
    command.mut_subcommands(|child| {
        if child.get_name().starts_with(&*current) { child.visible_alias(None::<&str>) } else { child }
    })
}

/// The candidates that fit. Options are offered once the word begins with a dash: before that, they would hide what is
/// usually wanted. Names of files may contain anything; those that a terminal would interpret are left out.
fn fitting(found: &[u8], current: &OsStr, separator: &str) -> Vec<u8> {
    let are_options_asked = current.to_string_lossy().starts_with('-');
    let fits = |candidate: &&str| {
        (are_options_asked || !candidate.starts_with('-')) && candidate.split('\t').all(is_printable_text)
    };
    let text = String::from_utf8_lossy(found);
    let kept: Vec<&str> = text.split(separator).filter(fits).collect();
    kept.join(separator).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_candidates_that_fit_are_printed() {
        let kept = |current: &str| {
            let found = b"web\x0b--all\x0bdb\x0b-v\x0ba\x1b[2Jb\x0bx\tthe help";
            String::from_utf8(fitting(found, OsStr::new(current), "\x0b")).expect("it was a string")
        };
        assert_eq!(kept(""), "web\x0bdb\x0bx\tthe help");
        assert_eq!(kept("-"), "web\x0b--all\x0bdb\x0b-v\x0bx\tthe help");
    }
}
