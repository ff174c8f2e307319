//! What scripts and other programs depend on: options, exit codes, variables, the structure of JSON output and of
//! records. Changes here are changes of the public surface: it may grow, but nothing in it may change or disappear.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::common::World;
use clap::CommandFactory;
use goloo_cli::exit;
use serde_json::Value;

/// The paths of all values with their types, sorted. All items of a list share one path.
fn shape(value: &Value) -> BTreeSet<String> {
    fn walk(value: &Value, path: &str, shape: &mut BTreeSet<String>) {
        let kind = match value {
            Value::Object(map) => {
                map.iter().for_each(|(key, value)| walk(value, &format!("{path}.{key}"), shape));
                return;
            }
            Value::Array(items) => {
                items.iter().for_each(|item| walk(item, &format!("{path}[]"), shape));
                "list"
            }
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
        };
        shape.insert(format!("{} {kind}", path.trim_start_matches('.')));
    }
    let mut lines = BTreeSet::new();
    walk(value, "", &mut lines);
    lines
}

fn listed(title: &str, shape: &BTreeSet<String>) -> String {
    let lines: String = shape.iter().map(|line| format!("  {line}\n")).collect();
    format!("{title}\n{lines}")
}

#[test]
fn json_output_of_the_commands() {
    let world = World::new();
    let mut surface = String::new();
    let mut show = |arguments: &[&str]| {
        let mut value = world.json(arguments);
        // The user chooses the keys.
        if let Some(tags) = value.pointer_mut("/vm/tags") {
            *tags = Value::Object(serde_json::Map::new());
        }
        surface += &listed(&arguments.join(" "), &shape(&value));
    };
    show(&["create", "hello", "--dry-run", "--json"]);
    show(&["create", "hello", "--no-wait", "--tag", "team=web", "--json"]);
    show(&["list", "--no-refresh", "--json"]);
    show(&["list", "--refresh", "--json"]);
    show(&["status", "hello", "--json"]);
    show(&["stop", "hello", "--force", "--json"]);
    show(&["snapshot", "hello", "before", "--json"]);
    show(&["snapshot", "hello", "--list", "--json"]);
    show(&["restore", "hello", "before", "--yes", "--json"]);
    show(&["clone", "hello", "twin", "--json"]);
    show(&["export", "hello", "hello.goloo", "--json"]);
    show(&["import", "hello.goloo", "--as", "moved", "--json"]);
    show(&["delete", "moved", "--yes", "--json"]);
    show(&["rename", "twin", "copy", "--json"]);
    show(&["rename", "copy", "twin", "--json"]);
    show(&["protect", "twin", "--json"]);
    show(&["unprotect", "twin", "--json"]);
    show(&["history", "hello", "--json"]);
    show(&["resume", "hello", "--json"]);
    show(&["diff", "hello", "--json"]);
    show(&["refresh", "--json"]);
    show(&["delete", "hello", "--yes", "--json"]);
    show(&["archive", "list", "--json"]);
    show(&["archive", "show", "hello", "--json"]);
    show(&["config", "list", "--json"]);
    show(&["config", "validate", "hello", "--json"]);
    show(&["settings", "show", "--json"]);
    show(&["state", "show", "--json"]);
    show(&["image", "list", "--json"]);
    show(&["status", "nothing", "--json"]);
    insta::assert_snapshot!(surface);
}

#[test]
fn the_record() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    let record = fs::read(world.state().join("active/hello/state.json")).unwrap();
    insta::assert_snapshot!(listed("state.json", &shape(&serde_json::from_slice(&record).unwrap())));
}

#[test]
fn commands_and_options() {
    fn walk(command: &clap::Command, path: &str, lines: &mut BTreeSet<String>) {
        for argument in command.get_arguments().filter(|argument| argument.get_id() != "help") {
            let long = argument.get_long().map(|long| format!("--{long}"));
            let short = argument.get_short().map(|short| format!("-{short}"));
            let name = argument.get_id().to_string();
            let words: Vec<_> = short.into_iter().chain(long).collect();
            lines.insert(format!("{path} {}", if words.is_empty() { name } else { words.join(" ") }));
        }
        for command in command.get_subcommands() {
            walk(command, &format!("{path} {}", command.get_name()), lines);
        }
    }
    let mut root = goloo_cli::args::Cli::command();
    root.build();
    let mut lines = BTreeSet::new();
    walk(&root, "goloo", &mut lines);
    insta::assert_snapshot!(lines.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn exit_codes() {
    let codes = [
        exit::DONE,
        exit::FAILED,
        exit::USAGE,
        exit::NOT_FOUND,
        exit::PERMISSION,
        exit::LOCKED,
        exit::MIDWAY,
        exit::NOT_SAVED,
        exit::DEGRADED,
        exit::INTERRUPTED,
    ];
    assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 130]);
}

/// The names of environment variables in the sources, except those for tests.
#[test]
fn variables() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut folders: Vec<_> = fs::read_dir(crates).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| !folder.ends_with("goloo-testkit"));
    let mut folders: Vec<_> = folders.into_iter().map(|folder| folder.join("src")).collect();
    let mut names = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap_or_default();
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            for (at, _) in text.match_indices("\"GOLOO_") {
                let name: String = text[at + 1..].chars().take_while(|letter| *letter != '"').collect();
                if name.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_') {
                    names.insert(name);
                }
            }
        }
    }
    insta::assert_snapshot!(names.into_iter().collect::<Vec<_>>().join("\n"));
}
