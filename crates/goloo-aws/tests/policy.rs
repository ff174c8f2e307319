//! The part of docs/aws.md's policy that CloudFormation needs to make what the templates hold, against the
//! table below. The table is by hand and no emulator checks it: what fails here is a template and a policy
//! that drift apart, not what AWS really asks for.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;

use common::variants;
use serde_json::Value;

/// A resource type: what making, watching and removing it takes, and each of its properties with what that
/// takes beyond it.
type Needs = (&'static str, &'static [&'static str], &'static [(&'static str, &'static [&'static str])]);

const TAGS: (&str, &[&str]) = ("Tags", &["CreateTags", "DeleteTags"]);

const NEEDS: [Needs; 10] = [
    (
        "SecurityGroup",
        &[
            "CreateSecurityGroup",
            "DeleteSecurityGroup",
            "DescribeSecurityGroups",
            // The rule that lets everything out, which every new group has.
            "AuthorizeSecurityGroupEgress",
            "RevokeSecurityGroupEgress",
        ],
        &[
            ("GroupDescription", &[]),
            ("VpcId", &["DescribeVpcs"]),
            ("SecurityGroupIngress", &["AuthorizeSecurityGroupIngress", "RevokeSecurityGroupIngress"]),
            TAGS,
        ],
    ),
    (
        "Instance",
        &["RunInstances", "DescribeInstances", "TerminateInstances"],
        &[
            ("ImageId", &["DescribeImages"]),
            ("InstanceType", &[]),
            ("BlockDeviceMappings", &["DescribeVolumes"]),
            ("MetadataOptions", &[]),
            ("CreditSpecification", &["DescribeInstanceCreditSpecifications"]),
            ("IamInstanceProfile", &["iam:PassRole", "DescribeIamInstanceProfileAssociations"]),
            ("LaunchTemplate", &["DescribeLaunchTemplates"]),
            ("NetworkInterfaces", &["DescribeSubnets", "DescribeSecurityGroups"]),
            ("PropagateTagsToVolumeOnCreation", &["CreateTags"]),
            ("UserData", &["DescribeInstanceAttribute"]),
            ("InstanceInitiatedShutdownBehavior", &["DescribeInstanceAttribute"]),
            TAGS,
        ],
    ),
    (
        "LaunchTemplate",
        &[
            "CreateLaunchTemplate",
            "DeleteLaunchTemplate",
            "DescribeLaunchTemplates",
            "DescribeLaunchTemplateVersions",
        ],
        &[("LaunchTemplateData", &[]), ("TagSpecifications", &["CreateTags"])],
    ),
    (
        "VPC",
        &["CreateVpc", "DeleteVpc", "DescribeVpcs"],
        &[
            ("CidrBlock", &[]),
            ("EnableDnsSupport", &["ModifyVpcAttribute", "DescribeVpcAttribute"]),
            ("EnableDnsHostnames", &["ModifyVpcAttribute", "DescribeVpcAttribute"]),
            TAGS,
        ],
    ),
    (
        "Subnet",
        &["CreateSubnet", "DeleteSubnet", "DescribeSubnets"],
        &[
            ("VpcId", &[]),
            ("CidrBlock", &[]),
            ("AvailabilityZone", &["DescribeAvailabilityZones"]),
            ("MapPublicIpOnLaunch", &["ModifySubnetAttribute"]),
            TAGS,
        ],
    ),
    (
        "InternetGateway",
        &["CreateInternetGateway", "DeleteInternetGateway", "DescribeInternetGateways"],
        &[TAGS],
    ),
    (
        "VPCGatewayAttachment",
        &["AttachInternetGateway", "DetachInternetGateway"],
        &[("VpcId", &[]), ("InternetGatewayId", &[])],
    ),
    ("RouteTable", &["CreateRouteTable", "DeleteRouteTable", "DescribeRouteTables"], &[("VpcId", &[]), TAGS]),
    (
        "Route",
        &["CreateRoute", "DeleteRoute"],
        &[("RouteTableId", &[]), ("DestinationCidrBlock", &[]), ("GatewayId", &[])],
    ),
    (
        "SubnetRouteTableAssociation",
        &["AssociateRouteTable", "DisassociateRouteTable"],
        &[("SubnetId", &[]), ("RouteTableId", &[])],
    ),
];

/// What one resource of a template takes.
fn needed(resource: &Value) -> Vec<String> {
    let kind = resource["Type"].as_str().unwrap();
    let known = NEEDS.iter().find(|(name, ..)| kind == format!("AWS::EC2::{name}"));
    let (_, own, properties) = known.unwrap_or_else(|| panic!("{kind} isn't in the table"));
    let used = resource["Properties"].as_object().unwrap().keys().flat_map(|key| {
        let known = properties.iter().find(|(name, _)| name == key);
        known.unwrap_or_else(|| panic!("{key} of {kind} isn't in the table")).1
    });
    let named =
        |action: &&str| if action.contains(':') { (*action).to_owned() } else { format!("ec2:{action}") };
    own.iter().chain(used).map(named).collect()
}

/// What one template takes, with its parameters' types.
fn needed_by(template: &Value) -> Vec<String> {
    let resources = template["Resources"].as_object().unwrap().values();
    let mut actions: Vec<String> = resources.flat_map(needed).collect();
    if template["Parameters"].to_string().contains("AWS::SSM::Parameter::Value") {
        actions.push("ssm:GetParameters".to_owned());
    }
    actions
}

fn allowed(part: usize) -> BTreeSet<String> {
    let page = include_str!("../../../docs/aws.md");
    let (_, after) = page.split_once("```json\n").unwrap();
    let policy: Value = serde_json::from_str(after.split("```").next().unwrap()).unwrap();
    let actions = policy["Statement"][part]["Action"].as_array().unwrap().iter();
    actions.map(|action| action.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_policy_allows_what_each_resource_and_property_of_the_templates_takes_and_nothing_else() {
    let needed: BTreeSet<String> = variants().iter().flat_map(|(_, template)| needed_by(template)).collect();
    // What goloo calls itself stands in the first part alone.
    let beyond: BTreeSet<String> = needed.difference(&allowed(0)).cloned().collect();
    assert_eq!(beyond, allowed(1));
}
