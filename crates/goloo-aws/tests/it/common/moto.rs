//! The bench: goloo against moto.

use async_trait::async_trait;
use goloo_aws::{AwsProvider, Settings};
use goloo_model::provider::{Machine, Provider};
use goloo_model::record::Record;
use goloo_model::spec::{ImageRef, Size};
use goloo_testkit::aws_emulators::{AwsEmulator, REGIONS};
use goloo_testkit::provider_suite::{self, Bench};

use super::queue::Queue;
use super::settings;

/// The default region of the machines.
pub const REGION: &str = "us-east-1";

/// An account in moto whose default VPC has internet access, as in AWS.
pub struct Moto {
    /// The endpoint goloo talks to.
    pub queue: Queue,
    /// The emulator behind it.
    pub aws: AwsEmulator,
    before: Vec<String>,
}

impl Moto {
    /// With default VPCs that have internet access.
    pub fn new() -> Self {
        let moto = Self::as_moto_makes_it();
        REGIONS.iter().for_each(|region| moto.aws.open_default_vpc(region));
        Self { before: moto.aws.ledger(), ..moto }
    }

    /// With default VPCs that have none.
    pub fn as_moto_makes_it() -> Self {
        let aws = AwsEmulator::moto();
        Self { before: Vec::new(), queue: Queue::before(aws.endpoint()), aws }
    }

    /// The provider with changed settings.
    pub fn with(&self, change: impl FnOnce(&mut Settings)) -> AwsProvider {
        let mut settings = settings(&self.queue.endpoint, REGION);
        change(&mut settings);
        AwsProvider::new(settings)
    }

    /// What was created since the start.
    pub fn made(&self) -> Vec<String> {
        let mut lines = self.aws.ledger();
        // moto doesn't implement DeleteOnTermination for network interfaces.
        lines.retain(|line| !self.before.contains(line) && !line.contains(" network-interface "));
        lines
    }

    /// The zones and the ids of all subnets.
    pub fn subnets(&self) -> Vec<(String, String)> {
        let answer = self.aws.query("ec2", REGION, &[("Action", "DescribeSubnets")]);
        let text = |item: &str, tag: &str| {
            let (_, after) = item.split_once(&format!("<{tag}>")).unwrap();
            after.split('<').next().unwrap().to_owned()
        };
        let items = answer.split("<subnetId>").skip(1).map(|item| format!("<subnetId>{item}"));
        items.map(|item| (text(&item, "availabilityZone"), text(&item, "subnetId"))).collect()
    }

    fn instances(&self, state: &str) -> Vec<String> {
        let lines = self.aws.ledger();
        let of_state = lines.iter().filter(|line| line.contains(" instance ") && line.ends_with(state));
        of_state.filter_map(|line| line.split(' ').nth(2).map(str::to_owned)).collect()
    }
}

#[async_trait]
impl Bench for Moto {
    fn provider(&self) -> Box<dyn Provider> {
        Box::new(self.with(|_| {}))
    }

    fn machine(&self, name: &str) -> Machine {
        let mut machine =
            provider_suite::machine(name, ImageRef::Alias("ubuntu-24.04".into()), b"#cloud-config\n");
        machine.stack.os = "ubuntu-24.04".to_owned();
        machine.stack.disk = Size::gib(8);
        machine
    }

    async fn ledger(&self) -> Vec<String> {
        self.made()
    }

    async fn running(&self) -> usize {
        self.instances("running").len()
    }

    async fn crash(&self, record: &Record) {
        let id = record.details["instanceID"].as_str().unwrap();
        self.aws.query("ec2", REGION, &[("Action", "StopInstances"), ("InstanceId.1", id)]);
    }
}
