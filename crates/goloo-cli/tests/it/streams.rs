//! Standard output that can't be written, readers that disappear, and termination signals.

use crate::common;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::common::{Ran, World, stand_in, wait_until};
use clap::CommandFactory;

const UNWRITTEN: &str = "error: can't write to standard output";

fn run_into(world: &World, words: &[&str], stdout: impl Into<Stdio>) -> Ran {
    let mut command = world.command();
    command.args(words).env("AWS_EC2_METADATA_DISABLED", "true");
    Ran(command
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap())
}

fn full() -> fs::File {
    fs::File::options().write(true).open("/dev/full").unwrap()
}

/// The writing end of a pipe without a reader.
fn nobody() -> std::io::PipeWriter {
    std::io::pipe().unwrap().1
}

/// The arguments with which a read-only command has something to print; `None` for commands that change something or
/// log in to a VM.
fn shows(command: &str) -> Option<Vec<&'static str>> {
    Some(match command {
        "list" | "doctor" | "man" | "ssh-config" | "archive list" | "state show" | "config list"
        | "config schema" | "settings show" | "settings path" | "settings schema" | "image list" | "help" => {
            vec![]
        }
        "settings get" => vec!["localProvider"],
        "state locks" => vec!["--json"],
        "status" | "history" => vec!["hello"],
        "logs" => vec!["hello", "--console"],
        "diff" => vec!["hello"],
        "archive show" => vec!["ARCHIVED"],
        "state pull" => vec!["-"],
        "config validate" => vec!["hello"],
        "completion" => vec!["zsh"],
        // Only AWS has DNS names.
        "dns show" | "dns swap" | "dns rollback" => return None,
        "create" | "resume" | "delete" | "protect" | "unprotect" | "ssh" | "exec" | "cp" | "start"
        | "stop" | "restart" | "wait" | "snapshot" | "restore" | "clone" | "export" | "import" | "rename"
        | "recreate" | "adopt" | "refresh" | "archive clean" | "archive delete" | "state unlock"
        | "state move" | "state push" | "state backup" | "state restore" | "config import"
        | "config export" | "config edit" | "config rm" | "config relocate" | "settings set"
        | "image pull" | "image build" | "image rm" | "image prune" | "migrate" | "init" | "tag" | "up"
        | "down" | "apply" | "set" | "top" | "code" | "docker" | "autostart" | "bake" => {
            return None;
        }
        other => panic!("say here whether goloo {other} only shows something"),
    })
}

fn leaves() -> Vec<(String, bool)> {
    let mut root = goloo_cli::args::Cli::command();
    root.build();
    let of = |command: &clap::Command, path: String| {
        let json = command.get_arguments().any(|argument| argument.get_id() == "json");
        (path, json)
    };
    let each = root.get_subcommands().flat_map(|command| {
        let children: Vec<_> = command
            .get_subcommands()
            .map(|child| of(child, format!("{} {}", command.get_name(), child.get_name())))
            .collect();
        if children.is_empty() { vec![of(command, command.get_name().to_owned())] } else { children }
    });
    each.collect()
}

#[test]
fn unwritable_output_is_an_error_but_a_closed_pipe_is_not() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait", "--as", "gone"]).expect(0);
    world.run(&["delete", "-y", "gone"]).expect(0);
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    fs::write(world.path().join("work/stacks/hello/cloud-init.yaml"), "#cloud-config\n{}\n").unwrap();
    let archived =
        world.json(&["archive", "list", "--json"])["archived"][0]["archiveId"].as_str().unwrap().to_owned();
    let mut checked = 0;
    let shown = leaves()
        .into_iter()
        .filter_map(|(command, json)| shows(&command).map(|given| (command, json, given)));
    for (command, has_json, given) in shown {
        for json in [false, true] {
            let mut words: Vec<&str> = command.split(' ').collect();
            words.extend(given.iter().map(|word| if *word == "ARCHIVED" { archived.as_str() } else { word }));
            if json && (!has_json || words.contains(&"--json")) {
                continue;
            }
            words.extend(json.then_some("--json"));
            let usual = run_into(&world, &words, Stdio::piped());
            assert!(!usual.stdout().is_empty(), "{words:?} shows nothing: {usual:?}");
            let failed = run_into(&world, &words, full());
            assert_eq!(
                failed.code(),
                if usual.code() == 0 { 1 } else { usual.code() },
                "{words:?}: {failed:?}"
            );
            let told = failed.stderr();
            assert!(
                told.contains(UNWRITTEN) && told.contains("No space left") && told.contains("hint: "),
                "{words:?}: {failed:?}"
            );
            let unread = run_into(&world, &words, nobody());
            assert_eq!(unread.code(), usual.code(), "{words:?}: {unread:?}");
            assert!(!unread.stderr().contains("error:"), "{words:?}: {unread:?}");
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} commands were checked");
    for words in [&["--help"][..], &["--version"], &["list", "--help"]] {
        assert!(run_into(&world, words, full()).expect(1).stderr().contains(UNWRITTEN), "{words:?}");
        run_into(&world, words, nobody()).expect(0);
    }
    // An error that can't be written as JSON is printed as text.
    let told = run_into(&world, &["status", "nobody", "--json"], full()).expect(3);
    assert!(told.stderr().contains(UNWRITTEN), "{told:?}");
    world.run(&["delete", "-y", "hello"]).expect(0);
}

/// A user who can't or doesn't read the result still gets the operation and its record.
#[test]
fn an_operation_completes_even_if_its_output_is_not_read() {
    let world = World::new();
    for json in [&[][..], &["--json"]] {
        for is_full in [true, false] {
            let run = |words: &[&str]| {
                let words = [words, json].concat();
                let ran = match is_full {
                    true => run_into(&world, &words, full()).expect(1),
                    false => run_into(&world, &words, nobody()).expect(0),
                };
                let lost =
                    ran.stderr().contains(UNWRITTEN) && ran.stderr().contains("only the output was lost");
                assert_eq!(lost, is_full, "{words:?}: {ran:?}");
            };
            let vm = || world.json(&["status", "hello", "--json"])["vm"].clone();
            run(&["create", "hello", "--no-wait"]);
            assert_eq!((vm()["operation"].is_null(), world.qemus().len()), (true, 1));
            run(&["stop", "hello", "--force"]);
            assert_eq!(world.qemus().len(), 0);
            run(&["clone", "hello", "copy"]);
            run(&["export", "hello", "hello.goloo"]);
            run(&["import", "hello.goloo", "--as", "moved"]);
            std::fs::remove_file(world.path().join("work/hello.goloo")).unwrap();
            run(&["rename", "copy", "twin"]);
            run(&["protect", "hello"]);
            assert_eq!(vm()["protected"], true);
            run(&["unprotect", "hello"]);
            run(&["snapshot", "hello", "before"]);
            run(&["restore", "hello", "before", "-y"]);
            run(&["delete", "-y", "hello", "twin", "moved"]);
            world.assert_empty("after the delete");
        }
    }
}

#[test]
fn an_unwritable_standard_error_does_not_stop_a_command() {
    let world = World::new();
    for stderr in [Stdio::from(full()), Stdio::from(nobody())] {
        let mut command = world.command();
        let status = command
            .args(["-v", "create", "hello", "--no-wait"])
            .stdout(Stdio::null())
            .stderr(stderr)
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(0));
        world.run(&["delete", "-y", "hello"]).expect(0);
    }
}

/// A file that goloo opens must not become its standard output: results would be written to it.
#[test]
fn closed_standard_streams_are_not_reused_for_files() {
    let world = World::new();
    for closed in [">&-", ">&- 2>&-", "<&- >&- 2>&-"] {
        let mut shell = Command::new("sh");
        world.settle(&mut shell);
        let line = format!("exec {} create hello --no-wait --json {closed}", common::goloo().display());
        assert_eq!(shell.args(["-c", &line]).status().unwrap().code(), Some(0), "{closed}");
        let vm = world.json(&["status", "hello", "--json"]);
        assert!(vm["vm"]["operation"].is_null() && vm["live"]["state"] == "running", "{closed}: {vm}");
        world.run(&["delete", "-y", "hello"]).expect(0);
    }
    // Open, but not for writing.
    let read_only = fs::File::open("/dev/null").unwrap();
    assert!(run_into(&world, &["state", "pull", "-"], read_only).expect(1).stderr().contains(UNWRITTEN));
}

#[test]
fn output_to_a_nonblocking_pipe_is_complete() {
    let world = World::new();
    let (mut read, write) = std::io::pipe().unwrap();
    let flags = rustix::fs::fcntl_getfl(&write).unwrap();
    rustix::fs::fcntl_setfl(&write, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    let mut command = world.command();
    let expected = world.run(&["config", "schema"]).expect(0).stdout();
    // Fills the pipe almost completely before anything is read.
    let mut filled = 0;
    while let Ok(count) = std::io::Write::write(&mut &write, &[b'x'; 4096]) {
        filled += count;
    }
    let mut child = command.args(["config", "schema"]).stdout(write).spawn().unwrap();
    // The command also holds the writing end.
    drop(command);
    let stat = format!("/proc/{}/stat", child.id());
    wait_until("it waits for room, or is over", || {
        let stat = fs::read_to_string(&stat).unwrap_or_default();
        child.try_wait().unwrap().is_some()
            || stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S'))
    });
    let mut all = Vec::new();
    std::io::Read::read_to_end(&mut read, &mut all).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(String::from_utf8(all[filled..].to_vec()).unwrap(), expected);
}

/// A QEMU that doesn't start until it is released, and a guest that accepts connections but whose logins hang.
struct SlowQemu {
    world: World,
}

impl SlowQemu {
    fn new() -> Self {
        let world = World::new();
        world.program("ssh", "#!/bin/sh\nexec sleep 600\n");
        let (begun, go) = (world.path().join("begun"), world.path().join("go"));
        world.program(
            "slow-qemu",
            &format!(
                "#!/bin/sh\ncase \"$*\" in *-netdev*) touch '{}'; while [ ! -e '{}' ]; do sleep 0.05; done;; esac\nexec '{}' \"$@\"\n",
                begun.display(),
                go.display(),
                stand_in().display()
            ),
        );
        Self { world }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.world.path().join(name)
    }

    /// Starts goloo and waits until it calls QEMU. `before` and `options` surround its command line.
    fn create(&self, before: &str, options: &str) -> Child {
        for file in ["begun", "go"] {
            let _ = fs::remove_file(self.file(file));
        }
        let mut shell = Command::new("sh");
        self.world.settle(&mut shell);
        let line = format!("{before}exec {} create hello {options}", common::goloo().display());
        shell.args(["-c", &line]).env("GOLOO_QEMU", self.file("bin/slow-qemu")).stdin(Stdio::null());
        let child = shell.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn().unwrap();
        wait_until("QEMU is called", || self.file("begun").exists());
        child
    }

    fn let_go(&self) {
        fs::write(self.file("go"), "").unwrap();
    }
}

fn send(signal: &str, child: &Child) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
}

/// Waits for goloo's message on standard error that it received a signal, and returns it.
fn wait_until_heard(child: &mut Child) -> String {
    let mut said = String::new();
    let mut stderr = std::io::BufReader::new(child.stderr.as_mut().unwrap());
    while !said.contains("stopping after the current call") {
        assert_ne!(std::io::BufRead::read_line(&mut stderr, &mut said).unwrap(), 0, "{said}");
    }
    said
}

#[test]
fn the_first_signal_ends_goloo_after_the_current_call_and_save() {
    let slow = SlowQemu::new();
    for (signal, name) in [("INT", "Ctrl-C"), ("TERM", "SIGTERM"), ("HUP", "SIGHUP")] {
        let mut child = slow.create("", "");
        send(signal, &child);
        let heard = wait_until_heard(&mut child);
        assert!(heard.contains(&format!("{name}: stopping")), "{heard}");
        slow.let_go();
        let ended = Ran(child.wait_with_output().unwrap()).expect(6);
        let goes_on =
            ["goloo resume hello", "goloo wait hello"].iter().any(|hint| ended.stderr().contains(hint));
        assert!(goes_on, "{signal}: {ended:?}");
        // The call in progress was completed and recorded: the machine can be found and deleted.
        let vm = slow.world.json(&["status", "hello", "--json"]);
        assert_eq!(vm["live"]["state"], "running", "{signal}: {vm}");
        assert_eq!(slow.world.qemus().len(), 1, "{signal}");
        slow.world.run(&["delete", "-y", "hello"]).expect(0);
        slow.world.assert_empty(signal);
    }
}

#[test]
fn the_second_signal_ends_goloo_immediately() {
    let slow = SlowQemu::new();
    for (first, second) in [("INT", "INT"), ("TERM", "TERM"), ("HUP", "HUP"), ("HUP", "TERM")] {
        let mut child = slow.create("", "");
        send(first, &child);
        wait_until_heard(&mut child);
        send(second, &child);
        // QEMU isn't released, so only a goloo that doesn't wait for it exits.
        let ended = Ran(child.wait_with_output().unwrap()).expect(130);
        assert!(ended.stderr().contains("goloo resume hello"), "{first} {second}: {ended:?}");
        slow.let_go();
        slow.world.run(&["delete", "-y", "hello"]).expect(0);
        slow.world.assert_empty(second);
    }
}

fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (read, write) = std::io::pipe().unwrap();
    let flags = rustix::fs::fcntl_getfl(&write).unwrap();
    rustix::fs::fcntl_setfl(&write, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    for piece in [4096, 1] {
        while std::io::Write::write(&mut &write, &vec![b'x'; piece]).is_ok() {}
    }
    rustix::fs::fcntl_setfl(&write, flags).unwrap();
    (read, write)
}

#[test]
fn the_second_signal_ends_goloo_while_standard_error_is_blocked() {
    let world = World::new();
    for (first, second) in [("INT", "TERM"), ("TERM", "INT"), ("HUP", "INT")] {
        let (_unread, stuck) = full_pipe();
        let mut command = world.command();
        command.args(["create", "hello", "--no-wait"]).stdout(Stdio::null()).stderr(stuck);
        let mut child = command.spawn().unwrap();
        let status = format!("/proc/{}/status", child.id());
        wait_until("it listens to signals", || {
            let status = fs::read_to_string(&status).unwrap();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
            let caught = u64::from_str_radix(caught, 16).unwrap();
            [1, 2, 15].iter().all(|signal| caught >> (signal - 1) & 1 == 1)
        });
        send(first, &child);
        send(second, &child);
        let mut code = None;
        wait_until("it ends", || {
            code = child.try_wait().unwrap();
            code.is_some()
        });
        assert_eq!(code.unwrap().code(), Some(130), "{first} {second}");
        if world.json(&["list", "--json"])["vms"].as_array().is_some_and(|vms| !vms.is_empty()) {
            world.run(&["delete", "-y", "hello"]).expect(0);
        }
    }
}

#[test]
fn a_sighup_ignored_at_start_stays_ignored() {
    let slow = SlowQemu::new();
    let child = slow.create("trap '' HUP; ", "--no-wait");
    send("HUP", &child);
    // The signal was delivered or never will be: it is ignored, not pending.
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim().to_owned();
    assert_eq!(u64::from_str_radix(&ignored, 16).unwrap() & 1, 1, "{status}");
    slow.let_go();
    Ran(child.wait_with_output().unwrap()).expect(0);
    slow.world.run(&["delete", "-y", "hello"]).expect(0);
}

/// Ctrl-C on a terminal reaches all processes of the foreground group: it must not break the call in progress.
#[test]
fn a_signal_to_the_process_group_does_not_interrupt_the_current_call() {
    let slow = SlowQemu::new();
    for signal in ["INT", "HUP"] {
        let mut child = slow.create("", "");
        let group = format!("-{}", child.id());
        assert!(Command::new("kill").args(["-s", signal, "--", &group]).status().unwrap().success());
        wait_until_heard(&mut child);
        slow.let_go();
        Ran(child.wait_with_output().unwrap()).expect(6);
        assert_eq!(slow.world.qemus().len(), 1, "{signal}");
        slow.world.run(&["delete", "-y", "hello"]).expect(0);
        slow.world.assert_empty(signal);
    }
}

/// No operation is interrupted, so the exit code is that of Ctrl-C.
#[test]
fn a_signal_during_wait_suggests_to_run_wait_again() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    world.program("ssh", "#!/bin/sh\necho > \"$HOME/waits\"\nexec sleep 600\n");
    for signal in ["INT", "TERM", "HUP"] {
        let waits = world.path().join("home/waits");
        let _ = fs::remove_file(&waits);
        let mut command = world.command();
        let child =
            command.args(["wait", "hello"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_until("it waits", || waits.exists());
        send(signal, &child);
        let ended = Ran(child.wait_with_output().unwrap()).expect(1);
        assert!(
            ended.stderr().contains("stopped waiting") && ended.stderr().contains("goloo wait hello"),
            "{ended:?}"
        );
    }
    world.run(&["delete", "-y", "hello"]).expect(0);
}

#[test]
fn exit_statuses_are_read_if_sigchld_was_ignored_at_start() {
    let world = World::new();
    let ignoring = "import os, signal, sys\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nos.execv(sys.argv[1], sys.argv[1:])";
    let mut command = Command::new("python3");
    world.settle(&mut command);
    command.args(["-c", ignoring]).arg(common::goloo()).args(["create", "hello", "--no-wait"]);
    common::Ran(command.output().unwrap()).expect(0);
    world.run(&["delete", "hello", "--yes"]).expect(0);
}
