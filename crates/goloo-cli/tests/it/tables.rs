//! Tables on a terminal, and elsewhere.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::tmux::Terminal;
use crate::common::{World, goloo};

const DONE: &str = r#"{"status":"done","errors":[]}"#;
const NAME: &str = "the-database-of-the-shop-in-berlin";
const TAG: &str = "purpose=an-explanation-that-is-longer-than-anyone-wants-to-read-in-a-table";

const END: &str = "end-";

/// With one active and one archived VM, whose texts are too wide for any terminal.
fn world() -> World {
    let world = World::new();
    world.ssh_finds(DONE);
    world.program("goloo", &format!("#!/bin/sh\nexec {} \"$@\"\n", goloo().display()));
    for name in [NAME, "old"] {
        world.run(&["create", "hello", "--as", name, "--tag", TAG]).expect(0);
    }
    world.run(&["delete", "old", "--yes"]).expect(0);
    world
}

/// Runs a command on an empty screen, and waits for its end.
fn run(terminal: &Terminal<'_>, command: &str) {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let end = format!("{END}{}", COUNT.fetch_add(1, Ordering::Relaxed));
    terminal.run(&format!("clear; {command}; echo {end}"));
    terminal.until(command, |screen| screen.lines().any(|line| line == end));
}

/// What the last command has printed.
fn printed(terminal: &Terminal<'_>, capture: &[&str]) -> String {
    let screen = terminal.tmux(&[&["capture-pane", "-p"], capture].concat());
    let lines = screen.lines().take_while(|line| !line.starts_with(END));
    lines.map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn tables_fit_the_terminal_and_are_whole_elsewhere() {
    let world = world();
    let commands = [
        "goloo list -v --no-refresh",
        "goloo list --all -v --no-refresh",
        "goloo archive list -v",
        "goloo history old",
        "goloo image list",
        "goloo settings show",
        "goloo config list",
    ];
    for (width, height) in [(80, 24), (120, 40)] {
        let terminal = Terminal::of_size(&world, width, height);
        for command in commands {
            run(&terminal, command);
            let screen = printed(&terminal, &[]);
            // tmux joins what the terminal had to wrap.
            assert_eq!(screen, printed(&terminal, &["-J"]), "{command} at {width}");
            assert!(!screen.is_empty(), "{command}");
            assert!(
                !command.contains("list -v") || screen.contains(NAME) || screen.contains("old-"),
                "{screen}"
            );
        }
    }
    let piped = world.run(&["list", "-v"]).expect(0).stdout();
    assert!(piped.contains(NAME) && piped.contains(TAG) && piped.contains("STACK"), "{piped}");
    let archived = world.run(&["archive", "list", "-v"]).expect(0).stdout();
    assert!(archived.contains(TAG), "{archived}");
}

#[test]
fn states_are_colored_on_a_terminal_only() {
    let world = world();
    let terminal = Terminal::open(&world);
    let colored = |command: &str| {
        run(&terminal, command);
        printed(&terminal, &["-e"])
    };
    let screen = colored("goloo list --no-refresh");
    assert!(screen.contains("\u{1b}[2m(ready)"), "{screen:?}");
    for command in ["NO_COLOR=1 goloo list --no-refresh", "goloo list --no-refresh | cat"] {
        let screen = colored(command);
        assert!(screen.contains("(ready)") && !screen.contains('\u{1b}'), "{command}: {screen:?}");
    }
}
