//! Files that aren't what they should be: pipes, devices, and oversized files. No command hangs or reads one
//! completely.

use crate::common;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::common::{Ran, World};

/// Far longer than any of these commands takes, and far shorter than the time limit of a test.
const LIMIT: Duration = Duration::from_secs(20);

/// Runs a command that must exit by itself.
fn run(world: &World, arguments: &[&str]) -> Ran {
    let mut command = std::process::Command::new("timeout");
    world.settle(&mut command);
    command.args(["20", common::goloo().to_str().unwrap()]).args(arguments);
    let begin = Instant::now();
    let ran = Ran(command.output().unwrap());
    assert!(begin.elapsed() < LIMIT, "{arguments:?} took {:?}: {ran:?}", begin.elapsed());
    ran
}

/// Replaces a file with something else.
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
fn an_irregular_or_oversized_record_is_broken_and_the_others_are_listed() {
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
fn irregular_or_oversized_stack_and_settings_files_are_refused() {
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
        // A world-writable device is refused for its permissions.
        let is_named = ran.stderr().contains(said) || ran.stderr().contains("changed by other users");
        assert!(ran.stderr().contains("settings.json") && is_named, "{how}: {ran:?}");
    }
}

#[test]
fn an_oversized_backup_or_document_is_refused() {
    let world = World::new();
    let huge = world.path().join("huge");
    fs::File::create(&huge).unwrap().set_len(1 << 40).unwrap();
    let huge = huge.to_str().unwrap();
    for arguments in [["state", "restore", huge], ["state", "push", huge]] {
        let ran = run(&world, &arguments).expect(1);
        assert!(ran.stderr().contains("larger than"), "{ran:?}");
    }
}

#[test]
fn keys_per_user_and_key_files_per_stack_are_bounded() {
    let world = World::new();
    let file = |name: &str, text: &str| {
        let path = world.path().join(name);
        fs::write(&path, text).unwrap();
        format!("\"{}\"", path.display())
    };
    // Two bytes differ in each of these dummy keys.
    let key = |n: usize| {
        format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakY0xYcs0pqkq7OC8hVTCKu5UGvyZdwRPBMqtD{:04}\n", n)
    };
    let many = file("many", &(0..257).map(key).collect::<String>());
    let padded = file("padded", &format!("{}{}", key(1), "#\n".repeat((1 << 19) - 100)));
    for (name, files, said) in [
        ("many-keys", many, "the user \"ann\" has more than 256 keys"),
        (
            "many-files",
            vec![padded; 4000].join(","),
            "the key files of the stack are larger than 16 MiB in total",
        ),
    ] {
        let users =
            format!("{{\"users\": [{{\"username\": \"ann\", \"ssh_key_files\": [{files}]}}], \"cpus\"");
        world.stack(name, &common::HELLO.replacen("{\"cpus\"", &users, 1), "");
        let ran = run(&world, &["create", name, "--dry-run"]).expect(2);
        assert!(ran.stderr().contains(said), "{name}: {ran:?}");
    }
}

/// Templates whose values are nested or shared: comparing, printing or dropping them takes unlimited time, memory or
/// stack, which the template engine doesn't limit.
#[test]
fn a_template_exceeding_its_limits_is_an_error_and_not_a_crash() {
    let world = World::new();
    let grows = "{% set x=[x,x] %}{% set y=[y,y] %}".repeat(60);
    let lists = format!("{{% set x=[1] %}}{{% set y=[1] %}}{grows}");
    let nested =
        "{% set ns=namespace(x=1) %}{% for j in range(5) %}{% for i in range(90000) %}{% set ns.x=[ns.x] %}{% endfor %}{% endfor %}".to_owned();
    for (name, text) in [
        ("contains-itself", "{% set ns=namespace() %}{% set ns.x=ns %}{{ ns }}".to_owned()),
        ("is-deep", nested),
        ("has-many-branches", format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(60_000))),
        ("is-printed", format!("{lists}{{{{ x|string|length }}}}")),
        ("is-compared", format!("{lists}{{% if x==y %}}a{{% endif %}}")),
    ] {
        world.stack(name, common::HELLO, &format!("## template: goloo\n#cloud-config\n{text}\n"));
        let ran = run(&world, &["create", name, "--dry-run"]).expect(2);
        let said = "cloud-init.yaml:1:1: the template uses too much time or memory to render";
        assert!(ran.stderr().contains(said) && ran.stderr().contains("deeply nested"), "{name}: {ran:?}");
    }
    let ran = run(&world, &["config", "validate", "is-deep", "--json"]).expect(2);
    assert!(ran.stdout().contains("too much time or memory"), "{ran:?}");
}

/// The rendering process gets all values, unchanged.
#[test]
fn a_template_is_rendered_with_all_values_of_its_stack() {
    let world = World::new();
    let config = common::HELLO.replacen(
        '{',
        r#"{"cloud_init": {"vars": {"z": 1.10, "a": {"y": [18446744073709551615, -1, null], "b": 5e-324}, "f": 0.1234567890123456789}},"#,
        1,
    );
    let text = "## template: goloo\n#cloud-config\n{% for key in vars %}\n# {{ key }} {{ vars[key] }} {{ name }} {{ cpus }}\n{% endfor %}\n";
    world.stack("rendered", &config, text);
    let plan = world.json(&["create", "rendered", "--dry-run", "--json"]);
    let data = plan["plan"]["userData"].as_str().unwrap();
    for line in [
        "# a {'b': 5e-324, 'y': [18446744073709551615, -1, None]} rendered 1\n",
        "# f 0.12345678901234568 rendered 1\n",
        "# z 1.1 rendered 1\n",
    ] {
        assert!(data.contains(line), "{line}: {data}");
    }
}

/// Runs goloo in a shell with this limit. Any exit is fine except by a signal or a panic.
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
fn a_low_limit_on_open_files_is_a_readable_error() {
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
    // With a few more, everything works.
    for line in ["list", "create hello --no-wait", "delete hello --yes"] {
        limited(&world, "ulimit -n 40", line).expect(0);
    }
}

/// Otherwise the system kills a process that writes beyond the limit with SIGXFSZ, in the middle of the write.
#[test]
fn a_file_size_limit_is_a_readable_error_and_breaks_nothing() {
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
fn a_document_or_backup_must_be_a_regular_file_or_standard_input() {
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
fn the_first_20_broken_records_are_listed_and_the_rest_counted() {
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
fn leftover_temporary_files_are_removed_after_a_day() {
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
