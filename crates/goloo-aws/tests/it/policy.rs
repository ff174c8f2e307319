//! Checks the part of docs/aws.md's policy that CloudFormation needs to create and update the templates' resources against the
//! table below, which `scripts/check-policy` compares with AWS's own schemas if they are available. A failure means
//! that templates and policy have diverged.

use std::collections::BTreeSet;

use crate::common::variants;
use serde_json::Value;

/// A resource type: the actions needed to create, watch and remove it, and for each of its properties the additional
/// actions, also those to change the ones that goloo changes.
type Needs = (&'static str, &'static [&'static str], &'static [(&'static str, &'static [&'static str])]);

const TAGS: (&str, &[&str]) = ("Tags", &["CreateTags", "DeleteTags"]);

const NEEDS: [Needs; 10] = [
    (
        "SecurityGroup",
        &[
            "CreateSecurityGroup",
            "DeleteSecurityGroup",
            "DescribeSecurityGroups",
            // The rule that allows all outgoing traffic, which every new group has.
            "AuthorizeSecurityGroupEgress",
            "RevokeSecurityGroupEgress",
        ],
        &[
            ("GroupDescription", &[]),
            ("VpcId", &["DescribeVpcs"]),
            (
                "SecurityGroupIngress",
                &[
                    "AuthorizeSecurityGroupIngress",
                    "RevokeSecurityGroupIngress",
                    "UpdateSecurityGroupRuleDescriptionsIngress",
                ],
            ),
            TAGS,
        ],
    ),
    (
        "Instance",
        &[
            "RunInstances",
            "TerminateInstances",
            // Read by its handlers regardless of the properties.
            "DescribeIamInstanceProfileAssociations",
            "DescribeInstanceAttribute",
            "DescribeInstanceCreditSpecifications",
            "DescribeInstances",
            "DescribeKeyPairs",
            "DescribeLaunchTemplateVersions",
            "DescribeLaunchTemplates",
            "DescribeNetworkInterfaces",
            "DescribeVolumes",
            "ssm:DescribeAssociation",
            "ssm:ListAssociations",
        ],
        &[
            ("CreditSpecification", &["ModifyInstanceCreditSpecification"]),
            (
                "IamInstanceProfile",
                &[
                    "AssociateIamInstanceProfile",
                    "DisassociateIamInstanceProfile",
                    "ReplaceIamInstanceProfileAssociation",
                    "iam:PassRole",
                ],
            ),
            ("ImageId", &["DescribeImages"]),
            ("InstanceType", &["ModifyInstanceAttribute", "StartInstances", "StopInstances"]),
            ("BlockDeviceMappings", &[]),
            ("MetadataOptions", &[]),
            ("LaunchTemplate", &["DescribeLaunchTemplates"]),
            ("NetworkInterfaces", &["DescribeSubnets", "DescribeSecurityGroups"]),
            ("PropagateTagsToVolumeOnCreation", &["CreateTags"]),
            ("UserData", &[]),
            ("InstanceInitiatedShutdownBehavior", &[]),
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
        &[
            "CreateVpc",
            "DeleteVpc",
            "DescribeNetworkAcls",
            "DescribeSecurityGroups",
            "DescribeVpcAttribute",
            "DescribeVpcEncryptionControls",
            "DescribeVpcs",
        ],
        &[
            ("CidrBlock", &[]),
            ("EnableDnsSupport", &["ModifyVpcAttribute"]),
            ("EnableDnsHostnames", &["ModifyVpcAttribute"]),
            TAGS,
        ],
    ),
    (
        "Subnet",
        &["CreateSubnet", "DeleteSubnet", "DescribeNetworkAcls", "DescribeSubnets"],
        &[
            ("VpcId", &[]),
            ("CidrBlock", &[]),
            ("AvailabilityZone", &[]),
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
        &[
            "AttachInternetGateway",
            "DescribeInternetGateways",
            "DescribeVpnGateways",
            "DetachInternetGateway",
        ],
        &[("VpcId", &[]), ("InternetGatewayId", &[])],
    ),
    ("RouteTable", &["CreateRouteTable", "DeleteRouteTable", "DescribeRouteTables"], &[("VpcId", &[]), TAGS]),
    (
        "Route",
        &["CreateRoute", "DeleteRoute", "DescribeNetworkInterfaces", "DescribeRouteTables"],
        &[("RouteTableId", &[]), ("DestinationCidrBlock", &[]), ("GatewayId", &[])],
    ),
    (
        "SubnetRouteTableAssociation",
        &[
            "AssociateRouteTable",
            "DescribeRouteTables",
            "DescribeSubnets",
            "DisassociateRouteTable",
            "ReplaceRouteTableAssociation",
        ],
        &[("SubnetId", &[]), ("RouteTableId", &[])],
    ),
];

/// The actions one resource of a template needs.
fn needed(resource: &Value) -> Vec<String> {
    let kind = resource["Type"].as_str().unwrap();
    let known = NEEDS.iter().find(|(name, ..)| kind == format!("AWS::EC2::{name}"));
    let (_, own, properties) = known.unwrap_or_else(|| panic!("{kind} isn't in the table"));
    let used = resource["Properties"].as_object().unwrap().keys().flat_map(|key| {
        let known = properties.iter().find(|(name, _)| name == key);
        known.unwrap_or_else(|| panic!("{key} of {kind} isn't in the table")).1
    });
    let full = |action: &str| if action.contains(':') { action.to_owned() } else { format!("ec2:{action}") };
    own.iter().chain(used).map(|action| full(action)).collect()
}

/// The actions one template needs, including its parameters' types.
fn needed_by(template: &Value) -> Vec<String> {
    let resources = template["Resources"].as_object().unwrap().values();
    let mut actions: Vec<String> = resources.flat_map(needed).collect();
    if template["Parameters"].to_string().contains("AWS::SSM::Parameter::Value") {
        actions.push("ssm:GetParameters".to_owned());
    }
    // <https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/intrinsic-function-reference-getavailabilityzones.html>
    if template.to_string().contains("Fn::GetAZs") {
        let takes = ["DescribeAccountAttributes", "DescribeAvailabilityZones", "DescribeSubnets"];
        actions.extend(takes.map(|action| format!("ec2:{action}")));
    }
    actions
}

fn allowed(part: usize) -> BTreeSet<String> {
    let page = include_str!("../../../../docs/aws.md");
    let (_, after) = page.split_once("```json\n").unwrap();
    let policy: Value = serde_json::from_str(after.split("```").next().unwrap()).unwrap();
    let actions = policy["Statement"][part]["Action"].as_array().unwrap().iter();
    actions.map(|action| action.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_policy_allows_exactly_the_actions_that_the_templates_need() {
    let needed: BTreeSet<String> = variants().iter().flat_map(|(_, template)| needed_by(template)).collect();
    // goloo's own calls are listed only in the first part.
    let beyond: BTreeSet<String> = needed.difference(&allowed(0)).cloned().collect();
    assert_eq!(beyond, allowed(1));
}

/// A folder for a test's schemas, templates and policy.
struct Case(std::path::PathBuf);

impl Case {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("goloo-check-policy-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// The exit code and output of `scripts/check-policy`.
    fn check(&self, schemas: &str, policy: &str) -> (i32, String) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/check-policy");
        let (schemas, templates) = (self.0.join(schemas), self.0.join("templates"));
        let ran = std::process::Command::new(script)
            .arg(schemas)
            .args(["--policy", policy])
            .arg("--templates")
            .arg(templates)
            .output()
            .unwrap();
        (ran.status.code().unwrap(), String::from_utf8(ran.stdout).unwrap())
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn schema(kind: &str, handlers: &Value) -> String {
    serde_json::json!({"typeName": kind, "handlers": handlers}).to_string()
}

fn template(resources: &Value) -> String {
    format!("---\nsource: x\nexpression: \"---\"\n---\n{}", serde_json::json!({"Resources": resources}))
}

fn policy(actions: &[&str]) -> String {
    let statement = serde_json::json!({"Effect": "Allow", "Action": actions, "Resource": "*"});
    serde_json::json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()
}

#[test]
fn check_policy_reports_permissions_required_by_schemas_but_not_allowed() {
    let case = Case::new("lacks");
    let handlers = serde_json::json!({
        "create": {"permissions": ["ec2:CreateSubnet", "ec2:DescribeSubnets"]},
        "read": {"permissions": ["ec2:DescribeSubnets", "ec2:DescribeNetworkAcls"]},
        "update": {"permissions": ["ec2:AssociateSubnetCidrBlock"]},
        "delete": {"permissions": ["ec2:DeleteSubnet"]},
    });
    case.write("schemas/aws-ec2-subnet.json", &schema("AWS::EC2::Subnet", &handlers));
    case.write("schemas/aws-s3-bucket.json", &schema("AWS::S3::Bucket", &handlers));
    let subnet = serde_json::json!({"Subnet": {"Type": "AWS::EC2::Subnet", "Properties": {}}});
    case.write("templates/templates__network.snap", &template(&subnet));
    case.write("templates/templates__plan.snap", "---\nsource: x\n---\nuse the subnet");
    let all = ["ec2:CreateSubnet", "ec2:DescribeSubnets", "ec2:DescribeNetworkAcls", "ec2:DeleteSubnet"];
    let whole = case.write("whole.json", &policy(&all));
    assert_eq!(case.check("schemas", &whole), (0, "1 resource types: nothing is missing\n".to_owned()));
    let wildcards = case.write("page.md", &format!("# Page\n```json\n{}\n```\n", policy(&["ec2:*"])));
    assert_eq!(case.check("schemas", &wildcards).0, 0);
    let partial = case.write("partial.json", &policy(&["ec2:CreateSubnet", "ec2:DescribeS*"]));
    let lacks = "AWS::EC2::Subnet: the policy lacks ec2:DeleteSubnet (delete)\n\
                 AWS::EC2::Subnet: the policy lacks ec2:DescribeNetworkAcls (read)\n";
    assert_eq!(case.check("schemas", &partial), (1, lacks.to_owned()));
    let two = serde_json::json!({"A": {"Type": "AWS::EC2::Subnet"}, "B": {"Type": "AWS::EC2::VPC"}});
    case.write("templates/templates__more.snap", &template(&two));
    let (code, said) = case.check("schemas", &whole);
    assert!(code == 1 && said.contains("AWS::EC2::VPC: ") && said.contains("has no schema of it"), "{said}");
    assert_eq!(case.check("nowhere", &whole).0, 2);
}

#[test]
fn check_policy_ignores_permissions_of_unused_properties() {
    let case = Case::new("properties");
    let handlers = serde_json::json!({"create": {"permissions": ["ec2:RunInstances", "iam:PassRole"]}});
    case.write("schemas/instance.json", &schema("AWS::EC2::Instance", &handlers));
    let instance = |properties: Value| {
        template(&serde_json::json!({"Instance": {"Type": "AWS::EC2::Instance", "Properties": properties}}))
    };
    case.write("templates/templates__plain.snap", &instance(serde_json::json!({"ImageId": "ami-1"})));
    let given = case.write("policy.json", &policy(&["ec2:RunInstances"]));
    assert_eq!(case.check("schemas", &given).0, 0);
    case.write("templates/templates__role.snap", &instance(serde_json::json!({"IamInstanceProfile": "web"})));
    let (code, said) = case.check("schemas", &given);
    assert_eq!((code, said.trim_end()), (1, "AWS::EC2::Instance: the policy lacks iam:PassRole (create)"));
}

#[test]
fn check_policy_includes_updates_of_the_types_that_goloo_updates() {
    let case = Case::new("updates");
    let handlers =
        serde_json::json!({"update": {"permissions": ["ec2:StopInstances", "ec2:MonitorInstances"]}});
    let resource =
        |kind: &str| serde_json::json!({"One": {"Type": kind, "Properties": {"InstanceType": "t3.nano"}}});
    for (kind, lacks) in [
        ("AWS::EC2::Instance", "AWS::EC2::Instance: the policy lacks ec2:StopInstances (update)"),
        ("AWS::EC2::VPC", "1 resource types: nothing is missing"),
    ] {
        case.write("schemas/one.json", &schema(kind, &handlers));
        case.write("templates/templates__one.snap", &template(&resource(kind)));
        let given = case.write("policy.json", &policy(&["ec2:RunInstances"]));
        assert_eq!(case.check("schemas", &given).1.trim_end(), lacks);
    }
}
