//! Errors between goloo and AWS. Only here are the SDK's errors converted to [`AwsError`].

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use goloo_model::aws_error::{self, AwsErrorKind};
use goloo_model::provider::ProviderError;
use goloo_sys::error_chain::chain;
use goloo_sys::tls::{BundleError, NoRoots, TrustError};

/// The header in which [`RegionMark`] stores the region.
pub(crate) const REGION_HEADER: &str = "x-goloo-region";

/// Why a call to AWS failed. `action` is the call's name in IAM policies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AwsError {
    /// The standard chain found no credentials.
    #[error("there are no AWS credentials: {detail}")]
    NoCredentials {
        /// The errors of the chain's providers.
        detail: String,
    },
    /// The profile uses SSO, but there is no valid session.
    #[error("the AWS SSO session has expired or doesn't exist: {detail}")]
    NoSsoSession {
        /// The error of the SSO provider.
        detail: String,
    },
    /// AWS rejects the credentials for every call.
    #[error("AWS doesn't accept the credentials ({code}): {message}")]
    Rejected {
        /// AWS's error code.
        code: String,
        /// AWS's message.
        message: String,
    },
    /// AWS rejects the credentials in an opt-in region, which the account may not have enabled.
    #[error(
        "AWS doesn't accept the credentials in {region}, a region that an account must enable first ({code}): {message}"
    )]
    RegionNotEnabled {
        /// The region.
        region: String,
        /// AWS's error code.
        code: String,
        /// AWS's message.
        message: String,
    },
    /// The credentials have expired.
    #[error("the AWS credentials have expired ({code}): {message}")]
    Expired {
        /// AWS's error code.
        code: String,
        /// AWS's message.
        message: String,
    },
    /// This computer's clock is so far off that AWS rejects its signatures.
    #[error("this computer's clock is wrong{}, so AWS rejects its requests ({code}): {message}", shown(*.skew))]
    ClockSkew {
        /// AWS's error code.
        code: String,
        /// AWS's message.
        message: String,
        /// The difference, if the response contained the time.
        skew: Option<Duration>,
    },
    /// The credentials are valid but don't allow this call.
    #[error("the AWS credentials don't allow {action}: {message}")]
    Denied {
        /// The call.
        action: &'static str,
        /// AWS's message.
        message: String,
    },
    /// The server's certificate isn't trusted.
    #[error("the certificate of the AWS endpoint isn't trusted: {detail}")]
    Untrusted {
        /// What is wrong with the certificate.
        detail: String,
    },
    /// The system has no certificates, so no server can be trusted.
    #[error(transparent)]
    NoRoots(NoRoots),
    /// The CA bundle can't be used.
    #[error("AWS_CA_BUNDLE names {}, which can't be used: {detail}", path.display())]
    CaBundle {
        /// The file.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// There was no response: it is unknown whether the call was carried out.
    #[error("no response to {action}: {detail}")]
    NoAnswer {
        /// The call.
        action: &'static str,
        /// The connection's error.
        detail: String,
    },
    /// AWS rejected the call or failed.
    #[error("{action} failed ({code}): {message}")]
    Service {
        /// The call.
        action: &'static str,
        /// AWS's error code.
        code: String,
        /// AWS's message.
        message: String,
    },
}

fn shown(skew: Option<Duration>) -> String {
    skew.map(|skew| format!(" by {} min", skew.as_secs() / 60)).unwrap_or_default()
}

/// The messages of the chain's SSO providers when there is no session; their error types are private.
const SSO_WORDS: [&str; 2] = ["SSO token", "Session token not found or invalid"];

/// The prefix of rustls's certificate errors.
const CERTIFICATE_WORDS: &str = "invalid peer certificate";

/// What a response contains beyond the error itself.
#[derive(Debug, Default)]
struct Context {
    status: u16,
    /// The region that responded.
    region: Option<String>,
    /// How far this computer's clock is off.
    skew: Option<Duration>,
}

impl Context {
    fn of(status: u16, header: impl Fn(&str) -> Option<String>) -> Self {
        let date = header("date").and_then(|date| DateTime::from_str(&date, Format::HttpDate).ok());
        let there = date.and_then(|date| SystemTime::try_from(date).ok());
        let skew = there.map(|there| {
            let ahead = SystemTime::now().duration_since(there);
            ahead.unwrap_or_else(|behind| behind.duration())
        });
        Self { status, region: header(REGION_HEADER), skew }
    }
}

impl AwsError {
    /// Converts the error of an SDK call that failed even after the SDK's own retries.
    pub(crate) fn of<E>(action: &'static str, error: &SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        match error {
            SdkError::ServiceError(context) => {
                let raw = context.raw();
                let header = |name: &str| raw.headers().get(name).map(str::to_owned);
                let context = Context::of(raw.status().as_u16(), header);
                Self::said(action, error.code(), error.message(), context)
            }
            error => Self::unanswered(action, error),
        }
    }

    fn said(action: &'static str, code: Option<&str>, message: Option<&str>, context: Context) -> Self {
        let code = match code {
            Some(code) => code.to_owned(),
            None if context.status >= 500 => "ServiceUnavailable".to_owned(),
            None => format!("HTTP {}", context.status),
        };
        let message = message.unwrap_or("AWS gave no reason").to_owned();
        match aws_error::trouble(&code, &message, context.skew) {
            Some(AwsErrorKind::Denied) => Self::Denied { action, message },
            Some(AwsErrorKind::Expired) => Self::Expired { code, message },
            Some(AwsErrorKind::ClockSkew) => Self::ClockSkew { code, message, skew: context.skew },
            Some(AwsErrorKind::Rejected) => {
                match context.region.filter(|region| aws_error::is_opt_in(region)) {
                    Some(region) => Self::RegionNotEnabled { region, code, message },
                    None => Self::Rejected { code, message },
                }
            }
            Some(AwsErrorKind::Transient) | None => Self::Service { action, code, message },
        }
    }

    fn unanswered(action: &'static str, error: &(dyn Error + 'static)) -> Self {
        // The SDK carries the error of our own interceptor as a cause.
        match chain(error).find_map(|error| error.downcast_ref::<TrustError>()).cloned() {
            Some(TrustError::Bundle(BundleError { path, detail })) => return Self::CaBundle { path, detail },
            Some(TrustError::NoRoots(error)) => return Self::NoRoots(error),
            None => {}
        }
        let is_about_credentials =
            chain(error).any(|error| error.downcast_ref::<CredentialsError>().is_some());
        // The SDK's outermost message ("dispatch failure") is of no use to the user.
        let mut causes: Vec<String> = chain(error).skip(1).map(ToString::to_string).collect();
        causes.dedup();
        let detail = if causes.is_empty() { error.to_string() } else { causes.join(": ") };
        if detail.contains(CERTIFICATE_WORDS) {
            Self::Untrusted { detail }
        } else if !is_about_credentials {
            Self::NoAnswer { action, detail }
        } else if SSO_WORDS.iter().any(|words| detail.contains(words)) {
            Self::NoSsoSession { detail }
        } else {
            Self::NoCredentials { detail }
        }
    }

    /// AWS's error code, if the service responded.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Service { code, .. } | Self::Rejected { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Whether AWS reports that the stack doesn't exist. It has no error code for that.
    pub(crate) fn is_no_such_stack(&self) -> bool {
        matches!(self, Self::Service { code, message, .. }
            if code == "ValidationError" && message.contains("does not exist"))
    }

    /// Whether the same call may succeed later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::NoAnswer { .. } => true,
            Self::Service { code, message, .. } => {
                aws_error::trouble(code, message, None) == Some(AwsErrorKind::Transient)
            }
            _ => false,
        }
    }

    /// What to do.
    fn hint(&self) -> String {
        match self {
            Self::NoCredentials { .. } => {
                "set them up with aws configure, or log in with aws sso login; tried: the environment \
                 (AWS_ACCESS_KEY_ID), the profile (AWS_PROFILE, ~/.aws/config with SSO, roles and \
                 credential_process), a web identity, a container's role, an instance's role"
            }
            Self::NoSsoSession { .. } => {
                "run `aws sso login` (with --profile if AWS_PROFILE isn't set), then run the same command again"
            }
            Self::Rejected { .. } => "aws sts get-caller-identity shows whether they work; set AWS_PROFILE to use others",
            Self::RegionNotEnabled { region, .. } => {
                return format!(
                    "enable it: {}; or use another vm.region (or AWS_REGION)",
                    aws_error::enable_region(region)
                );
            }
            Self::Expired { .. } => "log in again (for example with aws sso login), then run the same command again",
            Self::ClockSkew { .. } => {
                "set the clock (timedatectl set-ntp true keeps it right), then run the same command again"
            }
            Self::Denied { action, .. } => {
                return format!("allow {action} for these credentials, or use others with AWS_PROFILE");
            }
            Self::Untrusted { detail } if detail.contains("expired") || detail.contains("not valid yet") => {
                "check this computer's clock (date), and the endpoint and proxy in use: AWS_ENDPOINT_URL, HTTPS_PROXY"
            }
            Self::Untrusted { .. } => {
                "if a proxy intercepts TLS, set AWS_CA_BUNDLE to a file with its CA certificate"
            }
            Self::NoRoots(error) => error.hint(),
            Self::CaBundle { .. } => "set AWS_CA_BUNDLE to a file of certificates in PEM format, or unset it",
            Self::NoAnswer { .. } => {
                "check the network and vm.region, then run the same command again"
            }
            Self::Service { .. } if self.is_transient() => "run the same command again in a minute",
            Self::Service { .. } => "fix the problem that AWS reports, then run the same command again",
        }
        .to_owned()
    }
}

impl From<AwsError> for ProviderError {
    fn from(error: AwsError) -> Self {
        let (what, hint) = (error.to_string(), error.hint().into());
        match error {
            AwsError::NoCredentials { .. }
            | AwsError::NoSsoSession { .. }
            | AwsError::Rejected { .. }
            | AwsError::RegionNotEnabled { .. }
            | AwsError::Expired { .. }
            | AwsError::ClockSkew { .. }
            | AwsError::Denied { .. } => Self::Permission { what, hint },
            AwsError::Untrusted { .. }
            | AwsError::CaBundle { .. }
            | AwsError::NoRoots(_)
            | AwsError::NoAnswer { .. }
            | AwsError::Service { .. } => Self::failed(what, hint),
        }
    }
}

/// Converts the reason in a stack's failure event to an error: a missing permission shows up there, too.
pub(crate) fn of_event(reason: String) -> ProviderError {
    let lacks_permission = ["not authorized to perform", "UnauthorizedOperation", "AccessDenied"];
    if lacks_permission.iter().any(|word| reason.contains(word)) {
        let hint = "allow the action for these credentials, or use others with AWS_PROFILE".into();
        return ProviderError::Permission { what: reason, hint };
    }
    // The AMI's publisher has enlarged it since goloo's table was written.
    if reason.contains("is smaller than snapshot") {
        return ProviderError::failed(
            reason,
            "set vm.disk to the size that AWS expects, then create it again",
        );
    }
    ProviderError::failed(reason, "fix the problem that AWS reports, then create it again")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn said(code: &str, status: u16) -> AwsError {
        said_in("us-east-1", code, status)
    }

    fn said_in(region: &str, code: &str, status: u16) -> AwsError {
        let context = Context { status, region: Some(region.to_owned()), skew: None };
        AwsError::said("ec2:RunInstances", Some(code), Some("because"), context)
    }

    #[test]
    fn credential_and_permission_errors_are_distinguished_from_other_failures() {
        assert!(matches!(said("ExpiredToken", 403), AwsError::Expired { .. }));
        assert!(matches!(said("InvalidClientTokenId", 403), AwsError::Rejected { .. }));
        assert!(matches!(said("UnauthorizedOperation", 403), AwsError::Denied { .. }));
        assert!(matches!(said("InvalidParameterValue", 400), AwsError::Service { .. }));
        for code in ["ExpiredToken", "AccessDenied", "InvalidClientTokenId", "RequestTimeTooSkewed"] {
            assert!(matches!(said(code, 403).into(), ProviderError::Permission { .. }), "{code}");
        }
    }

    #[test]
    fn a_denied_call_is_named_by_its_iam_action() {
        assert_eq!(
            said("UnauthorizedOperation", 403).to_string(),
            "the AWS credentials don't allow ec2:RunInstances: because"
        );
        let event = "API: ec2:RunInstances You are not authorized to perform this operation.";
        assert!(matches!(of_event(event.to_owned()), ProviderError::Permission { .. }));
    }

    #[test]
    fn an_opt_in_region_is_named_with_the_command_that_enables_it() {
        for code in ["AuthFailure", "InvalidClientTokenId", "OptInRequired", "UnrecognizedClientException"] {
            let error = said_in("ap-east-1", code, 401);
            let what = format!(
                "AWS doesn't accept the credentials in ap-east-1, a region that an account must enable first ({code}): because"
            );
            assert_eq!(error.to_string(), what);
            assert!(error.hint().contains("aws account enable-region --region-name ap-east-1"), "{error:?}");
            assert!(matches!(said_in("eu-west-1", code, 401), AwsError::Rejected { .. }));
        }
    }

    #[test]
    fn the_date_header_of_the_response_reveals_a_wrong_clock() {
        let at = |date: &str| {
            let date = date.to_owned();
            Context::of(400, move |name| (name == "date").then(|| date.clone()))
        };
        let said = |context| AwsError::said("ec2:RunInstances", Some("RequestExpired"), None, context);
        let error = said(at("Wed, 15 Jan 2025 10:30:00 GMT"));
        assert!(error.to_string().starts_with("this computer's clock is wrong by "), "{error}");
        assert!(error.hint().contains("set the clock"), "{error:?}");
        let now = DateTime::from(SystemTime::now()).fmt(Format::HttpDate).unwrap();
        assert!(matches!(said(at(&now)), AwsError::Expired { .. }));
        assert!(matches!(said(at("yesterday")), AwsError::Expired { .. }));
    }

    #[test]
    fn credential_chain_and_connection_errors_have_specific_messages() {
        #[derive(Debug, thiserror::Error)]
        #[error("dispatch failure")]
        struct Dispatch(#[source] Box<dyn Error>);
        let of = |cause: Box<dyn Error>| AwsError::unanswered("sts:GetCallerIdentity", &Dispatch(cause));
        let sso = "the SSO token has expired and cannot be refreshed";
        let error = of(Box::new(CredentialsError::provider_error(sso)));
        assert!(matches!(error, AwsError::NoSsoSession { .. }), "{error:?}");
        assert!(error.hint().contains("`aws sso login`"), "{error:?}");
        let error = of(Box::new(CredentialsError::not_loaded("no providers in chain provided credentials")));
        assert!(matches!(error, AwsError::NoCredentials { .. }), "{error:?}");
        let error = of("invalid peer certificate: UnknownIssuer".into());
        assert!(matches!(error, AwsError::Untrusted { .. }) && !error.is_transient(), "{error:?}");
        assert!(error.hint().contains("AWS_CA_BUNDLE"), "{error:?}");
        let error = of("connection refused".into());
        assert!(matches!(error, AwsError::NoAnswer { .. }) && error.is_transient(), "{error:?}");
    }

    #[test]
    fn only_transient_errors_are_retried() {
        let ill = AwsError::said("a:B", None, None, Context { status: 502, ..Context::default() });
        for passing in [
            said("Throttling", 400),
            said("SlowDown", 503),
            said("PriorRequestNotComplete", 400),
            said("RequestThrottled", 400),
            said("EC2ThrottledException", 400),
            ill,
        ] {
            assert!(passing.is_transient(), "{passing}");
        }
        for lasting in [said("ValidationError", 400), said("ExpiredToken", 403), said("AccessDenied", 403)] {
            assert!(!lasting.is_transient(), "{lasting}");
        }
    }
}
