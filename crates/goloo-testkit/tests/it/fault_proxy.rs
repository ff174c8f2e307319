//! Each fault of the proxy does what it promises, from the perspective of the client and the server.
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use goloo_testkit::aws_answers::{
    Image, Stack, StackEvent, create_stack, delete_stack, describe_ended_instance, describe_images,
    describe_instance_type_offerings, describe_stack_events, describe_stacks, no_such_stack, stack_id,
};
use goloo_testkit::aws_emulators::{AwsEmulator, Credentials, aim, python};
use goloo_testkit::fault_proxy::{At, Fault, FaultProxy};
use serde_json::{Value, json};
use ureq::Agent;

/// A server that responds `done` to everything and keeps what it received, head and body.
#[derive(Clone, Default)]
struct Server {
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start() -> (Self, FaultProxy) {
        let server = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = FaultProxy::start(&format!("http://{}", listener.local_addr().unwrap()));
        let handle = server.clone();
        thread::spawn(move || listener.incoming().for_each(|client| handle.serve(client.unwrap())));
        (server, proxy)
    }

    fn serve(&self, client: TcpStream) {
        let mut reader = BufReader::new(client);
        let mut text = String::new();
        while !text.ends_with("\r\n\r\n") {
            reader.read_line(&mut text).unwrap();
        }
        let lower = text.to_ascii_lowercase();
        let length =
            lower.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or("0", str::trim);
        let mut body = vec![0; length.parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        self.seen.lock().unwrap().push(text + std::str::from_utf8(&body).unwrap());
        let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndone";
        reader.get_mut().write_all(reply).unwrap();
    }

    fn seen(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    fn wait_for(&self, requests: usize) {
        let limit = Instant::now() + Duration::from_secs(20);
        while self.seen() < requests {
            assert!(Instant::now() < limit, "the server saw {} of {requests} requests", self.seen());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn scope(service: &str) -> String {
    format!("AWS4-HMAC-SHA256 Credential=KEY/20250115/us-east-1/{service}/aws4_request, SignedHeaders=host")
}

/// The status and the body the client received.
fn call_within(
    limit: Duration,
    proxy: &FaultProxy,
    service: &str,
    action: &str,
) -> Result<(u16, String), ureq::Error> {
    let agent: Agent =
        Agent::config_builder().timeout_global(Some(limit)).http_status_as_error(false).build().into();
    let request = agent.post(proxy.endpoint()).header("Authorization", scope(service));
    let mut answer = request.send_form([("Action", action), ("StackName", "a b&c")])?;
    Ok((answer.status().as_u16(), answer.body_mut().read_to_string()?))
}

fn call(proxy: &FaultProxy, action: &str) -> Result<(u16, String), ureq::Error> {
    call_within(Duration::from_secs(20), proxy, "cloudformation", action)
}

fn done() -> (u16, String) {
    (200, "done".to_owned())
}

#[test]
fn a_request_is_forwarded_unchanged_and_identified_by_its_action() {
    let (server, proxy) = Server::start();
    assert_eq!(call(&proxy, "CreateStack").unwrap(), done());
    let seen = server.seen.lock().unwrap()[0].clone();
    let address = proxy.endpoint().trim_start_matches("http://");
    assert!(seen.starts_with("POST / HTTP/1.1\r\n"), "{seen}");
    assert!(seen.to_ascii_lowercase().contains(&format!("host: {address}\r\n")), "signed, so kept: {seen}");
    assert!(seen.contains(&scope("cloudformation")), "{seen}");
    let request = proxy.requests().remove(0);
    assert!(seen.ends_with(std::str::from_utf8(&request.body).unwrap()));
    assert_eq!((request.service(), request.region()), ("cloudformation", "us-east-1"));
    assert_eq!(request.parameter("StackName").as_deref(), Some("a b&c"));
}

#[test]
fn requests_of_every_protocol_have_action_names() {
    let (_server, proxy) = Server::start();
    let url = |path: &str| format!("{}{path}", proxy.endpoint());
    let agent = Agent::new_with_defaults();
    call(&proxy, "DescribeStacks").unwrap();
    for path in [
        "/2013-04-01/hostedzone",
        "/2013-04-01/hostedzone/Z1/rrset?name=a",
        "/2013-04-01/change/C1",
        "/bucket/key?x",
    ] {
        agent.get(url(path)).call().unwrap();
    }
    agent.post(url("/2013-04-01/hostedzone/Z1/rrset/")).send("<xml/>").unwrap();
    agent.post(url("/")).header("X-Amz-Target", "AmazonSSM.GetParameter").send("{}").unwrap();
    assert_eq!(
        proxy.actions(),
        [
            "DescribeStacks",
            "ListHostedZones",
            "ListResourceRecordSets",
            "GetChange",
            "GET /bucket/key",
            "ChangeResourceRecordSets",
            "GetParameter"
        ]
    );
}

#[test]
fn a_cut_request_never_reaches_the_server() {
    let (server, proxy) = Server::start();
    proxy.fault(At::Request(1), Fault::CutBefore);
    call(&proxy, "CreateStack").unwrap_err();
    assert_eq!(call(&proxy, "DescribeStacks").unwrap(), done());
    assert_eq!(server.seen(), 1, "the second only");
    assert_eq!(proxy.actions(), ["CreateStack", "DescribeStacks"]);
}

#[test]
fn a_lost_reply_is_dropped_after_the_server_handled_the_request() {
    let (server, proxy) = Server::start();
    proxy.fault(At::Request(1), Fault::ReplyLost);
    call(&proxy, "CreateStack").unwrap_err();
    assert_eq!(server.seen(), 1);
}

#[test]
fn a_stalled_request_takes_effect_even_after_the_client_disconnects() {
    let (server, proxy) = Server::start();
    proxy.fault(At::Request(1), Fault::Stall(Duration::from_secs(1)));
    call_within(Duration::from_millis(100), &proxy, "cloudformation", "CreateStack").unwrap_err();
    assert_eq!(server.seen(), 0, "it still waits");
    server.wait_for(1);

    proxy.fault(At::Request(2), Fault::Stall(Duration::from_millis(300)));
    let start = Instant::now();
    assert_eq!(call(&proxy, "CreateStack").unwrap(), done());
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[test]
fn a_hanging_request_gets_no_reply_and_never_reaches_the_server() {
    let (server, proxy) = Server::start();
    proxy.fault(At::Request(1), Fault::Hang);
    call_within(Duration::from_millis(300), &proxy, "cloudformation", "CreateStack").unwrap_err();
    assert_eq!(call(&proxy, "DescribeStacks").unwrap(), done());
    assert_eq!(server.seen(), 1, "the second only");
}

#[test]
fn hooks_are_called_before_and_after_the_effect() {
    let (server, proxy) = Server::start();
    let calls = Arc::new(Mutex::new(Vec::new()));
    let hook = || {
        let (server, calls) = (server.clone(), Arc::clone(&calls));
        move |request: &goloo_testkit::fault_proxy::Request| {
            calls.lock().unwrap().push((request.action(), server.seen()));
        }
    };
    proxy.fault(At::Action("CreateStack", 1), Fault::before(hook()));
    proxy.fault(At::Action("DeleteStack", 1), Fault::after(hook()));
    assert_eq!(call(&proxy, "CreateStack").unwrap(), done());
    assert_eq!(call(&proxy, "DeleteStack").unwrap(), done());
    assert_eq!(*calls.lock().unwrap(), [("CreateStack".to_owned(), 0), ("DeleteStack".to_owned(), 2)]);
}

#[test]
fn faults_affect_only_the_requests_they_are_set_for() {
    let struck = |at: At| -> Vec<usize> {
        let (_server, proxy) = Server::start();
        proxy.fault(at, Fault::CutBefore);
        let actions = ["CreateStack", "DescribeStacks", "DescribeStacks", "DeleteStack", "DescribeStacks"];
        let cut = |(index, action): (usize, &&str)| call(&proxy, action).is_err().then_some(index + 1);
        let struck: Vec<usize> = actions.iter().enumerate().filter_map(cut).collect();
        assert_eq!(proxy.struck(), struck.len());
        proxy.reset();
        assert!(call(&proxy, "CreateStack").is_ok() && proxy.struck() == 0 && proxy.actions().len() == 1);
        struck
    };
    assert_eq!(struck(At::Request(3)), [3]);
    assert_eq!(struck(At::From(3)), [3, 4, 5]);
    assert_eq!(struck(At::Action("DescribeStacks", 2)), [3]);
    assert_eq!(struck(At::Each("DescribeStacks")), [2, 3, 5]);
    assert_eq!(struck(At::Request(6)), [0; 0]);
}

#[test]
fn a_canned_reply_replaces_the_server_and_is_subject_to_faults() {
    let (server, proxy) = Server::start();
    proxy.answer("CreateStack", |_| Some(create_stack("first")));
    proxy.answer("CreateStack", |request| {
        (request.parameter("StackName")? == "a b&c").then(|| create_stack("second"))
    });
    proxy.answer("CreateStack", |_| None);
    assert!(call(&proxy, "CreateStack").unwrap().1.contains("<StackId>second</StackId>"));
    assert_eq!(server.seen(), 0);
    assert_eq!(call(&proxy, "DeleteStack").unwrap(), done());
    proxy.fault(At::Request(3), Fault::ReplyLost);
    call(&proxy, "CreateStack").unwrap_err();
    assert_eq!(server.seen(), 1);
}

/// How boto3, AWS's own client, interprets responses: the service's errors as `code status`, results as JSON.
fn boto3(endpoint: &str, credentials: &Credentials, program: &str) -> Value {
    let mut command = Command::new(python());
    aim(&mut command, endpoint, credentials);
    let prelude = "
import boto3, json
from botocore.config import Config
from botocore.exceptions import ClientError
def client(service):
    return boto3.client(service, 'us-east-1', config=Config(retries={'total_max_attempts': 1}))
def refusal(call, **arguments):
    try:
        return call(**arguments)
    except ClientError as error:
        return f\"{error.response['Error']['Code']} {error.response['ResponseMetadata']['HTTPStatusCode']}\"
";
    let output = command.arg("-c").arg(format!("{prelude}{program}")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn emulator_boto3_recognizes_the_errors_of_each_service() {
    let (server, proxy) = Server::start();
    let mut said = Vec::new();
    for fault in [Fault::Status500, Fault::Throttled, Fault::ExpiredToken] {
        proxy.reset();
        proxy.fault(At::From(1), fault);
        said.push(boto3(
            proxy.endpoint(),
            &Credentials::any(),
            "
print(json.dumps([
    refusal(client('cloudformation').describe_stacks),
    refusal(client('sts').get_caller_identity),
    refusal(client('ec2').describe_instances),
    refusal(client('route53').list_hosted_zones),
    refusal(client('ssm').get_parameter, Name='a'),
    refusal(client('s3').get_object, Bucket='b', Key='k'),
]))",
        ));
    }
    let expected = [
        json!([
            "InternalFailure 500",
            "InternalFailure 500",
            "InternalError 500",
            "InternalFailure 500",
            "InternalServerError 500",
            "InternalError 500"
        ]),
        json!([
            "Throttling 400",
            "Throttling 400",
            "RequestLimitExceeded 503",
            "Throttling 400",
            "ThrottlingException 400",
            "SlowDown 503"
        ]),
        json!([
            "ExpiredToken 403",
            "ExpiredToken 403",
            "RequestExpired 400",
            "ExpiredToken 403",
            "ExpiredTokenException 400",
            "ExpiredToken 400"
        ]),
    ];
    assert_eq!(said, expected);
    assert_eq!(server.seen(), 0, "the server heard of none");
}

#[test]
fn emulator_boto3_reads_canned_ec2_replies() {
    let (_server, proxy) = Server::start();
    proxy.answer("DescribeImages", |_| {
        let mut image = Image::new("ami-0abc0abc");
        image.state_reason = Some("a < b".into());
        image.deprecation_time = Some("2024-01-15T10:30:00.000Z".into());
        Some(describe_images(&[image]))
    });
    proxy.answer("DescribeInstanceTypeOfferings", |request| {
        Some(match request.parameter("NextToken") {
            None => describe_instance_type_offerings("t3.nano", &["us-east-1a"], Some("more")),
            Some(_) => describe_instance_type_offerings("t3.nano", &["us-east-1b"], None),
        })
    });
    proxy.answer("DescribeInstances", |_| {
        Some(describe_ended_instance("i-0abc", "Server.SpotInstanceTermination"))
    });
    let read = boto3(
        proxy.endpoint(),
        &Credentials::any(),
        "
ec2 = client('ec2')
instance = ec2.describe_instances()['Reservations'][0]['Instances'][0]
image = ec2.describe_images(ImageIds=['ami-0abc0abc'])['Images'][0]
pages = ec2.get_paginator('describe_instance_type_offerings').paginate(LocationType='availability-zone')
print(json.dumps([
    [image[key] for key in ('ImageId', 'State', 'Architecture', 'RootDeviceType', 'RootDeviceName', 'DeprecationTime')],
    image['StateReason']['Message'],
    image['BlockDeviceMappings'][0]['DeviceName'],
    image['BlockDeviceMappings'][0]['Ebs']['VolumeSize'],
    [one['Location'] for page in pages for one in page['InstanceTypeOfferings']],
    [instance['InstanceId'], instance['State']['Name'], instance['StateReason']['Code']],
]))",
    );
    let expected = json!([
        ["ami-0abc0abc", "available", "x86_64", "ebs", "/dev/sda1", "2024-01-15T10:30:00.000Z"],
        "a < b",
        "/dev/sda1",
        8,
        ["us-east-1a", "us-east-1b"],
        ["i-0abc", "terminated", "Server.SpotInstanceTermination"],
    ]);
    assert_eq!(read, expected);
}

#[test]
fn emulator_boto3_reads_canned_stacks_and_events() {
    let (_server, proxy) = Server::start();
    let mut stack = Stack::new("goloo-web", "ROLLBACK_COMPLETE");
    stack.reason = Some("a < b & c".into());
    stack.outputs = vec![("PublicIp".into(), "192.0.2.1".into())];
    stack.tags = vec![("goloo:name".into(), "web".into())];
    proxy.answer("DescribeStacks", move |request| match request.parameter("StackName")?.as_str() {
        "goloo-web" => Some(describe_stacks(std::slice::from_ref(&stack))),
        other => Some(no_such_stack(other)),
    });
    proxy.answer("DescribeStackEvents", |request| {
        let event = |number, status| {
            let mut event = StackEvent::new("goloo-web", number, ("Instance", "AWS::EC2::Instance"), status);
            event.token = Some("token".into());
            event.reason = Some("no capacity".into());
            event
        };
        Some(match request.parameter("NextToken") {
            None => describe_stack_events(&[event(2, "CREATE_FAILED")], Some("more")),
            Some(_) => describe_stack_events(&[event(1, "CREATE_IN_PROGRESS")], None),
        })
    });
    proxy.answer("CreateStack", |_| Some(create_stack("arn:web")));
    proxy.answer("DeleteStack", |_| Some(delete_stack()));
    let read = boto3(
        proxy.endpoint(),
        &Credentials::any(),
        "
cloud = client('cloudformation')
stack = cloud.describe_stacks(StackName='goloo-web')['Stacks'][0]
pages = cloud.get_paginator('describe_stack_events').paginate(StackName='goloo-web')
events = [event for page in pages for event in page['StackEvents']]
cloud.delete_stack(StackName='goloo-web')
print(json.dumps([
    [stack[key] for key in ('StackName', 'StackId', 'StackStatus', 'StackStatusReason', 'Outputs', 'Tags')],
    [[event['LogicalResourceId'], event['ResourceStatus'], event['ResourceStatusReason'],
      event['ClientRequestToken'], event['Timestamp'].isoformat()] for event in events],
    refusal(cloud.describe_stacks, StackName='goloo-db'),
    cloud.create_stack(StackName='goloo-web', TemplateBody='{}')['StackId'],
]))",
    );
    assert_eq!(
        read,
        json!([
            [
                "goloo-web",
                stack_id("goloo-web"),
                "ROLLBACK_COMPLETE",
                "a < b & c",
                [{"OutputKey": "PublicIp", "OutputValue": "192.0.2.1"}],
                [{"Key": "goloo:name", "Value": "web"}]
            ],
            [
                ["Instance", "CREATE_FAILED", "no capacity", "token", "2025-01-15T10:30:02+00:00"],
                ["Instance", "CREATE_IN_PROGRESS", "no capacity", "token", "2025-01-15T10:30:01+00:00"]
            ],
            "ValidationError 400",
            "arn:web"
        ])
    );
}

#[test]
fn emulator_moto_checks_signatures_and_policies_behind_the_proxy() {
    let aws = AwsEmulator::moto();
    let proxy = FaultProxy::start(aws.endpoint());
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["ec2:DescribeInstances", "route53:ListHostedZones"], "Resource": "*"}]});
    let credentials = aws.require_credentials(&policy);
    let program = "
print(json.dumps([
    refusal(client('ec2').describe_instances)['Reservations'],
    refusal(client('route53').list_hosted_zones)['HostedZones'],
    refusal(client('ec2').describe_volumes),
]))";
    assert_eq!(boto3(proxy.endpoint(), &credentials, program), json!([[], [], "UnauthorizedOperation 403"]));
    let forged = Credentials { secret_access_key: "wrong".into(), ..credentials };
    let refused = "print(json.dumps(refusal(client('ec2').describe_instances)))";
    assert_eq!(boto3(proxy.endpoint(), &forged, refused), json!("AuthFailure 401"));
}

#[test]
fn emulator_ministack_works_behind_the_proxy() {
    let aws = AwsEmulator::ministack();
    let proxy = FaultProxy::start(aws.endpoint());
    let program = "
s3 = client('s3')
s3.create_bucket(Bucket='state')
s3.put_object(Bucket='state', Key='web', Body=b'{}' * 100_000, IfNoneMatch='*')
print(json.dumps([
    refusal(s3.put_object, Bucket='state', Key='web', Body=b'', IfNoneMatch='*'),
    len(s3.get_object(Bucket='state', Key='web')['Body'].read()),
    refusal(client('route53').get_hosted_zone, Id='Z1'),
]))";
    assert_eq!(
        boto3(proxy.endpoint(), &Credentials::any(), program),
        json!(["PreconditionFailed 412", 200_000, "NoSuchHostedZone 404"])
    );
    assert_eq!(proxy.actions()[1..4], ["PUT /state/web", "PUT /state/web", "GET /state/web"]);
}
