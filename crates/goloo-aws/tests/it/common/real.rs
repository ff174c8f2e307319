//! The bench: goloo against the account configured by the environment. All its resources are named `goloo-test-XXXX-…`;
//! nothing else is counted or touched.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_cloudformation::types::{Stack, StackStatus};
use aws_sdk_ec2::types::{Filter, Instance, InstanceStateName, Tag, VolumeState};
use aws_smithy_http_client::tls::{Provider as Tls, rustls_provider::CryptoMode};
use goloo_aws::{AwsProvider, Settings, tags};
use goloo_model::name::VmId;
use goloo_model::provider::{Machine, Provider};
use goloo_model::record::Record;
use goloo_model::spec::{ImageRef, Size, SshSource};
use goloo_testkit::provider_suite::{self, Bench};

use super::block_on;

/// How long AWS may take to remove a test's leftovers.
const CLEAN_UP: Duration = Duration::from_secs(600);

/// Powers the instance off an hour after each start, whatever happens to the test.
const USER_DATA: &[u8] = b"#cloud-config\nbootcmd:\n  - [shutdown, -P, '+60']\n";

/// An account, and the resources in it with this bench's prefix.
pub struct Real {
    settings: Settings,
    prefix: String,
}

/// The bench's own access to the account.
struct Eyes {
    cloudformation: aws_sdk_cloudformation::Client,
    ec2: aws_sdk_ec2::Client,
}

impl Real {
    /// Uses the region and the credentials of the environment.
    ///
    /// # Panics
    /// If no region is configured: the owner of the account must decide where money is spent.
    pub fn new() -> Self {
        let settings = apart(Settings::from_env());
        assert!(settings.region_is_given, "GOLOO_TEST_AWS=real makes instances: say where, AWS_REGION=…");
        Self { settings, prefix: format!("goloo-test-{}-", VmId::generate().short()) }
    }

    async fn eyes(&self) -> Eyes {
        let http =
            aws_smithy_http_client::Builder::new().tls_provider(Tls::Rustls(CryptoMode::Ring)).build_https();
        let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .region(Region::new(self.settings.region.clone()))
            .http_client(http)
            .load()
            .await;
        Eyes {
            cloudformation: aws_sdk_cloudformation::Client::new(&config),
            ec2: aws_sdk_ec2::Client::new(&config),
        }
    }

    fn is_own(&self, name: Option<&str>) -> bool {
        name.is_some_and(|name| name.starts_with(&self.prefix))
    }

    fn is_tagged(&self, tags: &[Tag]) -> bool {
        self.is_own(tags.iter().find(|tag| tag.key() == Some(tags::NAME)).and_then(Tag::value))
    }

    async fn stacks(&self, eyes: &Eyes) -> Vec<Stack> {
        let pages = eyes.cloudformation.describe_stacks().into_paginator().items().send();
        let mut all = pages.collect::<Result<Vec<_>, _>>().await.unwrap();
        all.retain(|stack| {
            let name = stack.tags().iter().find(|tag| tag.key() == Some(tags::NAME));
            self.is_own(name.and_then(|tag| tag.value()))
                && stack.stack_status() != Some(&StackStatus::DeleteComplete)
        });
        all
    }

    async fn instances(&self, eyes: &Eyes) -> Vec<(String, InstanceStateName)> {
        let request = eyes.ec2.describe_instances().filters(named());
        let pages = request.into_paginator().items().send();
        let all = pages.collect::<Result<Vec<_>, _>>().await.unwrap();
        let own = all.iter().flat_map(|reservation| reservation.instances());
        let own = own.filter(|instance| self.is_tagged(instance.tags()));
        own.map(|instance| (instance.instance_id().unwrap().to_owned(), state(instance)))
            .filter(|(_, state)| *state != InstanceStateName::Terminated)
            .collect()
    }

    async fn volumes(&self, eyes: &Eyes) -> Vec<String> {
        let pages = eyes.ec2.describe_volumes().filters(named()).into_paginator().items().send();
        let mut all = pages.collect::<Result<Vec<_>, _>>().await.unwrap();
        all.retain(|volume| self.is_tagged(volume.tags()) && volume.state() != Some(&VolumeState::Deleting));
        all.iter().map(|volume| volume.volume_id().unwrap().to_owned()).collect()
    }

    async fn security_groups(&self, eyes: &Eyes) -> Vec<String> {
        let pages = eyes.ec2.describe_security_groups().filters(named()).into_paginator().items().send();
        let mut all = pages.collect::<Result<Vec<_>, _>>().await.unwrap();
        all.retain(|group| self.is_tagged(group.tags()));
        all.iter().map(|group| group.group_id().unwrap().to_owned()).collect()
    }

    /// Removes the test's leftovers and returns what couldn't be removed.
    async fn clean_up(&self) -> Vec<String> {
        let eyes = self.eyes().await;
        for stack in self.stacks(&eyes).await {
            let removed = eyes.cloudformation.delete_stack().stack_name(stack.stack_id().unwrap());
            removed.send().await.unwrap();
        }
        let end = Instant::now() + CLEAN_UP;
        loop {
            let left = self.ledger().await;
            if left.is_empty() || Instant::now() > end {
                return left;
            }
            tokio::time::sleep(self.settings.pace.then).await;
        }
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let left = apart(self.clean_up());
        if !std::thread::panicking() {
            assert_eq!(left, [""; 0], "{} is still there", self.prefix);
        }
    }
}

/// Matches every resource with goloo's tag: a filter for the prefix would be one more thing to trust.
fn named() -> Filter {
    Filter::builder().name("tag-key").values(tags::NAME).build()
}

fn state(instance: &Instance) -> InstanceStateName {
    instance.state().and_then(|state| state.name()).unwrap().clone()
}

/// Runs it on its own thread: tests already have a runtime.
fn apart<T: Send>(future: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| scope.spawn(|| block_on(future)).join()).unwrap()
}

#[async_trait]
impl Bench for Real {
    fn provider(&self) -> Box<dyn Provider> {
        Box::new(AwsProvider::new(self.settings.clone()))
    }

    fn machine(&self, name: &str) -> Machine {
        let name = format!("{}{name}", self.prefix);
        let mut machine =
            provider_suite::machine(&name, ImageRef::Alias("ubuntu-24.04".to_owned()), USER_DATA);
        machine.stack.os = "ubuntu-24.04".to_owned();
        // Ubuntu's image requires it.
        machine.stack.disk = Size::gib(8);
        // The shutdown from within terminates it.
        machine.stack.ttl = Some(3600);
        // Unassigned addresses: nobody ever logs in to it.
        machine.stack.ssh_cidr = vec![SshSource::Cidr("192.0.2.0/24".to_owned())];
        machine
    }

    async fn ledger(&self) -> Vec<String> {
        let eyes = self.eyes().await;
        let stacks = self.stacks(&eyes).await;
        let mut lines: Vec<String> =
            stacks.iter().map(|stack| format!("stack {}", stack.stack_name().unwrap())).collect();
        let instances = self.instances(&eyes).await;
        lines.extend(instances.iter().map(|(id, state)| format!("instance {id} {state}")));
        lines.extend(self.volumes(&eyes).await.iter().map(|id| format!("volume {id}")));
        lines.extend(self.security_groups(&eyes).await.iter().map(|id| format!("security-group {id}")));
        lines
    }

    async fn running(&self) -> usize {
        let instances = self.instances(&self.eyes().await).await;
        instances.iter().filter(|(_, state)| *state == InstanceStateName::Running).count()
    }

    async fn crash(&self, record: &Record) {
        let id = record.details["instanceID"].as_str().unwrap().to_owned();
        let stopped = self.eyes().await.ec2.stop_instances().instance_ids(id).force(true).send().await;
        stopped.unwrap();
    }

    fn stride(&self) -> usize {
        100
    }

    fn patience(&self) -> Duration {
        // The console is available minutes after the instance.
        Duration::from_secs(600)
    }
}
