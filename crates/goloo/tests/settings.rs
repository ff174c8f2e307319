//! Settings as the command shows, changes and obeys them.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::World;

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
    assert_eq!(shown(&world, "stateDir").1, "GOLOO_STATE_DIR");
    assert_eq!(shown(&world, "stateBackend"), ("dir".into(), "default".into()));
    world.run(&["settings", "set", "stateBackend", "sqlite"]).expect(0);
    assert_eq!(shown(&world, "stateBackend"), ("sqlite".into(), "file".into()));
    let path = world.run(&["settings", "path"]).expect(0).stdout();
    assert_eq!(std::path::Path::new(path.trim()), world.path().join("config/settings.json"));
}

#[test]
fn what_can_t_be_set_is_refused_with_the_reason_and_the_keys() {
    let world = World::new();
    let refused = world.run(&["settings", "set", "stateBackend", "sqllite:x"]).expect(2);
    assert!(refused.stderr().contains("write it like dir:PATH"), "{refused:?}");
    let refused = world.run(&["settings", "set", "host", "true"]).expect(2);
    assert!(refused.stderr().contains("did you mean \"hosts\"?"), "{refused:?}");
    assert_eq!(shown(&world, "stateBackend").1, "default");
}

#[test]
fn a_vm_s_life_in_a_sqlite_file_that_is_encrypted() {
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
    // Someone without the key sees that there is something, and what to do.
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

/// A pair that is known to everyone.
const SECRET: &str = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
const PUBLIC: &str = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";
