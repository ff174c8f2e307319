//! Where an instance is placed: the subnet the stack specifies, a public subnet of the default VPC or, in a region
//! without one, the network shared by VMs.

use aws_sdk_ec2::types::{Filter, RouteTable, Subnet as Ec2Subnet};
use goloo_model::provider::{ProviderError, Work};
use goloo_model::spec::ResolvedStack;

use crate::arn::StackArn;
use crate::error::AwsError;
use crate::session::{Clients, Identity};
use crate::site::{Site, Subnet};
use crate::stack::{Stack, StackOrder, Stacks};
use crate::stage::Stage;
use crate::tags;
use crate::template::{self, EXPORTED_VPC, Placement, SHARED_SUBNETS, output};
use crate::zones::Offer;

/// The name of the shared network's stack, and the resource kind under which VMs that use it record it.
pub const SHARED: &str = "goloo-network";

/// The tag on everything VMs share.
const MARK: (&str, &str) = (tags::SHARED, "network");

/// The possible sites of a stack's instance, in the order in which they are tried. Takes two calls. `None` if no subnet
/// is specified and there is no default VPC; only an empty response means that.
pub async fn find(clients: &Clients, stack: &ResolvedStack) -> Result<Option<Vec<Site>>, ProviderError> {
    let subnets = subnets(clients, stack).await?;
    let Some(vpc) = subnets.first().and_then(Ec2Subnet::vpc_id) else {
        return match (&stack.vpc_id, &stack.subnet_id) {
            (None, None) => Ok(None),
            (Some(vpc), None) => {
                Err(no_subnet(clients, &format!("the VPC {vpc} has no subnet in {}", clients.region)))
            }
            (_, Some(subnet)) => {
                Err(no_subnet(clients, &format!("there is no subnet {subnet} in {}", clients.region)))
            }
        };
    };
    if let Some(wanted) = stack.vpc_id.as_deref().filter(|wanted| *wanted != vpc) {
        return Err(no_subnet(
            clients,
            &format!("the subnet is in the VPC {vpc}, but vm.vpc_id is {wanted}"),
        ));
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
        let what = format!("the VPC {vpc} in {} has no public subnet", clients.region);
        return Err(no_subnet(clients, &what));
    }
    first_of_each_zone(&mut found);
    let site = |subnet: Subnet| Site { place: Placement::Subnet { public: subnet.public }, subnet };
    Ok(Some(found.into_iter().map(site).collect()))
}

/// If one subnet's zone lacks capacity, so does every other subnet in that zone.
fn first_of_each_zone(subnets: &mut Vec<Subnet>) {
    subnets.dedup_by(|next, first| next.zone == first.zone);
}

/// The candidates in a fixed order.
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

/// Local zones (`us-east-1-bos-1a`), which have longer names, come last, and so do subnets without a free address
/// within a zone.
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

/// Whether a subnet's route table, its own or its VPC's main table, has a route to an internet gateway.
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

fn no_subnet(clients: &Clients, what: &str) -> ProviderError {
    let region = &clients.region;
    ProviderError::Unsupported {
        what: what.to_owned(),
        hint: format!(
            "set vm.subnet_id to a public subnet; aws ec2 describe-subnets --region {region} lists them"
        )
        .into(),
    }
}

/// Makes sure the shared network exists and returns its subnets. With concurrent creates, one makes it and the others
/// wait. An existing network isn't changed, however many subnets it has.
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
    work.record_resource(SHARED, &planned.to_string()).await?;
    if let Some(stack) = there
        && stack.stage == Stage::Created
        && stack.has_tag(MARK.0, MARK.1)
    {
        return sites_of(stacks.clients, &stack).await;
    }
    work.step("creating the network that goloo's VMs share in this region");
    let tags = vec![("Name".to_owned(), SHARED.to_owned()), (MARK.0.to_owned(), MARK.1.to_owned())];
    let zones = offer.for_shared_network(stacks.clients).await?;
    let order = StackOrder {
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

/// The sites in the shared network. A network of an earlier version has one subnet and doesn't export its zone, so EC2
/// is asked.
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
        sites.push(Site { place: Placement::SharedNetwork, subnet });
    }
    if sites.is_empty() {
        return Err(ProviderError::failed(
            format!("the stack {SHARED} in {} doesn't report its subnet", stack.arn.region),
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
        // AWS has no error code for that.
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
    fn subnets_are_ordered_by_zone_with_local_zones_last() {
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
    fn one_subnet_per_zone_is_tried_preferably_with_a_free_address() {
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
    fn a_subnets_own_route_table_takes_precedence_over_the_main_one() {
        let main = |gateway| table(RouteTableAssociation::builder().main(true).build(), gateway);
        let own = |gateway| table(RouteTableAssociation::builder().subnet_id("subnet-1").build(), gateway);
        assert!(is_public("subnet-1", &[main("igw-1")]));
        assert!(!is_public("subnet-1", &[main("igw-1"), own("local")]));
        assert!(is_public("subnet-1", &[main("nat-1"), own("igw-1")]));
        assert!(!is_public("subnet-1", &[]));
    }
}
