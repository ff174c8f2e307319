//! What the first goloo wrote into configs, sound and otherwise.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{lines, repository};
use goloo_core::name::VmName;
use goloo_core::provider::Made;
use goloo_core::record::ProviderKind;
use goloo_core::spec::old_state::{FOLDERS, OldConfig, OldState, OldVm, may_hold_state, read};
use proptest::prelude::*;
use serde_json::{Value, json};

const ARN: &str = "arn:aws:cloudformation:us-east-1:123456789012:stack/goloo-web/88bb";

/// One of the stacks in the fixtures.
fn legacy(stack: &str) -> OldState {
    let folder = repository().join("crates/goloo/tests/fixtures/legacy").join(stack);
    let names = ["config.json".to_owned()].into_iter().chain(FOLDERS.map(|f| format!("{f}/config.json")));
    let files: Vec<_> = names.map(|name| (fs::read(folder.join(&name)).unwrap_or_default(), name)).collect();
    let configs: Vec<_> = files.iter().map(|(bytes, path)| OldConfig { path, bytes }).collect();
    let there: Vec<_> = configs[1..].iter().copied().filter(|config| !config.bytes.is_empty()).collect();
    read(stack, Some(configs[0]), &there)
}

fn alone(config: &str) -> OldState {
    read("web", Some(OldConfig { path: "web/config.json", bytes: config.as_bytes() }), &[])
}

fn names(state: &OldState) -> Vec<(&str, ProviderKind, &str)> {
    state.vms.iter().map(|vm| (vm.name.as_str(), vm.provider, vm.resource.1.as_str())).collect()
}

/// The only VM, as JSON of its addresses.
fn addresses(vm: &OldVm) -> Value {
    match vm.addresses.as_ref().unwrap() {
        Made::Local(local) => serde_json::to_value(local).unwrap(),
        Made::Aws(aws) => serde_json::to_value(aws).unwrap(),
    }
}

/// What is wrong with a config, or what comes of it.
fn refused(config: &str) -> String {
    let mut state = alone(config);
    state.problems.extend(state.unfit.drain(..).map(|(_, problem)| problem));
    if state.problems.is_empty() { format!("(taken: {:?})\n", names(&state)) } else { lines(&state.problems) }
}

#[test]
fn a_local_section_is_a_multipass_instance() {
    let state = legacy("devbox");
    assert_eq!(names(&state), [("devbox", ProviderKind::Multipass, "devbox")]);
    let vm = &state.vms[0];
    assert_eq!(vm.resource.0, "multipass-instance");
    assert!(vm.hosts_entry);
    assert_eq!(addresses(vm), json!({"ip": "192.168.64.5", "sshPort": 22}));
    assert_eq!((vm.place.pointer.as_str(), vm.place.line), ("/local", 3));
}

#[test]
fn an_aws_section_is_a_stack_with_all_that_belongs_to_it() {
    let state = legacy("web-aws");
    let arn = "arn:aws:cloudformation:us-west-2:123456789012:stack/goloo-web-aws/5b4b2c10";
    assert_eq!(names(&state), [("web-aws", ProviderKind::Aws, arn)]);
    assert_eq!(state.vms[0].resource.0, "cloudformation-stack");
    insta::assert_snapshot!(serde_json::to_string_pretty(&addresses(&state.vms[0])).unwrap());
}

#[test]
fn flat_state_is_read_like_a_section() {
    let state = legacy("flat");
    assert_eq!(state.problems, []);
    assert_eq!(state.vms[0].provider, ProviderKind::Aws);
    assert_eq!(
        addresses(&state.vms[0]),
        json!({
            "stackName": "goloo-flat", "instanceID": "i-0aaaabbbbccccdddd", "publicIP": "54.8.8.8",
            "stackID": "arn:aws:cloudformation:us-east-1:123456789012:stack/goloo-flat/88bb",
            "securityGroupID": "sg-0f1a7", "region": "us-east-1",
        })
    );
}

#[test]
fn a_config_in_a_folder_of_its_provider_is_read() {
    let state = legacy("per-provider");
    assert_eq!(names(&state), [("per-provider", ProviderKind::Multipass, "per-provider")]);
    assert_eq!(state.vms[0].place.file, "local/config.json");
}

#[test]
fn of_two_at_once_the_one_in_aws_is_called_so() {
    let state = legacy("both");
    let names: Vec<_> = names(&state).into_iter().map(|(name, provider, _)| (name, provider)).collect();
    assert_eq!(names, [("both", ProviderKind::Multipass), ("both-aws", ProviderKind::Aws)]);
    assert_eq!(state.vms[0].resource.1, "both", "the instance has the name that it was given");
}

#[test]
fn a_broken_local_section_keeps_its_name_all_the_same() {
    let config = json!({"local": {"ip": "x"}, "aws": {"stack_id": ARN}}).to_string();
    let state = alone(&config);
    assert_eq!(state.vms[0].name, VmName::parse("web-aws").unwrap());
    assert_eq!(state.problems.len(), 1);
}

#[test]
fn the_name_is_the_config_s_else_the_stack_s_else_the_folder_s() {
    let local = OldConfig { path: "local/config.json", bytes: br#"{"local": {"ip": "10.0.0.1"}}"# };
    let own = OldConfig { path: "config.json", bytes: br#"{"vm": {"name": "own"}}"# };
    assert_eq!(names(&read("web", Some(own), &[local]))[0].0, "own");
    assert_eq!(names(&read("web", None, &[local]))[0].0, "web");
    let named = OldConfig {
        path: "local/config.json",
        bytes: br#"{"vm": {"name": "x"}, "local": {"ip": "10.0.0.1"}}"#,
    };
    assert_eq!(names(&read("web", Some(own), &[named]))[0].0, "x");
}

#[test]
fn one_machine_in_two_configs_of_a_stack_is_one() {
    let bytes = br#"{"local": {"ip": "10.0.0.1"}}"#;
    let (own, beside) =
        (OldConfig { path: "config.json", bytes }, OldConfig { path: "local/config.json", bytes });
    let state = read("web", Some(own), &[beside]);
    assert_eq!(state.vms.len(), 1);
    assert_eq!(state.vms[0].place.file, "local/config.json");
    assert_eq!(state.passed_over[0].1, "it is the machine of local/config.json");
}

#[test]
fn a_config_without_state_has_no_vm() {
    for config in [
        "{}",
        r#"{"vm": {"name": "web", "vpc_id": "vpc-1", "subnet_id": "subnet-1", "region": "us-east-1"}}"#,
        r#"{"vm": {"public_ip": "", "instance_id": null, "created_vpc": false, "dns_records": []}}"#,
        r#"{"local": null}"#,
    ] {
        assert_eq!(alone(config), OldState::default(), "{config}");
    }
}

#[test]
fn an_empty_section_is_no_vm_and_its_place_is_said() {
    let state = alone("{\n  \"local\": {\"ip\": \"\"},\n  \"aws\": {}\n}");
    assert_eq!((state.vms.len(), state.problems.len()), (0, 0));
    let said: Vec<_> = state.passed_over.iter().map(|(place, why)| (place.line, why.as_str())).collect();
    assert_eq!(said, [(2, "/local is empty: there is no VM"), (3, "/aws is empty: there is no VM")]);
}

#[test]
fn state_edited_by_hand() {
    let mut all = String::new();
    let aws = |key: &str, value: Value| json!({"aws": {"stack_id": ARN, key: value}}).to_string();
    for config in [
        r#"{"local": "yes"}"#.to_owned(),
        r#"{"local": {"ip": "here"}}"#.to_owned(),
        r#"{"local": {"ip": 4}}"#.to_owned(),
        r#"{"local": {"ip": "10.0.0.1", "hosts_entry": "yes"}}"#.to_owned(),
        r#"{"local": {"ip": "10.0.0.1", "host_entry": true, "colour": 1}}"#.to_owned(),
        r#"{"local": {"ip": "10.0.0.1", "ip": "10.0.0.2"}}"#.to_owned(),
        r#"{"vm": {"name": "Dev_Box"}, "local": {"ip": "10.0.0.1"}}"#.to_owned(),
        r#"{"vm": {"name": "a; b"}, "local": {"ip": "10.0.0.1"}}"#.to_owned(),
        r#"{"vm": {"name": 7}, "local": {"ip": "10.0.0.1"}}"#.to_owned(),
        json!({"vm": {"name": "Web"}, "aws": {"stack_id": ARN}}).to_string(),
        r#"{"aws": []}"#.to_owned(),
        r#"{"aws": {"instance_id": "i-0"}}"#.to_owned(),
        r#"{"aws": {"stack_name": "goloo-web"}}"#.to_owned(),
        r#"{"aws": {"stack_id": 5}}"#.to_owned(),
        r#"{"aws": {"stack_id": "goloo-web"}}"#.to_owned(),
        aws("stack_name", json!("goloo-x")),
        aws("instance_id", json!("0123")),
        aws("public_ip", json!("54.1.2")),
        aws("created_vpc", json!("true")),
        aws("dns_records", json!([{"name": "x"}])),
        aws("instanceid", json!("i-0")),
        r#"{"vm": {"instance_id": "i-0"}}"#.to_owned(),
        r#"{"local": {"ip": "10.0.0.1"},}"#.to_owned(),
    ] {
        all.push_str(&format!(
            "{config}\n  {}",
            refused(&config).replace('\n', "\n  ").trim_end_matches(' ')
        ));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn the_quick_look_passes_whatever_the_reader_finds() {
    for stack in ["flat", "devbox", "both", "web-aws", "per-provider/local"] {
        let path = repository().join("crates/goloo/tests/fixtures/legacy").join(stack).join("config.json");
        assert!(may_hold_state(&fs::read(path).unwrap()), "{stack}");
    }
    assert!(!may_hold_state(br#"{"vm": {"name": "web", "region": "aws-1", "vpc_id": "vpc-1"}}"#));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "(i-|sg-|arn:aws:cloudformation:)?[a-z0-9:/.]{0,12}".prop_map(Value::from),
        Just(Value::from(ARN)),
        Just(Value::from("10.0.0.1")),
    ];
    let key = prop_oneof![
        "(vm|local|aws|name|ip|hosts_entry|stack_id|stack_name|instance_id|dns_records|public_ip)",
        "[a-z~/]{0,6}",
    ];
    leaf.prop_recursive(4, 48, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_is_read_or_refused(own in any_json(), beside in any_json()) {
        let (own, beside) = (own.to_string(), beside.to_string());
        let config = |text: &'static str, json| OldConfig { path: text, bytes: json };
        let state = read("web", Some(config("a", own.as_bytes())), &[config("b", beside.as_bytes())]);
        for vm in &state.vms {
            prop_assert!(!vm.resource.1.is_empty());
        }
        for problem in &state.problems {
            prop_assert!(problem.line > 0 && !problem.hint.is_empty(), "{problem:?}");
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        may_hold_state(&bytes);
        read("web", Some(OldConfig { path: "a", bytes: &bytes }), &[]);
    }
}
