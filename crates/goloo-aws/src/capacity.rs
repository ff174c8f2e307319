//! Whether another availability zone may have what one hasn't.

/// EC2's error codes for what another zone may be able to provide.
/// <https://docs.aws.amazon.com/ec2/latest/devguide/errors-overview.html>
const CODES: [&str; 4] = [
    "InsufficientFreeAddressesInSubnet",
    "InsufficientInstanceCapacity",
    "InsufficientCapacity",
    "Unsupported",
];

/// The messages that come with those codes: CloudFormation doesn't always pass the code on.
const SENTENCES: [&str; 6] = [
    "is not supported in your requested Availability Zone",
    "The requested configuration is currently not supported",
    "do not have sufficient",
    "Insufficient capacity",
    "no Spot capacity available",
    "not enough free addresses in subnet",
];

/// Whether an instance that failed for this reason may succeed in another zone. CloudFormation formats the reason as
/// `SENTENCE (Service: AmazonEC2; Status Code: 400; Error Code: CODE; …)`.
pub fn is_lack_of_the_zone(reason: &str) -> bool {
    let code = reason.split_once("Error Code: ").map(|(_, rest)| rest);
    let code = code.and_then(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric()).next());
    code.is_some_and(|code| CODES.contains(&code)) || SENTENCES.iter().any(|words| reason.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortages_of_one_zone_are_distinguished_from_other_failures() {
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
