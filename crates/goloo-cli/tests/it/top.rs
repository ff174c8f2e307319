//! `goloo top` as a person meets it: the real command in a terminal, with QEMU's stand-in. The terminal is tmux, which
//! tells what is on the screen and in which state the terminal is.

use std::fs;
use std::process::Command;

use crate::common::tmux::Terminal;
use crate::common::{World, goloo};

const DONE: &str = r#"{"status":"done","errors":[]}"#;

/// Runs top, with its process id in the file `pid` and its exit code on the screen.
fn top(terminal: &Terminal<'_>) {
    terminal.run(&format!("sh -c 'echo $$ >pid; exec {} top'; echo exit=$?", goloo().display()));
    terminal.shows("the list", "NAME");
}

fn pid(terminal: &Terminal<'_>) -> String {
    fs::read_to_string(terminal.world.path().join("work/pid")).unwrap().trim().to_owned()
}

/// Whether the alternate screen is shown, and whether the cursor is.
fn modes(terminal: &Terminal<'_>) -> String {
    terminal
        .tmux(&["display-message", "-p", "alternate=#{alternate_on} cursor=#{cursor_flag}"])
        .trim()
        .to_owned()
}

/// Asserts that top has ended with this exit code and left the terminal as it was.
#[track_caller]
fn assert_restored(terminal: &Terminal<'_>, exit: i32) {
    terminal.shows("the exit code", &format!("exit={exit}"));
    assert_eq!(modes(terminal), "alternate=0 cursor=1");
    terminal.run("stty -a; echo end=$?");
    terminal.shows("the terminal's settings", "end=0");
    let screen = terminal.screen();
    let settings: Vec<&str> = screen.split([' ', '\n']).collect();
    for setting in ["icanon", "isig", "echo", "icrnl", "opost"] {
        assert!(settings.contains(&setting), "{setting} is off:\n{screen}");
    }
}

/// With two VMs.
fn world() -> World {
    let world = World::new();
    world.ssh_finds(DONE);
    for name in ["db", "web"] {
        world.run(&["create", "hello", "--no-wait", "--as", name]).expect(0);
    }
    world
}

fn row(screen: &str, vm: &str) -> String {
    screen.lines().find(|line| line.starts_with(&format!("{vm} "))).unwrap_or_default().to_owned()
}

#[test]
fn a_vm_appears_stops_starts_and_is_deleted_by_keys() {
    let world = world();
    let terminal = Terminal::open(&world);
    top(&terminal);
    assert_eq!(modes(&terminal), "alternate=1 cursor=0");
    terminal.until("both run, with what they use", |screen| {
        let is_measured = |vm| {
            let row = row(screen, vm);
            row.contains("running") && row.contains("%") && row.contains("/512M") && row.contains("/1.0G")
        };
        is_measured("db") && is_measured("web")
    });
    terminal.keys("/we");
    terminal.shows("the filter", "filter: we (1 shown)");
    terminal.key("Enter");
    terminal.keys("x");
    terminal.until("web is stopped", |screen| {
        screen.contains("web is stopped") && row(screen, "web").contains("stopped")
    });
    assert_eq!(world.qemus().len(), 1);
    terminal.keys("s");
    terminal.until("web is running", |screen| {
        screen.contains("web is running") && row(screen, "web").contains("running")
    });
    terminal.keys("d");
    terminal.shows("the question", "Delete?");
    terminal.keys("n");
    terminal.until("no question", |screen| !screen.contains("Delete?"));
    assert_eq!(world.names(), ["db", "web"]);
    terminal.keys("d");
    terminal.shows("the question", "Delete?");
    terminal.keys("y");
    terminal.until("web is deleted", |screen| {
        screen.contains("deleted web; the archived record is web-") && screen.contains("no VMs match")
    });
    assert_eq!(world.names(), ["db"]);
    terminal.key("Escape");
    terminal.until("no message", |screen| !screen.contains("deleted web"));
    terminal.key("Escape");
    terminal.until("all VMs", |screen| row(screen, "db").contains("running"));
    world.run(&["create", "hello", "--no-wait", "--as", "late"]).expect(0);
    terminal.until("a VM made elsewhere", |screen| row(screen, "late").contains("running"));
    terminal.keys("q");
    assert_restored(&terminal, 0);
}

#[test]
fn signals_and_ctrl_c_end_it_and_restore_the_terminal() {
    let world = world();
    let terminal = Terminal::open(&world);
    for signal in ["TERM", "HUP", "INT"] {
        top(&terminal);
        terminal.shows("the list", "goloo top  2 VMs");
        let sent = Command::new("kill").args([&format!("-{signal}"), &pid(&terminal)]).status();
        assert!(sent.unwrap().success());
        assert_restored(&terminal, 130);
        terminal.run("clear");
    }
    top(&terminal);
    terminal.key("C-c");
    assert_restored(&terminal, 0);
}

#[test]
fn the_screen_is_restored_after_ssh_and_logs() {
    let world = world();
    let answer =
        "case $last in *goloo*|*@load*) ;; *) echo inside the guest; read line; echo got $line >>got ;; esac";
    world.program("ssh", &format!("#!/bin/sh\nfor last; do :; done\n{answer}\n"));
    let terminal = Terminal::open(&world);
    top(&terminal);
    terminal.until("both run", |screen| row(screen, "web").contains("running"));
    for _ in 0..2 {
        terminal.key("Enter");
        terminal.shows("the guest", "inside the guest");
        assert_eq!(modes(&terminal), "alternate=0 cursor=1");
        terminal.run("q");
        terminal.until("the list again", |screen| row(screen, "web").contains("running"));
        assert_eq!(modes(&terminal), "alternate=1 cursor=0");
    }
    assert_eq!(fs::read_to_string(world.path().join("work/got")).unwrap(), "got q\ngot q\n");
    world.program("ssh", "#!/bin/sh\necho a line of the log\nexit 3\n");
    terminal.keys("l");
    terminal.until("a log that failed stays until it is read", |screen| {
        screen.contains("a line of the log") && screen.contains("press Enter to return to goloo top")
    });
    terminal.key("Enter");
    terminal.until("the list again", |screen| row(screen, "web").contains("running"));
    terminal.keys("q");
    assert_restored(&terminal, 0);
}

#[test]
fn quitting_interrupts_an_operation_after_a_question_and_says_what_is_left() {
    let world = World::new();
    let mut create = world.command();
    create.env("GOLOO_STAND_IN", "ignores-power-down").args(["create", "hello", "--no-wait"]);
    assert!(create.output().unwrap().status.success());
    let terminal = Terminal::open(&world);
    top(&terminal);
    terminal.until("it runs", |screen| row(screen, "hello").contains("running"));
    terminal.keys("x");
    terminal.until("it is being stopped", |screen| row(screen, "hello").contains("stop: "));
    terminal.keys("q");
    terminal.shows("the question", "These operations will be interrupted");
    terminal.keys("y");
    terminal.shows("what is left", "goloo resume hello");
    assert_restored(&terminal, 6);
    assert_eq!(world.qemus().len(), 1);
}

#[test]
fn without_a_terminal_it_names_the_list() {
    let world = World::new();
    let ran = world.run(&["top"]).expect(2);
    assert!(ran.stderr().contains("standard output is not a terminal"), "{ran:?}");
    assert!(ran.stderr().contains("hint: goloo list --refresh"), "{ran:?}");
    assert_eq!(ran.stdout(), "");
    let terminal = Terminal::open(&world);
    terminal.run(&format!("TERM=dumb {} top; echo exit=$?", goloo().display()));
    terminal.shows("the hint", "hint: goloo list --refresh");
    assert_restored(&terminal, 2);
    terminal.run("clear");
    terminal.run(&format!("{} top </dev/null; echo exit=$?", goloo().display()));
    terminal.shows("the reason", "standard input is not a terminal");
    assert_restored(&terminal, 2);
}

/// The colours of the screen are in its escape sequences.
#[test]
fn colours_follow_the_option_and_no_color() {
    let world = world();
    for (line, is_colored) in [
        ("{} top", true),
        ("{} top --color never", false),
        ("NO_COLOR=1 {} top", false),
        ("NO_COLOR=1 {} top --color always", true),
    ] {
        let terminal = Terminal::open(&world);
        terminal.run(&line.replace("{}", &goloo().display().to_string()));
        terminal.until(line, |screen| row(screen, "web").contains("running"));
        let screen = terminal.tmux(&["capture-pane", "-p", "-e"]);
        assert_eq!(screen.contains("\u{1b}[38;5;2m"), is_colored, "{line}: {screen:?}");
    }
}
