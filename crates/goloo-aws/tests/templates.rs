//! What CloudFormation would get, as values.
#![allow(clippy::unwrap_used)]

mod common;

use base64::Engine as _;
use common::{fixed_machine, variants};
use goloo_aws::{AwsProvider, Settings};
use goloo_core::provider::{Provider, ProviderError};
use goloo_core::spec::{Dns, ImageRef, Mount, PortForward};
use goloo_testkit::aws_emulators::cfn_lint;

#[test]
fn each_variant_of_the_template_is_as_it_was_read_and_approved() {
    for (name, template) in variants() {
        insta::assert_snapshot!(name, serde_json::to_string_pretty(&template).unwrap());
    }
}

#[test]
fn a_plan_shows_steps_warnings_and_the_template() {
    let mut machine = fixed_machine();
    machine.stack.ports = vec![PortForward { host: 8080, guest: 80 }, PortForward { host: 443, guest: 443 }];
    machine.stack.mounts = vec![Mount { source: "/home/ann/site".into(), target: "/srv".to_owned() }];
    machine.stack.ttl = Some(8 * 3600);
    machine.stack.spot = true;
    machine.stack.iam_instance_profile = Some("web".to_owned());
    machine.stack.dns = Some(Dns {
        hostname: "web".to_owned(),
        domain: "example.com".to_owned(),
        ttl: 300,
        zone_id: None,
        is_apex_domain: false,
        cname_aliases: vec!["www".to_owned()],
    });
    let plan = AwsProvider::new(Settings::new("eu-west-1")).plan(&machine).unwrap();
    assert_eq!(plan.detail["region"], "eu-west-1");
    assert!(plan.detail["template"]["Resources"]["Instance"].is_object());
    assert_eq!(plan.detail["tags"]["goloo:name"], "web");
    insta::assert_snapshot!("plan", [plan.steps, plan.warnings].concat().join("\n"));
}

#[test]
fn the_shared_networks_name_is_no_vms() {
    let mut machine = fixed_machine();
    machine.name = goloo_testkit::samples::name("network");
    let error = AwsProvider::new(Settings::new("eu-west-1")).plan(&machine).unwrap_err();
    assert!(matches!(error, ProviderError::Unsupported { .. }), "{error:?}");
}

#[test]
fn an_image_file_needs_a_system_for_aws() {
    let mut machine = fixed_machine();
    machine.stack.os = "unknown".to_owned();
    machine.stack.image = ImageRef::Path("/images/own.qcow2".into());
    let error = AwsProvider::new(Settings::new("eu-west-1")).plan(&machine).unwrap_err();
    assert_eq!(error.to_string(), "the image the test image can't be used in AWS");
}

#[test]
fn a_template_that_is_too_long_is_refused_with_the_number_of_bytes() {
    let plan = |ports: u16| {
        let mut machine = fixed_machine();
        machine.stack.ports =
            (1000..1000 + ports).map(|port| PortForward { host: port, guest: port }).collect();
        // User-data is in parameters, as long as EC2 takes it.
        machine.user_data = vec![0; 16_384];
        AwsProvider::new(Settings::new("eu-west-1")).plan(&machine)
    };
    let length = |ports| plan(ports).unwrap().detail["template"].to_string().len();
    let (none, a_port) = (length(0), length(2) - length(1));
    let fitting = u16::try_from((51_200 - none) / a_port).unwrap();
    assert!(length(fitting) <= 51_200);
    let over = plan(fitting + 1).unwrap_err().to_string();
    let more = length(fitting) + a_port - 51_200;
    assert_eq!(
        over,
        format!("the CloudFormation template has {more} bytes more than the 51200 that AWS takes")
    );
}

#[test]
fn a_plan_shows_neither_secrets_nor_the_host_key() {
    let mut machine = fixed_machine();
    machine.user_data = "#cloud-config\npassword: swordfish\n".repeat(200).into_bytes();
    let plan = AwsProvider::new(Settings::new("eu-west-1")).plan(&machine).unwrap();
    let encoded = base64::engine::general_purpose::STANDARD.encode(&machine.user_data);
    let shown = plan.detail.to_string();
    // Whole pieces and any part of one.
    for part in encoded.as_bytes().chunks(64).map(|part| std::str::from_utf8(part).unwrap()) {
        assert!(!shown.contains(part), "{part} in {shown}");
    }
    assert_eq!(plan.detail["parameters"]["UserData1"], "****");
    assert_eq!(plan.detail["template"]["Parameters"]["UserData1"]["NoEcho"], true);
}

#[test]
fn cfn_lint_passes_every_template() {
    let texts: Vec<(&str, String)> =
        variants().into_iter().map(|(name, template)| (name, template.to_string())).collect();
    let texts: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (*name, text.as_str())).collect();
    cfn_lint(&texts).unwrap();
}
