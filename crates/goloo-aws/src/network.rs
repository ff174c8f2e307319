//! Where an instance is put: the subnet that the stack names, the public ones of the default VPC, or the
//! network that VMs share where a region has none.

use aws_sdk_ec2::types::{Filter, RouteTable, Subnet as Ec2Subnet};
use goloo_core::provider::{ProviderError, Work};
use goloo_core::spec::ResolvedStack;

use crate::arn::StackArn;
use crate::error::AwsError;
use crate::session::{Clients, Identity};
use crate::stack::{Order, Stack, Stacks, Stage};
use crate::tags;
use crate::template::{self, EXPORTED_VPC, Place, SHARED_SUBNETS, output};
use crate::zones::Offer;

/// The stack of the shared network, and the kind under which a VM that uses it notes it.
pub const SHARED: &str = "goloo-network";

/// The value of the tag on all that VMs share.
const MARK: (&str, &str) = (tags::SHARED, "network");

/// Where an instance is put, as the template has it and as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The template's form.
    pub place: Place,
    /// The subnet.
    pub subnet: Subnet,
}

/// A subnet for an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// Its id.
    pub id: String,
    /// Its VPC's id.
    pub vpc: String,
    /// Whether the internet leads there.
    pub public: bool,
    /// Its zone, where AWS tells.
    pub zone: Option<String>,
}

/// The sites for a stack's instance in the order in which they are tried, in two calls; `None` when no subnet
/// is named and there is no default VPC, which only an empty answer means.
pub async fn find(clients: &Clients, stack: &ResolvedStack) -> Result<Option<Vec<Site>>, ProviderError> {
    let subnets = subnets(clients, stack).await?;
    let Some(vpc) = subnets.first().and_then(Ec2Subnet::vpc_id) else {
        return match (&stack.vpc_id, &stack.subnet_id) {
            (None, None) => Ok(None),
            (Some(vpc), None) => {
                Err(no_subnet(&format!("the VPC {vpc} has no subnet in {}", clients.region)))
            }
            (_, Some(subnet)) => {
                Err(no_subnet(&format!("there is no subnet {subnet} in {}", clients.region)))
            }
        };
    };
    if let Some(wanted) = stack.vpc_id.as_deref().filter(|wanted| *wanted != vpc) {
        return Err(no_subnet(&format!("the subnet lies in the VPC {vpc}, and vm.vpc_id is {wanted}")));
    }
    let tables = route_tables(clients, vpc).await?;
    let mut found: Vec<Subnet> = subnets
        .iter()
        .filter_map(|subnet| {
            let (id, zone) = (subnet.subnet_id()?.to_owned(), subnet.availability_zone().map(str::to_owned));
            Some(Subnet { public: is_public(&id, &tables), vpc: vpc.to_owned(), id, zone })
        })
        .collect();
    if stack.subnet_id.is_none() {
        found.retain(|subnet| subnet.public);
    }
    if found.is_empty() {
        let what = format!("the internet leads to no subnet of the VPC {vpc} in {}", clients.region);
        return Err(no_subnet(&what));
    }
    first_of_each_zone(&mut found);
    let site = |subnet: Subnet| Site { place: Place::Subnet { public: subnet.public }, subnet };
    Ok(Some(found.into_iter().map(site).collect()))
}

/// What one subnet's zone has no room for, another subnet in the zone has none for, too.
fn first_of_each_zone(subnets: &mut Vec<Subnet>) {
    subnets.dedup_by(|next, first| next.zone == first.zone);
}

/// The candidates, always in the same order.
async fn subnets(clients: &Clients, stack: &ResolvedStack) -> Result<Vec<Ec2Subnet>, AwsError> {
    let request = clients.ec2.describe_subnets();
    let request = match (&stack.subnet_id, &stack.vpc_id) {
        (Some(subnet), _) => request.filters(filter("subnet-id", subnet)),
        (None, Some(vpc)) => request.filters(filter("vpc-id", vpc)),
        (None, None) => request.filters(filter("default-for-az", "true")),
    };
    let answer = request.send().await.map_err(|error| AwsError::of("ec2:DescribeSubnets", &error))?;
    let mut subnets = answer.subnets.unwrap_or_default();
    subnets.sort_by_cached_key(rank);
    Ok(subnets)
}

/// Local zones (`us-east-1-bos-1a`), whose names are longer, come last, and in a zone the subnets without a free
/// address.
fn rank(subnet: &Ec2Subnet) -> (usize, String, bool, Option<String>) {
    let zone = subnet.availability_zone().unwrap_or_default().to_owned();
    let is_full = subnet.available_ip_address_count() == Some(0);
    (zone.len(), zone, is_full, subnet.subnet_id().map(str::to_owned))
}

async fn route_tables(clients: &Clients, vpc: &str) -> Result<Vec<RouteTable>, AwsError> {
    let request = clients.ec2.describe_route_tables().filters(filter("vpc-id", vpc));
    let answer = request.send().await.map_err(|error| AwsError::of("ec2:DescribeRouteTables", &error))?;
    Ok(answer.route_tables.unwrap_or_default())
}

fn filter(name: &str, value: &str) -> Filter {
    Filter::builder().name(name).values(value).build()
}

/// Whether a subnet's routes, its own or those of its VPC's main table, lead to an internet gateway.
fn is_public(subnet: &str, tables: &[RouteTable]) -> bool {
    let own = |table: &&RouteTable| table.associations().iter().any(|one| one.subnet_id() == Some(subnet));
    let main = |table: &&RouteTable| table.associations().iter().any(|one| one.main() == Some(true));
    let table = tables.iter().find(own).or_else(|| tables.iter().find(main));
    table.is_some_and(|table| {
        table.routes().iter().any(|route| {
            route.destination_cidr_block() == Some("0.0.0.0/0")
                && route.gateway_id().is_some_and(|gateway| gateway.starts_with("igw-"))
        })
    })
}

fn no_subnet(what: &str) -> ProviderError {
    ProviderError::Unsupported {
        what: what.to_owned(),
        hint: "name a public subnet in vm.subnet_id; aws ec2 describe-subnets lists them".to_owned(),
    }
}

/// Makes sure that the shared network is there, and gives its subnets. Of several creates at once one makes
/// it, and the others wait for that. One that is there stays as it is, with as many subnets as it has.
pub async fn ensure_shared(
    stacks: &Stacks<'_>,
    identity: &Identity,
    offer: &Offer,
    token: &str,
    work: &mut dyn Work,
) -> Result<Vec<Site>, ProviderError> {
    let planned = StackArn {
        partition: identity.partition.clone(),
        region: stacks.clients.region.clone(),
        account: identity.account.clone(),
        name: SHARED.to_owned(),
        unique: None,
    };
    let there = stacks.find(SHARED).await?;
    work.made(SHARED, &planned.to_string()).await?;
    if let Some(stack) = there
        && stack.stage == Stage::Created
        && stack.has_tag(MARK.0, MARK.1)
    {
        return sites_of(stacks.clients, &stack).await;
    }
    work.step("making the network that goloo's VMs share in this region");
    let tags = vec![("Name".to_owned(), SHARED.to_owned()), (MARK.0.to_owned(), MARK.1.to_owned())];
    let zones = offer.for_shared_network(stacks.clients).await?;
    let order = Order {
        planned: &planned,
        body: template::body(&template::network(SHARED, &tags, zones.len()))?,
        parameters: SHARED_SUBNETS.iter().map(|shared| shared.zone.to_owned()).zip(zones).collect(),
        user_data: None,
        earlier: None,
        tags,
        mark: MARK,
        token,
        keep_failed: false,
    };
    let arn = stacks.ensure(&order, work).await?;
    let stack = stacks.wait_created(&arn, work).await?.into_stack()?;
    sites_of(stacks.clients, &stack).await
}

/// Where an instance can be put in the shared network. One of an earlier version has one subnet and doesn't tell
/// its zone: EC2 is asked.
async fn sites_of(clients: &Clients, stack: &Stack) -> Result<Vec<Site>, ProviderError> {
    let output = |key: &str| stack.outputs.get(key).cloned();
    let mut sites = Vec::new();
    for shared in &SHARED_SUBNETS {
        let (Some(id), Some(vpc)) = (output(shared.output), output(output::VPC)) else { continue };
        let zone = match output(shared.zone) {
            Some(zone) => Some(zone),
            None => zone_of(clients, &id).await?,
        };
        let subnet = Subnet { id, vpc, public: true, zone };
        sites.push(Site { place: Place::SharedNetwork, subnet });
    }
    if sites.is_empty() {
        return Err(ProviderError::failed(
            format!("the stack {SHARED} in {} doesn't say which subnet it made", stack.arn.region),
            format!("aws cloudformation delete-stack --stack-name {SHARED} --region {}", stack.arn.region),
        ));
    }
    Ok(sites)
}

async fn zone_of(clients: &Clients, subnet: &str) -> Result<Option<String>, AwsError> {
    let request = clients.ec2.describe_subnets().filters(filter("subnet-id", subnet));
    let answer = request.send().await.map_err(|error| AwsError::of("ec2:DescribeSubnets", &error))?;
    let subnet = answer.subnets().first();
    Ok(subnet.and_then(|subnet| subnet.availability_zone()).map(str::to_owned))
}

/// Whether no stack uses the shared network any more.
pub async fn is_unused(clients: &Clients) -> Result<bool, AwsError> {
    let request = clients.cloudformation.list_imports().export_name(EXPORTED_VPC);
    match request.send().await.map_err(|error| AwsError::of("cloudformation:ListImports", &error)) {
        Ok(answer) => Ok(answer.imports().is_empty()),
        // AWS has no code of its own for that.
        Err(AwsError::Service { code, message, .. })
            if code == "ValidationError" && message.contains("not imported") =>
        {
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::{Route, RouteTableAssociation};

    use super::*;

    fn table(association: RouteTableAssociation, gateway: &str) -> RouteTable {
        let route = Route::builder().destination_cidr_block("0.0.0.0/0").gateway_id(gateway).build();
        RouteTable::builder().associations(association).routes(route).build()
    }

    #[test]
    fn subnets_are_tried_in_the_order_of_their_zones_local_ones_last() {
        let subnet =
            |id: &str, zone: &str| Ec2Subnet::builder().subnet_id(id).availability_zone(zone).build();
        let mut subnets = [
            subnet("subnet-1", "us-east-1-bos-1a"),
            subnet("subnet-3", "us-east-1b"),
            subnet("subnet-2", "us-east-1b"),
            subnet("subnet-4", "us-east-1a"),
        ];
        subnets.sort_by_cached_key(rank);
        let ids = subnets.each_ref().map(|subnet| subnet.subnet_id().unwrap_or_default());
        assert_eq!(ids, ["subnet-4", "subnet-2", "subnet-3", "subnet-1"]);
    }

    #[test]
    fn each_zone_is_tried_in_one_subnet_that_has_a_free_address() {
        let subnet = |id: &str, zone: &str, free| {
            let subnet = Ec2Subnet::builder().subnet_id(id).availability_zone(zone);
            subnet.available_ip_address_count(free).build()
        };
        let mut subnets = [
            subnet("subnet-1", "us-east-1a", 0),
            subnet("subnet-2", "us-east-1a", 7),
            subnet("subnet-3", "us-east-1b", 0),
        ];
        subnets.sort_by_cached_key(rank);
        let public = |subnet: &Ec2Subnet| Subnet {
            id: subnet.subnet_id().unwrap_or_default().to_owned(),
            vpc: "vpc-1".to_owned(),
            public: true,
            zone: subnet.availability_zone().map(str::to_owned),
        };
        let mut tried: Vec<Subnet> = subnets.iter().map(public).collect();
        first_of_each_zone(&mut tried);
        let ids: Vec<&str> = tried.iter().map(|subnet| subnet.id.as_str()).collect();
        assert_eq!(ids, ["subnet-2", "subnet-3"]);
    }

    #[test]
    fn a_subnets_own_routes_count_before_the_main_ones() {
        let main = |gateway| table(RouteTableAssociation::builder().main(true).build(), gateway);
        let own = |gateway| table(RouteTableAssociation::builder().subnet_id("subnet-1").build(), gateway);
        assert!(is_public("subnet-1", &[main("igw-1")]));
        assert!(!is_public("subnet-1", &[main("igw-1"), own("local")]));
        assert!(is_public("subnet-1", &[main("nat-1"), own("igw-1")]));
        assert!(!is_public("subnet-1", &[]));
    }
}
