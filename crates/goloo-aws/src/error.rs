//! What can go wrong between goloo and AWS. The SDK's errors become [`AwsError`] here and nowhere else.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use goloo_core::provider::ProviderError;

/// Why a call to AWS didn't do what was wanted. `action` is the call as IAM policies name it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AwsError {
    /// The standard chain gave none.
    #[error("there are no AWS credentials: {detail}")]
    NoCredentials {
        /// What the chain's members said.
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
    /// They are good and don't allow this.
    #[error("the AWS credentials don't allow {action}: {message}")]
    Denied {
        /// The call.
        action: &'static str,
        /// AWS's sentence.
        message: String,
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

/// Codes by which AWS says that the credentials themselves are bad, over all services.
const REJECTED: &[&str] = &[
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "InvalidToken",
    "MissingAuthenticationToken",
    "OptInRequired",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
];

const DENIED: &[&str] =
    &["AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "UnauthorizedAccess"];

/// Codes of a service that is busy or ill: the same call may work a little later.
const TRANSIENT: &[&str] = &[
    "InternalError",
    "InternalFailure",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "Unavailable",
];

impl AwsError {
    /// Of a call that the SDK couldn't make, after its own retries.
    pub(crate) fn of<E>(action: &'static str, error: &SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        match error {
            SdkError::ServiceError(context) => {
                let status = context.raw().status().as_u16();
                Self::said(action, error.code(), error.message(), status)
            }
            error => Self::unanswered(action, error),
        }
    }

    fn said(action: &'static str, code: Option<&str>, message: Option<&str>, status: u16) -> Self {
        let code = match code {
            Some(code) => code.to_owned(),
            None if status >= 500 => "ServiceUnavailable".to_owned(),
            None => format!("HTTP {status}"),
        };
        let message = message.unwrap_or("AWS gave no reason").to_owned();
        match code.as_str() {
            word if REJECTED.contains(&word) => Self::Rejected { code, message },
            word if DENIED.contains(&word) => Self::Denied { action, message },
            _ => Self::Service { action, code, message },
        }
    }

    fn unanswered(action: &'static str, error: &(dyn Error + 'static)) -> Self {
        let chain = || std::iter::successors(Some(error), |error| (*error).source());
        let is_about_credentials = chain().any(|error| error.downcast_ref::<CredentialsError>().is_some());
        // The SDK's own first words ("dispatch failure") say nothing that a person could use.
        let mut causes: Vec<String> = chain().skip(1).map(ToString::to_string).collect();
        causes.dedup();
        let detail = if causes.is_empty() { error.to_string() } else { causes.join(": ") };
        if is_about_credentials { Self::NoCredentials { detail } } else { Self::NoAnswer { action, detail } }
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
            Self::Service { code, .. } => TRANSIENT.contains(&code.as_str()),
            _ => false,
        }
    }

    /// What to do.
    fn hint(&self) -> String {
        match self {
            Self::NoCredentials { .. } => {
                "tried: the environment (AWS_ACCESS_KEY_ID), the profile (AWS_PROFILE, ~/.aws/config with SSO, roles \
                 and credential_process), a web identity, a container's role, an instance's role; \
                 aws configure, or aws sso login, sets one up"
            }
            Self::Rejected { code, .. } if code.contains("Expired") => {
                "log in again (aws sso login, say), then run the same command again"
            }
            Self::Rejected { .. } => "aws sts get-caller-identity shows whether they work; AWS_PROFILE takes others",
            Self::Denied { action, .. } => {
                return format!("have {action} allowed for these credentials, or take others with AWS_PROFILE");
            }
            Self::NoAnswer { .. } => "look at the network and at vm.region, then run the same command again",
            Self::Service { .. } if self.is_transient() => "run the same command again in a minute",
            Self::Service { .. } => "mend what AWS names, then run the same command again",
        }
        .to_owned()
    }
}

impl From<AwsError> for ProviderError {
    fn from(error: AwsError) -> Self {
        let (what, hint) = (error.to_string(), error.hint());
        match error {
            AwsError::NoCredentials { .. } | AwsError::Rejected { .. } | AwsError::Denied { .. } => {
                Self::Permission { what, hint }
            }
            AwsError::NoAnswer { .. } | AwsError::Service { .. } => Self::failed(what, hint),
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
    ProviderError::failed(reason, "mend what AWS names, then create it again")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: &str, status: u16) -> AwsError {
        AwsError::said("ec2:RunInstances", Some(code), Some("because"), status)
    }

    #[test]
    fn bad_credentials_and_lacking_permissions_are_told_apart_from_failures() {
        assert!(matches!(said("ExpiredToken", 403), AwsError::Rejected { .. }));
        assert!(matches!(said("UnauthorizedOperation", 403), AwsError::Denied { .. }));
        assert!(matches!(said("InvalidParameterValue", 400), AwsError::Service { .. }));
        for error in [said("ExpiredToken", 403), said("AccessDenied", 403)] {
            assert!(matches!(error.into(), ProviderError::Permission { .. }));
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
    fn only_what_may_pass_is_tried_again() {
        for passing in
            [said("Throttling", 400), said("SlowDown", 503), AwsError::said("a:B", None, None, 502)]
        {
            assert!(passing.is_transient(), "{passing}");
        }
        for lasting in [said("ValidationError", 400), said("ExpiredToken", 403), said("AccessDenied", 403)] {
            assert!(!lasting.is_transient(), "{lasting}");
        }
    }
}
