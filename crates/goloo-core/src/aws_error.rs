//! What AWS's error codes mean, whichever service says them. The AWS provider and the records in S3 act by
//! these rules; neither the calls nor their answers are here.

use std::time::Duration;

/// What kind of trouble a code stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AwsTrouble {
    /// The service is busy or at fault: the same call may work a little later.
    Transient,
    /// The credentials are accepted and don't allow the call.
    Denied,
    /// The credentials were good until they expired.
    Expired,
    /// The request's signature bears a time that AWS doesn't accept: this computer's clock is wrong.
    ClockSkew,
    /// The credentials aren't accepted: they are wrong, or not for this region.
    Rejected,
}

/// Those that the AWS SDKs treat as throttling or transient, and the services' words for their own faults.
/// Without `LimitExceededException`, which CloudFormation says of a quota: that lasts.
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

/// Those that always are about the time.
const CLOCK: &[&str] = &["RequestInTheFuture", "RequestTimeTooSkewed"];

/// Those that may be about the time: the service's clock, or its sentence, tells.
const MAYBE_CLOCK: &[&str] =
    &["AuthFailure", "InvalidSignatureException", "RequestExpired", "SignatureDoesNotMatch"];

/// What a wrong clock makes AWS say of a signature.
const CLOCK_WORDS: &[&str] = &["Signature expired", "Signature not yet current"];

/// AWS accepts a request for so long before and after its time.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(300);

/// Regions that every account has. All that came after 2019-03-20 must be enabled first.
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

/// What a code stands for; `None` where it is about the call itself. `skew` is the difference between this
/// computer's clock and the service's, where its answer told.
pub fn trouble(code: &str, message: &str, skew: Option<Duration>) -> Option<AwsTrouble> {
    let is_skewed = || {
        skew.is_some_and(|skew| skew > CLOCK_TOLERANCE)
            || CLOCK_WORDS.iter().any(|words| message.contains(words))
    };
    if CLOCK.contains(&code) || MAYBE_CLOCK.contains(&code) && is_skewed() {
        return Some(AwsTrouble::ClockSkew);
    }
    // EC2's word for expired credentials where the clock is right.
    if EXPIRED.contains(&code) || code == "RequestExpired" {
        return Some(AwsTrouble::Expired);
    }
    let tables =
        [(TRANSIENT, AwsTrouble::Transient), (DENIED, AwsTrouble::Denied), (REJECTED, AwsTrouble::Rejected)];
    tables.into_iter().find(|(codes, _)| codes.contains(&code)).map(|(_, trouble)| trouble)
}

/// Whether an account must enable a region before it can use it: until then good credentials are rejected
/// there. China and the US government have regions and accounts of their own.
pub fn is_opt_in(region: &str) -> bool {
    let is_apart = ["cn-", "us-gov-", "us-iso", "eu-isoe-", "eusc-"];
    !ENABLED_BY_DEFAULT.contains(&region) && !is_apart.iter().any(|start| region.starts_with(start))
}

/// The command that enables a region, and how to see when it is.
pub fn enable_region(region: &str) -> String {
    format!(
        "aws account enable-region --region-name {region}; it takes some minutes, and aws account get-region-opt-status --region-name {region} shows when it is done"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_stands_for_one_kind_of_trouble() {
        for (code, expected) in [
            ("PriorRequestNotComplete", Some(AwsTrouble::Transient)),
            ("EC2ThrottledException", Some(AwsTrouble::Transient)),
            ("RequestThrottled", Some(AwsTrouble::Transient)),
            ("SlowDown", Some(AwsTrouble::Transient)),
            ("UnauthorizedOperation", Some(AwsTrouble::Denied)),
            ("ExpiredToken", Some(AwsTrouble::Expired)),
            ("RequestExpired", Some(AwsTrouble::Expired)),
            ("RequestTimeTooSkewed", Some(AwsTrouble::ClockSkew)),
            ("InvalidClientTokenId", Some(AwsTrouble::Rejected)),
            // CloudFormation's word for a quota.
            ("LimitExceededException", None),
            ("ValidationError", None),
        ] {
            assert_eq!(trouble(code, "because", None), expected, "{code}");
        }
    }

    #[test]
    fn a_wrong_clock_is_told_by_the_sentence_or_the_service_s_clock() {
        let expired = "Signature expired: 20250115T103000Z is now earlier than 20250115T112500Z";
        let skewed = Some(AwsTrouble::ClockSkew);
        assert_eq!(trouble("SignatureDoesNotMatch", expired, None), skewed);
        assert_eq!(trouble("InvalidSignatureException", "Signature not yet current: …", None), skewed);
        let (hour, second) = (Some(Duration::from_secs(3600)), Some(Duration::from_secs(1)));
        assert_eq!(trouble("RequestExpired", "Request has expired.", hour), skewed);
        assert_eq!(trouble("RequestExpired", "Request has expired.", second), Some(AwsTrouble::Expired));
        assert_eq!(trouble("AuthFailure", "…", hour), skewed);
        assert_eq!(trouble("AuthFailure", "…", second), Some(AwsTrouble::Rejected));
        assert_eq!(trouble("ValidationError", "…", hour), None);
    }

    #[test]
    fn regions_that_came_late_must_be_enabled() {
        for region in ["ap-east-1", "eu-south-2", "me-central-1", "mx-central-1", "ca-west-1"] {
            assert!(is_opt_in(region), "{region}");
        }
        for region in ["us-east-1", "eu-north-1", "sa-east-1", "cn-north-1", "us-gov-west-1"] {
            assert!(!is_opt_in(region), "{region}");
        }
    }
}
