//! The real command against moto: everything but a guest.
#![cfg(feature = "aws")]
#![allow(clippy::unwrap_used)]

mod common;

use common::{Ran, World};
use goloo_testkit::aws_emulators::{AwsEmulator, Credentials, REGIONS};

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
        serde_json::from_str(&self.run(arguments).expect(0).stdout()).unwrap()
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
