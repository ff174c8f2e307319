//! Answers a shell that asks what can stand at the cursor. What each argument offers is in `complete`.

use std::ffi::{OsStr, OsString};
use std::io;

use clap::CommandFactory;
use clap_complete::env::Shells;
use clap_complete::{CompleteEnv, engine};
use goloo_model::printable::is_printable_text;

use crate::args::Cli;

/// The variable with the shell's name, which marks a request.
pub const VARIABLE: &str = "COMPLETE";

/// The index of the word at the cursor, in shells that send the words after it, too.
const INDEX: &str = "_CLAP_COMPLETE_INDEX";
/// What separates candidates, in shells that don't want one on each line.
const SEPARATOR: &str = "_CLAP_IFS";

/// The words of a request.
pub struct Words {
    /// All of them, with the program's name.
    pub all: Vec<OsString>,
    /// The position of the one at the cursor.
    index: usize,
}

impl Words {
    /// `None` if the process isn't a request.
    pub fn of(argv: &[OsString]) -> Option<Self> {
        let start = argv.iter().position(|word| word == "--")? + 1;
        let all = argv.get(start..).filter(|words| !words.is_empty())?.to_vec();
        let index = std::env::var(INDEX).ok().and_then(|index| index.parse().ok());
        Some(Self { index: index.unwrap_or(all.len() - 1), all })
    }

    /// Joins the parts of words with colons, such as `web:/etc`, which bash sends apart: `web`, `:`, `/etc`. It doesn't
    /// send the spaces between words, so what follows a colon stays apart where it is the word at the cursor.
    fn with_colons(self) -> Self {
        let mut joined = Self { all: Vec::new(), index: self.index };
        let mut is_open = false;
        for (at, word) in self.all.into_iter().enumerate() {
            let is_colon = word == ":" && at > 1;
            if (is_colon || is_open)
                && at != self.index
                && let Some(last) = joined.all.last_mut()
            {
                last.push(&word);
                joined.index -= usize::from(at < self.index);
            } else {
                joined.all.push(word);
            }
            is_open = is_colon;
        }
        joined
    }

    /// The one at the cursor; empty if it isn't there yet.
    fn current(&self) -> &OsStr {
        self.all.get(self.index).map_or(OsStr::new(""), OsString::as_os_str)
    }
}

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
    fn words_with_colons_are_joined_except_at_the_cursor() {
        let joined = |words: &str, index| {
            let all = words.split(' ').map(OsString::from).collect();
            let joined = Words { all, index }.with_colons();
            let all: Vec<_> = joined.all.iter().map(|word| word.to_string_lossy()).collect();
            (all.join(" "), joined.index)
        };
        assert_eq!(joined("goloo cp web : x no", 5), ("goloo cp web:x no".to_owned(), 3));
        assert_eq!(joined("goloo cp no web : x", 3), ("goloo cp no web:x".to_owned(), 3));
        assert_eq!(joined("goloo cp web : no", 4), ("goloo cp web: no".to_owned(), 3));
        assert_eq!(joined("goloo cp web", 2), ("goloo cp web".to_owned(), 2));
    }

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
