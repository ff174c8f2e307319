//! The library of stacks, and the registry of the folders that stacks were created from.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{HELLO, Ran, World};
use serde_json::Value;

/// A valid stack that needs no other files.
const SOUND: &str = r#"{"vm": {"cpus": 1, "image": "24.04"}}"#;

fn write_stack(folder: &Path, config: &str) -> String {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("config.json"), config).unwrap();
    folder.display().to_string()
}

fn library(world: &World) -> PathBuf {
    world.path().join("config/stacks")
}

fn in_library(world: &World) -> Vec<String> {
    let Ok(entries) = fs::read_dir(library(world)) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn config_of(world: &World, name: &str) -> String {
    fs::read_to_string(library(world).join(name).join("config.json")).unwrap()
}

/// A world whose library has the stack `web`.
fn with_web() -> World {
    let world = World::new();
    let source = write_stack(&world.path().join("source"), SOUND);
    world.run(&["config", "import", "web", &source]).expect(0);
    world
}

/// Runs `goloo config edit` with this shell script as the editor; the draft's path is `$2`.
fn edit(world: &World, arguments: &[&str], editor: &str) -> Ran {
    world.program("ed it", &format!("#!/bin/sh\n{editor}\n"));
    let path = world.path().join("bin/ed it");
    let mut command = world.command();
    command.env("VISUAL", format!("'{}' --wait", path.display())).env("EDITOR", "false");
    Ran(command.args(["config", "edit"]).args(arguments).output().unwrap())
}

fn drafts(world: &World) -> Vec<PathBuf> {
    let inner =
        |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    inner(world.state().join("drafts")).flat_map(inner).flat_map(inner).collect()
}

fn standing(world: &World, name: &str) -> Value {
    let list = world.json(&["config", "list", "--json"]);
    let found = list["stacks"].as_array().unwrap().iter().find(|stack| stack["name"] == name);
    found.unwrap_or_else(|| panic!("{name} isn't in {list}")).clone()
}

#[test]
fn an_imported_stack_is_found_from_any_folder() {
    let world = with_web();
    assert_eq!(config_of(&world, "web"), SOUND);
    let mut command = world.command();
    let ran = Ran(command.current_dir("/").args(["create", "web", "--dry-run"]).output().unwrap()).expect(0);
    assert!(ran.stdout().contains("web would be created"), "{ran:?}");
}

#[test]
fn import_replaces_a_library_stack_only_with_force_and_as_a_whole() {
    let world = with_web();
    let other = write_stack(&world.path().join("other"), r#"{"vm": {"cpus": 4}}"#);
    fs::write(world.path().join("other/configure.sh"), "true\n").unwrap();
    let ran = world.run(&["config", "import", "web", &other]).expect(3);
    assert!(ran.stderr().contains("already has a stack \"web\""), "{ran:?}");
    assert_eq!(config_of(&world, "web"), SOUND);
    fs::write(library(&world).join("web/NOTES"), "mine").unwrap();
    let ran = world.run(&["config", "import", "web", &other, "--force"]).expect(1);
    assert!(ran.stderr().contains("also has NOTES, which would be lost"), "{ran:?}");
    assert_eq!(config_of(&world, "web"), SOUND);
    fs::remove_file(library(&world).join("web/NOTES")).unwrap();
    world.run(&["config", "import", "web", &other, "--force"]).expect(0);
    assert!(config_of(&world, "web").contains("\"cpus\": 4"));
    assert!(library(&world).join("web/configure.sh").is_file());
    assert_eq!(in_library(&world), ["web"]);
}

#[test]
fn an_invalid_stack_is_not_imported() {
    let world = with_web();
    let bad = write_stack(&world.path().join("bad"), r#"{"vm": {"cpsu": 4}}"#);
    for arguments in [&["config", "import", "bad", &bad][..], &["config", "import", "web", &bad, "--force"]] {
        let ran = world.run(arguments).expect(2);
        assert!(ran.stderr().contains("did you mean \"cpus\"?"), "{ran:?}");
        assert!(ran.stderr().contains(&format!("fix the files in {bad}")), "{ran:?}");
    }
    assert_eq!((in_library(&world), config_of(&world, "web")), (vec!["web".to_owned()], SOUND.to_owned()));
}

#[test]
fn library_stack_names_must_be_valid_vm_names() {
    let world = with_web();
    let source = write_stack(&world.path().join("source"), SOUND);
    for name in ["Web", "../web", "a b", ".web"] {
        world.run(&["config", "import", name, &source]).expect(2);
    }
    assert_eq!(in_library(&world), ["web"]);
}

#[test]
fn leftovers_in_the_library_are_ignored_and_removed_by_an_import() {
    let world = with_web();
    write_stack(&library(&world).join(".goloo-dead"), SOUND);
    assert!(!world.run(&["config", "list"]).expect(0).stdout().contains("goloo-dead"));
    let source = write_stack(&world.path().join("source"), SOUND);
    world.run(&["config", "import", "db", &source]).expect(0);
    assert_eq!(in_library(&world), ["db", "web"]);
}

#[test]
fn export_replaces_existing_files_only_with_force() {
    let world = with_web();
    let target = world.path().join("deep/er/out");
    let out = target.display().to_string();
    world.run(&["config", "export", "web", &format!("{out}/")]).expect(0);
    let read = || fs::read_to_string(target.join("config.json")).unwrap();
    assert_eq!(read(), SOUND);
    fs::write(target.join("config.json"), "mine").unwrap();
    let ran = world.run(&["config", "export", "web", &out]).expect(1);
    assert!(ran.stderr().contains("config.json already exists"), "{ran:?}");
    assert_eq!(read(), "mine");
    fs::write(target.join("cloud-init.yaml"), "mine").unwrap();
    let ran = world.run(&["config", "export", "web", &out, "--force"]).expect(1);
    assert!(ran.stderr().contains("cloud-init.yaml isn't a file of the stack \"web\""), "{ran:?}");
    fs::remove_file(target.join("cloud-init.yaml")).unwrap();
    world.run(&["config", "export", "web", &out, "--force"]).expect(0);
    assert_eq!(read(), SOUND);
    world.run(&["config", "export", "nothing", &out]).expect(3);
}

#[test]
fn export_keeps_other_files_in_the_target_folder() {
    let world = with_web();
    let target = world.path().join("out");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("README"), "mine").unwrap();
    world.run(&["config", "export", "web", &target.display().to_string()]).expect(0);
    assert_eq!(fs::read_to_string(target.join("README")).unwrap(), "mine");
    assert_eq!(fs::read_to_string(target.join("config.json")).unwrap(), SOUND);
}

#[test]
fn an_edit_is_validated_before_it_is_saved() {
    let world = with_web();
    edit(&world, &["web"], r#"[ "$1" = --wait ] && printf '{"vm": {"cpus": 3}}' > "$2""#).expect(0);
    assert_eq!(config_of(&world, "web"), r#"{"vm": {"cpus": 3}}"#);
    edit(&world, &["web", "configure.sh"], r#"echo 'echo hello' > "$2""#).expect(0);
    let script = library(&world).join("web/configure.sh");
    assert_eq!(fs::read_to_string(&script).unwrap(), "echo hello\n");
    let ran = edit(&world, &["web"], "true").expect(0);
    assert!(ran.stderr().contains("is unchanged"), "{ran:?}");
    assert_eq!(drafts(&world), [""; 0].map(PathBuf::from));
}

#[test]
fn an_invalid_edit_is_not_saved_and_its_draft_is_kept() {
    let world = with_web();
    let ran = edit(&world, &["web"], r#"printf '{"vm": {"cpsu": 3}}' > "$2""#).expect(2);
    assert!(ran.stderr().contains("did you mean \"cpus\"?"), "{ran:?}");
    assert_eq!(config_of(&world, "web"), SOUND);
    let draft = drafts(&world).remove(0);
    assert!(ran.stderr().contains(&draft.display().to_string()), "{ran:?}");
    assert_eq!(fs::read_to_string(&draft).unwrap(), r#"{"vm": {"cpsu": 3}}"#);
    let ran = edit(&world, &["web"], "exit 3").expect(1);
    assert!(ran.stderr().contains("there is another draft of web"), "{ran:?}");
    assert_eq!(config_of(&world, "web"), SOUND);
}

#[test]
fn the_later_of_two_concurrent_edits_is_refused_and_its_draft_kept() {
    let world = with_web();
    let theirs = r#"{"vm": {"cpus": 8}}"#;
    let file = library(&world).join("web/config.json");
    let editor =
        format!("printf '{{\"vm\": {{\"cpus\": 3}}}}' > \"$2\"\nprintf '{theirs}' > '{}'", file.display());
    let ran = edit(&world, &["web"], &editor).expect(5);
    assert!(ran.stderr().contains("was changed by another process"), "{ran:?}");
    assert_eq!(config_of(&world, "web"), theirs);
    assert_eq!(fs::read_to_string(drafts(&world).remove(0)).unwrap(), r#"{"vm": {"cpus": 3}}"#);
}

#[test]
fn removing_a_stack_requires_confirmation() {
    let world = with_web();
    world.run(&["config", "rm", "web"]).expect(2);
    assert_eq!(in_library(&world), ["web"]);
    world.run(&["config", "rm", "web", "--yes"]).expect(0);
    assert_eq!(in_library(&world), [""; 0]);
    world.run(&["config", "rm", "web", "--yes"]).expect(3);
}

/// Creates `hello` from a folder of its own, deletes it, and removes it from the archive. Returns the folder.
fn created_and_forgotten(world: &World) -> PathBuf {
    let folder = world.path().join("infra/hello");
    fs::create_dir_all(folder.parent().unwrap()).unwrap();
    fs::rename(world.path().join("work/stacks/hello"), &folder).unwrap();
    world.run(&["create", "hello", "-f", &folder.display().to_string(), "--no-wait"]).expect(0);
    world.run(&["delete", "hello", "--yes"]).expect(0);
    world.run(&["archive", "clean", "--older-than", "0s", "--yes"]).expect(0);
    folder
}

#[test]
fn the_last_folder_of_a_stack_outlives_its_vm_and_record() {
    let world = World::new();
    let folder = created_and_forgotten(&world);
    let mut command = world.command();
    let ran = Ran(command.current_dir("/").args(["create", "hello", "--dry-run"]).output().unwrap());
    let ran = ran.expect(0);
    assert!(ran.stderr().contains(&format!("was last created from: {}", folder.display())), "{ran:?}");
}

#[test]
fn a_dry_run_is_not_added_to_the_registry() {
    let world = World::new();
    world.run(&["create", "hello", "--dry-run"]).expect(0);
    assert_eq!(standing(&world, "hello")["state"], "new");
}

#[test]
fn a_broken_registry_is_reported_once_kept_and_fails_no_create() {
    let world = World::new();
    let path = world.state().join("registry.json");
    fs::create_dir_all(world.state()).unwrap();
    fs::write(&path, "{\"schema\": 1, \"stac").unwrap();
    let ran = world.run(&["config", "list"]).expect(0);
    assert!(ran.stderr().contains("is broken"), "{ran:?}");
    let ran = world.run(&["create", "hello", "--no-wait"]).expect(0);
    assert_eq!(ran.stderr().matches("is broken").count(), 1, "{ran:?}");
    let names = fs::read_dir(world.state()).unwrap().map(|entry| entry.unwrap().path());
    let aside = names.filter(|path| path.display().to_string().contains("registry.json.broken-"));
    assert_eq!(fs::read_to_string(aside.last().unwrap()).unwrap(), "{\"schema\": 1, \"stac");
    let ran = world.run(&["config", "list"]).expect(0);
    assert!(!ran.stderr().contains("broken"), "{ran:?}");
    assert_eq!(standing(&world, "hello")["state"], "unchanged");
}

#[test]
fn config_list_shows_stacks_changed_since_their_last_create() {
    let world = World::new();
    assert_eq!(standing(&world, "hello")["state"], "new");
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    let stack = standing(&world, "hello");
    assert_eq!((&stack["state"], &stack["place"]), (&"unchanged".into(), &"stacks".into()));
    fs::write(world.path().join("work/stacks/hello/configure.sh"), "true\n").unwrap();
    assert_eq!(standing(&world, "hello")["state"], "changed");
}

#[test]
fn a_moved_stack_is_detected_and_relocate_saves_its_new_folder() {
    let world = World::new();
    let folder = created_and_forgotten(&world);
    let stack = standing(&world, "hello");
    assert_eq!((&stack["state"], &stack["place"]), (&"unchanged".into(), &"registry".into()));
    let moved = world.path().join("moved/hello");
    fs::create_dir_all(moved.parent().unwrap()).unwrap();
    fs::rename(&folder, &moved).unwrap();
    assert_eq!(standing(&world, "hello")["state"], "gone");
    let ran = world.run(&["create", "hello", "--dry-run"]).expect(3);
    assert!(ran.stderr().contains("goloo config relocate hello DIR"), "{ran:?}");
    world.run(&["config", "relocate", "hello", &moved.display().to_string()]).expect(0);
    let stack = standing(&world, "hello");
    assert_eq!((&stack["state"], &stack["path"]), (&"unchanged".into(), &moved.display().to_string().into()));
    world.run(&["create", "hello", "--dry-run"]).expect(0);
    world.run(&["config", "relocate", "nothing", &moved.display().to_string()]).expect(3);
}

#[test]
fn a_renamed_stack_with_the_same_files_is_suggested() {
    let world = World::new();
    let folder = created_and_forgotten(&world);
    let renamed = world.path().join("work/stacks/greeting");
    fs::rename(&folder, &renamed).unwrap();
    assert_eq!(standing(&world, "hello")["seemsAt"], renamed.canonicalize().unwrap().display().to_string());
    let ran = world.run(&["config", "list"]).expect(0);
    assert!(ran.stderr().contains("goloo config relocate hello"), "{ran:?}");
}

#[test]
fn a_stack_found_elsewhere_counts_as_moved_only_if_its_files_match() {
    let world = World::new();
    let folder = created_and_forgotten(&world);
    let here = world.stack("hello", HELLO, "");
    let stack = standing(&world, "hello");
    assert_eq!((&stack["state"], &stack["place"]), (&"elsewhere".into(), &"stacks".into()));
    fs::remove_dir_all(&here).unwrap();
    fs::rename(&folder, &here).unwrap();
    assert_eq!(standing(&world, "hello")["state"], "moved");
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    assert_eq!(standing(&world, "hello")["state"], "unchanged");
}

/// The completions for the last word.
fn offered(world: &World, words: &[&str]) -> Vec<String> {
    let mut command = world.command();
    command.env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", words.len().to_string());
    command.env("_CLAP_IFS", "\n").args(["--", "goloo"]).args(words);
    Ran(command.output().unwrap()).expect(0).stdout().lines().map(str::to_owned).collect()
}

#[test]
fn completion_offers_library_and_registered_stacks() {
    let world = with_web();
    let elsewhere = world.path().join("elsewhere");
    fs::rename(world.path().join("work/stacks/hello"), &elsewhere).unwrap();
    let elsewhere = elsewhere.display().to_string();
    world.run(&["create", "hello", "-f", &elsewhere, "--as", "vm", "--no-wait"]).expect(0);
    write_stack(&world.path().join("work/stacks/local"), SOUND);
    // Offered even if another place has a stack of its name.
    write_stack(&world.path().join("work/stacks/web"), SOUND);

    assert_eq!(offered(&world, &["create", ""])[..3], ["hello", "local", "web"]);
    for command in ["edit", "export", "rm"] {
        assert_eq!(offered(&world, &["config", command, "w"]), ["web"], "{command}");
        for elsewhere in ["h", "l"] {
            assert_eq!(offered(&world, &["config", command, elsewhere]), [""; 0], "{command}");
        }
    }
    assert_eq!(offered(&world, &["config", "relocate", "h"]), ["hello"]);
    assert_eq!(offered(&world, &["config", "relocate", "w"]), [""; 0]);

    // A completion can't report that the registry is unreadable.
    fs::write(world.state().join("registry.json"), "{").unwrap();
    assert_eq!(offered(&world, &["config", "relocate", "h"]), [""; 0]);
    assert_eq!(offered(&world, &["create", "w"]), ["web"]);
}

#[test]
fn validate_reports_problems_with_files_on_this_host() {
    let world = World::new();
    let config = r#"{"vm": {"users": [{"username": "ann", "ssh_key_files": ["keys", "none.pub"]}],
        "mounts": [{"source": "none", "target": "/a"}, {"source": "config.json", "target": "/b"}, {"source": ".", "target": "/c"}]}}"#;
    let folder = write_stack(&world.path().join("web"), config);
    fs::create_dir(world.path().join("web/keys")).unwrap();
    let report = validated(&world, &folder, 2);
    let problems: Vec<&str> = report["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| problem["pointer"].as_str().unwrap())
        .collect();
    assert_eq!(
        problems,
        [
            "/vm/users/0/ssh_key_files/0",
            "/vm/users/0/ssh_key_files/1",
            "/vm/mounts/0/source",
            "/vm/mounts/1/source"
        ]
    );
    fs::create_dir(world.path().join("web/configure.sh")).unwrap();
    let report = validated(&world, &folder, 2);
    assert_eq!(report["problems"][0]["message"], "configure.sh is a folder", "{report}");
}

#[test]
fn validate_and_dry_run_print_the_same_warnings() {
    let world = World::new();
    let folder = write_stack(&world.path().join("web"), r#"{"vm": {"memory": "16T", "cpus": 256}}"#);
    fs::write(world.path().join("web/configure.sh"), "#!/bin/sh\r\ntrue\r\n").unwrap();
    let document = "#cloud-config\npacakges: [git]\nruncmd: [a]\nruncmd: [b]\n";
    fs::write(world.path().join("web/cloud-init.yaml"), document).unwrap();
    let report = validated(&world, &folder, 0);
    assert_eq!(report["problems"], serde_json::json!([]));
    let warnings = report["warnings"].as_array().unwrap();
    let said: Vec<_> = warnings
        .iter()
        .map(|warning| (warning["pointer"].as_str().unwrap(), warning["line"].as_u64().unwrap()))
        .collect();
    assert_eq!(said, [("/pacakges", 2), ("/runcmd", 4), ("", 1), ("/vm/memory", 1), ("/vm/cpus", 1)]);
    assert_eq!(warnings[0]["hint"], "did you mean \"packages\"?");
    let shown = world.run(&["create", "web", "-f", &folder, "--dry-run"]).expect(0).stderr();
    for warning in warnings {
        let message = warning["message"].as_str().unwrap();
        assert!(shown.contains(message), "{message} isn't in {shown}");
    }
}

fn validated(world: &World, folder: &str, code: i32) -> Value {
    let ran = world.run(&["config", "validate", "-f", folder, "--json"]).expect(code);
    serde_json::from_str(&ran.stdout()).unwrap()
}
