//! The CloudFormation templates, as pure values.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use goloo_core::provider::{Machine, ProviderError};
use serde_json::{Map, Value, json};

use crate::ami::Ami;
use crate::tags::{self, Tags};

/// What CloudFormation takes in one call, in bytes.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html>
const BODY_MAX: usize = 51_200;

/// A template has 200 outputs at most.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html>
const OUTPUT_NAMES_MAX: usize = 190;

/// The exports of the shared network's stack, which VM stacks import.
const EXPORTED_VPC: &str = "goloo-network-vpc";
/// The export that tells whether the network is used.
pub const EXPORTED_SUBNET: &str = "goloo-network-subnet";

/// Outputs of a VM's stack; the last two are also the shared network's.
pub mod output {
    /// The instance's id.
    pub const INSTANCE: &str = "InstanceId";
    /// The address where the instance is reached.
    pub const ADDRESS: &str = "Address";
    /// The security group's id.
    pub const SECURITY_GROUP: &str = "SecurityGroupId";
    /// The AMI's id, looked up.
    pub const IMAGE: &str = "ImageId";
    /// The subnet's id.
    pub const SUBNET: &str = "SubnetId";
    /// The VPC's id.
    pub const VPC: &str = "VpcId";

    /// The DNS name of this number, from 1, as records note it: zone, type and name. So a VM whose record was
    /// lost has its names again with its record.
    pub fn name(number: usize) -> String {
        format!("Name{number}")
    }
}

/// Parameters of a VM's stack.
pub mod parameter {
    /// An AMI's id, or the public SSM parameter that holds it.
    pub const IMAGE: &str = "ImageId";
    /// Where the instance is put.
    pub const SUBNET: &str = "SubnetId";
    /// Where the security group is put.
    pub const VPC: &str = "VpcId";
}

/// Where an instance is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Into a subnet that is there, with a public address or without.
    Subnet {
        /// Whether the internet leads there.
        public: bool,
    },
    /// Into the subnet of the shared stack `goloo-network`.
    SharedNetwork,
}

/// All that a VM's template is made from.
#[derive(Debug, Clone, Copy)]
pub struct VmTemplate<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// Its image.
    pub ami: &'a Ami,
    /// What the image's root volume is called.
    pub root_device: &'a str,
    /// Its instance type.
    pub instance_type: &'a str,
    /// Who may reach port 22: CIDR blocks.
    pub ssh_cidr: &'a [String],
    /// Where it is put.
    pub place: Place,
    /// The DNS names that it is going to have, as records note them.
    pub names: &'a [String],
}

impl VmTemplate<'_> {
    /// The template.
    pub fn value(&self) -> Value {
        json!({
            "AWSTemplateFormatVersion": "2010-09-09",
            "Description": format!("The VM {}, made by goloo", self.machine.name),
            "Parameters": self.parameters(),
            "Resources": {
                "SecurityGroup": self.security_group(),
                "Instance": self.instance(),
            },
            "Outputs": self.outputs(),
        })
    }

    fn parameters(&self) -> Value {
        let image_type = match self.ami {
            Ami::Newest { .. } => "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>",
            Ami::Given(_) => "AWS::EC2::Image::Id",
        };
        let mut parameters =
            json!({parameter::IMAGE: {"Type": image_type, "Default": self.ami.parameter_value()}});
        if let Place::Subnet { .. } = self.place {
            parameters[parameter::SUBNET] = json!({"Type": "AWS::EC2::Subnet::Id"});
            parameters[parameter::VPC] = json!({"Type": "AWS::EC2::VPC::Id"});
        }
        parameters
    }

    fn security_group(&self) -> Value {
        let machine = self.machine;
        let ports: BTreeSet<u16> = machine.stack.ports.iter().map(|port| port.guest).collect();
        let ssh = self.ssh_cidr.iter().map(|block| ingress(22, block, "SSH"));
        let declared = ports.into_iter().map(|port| ingress(port, "0.0.0.0/0", "vm.ports"));
        json!({
            "Type": "AWS::EC2::SecurityGroup",
            "Properties": {
                "GroupDescription": format!("SSH and the declared ports of the goloo VM {}", machine.name),
                "VpcId": self.vpc(),
                "SecurityGroupIngress": ssh.chain(declared).collect::<Value>(),
                "Tags": tags::in_template(&tags::of(machine)),
            },
        })
    }

    fn instance(&self) -> Value {
        let machine = self.machine;
        let mut properties = json!({
            "ImageId": {"Ref": parameter::IMAGE},
            "InstanceType": self.instance_type,
            "BlockDeviceMappings": [{
                "DeviceName": self.root_device,
                "Ebs": {
                    "VolumeType": "gp3",
                    "VolumeSize": machine.stack.disk.as_bytes().div_ceil(1 << 30),
                    "Encrypted": true,
                    "DeleteOnTermination": true,
                },
            }],
            // Version 2 alone: version 1 gives credentials to whatever makes the guest fetch an address.
            "MetadataOptions": {"HttpEndpoint": "enabled", "HttpTokens": "required"},
            "NetworkInterfaces": [{
                "DeviceIndex": "0",
                "SubnetId": self.subnet(),
                "GroupSet": [{"Fn::GetAtt": ["SecurityGroup", "GroupId"]}],
                "AssociatePublicIpAddress": self.is_public(),
                "DeleteOnTermination": true,
            }],
            "PropagateTagsToVolumeOnCreation": true,
            "UserData": STANDARD.encode(&machine.user_data),
            "Tags": tags::in_template(&tags::of(machine)),
        });
        if machine.stack.ttl.is_some() {
            properties["InstanceInitiatedShutdownBehavior"] = json!("terminate");
        }
        json!({"Type": "AWS::EC2::Instance", "Properties": properties})
    }

    fn outputs(&self) -> Value {
        let address = if self.is_public() { "PublicIp" } else { "PrivateIp" };
        let mut outputs = json!({
            output::INSTANCE: {"Value": {"Ref": "Instance"}},
            output::ADDRESS: {"Value": {"Fn::GetAtt": ["Instance", address]}},
            output::SECURITY_GROUP: {"Value": {"Fn::GetAtt": ["SecurityGroup", "GroupId"]}},
            output::IMAGE: {"Value": {"Ref": parameter::IMAGE}},
        });
        // What is imported is the shared network's to tell.
        if let Place::Subnet { .. } = self.place {
            outputs[output::SUBNET] = json!({"Value": self.subnet()});
            outputs[output::VPC] = json!({"Value": self.vpc()});
        }
        for (number, name) in (1..=OUTPUT_NAMES_MAX).zip(self.names) {
            outputs[output::name(number)] = json!({"Value": name});
        }
        outputs
    }

    fn is_public(&self) -> bool {
        !matches!(self.place, Place::Subnet { public: false })
    }

    fn subnet(&self) -> Value {
        match self.place {
            Place::Subnet { .. } => json!({"Ref": parameter::SUBNET}),
            Place::SharedNetwork => json!({"Fn::ImportValue": EXPORTED_SUBNET}),
        }
    }

    fn vpc(&self) -> Value {
        match self.place {
            Place::Subnet { .. } => json!({"Ref": parameter::VPC}),
            Place::SharedNetwork => json!({"Fn::ImportValue": EXPORTED_VPC}),
        }
    }
}

fn ingress(port: u16, cidr: &str, description: &str) -> Value {
    let family = if cidr.contains(':') { "CidrIpv6" } else { "CidrIp" };
    json!({
        "IpProtocol": "tcp", "FromPort": port, "ToPort": port, family: cidr, "Description": description,
    })
}

/// The stack that VMs share where a region has no default VPC: a VPC with one public subnet.
pub fn network(name: &str, tags: &Tags) -> Value {
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
    let first_zone = json!({"Fn::Select": [0, {"Fn::GetAZs": ""}]});
    let subnet = json!({
        "VpcId": vpc(), "CidrBlock": "10.83.0.0/20", "AvailabilityZone": first_zone,
        "MapPublicIpOnLaunch": true,
    });
    add("Subnet", resource("Subnet", subnet, true));
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
    let association = json!({"SubnetId": {"Ref": "Subnet"}, "RouteTableId": {"Ref": "RouteTable"}});
    add("Association", resource("SubnetRouteTableAssociation", association, false));
    json!({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": format!("The network that goloo's VMs share ({name})"),
        "Resources": resources,
        "Outputs": {
            output::VPC: {"Value": vpc(), "Export": {"Name": EXPORTED_VPC}},
            output::SUBNET: {"Value": {"Ref": "Subnet"}, "Export": {"Name": EXPORTED_SUBNET}},
        },
    })
}

/// The template as CloudFormation gets it; an error where it is too long.
pub fn body(template: &Value) -> Result<String, ProviderError> {
    let body = template.to_string();
    match body.len().checked_sub(BODY_MAX + 1) {
        None => Ok(body),
        Some(over) => Err(ProviderError::Unsupported {
            what: format!(
                "the CloudFormation template has {} bytes more than the {BODY_MAX} that AWS takes",
                over + 1
            ),
            hint: "declare fewer ports, or let the machine fetch what its cloud-init.yaml holds".to_owned(),
        }),
    }
}
