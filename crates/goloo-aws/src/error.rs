//! What can go wrong between goloo and AWS. The SDK's errors become [`AwsError`] here and nowhere else.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use goloo_core::aws_error::{self, AwsTrouble};
use goloo_core::provider::ProviderError;

use crate::ca_bundle::CaBundleError;
use crate::session::REGION_HEADER;

/// Why a call to AWS didn't do what was wanted. `action` is the call as IAM policies name it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AwsError {
    /// The standard chain gave none.
    #[error("there are no AWS credentials: {detail}")]
    NoCredentials {
        /// What the chain's members said.
        detail: String,
    },
    /// The profile logs in by SSO, and nobody is logged in.
    #[error("the AWS SSO session has expired, or there is none: {detail}")]
    NoSsoSession {
        /// What the chain's member said.
        detail: String,
    },
    /// AWS doesn't take them, whatever is asked.
    #[error("AWS doesn't accept the credentials ({code}): {message}")]
    Rejected {
        /// AWS's word for it.
        code: String,
        /// AWS's sentence.
        message: String,
    },
    /// AWS doesn't take them in a region that an account must enable before it uses it.
    #[error(
        "AWS doesn't accept the credentials in {region}, a region that an account must enable first ({code}): {message}"
    )]
    RegionNotEnabled {
        /// The region.
        region: String,
        /// AWS's word for it.
        code: String,
        /// AWS's sentence.
        message: String,
    },
    /// They were good, for a time.
    #[error("the AWS credentials have expired ({code}): {message}")]
    Expired {
        /// AWS's word for it.
        code: String,
        /// AWS's sentence.
        message: String,
    },
    /// This computer's clock is so wrong that AWS refuses what it signs.
    #[error("this computer's clock is wrong{}, so AWS refuses its requests ({code}): {message}", shown(*.skew))]
    ClockSkew {
        /// AWS's word for it.
        code: String,
        /// AWS's sentence.
        message: String,
        /// By how much, where the answer told.
        skew: Option<Duration>,
    },
    /// They are good and don't allow this.
    #[error("the AWS credentials don't allow {action}: {message}")]
    Denied {
        /// The call.
        action: &'static str,
        /// AWS's sentence.
        message: String,
    },
    /// The other end of the connection can't show that it is AWS.
    #[error("the certificate of the server that answers for AWS isn't trusted: {detail}")]
    Untrusted {
        /// What is wrong with it.
        detail: String,
    },
    /// The file with the certificates to trust isn't one.
    #[error("AWS_CA_BUNDLE names {}, which can't be used: {detail}", path.display())]
    CaBundle {
        /// The file.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// No answer: whether the call was carried out can't be told.
    #[error("no answer to {action}: {detail}")]
    NoAnswer {
        /// The call.
        action: &'static str,
        /// What the connection said.
        detail: String,
    },
    /// AWS refused or failed.
    #[error("{action} failed ({code}): {message}")]
    Service {
        /// The call.
        action: &'static str,
        /// AWS's word for it.
        code: String,
        /// AWS's sentence.
        message: String,
    },
}

fn shown(skew: Option<Duration>) -> String {
    skew.map(|skew| format!(" by {} min", skew.as_secs() / 60)).unwrap_or_default()
}

/// What the chain's SSO members say where nobody is logged in: their types are private.
const SSO_WORDS: [&str; 2] = ["SSO token", "Session token not found or invalid"];

/// How rustls begins what is wrong with a certificate.
const CERTIFICATE_WORDS: &str = "invalid peer certificate";

/// What an answer tells beside the error itself.
#[derive(Debug, Default)]
struct Context {
    status: u16,
    /// Where it came from.
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
    /// Of a call that the SDK couldn't make, after its own retries.
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
            Some(AwsTrouble::Denied) => Self::Denied { action, message },
            Some(AwsTrouble::Expired) => Self::Expired { code, message },
            Some(AwsTrouble::ClockSkew) => Self::ClockSkew { code, message, skew: context.skew },
            Some(AwsTrouble::Rejected) => {
                match context.region.filter(|region| aws_error::is_opt_in(region)) {
                    Some(region) => Self::RegionNotEnabled { region, code, message },
                    None => Self::Rejected { code, message },
                }
            }
            Some(AwsTrouble::Transient) | None => Self::Service { action, code, message },
        }
    }

    fn unanswered(action: &'static str, error: &(dyn Error + 'static)) -> Self {
        let chain = || std::iter::successors(Some(error), |error| (*error).source());
        if let Some(error) = chain().find_map(|error| error.downcast_ref::<CaBundleError>()) {
            let CaBundleError { path, detail } = error.clone();
            return Self::CaBundle { path, detail };
        }
        let is_about_credentials = chain().any(|error| error.downcast_ref::<CredentialsError>().is_some());
        // The SDK's own first words ("dispatch failure") say nothing that a person could use.
        let mut causes: Vec<String> = chain().skip(1).map(ToString::to_string).collect();
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

    /// AWS's word for it, where the service answered.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Service { code, .. } | Self::Rejected { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Whether AWS says that there is no such stack. It has no code of its own for that.
    pub(crate) fn is_no_such_stack(&self) -> bool {
        matches!(self, Self::Service { code, message, .. }
            if code == "ValidationError" && message.contains("does not exist"))
    }

    /// Whether the same call may work a little later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::NoAnswer { .. } => true,
            Self::Service { code, message, .. } => {
                aws_error::trouble(code, message, None) == Some(AwsTrouble::Transient)
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
                "run `aws sso login` (with --profile where AWS_PROFILE isn't set), then run the same command again"
            }
            Self::Rejected { .. } => "aws sts get-caller-identity shows whether they work; AWS_PROFILE takes others",
            Self::RegionNotEnabled { region, .. } => {
                return format!(
                    "enable it: {}; or take another vm.region (or AWS_REGION)",
                    aws_error::enable_region(region)
                );
            }
            Self::Expired { .. } => "log in again (aws sso login, say), then run the same command again",
            Self::ClockSkew { .. } => {
                "set the clock (timedatectl set-ntp true keeps it right), then run the same command again"
            }
            Self::Denied { action, .. } => {
                return format!("have {action} allowed for these credentials, or take others with AWS_PROFILE");
            }
            Self::Untrusted { detail } if detail.contains("expired") || detail.contains("not valid yet") => {
                "check this computer's clock (date), and who answers there: AWS_ENDPOINT_URL, HTTPS_PROXY"
            }
            Self::Untrusted { .. } => {
                "where a proxy opens TLS, name a file with its CA's certificate: AWS_CA_BUNDLE=FILE"
            }
            Self::CaBundle { .. } => "name a file of certificates in PEM form, or unset AWS_CA_BUNDLE",
            Self::NoAnswer { .. } => {
                "check the network and vm.region, then run the same command again"
            }
            Self::Service { .. } if self.is_transient() => "run the same command again in a minute",
            Self::Service { .. } => "fix what AWS names, then run the same command again",
        }
        .to_owned()
    }
}

impl From<AwsError> for ProviderError {
    fn from(error: AwsError) -> Self {
        let (what, hint) = (error.to_string(), error.hint());
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
            | AwsError::NoAnswer { .. }
            | AwsError::Service { .. } => Self::failed(what, hint),
        }
    }
}

/// What a stack's failed event says, as an error: a permission that the credentials lack shows itself
/// there, too.
pub(crate) fn of_event(reason: String) -> ProviderError {
    let lacks_permission = ["not authorized to perform", "UnauthorizedOperation", "AccessDenied"];
    if lacks_permission.iter().any(|word| reason.contains(word)) {
        let hint =
            "have the action allowed for these credentials, or take others with AWS_PROFILE".to_owned();
        return ProviderError::Permission { what: reason, hint };
    }
    // The AMI's publisher made it larger than goloo knew.
    if reason.contains("is smaller than snapshot") {
        return ProviderError::failed(
            reason,
            "set vm.disk to the size that AWS expects, then create it again",
        );
    }
    ProviderError::failed(reason, "fix what AWS names, then create it again")
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
    fn bad_credentials_and_lacking_permissions_are_told_apart_from_failures() {
        assert!(matches!(said("ExpiredToken", 403), AwsError::Expired { .. }));
        assert!(matches!(said("InvalidClientTokenId", 403), AwsError::Rejected { .. }));
        assert!(matches!(said("UnauthorizedOperation", 403), AwsError::Denied { .. }));
        assert!(matches!(said("InvalidParameterValue", 400), AwsError::Service { .. }));
        for code in ["ExpiredToken", "AccessDenied", "InvalidClientTokenId", "RequestTimeTooSkewed"] {
            assert!(matches!(said(code, 403).into(), ProviderError::Permission { .. }), "{code}");
        }
    }

    #[test]
    fn a_denied_call_is_named_as_policies_name_it() {
        assert_eq!(
            said("UnauthorizedOperation", 403).to_string(),
            "the AWS credentials don't allow ec2:RunInstances: because"
        );
        let event = "API: ec2:RunInstances You are not authorized to perform this operation.";
        assert!(matches!(of_event(event.to_owned()), ProviderError::Permission { .. }));
    }

    #[test]
    fn a_region_that_must_be_enabled_first_is_named_with_the_command() {
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
    fn the_answer_s_date_tells_that_the_clock_is_wrong() {
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
    fn what_the_chain_or_the_connection_says_becomes_words_of_its_own() {
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
    fn only_what_may_pass_is_tried_again() {
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
