//! The meaning of AWS's error codes, independent of the service. The AWS provider and the S3 store follow
//! these rules; making requests and parsing responses is not done here.

use std::time::Duration;

/// The kind of error that a code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AwsErrorKind {
    /// The service is busy or failing: the same call may succeed a little later.
    Transient,
    /// The credentials are valid but don't allow the call.
    Denied,
    /// The credentials have expired.
    Expired,
    /// AWS doesn't accept the time of the request's signature: this host's clock is wrong.
    ClockSkew,
    /// The credentials aren't accepted: they are wrong, or not valid in this region.
    Rejected,
}

/// The codes that the AWS SDKs treat as throttling or transient, and the services' codes for their own faults.
/// Excludes `LimitExceededException`, which CloudFormation uses for a quota: that doesn't go away.
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html>
const TRANSIENT: &[&str] = &[
    "BandwidthLimitExceeded",
    "EC2ThrottledException",
    "InternalError",
    "InternalFailure",
    "InternalServerError",
    "InternalServerException",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "TransactionInProgressException",
    "Unavailable",
];

const DENIED: &[&str] =
    &["AccessDenied", "AccessDeniedException", "UnauthorizedAccess", "UnauthorizedOperation"];

const EXPIRED: &[&str] = &["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"];

const REJECTED: &[&str] = &[
    "AuthFailure",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "InvalidToken",
    "MissingAuthenticationToken",
    "OptInRequired",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
];

/// Codes that are always caused by the clock.
const CLOCK: &[&str] = &["RequestInTheFuture", "RequestTimeTooSkewed"];

/// Codes that may be caused by the clock, depending on the service's time or its message.
const MAYBE_CLOCK: &[&str] =
    &["AuthFailure", "InvalidSignatureException", "RequestExpired", "SignatureDoesNotMatch"];

/// Messages about a signature that indicate a wrong clock.
const CLOCK_WORDS: &[&str] = &["Signature expired", "Signature not yet current"];

/// How far a request's time may be off before AWS rejects it.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(300);

/// Regions that every account has. All regions launched after 2019-03-20 must be enabled first.
/// <https://docs.aws.amazon.com/global-infrastructure/latest/regions/aws-regions.html>
const ENABLED_BY_DEFAULT: &[&str] = &[
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ca-central-1",
    "eu-central-1",
    "eu-north-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
];

/// Classifies a code; `None` if it concerns the call itself. `skew` is the difference between this
/// host's clock and the service's, if the response included it.
pub fn trouble(code: &str, message: &str, skew: Option<Duration>) -> Option<AwsErrorKind> {
    let is_skewed = || {
        skew.is_some_and(|skew| skew > CLOCK_TOLERANCE)
            || CLOCK_WORDS.iter().any(|words| message.contains(words))
    };
    if CLOCK.contains(&code) || MAYBE_CLOCK.contains(&code) && is_skewed() {
        return Some(AwsErrorKind::ClockSkew);
    }
    // EC2 uses this code for expired credentials if the clock is right.
    if EXPIRED.contains(&code) || code == "RequestExpired" {
        return Some(AwsErrorKind::Expired);
    }
    let tables = [
        (TRANSIENT, AwsErrorKind::Transient),
        (DENIED, AwsErrorKind::Denied),
        (REJECTED, AwsErrorKind::Rejected),
    ];
    tables.into_iter().find(|(codes, _)| codes.contains(&code)).map(|(_, trouble)| trouble)
}

/// Whether an account must enable a region before using it: until then valid credentials are rejected
/// there. China and the US government have separate regions and accounts.
pub fn is_opt_in(region: &str) -> bool {
    let is_apart = ["cn-", "us-gov-", "us-iso", "eu-isoe-", "eusc-"];
    !ENABLED_BY_DEFAULT.contains(&region) && !is_apart.iter().any(|start| region.starts_with(start))
}

/// The command that enables a region, and how to check that it is enabled.
pub fn enable_region(region: &str) -> String {
    format!(
        "aws account enable-region --region-name {region}; it takes a few minutes, and aws account get-region-opt-status --region-name {region} shows when it is done"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_code_maps_to_one_kind() {
        for (code, expected) in [
            ("PriorRequestNotComplete", Some(AwsErrorKind::Transient)),
            ("EC2ThrottledException", Some(AwsErrorKind::Transient)),
            ("RequestThrottled", Some(AwsErrorKind::Transient)),
            ("SlowDown", Some(AwsErrorKind::Transient)),
            ("UnauthorizedOperation", Some(AwsErrorKind::Denied)),
            ("ExpiredToken", Some(AwsErrorKind::Expired)),
            ("RequestExpired", Some(AwsErrorKind::Expired)),
            ("RequestTimeTooSkewed", Some(AwsErrorKind::ClockSkew)),
            ("InvalidClientTokenId", Some(AwsErrorKind::Rejected)),
            // CloudFormation's code for a quota.
            ("LimitExceededException", None),
            ("ValidationError", None),
        ] {
            assert_eq!(trouble(code, "because", None), expected, "{code}");
        }
    }

    #[test]
    fn a_wrong_clock_is_detected_by_the_message_or_the_service_clock() {
        let expired = "Signature expired: 20250115T103000Z is now earlier than 20250115T112500Z";
        let skewed = Some(AwsErrorKind::ClockSkew);
        assert_eq!(trouble("SignatureDoesNotMatch", expired, None), skewed);
        assert_eq!(trouble("InvalidSignatureException", "Signature not yet current: …", None), skewed);
        let (hour, second) = (Some(Duration::from_secs(3600)), Some(Duration::from_secs(1)));
        assert_eq!(trouble("RequestExpired", "Request has expired.", hour), skewed);
        assert_eq!(trouble("RequestExpired", "Request has expired.", second), Some(AwsErrorKind::Expired));
        assert_eq!(trouble("AuthFailure", "…", hour), skewed);
        assert_eq!(trouble("AuthFailure", "…", second), Some(AwsErrorKind::Rejected));
        assert_eq!(trouble("ValidationError", "…", hour), None);
    }

    #[test]
    fn newer_regions_are_opt_in() {
        for region in ["ap-east-1", "eu-south-2", "me-central-1", "mx-central-1", "ca-west-1"] {
            assert!(is_opt_in(region), "{region}");
        }
        for region in ["us-east-1", "eu-north-1", "sa-east-1", "cn-north-1", "us-gov-west-1"] {
            assert!(!is_opt_in(region), "{region}");
        }
    }
}
