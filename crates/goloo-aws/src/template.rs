//! The CloudFormation templates, as pure values.

use std::collections::BTreeSet;

use goloo_core::provider::{Machine, ProviderError};
use serde_json::{Map, Value, json};

use crate::ami::{self, Ami};
use crate::instance_types;
use crate::tags::{self, Tags};
use crate::user_data::HiddenUserData;

/// What CloudFormation takes in one call, in bytes.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html>
const BODY_MAX: usize = 51_200;

/// A template has 200 outputs at most.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html>
const OUTPUT_NAMES_MAX: usize = 190;

/// The export of the shared network's VPC. The stack of every VM in it imports that, so CloudFormation doesn't
/// delete the network before them.
pub const EXPORTED_VPC: &str = "goloo-network-vpc";
/// The export of its first subnet, which stacks of earlier versions import.
const EXPORTED_SUBNET: &str = "goloo-network-subnet";

/// A subnet of the shared network, in a zone of its own.
#[derive(Debug)]
pub struct SharedSubnet {
    /// The output that has its id.
    pub output: &'static str,
    /// The parameter, and the output, that has its zone.
    pub zone: &'static str,
    /// The resources' names.
    subnet: &'static str,
    association: &'static str,
    /// Its addresses.
    block: &'static str,
}

/// All that a shared network can have. Networks of earlier versions have the first alone, and don't tell its zone.
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
    /// Into a subnet of the shared stack `goloo-network`.
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
            Ami::Given(_) => "AWS::EC2::Image::Id",
        };
        let mut parameters =
            json!({parameter::IMAGE: {"Type": image_type, "Default": self.ami.parameter_value()}});
        parameters[parameter::SUBNET] = json!({"Type": "AWS::EC2::Subnet::Id"});
        if let Place::Subnet { .. } = self.place {
            parameters[parameter::VPC] = json!({"Type": "AWS::EC2::VPC::Id"});
        }
        for (key, declaration) in self.user_data().declarations() {
            parameters[key] = declaration;
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
        // A Spot Instance of a one-time request can't be stopped, from within either.
        if stack.ttl.is_some() || stack.spot {
            properties["InstanceInitiatedShutdownBehavior"] = json!("terminate");
        }
        if stack.spot {
            let version = json!({"Fn::GetAtt": ["LaunchTemplate", "LatestVersionNumber"]});
            properties["LaunchTemplate"] =
                json!({"LaunchTemplateId": {"Ref": "LaunchTemplate"}, "Version": version});
        }
        if let Some(profile) = &stack.iam_instance_profile {
            properties["IamInstanceProfile"] = json!(profile);
        }
        // T3 and later are unlimited otherwise: load beyond their baseline costs without an end.
        if instance_types::is_burstable(self.instance_type) {
            properties["CreditSpecification"] = json!({"CPUCredits": "standard"});
        }
        json!({"Type": "AWS::EC2::Instance", "Properties": properties})
    }

    /// Version 2 alone: version 1 gives credentials to whatever makes the guest fetch an address. An answer gets
    /// one hop further, into containers of the guest, only where it has a role's credentials to give them; the
    /// user-data, which is there too, has the machine's private host key in it.
    fn metadata_options(&self) -> Value {
        let hops = if self.machine.stack.iam_instance_profile.is_some() { 2 } else { 1 };
        json!({"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": hops})
    }

    /// What makes the instance a Spot Instance: a property that only launch templates have. The request is a
    /// one-time one, since EC2 makes a new instance for a persistent one whenever its instance ends, which no
    /// stack and no record would know.
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
        // What is imported is the shared network's to tell.
        if let Place::Subnet { .. } = self.place {
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

/// The stack that VMs share where a region has no default VPC: a VPC with so many public subnets, three at most,
/// in the zones that its parameters name.
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
            hint: "declare fewer ports".to_owned(),
        }),
    }
}
