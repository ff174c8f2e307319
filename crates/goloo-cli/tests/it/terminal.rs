//! Untrusted text reaches a terminal only as plain text: every command, with hostile records, configs, file names,
//! settings, archives, programs and arguments.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{HELLO, Ran, World};
use clap::CommandFactory;
use goloo_model::printable::is_printable;
use serde_json::{Value, json};

const FORGED: [&str; 3] = ["fake", "error: fake", "hint: fake"];

/// Everything that a terminal interprets: C0 except NUL, DEL, C1, separators, bidirectional controls, zero-width
/// characters, a tag. And lines that look like goloo's own output.
fn payload() -> String {
    let controls = ('\u{1}'..='\u{1f}').chain('\u{7f}'..='\u{9f}').chain('\u{2028}'..='\u{202e}');
    let others = "\u{61c}\u{200b}\u{200d}\u{200e}\u{2066}\u{2069}\u{feff}\u{e0041}";
    let all: String = controls.chain(others.chars()).collect();
    format!("x\u{1b}]0;PWN\u{7}\u{1b}[2J{all}\r\nfake  aws  ready\nerror: fake\nhint: fake\n")
}

/// The same, short enough for a file name.
const NAME: &str = "a\u{1b}[31mb\u{9b}2J\u{202e}\nfake  aws\rc";

#[track_caller]
fn assert_clean(what: &str, ran: &Ran, json: bool) {
    assert_ne!(ran.code(), 101, "{what} panicked: {ran:?}");
    for (stream, bytes) in [("stdout", &ran.0.stdout), ("stderr", &ran.0.stderr)] {
        let text = std::str::from_utf8(bytes).unwrap_or_else(|error| panic!("{what}: {stream}: {error}"));
        let raw: Vec<char> =
            text.chars().filter(|c| !is_printable(*c) && !matches!(c, '\n' | '\t')).collect();
        assert!(raw.is_empty(), "{what}: {stream} has {raw:?} raw: {text:?}");
        let forged =
            text.lines().find(|line| FORGED.iter().any(|forged| line.trim_start().starts_with(forged)));
        assert_eq!(forged, None, "{what}: {stream} has a forged line: {text:?}");
    }
    if json && !ran.0.stdout.is_empty() {
        serde_json::from_slice::<Value>(&ran.0.stdout)
            .unwrap_or_else(|error| panic!("{what}: {error}: {ran:?}"));
    }
}

/// Each command without subcommands, with its path, and whether it has `--json`.
fn commands() -> Vec<(String, bool)> {
    fn walk(command: &clap::Command, path: &str, found: &mut Vec<(String, bool)>) {
        let path = format!("{path} {}", command.get_name());
        let mut children = command.get_subcommands().peekable();
        if children.peek().is_none() {
            found.push((
                path.trim().to_owned(),
                command.get_arguments().any(|argument| argument.get_id() == "json"),
            ));
        }
        children.for_each(|child| walk(child, &path, found));
    }
    let mut root = goloo_cli::args::Cli::command();
    root.build();
    let mut found = Vec::new();
    root.get_subcommands().for_each(|command| walk(command, "", &mut found));
    found
}

/// The arguments for a command: an active VM, an archived one, a stack and a file, all hostile.
fn arguments<'a>(command: &str, scene: &'a Scene) -> Vec<Vec<&'a str>> {
    let (vm, id, stack, file) = (scene.vm, scene.archived, scene.stack.as_str(), scene.file.as_str());
    match command {
        "create" => vec![
            vec![stack, "--dry-run"],
            vec![stack, "--no-wait", "--as", "other"],
            vec![vm],
            vec![file, "-f", file],
        ],
        "delete" => vec![vec![vm], vec![vm, "-y"], vec![vm, "-y", "--forget"]],
        "resume" | "protect" | "unprotect" | "status" | "history" | "diff" | "ssh" => vec![vec![vm]],
        "list" => {
            vec![vec![], vec!["-v"], vec!["--refresh"], vec!["--all", "-v"], vec!["-q"], vec!["--tag", file]]
        }
        "exec" => vec![vec![vm, "--", "true"]],
        "cp" => vec![vec![file, "hello:/tmp"], vec![file, file]],
        "ssh-config" => {
            vec![vec![], vec![vm], vec!["--install"], vec!["--install", "-y"], vec!["--uninstall"]]
        }
        "autostart" => vec![vec![vm, "on"], vec!["--start"], vec![vm, file]],
        "code" => vec![vec![vm], vec![vm, file]],
        "docker" => vec![vec![vm], vec![vm, "--rm"]],
        "logs" => vec![vec![vm], vec![vm, "--console"]],
        "start" | "stop" | "restart" => vec![vec![vm, "--timeout", "1s"]],
        "wait" => vec![vec![vm, "--timeout", "1s"]],
        "snapshot" => vec![vec![vm], vec![vm, "--list"], vec![vm, file]],
        "restore" => vec![vec![vm, "before", "-y"]],
        "export" => vec![vec![vm, file], vec![vm, "copy.goloo"]],
        "import" => vec![vec![file], vec!["copy.goloo"], vec!["copy.goloo", "--as", "imported"]],
        "clone" | "rename" => vec![vec![vm, "copy"]],
        "up" => vec![vec!["-f", file, "--timeout", "1s"], vec![file, "--dry-run"]],
        "down" => vec![vec!["-f", file, "-y"], vec!["--env", vm, "-y"], vec!["--env", file, "-y"]],
        "bake" => vec![vec![stack, "--timeout", "1s"], vec!["-f", file]],
        "recreate" => vec![vec![vm, "--dry-run", "--as", "other"], vec![id, "--dry-run"]],
        "adopt" => vec![vec!["other", "--provider", "qemu", "--id", file]],
        "refresh" => vec![vec![], vec!["--all"], vec![vm]],
        "dns show" | "dns swap" | "dns rollback" => vec![vec![vm]],
        "archive list" => vec![vec![]],
        "archive show" => vec![vec![id], vec![file]],
        "archive clean" => vec![vec![]],
        "archive delete" => vec![vec![id]],
        "state show" | "state locks" => vec![vec![]],
        "state unlock" => vec![vec![vm, "-y"]],
        "state move" => vec![vec![file]],
        "state pull" => vec![vec!["-"], vec![file]],
        "state push" | "state restore" => vec![vec![file], vec![scene.document.as_str()]],
        "state backup" => vec![vec![file]],
        "config list" | "config schema" => vec![vec![]],
        "config validate" => vec![vec![stack], vec!["-f", file], vec![file]],
        "config import" => vec![vec!["library", stack], vec!["library", file]],
        "config export" => vec![vec!["library", file]],
        "config edit" => vec![vec!["library"]],
        "config rm" => vec![vec!["library"]],
        "config relocate" => vec![vec![file, stack]],
        "settings get" => vec![vec![file]],
        "settings show" | "settings path" | "settings schema" => vec![vec![]],
        "settings set" => vec![vec![file, file], vec!["stateBackend", file], vec!["localProvider", file]],
        "image list" | "image prune" => vec![vec![]],
        "image pull" => vec![vec![file]],
        "image build" | "image rm" => vec![vec![file]],
        "migrate" => vec![vec![], vec!["-f", file], vec!["-f", scene.old.as_str()]],
        "init" => vec![vec!["base", file], vec![file], vec!["x", "--image", file]],
        "help" => vec![vec![], vec![file]],
        "tag" => vec![vec![vm], vec![vm, "--remove", "x"]],
        "apply" => {
            vec![vec![vm, "--dry-run"], vec![vm, "--set", file, "--dry-run"], vec![vm, "--unset", file]]
        }
        "set" => vec![vec![vm, file], vec![vm, "cpus=1", "--no-restart"]],
        "doctor" | "top" => vec![vec![]],
        "man" => vec![vec![], vec!["--dir", file]],
        "completion" => vec![vec!["bash"], vec!["zsh"], vec!["fish"]],
        other => panic!("say here what is given to goloo {other}"),
    }
}

struct Scene {
    world: World,
    vm: &'static str,
    archived: &'static str,
    /// The name of a stack in ./stacks.
    stack: String,
    /// An arbitrary file, below a folder with a hostile name.
    file: String,
    document: String,
    /// A folder with a config of goloo v0.
    old: String,
}

const ARCHIVED: &str = "evil-20250115T103000Z-5b5a";

impl Scene {
    fn new() -> Self {
        let world = World::new();
        let work = world.path().join("work");
        let odd = work.join(NAME);
        fs::create_dir_all(&odd).unwrap();
        fs::write(odd.join(NAME), payload()).unwrap();
        let stack = work.join("stacks").join(NAME);
        fs::create_dir_all(&stack).unwrap();
        let config = json!({"vm": {"image": payload(), payload(): 1, "users": [{"username": payload(), "github_username": payload()}]}});
        fs::write(stack.join("config.json"), config.to_string()).unwrap();
        fs::write(stack.join("cloud-init.yaml"), format!("#cloud-config\n{}: [", payload())).unwrap();
        let old = work.join("old");
        fs::create_dir_all(&old).unwrap();
        let config = json!({"vm": {"name": NAME, "public_ip": payload(), "instance_id": payload(), "stack_id": payload()}});
        fs::write(old.join("config.json"), config.to_string()).unwrap();
        let document = work.join("document.json");
        fs::write(
            &document,
            json!({"schema": 1, payload(): payload(), "vms": [record()], "archive": []}).to_string(),
        )
        .unwrap();
        let scene = Self {
            vm: "evil",
            archived: ARCHIVED,
            stack: NAME.to_owned(),
            file: odd.join(NAME).display().to_string(),
            document: document.display().to_string(),
            old: old.display().to_string(),
            world,
        };
        scene.put("active/evil", &record());
        scene.put(&format!("archive/{ARCHIVED}"), &record());
        scene.put("active/broken", &json!({"schema": payload()}));
        scene.put(&format!("active/{NAME}"), &json!({payload(): payload()}));
        scene
    }

    /// Creates a folder with a record and its stack's files.
    fn put(&self, folder: &str, record: &Value) {
        let folder = self.world.state().join(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("state.json"), record.to_string()).unwrap();
        fs::write(folder.join("config.json"), payload()).unwrap();
        fs::write(folder.join("cloud-init.yaml"), payload()).unwrap();
    }

    fn run(&self, words: &[&str]) -> Ran {
        let mut command = self.world.command();
        command.args(words).env("AWS_EC2_METADATA_DISABLED", "true").stdin(std::process::Stdio::null());
        Ran(command.output().unwrap())
    }

    /// Runs every command, with text and JSON output.
    fn run_all(&self, what: &str) {
        for (command, has_json) in commands() {
            for given in arguments(&command, self) {
                for json in [false, true] {
                    let mut words: Vec<&str> = command.split(' ').collect();
                    if json && has_json {
                        words.push("--json");
                    }
                    words.extend(&given);
                    // These replace goloo with the user's own `ssh`, whose output is its own.
                    if !["ssh", "exec", "cp"].contains(&command.as_str()) {
                        assert_clean(&format!("{what}: {words:?}"), &self.run(&words), json && has_json);
                    }
                }
            }
        }
    }
}

/// A record in which all text is hostile.
fn record() -> Value {
    let bad = payload();
    json!({
        "schema": 1, "id": "01M8HXK8W3HQXXHS5WXE6K5B5A", "serial": 4, "name": "evil", "stack": bad, "provider": "aws",
        "phase": "ready", "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z",
        "createdBy": {"user": bad, "host": bad, "hostId": bad, "goloo": bad}, "sourceConfigPath": format!("/x{bad}"),
        "tags": {bad.clone(): bad}, "ssh": {"user": bad, "hostKey": bad, "loginProblem": bad},
        "provisioning": {"result": "failed", "errors": [bad]}, "operation": null,
        "resources": [{"kind": bad, "id": bad, "operation": "01M8HXK8W3HQXXHS5WXE6K5B5A"}],
        "aws": {"publicIP": format!("203.0.113.9{bad}"), "fqdn": bad, "region": bad, "stackName": bad, "instanceID": bad,
                "dnsRecords": [{"name": bad, "type": "A", "value": bad, "ttl": 300}]},
        "history": [{"at": "2026-01-01T00:00:00Z", "endedAt": "2026-01-01T00:00:00Z", "user": bad, "host": bad,
                     "what": "create", "outcome": "done", "reason": bad}],
    })
}

#[test]
fn hostile_text_in_records_names_and_files_is_escaped() {
    Scene::new().run_all("records");
}

/// An existing VM whose record somebody changed: what `status` and `stop` print comes from the record.
#[test]
fn hostile_text_in_the_record_of_an_existing_machine_is_escaped() {
    let scene = Scene { vm: "hello", ..Scene::new() };
    scene.run(&["create", "hello", "--no-wait"]).expect(0);
    let path = scene.world.state().join("active/hello/state.json");
    let mut changed: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (pointer, value) in [
        ("/stack", json!(payload())),
        ("/sourceConfigPath", json!(format!("/x{}", payload()))),
        ("/tags", json!({payload(): payload()})),
        ("/createdBy/user", json!(payload())),
        ("/history/0/user", json!(payload())),
        ("/history/0/reason", json!(payload())),
    ] {
        if let Some(place) = changed.pointer_mut(pointer) {
            *place = value;
        }
    }
    changed["provisioning"] = json!({"result": "failed", "errors": [payload()]});
    changed["ssh"]["loginProblem"] = json!(payload());
    scene.world.program(
        "ssh",
        &format!("#!/bin/sh\ncat '{0}' >&2\ncat '{0}'\nexit 255\n", said(&scene.world).display()),
    );
    fs::write(&path, changed.to_string()).unwrap();
    scene.run_all("machine here");
}

fn said(world: &World) -> PathBuf {
    let path = world.path().join("said");
    fs::write(&path, payload()).unwrap();
    path
}

#[test]
fn hostile_output_of_programs_and_guests_is_escaped() {
    let world = World::new();
    let said = said(&world);
    let talks = |exit: u8| format!("#!/bin/sh\ncat '{0}' >&2\ncat '{0}'\nexit {exit}\n", said.display());
    for exit in [0, 1, 255] {
        for name in ["qemu", "qemu-img", "multipass", "ssh", "scp"] {
            world.program(name, &talks(exit));
        }
        let program = |name: &str| world.path().join("bin").join(name).display().to_string();
        let run = |words: &[&str], qemu: Option<&str>| {
            let mut command = world.command();
            command.args(words).env("GOLOO_MULTIPASS", program("multipass"));
            if let Some(qemu) = qemu {
                command.env("GOLOO_QEMU", qemu);
            }
            Ran(command.output().unwrap())
        };
        for json in [&[][..], &["--json"]] {
            for provider in ["qemu", "multipass"] {
                let words = [&["create", "hello", "--provider", provider, "--timeout", "1s"], json].concat();
                assert_clean(
                    &format!("{words:?} {exit}"),
                    &run(&words, Some(&program("qemu"))),
                    !json.is_empty(),
                );
                let delete = [&["delete", "-y", "hello"], json].concat();
                assert_clean(
                    &format!("{delete:?} {exit}"),
                    &run(&delete, Some(&program("qemu"))),
                    !json.is_empty(),
                );
            }
            for words in [&["doctor"][..], &["refresh", "--all"], &["list", "--refresh"]] {
                let words = [words, json].concat();
                assert_clean(&format!("{words:?} {exit}"), &run(&words, None), !json.is_empty());
            }
        }
        fs::remove_file(world.path().join("bin/qemu-img")).unwrap();
        run(&["create", "hello", "--no-wait", "--provider", "qemu"], None).expect(0);
        for words in [
            &["wait", "hello", "--timeout", "1s"][..],
            &["-v", "wait", "hello", "--timeout", "1s"],
            &["ssh", "hello"],
            &["logs", "hello"],
        ] {
            let ran = run(words, None);
            match words[0] {
                // The output of a session is unfiltered, as with ssh itself.
                "ssh" => {}
                // The lines of a log are the result, whatever they contain.
                "logs" => assert!(
                    ran.stdout().chars().all(|c| is_printable(c) || matches!(c, '\n' | '\t')),
                    "{ran:?}"
                ),
                _ => assert_clean(&format!("{words:?} {exit}"), &ran, false),
            }
        }
        run(&["delete", "-y", "hello"], None).expect(0);
    }
}

#[test]
fn the_console_log_is_escaped_except_with_raw() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    let console = |folder: &Path| {
        let logs = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
        logs.into_iter().find(|path| path.file_name().is_some_and(|name| name == "console.log")).unwrap()
    };
    let path = console(&world.machines()[0]);
    let bytes = [payload().as_bytes(), b"\r\nplain\ttext\r\n\xff"].concat();
    fs::write(path, &bytes).unwrap();
    let shown = world.run(&["logs", "hello", "--console"]).expect(0);
    let text = shown.stdout();
    assert!(text.chars().all(|c| is_printable(c) || matches!(c, '\n' | '\t')), "{text:?}");
    assert!(text.contains("\nplain\ttext\n\\xff"), "{text:?}");
    assert_eq!(world.run(&["logs", "hello", "--console", "--raw"]).expect(0).0.stdout, bytes);
    world.run(&["logs", "hello", "--raw"]).expect(2);
    world.run(&["delete", "-y", "hello"]).expect(0);
}

#[test]
fn hostile_text_in_settings_and_variables_is_escaped() {
    let scene = Scene::new();
    let read = [
        &["list"][..],
        &["list", "--json"],
        &["settings", "show"],
        &["settings", "show", "--json"],
        &["doctor"],
        &["create", "hello", "--dry-run"],
    ];
    for settings in [
        payload(),
        json!({payload(): 1}).to_string(),
        json!({"stateBackend": payload()}).to_string(),
        json!({"stateBackend": {"type": "sqlite", "path": payload()}}).to_string(),
        json!({"stateDir": payload(), "localProvider": payload()}).to_string(),
        json!({"encryption": {"recipients": [payload()], "identityFile": payload()}}).to_string(),
    ] {
        scene.world.settings(&settings);
        for words in read {
            assert_clean(&format!("{settings:?} {words:?}"), &scene.run(words), words.contains(&"--json"));
        }
    }
    scene.world.settings("{}");
    let stack = HELLO
        .replace("\"cpus\"", "\"users\": [{\"username\": \"ann\", \"github_username\": \"ann\"}], \"cpus\"");
    scene.world.stack("users", &stack, "");
    let hostile = payload();
    for name in [
        "GOLOO_STATE_BACKEND",
        "GOLOO_STATE_DIR",
        "GOLOO_CACHE_DIR",
        "GOLOO_STACK_FOLDER",
        "GOLOO_GITHUB_URL",
        "GOLOO_QEMU",
        "GOLOO_QEMU_ACCEL",
        "GOLOO_MULTIPASS",
        "GOLOO_HOSTS_FILE",
        "GOLOO_IMAGE_MIRROR",
        "AWS_REGION",
        "AWS_PROFILE",
        "HTTPS_PROXY",
        "USER",
    ] {
        for words in [
            &["list"][..],
            &["settings", "show"],
            &["settings", "show", "--json"],
            &["create", "users", "--dry-run"],
            &["doctor"],
            &["create", "users", "--dry-run", "--aws", "--json"],
        ] {
            let mut command = scene.world.command();
            let ran = command
                .args(words)
                .env("AWS_EC2_METADATA_DISABLED", "true")
                .env(name, &hostile)
                .output()
                .unwrap();
            assert_clean(&format!("{name} {words:?}"), &Ran(ran), words.contains(&"--json"));
        }
    }
}

#[test]
fn hostile_text_in_arguments_is_escaped() {
    let world = World::new();
    let hostile = payload();
    let hostile = hostile.as_str();
    let option = format!("--{hostile}");
    let check = |words: &[&str]| {
        for json in [&[][..], &["--json"]] {
            let words = [words, json].concat();
            assert_clean(&format!("{words:?}"), &world.run(&words), false);
        }
    };
    check(&[hostile]);
    check(&[&option]);
    check(&["-c", "-n", hostile]);
    check(&["-d", "-n", hostile, "-f", hostile]);
    check(&["--color", hostile, "list"]);
    for (command, _) in commands() {
        let words: Vec<&str> = command.split(' ').collect();
        for given in
            [&[hostile][..], &[&option], &[hostile, hostile], &["--timeout", hostile], &["hello", &option]]
        {
            check(&[&words, given].concat());
        }
    }
    for (option, command) in [
        ("--tag", "list"),
        ("--filter", "list"),
        ("--sort", "list"),
        ("--provider", "create"),
        ("--users", "create"),
        ("--as", "create"),
        ("--tag", "create"),
        ("--older-than", "archive clean"),
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        check(&[&words, &[option, hostile][..], &["hello"]].concat());
    }
}

#[test]
fn completion_omits_names_that_need_shell_quoting() {
    let scene = Scene::new();
    for name in ["$(reboot)", "two words", "plain"] {
        scene.world.stack(name, HELLO, "");
    }
    for words in [&["create", ""][..], &["status", ""], &["delete", ""]] {
        let mut command = scene.world.command();
        let index = words.len().to_string();
        command.env("COMPLETE", "bash").env("_CLAP_IFS", "\n").env("_CLAP_COMPLETE_INDEX", index);
        let ran = Ran(command.arg("--").arg("goloo").args(words).output().unwrap()).expect(0);
        assert_clean(&format!("{words:?}"), &ran, false);
        let offered = ran.stdout();
        assert!(offered.lines().all(|line| !line.contains(['$', ' '])), "{offered}");
        let expected = if words[0] == "create" { "plain" } else { "evil" };
        assert!(offered.lines().any(|line| line == expected), "{words:?}: {offered}");
    }
}

#[test]
fn a_time_out_of_range_is_an_error_and_not_a_panic() {
    let scene = Scene::new();
    let run = |words: &[&str]| {
        let ran = scene.run(words);
        assert_clean(&format!("{words:?}"), &ran, false);
        ran
    };
    for duration in
        ["99999999999d", "18446744073709551615s", "18446744073709551616s", "36501d", "-1s", "0x1s"]
    {
        for words in [
            &["archive", "clean", "--older-than"][..],
            &["create", "hello", "--timeout"],
            &["wait", "hello", "--timeout"],
            &["start", "hello", "--timeout"],
            &["stop", "hello", "--timeout"],
        ] {
            run(&[words, &[duration]].concat()).expect(2);
        }
        run(&["list", "--filter", &format!("age>{duration}")]).expect(2);
        scene.world.stack(
            "ttl",
            &HELLO.replace("\"cpus\"", &format!("\"ttl\": \"{duration}\", \"cpus\"")),
            "",
        );
        run(&["create", "ttl", "--dry-run"]).expect(2);
    }
    run(&["archive", "clean", "--older-than", "36500d"]).expect(0);
    run(&["list", "--filter", "age<36500d,age>0s"]).expect(0);
    for time in [
        "-009999-01-02T01:59:59Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "2016-12-31T23:59:60Z",
        "9999-12-30T22:00:00Z",
        "9999-12-31T23:59:59Z",
        "+010000-01-01T00:00:00Z",
        "2026-01-01T00:00:00+25:00",
        "0",
        "",
        "\u{1b}[2J",
    ] {
        let mut record = record();
        for key in ["createdAt", "updatedAt", "endsAt"] {
            record[key] = json!(time);
        }
        record["history"][0]["at"] = json!(time);
        record["history"][0]["endedAt"] = json!(time);
        scene.put("active/evil", &record);
        scene.put(&format!("archive/{ARCHIVED}"), &record);
        for words in [
            &["list"][..],
            &["list", "--all", "-v"],
            &["list", "--json"],
            &["list", "--sort", "age"],
            &["status", "evil"],
            &["history", "evil"],
            &["archive", "list"],
            &["archive", "show", ARCHIVED],
            &["refresh"],
            &["state", "pull", "-"],
            &["delete", "evil"],
            &["recreate", "evil", "--dry-run"],
        ] {
            run(words);
        }
    }
    for id in [
        "evil--0010115T103000Z-5b5a",
        "evil-00000115T103000Z-5b5a",
        "evil-99991231T235959Z-5b5a",
        "evil-20250115T106000Z-5b5a",
    ] {
        scene.put(&format!("archive/{id}"), &record());
        run(&["list", "--all"]);
        run(&["archive", "show", id]);
        run(&["archive", "clean", "--older-than", "1d"]);
    }
}

/// Files whose timestamps goloo reads, dated outside of the range of its clock.
#[test]
fn a_file_date_out_of_range_does_not_panic() {
    let scene = Scene::new();
    for date in ["1901-12-14", "1969-12-31", "2446-05-10", "2262-04-12"] {
        let mut touch = Command::new("find");
        touch.arg(scene.world.path()).args(["-exec", "touch", "-h", "-d", date, "{}", "+"]);
        assert!(touch.status().unwrap().success());
        for words in [
            &["list"][..],
            &["image", "list"],
            &["image", "prune"],
            &["config", "list"],
            &["doctor"],
            &["state", "show"],
            &["create", "hello", "--dry-run"],
        ] {
            assert_clean(&format!("{date} {words:?}"), &scene.run(words), false);
        }
    }
}

#[test]
fn a_path_that_is_not_utf8_is_shown_without_a_panic() {
    use std::os::unix::ffi::OsStrExt;
    let world = World::new();
    let odd = std::ffi::OsStr::from_bytes(b"odd\xff\x9b\x1b[2J");
    let here = world.path().join(odd);
    fs::create_dir_all(here.join("stacks").join(odd)).unwrap();
    let stack = world.path().join("work/stacks/hello");
    for name in [odd, "hello".as_ref()] {
        let copied =
            Command::new("cp").arg("-rT").arg(&stack).arg(here.join("stacks").join(name)).status().unwrap();
        assert!(copied.success());
    }
    let run = |words: &[&str], state: bool| {
        let mut command = world.command();
        command.args(words).current_dir(&here);
        if state {
            command.env("GOLOO_STATE_DIR", here.join("state"));
        }
        let ran = Ran(command.output().unwrap());
        assert_clean(&format!("{words:?}"), &ran, words.contains(&"--json"));
        ran
    };
    for words in [
        &["list"][..],
        &["config", "list"],
        &["config", "validate", "hello"],
        &["create", "hello", "--dry-run"],
        &["create", "hello", "--no-wait"],
        &["status", "hello"],
        &["diff", "hello"],
        &["config", "import", "copy", "stacks/hello"],
        &["config", "export", "copy", "there"],
        &["settings", "show"],
        &["settings", "path"],
        &["state", "show"],
        &["state", "pull", "-"],
        &["state", "backup", "backup"],
        &["image", "list"],
        &["migrate"],
        &["doctor"],
        &["delete", "-y", "hello"],
    ] {
        for state in [false, true] {
            run(words, state);
            run(&[words, &["--json"]].concat(), state);
        }
    }
}

/// New code that writes must use the output layer, or be listed here with a reason.
#[test]
fn no_code_bypasses_the_output_layer() {
    const WRITERS: [&str; 8] = [
        "println!",
        "eprintln!",
        "print!(",
        "eprint!(",
        "io::stdout()",
        "io::stderr()",
        "Stdio::inherit()",
        "dbg!",
    ];
    /// sudo talks to the user directly, goloo processes answer each other, and a screen is drawn. Each entry is a file and what is allowed
    /// there.
    const ALLOWED: [(&str, &str); 5] = [
        ("goloo-cli/src/commands/top/screen.rs", "io::stdout()"),
        ("goloo/src/hosts/sudo.rs", "Stdio::inherit()"),
        ("goloo/src/hosts/sudo.rs", "io::stderr()"),
        ("goloo/src/render.rs", "io::stdout()"),
        ("goloo-images/src/intake.rs", "io::stdout()"),
    ];
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut folders: Vec<PathBuf> =
        fs::read_dir(crates).unwrap().map(|entry| entry.unwrap().path().join("src")).collect();
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let shown = path.strip_prefix(crates).unwrap().display().to_string();
            if shown.starts_with("goloo-testkit") || shown.starts_with("goloo-cli/src/output/") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            seen += 1;
            let text = fs::read_to_string(&path).unwrap_or_default();
            for writer in WRITERS.iter().filter(|writer| text.contains(*writer)) {
                assert!(ALLOWED.contains(&(shown.as_str(), writer)), "{shown} writes by {writer}: use Ui");
            }
        }
    }
    assert!(seen > 100, "only {seen} files of source were found");
}
