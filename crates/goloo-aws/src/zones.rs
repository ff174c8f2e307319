//! Availability zones: which offer an instance type, and which currently lack capacity for it.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::{Filter, LocationType};
use goloo_model::provider::ProviderError;

use crate::error::AwsError;
use crate::pages::Pages;
use crate::session::Clients;
use crate::site::Site;
use crate::template::{Placement, SHARED_SUBNETS};

/// The zones of a region that offer an instance type: at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    region: String,
    instance_type: String,
    zones: BTreeSet<String>,
}

/// Queries which zones offer an instance type.
pub async fn offer(clients: &Clients, instance_type: &str) -> Result<Offer, ProviderError> {
    let mut zones = BTreeSet::new();
    let (mut next, mut pages) = (None, Pages::of("ec2:DescribeInstanceTypeOfferings"));
    loop {
        let request = clients.ec2.describe_instance_type_offerings();
        let request = request.location_type(LocationType::AvailabilityZone);
        let request = request.filters(filter("instance-type", instance_type)).set_next_token(next);
        let answer = request.send().await;
        let answer = answer.map_err(|error| AwsError::of("ec2:DescribeInstanceTypeOfferings", &error))?;
        zones.extend(
            answer.instance_type_offerings().iter().filter_map(|one| one.location().map(str::to_owned)),
        );
        next = pages.next(answer.next_token())?;
        if next.is_none() {
            break;
        }
    }
    if zones.is_empty() {
        return Err(ProviderError::Unsupported {
            what: format!("no zone of {} has the instance type {instance_type}", clients.region),
            hint: format!(
                "set another vm.instance_type or vm.region; aws ec2 describe-instance-type-offerings --region {} lists the instance types",
                clients.region
            )
            .into(),
        });
    }
    Ok(Offer { region: clients.region.clone(), instance_type: instance_type.to_owned(), zones })
}

impl Offer {
    /// The sites whose zones offer the instance type, in their order; an error if there are none.
    pub fn keep(&self, sites: Vec<Site>) -> Result<Vec<Site>, ProviderError> {
        let (kept, others): (Vec<Site>, Vec<Site>) = sites.into_iter().partition(|site| self.has(site));
        if kept.is_empty() { Err(self.refusal(&others)) } else { Ok(kept) }
    }

    /// Whether the type is offered at a site. A subnet whose zone is unknown is tried.
    fn has(&self, site: &Site) -> bool {
        site.subnet.zone.as_ref().is_none_or(|zone| self.zones.contains(zone))
    }

    fn refusal(&self, sites: &[Site]) -> ProviderError {
        let zones: BTreeSet<&str> = sites.iter().filter_map(|site| site.subnet.zone.as_deref()).collect();
        let subnets: Vec<&str> = sites.iter().map(|site| site.subnet.id.as_str()).collect();
        let (subnets, verb) = match &subnets[..] {
            [one] => (format!("the subnet {one}"), "is"),
            several => (format!("the subnets {}", several.join(", ")), "are"),
        };
        let zones = Vec::from_iter(zones).join(", ");
        let having = Vec::from_iter(self.zones.iter().map(String::as_str)).join(", ");
        let mut hint = format!("set vm.subnet_id to a subnet in {having}, or another vm.instance_type");
        if sites.iter().any(|site| site.place == Placement::SharedNetwork) {
            hint += &format!(
                "; if no VM uses the shared network any more, run aws cloudformation delete-stack --region {} --stack-name goloo-network so that goloo creates it again",
                self.region
            );
        }
        let instance_type = &self.instance_type;
        ProviderError::Unsupported {
            what: format!(
                "the instance type {instance_type} isn't available in {zones}, where {subnets} {verb}"
            ),
            hint: hint.into(),
        }
    }

    /// The zones for the subnets of a new shared network: those that offer the instance type come first.
    pub async fn for_shared_network(&self, clients: &Clients) -> Result<Vec<String>, AwsError> {
        let request = clients.ec2.describe_availability_zones();
        let request =
            request.filters(filter("zone-type", "availability-zone")).filters(filter("state", "available"));
        let answer = request.send().await;
        let answer = answer.map_err(|error| AwsError::of("ec2:DescribeAvailabilityZones", &error))?;
        let names = answer.availability_zones().iter().filter_map(|zone| zone.zone_name());
        let mut zones: Vec<String> = names.map(str::to_owned).collect();
        zones.sort_by_key(|zone| (!self.zones.contains(zone), zone.clone()));
        zones.truncate(SHARED_SUBNETS.len());
        Ok(zones)
    }
}

fn filter(name: &str, value: &str) -> Filter {
    Filter::builder().name(name).values(value).build()
}
