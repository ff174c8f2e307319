//! The templates for CloudFormation, as values.

use crate::common::{fixed_machine, variants};
use base64::Engine as _;
use goloo_aws::{AwsProvider, Settings};
use goloo_model::provider::{Provider, ProviderError};
use goloo_model::spec::{Dns, ImageRef, Mount};
use goloo_testkit::aws_emulators::cfn_lint;
use goloo_testkit::samples::forwards;

#[test]
fn each_template_variant_matches_its_reviewed_snapshot() {
    for (name, template) in variants() {
        insta::assert_snapshot!(name, serde_json::to_string_pretty(&template).unwrap());
    }
}

#[test]
fn a_plan_shows_steps_warnings_and_the_template() {
    let mut machine = fixed_machine();
    machine.stack.ports = forwards(&["8080:80", "443", "53/udp", "8000-8010:9000-9010"]);
    machine.stack.mounts =
        vec![Mount { source: "/home/ann/site".into(), target: "/srv".to_owned(), readonly: false }];
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
fn the_name_of_the_shared_network_is_refused_for_a_vm() {
    let mut machine = fixed_machine();
    machine.name = goloo_testkit::samples::name("network");
    machine.machine_name = machine.name.clone();
    let error = AwsProvider::new(Settings::new("eu-west-1")).plan(&machine).unwrap_err();
    assert!(matches!(error, ProviderError::Unsupported { .. }), "{error:?}");
}

#[test]
fn an_image_file_without_a_known_os_is_refused() {
    let mut machine = fixed_machine();
    machine.stack.os = "unknown".to_owned();
    machine.stack.image = ImageRef::Path("/images/own.qcow2".into());
    let error = AwsProvider::new(Settings::new("eu-west-1")).plan(&machine).unwrap_err();
    assert_eq!(error.to_string(), "the image the test image can't be used in AWS");
}

#[test]
fn an_oversized_template_is_refused_with_the_number_of_excess_bytes() {
    let plan = |ports: u16| {
        let mut machine = fixed_machine();
        machine.stack.ports = (1000..1000 + ports).map(|port| port.to_string().parse().unwrap()).collect();
        // User-data goes into parameters, up to EC2's maximum size.
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
        format!("the CloudFormation template is {more} bytes larger than the 51200 that AWS allows")
    );
}

#[test]
fn a_plan_shows_neither_secrets_nor_the_host_key() {
    let mut machine = fixed_machine();
    machine.user_data = "#cloud-config\npassword: swordfish\n".repeat(200).into_bytes();
    let plan = AwsProvider::new(Settings::new("eu-west-1")).plan(&machine).unwrap();
    let encoded = base64::engine::general_purpose::STANDARD.encode(&machine.user_data);
    let shown = plan.detail.to_string();
    // Detects whole pieces as well as parts of one.
    for part in encoded.as_bytes().chunks(64).map(|part| std::str::from_utf8(part).unwrap()) {
        assert!(!shown.contains(part), "{part} in {shown}");
    }
    assert_eq!(plan.detail["parameters"]["UserData1"], "****");
    assert_eq!(plan.detail["template"]["Parameters"]["UserData1"]["NoEcho"], true);
}

#[test]
fn every_template_passes_cfn_lint() {
    let texts: Vec<(&str, String)> =
        variants().into_iter().map(|(name, template)| (name, template.to_string())).collect();
    let texts: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (*name, text.as_str())).collect();
    cfn_lint(&texts).unwrap();
}
