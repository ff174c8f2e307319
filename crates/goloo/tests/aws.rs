//! The real command against moto: everything but a guest.
#![cfg(feature = "aws")]
#![allow(clippy::unwrap_used)]

mod common;

use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

use common::{Ran, World};
use goloo_testkit::aws_emulators::{AwsEmulator, Credentials, REGIONS, aim};
use goloo_testkit::fault_proxy::{At, Fault, FaultProxy, Request};

const WEB: &str = r#"{"vm": {"cpus": 1, "memory": "512M", "disk": "8G", "ssh_cidr": "198.51.100.0/24"}}"#;

/// A user's machine and an account in AWS.
struct Cloud {
    world: World,
    aws: AwsEmulator,
}

impl Cloud {
    fn new() -> Self {
        let (world, aws) = (World::new(), AwsEmulator::moto());
        aws.open_default_vpc(REGIONS[0]);
        world.stack("web", WEB, "");
        Self { world, aws }
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = self.world.command();
        self.aws.aim(&mut command, &Credentials::any());
        Ran(command.env("GOLOO_AWS_POLL", "0.05").args(arguments).output().unwrap())
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        self.json_of(arguments, 0)
    }

    fn json_of(&self, arguments: &[&str], code: i32) -> serde_json::Value {
        serde_json::from_str(&self.run(arguments).expect(code).stdout()).unwrap()
    }

    /// Instances, each with its state.
    fn instances(&self) -> Vec<String> {
        self.aws.ledger().into_iter().filter(|line| line.contains(" instance ")).collect()
    }
}

#[test]
fn a_vm_in_aws_is_made_seen_stopped_and_deleted() {
    let cloud = Cloud::new();
    // moto's instances have no SSH to wait for.
    let created = cloud.run(&["create", "web", "--aws", "--no-wait"]).expect(0);
    assert!(created.stdout().contains("web runs"), "{created:?}");
    assert_eq!(cloud.json(&["list", "--refresh", "--json"])["vms"][0]["live"], "running");
    cloud.run(&["logs", "web", "--console"]).expect(0);
    cloud.run(&["stop", "web"]).expect(0);
    assert_eq!(cloud.json(&["list", "--refresh", "--json"])["vms"][0]["live"], "stopped");
    cloud.run(&["delete", "web", "--yes"]).expect(0);
    assert_eq!(cloud.instances(), [""; 0]);
    assert_eq!(cloud.world.names(), [""; 0]);
}

#[test]
fn a_dry_run_asks_nobody() {
    let world = World::new();
    world.stack("web", WEB, "");
    let plan = world.json(&["create", "web", "--aws", "--dry-run", "--json"]);
    assert_eq!(plan["plan"]["aws"]["region"], "us-east-1");
    assert_eq!(plan["plan"]["aws"]["template"]["Resources"]["Instance"]["Type"], "AWS::EC2::Instance");
}

#[test]
fn credentials_that_are_missing_or_refused_are_exit_code_4_and_leave_nothing() {
    let cloud = Cloud::new();
    let mut without = cloud.world.command();
    cloud.aws.aim(&mut without, &Credentials::any());
    without.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    let ran = Ran(without.args(["create", "web", "--aws"]).output().unwrap()).expect(4);
    assert!(ran.stderr().contains("no AWS credentials") && ran.stderr().contains("AWS_PROFILE"), "{ran:?}");
    let nothing = serde_json::json!({"Effect": "Deny", "Action": "*", "Resource": "*"});
    cloud.aws.require_credentials(&serde_json::json!({"Version": "2012-10-17", "Statement": [nothing]}));
    let ran = cloud.run(&["create", "web", "--aws"]).expect(4);
    assert!(ran.stderr().contains("InvalidClientTokenId"), "{ran:?}");
    assert_eq!(cloud.world.names(), [""; 0]);
}

#[test]
fn an_instance_whose_record_was_lost_is_found_and_adopted() {
    let cloud = Cloud::new();
    cloud.run(&["create", "web", "--aws", "--no-wait"]).expect(0);
    std::fs::rename(cloud.world.state().join("active/web"), cloud.world.path().join("lost")).unwrap();
    let strays = cloud.json_of(&["refresh", "--json"], 1)["strays"].clone();
    let id = strays[0]["id"].as_str().unwrap();
    assert_eq!((&strays[0]["provider"], &strays[0]["ours"]), (&"aws".into(), &true.into()), "{strays}");
    cloud.run(&["adopt", "web", "--provider", "aws", "--id", id]).expect(0);
    assert_eq!(cloud.json(&["list", "--refresh", "--json"])["vms"][0]["live"], "running");
    cloud.run(&["delete", "web", "--yes"]).expect(0);
    assert_eq!(cloud.instances(), [""; 0]);
}

/// Kills the command at each of its requests to AWS, before or after it took effect; `go_on` is what a
/// person does then. Nothing may be left that goloo doesn't know.
fn killed_at_every_request(arguments: &[&str], begin: fn(&Cloud), go_on: fn(&Cloud, usize)) {
    let cloud = Cloud::new();
    let empty = cloud.aws.ledger();
    let proxy = FaultProxy::start(cloud.aws.endpoint());
    for late in [false, true] {
        for number in 1.. {
            begin(&cloud);
            proxy.reset();
            let pid = Arc::new(OnceLock::<u32>::new());
            let child = Arc::clone(&pid);
            let kill = move |_: &Request| {
                let pid = child.wait().to_string();
                assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
            };
            proxy.fault(At::Request(number), if late { Fault::after(kill) } else { Fault::before(kill) });
            let mut command = cloud.world.command();
            aim(&mut command, proxy.endpoint(), &Credentials::any());
            command.env("GOLOO_AWS_POLL", "0.05").args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().unwrap();
            pid.set(child.id()).unwrap();
            let ended = child.wait().unwrap().success();
            go_on(&cloud, number);
            let when = format!("killed at request {number}, late: {late}, ended: {ended}");
            assert_eq!(cloud.world.names(), [""; 0], "{when}");
            assert_eq!(cloud.aws.ledger(), empty, "{when}");
            if proxy.struck() == 0 {
                assert!(ended && number > 3, "{when}");
                break;
            }
        }
    }
}

const CREATE: [&str; 4] = ["create", "web", "--aws", "--no-wait"];

#[test]
fn kill_create_in_aws_at_every_request_then_go_on() {
    let go_on = |cloud: &Cloud, number: usize| {
        if number.is_multiple_of(2) {
            cloud.run(&["resume", "web"]).expect(0);
            assert_eq!(cloud.instances().len(), 1, "killed at request {number}");
        }
        cloud.run(&["delete", "web", "--yes"]).expect(0);
    };
    killed_at_every_request(&CREATE, |_| {}, go_on);
}

#[test]
fn kill_delete_in_aws_at_every_request_then_go_on() {
    let begin = |cloud: &Cloud| {
        cloud.run(&CREATE).expect(0);
    };
    let go_on = |cloud: &Cloud, _| {
        if !cloud.world.names().is_empty() {
            cloud.run(&["resume", "web"]).expect(0);
        }
    };
    killed_at_every_request(&["delete", "web", "--yes"], begin, go_on);
}
