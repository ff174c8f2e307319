//! Rules of the provider that the conformance suite doesn't cover, against moto.

use crate::common::moto::{Moto, REGION};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use goloo_aws::AwsProvider;
use goloo_aws::details::Details;
use goloo_model::change::Setting;
use goloo_model::provider::{
    ChangeTime, Endpoints, LiveState, Machine, MachineChange, Provider, ProviderError, StopMode, resource,
};
use goloo_model::record::{Origin, OriginKind, Record, RecordedStack};
use goloo_model::spec::{Dns, Size};
use goloo_testkit::aws_answers::describe_instance_type_offerings;
use goloo_testkit::fault_proxy::FaultProxy;
use goloo_testkit::provider_suite::{self, Bench, SuiteWork, record};
use goloo_testkit::samples;
use serde_json::json;

/// The record the engine would have.
fn kept(machine: &Machine, work: &SuiteWork, made: Option<Endpoints>) -> Record {
    let mut record = record(machine, goloo_aws::INFO.id);
    let resources = work.made.iter().map(|(kind, id)| resource(kind, id, &machine.token));
    record.resources = resources.collect();
    if let Some(made) = made {
        made.write_to(&mut record);
    }
    record
}

async fn create(moto: &Moto, machine: &Machine) -> Record {
    let mut work = SuiteWork::default();
    let made = moto.provider().create(machine, &mut work).await.unwrap();
    kept(machine, &work, Some(made))
}

/// Stops a VM; its record then has what the engine would have saved.
async fn stop(provider: &dyn Provider, record: &mut Record, mode: StopMode) {
    let mut work = SuiteWork::default();
    provider.stop(record, mode, &mut work).await.unwrap();
    if let Some(endpoints) = work.addresses {
        endpoints.write_to(record);
    }
}

async fn delete(moto: &Moto, record: &Record) {
    moto.provider().delete(record, &mut SuiteWork::default()).await.unwrap();
}

fn aws(record: &Record) -> Details {
    Details::of(record).unwrap()
}

fn dns(zone_id: &str) -> Dns {
    Dns {
        hostname: "web".to_owned(),
        domain: "example.com".to_owned(),
        ttl: 300,
        zone_id: Some(zone_id.to_owned()),
        is_apex_domain: true,
        cname_aliases: vec!["www".to_owned()],
    }
}

fn names(moto: &Moto) -> Vec<String> {
    moto.made().into_iter().filter(|line| line.starts_with("record ")).collect()
}

#[tokio::test]
async fn a_record_references_every_created_resource() {
    let moto = Moto::new();
    let mut machine = moto.machine("web");
    machine.stack.ttl = Some(3600);
    let record = create(&moto, &machine).await;
    let stack = aws(&record).stack_id.unwrap();
    let planned = "arn:aws:cloudformation:us-east-1:123456789012:stack/goloo-web";
    assert!(stack.starts_with(&format!("{planned}/")), "{stack}");
    let noted: Vec<&str> = record.resources.iter().map(|resource| resource.id.as_str()).collect();
    assert_eq!(noted, [planned, &stack]);
    let section = serde_json::to_value(record.to_output()["aws"].clone()).unwrap();
    for (key, start) in [
        ("instanceID", "i-"),
        ("publicIP", ""),
        ("securityGroupID", "sg-"),
        ("amiID", "ami-"),
        ("vpcID", "vpc-"),
        ("subnetID", "subnet-"),
        ("region", REGION),
        ("instanceType", "t3.nano"),
    ] {
        assert!(section[key].as_str().unwrap().starts_with(start), "{key} in {section}");
    }
    assert_eq!((&section["createdVPC"], &section["ttlSeconds"]), (&json!(false), &json!(3600)));
}

#[tokio::test]
async fn the_instance_has_its_user_data_its_tags_and_an_encrypted_disk() {
    let moto = Moto::new();
    let machine = moto.machine("web");
    let record = create(&moto, &machine).await;
    let id = &aws(&record).instance_id.unwrap();
    let ask = |parameters: &[(&str, &str)]| moto.aws.query("ec2", REGION, parameters);
    let user_data =
        ask(&[("Action", "DescribeInstanceAttribute"), ("InstanceId", id), ("Attribute", "userData")]);
    assert!(user_data.contains("I2Nsb3VkLWNvbmZpZwo="), "{user_data}");
    let instance = ask(&[("Action", "DescribeInstances"), ("InstanceId.1", id)]);
    for text in [machine.id.as_str(), machine.token.as_str(), "goloo:name"] {
        assert!(instance.contains(text), "{text} in {instance}");
    }
    let volumes = ask(&[("Action", "DescribeVolumes")]);
    assert!(
        volumes.contains("<size>8</size>") && volumes.contains("<encrypted>true</encrypted>"),
        "{volumes}"
    );
}

#[tokio::test]
async fn a_create_makes_only_the_expected_calls() {
    let moto = Moto::new();
    let machine = moto.machine("web");
    create(&moto, &machine).await;
    let calls = moto.queue.calls();
    let before_polls = [
        "GetCallerIdentity",
        "DescribeSubnets",
        "DescribeRouteTables",
        "DescribeInstanceTypeOfferings",
        "CreateStack",
    ];
    assert_eq!(calls[..5], before_polls);
    // moto completes before the first poll: its event says so, and the stack is described once.
    assert_eq!(calls[5..], ["DescribeStackEvents", "DescribeStacks"]);
}

#[tokio::test]
async fn dns_names_take_two_calls_and_one_batch() {
    let moto = Moto::new();
    moto.aws.create_zone("example.com");
    let mut machine = moto.machine("web");
    machine.stack.dns = Some(Dns { zone_id: None, ..dns("") });
    let record = create(&moto, &machine).await;
    let calls = moto.queue.calls();
    let route53: Vec<&String> = calls.iter().filter(|call| call.contains("hostedzone")).collect();
    assert_eq!(route53.len(), 2, "{calls:?}");
    let ip = record.ip().unwrap();
    assert_eq!(
        names(&moto),
        [
            format!("record example.com. A {ip}"),
            format!("record web.example.com. A {ip}"),
            "record www.example.com. CNAME web.example.com".to_owned()
        ]
    );
    assert_eq!(record.fqdn(), Some("web.example.com"));
    delete(&moto, &record).await;
    assert_eq!(moto.made(), [""; 0]);
}

#[tokio::test]
async fn names_are_updated_to_a_new_address_unless_they_point_elsewhere() {
    let moto = Moto::new();
    let zone = moto.aws.create_zone("example.com");
    let mut machine = moto.machine("web");
    machine.stack.dns = Some(dns(&zone));
    let mut record = create(&moto, &machine).await;
    let path = format!("/2013-04-01/hostedzone/{zone}/rrset");
    moto.aws.rest("route53", "POST", &path, &upsert("example.com", "192.0.2.77"));
    let provider = moto.provider();
    let before = record.ip().unwrap().to_owned();
    stop(&*provider, &mut record, StopMode::Graceful).await;
    let mut work = SuiteWork::default();
    provider.start(&record, &mut work).await.unwrap().write_to(&mut record);
    let ip = record.ip().unwrap().to_owned();
    assert_ne!(ip, before, "moto gives a new address each time");
    let foreign = "record example.com. A 192.0.2.77".to_owned();
    assert_eq!(names(&moto)[..2], [foreign.clone(), format!("record web.example.com. A {ip}")]);
    assert!(
        work.said().iter().any(|text| text.contains("example.com now points elsewhere")),
        "{:?}",
        work.said()
    );
    delete(&moto, &record).await;
    assert_eq!(moto.made(), [foreign]);
}

fn upsert(name: &str, address: &str) -> String {
    format!(
        r#"<ChangeResourceRecordSetsRequest xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><ChangeBatch>
        <Changes><Change><Action>UPSERT</Action><ResourceRecordSet><Name>{name}</Name><Type>A</Type>
        <TTL>300</TTL><ResourceRecords><ResourceRecord><Value>{address}</Value></ResourceRecord></ResourceRecords>
        </ResourceRecordSet></Change></Changes></ChangeBatch></ChangeResourceRecordSetsRequest>"#
    )
}

#[tokio::test]
async fn names_set_by_an_unrecorded_start_are_removed_with_the_vm() {
    let moto = Moto::new();
    let zone = moto.aws.create_zone("example.com");
    let mut machine = moto.machine("web");
    machine.stack.dns = Some(dns(&zone));
    let mut record = create(&moto, &machine).await;
    let provider = moto.provider();
    stop(&*provider, &mut record, StopMode::Force).await;
    // Its result is lost.
    provider.start(&record, &mut SuiteWork::default()).await.unwrap();
    delete(&moto, &record).await;
    assert_eq!(moto.made(), [""; 0]);
}

#[tokio::test]
async fn a_foreign_stack_with_the_same_name_is_left_unchanged() {
    let moto = Moto::new();
    let template = json!({"Resources": {"Group": {
        "Type": "AWS::EC2::SecurityGroup", "Properties": {"GroupDescription": "someone's"}}}});
    moto.aws.query(
        "cloudformation",
        REGION,
        &[("Action", "CreateStack"), ("StackName", "goloo-web"), ("TemplateBody", &template.to_string())],
    );
    let before = moto.made();
    let (machine, mut work) = (moto.machine("web"), SuiteWork::default());
    let error = moto.provider().create(&machine, &mut work).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the stack goloo-web already exists in us-east-1, and it wasn't created by goloo"
    );
    delete(&moto, &kept(&machine, &work, None)).await;
    assert_eq!(moto.made(), before);
}

#[tokio::test]
async fn a_delete_after_a_crash_uses_the_region_of_the_stack() {
    let moto = Moto::new();
    let mut machine = moto.machine("web");
    machine.stack.region = Some("eu-west-1".to_owned());
    let mut work = SuiteWork::default();
    moto.provider().create(&machine, &mut work).await.unwrap();
    assert!(moto.made().iter().all(|line| line.starts_with("eu-west-1 ")));
    // Keep only the first recorded resource, from before anything was created.
    work.made.truncate(1);
    delete(&moto, &kept(&machine, &work, None)).await;
    assert_eq!(moto.made(), [""; 0]);
}

#[tokio::test]
async fn a_private_subnet_is_never_chosen_by_default() {
    let moto = Moto::as_moto_makes_it();
    let before = moto.aws.ledger();
    let error = moto.provider().create(&moto.machine("web"), &mut SuiteWork::default()).await.unwrap_err();
    assert!(
        matches!(&error, ProviderError::Unsupported { hint, .. } if hint.debug_text().contains("vm.subnet_id")),
        "{error:?}"
    );
    assert_eq!(moto.aws.ledger(), before);
}

#[tokio::test]
async fn a_configured_private_subnet_is_used_with_a_warning() {
    let moto = Moto::new();
    let ask = |parameters: &[(&str, &str)]| moto.aws.query("ec2", REGION, parameters);
    let id = |answer: &str, tag: &str| {
        let start = answer.find(&format!("<{tag}>")).unwrap() + tag.len() + 2;
        answer[start..].split('<').next().unwrap().to_owned()
    };
    let vpc = id(&ask(&[("Action", "CreateVpc"), ("CidrBlock", "10.9.0.0/16")]), "vpcId");
    let subnet = ask(&[
        ("Action", "CreateSubnet"),
        ("VpcId", &vpc),
        ("CidrBlock", "10.9.1.0/24"),
        ("AvailabilityZone", "us-east-1a"),
    ]);
    let mut machine = moto.machine("web");
    machine.stack.subnet_id = Some(id(&subnet, "subnetId"));
    let mut work = SuiteWork::default();
    let made = moto.provider().create(&machine, &mut work).await.unwrap();
    let record = kept(&machine, &work, Some(made));
    // moto doesn't take a private address from the subnet, but one from a private network.
    assert!(record.ip().unwrap().starts_with("10."), "{:?}", record.ip());
    assert_eq!(record.details["subnetID"], machine.stack.subnet_id.unwrap());
    assert!(work.said().iter().any(|text| text.contains("isn't public")), "{:?}", work.said());
}

#[tokio::test]
async fn the_root_size_and_architecture_are_read_from_a_configured_ami() {
    let moto = Moto::new();
    let path = "/aws/service/debian/release/12/latest/arm64";
    let mut machine = moto.machine("web");
    machine.stack.os = moto.aws.public_parameter(REGION, path);
    machine.stack.disk = Size::gib(15);
    let error = moto.provider().create(&machine, &mut SuiteWork::default()).await.unwrap_err();
    assert!(error.to_string().contains("is for arm64, and a t3.nano is x86_64"), "{error}");
    assert_eq!(moto.made(), [""; 0]);
    machine.stack.instance_type = Some("t4g.small".to_owned());
    let record = create(&moto, &machine).await;
    assert_eq!(record.details["amiID"], machine.stack.os.as_str());
}

#[tokio::test]
async fn a_missing_ami_is_refused_before_anything_is_created() {
    let moto = Moto::new();
    let mut machine = moto.machine("web");
    machine.stack.os = "ami-0123456789abcdef0".to_owned();
    let error = moto.provider().create(&machine, &mut SuiteWork::default()).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unsupported { .. }), "{error:?}");
    let text = "there is no AMI ami-0123456789abcdef0 in us-east-1 that these credentials may use";
    assert_eq!(error.to_string(), text);
    assert_eq!(moto.made(), [""; 0]);
}

#[tokio::test]
async fn an_ami_larger_than_the_disk_is_refused_before_anything_is_created() {
    let moto = Moto::new();
    let mut machine = moto.machine("web");
    machine.stack.os = moto.aws.public_parameter(REGION, "/aws/service/debian/release/12/latest/amd64");
    machine.stack.disk = Size::gib(14);
    let error = moto.provider().create(&machine, &mut SuiteWork::default()).await.unwrap_err();
    // All of moto's AMIs have 15G.
    let text = format!("vm.disk is 14G, but the root volume of {} has 15G", machine.stack.os);
    assert_eq!(error.to_string(), text);
    assert_eq!(moto.made(), [""; 0]);
}

#[tokio::test]
async fn stack_descriptions_do_not_contain_the_user_data() {
    let moto = Moto::new();
    let mut machine = moto.machine("web");
    // It needs several parameters.
    machine.user_data = (0..4_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    create(&moto, &machine).await;
    let ask =
        |action| moto.aws.query("cloudformation", REGION, &[("Action", action), ("StackName", "goloo-web")]);
    let encoded = STANDARD.encode(&machine.user_data);
    let parts = || encoded.as_bytes().chunks(64).map(|part| std::str::from_utf8(part).unwrap());
    for action in ["GetTemplate", "DescribeStacks", "DescribeStackEvents", "DescribeStackResources"] {
        let answer = ask(action);
        assert!(parts().all(|part| !answer.contains(part)), "{action}: {answer}");
    }
    let described = ask("DescribeStacks");
    assert_eq!(described.matches("<ParameterValue>****</ParameterValue>").count(), 2, "{described}");
}

#[tokio::test]
async fn the_instance_gets_the_configured_instance_profile() {
    let moto = Moto::new();
    let iam = |parameters: &[(&str, &str)]| moto.aws.query("iam", REGION, parameters);
    iam(&[("Action", "CreateInstanceProfile"), ("InstanceProfileName", "web-profile")]);
    let mut machine = moto.machine("web");
    machine.stack.iam_instance_profile = Some("web-profile".to_owned());
    create(&moto, &machine).await;
    let seen = moto.aws.query("ec2", REGION, &[("Action", "DescribeInstances")]);
    assert!(seen.contains("instance-profile/web-profile"), "{seen}");
}

#[tokio::test]
async fn a_spot_instance_cannot_be_stopped_and_is_deleted_completely() {
    let moto = Moto::new();
    let mut machine = moto.machine("web");
    machine.stack.spot = true;
    let record = create(&moto, &machine).await;
    assert_eq!(record.details["spot"], true);
    assert_eq!(moto.made().iter().filter(|line| line.contains(" launch-template ")).count(), 1);
    for mode in [StopMode::Graceful, StopMode::Force, StopMode::Suspend] {
        moto.queue.calls();
        let error = moto.provider().stop(&record, mode, &mut SuiteWork::default()).await.unwrap_err();
        let ProviderError::Unsupported { what, hint } = error else { panic!("{error:?}") };
        assert_eq!(what, "web is a Spot Instance (vm.spot), which AWS can't stop");
        assert!(hint.debug_text().contains("Delete(VmName(\"web\"))"), "{hint:?}");
        assert!(!moto.queue.calls().contains(&"StopInstances".to_owned()));
    }
    assert_eq!(moto.running().await, 1);
    delete(&moto, &record).await;
    assert_eq!(moto.made(), [""; 0]);
}

/// The zone in which moto doesn't offer t3, as in most accounts with one zone of us-east-1.
const WITHOUT_T3: &str = "us-east-1e";

#[tokio::test]
async fn a_subnet_in_a_zone_without_the_type_is_refused_before_creating() {
    let moto = Moto::new();
    let mut machine = moto.machine("web");
    let subnet = moto.subnets().into_iter().find(|(zone, _)| zone == WITHOUT_T3).unwrap().1;
    machine.stack.subnet_id = Some(subnet.clone());
    let error = moto.provider().create(&machine, &mut SuiteWork::default()).await.unwrap_err();
    let ProviderError::Unsupported { what, hint } = error else { panic!("{error:?}") };
    assert_eq!(
        what,
        format!("the instance type t3.nano isn't available in {WITHOUT_T3}, where the subnet {subnet} is")
    );
    assert!(
        hint.debug_text().contains("us-east-1a, us-east-1b, us-east-1c, us-east-1d, us-east-1f"),
        "{hint:?}"
    );
    assert_eq!(moto.made(), [""; 0]);
}

#[tokio::test]
async fn the_first_zone_that_offers_the_instance_type_is_used() {
    let moto = Moto::new();
    let proxy = FaultProxy::start(&moto.queue.endpoint);
    proxy.answer("DescribeInstanceTypeOfferings", |request| {
        assert_eq!(request.parameter("LocationType").unwrap(), "availability-zone");
        assert_eq!(request.parameter("Filter.1.Value.1").unwrap(), "t3.nano");
        Some(match request.parameter("NextToken") {
            None => describe_instance_type_offerings("t3.nano", &["us-east-1f"], Some("more")),
            Some(_) => describe_instance_type_offerings("t3.nano", &["us-east-1d"], None),
        })
    });
    let machine = moto.machine("web");
    let mut work = SuiteWork::default();
    let provider = moto.with(|settings| settings.endpoint = Some(proxy.endpoint().to_owned()));
    let made = provider.create(&machine, &mut work).await.unwrap();
    let record = kept(&machine, &work, Some(made));
    let subnet = moto.subnets().into_iter().find(|(zone, _)| zone == "us-east-1d").unwrap().1;
    assert_eq!(record.details["subnetID"], subnet.as_str());
}

#[tokio::test]
async fn an_instance_type_no_zone_offers_is_refused_before_anything_is_created() {
    let moto = Moto::new();
    let mut machine = moto.machine("web");
    machine.stack.instance_type = Some("t9.nano".to_owned());
    let error = moto.provider().create(&machine, &mut SuiteWork::default()).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unsupported { .. }), "{error:?}");
    assert_eq!(error.to_string(), "no zone of us-east-1 has the instance type t9.nano");
    assert_eq!(moto.made(), [""; 0]);
}

#[tokio::test]
async fn two_hundred_vms_are_observed_with_one_call_per_region() {
    let moto = Moto::new();
    let record = create(&moto, &moto.machine("web")).await;
    let mut records: Vec<Record> = vec![record; 200];
    for (index, record) in records.iter_mut().enumerate().skip(1) {
        record.details.insert("instanceID".into(), format!("i-{index:017x}").into());
        if index % 2 == 0 {
            let arn = format!("arn:aws:cloudformation:eu-west-1:123456789012:stack/goloo-x/{index}");
            record.details.insert("stackID".into(), arn.into());
            record.resources.clear();
        }
    }
    moto.queue.calls();
    let seen = moto.provider().observe(&records.iter().collect::<Vec<_>>()).await;
    assert_eq!(seen[0].state, LiveState::Running);
    assert!(seen[1..].iter().all(|seen| seen.state == LiveState::Missing));
    let mut calls = moto.queue.calls();
    calls.sort();
    // The account is checked once before anything counts as missing.
    assert_eq!(calls, ["DescribeInstances", "DescribeInstances", "GetCallerIdentity"]);
}

#[tokio::test]
async fn resources_of_another_account_are_neither_missing_nor_deleted() {
    let moto = Moto::new();
    let mut record = create(&moto, &moto.machine("web")).await;
    let before = moto.made();
    let other = |text: &str| text.replace("123456789012", "999999999999");
    record.resources.iter_mut().for_each(|resource| resource.id = other(&resource.id));
    let arn = other(record.details["stackID"].as_str().unwrap());
    record.details.insert("stackID".into(), arn.into());
    record.details.insert("instanceID".into(), "i-0123456789abcdef0".into());
    let seen = moto.provider().observe(&[&record]).await.remove(0);
    assert_eq!(seen.state, LiveState::Unknown);
    assert!(seen.reason.unwrap().contains("999999999999"));
    let error = moto.provider().delete(&record, &mut SuiteWork::default()).await.unwrap_err();
    assert!(matches!(error, ProviderError::Permission { .. }), "{error:?}");
    assert_eq!(moto.made(), before);
}

#[tokio::test]
async fn a_vm_without_a_record_is_found_adopted_and_deleted() {
    let moto = Moto::new();
    let known = create(&moto, &moto.machine("known")).await;
    let machine = moto.machine("lost");
    let lost = create(&moto, &machine).await;
    let orphans = moto.provider().orphans(&[&known]).await.unwrap();
    let id = &aws(&lost).instance_id.unwrap();
    let [orphan] = &orphans[..] else { panic!("{orphans:?}") };
    assert_eq!((orphan.name.as_str(), orphan.id.as_str(), orphan.ours), ("lost", id.as_str(), true));
    let by_name = moto.provider().adopt(&machine.name, None).await.unwrap();
    let adopted = moto.provider().adopt(&machine.name, Some(id)).await.unwrap();
    assert_eq!(adopted, by_name);
    assert_eq!(adopted.id.as_ref(), Some(&machine.id));
    let mut work = SuiteWork::default();
    work.made = adopted.resources;
    delete(&moto, &kept(&machine, &work, adopted.endpoints)).await;
    assert_eq!(moto.provider().orphans(&[&known]).await.unwrap(), []);
    assert_eq!(moto.made().iter().filter(|line| line.contains(" instance ")).count(), 1);
}

#[tokio::test]
async fn adopting_a_stack_by_arn_recovers_its_region_and_names() {
    let moto = Moto::new();
    let zone = moto.aws.create_zone("example.com");
    let mut machine = moto.machine("web");
    machine.stack.region = Some("eu-west-1".to_owned());
    machine.stack.dns = Some(dns(&zone));
    let mut lost = create(&moto, &machine).await;
    let arn = aws(&lost).stack_id.unwrap();
    // The settings name another region, but the ARN takes precedence.
    let adopted = moto.provider().adopt(&machine.name, Some(&arn)).await.unwrap();
    assert_eq!(adopted.id.as_ref(), Some(&machine.id));
    let found = adopted.endpoints.clone().unwrap();
    assert_eq!(found.endpoint, lost.endpoint);
    for key in ["stackID", "instanceID", "region", "zoneID", "dnsRecords", "instanceType", "vpcID"] {
        assert_eq!(found.details[key], lost.details[key], "{key}");
    }
    // The names of a stopped VM are set when it starts.
    let provider = moto.provider();
    stop(&*provider, &mut lost, StopMode::Graceful).await;
    let adopted = provider.adopt(&machine.name, Some(&arn)).await.unwrap();
    let mut work = SuiteWork::default();
    work.made = adopted.resources;
    let mut record = kept(&machine, &work, adopted.endpoints);
    provider.start(&record, &mut SuiteWork::default()).await.unwrap().write_to(&mut record);
    let ip = record.ip().unwrap();
    assert!(names(&moto).contains(&format!("record web.example.com. A {ip}")), "{:?}", names(&moto));
    delete(&moto, &record).await;
    assert_eq!(moto.made(), [""; 0]);
}

#[tokio::test]
async fn adopting_an_unusable_arn_is_refused_with_the_reason() {
    let moto = Moto::new();
    let name = moto.machine("web").name;
    let adopt = async |arn: &str| moto.provider().adopt(&name, Some(arn)).await.unwrap_err();
    let error = adopt("arn:aws:ec2:us-east-1:123456789012:instance/i-1").await;
    assert!(error.to_string().ends_with("isn't the ARN of a CloudFormation stack"), "{error}");
    let error = adopt("arn:aws:cloudformation:us-east-1:999999999999:stack/goloo-web/1").await;
    assert!(
        matches!(&error, ProviderError::Permission { what, .. } if what.contains("999999999999")),
        "{error}"
    );
    let error = adopt("arn:aws:cloudformation:us-east-1:123456789012:stack/goloo-web/1").await;
    assert_eq!(error.to_string(), "there is no stack goloo-web of goloo in us-east-1");
}

#[tokio::test]
async fn an_instance_that_goloo_did_not_create_can_be_adopted() {
    let moto = Moto::new();
    let ami = moto.aws.public_parameter(REGION, "/aws/service/debian/release/12/latest/amd64");
    let run = [("Action", "RunInstances"), ("ImageId", &ami), ("MinCount", "1"), ("MaxCount", "1")];
    moto.aws.query("ec2", REGION, &run);
    let line = moto.made().into_iter().find(|line| line.contains(" instance ")).unwrap();
    let id = line.split(' ').nth(2).unwrap();
    assert_eq!(moto.provider().orphans(&[]).await.unwrap(), [], "it carries no mark of goloo's");
    let machine = moto.machine("old");
    let adopted = moto.provider().adopt(&machine.name, Some(id)).await.unwrap();
    assert_eq!((&adopted.id, adopted.resources[0].0.as_str()), (&None, "ec2-instance"));
    let mut work = SuiteWork::default();
    work.made = adopted.resources;
    let mut record = kept(&machine, &work, adopted.endpoints);
    let from = id.to_owned();
    record.origin = Some(Origin {
        how: OriginKind::Adopted,
        from: from.into(),
        checked: true,
        export: None,
        extra: Default::default(),
    });
    assert_eq!(moto.provider().observe(&[&record]).await[0].state, LiveState::Running);
    let is_there = || moto.made().iter().any(|line| line.contains(" instance "));
    // Nothing proves that a colleague's record refers to it.
    let (shared, mut work) = (in_a_shared_store(&moto), SuiteWork::default());
    for refused in [
        shared.delete(&record, &mut work).await,
        shared.stop(&record, StopMode::Force, &mut work).await,
        shared.start(&record, &mut work).await.map(drop),
        moto.provider().delete(&record, &mut work).await,
    ] {
        let ProviderError::Failed { what, hint, .. } = refused.unwrap_err() else { panic!("another error") };
        assert!(
            what.contains(id)
                && hint.debug_text().contains(&format!("create-tags --region {REGION} --resources {id}")),
            "{what}: {hint:?}"
        );
    }
    assert_eq!(shared.observe(&[&record]).await[0].state, LiveState::Running);
    // The tags prove it to everyone; the user who adopted it doesn't need them.
    let tag = [
        ("Action", "CreateTags"),
        ("ResourceId.1", id),
        ("Tag.1.Key", "goloo:id"),
        ("Tag.1.Value", record.id.as_str()),
        ("Tag.2.Key", "goloo:name"),
        ("Tag.2.Value", record.name.as_str()),
    ];
    moto.aws.query("ec2", REGION, &tag);
    shared.stop(&record, StopMode::Force, &mut work).await.unwrap();
    moto.aws.query(
        "ec2",
        REGION,
        &[("Action", "DeleteTags"), ("ResourceId.1", id), ("Tag.1.Key", "goloo:id")],
    );
    assert!(shared.delete(&record, &mut work).await.is_err() && is_there());
    shared.delete(&provider_suite::proven(record), &mut work).await.unwrap();
    assert!(!is_there());
}

#[tokio::test]
async fn a_renamed_vm_is_recognized_by_colleagues_by_its_new_name() {
    let moto = Moto::new();
    let record = create(&moto, &moto.machine("web")).await;
    let shared = in_a_shared_store(&moto);
    let renamed = record.with_name(&samples::name("shop"));
    let mut work = SuiteWork::default();
    // As long as the instance has the old name, the record may as well be a copy of another VM's.
    assert!(shared.stop(&renamed, StopMode::Force, &mut work).await.is_err());
    assert!(shared.delete(&renamed, &mut work).await.is_err());
    for _ in 0..2 {
        shared.show_new_name(&record, &renamed.name).await.unwrap();
    }
    shared.stop(&renamed, StopMode::Force, &mut work).await.unwrap();
    assert!(shared.stop(&record, StopMode::Force, &mut work).await.is_err());
    assert_eq!(shared.orphans(&[&renamed]).await.unwrap(), []);
    let adopted = shared.adopt(&renamed.name, None).await.unwrap();
    assert_eq!((adopted.id, adopted.name), (Some(record.id.clone()), Some(record.name.clone())));
    shared.delete(&renamed, &mut work).await.unwrap();
    assert_eq!(moto.made(), Vec::<String>::new());
}

/// The provider of a user who shares the store with others.
fn in_a_shared_store(moto: &Moto) -> AwsProvider {
    moto.with(|settings| settings.trust.store_is_private = false)
}

#[tokio::test]
async fn a_stack_without_the_vm_id_tag_is_deleted_only_with_a_proven_record() {
    let moto = Moto::new();
    let template = r#"{"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}"#;
    let made = [("Action", "CreateStack"), ("StackName", "theirs"), ("TemplateBody", template)];
    let answer = moto.aws.query("cloudformation", REGION, &made);
    let arn = answer.split("<StackId>").nth(1).unwrap().split('<').next().unwrap().to_owned();
    let machine = moto.machine("web");
    let mut work = SuiteWork::default();
    work.made = vec![("cloudformation-stack".to_owned(), arn.clone())];
    let mut record = kept(&machine, &work, None);
    record.origin = Some(Origin {
        how: OriginKind::Migrated,
        from: "/home/ann/config.json".into(),
        checked: true,
        export: None,
        extra: Default::default(),
    });
    for provider in [in_a_shared_store(&moto), moto.with(|_| {})] {
        let refused = provider.delete(&record, &mut work).await.unwrap_err();
        let ProviderError::Failed { what, hint, .. } = refused else { panic!("another error") };
        assert!(
            what.contains("the stack theirs") && hint.debug_text().contains("update-stack"),
            "{what}: {hint:?}"
        );
    }
    let stacks = || moto.aws.query("cloudformation", REGION, &[("Action", "ListStacks")]);
    assert!(stacks().contains("CREATE_COMPLETE"), "{}", stacks());
    in_a_shared_store(&moto).delete(&provider_suite::proven(record), &mut work).await.unwrap();
    assert!(!stacks().contains("CREATE_COMPLETE"), "{}", stacks());
}

#[tokio::test]
async fn addresses_in_an_unproven_record_do_not_withdraw_names_of_other_vms() {
    let moto = Moto::new();
    let zone = moto.aws.create_zone("example.com");
    let mut machine = moto.machine("web");
    machine.stack.dns = Some(dns(&zone));
    let mut record = create(&moto, &machine).await;
    record.proof = None;
    // The name now points to another machine, and the record claims that machine's address.
    record.endpoint.address = Some(samples::address("203.0.113.9"));
    record.details["dnsRecords"][0]["value"] = "203.0.113.9".into();
    let set = "<ResourceRecordSet><Name>web.example.com</Name><Type>A</Type><TTL>300</TTL><ResourceRecords>\
        <ResourceRecord><Value>203.0.113.9</Value></ResourceRecord></ResourceRecords></ResourceRecordSet>";
    let body = format!(
        "<ChangeResourceRecordSetsRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><ChangeBatch><Changes>\
         <Change><Action>UPSERT</Action>{set}</Change></Changes></ChangeBatch></ChangeResourceRecordSetsRequest>"
    );
    moto.aws.rest("route53", "POST", &format!("/2013-04-01/hostedzone/{zone}/rrset/"), &body);
    let shared = in_a_shared_store(&moto);
    let mut work = SuiteWork::default();
    shared.stop(&record, StopMode::Force, &mut work).await.unwrap();
    shared.start(&record, &mut work).await.unwrap();
    shared.delete(&record, &mut work).await.unwrap();
    let left = names(&moto);
    assert!(left.iter().any(|line| line.contains("203.0.113.9")), "{left:?}");
}

#[tokio::test]
async fn a_missing_permission_is_named_and_nothing_is_created() {
    let moto = Moto::new();
    let allowed = ["sts:*", "ec2:*", "cloudformation:Describe*"];
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": allowed, "Resource": "*"}]});
    let user = moto.aws.require_credentials(&policy);
    let with = |key: String, secret: String| {
        moto.with(|settings| {
            settings.credentials =
                Some(aws_credential_types::Credentials::new(key, secret, None, None, "test"));
        })
    };
    let machine = moto.machine("web");
    let provider = with(user.access_key_id, user.secret_access_key);
    let error = provider.create(&machine, &mut SuiteWork::default()).await.unwrap_err();
    let ProviderError::Permission { what, hint } = error else { panic!("{error:?}") };
    assert!(what.starts_with("the AWS credentials don't allow cloudformation:CreateStack"), "{what}");
    assert!(hint.debug_text().contains("cloudformation:CreateStack"), "{hint:?}");
    let wrong = with("AKIAIOSFODNN7EXAMPLX".to_owned(), "wrong".to_owned());
    let error = wrong.create(&machine, &mut SuiteWork::default()).await.unwrap_err();
    assert!(
        matches!(&error, ProviderError::Permission { what, .. } if what.contains("InvalidClientTokenId")),
        "{error:?}"
    );
    assert_eq!(moto.made().iter().filter(|line| line.contains("goloo-web")).count(), 0);
}

#[tokio::test]
async fn suspend_is_refused_without_changing_the_instance() {
    let moto = Moto::new();
    let record = create(&moto, &moto.machine("web")).await;
    let error =
        moto.provider().stop(&record, StopMode::Suspend, &mut SuiteWork::default()).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unsupported { .. }), "{error:?}");
    assert_eq!(moto.running().await, 1);
}

/// The policy in docs/aws.md.
fn documented_policy() -> serde_json::Value {
    let page = include_str!("../../../../docs/aws.md");
    let (_, after) = page.split_once("```json\n").unwrap();
    serde_json::from_str(after.split("```").next().unwrap()).unwrap()
}

fn own_part(policy: &serde_json::Value) -> Vec<String> {
    let actions = policy["Statement"][0]["Action"].as_array().unwrap();
    actions.iter().map(|action| action.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_documented_policy_allows_exactly_the_calls_in_the_code() {
    let mut called = std::collections::BTreeSet::new();
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        let is_action = |text: &&str| {
            let services = ["sts:", "cloudformation:", "ec2:", "route53:", "ssm:"];
            services.iter().any(|service| {
                text.strip_prefix(service).is_some_and(|action| {
                    !action.is_empty() && action.bytes().all(|byte| byte.is_ascii_alphanumeric())
                })
            })
        };
        called.extend(code.split('"').filter(is_action).map(str::to_owned));
    }
    let documented: std::collections::BTreeSet<String> = own_part(&documented_policy()).into_iter().collect();
    assert_eq!(called, documented);
}

#[tokio::test]
async fn the_documented_policy_suffices_for_the_whole_vm_lifecycle() {
    let moto = Moto::new();
    let zone = moto.aws.create_zone("example.com");
    let policy = json!({"Version": "2012-10-17", "Statement": [documented_policy()["Statement"][0]]});
    let user = moto.aws.require_credentials(&policy);
    let provider = moto.with(|settings| {
        let (key, secret) = (user.access_key_id, user.secret_access_key);
        settings.credentials = Some(aws_credential_types::Credentials::new(key, secret, None, None, "test"));
    });
    let mut machine = moto.machine("web");
    machine.stack.dns = Some(dns(&zone));
    machine.stack.ports = samples::forwards(&["80"]);
    let mut work = SuiteWork::default();
    let made = provider.create(&machine, &mut work).await.unwrap();
    let mut record = kept(&machine, &work, Some(made));
    let mut target = RecordedStack::of(&machine.stack).unwrap();
    (target.disk, target.ports) = (20 << 30, Vec::new());
    let settings = &[Setting::Ports, Setting::Disk];
    let change = MachineChange { settings, target: &target, time: ChangeTime::Now };
    let changes = provider.changes().unwrap();
    changes.change(&record, change, &mut SuiteWork::default()).await.unwrap().write_to(&mut record);
    stop(&provider, &mut record, StopMode::Graceful).await;
    provider.start(&record, &mut SuiteWork::default()).await.unwrap().write_to(&mut record);
    provider.console(&record, 0).await.unwrap();
    assert_eq!(provider.orphans(&[&record]).await.unwrap(), []);
    provider.delete(&record, &mut SuiteWork::default()).await.unwrap();
    assert_eq!(moto.made().iter().filter(|line| line.contains("web")).count(), 0);
}

#[tokio::test]
async fn a_record_with_a_copied_vm_id_does_not_affect_the_other_vm() {
    let moto = Moto::new();
    let web = create(&moto, &moto.machine("web")).await;
    let mut two = record(&moto.machine("two"), goloo_aws::INFO.id);
    (two.id, two.resources) = (web.id.clone(), web.resources.clone());
    (two.endpoint, two.details) = (web.endpoint.clone(), web.details.clone());
    let shared = in_a_shared_store(&moto);
    let mut work = SuiteWork::default();
    for refused in [
        shared.stop(&two, StopMode::Force, &mut work).await,
        shared.delete(&two, &mut work).await,
        shared.start(&two, &mut work).await.map(drop),
    ] {
        refused.unwrap_err();
    }
    assert_eq!(moto.running().await, 1);
    shared.stop(&web, StopMode::Force, &mut work).await.unwrap();
    shared.delete(&web, &mut work).await.unwrap();
    assert_eq!(moto.running().await, 0);
}
