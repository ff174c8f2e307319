//! Who logs in to a machine, and as which user: goloo's own commands as its account, people as the login user.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::{Ran, World};
use serde_json::{Value, json};

/// An `ssh` that logs its arguments and refuses the user `$DENIED`. A session prints its user.
const SSH: &str = r#"#!/bin/bash
printf '%s\n' "$@" "---" >> "$HOME/ssh-calls"
user=; log=/dev/null
for word do
    case $word in User=*) user=${word#User=} ;; esac
    [ "$before" = -E ] && log=$word
    before=$word
done
if [ "$user" = "$DENIED" ]; then
    echo "$user@127.0.0.1: Permission denied (publickey)." >> "$log"
    exit 255
fi
case $word in
*' -c true') ;;
*goloo:status*) echo '@goloo:status@'; echo '{"status": "done"}'; cat "$HOME/report" 2>/dev/null ;;
*) echo "in as $user"; exit 3 ;;
esac
"#;

/// A world with a machine `hello` whose login user is "goloo-tester".
fn world() -> World {
    let world = World::new();
    let config = r#"{"vm": {"cpus": 1, "memory": "512M", "disk": "1G", "image": "./disk.img", "users": [{"username": "tester"}]}}"#;
    world.stack("hello", config, "");
    world.program("ssh", SSH);
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    world
}

fn calls(world: &World) -> String {
    fs::read_to_string(world.path().join("home/ssh-calls")).unwrap_or_default()
}

/// Changes the record of `hello` directly.
fn change(world: &World, change: impl FnOnce(&mut Value)) {
    let path = world.state().join("active/hello/state.json");
    let mut record: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut record);
    fs::write(path, record.to_string()).unwrap();
}

fn denying(world: &World, user: &str, arguments: &[&str]) -> Ran {
    Ran(world.command().env("DENIED", user).args(arguments).output().unwrap())
}

#[test]
fn internal_commands_use_the_goloo_account_and_sh() {
    let world = world();
    world.run(&["wait", "hello"]).expect(0);
    world.run(&["logs", "hello"]).expect(3);
    world.run(&["exec", "hello", "--", "printf", "a b"]).expect(3);
    let calls = calls(&world);
    assert!(calls.contains("User=goloo\n") && !calls.contains("User=tester\n"), "{calls}");
    let commands: Vec<_> = calls.split("---\n").filter(|call| !call.is_empty()).collect();
    for call in &commands {
        assert!(call.contains("\nexec /bin/sh -c "), "{call}");
    }
    assert!(commands.last().unwrap().contains("exec /opt/goloo/as tester printf 'a b'"), "{calls}");
}

#[test]
fn a_record_without_a_goloo_account_uses_the_login_user() {
    let world = world();
    change(&world, |record| {
        record["ssh"].as_object_mut().unwrap().remove("account").unwrap();
    });
    world.run(&["wait", "hello"]).expect(0);
    world.run(&["logs", "hello"]).expect(3);
    let ran = world.run(&["exec", "hello", "--", "printf", "a b"]).expect(3);
    assert_eq!(ran.stdout(), "in as tester\n");
    assert_eq!(world.run(&["ssh", "hello"]).expect(3).stdout(), "in as tester\n");
    let calls = calls(&world);
    assert!(!calls.contains("User=goloo\n") && !calls.contains("/opt/goloo/as"), "{calls}");
}

#[test]
fn ssh_logs_in_as_the_login_user() {
    let world = world();
    let ran = world.run(&["ssh", "hello", "--", "true"]).expect(3);
    assert_eq!((ran.stdout().as_str(), ran.stderr().as_str()), ("in as tester\n", ""));
}

#[test]
fn ssh_falls_back_to_the_goloo_account_if_the_login_is_refused() {
    let world = world();
    let ran = denying(&world, "tester", &["ssh", "hello", "--", "true"]).expect(3);
    assert_eq!(ran.stdout(), "in as goloo\n");
    for words in ["tester can't log in to hello", "Permission denied (publickey)", "goloo's own account"] {
        assert!(ran.stderr().contains(words), "{ran:?}");
    }
    // An interactive shell gets a terminal.
    let ran = denying(&world, "tester", &["ssh", "hello"]).expect(3);
    assert_eq!(ran.stdout(), "in as goloo\n");
    assert!(calls(&world).contains("-t\n"));
    // If no account can log in, the error is ssh's own.
    let ran =
        Ran(world.command().env("DENIED", "goloo").args(["exec", "hello", "--", "true"]).output().unwrap());
    ran.expect(255);
}

#[test]
fn a_login_recorded_as_failing_is_not_tried() {
    let world = world();
    let report = "@goloo:login@\nits shell, /usr/sbin/nologin, lets nobody in\n@goloo:end@\n";
    fs::write(world.path().join("home/report"), report).unwrap();
    let waited = world.run(&["wait", "hello"]).expect(0);
    assert!(waited.stderr().contains("the login user can't log in: its shell"), "{waited:?}");
    fs::remove_file(world.path().join("home/ssh-calls")).unwrap();
    let ran = world.run(&["ssh", "hello", "--", "true"]).expect(3);
    assert_eq!(ran.stdout(), "in as goloo\n");
    assert!(ran.stderr().contains("nologin"), "{ran:?}");
    assert!(!calls(&world).contains("User=tester"), "{}", calls(&world));
    assert!(world.run(&["status", "hello"]).expect(0).stdout().contains("nologin"));
    // ssh-config uses the working account too, for editors and rsync.
    assert!(world.run(&["ssh-config", "hello"]).expect(0).stdout().contains("User goloo\n"));
}

#[test]
fn a_dropped_document_is_reported_with_exit_8() {
    let world = world();
    let report = "@goloo:log@\n2026-11-28 10:00:00,000 - util.py[WARNING]: Failed loading yaml blob. nonsense\n@goloo:end@\n";
    fs::write(world.path().join("home/report"), report).unwrap();
    let waited = world.run(&["wait", "hello"]).expect(8);
    for words in [
        "cloud-init ignored all or part of its configuration",
        "caused by: Failed loading yaml blob. nonsense",
    ] {
        assert!(waited.stderr().contains(words), "{waited:?}");
    }
    assert_eq!(world.json(&["status", "hello", "--json"])["vm"]["provisioning"]["result"], "dropped");
}

#[test]
fn a_machine_that_is_still_booting_is_reported_as_such() {
    let world = world();
    // A port at which nothing listens.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    change(&world, |record| record["endpoint"]["sshPort"] = json!(port));
    for arguments in [&["ssh", "hello"][..], &["exec", "hello", "--", "true"], &["logs", "hello"]] {
        let began = Instant::now();
        let ran = world.run(arguments).expect(1);
        assert!(ran.stderr().contains("\"hello\" is still booting: SSH does not answer yet"), "{ran:?}");
        assert!(ran.stderr().contains("goloo wait hello"), "{ran:?}");
        assert!(began.elapsed() < Duration::from_secs(20), "{arguments:?}");
    }
    assert_eq!(calls(&world), "");
}

#[test]
fn files_are_copied_as_the_login_user_through_the_goloo_account() {
    let world = world();
    world.program("scp", "#!/bin/sh\nprintf '%s\\n' \"$GOLOO_SCP_USER\" \"$@\"\n");
    fs::write(world.path().join("work/file"), "x").unwrap();
    let ran = world.run(&["cp", "file", "hello:/tmp/"]).expect(0);
    let words: Vec<_> = ran.stdout().lines().map(str::to_owned).collect();
    assert_eq!((words[0].as_str(), words[1].as_str()), ("tester", "-S"), "{words:?}");
    assert!(words.contains(&"User=goloo".to_owned()), "{words:?}");
    let transport = &words[2];
    assert_eq!(fs::metadata(transport).unwrap().permissions().mode() & 0o777, 0o700);

    // The arguments that scp passes: a subsystem name, or a program in older versions.
    let run = |arguments: &[&str]| {
        let mut command = Command::new(transport);
        world.settle(&mut command);
        let path = world.path().join("home/ssh-calls");
        let _ = fs::remove_file(&path);
        command.env("GOLOO_SCP_USER", "tester").args(arguments).output().unwrap();
        fs::read_to_string(path).unwrap().trim_end_matches("---\n").replace('\n', " ")
    };
    assert_eq!(
        run(&["-x", "-oRequestTTY=no", "-o", "Port=1", "-s", "--", "h", "sftp"]),
        "-x -oRequestTTY=no -o Port=1 -- h exec /opt/goloo/as tester sftp-server "
    );
    assert_eq!(
        run(&["-x", "--", "h", "scp -t ~/'a b'"]),
        r"-x -- h exec /opt/goloo/as tester /bin/sh -c 'scp -t ~/'\''a b'\''' "
    );
}
