//! Translates a service's errors into the store's.

use std::error::Error;
use std::time::Duration;

use goloo_model::aws_error::{self, AwsErrorKind};
use goloo_model::store::{ServiceProblem, StoreError};
use goloo_sys::error_chain::chain;
use object_store::Error as ObjectError;
use object_store::client::{HttpError, HttpErrorKind};

use super::http_error::{EndlessList, OtherRegion};
#[cfg(feature = "lock-table")]
use super::table_error::TableError;
use crate::bucket_address::check_region;

/// A kind of request: its description, and the permission that it requires on S3.
#[derive(Debug, Clone, Copy)]
pub(super) struct Action {
    verb: &'static str,
    permission: &'static str,
}

pub(super) const READ: Action = Action { verb: "read", permission: "s3:GetObject" };
pub(super) const LIST: Action = Action { verb: "list", permission: "s3:ListBucket" };
pub(super) const WRITE: Action = Action { verb: "write", permission: "s3:PutObject" };

/// The result of a request that failed.
#[derive(Debug)]
pub(super) enum Seen {
    /// The library's error.
    Error(ObjectError),
    /// No response within the timeout.
    Silence(Duration),
}

#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", .0.as_secs_f32())]
pub(super) struct NoAnswer(pub Duration);

/// An error's last cause, which is the message of the service or the system; the others repeat it.
fn last_words(error: &ObjectError) -> String {
    chain(error).last().map_or_else(String::new, ToString::to_string)
}

/// A service's error message, without XML.
#[derive(Debug, Default, thiserror::Error)]
#[error("{text}")]
pub(super) struct Said {
    /// The HTTP status, unless it is a success.
    status: Option<u16>,
    /// Such as `SlowDown`.
    code: String,
    text: String,
}

impl Said {
    fn of(error: &ObjectError) -> Self {
        let text = last_words(error);
        // The library provides the status only as part of its message.
        let status = text.split_once("status code: ").and_then(|(_, rest)| rest.get(..3)?.parse().ok());
        let status = if text.contains("redirect without LOCATION") { Some(301) } else { status };
        let code = element(&text, "Code").unwrap_or_default().to_owned();
        let text = match element(&text, "Message") {
            Some(message) if !code.is_empty() => shortened(&format!("{code}: {message}")),
            _ => shortened(&text),
        };
        Self { status, code, text }
    }

    /// Whether a retry would get the same answer. A conflict and a failed condition are examined by the write
    /// itself; the other statuses below mean that the service is busy.
    fn is_final(&self) -> bool {
        const PASSING: [u16; 5] = [408, 409, 412, 425, 429];
        match self.status {
            Some(501 | 300..400) => true,
            Some(status) => {
                let passes = PASSING.contains(&status) || self.trouble() == Some(AwsErrorKind::Transient);
                (400..500).contains(&status) && !passes
            }
            None => false,
        }
    }

    fn trouble(&self) -> Option<AwsErrorKind> {
        aws_error::trouble(&self.code, &self.text, None)
    }

    /// The service doesn't know the credentials, or they lack a permission.
    fn is_denial(&self) -> bool {
        let denied = [AwsErrorKind::Denied, AwsErrorKind::Expired, AwsErrorKind::Rejected];
        matches!(self.status, Some(401 | 403))
            || self.trouble().is_some_and(|trouble| denied.contains(&trouble))
    }
}

/// The text of an XML element in a service's response.
fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once('<')?.0)
}

/// The maximum length of a service's message that is shown.
const SAID_MAX: usize = 500;

/// The start of a service's message, on one line.
fn shortened(text: &str) -> String {
    let begin: String = text.chars().take(SAID_MAX).collect();
    begin.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

/// The errors of S3, Azure and Google Cloud Storage for a missing bucket; a missing object has other
/// errors.
const NO_BUCKET: [&str; 3] = ["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"];

/// Why a service rejects every request, if known.
fn problem(error: &ObjectError) -> Option<ServiceProblem> {
    let said = Said::of(error);
    if said.trouble() == Some(AwsErrorKind::ClockSkew) {
        return Some(ServiceProblem::ClockSkew);
    }
    if let Some(region) = chain(error).find_map(|cause| cause.downcast_ref::<OtherRegion>()) {
        return Some(ServiceProblem::WrongRegion { region: Some(region.0.clone()) });
    }
    if ["AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"]
        .contains(&said.code.as_str())
    {
        let text = last_words(error);
        let region = element(&text, "Region").filter(|region| check_region(region).is_ok());
        let region = region.map(str::to_owned);
        return Some(ServiceProblem::WrongRegion { region });
    }
    if chain(error).any(is_unknown_authority) {
        return Some(ServiceProblem::UnknownAuthority);
    }
    let no_credentials = matches!(error, ObjectError::Unauthenticated { .. });
    let sso = no_credentials && chain(error).any(|cause| cause.to_string().contains("SSO"));
    sso.then(|| ServiceProblem::SsoSession { profile: std::env::var("AWS_PROFILE").ok() })
}

fn is_unknown_authority(cause: &(dyn Error + 'static)) -> bool {
    let issuer = rustls::CertificateError::UnknownIssuer;
    cause.downcast_ref() == Some(&rustls::Error::InvalidCertificate(issuer))
}

impl Seen {
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Error(ObjectError::NotFound { .. })) && !self.lacks_bucket()
    }

    /// Whether the bucket doesn't exist.
    pub fn lacks_bucket(&self) -> bool {
        let Self::Error(error @ (ObjectError::NotFound { .. } | ObjectError::Generic { .. })) = self else {
            return false;
        };
        let said = last_words(error);
        NO_BUCKET.iter().any(|words| said.contains(words))
    }

    pub fn problem(&self) -> Option<ServiceProblem> {
        match self {
            Self::Error(error) => problem(error),
            Self::Silence(_) => None,
        }
    }

    /// Whether the service compared, and the stored version is a different one.
    pub fn is_unmet_condition(&self) -> bool {
        matches!(self, Self::Error(ObjectError::Precondition { .. } | ObjectError::AlreadyExists { .. }))
    }

    /// The service's message if it doesn't support the request.
    pub fn unimplemented(&self) -> Option<Said> {
        let Self::Error(error) = self else { return None };
        let said = Said::of(error);
        (said.status == Some(501) || matches!(error, ObjectError::NotImplemented { .. })).then_some(said)
    }

    /// Whether the service refused the credentials, or there are none: a retry doesn't help.
    pub fn is_denial(&self) -> bool {
        match self {
            Self::Error(ObjectError::PermissionDenied { .. } | ObjectError::Unauthenticated { .. }) => true,
            // The library has no specific error for a refused listing.
            Self::Error(error @ ObjectError::Generic { .. }) => Said::of(error).is_denial(),
            _ => false,
        }
    }

    /// Whether no retry can change the answer.
    pub fn is_final(&self) -> bool {
        #[cfg(feature = "lock-table")]
        if let Some(error) = self.of_table() {
            return !error.may_pass();
        }
        let refused = match self {
            Self::Error(error) if chain(error).any(|cause| cause.is::<EndlessList>()) => true,
            Self::Error(error @ ObjectError::Generic { .. }) => Said::of(error).is_final(),
            Self::Error(error) => matches!(error, ObjectError::NotImplemented { .. }),
            Self::Silence(_) => false,
        };
        refused || self.is_denial() || self.lacks_bucket() || self.problem().is_some()
    }

    /// What the lock table said, when this is about it. It comes through the library, which carries it as a cause.
    #[cfg(feature = "lock-table")]
    fn of_table(&self) -> Option<&TableError> {
        match self {
            Self::Error(ObjectError::Generic { source, .. }) => source.downcast_ref(),
            _ => None,
        }
    }

    #[cfg(feature = "lock-table")]
    fn into_table_error(self) -> Result<TableError, Self> {
        match self {
            Self::Error(ObjectError::Generic { source, store }) => match source.downcast() {
                Ok(error) => Ok(*error),
                Err(source) => Err(Self::Error(ObjectError::Generic { source, store })),
            },
            other => Err(other),
        }
    }

    /// Whether no connection could be made. That may be transient, but is retried for less time than a slow response.
    pub fn is_nobody(&self) -> bool {
        #[cfg(feature = "lock-table")]
        if let Some(TableError::Unreachable { nobody, .. }) = self.of_table() {
            return *nobody;
        }
        match self {
            Self::Error(error) => {
                http_error(error).is_some_and(|error| error.kind() == HttpErrorKind::Connect)
            }
            Self::Silence(_) => false,
        }
    }

    /// Whether the same request may succeed a moment later.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Silence(_) | Self::Error(ObjectError::Generic { .. })) && !self.is_final()
    }

    pub fn into_error(self, action: Action, place: &str) -> StoreError {
        #[cfg(feature = "lock-table")]
        let seen = match self.into_table_error() {
            Ok(error) => return error.into_store_error(place),
            Err(seen) => seen,
        };
        #[cfg(not(feature = "lock-table"))]
        let seen = self;
        let place = place.to_owned();
        if let Some(problem) = seen.problem() {
            return StoreError::Service { place, problem, source: seen.into_source() };
        }
        match seen {
            Self::Silence(limit) => StoreError::Unreachable { place, source: Box::new(NoAnswer(limit)) },
            seen if seen.lacks_bucket() => StoreError::NoBucket { place },
            seen if seen.is_denial() => StoreError::Denied {
                place,
                action: format!("{} ({})", action.verb, action.permission),
                source: seen.into_source(),
            },
            seen if seen.is_broken_line() => StoreError::Unreachable { place, source: seen.into_source() },
            seen => StoreError::Backend { action: action.verb, place, source: seen.into_source() },
        }
    }

    pub fn into_source(self) -> Box<dyn Error + Send + Sync> {
        match self {
            Self::Error(error) => Box::new(Said::of(&error)),
            Self::Silence(limit) => Box::new(NoAnswer(limit)),
        }
    }

    /// Whether the connection failed, as opposed to a negative response.
    fn is_broken_line(&self) -> bool {
        match self {
            Self::Error(error) => http_error(error).is_some(),
            Self::Silence(_) => true,
        }
    }
}

/// Whether a write was definitely refused: it won't be carried out later. A busy service (503) refuses
/// before it starts; its other errors may occur at any point.
#[cfg(feature = "lock-table")]
pub(super) fn is_refusal(error: &ObjectError) -> bool {
    match error {
        ObjectError::NotFound { .. }
        | ObjectError::AlreadyExists { .. }
        | ObjectError::Precondition { .. }
        | ObjectError::PermissionDenied { .. }
        | ObjectError::Unauthenticated { .. } => true,
        ObjectError::Generic { .. } => {
            let unsent = http_error(error).is_some_and(|error| error.kind() == HttpErrorKind::Connect);
            unsent || Said::of(error).status.is_some_and(|status| status < 500 || matches!(status, 501 | 503))
        }
        _ => false,
    }
}

/// The HTTP error, if that is the cause.
fn http_error(error: &ObjectError) -> Option<&HttpError> {
    chain(error).find_map(|cause| cause.downcast_ref())
}

/// An error of the service, or invalid stored data.
pub(super) fn backend(
    action: &'static str,
    place: &str,
    source: impl Into<Box<dyn Error + Send + Sync>>,
) -> StoreError {
    StoreError::Backend { action, place: place.to_owned(), source: source.into() }
}
