//! State that goloo v0 wrote into configs, valid or not.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{lines, repository};
use goloo_model::name::VmName;
use goloo_model::provider_id::ProviderId;
use goloo_model::record::Endpoint;
use goloo_model::spec::old_state::{FOLDERS, V0Config, V0State, V0Vm, may_hold_state, read};
use proptest::prelude::*;
use serde_json::{Value, json};

const MULTIPASS: ProviderId = ProviderId::known("multipass");
const AWS: ProviderId = ProviderId::known("aws");
const ARN: &str = "arn:aws:cloudformation:us-east-1:123456789012:stack/goloo-web/88bb";

/// One of the stacks in the fixtures.
fn legacy(stack: &str) -> V0State {
    let folder = repository().join("crates/goloo-cli/tests/fixtures/legacy").join(stack);
    let names = ["config.json".to_owned()].into_iter().chain(FOLDERS.map(|f| format!("{f}/config.json")));
    let files: Vec<_> = names.map(|name| (fs::read(folder.join(&name)).unwrap_or_default(), name)).collect();
    let configs: Vec<_> = files.iter().map(|(bytes, path)| V0Config { path, bytes }).collect();
    let there: Vec<_> = configs[1..].iter().copied().filter(|config| !config.bytes.is_empty()).collect();
    read(stack, Some(configs[0]), &there)
}

fn alone(config: &str) -> V0State {
    read("web", Some(V0Config { path: "web/config.json", bytes: config.as_bytes() }), &[])
}

fn names(state: &V0State) -> Vec<(&str, ProviderId, &str)> {
    state.vms.iter().map(|vm| (vm.name.as_str(), vm.provider, vm.resource.1.as_str())).collect()
}

/// The addresses of the only VM, as JSON.
fn addresses(vm: &V0Vm) -> Value {
    let endpoints = vm.endpoints.as_ref().unwrap();
    let Endpoint { address, ssh_port, fqdn, .. } = &endpoints.endpoint;
    if vm.host_bound {
        return json!({"ip": address, "sshPort": ssh_port});
    }
    let mut rest = endpoints.details.clone();
    let mut section = serde_json::Map::new();
    for key in ["stackName", "stackID", "instanceID"] {
        section.extend(rest.shift_remove(key).map(|value| (key.to_owned(), value)));
    }
    section.extend(address.as_ref().map(|address| ("publicIP".to_owned(), json!(address))));
    section.extend(fqdn.as_ref().map(|fqdn| ("fqdn".to_owned(), json!(fqdn))));
    section.extend(rest);
    Value::Object(section)
}

/// The problems of a config, or its VMs.
fn refused(config: &str) -> String {
    let mut state = alone(config);
    state.diagnostics.extend(state.unfit.drain(..).map(|(_, diagnostic)| diagnostic));
    if state.diagnostics.is_empty() {
        format!("(taken: {:?})\n", names(&state))
    } else {
        lines(&state.diagnostics)
    }
}

#[test]
fn a_local_section_is_read_as_a_multipass_instance() {
    let state = legacy("devbox");
    assert_eq!(names(&state), [("devbox", MULTIPASS, "devbox")]);
    let vm = &state.vms[0];
    assert_eq!(vm.resource.0, "multipass-instance");
    assert!(vm.hosts_entry);
    assert_eq!(addresses(vm), json!({"ip": "192.168.64.5", "sshPort": 22}));
    assert_eq!((vm.place.pointer.as_str(), vm.place.line), ("/local", 3));
}

#[test]
fn an_aws_section_is_read_as_a_stack_with_its_resources() {
    let state = legacy("web-aws");
    let arn = "arn:aws:cloudformation:us-west-2:123456789012:stack/goloo-web-aws/5b4b2c10";
    assert_eq!(names(&state), [("web-aws", AWS, arn)]);
    assert_eq!(state.vms[0].resource.0, "cloudformation-stack");
    insta::assert_snapshot!(serde_json::to_string_pretty(&addresses(&state.vms[0])).unwrap());
}

#[test]
fn flat_state_is_read_like_a_section() {
    let state = legacy("flat");
    assert_eq!(state.diagnostics, []);
    assert_eq!(state.vms[0].provider, AWS);
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
fn a_config_in_a_provider_folder_is_read() {
    let state = legacy("per-provider");
    assert_eq!(names(&state), [("per-provider", MULTIPASS, "per-provider")]);
    assert_eq!(state.vms[0].place.file, "local/config.json");
}

#[test]
fn the_aws_vm_gets_a_suffix_when_a_config_has_two_vms() {
    let state = legacy("both");
    let names: Vec<_> = names(&state).into_iter().map(|(name, provider, _)| (name, provider)).collect();
    assert_eq!(names, [("both", MULTIPASS), ("both-aws", AWS)]);
    assert_eq!(state.vms[0].resource.1, "both", "the instance has the name that it was given");
}

#[test]
fn a_broken_local_section_still_reserves_its_name() {
    let config = json!({"local": {"ip": "x"}, "aws": {"stack_id": ARN}}).to_string();
    let state = alone(&config);
    assert_eq!(state.vms[0].name, VmName::parse("web-aws").unwrap());
    assert_eq!(state.diagnostics.len(), 1);
}

#[test]
fn the_name_comes_from_the_config_then_the_stack_then_the_folder() {
    let local = V0Config { path: "local/config.json", bytes: br#"{"local": {"ip": "10.0.0.1"}}"# };
    let own = V0Config { path: "config.json", bytes: br#"{"vm": {"name": "own"}}"# };
    assert_eq!(names(&read("web", Some(own), &[local]))[0].0, "own");
    assert_eq!(names(&read("web", None, &[local]))[0].0, "web");
    let named = V0Config {
        path: "local/config.json",
        bytes: br#"{"vm": {"name": "x"}, "local": {"ip": "10.0.0.1"}}"#,
    };
    assert_eq!(names(&read("web", Some(own), &[named]))[0].0, "x");
}

#[test]
fn a_machine_in_two_configs_of_a_stack_is_read_once() {
    let bytes = br#"{"local": {"ip": "10.0.0.1"}}"#;
    let (own, beside) =
        (V0Config { path: "config.json", bytes }, V0Config { path: "local/config.json", bytes });
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
        assert_eq!(alone(config), V0State::default(), "{config}");
    }
}

#[test]
fn an_empty_section_is_skipped_with_its_position() {
    let state = alone("{\n  \"local\": {\"ip\": \"\"},\n  \"aws\": {}\n}");
    assert_eq!((state.vms.len(), state.diagnostics.len()), (0, 0));
    let said: Vec<_> = state.passed_over.iter().map(|(place, why)| (place.line, why.as_str())).collect();
    assert_eq!(said, [(2, "/local is empty: there is no VM"), (3, "/aws is empty: there is no VM")]);
}

#[test]
fn malformed_state_is_refused_with_the_reason() {
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
fn the_quick_check_accepts_every_config_that_holds_state() {
    for stack in ["flat", "devbox", "both", "web-aws", "per-provider/local"] {
        let path =
            repository().join("crates/goloo-cli/tests/fixtures/legacy").join(stack).join("config.json");
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
    fn any_json_is_read_or_refused_without_panic(own in any_json(), beside in any_json()) {
        let (own, beside) = (own.to_string(), beside.to_string());
        let config = |text: &'static str, json| V0Config { path: text, bytes: json };
        let state = read("web", Some(config("a", own.as_bytes())), &[config("b", beside.as_bytes())]);
        for vm in &state.vms {
            prop_assert!(!vm.resource.1.is_empty());
        }
        for diagnostic in &state.diagnostics {
            prop_assert!(diagnostic.line > 0 && !diagnostic.hint.is_empty(), "{diagnostic:?}");
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        may_hold_state(&bytes);
        read("web", Some(V0Config { path: "a", bytes: &bytes }), &[]);
    }
}
