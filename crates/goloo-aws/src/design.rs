//! What a VM becomes in AWS, as far as that can be determined without requests.

use goloo_model::provider::{Machine, ProviderError, ProviderPlan};
use goloo_model::spec::{PortForward, SshSource};
use serde_json::{Map, Value, json};

use crate::ami::{self, Ami};
use crate::instance_types::{self, InstanceArch};
use crate::network;
use crate::settings::Settings;
use crate::tags;
use crate::template::{self, Placement, VmTemplate, parameter};
use crate::user_data::HiddenUserData;

/// The resolved properties of a VM in AWS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Design {
    /// The region.
    pub region: String,
    /// The instance type.
    pub instance_type: String,
    /// The architecture of its processor.
    pub arch: InstanceArch,
    /// Its image.
    pub ami: Ami,
}

/// What the names of all VMs' stacks begin with.
pub const STACK_PREFIX: &str = "goloo-";

/// The name of a VM's stack.
pub fn stack_name(machine: &Machine) -> String {
    format!("{STACK_PREFIX}{}", machine.machine_name)
}

impl Design {
    /// Resolves a machine's design.
    pub fn of(machine: &Machine, settings: &Settings) -> Result<Self, ProviderError> {
        if stack_name(machine) == network::SHARED {
            return Err(ProviderError::Unsupported {
                what: format!("in AWS the name {} is reserved for the network that VMs share", machine.name),
                hint: "use another name with --as".into(),
            });
        }
        let stack = &machine.stack;
        let instance_type = instance_types::choose(stack)?;
        let arch = InstanceArch::of(&instance_type);
        Ok(Self {
            region: stack.region.clone().unwrap_or_else(|| settings.region.clone()),
            ami: if machine.baked.is_some() { Ami::Baked } else { ami::choose(stack, arch)? },
            instance_type,
            arch,
        })
    }

    /// The plan. It leaves open what only AWS knows (the subnet, an AMI's root device).
    pub fn plan(&self, machine: &Machine) -> Result<ProviderPlan, ProviderError> {
        let stack = &machine.stack;
        let root_device = match &self.ami {
            Ami::Newest { root_device, .. } => root_device,
            Ami::Published { .. } | Ami::Given(_) | Ami::Baked => "(as the AMI says)",
        };
        let template = VmTemplate {
            machine,
            ami: &self.ami,
            root_device,
            instance_type: &self.instance_type,
            ssh_cidr: &stack.ssh_cidr.iter().map(planned_block).collect::<Vec<_>>(),
            place: Placement::Subnet { public: true },
            names: &planned_names(machine),
        };
        let template = template.value();
        template::body(&template)?;
        let tags: Map<String, Value> =
            tags::of(machine).into_iter().map(|(key, value)| (key, value.into())).collect();
        let mut parameters = json!({
            parameter::IMAGE: self.ami.parameter_value(),
            parameter::SUBNET: stack.subnet_id,
            parameter::VPC: stack.vpc_id,
        });
        for (key, mask) in HiddenUserData::of(&machine.user_data).masked() {
            parameters[key] = mask;
        }
        Ok(ProviderPlan {
            steps: self.steps(machine),
            warnings: warnings(machine),
            detail: json!({
                "region": self.region, "template": template, "parameters": parameters, "tags": tags,
            }),
        })
    }

    fn steps(&self, machine: &Machine) -> Vec<String> {
        let stack = &machine.stack;
        let mut steps = vec![self.network_step(machine)];
        let Self { instance_type, arch, .. } = self;
        let spot = if stack.spot { ", a Spot Instance," } else { "" };
        let image = match &self.ami {
            Ami::Newest { os, .. } | Ami::Published { os, .. } => format!("the newest public AMI of {os}"),
            Ami::Given(id) => id.clone(),
            Ami::Baked => "that image".to_owned(),
        };
        if self.ami == Ami::Baked {
            steps.push(format!(
                "use the baked image of the stack {}, which is provisioned already; AWS bills its snapshot per GiB and month until it is removed",
                stack.stack
            ));
        }
        steps.push(format!(
            "create the CloudFormation stack {} with a {instance_type} ({arch}){spot} from {image} and an encrypted disk of {}",
            stack_name(machine), stack.disk
        ));
        if let Some(profile) = &stack.iam_instance_profile {
            steps.push(format!("give it the instance profile {profile}"));
        }
        let port = |port: &PortForward| format!("{}{}", port.guest(), port.protocol().suffix());
        let ports: Vec<String> = stack.ports.iter().map(port).collect();
        let others =
            if ports.is_empty() { String::new() } else { format!(", and {} to everyone", ports.join(", ")) };
        let sources: Vec<String> = stack.ssh_cidr.iter().map(ToString::to_string).collect();
        steps.push(format!("open port 22 to {}{others}", sources.join(", ")));
        if let Some(member) = machine.membership.as_ref().filter(|member| member.environment_id.is_some()) {
            steps.push(format!(
                "add it to the security group of {}, whose machines reach each other on all ports",
                member.environment
            ));
        }
        if let Some(seconds) = stack.ttl {
            steps.push(format!(
                "let the instance terminate itself and delete its disk after {} minutes",
                seconds / 60
            ));
        }
        if let Some(dns) = &stack.dns {
            let names: Vec<String> = crate::dns::names(dns).into_iter().map(|name| name.name).collect();
            steps.push(format!("point {} to it in Route 53", names.join(", ")));
        }
        steps
    }

    fn network_step(&self, machine: &Machine) -> String {
        let region = &self.region;
        match (&machine.stack.subnet_id, &machine.stack.vpc_id) {
            (Some(subnet), _) => format!("use the subnet {subnet} in {region}"),
            (None, Some(vpc)) => format!("find a public subnet of {vpc} in {region}"),
            (None, None) => format!(
                "find a public subnet of the default VPC in {region}; if there is none, use the shared network {}",
                network::SHARED
            ),
        }
    }
}

/// The names in the plan's template, where the zone may still be unknown.
fn planned_names(machine: &Machine) -> Vec<String> {
    let Some(dns) = &machine.stack.dns else { return Vec::new() };
    crate::dns::notes(dns, dns.zone_id.as_deref().unwrap_or("(the zone of the domain)"))
}

/// A CIDR block in the plan's template: this computer's address is looked up only on create.
fn planned_block(source: &SshSource) -> String {
    match source {
        SshSource::Me => "(this computer's public address)".to_owned(),
        SshSource::Cidr(block) => block.clone(),
    }
}

fn warnings(machine: &Machine) -> Vec<String> {
    let stack = &machine.stack;
    let mut warnings = Vec::new();
    if stack.ssh_cidr.iter().any(SshSource::is_everyone) {
        warnings.push(
            "everyone may try to log in on port 22: \"ssh_cidr\": \"me\" opens it only to this computer"
                .to_owned(),
        );
    }
    if stack.spot {
        warnings.push(
            "AWS may terminate a Spot Instance (vm.spot) at any time and delete its disk, and it can't be stopped and started"
                .to_owned(),
        );
    }
    if !stack.mounts.is_empty() {
        warnings
            .push("vm.mounts is ignored in AWS: folders of this computer aren't available there".to_owned());
    }
    warnings
}
