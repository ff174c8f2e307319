//! The contents of an emulator's account, queried without goloo.

use roxmltree::{Document, Node};

use super::xml::{elements, text};
use super::{AwsEmulator, REGIONS};

/// A kind of EC2 resource: its name in the ledger, the action that lists it, and the elements of the list and of the
/// resource's id. Network interfaces are omitted: moto keeps those of terminated instances.
const EC2_KINDS: [(&str, &str, &str, &str); 10] = [
    ("instance", "DescribeInstances", "instancesSet", "instanceId"),
    ("volume", "DescribeVolumes", "volumeSet", "volumeId"),
    ("security-group", "DescribeSecurityGroups", "securityGroupInfo", "groupId"),
    ("address", "DescribeAddresses", "addressesSet", "allocationId"),
    ("launch-template", "DescribeLaunchTemplates", "launchTemplates", "launchTemplateId"),
    ("key-pair", "DescribeKeyPairs", "keySet", "keyName"),
    ("vpc", "DescribeVpcs", "vpcSet", "vpcId"),
    ("subnet", "DescribeSubnets", "subnetSet", "subnetId"),
    ("internet-gateway", "DescribeInternetGateways", "internetGatewaySet", "internetGatewayId"),
    ("route-table", "DescribeRouteTables", "routeTableSet", "routeTableId"),
];

impl AwsEmulator {
    /// Everything beyond what every account has, in all [`REGIONS`], one sorted line each, such as `us-east-1 instance
    /// i-0abc running`: stacks, instances, volumes, addresses, key pairs, networks and their parts, DNS records.
    /// Ignores tags, so that resources that lost their tags are included.
    pub fn ledger(&self) -> Vec<String> {
        ledger(self)
    }

    /// The lines of the [`ledger`](Self::ledger) for the images and snapshots of a region, without the region.
    pub fn images(&self, region: &str) -> Vec<String> {
        own_images(self, region)
    }

    /// The lines of the [`ledger`](Self::ledger) for a single zone, given its id.
    pub fn records(&self, zone: &str) -> Vec<String> {
        zone_records(self, zone)
    }
}

fn ledger(aws: &AwsEmulator) -> Vec<String> {
    let mut lines = records(aws);
    for region in REGIONS {
        let things = stacks(aws, region).into_iter().chain(ec2(aws, region));
        lines.extend(things.map(|line| format!("{region} {line}")));
    }
    lines.sort();
    lines
}

fn stacks(aws: &AwsEmulator, region: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut next = None;
    loop {
        let token = next.as_deref().map(|token| ("NextToken", token));
        let parameters: Vec<_> = [("Action", "DescribeStacks")].into_iter().chain(token).collect();
        let answer = aws.query("cloudformation", region, &parameters);
        let document = Document::parse(&answer).unwrap();
        let stacks = items(document.root(), "Stacks")
            .map(|stack| (text(stack, "StackName").unwrap(), text(stack, "StackStatus").unwrap()))
            .filter(|(_, status)| *status != "DELETE_COMPLETE")
            .map(|(name, status)| format!("stack {name} {status}"));
        lines.extend(stacks);
        next = text(document.root(), "NextToken").map(str::to_owned);
        if next.is_none() {
            return lines;
        }
    }
}

fn ec2(aws: &AwsEmulator, region: &str) -> Vec<String> {
    let vpcs = aws.query(
        "ec2",
        region,
        &[("Action", "DescribeVpcs"), ("Filter.1.Name", "isDefault"), ("Filter.1.Value.1", "true")],
    );
    let vpcs = Document::parse(&vpcs).unwrap();
    let default_vpc = text(vpcs.root(), "vpcId");
    let mut lines = own_images(aws, region);
    for (kind, action, list, id) in EC2_KINDS {
        let answer = aws.query("ec2", region, &[("Action", action)]);
        let document = Document::parse(&answer).unwrap();
        let things = items(document.root(), list)
            .filter(|thing| !comes_with_an_account(*thing, kind, default_vpc))
            .map(|thing| format!("{kind} {} {}", text(thing, id).unwrap_or("?"), label(thing)));
        lines.extend(things.map(|line| line.trim_end().to_owned()));
    }
    lines
}

/// Images, and the snapshots of images, of the account itself: the public ones are many.
fn own_images(aws: &AwsEmulator, region: &str) -> Vec<String> {
    let images = aws.query("ec2", region, &[("Action", "DescribeImages"), ("Owner.1", "self")]);
    let images = Document::parse(&images).unwrap();
    let of_images = [("Filter.1.Name", "description"), ("Filter.1.Value.1", "Created by CreateImage*")];
    let parameters = [&[("Action", "DescribeSnapshots")][..], &of_images].concat();
    let snapshots = aws.query("ec2", region, &parameters);
    let snapshots = Document::parse(&snapshots).unwrap();
    let images = items(images.root(), "imagesSet").map(|one| ("image", text(one, "imageId")));
    let snapshots = items(snapshots.root(), "snapshotSet").map(|one| ("snapshot", text(one, "snapshotId")));
    images.chain(snapshots).map(|(kind, id)| format!("{kind} {}", id.unwrap_or("?"))).collect()
}

/// Whether a resource comes with every account, or is merely a terminated instance that is still listed.
fn comes_with_an_account(thing: Node<'_, '_>, kind: &str, default_vpc: Option<&str>) -> bool {
    match kind {
        "vpc" => text(thing, "isDefault") == Some("true"),
        "subnet" => text(thing, "defaultForAz") == Some("true"),
        "internet-gateway" => default_vpc.is_some() && text(thing, "vpcId") == default_vpc,
        // Every VPC has these two, and they are deleted with it.
        "security-group" => text(thing, "groupName") == Some("default"),
        "route-table" => text(thing, "main") == Some("true"),
        "instance" => label(thing) == "terminated",
        _ => false,
    }
}

/// Additional information about a resource: an instance's state, a group's name.
fn label<'a>(thing: Node<'a, '_>) -> &'a str {
    element(thing, "instanceState")
        .and_then(|state| text(state, "name"))
        .or_else(|| text(thing, "groupName"))
        .unwrap_or_default()
}

fn records(aws: &AwsEmulator) -> Vec<String> {
    let answer = aws.rest("route53", "GET", "/2013-04-01/hostedzone", "");
    let document = Document::parse(&answer).unwrap();
    items(document.root(), "HostedZones")
        .flat_map(|zone| zone_records(aws, text(zone, "Id").unwrap()))
        .collect()
}

fn zone_records(aws: &AwsEmulator, zone: &str) -> Vec<String> {
    let zone = zone.trim_start_matches("/hostedzone/");
    let answer = aws.rest("route53", "GET", &format!("/2013-04-01/hostedzone/{zone}/rrset?maxitems=300"), "");
    let document = Document::parse(&answer).unwrap();
    assert_eq!(
        text(document.root(), "IsTruncated"),
        Some("false"),
        "{zone} has more records than are read here"
    );
    items(document.root(), "ResourceRecordSets")
        .filter(|record| !matches!(text(*record, "Type"), Some("NS" | "SOA")))
        .map(|record| {
            let mut values: Vec<_> = elements(record, "Value").chain(elements(record, "DNSName")).collect();
            values.sort_unstable();
            let (name, kind) = (text(record, "Name").unwrap(), text(record, "Type").unwrap());
            format!("record {name} {kind} {}", values.join(","))
        })
        .collect()
}

fn element<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.descendants().find(|node| node.tag_name().name() == name)
}

/// The elements in all lists with this name.
fn items<'a, 'i: 'a>(root: Node<'a, 'i>, list: &str) -> impl Iterator<Item = Node<'a, 'i>> {
    root.descendants()
        .filter(move |node| node.tag_name().name() == list)
        .flat_map(|list| list.children().filter(Node::is_element))
}
