//! The JSON output of commands, checked against the schemas in `docs/reference/json/`.

use std::collections::BTreeSet;

use crate::common::World;
use serde_json::{Value, json};

/// The schema of this name, which allows no fields that it doesn't declare.
fn closed_schema(name: &str) -> Value {
    let all = goloo_cli::output_schemas();
    let output = all.iter().find(|output| output.name == name).unwrap_or_else(|| panic!("no schema {name}"));
    let mut schema = output.schema.clone();
    schema.insert("unevaluatedProperties".to_owned(), json!(false));
    schema.to_value()
}

fn assert_valid(name: &str, document: &Value) {
    let validator = jsonschema::draft202012::new(&closed_schema(name)).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{name}: {errors:#?}\n{document:#}");
}

#[test]
fn output_of_commands_matches_the_schemas() {
    let world = World::new();
    let check = |name: &str, arguments: &[&str]| {
        let words: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        assert_valid(name, &world.json(&words));
    };
    check("create-plan", &["create", "hello", "--dry-run"]);
    check("vm", &["create", "hello", "--no-wait", "--tag", "team=web"]);
    check("list", &["list"]);
    check("list", &["list", "--refresh"]);
    check("status", &["status", "hello"]);
    check("vm", &["stop", "hello", "--force"]);
    check("snapshot", &["snapshot", "hello", "before"]);
    check("snapshot-list", &["snapshot", "hello", "--list"]);
    check("restore", &["restore", "hello", "before", "--yes"]);
    check("snapshot-delete", &["snapshot", "hello", "--delete", "before"]);
    check("vm", &["clone", "hello", "twin"]);
    check("export", &["export", "hello", "hello.goloo"]);
    check("vm", &["import", "hello.goloo", "--as", "moved"]);
    check("status", &["status", "moved"]);
    check("delete", &["delete", "moved", "--yes"]);
    check("rename", &["rename", "twin", "copy"]);
    check("rename", &["rename", "copy", "twin"]);
    check("vm", &["protect", "twin"]);
    world.program("systemctl", "#!/bin/sh\n");
    check("vm", &["autostart", "twin", "on"]);
    check("vm", &["autostart", "twin", "off"]);
    check("vms", &["autostart", "--start"]);
    check("vm", &["tag", "twin", "team=db"]);
    check("apply-plan", &["apply", "hello", "--dry-run", "--set", "cpus=2"]);
    check("apply", &["apply", "hello", "--set", "cpus=2"]);
    check("apply", &["set", "twin", "memory=1G"]);
    world.ssh_finds(r#"{"status": "done", "errors": []}"#);
    let replace = ["apply", "hello", "--replace", "--set", "disk=512M"];
    check("apply-plan", &[&replace[..], &["--dry-run"]].concat());
    check("apply", &[&replace[..], &["--yes"]].concat());
    check("vms", &["stop", "hello", "twin", "--force"]);
    assert_valid("vms", &world.json(&["stop", "hello", "nothing", "--force", "--json"]));
    check("history", &["history", "hello"]);
    check("resume", &["resume", "hello"]);
    check("diff", &["diff", "hello"]);
    check("refresh", &["refresh"]);
    check("delete", &["delete", "hello", "--yes"]);
    check("list", &["list", "--all"]);
    let archive = world.json(&["archive", "list", "--json"]);
    assert_valid("archive-list", &archive);
    check("archive-show", &["archive", "show", archive["archived"][0]["archiveId"].as_str().unwrap()]);
    check("config-list", &["config", "list"]);
    check("config-validate", &["config", "validate", "hello"]);
    check("settings-show", &["settings", "show"]);
    check("state-show", &["state", "show"]);
    check("state-locks", &["state", "locks"]);
    check("image-list", &["image", "list"]);
    check("migrate", &["migrate"]);
    check("doctor", &["doctor"]);
    check("error", &["status", "nothing"]);
    let shop = r#"{"name": "shop", "machines": {"db": {"stack": "hello"}, "web": {"stack": "hello", "after": ["db"]}}}"#;
    std::fs::write(world.path().join("work/goloo.json"), shop).unwrap();
    check("up-plan", &["up", "--dry-run"]);
    check("up", &["up"]);
    check("list", &["list", "shop"]);
    check("down", &["down", "--keep", "db", "--yes"]);
    check("error", &["list", "--no-such-option"]);
}

#[test]
fn a_document_with_another_field_or_type_is_invalid() {
    let validator = jsonschema::draft202012::new(&closed_schema("snapshot")).unwrap();
    assert!(validator.is_valid(&json!({"schema": 1, "snapshot": {"label": "before"}})));
    for invalid in [
        json!({"schema": 2, "snapshot": {"label": "before"}}),
        json!({"schema": 1, "snapshot": {"label": 7}}),
        json!({"schema": 1, "snapshot": {}}),
        json!({"schema": 1, "snapshot": {"label": "before"}, "more": true}),
    ] {
        assert!(!validator.is_valid(&invalid), "{invalid}");
    }
}

#[test]
fn each_command_with_the_option_json_has_a_schema() {
    use clap::CommandFactory;

    fn walk(command: &clap::Command, path: &str, found: &mut BTreeSet<String>) {
        if command.get_arguments().any(|argument| argument.get_id() == "json") {
            found.insert(path.trim().to_owned());
        }
        for child in command.get_subcommands() {
            walk(child, &format!("{path} {}", child.get_name()), found);
        }
    }
    let mut root = goloo_cli::args::Cli::command();
    root.build();
    let mut commands = BTreeSet::new();
    walk(&root, "", &mut commands);
    let schemas = goloo_cli::output_schemas();
    let described: BTreeSet<&str> =
        schemas.iter().flat_map(|output| output.commands.iter().copied()).collect();
    commands.retain(|command| !described.contains(command.as_str()));
    assert!(commands.is_empty(), "without a schema: {commands:?}");
}
