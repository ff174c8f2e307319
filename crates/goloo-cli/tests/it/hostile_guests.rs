//! Compromised guests: what they write, how much of it, and where it may go.

use crate::common;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::{Ran, World};

/// A world with a machine whose `ssh` is this script.
fn with_ssh(program: &str) -> World {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    world.program("ssh", program);
    world
}

/// All paths below a folder, without following symlinks.
fn paths(folder: &Path) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            all.extend(paths(&path));
        }
        all.insert(path);
    }
    all
}

/// All paths except goloo's own, which may change.
fn others(world: &World) -> BTreeSet<PathBuf> {
    let state = world.state();
    let asked = Path::new("ssh.asked");
    paths(world.path())
        .into_iter()
        .filter(|path| !path.starts_with(&state) && path.file_name() != Some(asked.as_os_str()))
        .collect()
}

fn copy(world: &World, hostile: &str, arguments: &[&str]) -> Ran {
    let mut command = world.command();
    command.env("OUTSIDE", world.path()).env("HOSTILE", hostile);
    Ran(command.arg("cp").args(arguments).output().unwrap())
}

#[test]
fn a_copy_from_a_hostile_guest_stays_inside_its_target() {
    let world = with_ssh(include_str!("hostile_sftp.py"));
    let target = world.path().join("work/target");
    fs::create_dir(&target).unwrap();
    let before = others(&world);
    copy(&world, "", &["-r", "hello:/srv/data", "target"]);
    let new: BTreeSet<PathBuf> = others(&world).difference(&before).cloned().collect();
    assert!(new.iter().any(|path| path.ends_with("good")), "nothing was copied at all: {new:?}");
    for path in &new {
        assert!(path.starts_with(&target), "{} lies outside", path.display());
        let data = fs::symlink_metadata(path).unwrap();
        let kind = data.file_type();
        assert!(kind.is_file() || kind.is_dir(), "{}: {kind:?}", path.display());
        assert!(!kind.is_fifo() && data.mode() & 0o6000 == 0, "{}: {:o}", path.display(), data.mode());
    }
}

#[test]
fn a_folder_sent_in_place_of_a_file_writes_only_the_target_file() {
    let world = with_ssh(include_str!("hostile_sftp.py"));
    let before = others(&world);
    copy(&world, "folder-for-file", &["hello:/etc/motd", "motd"]);
    for new in others(&world).difference(&before) {
        assert_eq!(*new, world.path().join("work/motd"));
        assert!(fs::symlink_metadata(new).unwrap().is_file());
    }
}

/// In scp's old protocol the remote side chooses the file names. A client that uses it by default is told to use SFTP,
/// if it supports that.
#[test]
fn copies_use_sftp() {
    let world = with_ssh(include_str!("hostile_sftp.py"));
    let real = Command::new("sh").args(["-c", "command -v scp"]).output().unwrap();
    let real = String::from_utf8(real.stdout).unwrap();
    world.program("scp", &format!("#!/bin/sh\nexec {} -O \"$@\"\n", real.trim()));
    let before = others(&world);
    copy(&world, "", &["hello:/etc/motd", "motd"]).expect(0);
    let new: Vec<PathBuf> = others(&world).difference(&before).cloned().collect();
    assert_eq!(new, [world.path().join("work/motd")]);
    let asked = find(&world, "ssh.asked");
    assert!(asked.contains("sftp") && !asked.contains("legacy"), "{asked}");
}

fn find(world: &World, name: &str) -> String {
    let path = paths(world.path()).into_iter().find(|path| path.file_name().is_some_and(|file| file == name));
    fs::read_to_string(path.unwrap()).unwrap()
}

/// Before version 8.0 scp accepted any file name that the remote side sent.
#[test]
fn an_scp_that_trusts_remote_file_names_is_refused() {
    let world = with_ssh("#!/bin/sh\nexit 1\n");
    let scp = |usage: &str| {
        let script = format!("[ $# = 0 ] && {{ echo 'usage: scp [{usage}] [-c cipher]' >&2; exit 1; }}");
        world.program("scp", &format!("#!/bin/sh\n{script}\necho \"$*\" > copied\n"));
    };
    let copied = world.path().join("work/copied");
    scp("-346BCpqrv");
    let refused = world.run(&["cp", "hello:/etc/motd", "."]).expect(1);
    assert!(refused.stderr().contains("OpenSSH 8.7"), "{refused:?}");
    assert!(!copied.exists());
    // For an upload, the local side chooses the names.
    world.run(&["cp", "./x", "hello:/tmp/"]).expect(0);
    for (usage, speaks_sftp) in [("-346BCpqrTv", false), ("-346ABCOpqRrsTv", true)] {
        scp(usage);
        world.run(&["cp", "hello:/etc/motd", "."]).expect(0);
        let words = fs::read_to_string(&copied).unwrap();
        assert_eq!(words.split_whitespace().any(|word| word == "-s"), speaks_sftp, "{words}");
    }
}

/// The peak memory of a command in KiB, its duration, and its output.
fn measured(world: &World, arguments: &[&str]) -> (u64, Duration, Ran) {
    let report = world.path().join("time");
    let mut command = Command::new("python3");
    world.settle(&mut command);
    command.args(["-c", MEASURE]).arg(&report).arg(common::goloo()).args(arguments);
    let begun = Instant::now();
    let ran = Ran(command.output().unwrap());
    (fs::read_to_string(report).unwrap().trim().parse().unwrap(), begun.elapsed(), ran)
}

const MEASURE: &str = "
import os, resource, subprocess, sys
status = subprocess.run(sys.argv[2:]).returncode
open(sys.argv[1], 'w').write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(status)
";

const MEMORY_MAX: u64 = 100_000;

#[test]
fn endless_guest_output_uses_bounded_memory_and_time() {
    for stream in [1, 2] {
        let world = with_ssh(&format!("#!/bin/sh\nexec cat /dev/zero >&{stream}\n"));
        for verbose in [false, true] {
            let mut arguments = vec!["wait", "hello", "--timeout", "3s"];
            arguments.extend(verbose.then_some("-v"));
            let (memory, time, ran) = measured(&world, &arguments);
            let ran = ran.expect(8);
            assert!(memory < MEMORY_MAX, "stream {stream}: {memory} KiB");
            assert!(time < Duration::from_secs(10), "stream {stream}: {time:?}");
            assert!(ran.0.stdout.len() + ran.0.stderr.len() < 200_000, "it printed too much");
        }
    }
}

/// Endless output, before the report and within it.
#[test]
fn an_endless_log_is_followed_in_bounded_memory() {
    for mark in ["", "@goloo:status@", "@goloo:log@"] {
        let world = with_ssh(&format!(
            "#!/bin/sh\nfor last; do :; done\ncase $last in *goloo:status*) echo {mark}; exec yes a line of the log ;; esac\n"
        ));
        let (memory, time, _) = measured(&world, &["wait", "hello", "--timeout", "3s", "-v"]);
        assert!(memory < MEMORY_MAX, "{mark}: {memory} KiB");
        assert!(time < Duration::from_secs(10), "{mark}: {time:?}");
    }
}

#[test]
fn a_record_keeps_a_bounded_number_of_guest_errors() {
    let world = with_ssh(
        r#"#!/usr/bin/python3
import json
print("@goloo:status@")
print(json.dumps({"status": "error", "errors": ["A" * 900 + str(n) for n in range(900)]}))
print("@goloo:end@")
"#,
    );
    let failed = world.run(&["wait", "hello", "--timeout", "20s"]).expect(8);
    assert!(failed.stderr().contains("more"), "{failed:?}");
    let record = fs::metadata(world.state().join("active/hello/state.json")).unwrap();
    assert!(record.len() < 100_000, "{} bytes", record.len());
}

/// Text that a terminal would interpret as commands.
const ESCAPES: &str = "\x1b]0;title\x07\x1b[2J\x1b[31mred\r\u{202e}\u{9b}1m";

fn has_controls(text: &str) -> bool {
    text.chars().any(|c| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{2069}').contains(&c) && c != '…')
}

#[test]
fn logs_escape_control_characters_except_with_raw() {
    let world =
        with_ssh(&format!("#!/bin/sh\nprintf '%s\\n' '{ESCAPES}one'; printf '%s\\n' '{ESCAPES}two' >&2\n"));
    let ran = world.run(&["logs", "hello"]).expect(0);
    assert!(ran.stdout().contains("one") && ran.stderr().contains("two"), "{ran:?}");
    assert!(!has_controls(&ran.stdout()) && !has_controls(&ran.stderr()), "{ran:?}");

    let folder = world.machines().remove(0);
    let mut log = fs::OpenOptions::new().append(true).open(folder.join("console.log")).unwrap();
    std::io::Write::write_all(&mut log, format!("{ESCAPES}three\n").as_bytes()).unwrap();
    let ran = world.run(&["logs", "hello", "--console"]).expect(0);
    assert!(ran.stdout().contains("three") && !has_controls(&ran.stdout()), "{ran:?}");
    let raw = world.run(&["logs", "hello", "--console", "--raw"]).expect(0);
    assert!(raw.stdout().contains(ESCAPES), "{raw:?}");
    world.run(&["logs", "hello", "--raw"]).expect(2);
}

#[test]
fn logs_forward_the_exit_status_and_end_when_their_reader_closes() {
    let world = with_ssh("#!/bin/sh\nexit 7\n");
    world.run(&["logs", "hello"]).expect(7);
    world.program("ssh", "#!/bin/sh\nexec yes\n");
    let mut command = Command::new("sh");
    world.settle(&mut command);
    let begun = Instant::now();
    let script = format!("{} logs hello -f | head -n 3", common::goloo().display());
    let ran = Ran(command.args(["-c", &script]).output().unwrap()).expect(0);
    assert_eq!(ran.stdout(), "y\ny\ny\n");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

/// Files of the wrong format are detected before any QEMU program reads them; files that would block are refused.
#[test]
fn invalid_images_are_refused_with_the_reason() {
    let world = World::new();
    let stack = world.path().join("work/stacks/hello");
    let image = stack.join("disk.img");
    let made = Command::new("qemu-img").args(["create", "-q", "-f", "vmdk"]).arg(&image).arg("1M").status();
    assert!(made.unwrap().success());
    let refused = world.run(&["create", "hello", "--no-wait"]).expect(1);
    assert!(refused.stderr().contains("its format is vmdk"), "{refused:?}");
    assert!(refused.stderr().contains("qemu-img convert -f vmdk -O qcow2"), "{refused:?}");

    fs::remove_file(&image).unwrap();
    assert!(Command::new("mkfifo").arg(&image).status().unwrap().success());
    let begun = Instant::now();
    let mut command = Command::new("timeout");
    world.settle(&mut command);
    command.arg("20").arg(common::goloo()).args(["create", "hello", "--no-wait"]);
    let refused = Ran(command.output().unwrap()).expect(1);
    assert!(refused.stderr().contains("not a regular file"), "{refused:?}");
    assert!(begun.elapsed() < Duration::from_secs(15));
    world.assert_empty("after the refusals");
}

/// A server can make `ssh` log any number of messages.
#[test]
fn the_ssh_log_goes_to_a_pipe_not_a_file() {
    let world = with_ssh("#!/bin/sh\nstat -c %F \"$2\" > ../kind; echo refused > \"$2\"; exit 3\n");
    let temporary = world.path().join("temporary");
    fs::create_dir(&temporary).unwrap();
    let ran = Ran(world.command().env("TMPDIR", &temporary).args(["ssh", "hello"]).output().unwrap());
    assert!(ran.code() == 3 && ran.stderr().contains("refused"), "{ran:?}");
    assert_eq!(fs::read_to_string(world.path().join("kind")).unwrap(), "fifo\n");
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
}

#[test]
fn guest_output_is_not_mistaken_for_ssh_diagnostics() {
    let world = with_ssh("#!/bin/sh\necho 'Host key verification failed.' >&2\nexit 255\n");
    let ran = world.run(&["wait", "hello", "--timeout", "3s"]);
    assert!(ran.code() != 0 && !ran.stderr().contains("a different host key"), "{ran:?}");
    let own = "#!/bin/sh\necho 'Host key verification failed.' > \"$2\"\nexit 255\n";
    world.program("ssh", own);
    let ran = world.run(&["wait", "hello", "--timeout", "3s"]);
    assert!(ran.stderr().contains("a different host key"), "{ran:?}");
}

#[test]
fn terminating_goloo_also_ends_a_silent_log() {
    let world = with_ssh("#!/bin/sh\necho $$ > ../pid\nexec sleep 600\n");
    let mut logs = world.command().args(["logs", "hello"]).spawn().unwrap();
    let pid = || fs::read_to_string(world.path().join("pid")).ok()?.trim().parse::<i32>().ok();
    common::wait_until("ssh runs", || pid().is_some());
    let id = rustix::process::Pid::from_raw(i32::try_from(logs.id()).unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert_eq!(logs.wait().unwrap().code(), Some(130));
    let ssh = rustix::process::Pid::from_raw(pid().unwrap()).unwrap();
    common::wait_until("its ssh has ended", || rustix::process::test_kill_process(ssh).is_err());
}

#[test]
fn a_local_image_larger_than_64_gib_is_refused() {
    let world = World::new();
    let image = world.path().join("sparse.img");
    let mut start = vec![0; 512];
    start[510..].copy_from_slice(&[0x55, 0xaa]);
    fs::write(&image, start).unwrap();
    fs::File::options().write(true).open(&image).unwrap().set_len(8 << 40).unwrap();
    world.stack("sparse", &format!(r#"{{"vm": {{"image": "{}"}}}}"#, image.display()), "");
    let ran = world.run(&["create", "sparse", "--no-wait"]).expect(1);
    assert!(ran.stderr().contains("larger than 64 GiB"), "{ran:?}");
}

#[test]
fn a_user_with_more_than_256_keys_is_refused() {
    let world = World::new();
    let key = || goloo_model::host_key::HostKey::generate().public_openssh;
    let keys: String = (0..300).map(|_| format!("{}\n", key())).collect();
    fs::write(world.path().join("many.pub"), keys).unwrap();
    let file = world.path().join("many.pub").display().to_string();
    let config = format!(r#"{{"vm": {{"users": [{{"username": "dev", "ssh_key_files": ["{file}"]}}]}}}}"#);
    world.stack("many", &config, "");
    let ran = world.run(&["create", "many", "--dry-run"]).expect(2);
    assert!(ran.stderr().contains("has more than 256 keys"), "{ran:?}");
}
