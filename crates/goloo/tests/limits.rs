//! Files that aren't what they should be: pipes, devices, and far too much. Nothing hangs, nothing is read whole.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{Ran, World};

/// Far longer than any of these commands takes, far shorter than a test may.
const LIMIT: Duration = Duration::from_secs(20);

/// Runs a command that must end by itself.
fn run(world: &World, arguments: &[&str]) -> Ran {
    let mut command = std::process::Command::new("timeout");
    world.settle(&mut command);
    command.args(["20", common::goloo().to_str().unwrap()]).args(arguments);
    let begin = Instant::now();
    let ran = Ran(command.output().unwrap());
    assert!(begin.elapsed() < LIMIT, "{arguments:?} took {:?}: {ran:?}", begin.elapsed());
    ran
}

/// What a file can be in place of itself.
fn spoil(path: &Path, how: &str) {
    let _ = fs::remove_file(path);
    match how {
        "a named pipe" => {
            rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
                .unwrap();
        }
        "a device" => std::os::unix::fs::symlink("/dev/zero", path).unwrap(),
        _ => fs::File::create(path).unwrap().set_len(1 << 40).unwrap(),
    }
}

const KINDS: [(&str, &str); 3] = [
    ("a named pipe", "it is a named pipe, not a regular file"),
    ("a device", "it is a device, not a regular file"),
    ("a huge file", "larger than"),
];

#[test]
fn a_record_that_is_no_regular_file_is_broken_and_the_others_are_listed() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    world.run(&["create", "hello", "--as", "two", "--no-wait"]).expect(0);
    world.run(&["delete", "two", "--yes"]).expect(0);
    let archived = fs::read_dir(world.state().join("archive")).unwrap().next().unwrap().unwrap().path();
    for (how, said) in KINDS {
        for folder in [world.state().join("active/evil"), archived.clone()] {
            fs::create_dir_all(&folder).unwrap();
            spoil(&folder.join("state.json"), how);
            let _ = fs::remove_file(folder.join("state.json.prev"));
        }
        let listed = run(&world, &["list", "--all"]).expect(0);
        assert!(listed.stdout().contains("hello"), "{listed:?}");
        assert!(format!("{listed:?}").contains(said), "{how}: {listed:?}");
        for arguments in [
            &["status", "evil"][..],
            &["delete", "evil", "--yes"],
            &["history"],
            &["doctor"],
            &["refresh"],
            &["archive", "list"],
            &["state", "pull", "-"],
            &["create", "hello", "--as", "evil", "--no-wait"],
        ] {
            let ran = run(&world, arguments);
            assert!(ran.0.stdout.len() < 100_000 && ran.0.stderr.len() < 100_000, "{how} {arguments:?}");
        }
    }
}

#[test]
fn files_of_stacks_and_settings_are_regular_and_small() {
    for (how, said) in KINDS {
        let world = World::new();
        world.run(&["create", "hello", "--no-wait"]).expect(0);
        let stack = world.path().join("work/stacks/hello");
        let at = |name: &str| -> PathBuf { stack.join(name) };
        fs::write(at("configure.sh"), "true\n").unwrap();
        for file in ["cloud-init.yaml", "configure.sh"] {
            let before = fs::read(at(file)).unwrap();
            spoil(&at(file), how);
            for arguments in
                [&["config", "validate", "hello"][..], &["create", "hello", "--as", "b", "--dry-run"]]
            {
                let ran = run(&world, arguments);
                assert_ne!(ran.code(), 0, "{ran:?}");
                assert!(ran.stderr().contains(file) && format!("{ran:?}").contains(said), "{how}: {ran:?}");
            }
            run(&world, &["diff", "hello"]);
            fs::remove_file(at(file)).unwrap();
            fs::write(at(file), before).unwrap();
        }
        let keys = world.path().join("keys");
        spoil(&keys, how);
        let config = common::HELLO.replacen(
            "{\"cpus\"",
            &format!(
                "{{\"users\": [{{\"username\": \"ann\", \"ssh_key_files\": [\"{}\"]}}], \"cpus\"",
                keys.display()
            ),
            1,
        );
        world.stack("keyed", &config, "");
        let ran = run(&world, &["create", "keyed", "--dry-run"]).expect(1);
        assert!(format!("{ran:?}").contains(said), "{how}: {ran:?}");
        for file in ["settings.json", "registry.json"] {
            spoil(&world.path().join("config").join(file), how);
        }
        let ran = run(&world, &["list"]);
        assert_ne!(ran.code(), 0, "{how}: {ran:?}");
        // A device that everybody can write is refused for that.
        let is_named = ran.stderr().contains(said) || ran.stderr().contains("changed by other users");
        assert!(ran.stderr().contains("settings.json") && is_named, "{how}: {ran:?}");
    }
}

#[test]
fn a_backup_or_document_without_end_is_refused() {
    let world = World::new();
    let huge = world.path().join("huge");
    fs::File::create(&huge).unwrap().set_len(1 << 40).unwrap();
    let huge = huge.to_str().unwrap();
    for arguments in [["state", "restore", huge], ["state", "push", huge]] {
        let ran = run(&world, &arguments).expect(1);
        assert!(ran.stderr().contains("larger than"), "{ran:?}");
    }
}

/// goloo in a shell with this limit. Every end but a signal's and a panic's is fine.
fn limited(world: &World, limit: &str, line: &str) -> common::Ran {
    let mut shell = std::process::Command::new("sh");
    world.settle(&mut shell);
    let script = format!("{limit}; exec {} {line}", common::goloo().display());
    let ran = common::Ran(shell.args(["-c", &script]).output().unwrap());
    assert!(ran.0.status.code().is_some(), "{limit}: {line}: {ran:?}");
    assert!(!ran.stderr().contains("panicked"), "{limit}: {line}: {ran:?}");
    ran
}

#[test]
fn too_few_open_files_are_an_error_in_words() {
    let world = World::new();
    for files in 6..=24 {
        let limit = format!("ulimit -n {files}");
        for line in ["list", "create hello --no-wait", "delete hello --yes", "list --json"] {
            let ran = limited(&world, &limit, line).expect(1);
            let said = if line == "list --json" { ran.stdout() } else { ran.stderr() };
            assert!(said.contains("Too many open files"), "{files}: {line}: {ran:?}");
            assert!(said.contains("ulimit -n"), "{files}: {line}: {ran:?}");
        }
        limited(&world, &limit, "--version").expect(0);
    }
    // With a few more all of it works.
    for line in ["list", "create hello --no-wait", "delete hello --yes"] {
        limited(&world, "ulimit -n 40", line).expect(0);
    }
}

/// Otherwise the system ends a process that writes beyond the limit, by SIGXFSZ in the middle of the write.
#[test]
fn a_limit_on_the_size_of_files_is_an_error_in_words_and_breaks_nothing() {
    let world = World::new();
    for blocks in [0, 1, 2, 8] {
        let ran = limited(&world, &format!("ulimit -f {blocks}"), "create hello --no-wait");
        assert_ne!(ran.code(), 0, "{blocks}: {ran:?}");
        assert!(ran.stderr().contains("error: ") && ran.stderr().contains("hint: "), "{blocks}: {ran:?}");
        if blocks == 0 {
            assert!(ran.stderr().contains("File too large"), "{ran:?}");
        }
        world.run(&["list"]).expect(0);
        if world.json(&["list", "--json"])["vms"].as_array().is_some_and(|vms| !vms.is_empty()) {
            world.run(&["delete", "hello", "--yes"]).expect(0);
        }
        world.run(&["create", "hello", "--no-wait"]).expect(0);
        limited(&world, &format!("ulimit -f {blocks}"), "list").expect(0);
        world.run(&["delete", "hello", "--yes"]).expect(0);
    }
}

#[test]
fn a_document_or_backup_is_a_regular_file_or_standard_input() {
    let world = World::new();
    let path = world.path().join("given");
    for (how, said) in KINDS.into_iter().take(2) {
        spoil(&path, how);
        for command in ["push", "restore"] {
            let ran = run(&world, &["state", command, path.to_str().unwrap()]).expect(1);
            assert!(ran.stderr().contains(said) && ran.stderr().contains("- for standard input"), "{ran:?}");
        }
    }
}

#[test]
fn of_many_broken_records_the_first_are_told_and_the_rest_is_counted() {
    let world = World::new();
    for number in 0..30 {
        let folder = world.state().join(format!("active/vm-{number:02}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("state.json"), "{}").unwrap();
    }
    for command in [&["list"][..], &["state", "backup", "backup.tar.zst"], &["state", "move", "sqlite"]] {
        let said = run(&world, command).stderr();
        assert!(said.contains("vm-19") && !said.contains("vm-20"), "{command:?}: {said}");
        assert!(said.contains("and 10 more"), "{command:?}: {said}");
    }
    assert_eq!(world.json(&["list", "--json"])["broken"].as_array().unwrap().len(), 30);
}

#[test]
fn files_that_a_process_left_half_written_are_removed_after_a_day() {
    let world = World::new();
    world.run(&["settings", "set", "localProvider", "qemu"]).expect(0);
    let folder = world.path().join("config");
    let old = std::time::SystemTime::now() - Duration::from_secs(25 * 60 * 60);
    let file = |name: &str| {
        let file = fs::File::create(folder.join(name)).unwrap();
        if !name.ends_with("new") {
            file.set_modified(old).unwrap();
        }
    };
    [".goloo-Ab3Xyz", ".goloo-Ab3new", ".goloo-notes.txt", "settings"].into_iter().for_each(file);
    world.run(&["settings", "set", "localProvider", "multipass"]).expect(0);
    let left = |name: &str| folder.join(name).exists();
    assert!(!left(".goloo-Ab3Xyz"));
    assert!(left(".goloo-Ab3new") && left(".goloo-notes.txt") && left("settings"));
}
