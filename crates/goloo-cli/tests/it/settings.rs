//! How the command shows, changes and applies settings.

use crate::common;
use crate::common::World;

fn shown(world: &World, key: &str) -> (serde_json::Value, String) {
    let all = world.json(&["settings", "show", "--json"]);
    let one = all["settings"].as_array().unwrap().iter().find(|one| one["key"] == key).unwrap().clone();
    (one["value"].clone(), one["from"].as_str().unwrap().to_owned())
}

#[test]
fn each_setting_is_shown_with_its_source() {
    let world = World::new();
    assert_eq!(shown(&world, "localProvider"), ("qemu".into(), "file".into()));
    assert_eq!(shown(&world, "hosts"), (false.into(), "default".into()));
    assert_eq!(shown(&world, "stateDir").1, "default");
    assert_eq!(shown(&world, "stateBackend"), ("dir".into(), "default".into()));
    world.run(&["settings", "set", "stateBackend", "sqlite"]).expect(0);
    assert_eq!(shown(&world, "stateBackend"), ("sqlite".into(), "file".into()));
    let path = world.run(&["settings", "path"]).expect(0).stdout();
    assert_eq!(std::path::Path::new(path.trim()), world.path().join("config/settings.json"));
}

#[test]
fn invalid_settings_are_refused_with_the_reason_and_valid_keys() {
    let world = World::new();
    let refused = world.run(&["settings", "set", "stateBackend", "sqllite:x"]).expect(2);
    assert!(refused.stderr().contains("write it like dir:PATH"), "{refused:?}");
    let refused = world.run(&["settings", "set", "host", "true"]).expect(2);
    assert!(refused.stderr().contains("did you mean \"hosts\"?"), "{refused:?}");
    assert_eq!(shown(&world, "stateBackend").1, "default");
}

#[test]
fn a_vm_is_created_stopped_and_deleted_in_an_encrypted_sqlite_store() {
    let world = World::new();
    world.settings(&format!(
        r#"{{"localProvider": "qemu", "stateBackend": {{"type": "sqlite"}},
            "encryption": {{"recipients": ["{PUBLIC}"], "identityFile": "{}"}}}}"#,
        world.path().join("key.txt").display()
    ));
    std::fs::write(world.path().join("key.txt"), format!("{SECRET}\n")).unwrap();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    assert_eq!(world.names(), ["hello"]);
    assert!(world.state().join("goloo.db").is_file() && !world.state().join("active").exists());
    world.run(&["stop", "hello", "--force"]).expect(0);
    // Without the key, a user sees that there is a record, and what to do.
    world.settings(r#"{"localProvider": "qemu", "stateBackend": {"type": "sqlite"}}"#);
    let broken = world.json(&["list", "--json"])["broken"].clone();
    assert!(broken[0]["error"].as_str().unwrap().contains("encryption.identityFile"), "{broken}");
    world.run(&["delete", "hello", "--yes"]).expect(1);
    world
        .run(&[
            "settings",
            "set",
            "encryption.identityFile",
            &world.path().join("key.txt").display().to_string(),
        ])
        .expect(0);
    world.run(&["delete", "hello", "--yes"]).expect(0);
    assert_eq!(world.names(), Vec::<String>::new());
    assert_eq!(world.json(&["archive", "list", "--json"])["archived"].as_array().unwrap().len(), 1);
}

/// A publicly known key pair.
const SECRET: &str = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
const PUBLIC: &str = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";

#[test]
fn moving_a_store_set_by_a_variable_leaves_the_settings_unchanged() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    let settings = || std::fs::read_to_string(world.path().join("config/settings.json")).unwrap();
    let before = (settings(), std::fs::read_dir(world.path().join("config")).unwrap().count());
    let (from, to) = (world.path().join("x"), world.path().join("y z"));
    let address = format!("dir:{}", to.display());
    for (variable, value) in [
        ("GOLOO_STATE_DIR", from.display().to_string()),
        ("GOLOO_STATE_BACKEND", format!("dir:{}", world.path().join("w").display())),
    ] {
        let mut command = world.command();
        let moved = command.env(variable, value).args(["state", "move", &address]).output().unwrap();
        let moved = common::Ran(moved).expect(0);
        let hint = format!(
            "{variable} is set, so settings.json was not changed: run `export GOLOO_STATE_BACKEND='{address}'`"
        );
        assert!(moved.stderr().contains(&hint), "{moved:?}");
    }
    assert_eq!((settings(), std::fs::read_dir(world.path().join("config")).unwrap().count()), before);
    assert_eq!(world.names(), ["hello"]);
}

#[test]
fn list_mentions_vms_left_in_the_previous_store() {
    let world = World::new();
    world.run(&["create", "hello", "--no-wait"]).expect(0);
    let listed = world.run(&["list"]).expect(0);
    assert!(!listed.stderr().contains("still in"), "{listed:?}");
    let elsewhere = format!("sqlite:{}", world.path().join("b/c.db").display());
    let first = format!("dir:{}", world.state().display());
    for (key, value) in [("stateBackend", elsewhere.as_str()), ("stateDir", "~/vms")] {
        world.run(&["settings", "set", key, value]).expect(0);
        let listed = world.run(&["list"]).expect(0);
        let note = format!(
            "1 VM is still in {first}, which was used before; run `GOLOO_STATE_BACKEND={first} goloo list`"
        );
        assert!(listed.stderr().contains(&note), "{key}: {listed:?}");
        world.run(&["settings", "set", key, "null"]).expect(0);
    }
    // From a store that isn't the default.
    world.run(&["settings", "set", "stateBackend", &elsewhere]).expect(0);
    world.run(&["create", "hello", "--no-wait", "--as", "other"]).expect(0);
    world.run(&["settings", "set", "stateBackend", "null"]).expect(0);
    let listed = world.run(&["list", "--json"]).expect(0);
    assert!(listed.stderr().contains(&format!("1 VM is still in {elsewhere},")), "{listed:?}");
    // Records that were moved are not reported in the old store.
    world.run(&["settings", "set", "stateBackend", &elsewhere]).expect(0);
    world.run(&["delete", "other", "--yes"]).expect(0);
    world.run(&["settings", "set", "stateBackend", "null"]).expect(0);
    let third = format!("dir:{}", world.path().join("third").display());
    world.run(&["state", "move", &third]).expect(0);
    let listed = world.run(&["list"]).expect(0);
    assert!(!listed.stderr().contains("still in"), "{listed:?}");
    assert!(listed.stdout().contains("hello"), "{listed:?}");
}
