//! The first hour and every day after: short commands, several VMs at once, help that fits.

use std::fs;

use serde_json::Value;

use crate::common::{Ran, World};

/// Answers the engine's queries like a provisioned machine, and writes down how it was run for a user's command.
const SSH: &str = r#"#!/bin/sh
for last; do :; done
case $last in
  *goloo:status*) echo '@goloo:status@'; echo '{"status":"done","errors":[],"recoverable_errors":{}}' ;;
  *) printf '%s\n' "$@" >> ../argv; echo "out of $last" ;;
esac
"#;

fn world() -> World {
    let world = World::new();
    world.program("ssh", SSH);
    world
}

/// Runs goloo in a folder below the working folder.
fn run_in(world: &World, folder: &str, arguments: &[&str]) -> Ran {
    let folder = world.path().join("work").join(folder);
    Ran(world.command().current_dir(folder).args(arguments).output().unwrap())
}

fn second_stack(world: &World, name: &str) {
    let config = fs::read_to_string(world.path().join("work/stacks/hello/config.json")).unwrap();
    world.stack(name, &config, "");
}

#[test]
fn without_arguments_the_first_commands_and_the_vms_are_shown() {
    let world = world();
    let empty = world.run(&[]).expect(0);
    assert!(empty.stdout().contains("goloo init web") && !empty.stdout().contains("VMs:"), "{empty:?}");
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    assert!(world.run(&[]).expect(0).stdout().contains("VMs: hello;"));
    // Settings that can't be used prevent nothing here.
    world.settings("{torn");
    let ran = world.run(&[]).expect(0);
    assert!(ran.stdout().contains("goloo help") && ran.stderr().is_empty(), "{ran:?}");
}

#[test]
fn help_explains_a_command_and_lists_all_in_groups() {
    let world = world();
    assert_eq!(
        world.run(&["help", "create"]).expect(0).stdout(),
        world.run(&["create", "--help"]).expect(0).stdout()
    );
    let nested = world.run(&["help", "state", "move"]).expect(0).stdout();
    assert!(nested.contains("Usage: goloo state move"), "{nested}");
    let overview = world.run(&["help"]).expect(0).stdout();
    assert_eq!(overview, world.run(&["--help"]).expect(0).stdout());
    for heading in ["Make VMs:", "Use VMs:", "Change VMs:", "Records and history:", "Set-up:", "Options:"] {
        assert!(overview.contains(heading), "{overview}");
    }
    let unknown = world.run(&["help", "crate"]).expect(2);
    assert!(unknown.stderr().contains("'create'"), "{unknown:?}");
}

#[test]
fn init_writes_a_stack_of_that_name_with_these_values() {
    let world = world();
    let words = ["init", "db", "--cpus", "3", "--memory", "3G", "--disk", "33G", "--image", "debian-12"];
    let said = world.run(&words).expect(0);
    assert!(said.stderr().contains("`goloo create db`"), "{said:?}");
    let config = fs::read(world.path().join("work/stacks/db/config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!((&config["vm"]["cpus"], &config["vm"]["disk"]), (&3.into(), &"33G".into()));
    assert_eq!((&config["vm"]["memory"], &config["vm"]["image"]), (&"3G".into(), &"debian-12".into()));
    let plan = world.run(&["create", "db", "--dry-run"]).expect(0);
    assert!(plan.stdout().contains("db would be created"), "{plan:?}");

    world.run(&["init", "site", "--template", "web"]).expect(0);
    assert!(world.path().join("work/stacks/site/configure.sh").exists());
    let elsewhere = world.run(&["init", "other/place"]).expect(0);
    assert!(elsewhere.stderr().contains("`goloo create other/place`"), "{elsewhere:?}");
    world.run(&["create", "other/place", "--dry-run"]).expect(0);
    // As it was called before.
    world.run(&["init", "docker", "old-form"]).expect(0);
    assert!(world.path().join("work/old-form/config.json").exists());
}

#[test]
fn init_writes_nothing_for_values_that_create_would_refuse() {
    let world = world();
    for (words, said) in [
        (&["init", "a", "--memory", "lots"][..], "memory"),
        (&["init", "a", "--disk=-1"], "disk"),
        (&["init", "a", "--cpus", "0"], "cpus"),
        (&["init", "a", "--image", "no such image"], "image"),
        (&["init", "My_Box"], "My_Box"),
        (&["init", ".."], "VM"),
    ] {
        let ran = world.run(words).expect(2);
        assert!(ran.stderr().contains(said) && ran.stderr().contains("hint: "), "{words:?}: {ran:?}");
    }
    assert_eq!(fs::read_dir(world.path().join("work/stacks")).unwrap().count(), 1);
}

#[test]
fn a_stack_is_named_by_a_path_a_folder_or_the_working_folder() {
    let world = world();
    for (folder, words) in [
        (".", &["create", "./stacks/hello", "--as", "a"][..]),
        (".", &["create", "stacks/hello/", "--as", "b"]),
        (".", &["create", "-f", "stacks/hello", "--as", "c"]),
        ("stacks/hello", &["create", "--as", "d"]),
        ("stacks/hello", &["create", ".", "--as", "e"]),
    ] {
        run_in(&world, folder, words).expect(0);
    }
    run_in(&world, "stacks/hello", &["create"]).expect(0);
    assert_eq!(world.names(), ["a", "b", "c", "d", "e", "hello"]);
    let nothing = world.run(&["create"]).expect(2);
    assert!(nothing.stderr().contains("no config.json in this folder"), "{nothing:?}");
    let missing = world.run(&["create", "./stacks/none"]).expect(3);
    assert!(missing.stderr().contains("stacks/none"), "{missing:?}");
    world.run(&["delete", "--all", "--yes"]).expect(0);
    world.assert_empty("after delete --all");
}

#[test]
fn several_vms_are_created_started_stopped_and_deleted_at_once() {
    let world = world();
    second_stack(&world, "db");
    second_stack(&world, "cache");
    let created = world.run(&["create", "hello", "db", "cache"]).expect(0);
    for name in ["hello", "db", "cache"] {
        assert!(created.stdout().contains(&format!("{name} is ready")), "{created:?}");
    }
    assert_eq!(world.qemus().len(), 3);
    let stopped = world.run(&["stop", "db", "cache", "--force"]).expect(0);
    assert!(stopped.stdout().contains("db is stopped") && stopped.stdout().contains("cache is stopped"));
    assert_eq!(world.qemus().len(), 1);
    let started = world.json(&["start", "--all", "--json"]);
    let names: Vec<_> =
        started["vms"].as_array().unwrap().iter().map(|vm| vm["vm"]["name"].clone()).collect();
    assert_eq!(names, ["cache", "db", "hello"]);
    assert_eq!(world.qemus().len(), 3);
    world.run(&["restart", "db", "cache", "--force"]).expect(0);
    let as_one = world.run(&["create", "hello", "db", "--as", "x"]).expect(2);
    assert!(as_one.stderr().contains("--as names one VM"), "{as_one:?}");
    let deleted = world.json(&["delete", "hello", "db", "cache", "--yes", "--json"]);
    assert_eq!(deleted["deleted"].as_array().unwrap().len(), 3, "{deleted}");
    world.assert_empty("after the deletion");
}

#[test]
fn of_several_vms_the_worst_exit_code_counts_and_the_others_are_finished() {
    let world = world();
    second_stack(&world, "db");
    world.run(&["create", "hello", "db", "--no-wait"]).expect(0);
    world.run(&["protect", "db"]).expect(0);
    let ran = world.run(&["delete", "hello", "db", "--yes"]).expect(1);
    assert!(
        ran.stdout().contains("deleted hello") && ran.stderr().contains("\"db\" is protected"),
        "{ran:?}"
    );
    assert_eq!(world.names(), ["db"]);
    let ran = world.run(&["stop", "db", "none", "--force", "--json"]).expect(3);
    let result: Value = serde_json::from_str(&ran.stdout()).unwrap();
    assert_eq!(result["vms"][0]["vm"]["name"], "db", "{ran:?}");
    assert_eq!(
        (&result["errors"][0]["name"], &result["errors"][0]["code"]),
        (&"none".into(), &"not-found".into())
    );
    assert!(world.qemus().is_empty());
    world.run(&["unprotect", "db"]).expect(0);
    world.run(&["delete", "db", "--yes"]).expect(0);
}

#[test]
fn all_means_the_vms_on_this_computer() {
    let world = world();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    world.run(&["create", "hello", "--as", "elsewhere", "--no-wait"]).expect(0);
    let path = world.state().join("active/elsewhere/state.json");
    let own = fs::read_to_string(&path).unwrap();
    let mut record: Value = serde_json::from_str(&own).unwrap();
    record["createdBy"]["hostId"] = "another".into();
    record["createdBy"]["host"] = "another".into();
    fs::write(&path, record.to_string()).unwrap();
    let stopped = world.run(&["stop", "--all", "--force"]).expect(0);
    assert_eq!(stopped.stdout(), "hello is stopped\n");
    assert_eq!(world.qemus().len(), 1);
    fs::write(&path, own).unwrap();
    world.run(&["delete", "--all", "--yes"]).expect(0);
    let none = world.run(&["stop", "--all"]).expect(3);
    assert!(none.stderr().contains("no VMs on this computer"), "{none:?}");
}

#[test]
fn a_vm_need_not_be_named_where_one_is_meant() {
    let world = world();
    let none = world.run(&["status"]).expect(3);
    assert!(none.stderr().contains("there are no VMs") && none.stderr().contains("goloo create"), "{none:?}");
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    let only = world.run(&["status"]).expect(0);
    assert!(
        only.stdout().contains("hello") && only.stderr().contains("using hello, the only VM"),
        "{only:?}"
    );
    second_stack(&world, "db");
    world.run(&["create", "db", "--no-wait"]).expect(0);
    let several = world.run(&["status"]).expect(2);
    assert!(several.stderr().contains("there are 2 (db, hello)"), "{several:?}");
    let here = run_in(&world, "stacks/db", &["status"]).expect(0);
    assert!(here.stderr().contains("using db, which was created from the stack in this folder"), "{here:?}");
    run_in(&world, "stacks/db", &["stop", "--force"]).expect(0);
    assert_eq!(world.qemus().len(), 1);
    // What deletes is never guessed.
    run_in(&world, "stacks/db", &["delete", "--yes"]).expect(2);
    world.run(&["delete", "db", "hello", "--yes"]).expect(0);
}

#[test]
fn ssh_takes_a_command_without_dashes_and_passes_options_on() {
    let world = world();
    world.run(&["create", "hello"]).expect(0);
    let argv = || {
        let text = fs::read_to_string(world.path().join("argv")).unwrap();
        fs::remove_file(world.path().join("argv")).unwrap();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    world.run(&["ssh", "hello", "ls", "-l", "--", "/tmp"]).expect(0);
    assert!(argv().ends_with(&["ls", "-l", "--", "/tmp"].map(str::to_owned)));
    world.run(&["ssh", "hello", "--", "ls", "-l"]).expect(0);
    assert!(argv().ends_with(&["ls", "-l"].map(str::to_owned)));
    world.run(&["ssh", "-A", "-t", "-L", "8080:localhost:80", "hello", "-R", "1:a:2", "top"]).expect(0);
    let words = argv();
    let has = |pair: &[&str]| words.windows(pair.len()).any(|some| some == pair);
    assert!(
        has(&["-A"]) && has(&["-t"]) && has(&["-L", "8080:localhost:80"]) && has(&["-R", "1:a:2"]),
        "{words:?}"
    );
    assert_eq!(words.last().unwrap(), "top");

    let ran = world.run(&["exec", "hello", "id", "-u"]).expect(0);
    assert!(ran.stdout().contains("id -u"), "{ran:?}");
    for words in [&["exec", "hello"][..], &["exec"], &["exec", "--"], &["exec", "hello", "--"]] {
        let ran = world.run(words).expect(2);
        assert!(ran.stderr().contains("no program to run"), "{words:?}: {ran:?}");
    }
    world.run(&["delete", "hello", "--yes"]).expect(0);
}

#[test]
fn after_dashes_without_a_name_the_command_runs_in_the_vm_that_is_meant() {
    let world = world();
    world.run(&["create", "hello"]).expect(0);
    let argv = || fs::read_to_string(world.path().join("argv")).unwrap().lines().last().unwrap().to_owned();
    for words in [&["ssh", "--", "uptime"][..], &["ssh", "-L", "8080:localhost:80", "--", "uptime"]] {
        let ran = world.run(words).expect(0);
        assert!(ran.stderr().contains("using hello, the only VM"), "{ran:?}");
        assert_eq!(argv(), "uptime");
    }
    let ran = world.run(&["exec", "--", "ls", "--", "-l"]).expect(0);
    assert!(ran.stdout().contains("ls -- -l"), "{ran:?}");
    // A second one belongs to the command.
    world.run(&["ssh", "hello", "--", "ls", "--", "-l"]).expect(0);
    assert_eq!(argv(), "-l");
    second_stack(&world, "db");
    world.run(&["create", "db"]).expect(0);
    let several = world.run(&["exec", "--", "uptime"]).expect(2);
    assert!(several.stderr().contains("a VM must be named"), "{several:?}");
    let of_folder = run_in(&world, "stacks/db", &["exec", "--", "uptime"]).expect(0);
    assert!(of_folder.stderr().contains("using db"), "{of_folder:?}");
    world.run(&["delete", "hello", "db", "--yes"]).expect(0);
}

#[test]
fn exec_runs_in_several_vms_and_says_whose_output_it_is() {
    let world = world();
    second_stack(&world, "db");
    world.run(&["create", "hello", "db"]).expect(0);
    for words in [&["exec", "hello", "db", "--", "hostname"][..], &["exec", "--all", "hostname"]] {
        let ran = world.run(words).expect(0);
        let mut lines: Vec<_> = ran.stdout().lines().map(str::to_owned).collect();
        lines.sort_unstable();
        assert!(lines[0].starts_with("db: out of ") && lines[1].starts_with("hello: out of "), "{ran:?}");
    }
    world.program("ssh", "#!/bin/sh\nprintf 'a\\033[31mb' >&2\nexit 42\n");
    let failed = world.run(&["exec", "hello", "db", "--", "x"]).expect(42);
    assert!(failed.stderr().contains("db: a") && !failed.stderr().contains('\u{1b}'), "{failed:?}");
    world.program("ssh", SSH);
    world.run(&["delete", "hello", "db", "--yes"]).expect(0);
}

#[test]
fn tags_are_shown_added_and_removed() {
    let world = world();
    world.run(&["create", "hello", "--no-wait", "--tag", "team=web"]).expect(0);
    assert_eq!(world.run(&["tag", "hello"]).expect(0).stdout(), "team=web\n");
    world.run(&["tag", "hello", "env=test", "team=db"]).expect(0);
    let json = world.json(&["tag", "hello", "--remove", "env", "--json"]);
    assert_eq!(json["vm"]["tags"], serde_json::json!({"team": "db"}));
    let missing = world.run(&["tag", "hello", "--remove", "env"]).expect(1);
    assert!(missing.stderr().contains("no tag \"env\""), "{missing:?}");
    assert_eq!(world.json(&["list", "--tag", "team=db", "--json"])["vms"].as_array().unwrap().len(), 1);
    assert!(world.run(&["history", "hello"]).expect(0).stdout().contains("tag"));
    world.run(&["delete", "hello", "--yes"]).expect(0);
}

#[test]
fn a_vm_name_with_a_typo_gets_a_suggestion() {
    let world = world();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    for words in [&["status", "helo"][..], &["ssh", "helo"], &["stop", "hello", "helo", "--force"]] {
        let ran = world.run(words).expect(3);
        assert!(ran.stderr().contains("did you mean \"hello\"?"), "{ran:?}");
    }
    let ran = world.run(&["status", "completely-different"]).expect(3);
    assert!(ran.stderr().contains("goloo list --all"), "{ran:?}");
    world.run(&["delete", "hello", "--yes"]).expect(0);
    let ids = world.run(&["archive", "list", "-q"]).expect(0).stdout();
    assert!(ids.starts_with("hello-") && ids.lines().count() == 1, "{ids}");
}

#[test]
fn a_stack_name_with_a_typo_gets_a_suggestion() {
    let world = world();
    for words in [&["create", "helo"][..], &["create", "helo", "--dry-run"], &["config", "validate", "helo"]]
    {
        let ran = world.run(words).expect(3);
        let hint = "hint: did you mean \"hello\"? `goloo config list` lists your stacks";
        assert!(ran.stderr().contains(hint), "{ran:?}");
    }
    assert!(world.run(&["config", "list"]).expect(0).stdout().contains("hello"));
    let ran = world.run(&["create", "completely-different"]).expect(3);
    assert!(ran.stderr().contains("goloo init completely-different"), "{ran:?}");
}

#[test]
fn where_no_stack_is_named_and_none_is_here_the_stacks_can_be_listed() {
    let world = world();
    for (words, code) in [(&["create"][..], 2), (&["config", "validate"], 3)] {
        let ran = world.run(words).expect(code);
        assert!(ran.stderr().contains("no config.json in this folder"), "{ran:?}");
        assert!(ran.stderr().contains("hint: run `goloo config list` to list your stacks"), "{ran:?}");
    }
}

#[test]
fn a_stack_can_be_validated_by_its_path_as_it_is_created() {
    let world = world();
    for words in
        [&["config", "validate", "./stacks/hello"][..], &["config", "validate", "stacks/hello/config.json"]]
    {
        let said = world.run(words).expect(0).stdout();
        assert!(said.ends_with("/stacks/hello is valid\n"), "{words:?}: {said}");
    }
    let plan = world.run(&["create", "./stacks/hello", "--dry-run"]).expect(0).stdout();
    assert!(plan.contains("/stacks/hello") && plan.contains("from the cache, or copy it there"), "{plan}");
}

#[test]
fn a_file_to_read_that_does_not_exist_may_be_misspelled() {
    let world = world();
    for words in [["import", "nothing.goloo"].as_slice(), &["state", "push", "nothing.json"]] {
        let ran = world.run(words);
        assert!(ran.code() != 0 && ran.stderr().contains("nothing."), "{ran:?}");
        assert!(ran.stderr().contains("hint: check the file's name"), "{ran:?}");
    }
}

#[test]
fn a_vm_that_was_not_created_yet_can_be_created_from_its_stack() {
    let world = world();
    for words in [["ssh", "hello"], ["status", "hello"], ["start", "hello"]] {
        let ran = world.run(&words).expect(3);
        let hint = "`goloo create hello` creates one from the stack \"hello\"";
        assert!(ran.stderr().contains(hint), "{ran:?}");
    }
    world.run(&["create", "hello", "--no-wait"]).expect(0);
}

#[test]
fn settings_get_prints_one_value() {
    let world = world();
    assert_eq!(world.run(&["settings", "get", "localProvider"]).expect(0).stdout(), "qemu\n");
    let typo = world.run(&["settings", "get", "localprovider"]).expect(2);
    assert!(typo.stderr().contains("goloo settings get localProvider"), "{typo:?}");
}

#[test]
fn an_image_is_removed_unless_a_vm_uses_it() {
    let world = world();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    let images = world.json(&["image", "list", "--json"]);
    let name = images["images"][0]["name"].as_str().unwrap();
    let used = world.run(&["image", "rm", name]).expect(1);
    assert!(used.stderr().contains("is in use"), "{used:?}");
    world.run(&["delete", "hello", "--yes"]).expect(0);
    let unknown = world.run(&["image", "rm", "24.4"]).expect(1);
    assert!(unknown.stderr().contains("no image \"24.4\"") && unknown.stderr().contains(name), "{unknown:?}");
    world.run(&["image", "rm", name]).expect(0);
    assert_eq!(world.json(&["image", "list", "--json"])["images"].as_array().unwrap().len(), 0);
    let left = std::process::Command::new("find")
        .arg(world.path().join("cache"))
        .args(["-name", "*.img"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
}

/// The error and the hint of a command that is refused with this exit code.
fn refusal(world: &World, arguments: &[&str], code: i32) -> String {
    world.run(arguments).expect(code).stderr()
}

#[test]
fn options_and_commands_of_other_tools_lead_to_those_of_goloo() {
    let world = world();
    let said = refusal(&world, &["create", "hello", "--cpus", "4"], 2);
    assert!(said.contains("vm.cpus in its config.json") && said.contains("goloo init NAME --cpus"), "{said}");
    let said = refusal(&world, &["create", "hello", "-n", "web"], 2);
    assert!(said.contains("--as NAME"), "{said}");
    assert!(refusal(&world, &["launch"], 2).contains("`goloo create NAME`"));
    let json: Value =
        serde_json::from_str(&world.run(&["create", "hello", "--disk=4G", "--json"]).expect(2).stdout())
            .unwrap();
    assert_eq!(json["error"]["code"], "usage", "{json}");
}

#[test]
fn an_invalid_name_or_a_path_in_its_place_gets_a_hint_with_a_valid_name() {
    let world = world();
    let said = refusal(&world, &["create", "hello", "--as", "My_Box"], 2);
    assert!(said.contains("use a name like my-box") && !said.contains("config.json"), "{said}");
    for path in ["./hello", "stacks/hello/", "/srv/hello"] {
        let said = refusal(&world, &["ssh", path], 2);
        assert!(said.contains("such as hello, in place of a path"), "{said}");
    }
    let said = refusal(&world, &["create", "nosuch"], 3);
    assert!(said.contains("goloo init nosuch"), "{said}");
    refusal(&world, &["init", "nosuch"], 0);
    world.run(&["create", "nosuch", "--dry-run"]).expect(0);
}

#[test]
fn the_path_of_a_config_json_names_its_stack() {
    let world = world();
    for arguments in [["stacks/hello/config.json"].as_slice(), &["-f", "stacks/hello/config.json"]] {
        let plan = world.run(&[&["create", "--dry-run"], arguments].concat()).expect(0);
        assert!(plan.stdout().contains("hello would be created"), "{plan:?}");
    }
    let plan = run_in(&world, "stacks/hello", &["create", "-f", "config.json", "--dry-run"]).expect(0);
    assert!(plan.stdout().contains("hello would be created"), "{plan:?}");
}

#[test]
fn without_user_in_the_environment_the_record_has_the_name_of_the_account() {
    let world = world();
    let output = world
        .command()
        .args(["create", "hello", "--no-wait"])
        .env_remove("USER")
        .env_remove("LOGNAME")
        .output();
    Ran(output.unwrap()).expect(0);
    let name = std::process::Command::new("id").arg("-un").output().unwrap().stdout;
    let status: Value =
        serde_json::from_str(&world.run(&["status", "hello", "--json"]).expect(0).stdout()).unwrap();
    assert_eq!(status["vm"]["createdBy"]["user"], String::from_utf8(name).unwrap().trim());
}

#[test]
fn mounts_are_refused_with_an_image_whose_kernel_cannot_mount_them() {
    let world = world();
    for (image, code) in [("almalinux-10", 2), ("fedora-44", 0)] {
        let config =
            format!(r#"{{"vm": {{"image": "{image}", "mounts": [{{"source": ".", "target": "/src"}}]}}}}"#);
        world.stack("alma", &config, "");
        let mut create = world.command();
        create.args(["create", "alma", "--dry-run"]);
        let planned = Ran(create.output().unwrap()).expect(0);
        assert!(planned.stdout().contains("(virtiofs or 9p)"), "{planned:?}");
        let ran = Ran(create.env("GOLOO_VIRTIOFSD", "off").output().unwrap()).expect(code);
        let reason = "almalinux-10: its kernel lacks the 9p file system, and virtiofs can't be used here";
        assert_eq!(ran.stderr().contains(reason), code == 2, "{ran:?}");
    }
}
