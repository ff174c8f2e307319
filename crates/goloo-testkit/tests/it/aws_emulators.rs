//! The AWS emulators start, respond, and end with their test.
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use goloo_testkit::aws_emulators::{AwsEmulator, REGIONS, cfn_lint};
use serde_json::json;

const PART: &str = "GOLOO_TEST_PART";

const SYSTEMS: [&str; 5] = [
    "/aws/service/canonical/ubuntu/server/22.04/stable/current/ARCH/hvm/ebs-gp2/ami-id",
    "/aws/service/canonical/ubuntu/server/24.04/stable/current/ARCH/hvm/ebs-gp3/ami-id",
    "/aws/service/canonical/ubuntu/server/26.04/stable/current/ARCH/hvm/ebs-gp3/ami-id",
    "/aws/service/debian/release/12/latest/ARCH",
    "/aws/service/debian/release/13/latest/ARCH",
];

/// Waits until nothing listens at this endpoint.
fn gone(endpoint: &str) -> bool {
    let address = endpoint.trim_start_matches("http://");
    let limit = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(address).is_ok() {
        if Instant::now() > limit {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}

/// A stack with one instance of the system at `path`, and a security group.
fn template(path: &str) -> String {
    json!({
        "Parameters": {"Image": {"Type": "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>", "Default": path}},
        "Resources": {
            "Group": {"Type": "AWS::EC2::SecurityGroup", "Properties": {
                "GroupName": "goloo-web", "GroupDescription": "of web"}},
            "Instance": {"Type": "AWS::EC2::Instance", "Properties": {
                "ImageId": {"Ref": "Image"}, "InstanceType": "t3.micro",
                "BlockDeviceMappings": [
                    {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 20, "DeleteOnTermination": true}}],
                "SecurityGroupIds": [{"Fn::GetAtt": ["Group", "GroupId"]}]}},
        },
    })
    .to_string()
}

#[test]
fn emulator_moto_creates_a_vm_listed_in_the_ledger_until_deleted() {
    let aws = AwsEmulator::moto();
    assert_eq!(aws.ledger(), [""; 0], "a new account is empty");
    let zone = aws.create_zone("example.com");

    let path = SYSTEMS[1].replace("ARCH", "amd64");
    let stack = |action| {
        let template = template(&path);
        aws.query(
            "cloudformation",
            "eu-west-1",
            &[("Action", action), ("StackName", "goloo-web"), ("TemplateBody", &template)],
        )
    };
    stack("CreateStack");
    aws.rest(
        "route53",
        "POST",
        &format!("/2013-04-01/hostedzone/{zone}/rrset"),
        r#"<ChangeResourceRecordSetsRequest xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><ChangeBatch>
        <Changes><Change><Action>UPSERT</Action><ResourceRecordSet><Name>web.example.com</Name><Type>A</Type>
        <TTL>300</TTL><ResourceRecords><ResourceRecord><Value>192.0.2.1</Value></ResourceRecord></ResourceRecords>
        </ResourceRecordSet></Change></Changes></ChangeBatch></ChangeResourceRecordSetsRequest>"#,
    );
    let ledger = aws.ledger().join("\n");
    for line in [
        "eu-west-1 instance i-",
        "eu-west-1 security-group sg-",
        "eu-west-1 stack goloo-web CREATE_COMPLETE",
        "eu-west-1 volume vol-",
        "record web.example.com. A 192.0.2.1",
    ] {
        assert!(ledger.contains(line), "{line} is not in\n{ledger}");
    }

    stack("DeleteStack");
    assert_eq!(aws.ledger(), ["record web.example.com. A 192.0.2.1"]);
}

#[test]
fn emulator_moto_has_an_image_of_each_system_for_both_architectures() {
    let aws = AwsEmulator::moto();
    for region in REGIONS {
        for (debian, ec2) in [("amd64", "x86_64"), ("arm64", "arm64")] {
            for system in SYSTEMS {
                let image = aws.public_parameter(region, &system.replace("ARCH", debian));
                let images = aws.query("ec2", region, &[("Action", "DescribeImages"), ("ImageId.1", &image)]);
                assert!(images.contains(&format!("<architecture>{ec2}</architecture>")), "{images}");
            }
        }
    }
}

#[test]
fn emulator_ministack_creates_a_network_listed_in_the_ledger() {
    let aws = AwsEmulator::ministack();
    assert_eq!(aws.ledger(), [""; 0], "a new account is empty");
    let template = json!({"Resources": {
        "Vpc": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.0.0.0/16"}},
        "Subnet": {"Type": "AWS::EC2::Subnet", "Properties": {"VpcId": {"Ref": "Vpc"}, "CidrBlock": "10.0.0.0/24"}},
    }})
    .to_string();
    aws.query(
        "cloudformation",
        REGIONS[0],
        &[("Action", "CreateStack"), ("StackName", "goloo-network"), ("TemplateBody", &template)],
    );
    let limit = Instant::now() + Duration::from_secs(20);
    let ledger = loop {
        let ledger = aws.ledger().join("\n");
        if ledger.contains("stack goloo-network CREATE_COMPLETE") || Instant::now() > limit {
            break ledger;
        }
        thread::sleep(Duration::from_millis(50));
    };
    for line in
        ["us-east-1 stack goloo-network CREATE_COMPLETE", "us-east-1 vpc vpc-", "us-east-1 subnet subnet-"]
    {
        assert!(ledger.contains(line), "{line} is not in\n{ledger}");
    }
}

#[test]
fn emulator_moto_runs_single_threaded() {
    let aws = AwsEmulator::moto_single_threaded();
    assert_eq!(aws.ledger(), [""; 0]);
}

#[test]
fn emulator_moto_refuses_wrong_signatures_once_credentials_are_required() {
    let aws = AwsEmulator::moto();
    let call = || {
        let mut answer = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .new_agent()
            .post(aws.endpoint())
            .header("Authorization", "AWS4-HMAC-SHA256 Credential=AKIAWRONG/20250115/us-east-1/sts/aws4_request, SignedHeaders=host, Signature=0")
            .send_form([("Action", "GetCallerIdentity"), ("Version", "2011-06-15")])
            .unwrap();
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
    };
    assert_eq!(call().0, 200, "anybody may at first");
    let policy = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ec2:*", "Resource": "*"}]});
    let credentials = aws.require_credentials(&policy);
    assert!(!credentials.secret_access_key.is_empty());
    let (status, text) = call();
    let shape = "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidClientTokenId</Code>";
    assert!(status == 403 && text.starts_with(shape), "{status} {text}");
    assert_eq!(aws.ledger(), [""; 0], "the test itself may still look");
    assert_ne!(aws.require_credentials(&policy).access_key_id, credentials.access_key_id);
}

#[test]
fn emulator_is_stopped_when_dropped() {
    let aws = AwsEmulator::ministack();
    let endpoint = aws.endpoint().to_owned();
    assert!(TcpStream::connect(endpoint.trim_start_matches("http://")).is_ok());
    drop(aws);
    assert!(gone(&endpoint));
}

/// Starts both emulators and prints their endpoints; when run as a normal test, it does nothing.
#[test]
fn one_process() {
    let Ok(_) = std::env::var(PART) else { return };
    let (moto, ministack) = (AwsEmulator::moto(), AwsEmulator::ministack());
    println!("@{} {}", moto.endpoint(), ministack.endpoint());
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn emulator_exits_when_its_test_is_killed() {
    let mut test = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "aws_emulators::one_process", "--nocapture"])
        .env(PART, "start")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(test.stdout.take().unwrap()).lines().map(Result::unwrap);
    // The harness writes to the same line before the test does.
    let said = lines.find_map(|line| Some(line.split_once('@')?.1.to_owned())).unwrap();
    test.kill().unwrap();
    test.wait().unwrap();
    for endpoint in said.split(' ') {
        assert!(gone(endpoint), "{endpoint} still answers");
    }
}

#[test]
fn emulator_cfn_lint_accepts_a_valid_template_and_names_an_invalid_one() {
    let sound = template("/aws/service/debian/release/12/latest/amd64");
    assert_eq!(cfn_lint(&[("one.json", &sound), ("two.json", &sound)]), Ok(()));
    let bad = sound.replace("t3.micro", "t3.enormous");
    let found = cfn_lint(&[("sound.json", &sound), ("bad.json", &bad)]).unwrap_err();
    assert!(found.starts_with("bad.json") && found.contains("t3.enormous"), "{found}");
    assert!(!found.contains("sound.json"), "{found}");
}
