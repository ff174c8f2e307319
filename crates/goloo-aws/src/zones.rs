//! Availability zones: which of them have an instance type, and which have no room for it now.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::{Filter, LocationType};
use goloo_core::provider::ProviderError;

use crate::error::AwsError;
use crate::network::Site;
use crate::pages::Pages;
use crate::session::Clients;
use crate::template::{Place, SHARED_SUBNETS};

/// The zones of a region that have an instance type: at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    instance_type: String,
    zones: BTreeSet<String>,
}

/// Asks which zones have an instance type.
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
            hint: "set another vm.instance_type or vm.region; aws ec2 describe-instance-type-offerings lists what there is"
                .to_owned(),
        });
    }
    Ok(Offer { instance_type: instance_type.to_owned(), zones })
}

impl Offer {
    /// The sites where the instance type is, in their order; an error where there are none.
    pub fn keep(&self, sites: Vec<Site>) -> Result<Vec<Site>, ProviderError> {
        let (kept, others): (Vec<Site>, Vec<Site>) = sites.into_iter().partition(|site| self.has(site));
        if kept.is_empty() { Err(self.refusal(&others)) } else { Ok(kept) }
    }

    /// A subnet whose zone AWS doesn't tell is tried.
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
        if sites.iter().any(|site| site.place == Place::SharedNetwork) {
            hint += "; where no VM uses the shared network any more, aws cloudformation delete-stack --stack-name goloo-network lets goloo make it again";
        }
        let instance_type = &self.instance_type;
        ProviderError::Unsupported {
            what: format!(
                "the instance type {instance_type} isn't available in {zones}, where {subnets} {verb}"
            ),
            hint,
        }
    }

    /// The zones for the subnets of a new shared network: those that have the instance type come first.
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

/// What EC2 says when another zone may have what this one hasn't.
/// <https://docs.aws.amazon.com/ec2/latest/devguide/errors-overview.html>
const CODES: [&str; 4] = [
    "InsufficientFreeAddressesInSubnet",
    "InsufficientInstanceCapacity",
    "InsufficientCapacity",
    "Unsupported",
];

/// The sentences that come with those codes: CloudFormation doesn't always pass the code on.
const SENTENCES: [&str; 6] = [
    "is not supported in your requested Availability Zone",
    "The requested configuration is currently not supported",
    "do not have sufficient",
    "Insufficient capacity",
    "no Spot capacity available",
    "not enough free addresses in subnet",
];

/// Whether an instance that failed for this reason may do well in another zone. CloudFormation writes the reason
/// as `SENTENCE (Service: AmazonEC2; Status Code: 400; Error Code: CODE; …)`.
pub fn is_lack_of_the_zone(reason: &str) -> bool {
    let code = reason.split_once("Error Code: ").map(|(_, rest)| rest);
    let code = code.and_then(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric()).next());
    code.is_some_and(|code| CODES.contains(&code)) || SENTENCES.iter().any(|words| reason.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_zone_may_have_is_told_from_what_none_has() {
        for of_the_zone in [
            "Your requested instance type (t3.micro) is not supported in your requested Availability Zone (us-east-1e). Please retry your request by not specifying an Availability Zone or choosing us-east-1a, us-east-1b, us-east-1c, us-east-1d, us-east-1f. (Service: AmazonEC2; Status Code: 400; Error Code: Unsupported; Request ID: x; Proxy: null)",
            "Resource handler returned message: \"We currently do not have sufficient t3.nano capacity in the Availability Zone you requested (us-east-1a). Our system will be working on provisioning additional capacity. (Service: Ec2, Status Code: 500, Request ID: x)\" (RequestToken: x, HandlerErrorCode: GeneralServiceException)",
            "There is no Spot capacity available that matches your request. (Service: AmazonEC2; Status Code: 500; Error Code: InsufficientInstanceCapacity; Request ID: x)",
            "Something new (Service: AmazonEC2; Status Code: 500; Error Code: InsufficientInstanceCapacity; Request ID: x)",
        ] {
            assert!(is_lack_of_the_zone(of_the_zone), "{of_the_zone}");
        }
        for lasting in [
            "The operation isn't supported (Service: AmazonEC2; Status Code: 400; Error Code: UnsupportedOperation; Request ID: x)",
            "You have requested more vCPU capacity than your current vCPU limit of 16 allows (Service: AmazonEC2; Status Code: 400; Error Code: VcpuLimitExceeded; Request ID: x)",
            "Max spot instance count exceeded (Service: AmazonEC2; Status Code: 400; Error Code: MaxSpotInstanceCountExceeded; Request ID: x)",
            "Value (web) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name",
        ] {
            assert!(!is_lack_of_the_zone(lasting), "{lasting}");
        }
    }
}
