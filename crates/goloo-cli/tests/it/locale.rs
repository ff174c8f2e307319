//! Where the locale isn't UTF-8, goloo's own output is ASCII: marks, tables, progress, excerpts of logs, help, and
//! the screen of `goloo top`.

use std::fs;

use clap::CommandFactory;

use crate::common::tmux::Terminal;
use crate::common::{Ran, World, goloo, wait_until};

const DONE: &str = r#"{"status":"done","errors":[]}"#;
/// Too wide for the column of tags.
const TAG: &str = "purpose=an-explanation-that-is-longer-than-anyone-wants-to-read-in-a-table";

fn world() -> World {
    let world = World::new();
    world.ssh_finds(DONE);
    world.program("goloo", &format!("#!/bin/sh\nexec {} \"$@\"\n", goloo().display()));
    world
}

/// What a terminal 120 columns wide gets from this command line, byte for byte, in a locale.
fn received(world: &World, locale: &str, command: &str) -> String {
    let terminal = Terminal::of_size(world, 120, 24);
    let file = world.path().join(format!("received-{locale}"));
    terminal.tmux(&["pipe-pane", &format!("cat > {}", file.display())]);
    terminal.run(&format!("LC_ALL={locale} {command}; echo rea''dy"));
    let read = || fs::read_to_string(&file).unwrap_or_default();
    wait_until(command, || read().contains("ready"));
    read()
}

#[test]
fn marks_are_ascii_where_the_locale_is_not_utf_8() {
    let world = World::new();
    let said = |locale: &str| {
        let ran = Ran(world.command().arg("doctor").env("LC_ALL", locale).output().unwrap());
        ran.stdout()
    };
    let plain = said("C");
    assert!(plain.is_ascii() && plain.contains("\n+ "), "{plain}");
    assert_eq!(said("C.UTF-8").replace('✓', "+").replace('–', "-").replace('✗', "x"), plain);
}

#[test]
fn tables_are_ascii() {
    let world = world();
    world.run(&["create", "hello", "--no-wait", "--tag", TAG]).expect(0);
    let shown = received(&world, "C.UTF-8", "goloo list -v");
    assert!(shown.contains('…'), "{shown}");
    let plain = received(&world, "C", "goloo list -v");
    assert!(plain.is_ascii() && plain.contains("..."), "{plain}");
}

#[test]
fn progress_is_ascii() {
    let world = world();
    let shown = received(&world, "C.UTF-8", "goloo create hello --as one");
    assert!(shown.contains('✓') && shown.contains('⠁'), "{shown:?}");
    let plain = received(&world, "C", "goloo create hello --as two");
    assert!(plain.is_ascii() && plain.contains("+\u{1b}[0m starting QEMU"), "{plain:?}");
}

#[test]
fn the_bar_before_lines_of_a_log_is_ascii() {
    let world = world();
    world.ssh_finds(r#"{"status":"error","errors":["a module failed"]}"#);
    let said = |locale: &str, vm: &str| {
        let mut command = world.command();
        command.args(["create", "hello", "--as", vm]).env("LC_ALL", locale);
        Ran(command.output().unwrap()).expect(8).stderr()
    };
    let shown = said("C.UTF-8", "one");
    assert!(shown.contains("\n  │ the last line of the log"), "{shown}");
    let plain = said("C", "two");
    assert!(plain.is_ascii() && plain.contains("\n  | the last line of the log"), "{plain}");
}

#[test]
fn the_screen_of_top_is_ascii() {
    let world = world();
    world.run(&["create", "hello", "--no-wait", "--tag", TAG]).expect(0);
    let terminal = Terminal::open(&world);
    terminal.run("LC_ALL=C goloo top; echo en''ded");
    terminal.until("the VM, a shortened line and an unknown TTL", |screen| {
        screen.contains("running") && screen.contains("...") && screen.contains(" - ")
    });
    for (key, shown) in [("?", "| Enter"), ("d", "| > ")] {
        terminal.keys(key);
        terminal.until(shown, |screen| screen.contains("+----") && screen.contains('|'));
        assert!(terminal.screen().is_ascii(), "{}", terminal.screen());
        terminal.key("Escape");
        terminal.until("no box", |screen| !screen.contains("+----"));
    }
    terminal.keys("q");
    terminal.shows("the end", "ended");
}

#[test]
fn help_is_ascii() {
    fn check(command: &mut clap::Command, path: &str) {
        let help = command.render_long_help().to_string();
        assert!(help.is_ascii(), "{path}: {help}");
        for child in command.get_subcommands_mut() {
            let path = format!("{path} {}", child.get_name());
            check(child, &path);
        }
    }
    let mut command = goloo_cli::args::Cli::command();
    command.build();
    check(&mut command, "goloo");
}
