//! EC2 instances: describing, starting, stopping and terminating them.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{Filter, Instance as Ec2Instance, InstanceNetworkInterface, InstanceStateName};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use goloo_model::hint::NextStep;
use goloo_model::name::VmName;
use goloo_model::provider::{LiveState, ProviderError, Work};
use goloo_model::time::Timestamp;

use crate::error::AwsError;
use crate::pages::Pages;
use crate::retry::{PATIENCE, pause, tolerate_transient};
use crate::session::Clients;
use crate::settings::PollIntervals;
use crate::tags::{self, Tags};

/// The maximum number of values in a filter.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html>
const FILTER_MAX: usize = 200;

/// A starting instance may still be reported as stopped; after this many such reports the start has failed.
const FELL_BACK: u32 = 3;

/// EC2's instance states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Starting.
    Pending,
    /// Running.
    Running,
    /// Stopping.
    Stopping,
    /// Stopped.
    Stopped,
    /// Terminated, or being terminated.
    Terminated,
    /// A state this version doesn't know.
    Other,
}

impl State {
    fn of(name: Option<&InstanceStateName>) -> Self {
        match name {
            Some(InstanceStateName::Pending) => Self::Pending,
            Some(InstanceStateName::Running) => Self::Running,
            Some(InstanceStateName::Stopping) => Self::Stopping,
            Some(InstanceStateName::Stopped) => Self::Stopped,
            Some(InstanceStateName::Terminated | InstanceStateName::ShuttingDown) => Self::Terminated,
            _ => Self::Other,
        }
    }

    /// The engine's state. A stopping instance counts as running: it can't be started.
    pub fn live(self) -> LiveState {
        match self {
            Self::Pending | Self::Running | Self::Stopping => LiveState::Running,
            Self::Stopped => LiveState::Stopped,
            Self::Terminated => LiveState::Missing,
            Self::Other => LiveState::Unknown,
        }
    }
}

/// An instance as described by EC2.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Its id.
    pub id: String,
    /// Its state.
    pub state: State,
    /// Its public address.
    pub public_ip: Option<String>,
    /// Whether that is an Elastic IP address, which stays with it when it is stopped.
    pub owns_public_ip: bool,
    /// Its address in its VPC.
    pub private_ip: Option<String>,
    /// Its tags.
    pub tags: Tags,
    /// Its type.
    pub kind: Option<String>,
    /// Its AMI.
    pub ami: Option<String>,
    /// Its VPC.
    pub vpc: Option<String>,
    /// Its subnet.
    pub subnet: Option<String>,
    /// Its first security group.
    pub security_group: Option<String>,
    /// Its primary network interface.
    pub interface: Option<Interface>,
    /// Whether AWS terminated it to reclaim a Spot Instance.
    pub is_reclaimed: bool,
    /// When it was last started.
    pub launched_at: Option<Timestamp>,
    /// Its root volume, if that is on EBS.
    pub root_volume: Option<String>,
}

/// EC2's code for a Spot Instance that EC2 terminated.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html>
const RECLAIMED: &str = "Server.SpotInstanceTermination";

impl Instance {
    fn of(instance: &Ec2Instance) -> Option<Self> {
        let text = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        Some(Self {
            id: instance.instance_id()?.to_owned(),
            state: State::of(instance.state().and_then(|state| state.name())),
            public_ip: text(instance.public_ip_address()),
            owns_public_ip: owns_public_ip(instance),
            private_ip: text(instance.private_ip_address()),
            tags: tags::in_ec2(instance.tags()),
            kind: instance.instance_type().map(|kind| kind.as_str().to_owned()),
            ami: text(instance.image_id()),
            vpc: text(instance.vpc_id()),
            subnet: text(instance.subnet_id()),
            security_group: text(instance.security_groups().first().and_then(|group| group.group_id())),
            interface: Interface::primary_of(instance),
            is_reclaimed: instance.state_reason().and_then(|reason| reason.code()) == Some(RECLAIMED),
            launched_at: instance.launch_time().and_then(|time| Timestamp::from_unix(time.secs())),
            root_volume: root_volume(instance),
        })
    }

    /// The address at which it is reachable: its public address, or otherwise its address in the VPC.
    pub fn address(&self) -> Option<&str> {
        self.public_ip.as_deref().or(self.private_ip.as_deref())
    }

    /// Whether an address is its own and stays so when it is stopped.
    pub fn keeps(&self, address: &str) -> bool {
        let is_public = self.public_ip.as_deref() == Some(address);
        let is_private = self.private_ip.as_deref() == Some(address);
        // A stopped instance keeps any address it still has.
        is_private || is_public && (self.owns_public_ip || self.state == State::Stopped)
    }

    /// The id of its VM, from its tag.
    pub fn vm_id(&self) -> Option<&str> {
        tags::value(&self.tags, tags::ID)
    }
}

/// A network interface of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its id.
    pub id: String,
    /// Its security groups.
    pub groups: Vec<String>,
}

impl Interface {
    fn primary_of(instance: &Ec2Instance) -> Option<Self> {
        let is_primary = |interface: &&InstanceNetworkInterface| {
            interface.attachment().and_then(|attachment| attachment.device_index()) == Some(0)
        };
        let interface = instance.network_interfaces().iter().find(is_primary)?;
        let groups = interface.groups().iter().filter_map(|group| group.group_id());
        Some(Self {
            id: interface.network_interface_id()?.to_owned(),
            groups: groups.map(str::to_owned).collect(),
        })
    }
}

fn root_volume(instance: &Ec2Instance) -> Option<String> {
    let root = instance.root_device_name()?;
    let mut mappings = instance.block_device_mappings().iter();
    let mapping = mappings.find(|mapping| mapping.device_name() == Some(root))?;
    mapping.ebs()?.volume_id().map(str::to_owned)
}

/// `amazon` owns an address that AWS lends to a running instance; an account owns an Elastic IP address.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_InstanceNetworkInterfaceAssociation.html>
fn owns_public_ip(instance: &Ec2Instance) -> bool {
    let interfaces = instance.network_interfaces().iter();
    let mut associations = interfaces.filter_map(|interface| interface.association());
    associations.any(|association| {
        association.public_ip() == instance.public_ip_address()
            && association.ip_owner_id().is_some_and(|owner| owner != "amazon")
    })
}

/// Which instances to describe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// Those with these ids.
    Ids(Vec<String>),
    /// Those whose tag with this key has one of these values.
    Tagged(&'static str, Vec<String>),
    /// All that have a tag with this key.
    AnyTagged(&'static str),
}

impl Which {
    fn filters(self) -> Vec<Filter> {
        let filter =
            |name: &str, values: Vec<String>| Filter::builder().name(name).set_values(Some(values)).build();
        let chunked = |name: &str, values: Vec<String>| {
            values.chunks(FILTER_MAX).map(|chunk| filter(name, chunk.to_vec())).collect()
        };
        match self {
            Self::Ids(ids) => chunked("instance-id", ids),
            Self::Tagged(key, values) => chunked(&format!("tag:{key}"), values),
            Self::AnyTagged(key) => vec![filter("tag-key", vec![key.to_owned()])],
        }
    }
}

/// Lists instances from all pages. Ids are queried with filters, since EC2 rejects a request by id as a whole if one of
/// the ids is unknown.
pub async fn describe(clients: &Clients, which: Which) -> Result<Vec<Instance>, AwsError> {
    let mut found = Vec::new();
    for filter in which.filters() {
        let (mut next, mut pages) = (None, Pages::of("ec2:DescribeInstances"));
        loop {
            let request = clients.ec2.describe_instances().filters(filter.clone()).set_next_token(next);
            let answer =
                request.send().await.map_err(|error| AwsError::of("ec2:DescribeInstances", &error))?;
            let instances = answer.reservations().iter().flat_map(|reservation| reservation.instances());
            found.extend(instances.filter_map(Instance::of));
            next = pages.next(answer.next_token())?;
            if next.is_none() {
                break;
            }
        }
    }
    Ok(found)
}

/// One instance; `None` when it doesn't exist or no longer exists.
pub async fn one(clients: &Clients, id: &str) -> Result<Option<Instance>, AwsError> {
    let found = describe(clients, Which::Ids(vec![id.to_owned()])).await?;
    Ok(found.into_iter().find(|instance| instance.state != State::Terminated))
}

/// The instance of a VM.
#[derive(Debug, Clone, Copy)]
pub struct InstanceRef<'a> {
    /// The VM.
    pub vm: &'a VmName,
    /// The instance's id.
    pub id: &'a str,
}

/// Waits until an instance is in the wanted state.
pub async fn wait_for(
    clients: &Clients,
    InstanceRef { vm, id }: InstanceRef<'_>,
    wanted: State,
    pace: PollIntervals,
    work: &mut dyn Work,
) -> Result<Instance, ProviderError> {
    let (mut wait, mut patience, mut fell_back) = (pace.first, PATIENCE, 0);
    loop {
        pause(wait, work).await?;
        wait = pace.then;
        match one(clients, id).await {
            Ok(Some(instance)) if instance.state == wanted => return Ok(instance),
            Ok(Some(instance)) => {
                patience = PATIENCE;
                fell_back += u32::from(instance.state == State::Stopped);
                if fell_back == FELL_BACK {
                    return Err(fell_back_to_off(clients, id));
                }
            }
            Ok(None) => return Err(gone(vm, id)),
            Err(error) => tolerate_transient(&mut patience, error, work)?,
        }
    }
}

fn fell_back_to_off(clients: &Clients, id: &str) -> ProviderError {
    ProviderError::failed(
        format!("the instance {id} failed to start: AWS stopped it again"),
        format!("aws ec2 describe-instances --region {} --instance-ids {id} shows why", clients.region),
    )
}

/// The error for an instance that no longer exists.
fn gone(vm: &VmName, id: &str) -> ProviderError {
    ProviderError::failed(
        format!("the instance {id} no longer exists"),
        NextStep::Delete(vm.clone()).text(" removes its remaining resources"),
    )
}

/// Starts an instance.
pub async fn start(clients: &Clients, id: &str) -> Result<(), AwsError> {
    let request = clients.ec2.start_instances().instance_ids(id);
    request.send().await.map(drop).map_err(|error| AwsError::of("ec2:StartInstances", &error))
}

/// Stops an instance; `force` skips the guest's shutdown.
pub async fn stop(clients: &Clients, id: &str, force: bool) -> Result<(), AwsError> {
    let request = clients.ec2.stop_instances().instance_ids(id).force(force);
    request.send().await.map(drop).map_err(|error| AwsError::of("ec2:StopInstances", &error))
}

/// Sets tags of an instance.
pub async fn tag(clients: &Clients, id: &str, tags: &[(&str, &str)]) -> Result<(), AwsError> {
    let request = clients.ec2.create_tags().resources(id).set_tags(Some(tags::to_ec2(tags)));
    request.send().await.map(drop).map_err(|error| AwsError::of("ec2:CreateTags", &error))
}

/// Terminates an instance that has no stack; one that is already gone is success.
pub async fn terminate(clients: &Clients, id: &str) -> Result<(), AwsError> {
    let request = clients.ec2.terminate_instances().instance_ids(id);
    match request.send().await.map_err(|error| AwsError::of("ec2:TerminateInstances", &error)) {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some("InvalidInstanceID.NotFound") => Ok(()),
        Err(error) => Err(error),
    }
}

/// An instance's console output so far. Older instance types provide it only as of the last boot.
pub async fn console(clients: &Clients, id: &str) -> Result<Vec<u8>, AwsError> {
    let text = match console_text(clients, id, true).await {
        Err(error) if error.code() == Some("UnsupportedOperation") => {
            console_text(clients, id, false).await?
        }
        answer => answer?,
    };
    Ok(STANDARD.decode(&text).unwrap_or_else(|_| text.into_bytes()))
}

async fn console_text(clients: &Clients, id: &str, latest: bool) -> Result<String, AwsError> {
    let request = clients.ec2.get_console_output().instance_id(id).latest(latest);
    let answer = request.send().await.map_err(|error| AwsError::of("ec2:GetConsoleOutput", &error))?;
    Ok(answer.output().unwrap_or_default().split_whitespace().collect())
}

/// Indexes instances by their ids and by the ids of their VMs.
pub fn index(instances: Vec<Instance>) -> BTreeMap<String, Instance> {
    let mut index = BTreeMap::new();
    for instance in instances {
        // A terminated instance stays visible for an hour; its successor takes precedence.
        let keys = [Some(instance.id.clone()), instance.vm_id().map(str::to_owned)];
        for key in keys.into_iter().flatten() {
            let known_is_up = |known: &Instance| known.state != State::Terminated;
            if !index.get(&key).is_some_and(known_is_up) {
                index.insert(key, instance.clone());
            }
        }
    }
    index
}
