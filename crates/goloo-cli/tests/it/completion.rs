//! Completion as each shell does it: the shell itself, in a terminal.

use std::fs;

use crate::common::tmux::Terminal;
use crate::common::{World, goloo};

/// Shells: the command that starts one, and what a user puts into its settings.
const SHELLS: [(&str, &str, &str); 3] = [
    ("bash", "bash --norc -i", r#"eval "$(goloo completion bash)""#),
    ("zsh", "zsh -f -i", r#"autoload -U compinit; compinit -u -D; eval "$(goloo completion zsh)""#),
    (
        "fish",
        "fish --no-config -i",
        // Suggestions would show the answer before Tab is pressed.
        "set -g fish_autosuggestion_enabled 0; goloo completion fish | source",
    ),
];

/// What is typed before Tab is pressed, and what then stands there.
const TYPED: [(&str, &str); 12] = [
    ("goloo sto", "goloo stop"),
    ("goloo ssh w", "goloo ssh web"),
    ("goloo delete --y", "goloo delete --yes"),
    ("goloo create --provider q", "--provider qemu"),
    ("goloo list --sort cre", "--sort creator"),
    ("goloo init x --template py", "--template python-dev"),
    ("goloo init x --image alma", "--image almalinux-"),
    ("goloo settings get local", "get localProvider"),
    ("goloo cp notes.txt w", "cp notes.txt web:"),
    ("goloo cp web:x no", "cp web:x notes.txt"),
    ("goloo archive show ol", "archive show old-20"),
    ("goloo restore web bef", "restore web before-upgrade"),
];

/// With the VM `web`, which has a snapshot, the archived VM `old`, and a file in the working folder.
fn world() -> World {
    let world = World::new();
    world.ssh_finds(r#"{"status":"done","errors":[],"recoverable_errors":{}}"#);
    for name in ["old", "web"] {
        world.run(&["create", "hello", "--no-wait", "--as", name]).expect(0);
    }
    world.run(&["delete", "old", "--yes"]).expect(0);
    world.run(&["stop", "web"]).expect(0);
    world.run(&["snapshot", "web", "before-upgrade"]).expect(0);
    fs::write(world.path().join("work/notes.txt"), "x").unwrap();
    std::os::unix::fs::symlink(goloo(), world.path().join("bin/goloo")).unwrap();
    world
}

#[test]
fn each_shell_completes_names_values_and_files() {
    let world = world();
    for (shell, start, settings) in SHELLS {
        let terminal = Terminal::open(&world);
        terminal.run(&format!("exec {start}"));
        terminal.run(&format!("{settings}; echo rea''dy"));
        terminal.shows(&format!("{shell} is ready"), "ready");
        for (typed, completed) in TYPED {
            terminal.run("clear");
            terminal
                .until("an empty screen", |screen| !screen.contains("ready") && !screen.contains("goloo"));
            terminal.keys(typed);
            terminal.shows(typed, typed);
            terminal.key("Tab");
            terminal.shows(&format!("{shell}: {typed}"), completed);
            terminal.key("C-u");
        }
    }
}

/// What is offered at the end of these words.
fn offered(world: &World, words: &[&str]) -> Vec<String> {
    let mut command = world.command();
    command.env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string());
    let output = command.arg("--").args(words).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn names_are_offered_before_options_are_asked_for() {
    let world = world();
    assert_eq!(offered(&world, &["goloo", "ssh", ""]), ["web"]);
    assert_eq!(offered(&world, &["goloo", "create", "--provider", ""]), ["qemu", "multipass", "aws"]);
    assert_eq!(offered(&world, &["goloo", "restore", "web", ""]), ["before-upgrade"]);
    assert_eq!(offered(&world, &["goloo", "snapshot", "web", "--delete", ""]), ["before-upgrade"]);
    let options = offered(&world, &["goloo", "ssh", "-"]);
    assert!(options.contains(&"-A".to_owned()), "{options:?}");
    // Commands are offered by their own names, not by aliases; an alias that is typed is completed all the same.
    let commands = offered(&world, &["goloo", ""]);
    for (name, alias) in [("status", "info"), ("ssh", "shell"), ("delete", "destroy"), ("list", "ls")] {
        assert!(commands.contains(&name.to_owned()) && !commands.contains(&alias.to_owned()), "{commands:?}");
    }
    assert!(offered(&world, &["goloo", "inf"]).contains(&"info".to_owned()));
    assert_eq!(offered(&world, &["goloo", "shell", ""]), ["web"]);
    assert_eq!(offered(&world, &["goloo", "help", "snap"]), ["snapshot"]);
}

#[test]
fn a_file_name_with_control_characters_is_not_offered() {
    let world = world();
    fs::write(world.path().join("work/notes\u{1b}[2J"), "x").unwrap();
    assert_eq!(offered(&world, &["goloo", "cp", "no"]), ["notes.txt"]);
}
