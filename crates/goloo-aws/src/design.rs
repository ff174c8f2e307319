//! What a VM becomes in AWS, as far as that can be told without asking.

use goloo_core::provider::{Machine, ProviderError, ProviderPlan};
use goloo_core::spec::SshSource;
use serde_json::{Map, Value, json};

use crate::ami::{self, Ami};
use crate::instance_types::{self, Arch};
use crate::network;
use crate::settings::Settings;
use crate::tags;
use crate::template::{self, Place, VmTemplate, parameter};
use crate::user_data::HiddenUserData;

/// A VM in AWS, worked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Design {
    /// The region.
    pub region: String,
    /// The instance's type.
    pub instance_type: String,
    /// What its processor runs.
    pub arch: Arch,
    /// Its image.
    pub ami: Ami,
}

/// The name of a VM's stack.
pub fn stack_name(machine: &Machine) -> String {
    format!("goloo-{}", machine.name)
}

impl Design {
    /// Of a machine.
    pub fn of(machine: &Machine, settings: &Settings) -> Result<Self, ProviderError> {
        if stack_name(machine) == network::SHARED {
            return Err(ProviderError::Unsupported {
                what: format!("in AWS the name {} belongs to the network that VMs share", machine.name),
                hint: "take another name with --as".to_owned(),
            });
        }
        let stack = &machine.stack;
        let instance_type = instance_types::choose(stack)?;
        let arch = Arch::of(&instance_type);
        Ok(Self {
            region: stack.region.clone().unwrap_or_else(|| settings.region.clone()),
            ami: ami::choose(stack, arch)?,
            instance_type,
            arch,
        })
    }

    /// The plan. What only AWS can tell (the subnet, an AMI's root device) is left open in it.
    pub fn plan(&self, machine: &Machine) -> Result<ProviderPlan, ProviderError> {
        let stack = &machine.stack;
        let root_device = match &self.ami {
            Ami::Newest { root_device, .. } => root_device,
            Ami::Given(_) => "(as the AMI says)",
        };
        let template = VmTemplate {
            machine,
            ami: &self.ami,
            root_device,
            instance_type: &self.instance_type,
            ssh_cidr: &stack.ssh_cidr.iter().map(planned_block).collect::<Vec<_>>(),
            place: Place::Subnet { public: true },
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
            Ami::Newest { os, .. } => format!("the newest public AMI of {os}"),
            Ami::Given(id) => id.clone(),
        };
        steps.push(format!(
            "make the CloudFormation stack {} with a {instance_type} ({arch}){spot} from {image} and an encrypted disk of {}",
            stack_name(machine), stack.disk
        ));
        if let Some(profile) = &stack.iam_instance_profile {
            steps.push(format!("give it the instance profile {profile}"));
        }
        let ports: Vec<String> = stack.ports.iter().map(|port| port.guest.to_string()).collect();
        let others =
            if ports.is_empty() { String::new() } else { format!(", and {} to everyone", ports.join(", ")) };
        let sources: Vec<String> = stack.ssh_cidr.iter().map(ToString::to_string).collect();
        steps.push(format!("open port 22 to {}{others}", sources.join(", ")));
        if let Some(seconds) = stack.ttl {
            steps.push(format!("let the instance end itself, disk and all, after {} minutes", seconds / 60));
        }
        if let Some(dns) = &stack.dns {
            let names: Vec<String> = crate::dns::names(dns).into_iter().map(|name| name.name).collect();
            steps.push(format!("let {} lead to it by Route 53", names.join(", ")));
        }
        steps
    }

    fn network_step(&self, machine: &Machine) -> String {
        let region = &self.region;
        match (&machine.stack.subnet_id, &machine.stack.vpc_id) {
            (Some(subnet), _) => format!("use the subnet {subnet} in {region}"),
            (None, Some(vpc)) => format!("find a public subnet of {vpc} in {region}"),
            (None, None) => format!(
                "find a public subnet of the default VPC in {region}; where there is none, use the shared network {}",
                network::SHARED
            ),
        }
    }
}

/// Names as the plan's template has them: the zone may have to be found.
fn planned_names(machine: &Machine) -> Vec<String> {
    let Some(dns) = &machine.stack.dns else { return Vec::new() };
    crate::dns::notes(dns, dns.zone_id.as_deref().unwrap_or("(the zone of the domain)"))
}

/// A block as the plan's template has it: this computer's address is asked for when the VM is made.
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
            "everyone may try to log in on port 22: \"ssh_cidr\": \"me\" opens it to this computer alone"
                .to_owned(),
        );
    }
    if stack.spot {
        warnings.push(
            "AWS may end a Spot Instance (vm.spot) at any time, disk and all, and it can't be stopped and started"
                .to_owned(),
        );
    }
    if !stack.mounts.is_empty() {
        warnings.push("vm.mounts is ignored in AWS: this machine's folders aren't there".to_owned());
    }
    warnings
}
