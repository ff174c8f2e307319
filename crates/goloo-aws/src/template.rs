//! The CloudFormation templates, built without side effects.

use std::collections::BTreeSet;

use goloo_model::provider::{Machine, ProviderError};
use goloo_model::spec::{PortForward, PortRange, Protocol};
use serde_json::{Map, Value, json};

use crate::ami::{self, Ami};
use crate::instance_types;
use crate::tags::{self, Tags};
use crate::user_data::HiddenUserData;

/// CloudFormation's limit on an inline template, in bytes.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html>
const BODY_MAX: usize = 51_200;

/// How many outputs may be names: a template can have at most 200 outputs.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html>
const OUTPUT_NAMES_MAX: usize = 190;

/// The export of the shared network's VPC. Every VM's stack in the network imports it, so CloudFormation doesn't delete
/// the network while such stacks exist.
pub const EXPORTED_VPC: &str = "goloo-network-vpc";
/// The export of the network's first subnet, imported by stacks of earlier versions.
const EXPORTED_SUBNET: &str = "goloo-network-subnet";

/// A subnet of the shared network, in its own availability zone.
#[derive(Debug)]
pub struct SharedSubnet {
    /// The output with the subnet's id.
    pub output: &'static str,
    /// The name of the parameter and output with its zone.
    pub zone: &'static str,
    /// The logical names of its resources.
    subnet: &'static str,
    association: &'static str,
    /// Its CIDR block.
    block: &'static str,
}

/// All subnets a shared network can have. Networks of earlier versions have only the first and don't export its zone.
pub const SHARED_SUBNETS: [SharedSubnet; 3] = [
    SharedSubnet {
        output: output::SUBNET,
        zone: "Zone",
        subnet: "Subnet",
        association: "Association",
        block: "10.83.0.0/20",
    },
    SharedSubnet {
        output: "SubnetId2",
        zone: "Zone2",
        subnet: "Subnet2",
        association: "Association2",
        block: "10.83.16.0/20",
    },
    SharedSubnet {
        output: "SubnetId3",
        zone: "Zone3",
        subnet: "Subnet3",
        association: "Association3",
        block: "10.83.32.0/20",
    },
];

/// Outputs of a VM's stack; the last two are also the shared network's.
pub mod output {
    /// The instance's id.
    pub const INSTANCE: &str = "InstanceId";
    /// The address at which the instance is reachable.
    pub const ADDRESS: &str = "Address";
    /// The security group's id.
    pub const SECURITY_GROUP: &str = "SecurityGroupId";
    /// The id of the AMI in use.
    pub const IMAGE: &str = "ImageId";
    /// The subnet's id.
    pub const SUBNET: &str = "SubnetId";
    /// The VPC's id.
    pub const VPC: &str = "VpcId";

    /// The output for the DNS name with this number, starting at 1, in the form used in records: zone, type and name.
    /// With it, the names can be restored for a VM whose record was lost.
    pub fn name(number: usize) -> String {
        format!("Name{number}")
    }

    /// Whether this is the output for a DNS name.
    pub(crate) fn is_name(key: &str) -> bool {
        key.strip_prefix("Name").is_some_and(|number| number.parse::<usize>().is_ok())
    }
}

/// Parameters of a VM's stack.
pub mod parameter {
    /// An AMI id, or the public SSM parameter that contains it.
    pub const IMAGE: &str = "ImageId";
    /// The subnet of the instance.
    pub const SUBNET: &str = "SubnetId";
    /// The VPC of the security group.
    pub const VPC: &str = "VpcId";
}

/// Where an instance is placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// In an existing subnet, with or without a public address.
    Subnet {
        /// Whether it is reachable from the internet.
        public: bool,
    },
    /// In a subnet of the shared stack `goloo-network`.
    SharedNetwork,
}

/// The inputs of a VM's template.
#[derive(Debug, Clone, Copy)]
pub struct VmTemplate<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// Its image.
    pub ami: &'a Ami,
    /// The device name of the image's root volume.
    pub root_device: &'a str,
    /// Its instance type.
    pub instance_type: &'a str,
    /// The CIDR blocks that may reach port 22.
    pub ssh_cidr: &'a [String],
    /// Where it is placed.
    pub place: Placement,
    /// The DNS names it will have, in the form used in records.
    pub names: &'a [String],
}

impl VmTemplate<'_> {
    /// Builds the template.
    pub fn value(&self) -> Value {
        json!({
            "AWSTemplateFormatVersion": "2010-09-09",
            "Description": format!("The VM {}, created by goloo", self.machine.name),
            "Parameters": self.parameters(),
            "Resources": self.resources(),
            "Outputs": self.outputs(),
        })
    }

    fn resources(&self) -> Value {
        let mut resources = json!({"SecurityGroup": self.security_group(), "Instance": self.instance()});
        if self.machine.stack.spot {
            resources["LaunchTemplate"] = self.spot_market();
        }
        resources
    }

    fn user_data(&self) -> HiddenUserData {
        HiddenUserData::of(&self.machine.user_data)
    }

    fn parameters(&self) -> Value {
        let image_type = match self.ami {
            Ami::Newest { .. } => "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>",
            Ami::Published { .. } | Ami::Given(_) => "AWS::EC2::Image::Id",
        };
        let mut parameters =
            json!({parameter::IMAGE: {"Type": image_type, "Default": self.ami.parameter_value()}});
        parameters[parameter::SUBNET] = json!({"Type": "AWS::EC2::Subnet::Id"});
        if let Placement::Subnet { .. } = self.place {
            parameters[parameter::VPC] = json!({"Type": "AWS::EC2::VPC::Id"});
        }
        for (key, declaration) in self.user_data().declarations() {
            parameters[key] = declaration;
        }
        parameters
    }

    fn security_group(&self) -> Value {
        let machine = self.machine;
        let rules = [ssh_rules(self.ssh_cidr), port_rules(&machine.stack.ports)].concat();
        json!({
            "Type": "AWS::EC2::SecurityGroup",
            "Properties": {
                "GroupDescription": format!("SSH and the declared ports of the goloo VM {}", machine.name),
                "VpcId": self.vpc(),
                "SecurityGroupIngress": rules,
                "Tags": tags::in_template(&tags::of(machine)),
            },
        })
    }

    fn instance(&self) -> Value {
        let (machine, stack) = (self.machine, &self.machine.stack);
        let mut properties = json!({
            "ImageId": {"Ref": parameter::IMAGE},
            "InstanceType": self.instance_type,
            "BlockDeviceMappings": [{
                "DeviceName": self.root_device,
                "Ebs": {
                    "VolumeType": "gp3",
                    "VolumeSize": ami::volume_gib(stack.disk),
                    "Encrypted": true,
                    "DeleteOnTermination": true,
                },
            }],
            "MetadataOptions": self.metadata_options(),
            "NetworkInterfaces": [{
                "DeviceIndex": "0",
                "SubnetId": {"Ref": parameter::SUBNET},
                "GroupSet": [{"Fn::GetAtt": ["SecurityGroup", "GroupId"]}],
                "AssociatePublicIpAddress": self.is_public(),
                "DeleteOnTermination": true,
            }],
            "PropagateTagsToVolumeOnCreation": true,
            "UserData": self.user_data().joined(),
            "Tags": tags::in_template(&tags::of(machine)),
        });
        // A Spot Instance with a one-time request can't be stopped, not even from within.
        if let Some((key, value)) = on_shutdown(stack.ttl.is_some() || stack.spot) {
            properties[key] = value;
        }
        if stack.spot {
            let version = json!({"Fn::GetAtt": ["LaunchTemplate", "LatestVersionNumber"]});
            properties["LaunchTemplate"] =
                json!({"LaunchTemplateId": {"Ref": "LaunchTemplate"}, "Version": version});
        }
        if let Some(profile) = &stack.iam_instance_profile {
            properties["IamInstanceProfile"] = json!(profile);
        }
        if let Some(credits) = credit_specification(self.instance_type) {
            properties["CreditSpecification"] = credits;
        }
        json!({"Type": "AWS::EC2::Instance", "Properties": properties})
    }

    /// Requires IMDSv2: version 1 gives credentials to anything that makes the guest fetch a URL. The hop limit allows
    /// access from containers in the guest only if there are role credentials for them; the user-data served there
    /// contains the machine's private host key.
    fn metadata_options(&self) -> Value {
        let hops = if self.machine.stack.iam_instance_profile.is_some() { 2 } else { 1 };
        json!({"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": hops})
    }

    /// Makes the instance a Spot Instance, which requires a property only launch templates have. The request is
    /// one-time: for a persistent one EC2 creates a new instance whenever its instance is terminated, and no stack or
    /// record would know it.
    fn spot_market(&self) -> Value {
        let options = json!({"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"});
        let market = json!({"MarketType": "spot", "SpotOptions": options});
        let tags = tags::in_template(&tags::of(self.machine));
        json!({
            "Type": "AWS::EC2::LaunchTemplate",
            "Properties": {
                "LaunchTemplateData": {"InstanceMarketOptions": market},
                "TagSpecifications": [{"ResourceType": "launch-template", "Tags": tags}],
            },
        })
    }

    fn outputs(&self) -> Value {
        let address = if self.is_public() { "PublicIp" } else { "PrivateIp" };
        let mut outputs = json!({
            output::INSTANCE: {"Value": {"Ref": "Instance"}},
            output::ADDRESS: {"Value": {"Fn::GetAtt": ["Instance", address]}},
            output::SECURITY_GROUP: {"Value": {"Fn::GetAtt": ["SecurityGroup", "GroupId"]}},
            output::IMAGE: {"Value": {"Ref": parameter::IMAGE}},
            output::SUBNET: {"Value": {"Ref": parameter::SUBNET}},
        });
        // The shared network exports the imported values itself.
        if let Placement::Subnet { .. } = self.place {
            outputs[output::VPC] = json!({"Value": self.vpc()});
        }
        for (key, value) in name_outputs(self.names) {
            outputs[key] = value;
        }
        outputs
    }

    fn is_public(&self) -> bool {
        !matches!(self.place, Placement::Subnet { public: false })
    }

    fn vpc(&self) -> Value {
        match self.place {
            Placement::Subnet { .. } => json!({"Ref": parameter::VPC}),
            Placement::SharedNetwork => json!({"Fn::ImportValue": EXPORTED_VPC}),
        }
    }
}

/// The outputs for DNS names in the form used in records.
pub(crate) fn name_outputs(names: &[String]) -> impl Iterator<Item = (String, Value)> {
    (1..=OUTPUT_NAMES_MAX).zip(names).map(|(number, name)| (output::name(number), json!({"Value": name})))
}

/// The descriptions of a security group's rules, by which an update tells them apart.
pub(crate) mod rule {
    /// Of port 22.
    pub const SSH: &str = "SSH";
    /// Of a declared port.
    pub const PORT: &str = "vm.ports";
}

/// The rules that let these CIDR blocks reach port 22.
pub(crate) fn ssh_rules(blocks: &[String]) -> Vec<Value> {
    blocks.iter().map(|block| ingress(PortRange::SSH, Protocol::Tcp, block, rule::SSH)).collect()
}

/// The rules that open these ports to everyone.
pub(crate) fn port_rules(ports: &[PortForward]) -> Vec<Value> {
    // EC2 refuses two rules that are the same.
    let ports: BTreeSet<_> = ports.iter().map(|port| (port.guest(), port.protocol())).collect();
    ports.into_iter().map(|(ports, protocol)| ingress(ports, protocol, "0.0.0.0/0", rule::PORT)).collect()
}

/// The property of an instance that says what a shutdown from within does.
pub const SHUTDOWN: &str = "InstanceInitiatedShutdownBehavior";

/// That property. Without it, a shutdown stops the instance.
pub fn on_shutdown(terminates: bool) -> Option<(String, Value)> {
    terminates.then(|| (SHUTDOWN.to_owned(), json!("terminate")))
}

/// Of a burstable type: T3 and later default to unlimited mode, in which load above the baseline costs without limit.
pub(crate) fn credit_specification(instance_type: &str) -> Option<Value> {
    instance_types::is_burstable(instance_type).then(|| json!({"CPUCredits": "standard"}))
}

fn ingress(ports: PortRange, protocol: Protocol, cidr: &str, description: &str) -> Value {
    let family = if cidr.contains(':') { "CidrIpv6" } else { "CidrIp" };
    json!({
        "IpProtocol": protocol.as_str(), "FromPort": ports.first(), "ToPort": ports.last(), family: cidr,
        "Description": description,
    })
}

/// The stack shared by VMs in a region without a default VPC: a VPC with up to three public subnets in the zones given
/// by its parameters.
pub fn network(name: &str, tags: &Tags, subnets: usize) -> Value {
    let tags = tags::in_template(tags);
    let resource = |kind: &str, properties: Value, tagged: bool| {
        let mut properties = properties;
        if tagged {
            properties["Tags"] = tags.clone();
        }
        json!({"Type": format!("AWS::EC2::{kind}"), "Properties": properties})
    };
    let vpc = || json!({"Ref": "Vpc"});
    let mut resources = Map::new();
    let mut add = |name: &str, value: Value| resources.insert(name.to_owned(), value);
    let block = json!({"CidrBlock": "10.83.0.0/16", "EnableDnsSupport": true, "EnableDnsHostnames": true});
    add("Vpc", resource("VPC", block, true));
    add("Gateway", resource("InternetGateway", json!({}), true));
    let attachment = json!({"VpcId": vpc(), "InternetGatewayId": {"Ref": "Gateway"}});
    add("Attachment", resource("VPCGatewayAttachment", attachment, false));
    add("RouteTable", resource("RouteTable", json!({"VpcId": vpc()}), true));
    let mut route = resource(
        "Route",
        json!({
            "RouteTableId": {"Ref": "RouteTable"}, "DestinationCidrBlock": "0.0.0.0/0",
            "GatewayId": {"Ref": "Gateway"},
        }),
        false,
    );
    route["DependsOn"] = json!("Attachment");
    add("Route", route);
    let mut parameters = Map::new();
    let mut outputs = Map::new();
    outputs.insert(output::VPC.to_owned(), json!({"Value": vpc(), "Export": {"Name": EXPORTED_VPC}}));
    for shared in SHARED_SUBNETS.iter().take(subnets) {
        let zone = json!({"Ref": shared.zone});
        let subnet = json!({
            "VpcId": vpc(), "CidrBlock": shared.block, "AvailabilityZone": zone, "MapPublicIpOnLaunch": true,
        });
        add(shared.subnet, resource("Subnet", subnet, true));
        let id = json!({"Ref": shared.subnet});
        let association = json!({"SubnetId": id, "RouteTableId": {"Ref": "RouteTable"}});
        add(shared.association, resource("SubnetRouteTableAssociation", association, false));
        parameters.insert(shared.zone.to_owned(), json!({"Type": "AWS::EC2::AvailabilityZone::Name"}));
        let mut output = json!({"Value": id});
        if shared.output == output::SUBNET {
            output["Export"] = json!({"Name": EXPORTED_SUBNET});
        }
        outputs.insert(shared.output.to_owned(), output);
        outputs.insert(shared.zone.to_owned(), json!({"Value": zone}));
    }
    json!({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": format!("The network that goloo's VMs share ({name})"),
        "Parameters": parameters,
        "Resources": resources,
        "Outputs": outputs,
    })
}

/// Serializes the template for CloudFormation; an error if it is too long.
pub fn body(template: &Value) -> Result<String, ProviderError> {
    let body = template.to_string();
    match body.len().checked_sub(BODY_MAX + 1) {
        None => Ok(body),
        Some(over) => Err(ProviderError::Unsupported {
            what: format!(
                "the CloudFormation template is {} bytes larger than the {BODY_MAX} that AWS allows",
                over + 1
            ),
            hint: "declare fewer ports".into(),
        }),
    }
}
