//! The shared network, and Route 53 with AWS's messages, against ministack. It doesn't support instances in stacks: a
//! create makes the network and then fails.

use crate::common;
use std::collections::BTreeSet;

use crate::common::{fixed_machine, settings};
use aws_sdk_route53::config::{BehaviorVersion, Region};
use aws_sdk_route53::types::builders::ResourceRecordSetBuilder;
use aws_sdk_route53::types::{Change, ChangeAction, ChangeBatch, ResourceRecord, ResourceRecordSet};
use goloo_aws::AwsProvider;
use goloo_aws::details::DnsRecord;
use goloo_aws::dns::{Name, Zone};
use goloo_aws::publish::ForeignNames;
use goloo_aws::record_type::RecordType;
use goloo_model::provider::{Provider, ProviderError, resource};
use goloo_model::record::Record;
use goloo_testkit::aws_answers;
use goloo_testkit::aws_emulators::AwsEmulator;
use goloo_testkit::fault_proxy::{At, Fault, FaultProxy};
use goloo_testkit::full_zones::members;
use goloo_testkit::provider_suite::{SuiteWork, record};
use serde_json::json;

const REGION: &str = "us-east-1";

/// An account without a default VPC.
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

/// ministack doesn't know which zones offer an instance type.
fn with_offerings(aws: &AwsEmulator, zones: &'static [&'static str]) -> FaultProxy {
    let proxy = FaultProxy::start(aws.endpoint());
    proxy.answer("DescribeInstanceTypeOfferings", |_| {
        Some(aws_answers::describe_instance_type_offerings("t3.nano", zones, None))
    });
    proxy
}

fn provider(aws: &AwsEmulator) -> AwsProvider {
    let proxy = with_offerings(aws, &["us-east-1a", "us-east-1b", "us-east-1c"]);
    AwsProvider::new(settings(proxy.endpoint(), REGION))
}

fn lines(aws: &AwsEmulator, word: &str) -> Vec<String> {
    aws.ledger().into_iter().filter(|line| line.contains(word)).collect()
}

#[tokio::test]
async fn concurrent_creates_make_one_shared_network() {
    let aws = without_default_vpc();
    let machine = |name: &str| {
        let mut machine = fixed_machine();
        machine.name = goloo_testkit::samples::name(name);
        machine.machine_name = machine.name.clone();
        machine.token = goloo_model::name::OperationId::generate();
        machine
    };
    let (one, two) = (machine("one"), machine("two"));
    let (mut work_one, mut work_two) = (SuiteWork::default(), SuiteWork::default());
    let (first, second) = (provider(&aws), provider(&aws));
    let (failed_one, failed_two) =
        tokio::join!(first.create(&one, &mut work_one), second.create(&two, &mut work_two));
    for failed in [failed_one, failed_two] {
        // By then the network exists.
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

/// The zones of the shared network's subnets, in the order in which they are tried.
fn shared_zones(aws: &AwsEmulator) -> Vec<String> {
    let describe = [("Action", "DescribeStacks"), ("StackName", "goloo-network")];
    let answer = aws.query("cloudformation", REGION, &describe);
    let zone = |key: &str| {
        let (_, after) = answer.split_once(&format!("<OutputKey>{key}</OutputKey>"))?;
        let (_, value) = after.split_once("<OutputValue>")?;
        Some(value.split('<').next()?.to_owned())
    };
    ["Zone", "Zone2", "Zone3"].into_iter().filter_map(zone).collect()
}

/// The subnet a create requested, and its result.
async fn asked_subnet(proxy: &FaultProxy) -> Result<String, ProviderError> {
    let provider = AwsProvider::new(settings(proxy.endpoint(), REGION));
    let error = provider.create(&fixed_machine(), &mut SuiteWork::default()).await.unwrap_err();
    let requests = proxy.requests();
    let vm = requests.iter().rfind(|request| {
        request.action() == "CreateStack" && request.parameter("StackName").as_deref() == Some("goloo-web")
    });
    let Some(vm) = vm else { return Err(error) };
    let parameters = members(vm, "Parameters", "ParameterKey", "ParameterValue");
    Ok(parameters.into_iter().find(|(key, _)| key == "SubnetId").unwrap().1)
}

fn output(aws: &AwsEmulator, key: &str) -> String {
    let describe = [("Action", "DescribeStacks"), ("StackName", "goloo-network")];
    let answer = aws.query("cloudformation", REGION, &describe);
    let (_, after) = answer.split_once(&format!("<OutputKey>{key}</OutputKey>")).unwrap();
    after.split_once("<OutputValue>").unwrap().1.split('<').next().unwrap().to_owned()
}

#[tokio::test]
async fn the_shared_network_spans_three_zones_preferring_those_with_the_type() {
    let aws = without_default_vpc();
    let proxy = with_offerings(&aws, &["us-east-1b", "us-east-1c", "us-east-1f"]);
    let subnet = asked_subnet(&proxy).await.unwrap();
    assert_eq!(shared_zones(&aws), ["us-east-1b", "us-east-1c", "us-east-1a"]);
    assert_eq!(subnet, output(&aws, "SubnetId"));
    // Another type, which the first zones don't offer, is placed in the third.
    let proxy = with_offerings(&aws, &["us-east-1a"]);
    assert_eq!(asked_subnet(&proxy).await.unwrap(), output(&aws, "SubnetId3"));
    assert_eq!(lines(&aws, " vpc ").len(), 1);
}

#[tokio::test]
async fn a_type_unavailable_in_all_zones_of_the_shared_network_is_refused() {
    let aws = without_default_vpc();
    asked_subnet(&with_offerings(&aws, &["us-east-1a"])).await.unwrap();
    let error = asked_subnet(&with_offerings(&aws, &["us-east-1f"])).await.unwrap_err();
    let ProviderError::Unsupported { what, hint } = error else { panic!("{error:?}") };
    assert!(
        what.starts_with("the instance type t3.nano isn't available in us-east-1a, us-east-1b, us-east-1c"),
        "{what}"
    );
    assert!(
        hint.debug_text().contains("us-east-1f")
            && hint.debug_text().contains("delete-stack --region us-east-1 --stack-name goloo-network"),
        "{hint:?}"
    );
}

/// The network as created by versions with only one subnet, in the first zone.
fn old_network() -> serde_json::Value {
    let resource = |kind: &str, properties: serde_json::Value| json!({"Type": format!("AWS::EC2::{kind}"), "Properties": properties});
    let zone = json!({"Fn::Select": [0, {"Fn::GetAZs": ""}]});
    json!({
        "Resources": {
            "Vpc": resource("VPC", json!({"CidrBlock": "10.83.0.0/16"})),
            "Subnet": resource("Subnet", json!({
                "VpcId": {"Ref": "Vpc"}, "CidrBlock": "10.83.0.0/20", "AvailabilityZone": zone})),
        },
        "Outputs": {
            "VpcId": {"Value": {"Ref": "Vpc"}, "Export": {"Name": "goloo-network-vpc"}},
            "SubnetId": {"Value": {"Ref": "Subnet"}, "Export": {"Name": "goloo-network-subnet"}},
        },
    })
}

#[tokio::test]
async fn an_older_network_with_one_subnet_remains_usable_and_unchanged() {
    let aws = without_default_vpc();
    let template = old_network().to_string();
    let create = [
        ("Action", "CreateStack"),
        ("StackName", "goloo-network"),
        ("TemplateBody", &template),
        ("Tags.member.1.Key", "goloo:shared"),
        ("Tags.member.1.Value", "network"),
    ];
    aws.query("cloudformation", REGION, &create);
    let before = (lines(&aws, " subnet "), output(&aws, "SubnetId"));
    let proxy = with_offerings(&aws, &["us-east-1a", "us-east-1b"]);
    assert_eq!(asked_subnet(&proxy).await.unwrap(), before.1);
    let changes = ["UpdateStack", "DeleteStack"];
    assert!(!proxy.actions().iter().any(|action| changes.contains(&action.as_str())));
    // Its zone isn't in its outputs; that the zone lacks the type is known nevertheless.
    let error = asked_subnet(&with_offerings(&aws, &["us-east-1b"])).await.unwrap_err();
    let text =
        format!("the instance type t3.nano isn't available in us-east-1a, where the subnet {} is", before.1);
    assert_eq!(error.to_string(), text);
    assert_eq!((lines(&aws, " subnet "), output(&aws, "SubnetId")), before);
}

#[tokio::test]
async fn removal_of_the_network_is_suggested_only_after_its_last_use() {
    let aws = without_default_vpc();
    let machine = fixed_machine();
    let mut work = SuiteWork::default();
    provider(&aws).create(&machine, &mut work).await.unwrap_err();
    let importer = json!({"Resources": {"Group": {"Type": "AWS::EC2::SecurityGroup", "Properties": {
        "GroupDescription": "of another VM", "VpcId": {"Fn::ImportValue": "goloo-network-vpc"}}}}});
    let cloudformation = |parameters: &[(&str, &str)]| aws.query("cloudformation", REGION, parameters);
    let template = importer.to_string();
    cloudformation(&[("Action", "CreateStack"), ("StackName", "other"), ("TemplateBody", &template)]);
    let mut vm: Record = record(&machine, goloo_aws::INFO.id);
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
    route53_at(aws.endpoint())
}

fn route53_at(endpoint: &str) -> aws_sdk_route53::Client {
    let credentials = settings("", REGION).credentials.unwrap();
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_sdk_route53::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(REGION))
        .endpoint_url(endpoint)
        .http_client(http)
        .credentials_provider(credentials)
        .build();
    aws_sdk_route53::Client::from_conf(config)
}

fn a(name: &str, value: &str) -> DnsRecord {
    DnsRecord {
        name: name.to_owned(),
        kind: "A".to_owned(),
        value: value.to_owned(),
        ttl: 300,
        withdrawn: false,
    }
}

fn set(addresses: &[&str]) -> BTreeSet<String> {
    addresses.iter().map(|address| (*address).to_owned()).collect()
}

fn records(aws: &AwsEmulator) -> Vec<String> {
    lines(aws, "record ")
}

#[tokio::test]
async fn a_foreign_dns_record_is_replaced_only_with_force() {
    let aws = AwsEmulator::ministack();
    let (client, zone) = (route53(&aws), aws.create_zone("example.com"));
    let zone = Zone::new(&client, &zone);
    zone.publish(
        &goloo_testkit::samples::name("web"),
        &[a("web.example.com", "192.0.2.1")],
        ForeignNames::Stay,
        &mut SuiteWork::default(),
    )
    .await
    .unwrap();
    let wanted = [a("web.example.com", "192.0.2.2"), a("*.example.com", "192.0.2.2")];
    for _ in 0..2 {
        // The second iteration simulates a lost response: what already exists is the VM's own.
        let mut work = SuiteWork::default();
        let made = zone
            .publish(&goloo_testkit::samples::name("web"), &wanted, ForeignNames::Stay, &mut work)
            .await
            .unwrap();
        assert_eq!(made, wanted[1..]);
        assert!(
            work.said()[0].contains("web.example.com (A 192.0.2.1) already points elsewhere"),
            "{:?}",
            work.said()
        );
        assert_eq!(records(&aws).len(), 2);
        assert!(records(&aws).contains(&"record web.example.com. A 192.0.2.1".to_owned()));
    }
    let mut work = SuiteWork::default();
    assert_eq!(
        zone.publish(&goloo_testkit::samples::name("web"), &wanted, ForeignNames::Replace, &mut work)
            .await
            .unwrap(),
        wanted
    );
    assert_eq!(work.said(), [""; 0]);
    assert!(records(&aws).contains(&"record web.example.com. A 192.0.2.2".to_owned()));
}

#[tokio::test]
async fn records_that_point_elsewhere_are_replaced_in_one_retried_batch() {
    let aws = AwsEmulator::ministack();
    let id = aws.create_zone("example.com");
    for (name, kind, values) in [
        ("web.example.com", "A", &["192.0.2.8", "192.0.2.9"] as &[&str]),
        ("web.example.com", "AAAA", &["2001:db8::8"]),
        ("web.example.com", "TXT", &["\"kept\""]),
        ("example.com", "CNAME", &["elsewhere.example.org"]),
        ("www.example.com", "AAAA", &["2001:db8::9"]),
    ] {
        put(&aws, &id, plain(name, kind, values)).await;
    }
    let faults = FaultProxy::start(aws.endpoint());
    let client = route53_at(faults.endpoint());
    let wanted = web_and_its_names("192.0.2.1");
    faults.fault(At::Action(CHANGE, 2), Fault::ReplyLost);
    let made = Zone::new(&client, &id)
        .publish(
            &goloo_testkit::samples::name("web"),
            &wanted,
            ForeignNames::Replace,
            &mut SuiteWork::default(),
        )
        .await
        .unwrap();
    assert_eq!((made, faults.struck()), (wanted, 1));
    assert_eq!(
        records(&aws),
        [
            "record example.com. A 192.0.2.1",
            "record web.example.com. A 192.0.2.1",
            "record web.example.com. TXT \"kept\"",
            "record www.example.com. CNAME web.example.com",
        ]
    );
    let batches = faults.actions().into_iter().filter(|action| action == CHANGE).count();
    assert_eq!(batches, 3, "one that is refused, one that counts and that one again");
}

#[tokio::test]
async fn records_with_routing_policies_are_never_replaced() {
    let aws = AwsEmulator::ministack();
    let (client, id) = (route53(&aws), aws.create_zone("example.com"));
    // ministack doesn't reject it because of the other two.
    put(&aws, &id, plain("web.example.com", "A", &["192.0.2.9"])).await;
    let weighted = plain("example.com", "A", &["192.0.2.9"]).set_identifier("one").weight(1);
    put(&aws, &id, weighted).await;
    put(&aws, &id, plain("www.example.com", "TXT", &["\"kept\""])).await;
    let (before, wanted) = (records(&aws), web_and_its_names("192.0.2.1"));
    let mut work = SuiteWork::default();
    let made = Zone::new(&client, &id)
        .publish(&goloo_testkit::samples::name("web"), &wanted, ForeignNames::Replace, &mut work)
        .await
        .unwrap();
    assert_eq!(made, wanted[..1]);
    let [apex, for_apex, alias, for_alias] = &work.said()[..] else { panic!("{:?}", work.said()) };
    assert!(apex.starts_with("example.com (A 192.0.2.9) already points elsewhere"), "{apex}");
    assert!(alias.starts_with("www.example.com (TXT \"kept\")") && alias.contains("only plain"), "{alias}");
    assert_eq!([for_apex, for_alias], ["remove it in Route 53 first"; 2]);
    let as_before = |line: &String| !line.starts_with("record web.");
    let kept = |lines: Vec<String>| lines.into_iter().filter(as_before).collect::<Vec<_>>();
    assert_eq!(kept(records(&aws)), kept(before));
}

#[tokio::test]
async fn a_record_changed_during_its_replacement_is_left_unchanged() {
    let aws = AwsEmulator::ministack();
    let id = aws.create_zone("example.com");
    put(&aws, &id, plain("web.example.com", "A", &["192.0.2.9"])).await;
    let faults = FaultProxy::start(aws.endpoint());
    let someone = Fault::before({
        let (endpoint, id) = (aws.endpoint().to_owned(), id.clone());
        move |_| {
            let change = put_at(&endpoint, &id, plain("web.example.com", "A", &["192.0.2.10"]));
            common::block_on(change);
        }
    });
    faults.fault(At::Action(CHANGE, 2), someone);
    let wanted = [a("web.example.com", "192.0.2.1"), a("free.example.com", "192.0.2.1")];
    let client = route53_at(faults.endpoint());
    let refused = Zone::new(&client, &id)
        .publish(
            &goloo_testkit::samples::name("web"),
            &wanted,
            ForeignNames::Replace,
            &mut SuiteWork::default(),
        )
        .await;
    assert!(refused.unwrap_err().to_string().contains("InvalidChangeBatch"));
    assert_eq!(records(&aws), ["record web.example.com. A 192.0.2.10"]);
}

const CHANGE: &str = "ChangeResourceRecordSets";

fn web_and_its_names(address: &str) -> Vec<DnsRecord> {
    let alias = DnsRecord { kind: "CNAME".to_owned(), ..a("www.example.com", "web.example.com") };
    vec![a("web.example.com", address), a("example.com", address), alias]
}

/// Someone else's record set.
fn plain(name: &str, kind: &str, values: &[&str]) -> ResourceRecordSetBuilder {
    let values = values.iter().map(|value| ResourceRecord::builder().value(*value).build().unwrap());
    let set = ResourceRecordSet::builder().name(name).r#type(kind.into()).ttl(60);
    set.set_resource_records(Some(values.collect()))
}

async fn put(aws: &AwsEmulator, zone: &str, set: ResourceRecordSetBuilder) {
    put_at(aws.endpoint(), zone, set).await;
}

async fn put_at(endpoint: &str, zone: &str, set: ResourceRecordSetBuilder) {
    let change = Change::builder().action(ChangeAction::Upsert).resource_record_set(set.build().unwrap());
    let batch = ChangeBatch::builder().changes(change.build().unwrap()).build().unwrap();
    let request = route53_at(endpoint).change_resource_record_sets();
    request.hosted_zone_id(zone).change_batch(batch).send().await.unwrap();
}

#[tokio::test]
async fn only_names_that_still_point_to_the_vm_are_withdrawn() {
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
    zone.publish(&goloo_testkit::samples::name("web"), &all, ForeignNames::Stay, &mut SuiteWork::default())
        .await
        .unwrap();
    let name = |name: &str, kind| Name { name: name.to_owned(), kind };
    let names = BTreeSet::from([
        name("web.example.com", RecordType::A),
        name("moved.example.com", RecordType::A),
        name("www.example.com", RecordType::Cname),
        name("old.example.com", RecordType::Cname),
        name("never-made.example.com", RecordType::A),
    ]);
    zone.withdraw(&names, &set(&["192.0.2.1"]), &mut SuiteWork::default()).await.unwrap();
    let left = ["record moved.example.com. A 192.0.2.9", "record old.example.com. CNAME moved.example.com"];
    assert_eq!(records(&aws), left);
    zone.withdraw(&names, &set(&["192.0.2.1"]), &mut SuiteWork::default()).await.unwrap();
    assert_eq!(records(&aws), left);
}

#[tokio::test]
async fn withdrawing_names_from_a_deleted_zone_succeeds() {
    let aws = AwsEmulator::ministack();
    let client = route53(&aws);
    let names = BTreeSet::from([Name { name: "web.example.com".to_owned(), kind: RecordType::A }]);
    Zone::new(&client, "Z0123456789GONE")
        .withdraw(&names, &set(&["192.0.2.1"]), &mut SuiteWork::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn names_are_updated_to_a_new_address_in_one_batch() {
    let aws = AwsEmulator::ministack();
    let (client, zone) = (route53(&aws), aws.create_zone("example.com"));
    let zone = Zone::new(&client, &zone);
    let known = [a("web.example.com", "192.0.2.1"), a("gone.example.com", "192.0.2.1")];
    zone.publish(
        &goloo_testkit::samples::name("web"),
        &known[..1],
        ForeignNames::Stay,
        &mut SuiteWork::default(),
    )
    .await
    .unwrap();
    for _ in 0..2 {
        let mut work = SuiteWork::default();
        let now = zone.follow(&known, &set(&["192.0.2.1"]), Some("192.0.2.5"), &mut work).await.unwrap();
        assert_eq!(now, [a("web.example.com", "192.0.2.5"), known[1].clone()]);
        assert_eq!(work.said(), ["gone.example.com now points elsewhere (nowhere) and is left unchanged"]);
        assert_eq!(records(&aws), ["record web.example.com. A 192.0.2.5"]);
    }
}
