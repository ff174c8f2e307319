//! `--log` and `GOLOO_LOG`: the diagnostic log, which contains no secrets.

use std::fs;

use crate::common::{Ran, World};

#[test]
fn the_log_contains_calls_and_writes_but_no_secrets() {
    let world = World::new();
    let ran = world.run(&["create", "hello", "--no-wait", "--log", "debug"]).expect(0);
    for words in [
        "claiming the name",
        "calling the provider",
        "recording a resource",
        "saved the result",
        "ran a program",
        "vm=hello",
    ] {
        assert!(ran.stderr().contains(words), "{words} isn't in {ran:?}");
    }
    let deleted = world.run(&["delete", "hello", "--yes", "--log", "debug"]).expect(0);
    for words in ["took the lock", "saving the intent", "archived the record"] {
        assert!(deleted.stderr().contains(words), "{words} isn't in {deleted:?}");
    }
    let secrets = [world.state().join("keys/id_ed25519"), world.state().join("state-key")];
    for secret in secrets.map(|path| fs::read_to_string(path).unwrap()) {
        for line in secret.lines().filter(|line| line.len() > 20) {
            assert!(
                !ran.stderr().contains(line) && !deleted.stderr().contains(line),
                "a secret is in the log"
            );
        }
    }
    assert!(!ran.stderr().contains("PRIVATE KEY"), "{ran:?}");
}

#[test]
fn a_log_file_keeps_the_log_out_of_the_output() {
    let world = World::new();
    let file = world.path().join("work/goloo.log");
    let run = |file: &str| {
        let mut command = world.command();
        command.args(["create", "hello", "--as", file, "--no-wait", "--json"]);
        command.env("GOLOO_LOG", "debug").env("GOLOO_LOG_FILE", "goloo.log");
        Ran(command.output().unwrap()).expect(0)
    };
    for name in ["one", "two"] {
        let ran = run(name);
        assert!(!ran.stderr().contains("saving the intent"), "{ran:?}");
        serde_json::from_str::<serde_json::Value>(&ran.stdout()).unwrap();
    }
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("vm=one") && text.contains("vm=two"), "{text}");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn an_invalid_log_level_and_an_unwritable_log_file_are_refused() {
    let world = World::new();
    let run = |name: &str, value: &str| {
        let mut command = world.command();
        command.arg("list").env("GOLOO_LOG", "debug").env(name, value);
        Ran(command.output().unwrap())
    };
    let refused = run("GOLOO_LOG", "loud").expect(2);
    assert!(refused.stderr().contains("GOLOO_LOG") && refused.stderr().contains("debug"), "{refused:?}");
    let refused = run("GOLOO_LOG_FILE", "/nowhere/goloo.log").expect(1);
    assert!(refused.stderr().contains("/nowhere/goloo.log"), "{refused:?}");
    assert_eq!(run("GOLOO_LOG", "").expect(0).stderr().matches("DEBUG").count(), 0);
}
