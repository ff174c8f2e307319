//! Commands that errors, hints and notes propose: each one in the sources is a valid command line. Those that libraries
//! propose as `NextStep`s are tested in `output/hint.rs`, where the compiler asks for each of them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap::error::ErrorKind;

/// Files whose texts are put together from parts, or are command lines that goloo refuses.
const SKIPPED: [&str; 3] = ["output/hint.rs", "other_tools.rs", "legacy.rs"];

/// Words that follow `goloo` in prose.
const PROSE: [&str; 3] = ["creates", "then", "has"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The code without comments, tests and line breaks within literals.
fn texts(source: &str) -> String {
    let code = source.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut text = String::new();
    for line in lines {
        match text.strip_suffix('\\') {
            Some(continued) => text = continued.to_owned() + line.trim_start(),
            None => text = text + "\n" + line,
        }
    }
    text
}

/// The parts of a text that begin with a mark and `goloo `, up to one of the ends.
fn commands<'t>(text: &'t str, mark: char, ends: &'t [char]) -> impl Iterator<Item = &'t str> {
    let begins = text.match_indices("goloo ").filter(move |(at, _)| text[..*at].ends_with(mark));
    begins.map(move |(at, _)| text[at..].split(ends).next().unwrap_or_default().trim_end())
}

/// The words, with examples in place of what is filled in.
fn words(command: &str) -> Vec<OsString> {
    let mut line = String::new();
    let mut rest = command;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, behind) = after.split_once('}').unwrap_or((after, ""));
        line += before;
        // What follows a word directly is an option that may be there.
        let is_word = line.ends_with([' ', '\'']);
        line += match name {
            _ if !is_word => "",
            "kind" | "provider" => "qemu",
            "verb" => "swap",
            _ => "web",
        };
        rest = behind;
    }
    line += rest;
    shlex::split(&line)
        .unwrap_or_else(|| panic!("unbalanced quotes: {line}"))
        .into_iter()
        .map(Into::into)
        .collect()
}

/// Why the command line isn't valid. A command may be mentioned without its arguments.
fn problem(command: &str) -> Option<String> {
    let words = words(command);
    let error = goloo_cli::args::parse(&words).err()?;
    let is_mention = words.iter().skip(1).all(|word| !word.to_string_lossy().starts_with('-'))
        && matches!(
            error.kind(),
            ErrorKind::MissingRequiredArgument | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        );
    let is_help = error.kind() == ErrorKind::DisplayHelp;
    (!is_mention && !is_help).then(|| format!("{command}: {error}"))
}

#[test]
fn each_command_that_is_proposed_is_a_valid_command_line() {
    let mut root = goloo_cli::args::Cli::command();
    root.build();
    let known: BTreeSet<String> =
        root.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&folder, &mut files);
    let (mut checked, mut problems) = (BTreeSet::new(), Vec::new());
    for file in files {
        let name = file.strip_prefix(&folder).unwrap().display().to_string();
        if SKIPPED.contains(&&*name) || name.ends_with("tests.rs") {
            continue;
        }
        let text = texts(&fs::read_to_string(&file).unwrap());
        let quoted = commands(&text, '`', &['`']).chain(commands(&text, '"', &['"', ',', ';']));
        for command in quoted {
            let second = command.split(' ').nth(1).unwrap_or_default();
            if second.is_empty() || second.starts_with(['{', '-']) || PROSE.contains(&second) {
                continue;
            }
            match known.contains(second) {
                true => problems.extend(problem(command).map(|problem| format!("{name}: {problem}"))),
                false => problems.push(format!("{name}: {command}: there is no such command")),
            }
            checked.insert(command.to_owned());
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(checked.len() > 100, "only {} commands were found", checked.len());
}
