//! The network that VMs share, and Route 53 as AWS words it, against ministack. It knows no instances in
//! stacks: a create makes the network and then fails.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;

use aws_sdk_route53::config::{BehaviorVersion, Region};
use common::{fixed_machine, settings};
use goloo_aws::AwsProvider;
use goloo_aws::details::DnsRecord;
use goloo_aws::dns::{Kind, Name, Zone};
use goloo_core::provider::{Provider, resource};
use goloo_core::record::{ProviderKind, Record};
use goloo_testkit::aws_emulators::AwsEmulator;
use goloo_testkit::provider_suite::{SuiteWork, record};
use serde_json::json;

const REGION: &str = "us-east-1";

/// An account without default VPC.
fn without_default_vpc() -> AwsEmulator {
    let aws = AwsEmulator::ministack();
    let ask = |parameters: &[(&str, &str)]| aws.query("ec2", REGION, parameters);
    let all = |answer: &str, tag: &str| -> Vec<String> {
        let begin = format!("<{tag}>");
        let parts = answer.split(&begin).skip(1);
        parts.map(|part| part.split('<').next().unwrap().to_owned()).collect()
    };
    for subnet in all(&ask(&[("Action", "DescribeSubnets")]), "subnetId") {
        ask(&[("Action", "DeleteSubnet"), ("SubnetId", &subnet)]);
    }
    aws
}

fn provider(aws: &AwsEmulator) -> AwsProvider {
    AwsProvider::new(settings(aws.endpoint(), REGION))
}

fn lines(aws: &AwsEmulator, word: &str) -> Vec<String> {
    aws.ledger().into_iter().filter(|line| line.contains(word)).collect()
}

#[tokio::test]
async fn creates_at_once_make_one_shared_network() {
    let aws = without_default_vpc();
    let machine = |name: &str| {
        let mut machine = fixed_machine();
        machine.name = goloo_testkit::samples::name(name);
        machine.token = goloo_core::name::OperationId::generate();
        machine
    };
    let (one, two) = (machine("one"), machine("two"));
    let (mut work_one, mut work_two) = (SuiteWork::default(), SuiteWork::default());
    let (first, second) = (provider(&aws), provider(&aws));
    let (failed_one, failed_two) =
        tokio::join!(first.create(&one, &mut work_one), second.create(&two, &mut work_two));
    for failed in [failed_one, failed_two] {
        // By then the network is there.
        let text = failed.unwrap_err().to_string();
        assert!(
            text.contains("cloudformation:CreateStack failed (ValidationError): Parameter 'ImageId'"),
            "{text}"
        );
    }
    assert_eq!(lines(&aws, "stack goloo-network"), ["us-east-1 stack goloo-network CREATE_COMPLETE"]);
    assert_eq!(lines(&aws, " vpc ").len(), 1);
    for work in [work_one, work_two] {
        let kinds: Vec<&str> = work.made.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(kinds[..2], ["goloo-network", "cloudformation-stack"]);
    }
}

#[tokio::test]
async fn the_network_is_offered_for_removal_with_its_last_user_only() {
    let aws = without_default_vpc();
    let machine = fixed_machine();
    let mut work = SuiteWork::default();
    provider(&aws).create(&machine, &mut work).await.unwrap_err();
    let importer = json!({"Resources": {"Group": {"Type": "AWS::EC2::SecurityGroup", "Properties": {
        "GroupDescription": "of another VM", "VpcId": {"Fn::ImportValue": "goloo-network-vpc"},
        "Tags": [{"Key": "subnet", "Value": {"Fn::ImportValue": "goloo-network-subnet"}}]}}}});
    let cloudformation = |parameters: &[(&str, &str)]| aws.query("cloudformation", REGION, parameters);
    let template = importer.to_string();
    cloudformation(&[("Action", "CreateStack"), ("StackName", "other"), ("TemplateBody", &template)]);
    let mut vm: Record = record(&machine, ProviderKind::Aws);
    vm.resources = work.made.iter().map(|(kind, id)| resource(kind, id, &machine.token)).collect();
    let mut while_used = SuiteWork::default();
    provider(&aws).delete(&vm, &mut while_used).await.unwrap();
    assert_eq!(while_used.said(), [""; 0]);
    cloudformation(&[("Action", "DeleteStack"), ("StackName", "other")]);
    let mut unused = SuiteWork::default();
    provider(&aws).delete(&vm, &mut unused).await.unwrap();
    let [note] = &unused.said()[..] else { panic!("{:?}", unused.said()) };
    assert!(
        note.ends_with("aws cloudformation delete-stack --stack-name goloo-network --region us-east-1"),
        "{note}"
    );
    assert_eq!(lines(&aws, "stack goloo-network").len(), 1);
}

fn route53(aws: &AwsEmulator) -> aws_sdk_route53::Client {
    let credentials = settings("", REGION).credentials.unwrap();
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_sdk_route53::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(REGION))
        .endpoint_url(aws.endpoint())
        .http_client(http)
        .credentials_provider(credentials)
        .build();
    aws_sdk_route53::Client::from_conf(config)
}

fn a(name: &str, value: &str) -> DnsRecord {
    DnsRecord { name: name.to_owned(), kind: "A".to_owned(), value: value.to_owned(), ttl: 300 }
}

fn set(addresses: &[&str]) -> BTreeSet<String> {
    addresses.iter().map(|address| (*address).to_owned()).collect()
}

fn records(aws: &AwsEmulator) -> Vec<String> {
    lines(aws, "record ")
}

#[tokio::test]
async fn a_record_of_someone_else_is_overwritten_with_force_only() {
    let aws = AwsEmulator::ministack();
    let (client, zone) = (route53(&aws), aws.create_zone("example.com"));
    let zone = Zone::new(&client, &zone);
    zone.publish(&[a("web.example.com", "192.0.2.1")], false, &mut SuiteWork::default()).await.unwrap();
    let wanted = [a("web.example.com", "192.0.2.2"), a("*.example.com", "192.0.2.2")];
    for _ in 0..2 {
        // The second time stands for a lost reply: what is there already is the VM's own.
        let mut work = SuiteWork::default();
        let made = zone.publish(&wanted, false, &mut work).await.unwrap();
        assert_eq!(made, wanted[1..]);
        assert!(
            work.said()[0].contains("web.example.com leads elsewhere already (A 192.0.2.1)"),
            "{:?}",
            work.said()
        );
        assert_eq!(records(&aws).len(), 2);
        assert!(records(&aws).contains(&"record web.example.com. A 192.0.2.1".to_owned()));
    }
    assert_eq!(zone.publish(&wanted, true, &mut SuiteWork::default()).await.unwrap(), wanted);
    assert!(records(&aws).contains(&"record web.example.com. A 192.0.2.2".to_owned()));
}

#[tokio::test]
async fn only_names_that_still_lead_to_the_vm_are_withdrawn() {
    let aws = AwsEmulator::ministack();
    let (client, zone) = (route53(&aws), aws.create_zone("example.com"));
    let zone = Zone::new(&client, &zone);
    let cname = |name: &str, value: &str| DnsRecord { kind: "CNAME".to_owned(), ..a(name, value) };
    let all = [
        a("web.example.com", "192.0.2.1"),
        a("moved.example.com", "192.0.2.9"),
        cname("www.example.com", "web.example.com"),
        cname("old.example.com", "moved.example.com"),
    ];
    zone.publish(&all, false, &mut SuiteWork::default()).await.unwrap();
    let name = |name: &str, kind| Name { name: name.to_owned(), kind };
    let names = BTreeSet::from([
        name("web.example.com", Kind::A),
        name("moved.example.com", Kind::A),
        name("www.example.com", Kind::Cname),
        name("old.example.com", Kind::Cname),
        name("never-made.example.com", Kind::A),
    ]);
    zone.withdraw(&names, &set(&["192.0.2.1"]), &mut SuiteWork::default()).await.unwrap();
    let left = ["record moved.example.com. A 192.0.2.9", "record old.example.com. CNAME moved.example.com"];
    assert_eq!(records(&aws), left);
    zone.withdraw(&names, &set(&["192.0.2.1"]), &mut SuiteWork::default()).await.unwrap();
    assert_eq!(records(&aws), left);
}

#[tokio::test]
async fn a_zone_that_is_gone_has_no_names_to_remove() {
    let aws = AwsEmulator::ministack();
    let client = route53(&aws);
    let names = BTreeSet::from([Name { name: "web.example.com".to_owned(), kind: Kind::A }]);
    Zone::new(&client, "Z0123456789GONE")
        .withdraw(&names, &set(&["192.0.2.1"]), &mut SuiteWork::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn names_follow_the_address_in_one_batch() {
    let aws = AwsEmulator::ministack();
    let (client, zone) = (route53(&aws), aws.create_zone("example.com"));
    let zone = Zone::new(&client, &zone);
    let known = [a("web.example.com", "192.0.2.1"), a("gone.example.com", "192.0.2.1")];
    zone.publish(&known[..1], false, &mut SuiteWork::default()).await.unwrap();
    for _ in 0..2 {
        let mut work = SuiteWork::default();
        let now = zone.follow(&known, &set(&["192.0.2.1"]), "192.0.2.5", &mut work).await.unwrap();
        assert_eq!(now, [a("web.example.com", "192.0.2.5"), known[1].clone()]);
        assert_eq!(work.said(), ["gone.example.com leads elsewhere now (nowhere) and is left alone"]);
        assert_eq!(records(&aws), ["record web.example.com. A 192.0.2.5"]);
    }
}
