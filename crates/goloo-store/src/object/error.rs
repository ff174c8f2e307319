//! What a service said, in the store's words.

use std::error::Error;
use std::time::Duration;

use goloo_core::aws_error::{self, AwsTrouble};
use goloo_core::store::{ServiceProblem, StoreError};
use object_store::Error as ObjectError;
use object_store::client::{HttpError, HttpErrorKind};

use super::http::EndlessList;
use super::table_error::TableError;
use crate::bucket_address::check_region;

/// A request: the word for it, and the permission that it takes on S3.
#[derive(Debug, Clone, Copy)]
pub(super) struct Action {
    verb: &'static str,
    permission: &'static str,
}

pub(super) const READ: Action = Action { verb: "read", permission: "s3:GetObject" };
pub(super) const LIST: Action = Action { verb: "list", permission: "s3:ListBucket" };
pub(super) const WRITE: Action = Action { verb: "write", permission: "s3:PutObject" };

/// How a request ended that didn't succeed.
#[derive(Debug)]
pub(super) enum Seen {
    /// The library's word.
    Error(ObjectError),
    /// No answer within the limit.
    Silence(Duration),
}

#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", .0.as_secs_f32())]
pub(super) struct NoAnswer(pub Duration);

/// An error's causes, itself first. What an `io::Error` carries counts as its cause.
fn chain<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'e (dyn Error + 'static)| {
        let error: &'e (dyn Error + 'static) = *error;
        match error.downcast_ref::<std::io::Error>() {
            Some(io) => io.get_ref().map(|carried| carried as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

/// An error's last cause, which is what the service or the system said; those around it repeat it.
fn last_words(error: &ObjectError) -> String {
    chain(error).last().map_or_else(String::new, ToString::to_string)
}

/// What a service said, without the XML around it.
#[derive(Debug, Default, thiserror::Error)]
#[error("{text}")]
pub(super) struct Said {
    /// The HTTP status, where it was none of success.
    status: Option<u16>,
    /// As in `SlowDown`.
    code: String,
    text: String,
}

impl Said {
    fn of(error: &ObjectError) -> Self {
        let text = last_words(error);
        // The library keeps the status in its text alone.
        let status = text.split_once("status code: ").and_then(|(_, rest)| rest.get(..3)?.parse().ok());
        let status = if text.contains("redirect without LOCATION") { Some(301) } else { status };
        let code = element(&text, "Code").unwrap_or_default().to_owned();
        let text = match element(&text, "Message") {
            Some(message) if !code.is_empty() => shortened(&format!("{code}: {message}")),
            _ => shortened(&text),
        };
        Self { status, code, text }
    }

    /// The same request gets the same answer. A conflict and a failed condition are answers that a write looks
    /// into; the others below are of a service that has no time.
    fn is_final(&self) -> bool {
        const PASSING: [u16; 5] = [408, 409, 412, 425, 429];
        match self.status {
            Some(501 | 300..400) => true,
            Some(status) => {
                let passes = PASSING.contains(&status) || self.trouble() == Some(AwsTrouble::Transient);
                (400..500).contains(&status) && !passes
            }
            None => false,
        }
    }

    fn trouble(&self) -> Option<AwsTrouble> {
        aws_error::trouble(&self.code, &self.text, None)
    }

    /// We aren't known to the service, or may not do this.
    fn is_denial(&self) -> bool {
        let denied = [AwsTrouble::Denied, AwsTrouble::Expired, AwsTrouble::Rejected];
        matches!(self.status, Some(401 | 403))
            || self.trouble().is_some_and(|trouble| denied.contains(&trouble))
    }
}

/// The text of an XML element in a service's answer.
fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once('<')?.0)
}

/// So much of what a service says is shown.
const SAID_MAX: usize = 500;

/// The begin of a service's words, on one line.
fn shortened(text: &str) -> String {
    let begin: String = text.chars().take(SAID_MAX).collect();
    begin.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

/// What S3, Azure and Google Cloud Storage say where there is no bucket; of an object that isn't there they say
/// something else.
const NO_BUCKET: [&str; 3] = ["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"];

/// What keeps a service from serving any request, where that is known.
fn problem(error: &ObjectError) -> Option<ServiceProblem> {
    let said = Said::of(error);
    if said.trouble() == Some(AwsTrouble::ClockSkew) {
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

/// The region of a bucket, as S3 names it where it redirects.
#[derive(Debug, thiserror::Error)]
#[error("the bucket is in {0}")]
pub(super) struct OtherRegion(pub String);

impl Seen {
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Error(ObjectError::NotFound { .. })) && !self.lacks_bucket()
    }

    /// There is no bucket at all.
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

    /// The service compared, and found something else than what was to be replaced.
    pub fn is_unmet_condition(&self) -> bool {
        matches!(self, Self::Error(ObjectError::Precondition { .. } | ObjectError::AlreadyExists { .. }))
    }

    /// The service says that it has no such request; in its words.
    pub fn unimplemented(&self) -> Option<Said> {
        let Self::Error(error) = self else { return None };
        let said = Said::of(error);
        (said.status == Some(501) || matches!(error, ObjectError::NotImplemented { .. })).then_some(said)
    }

    /// The service refused us, or we have nothing to show it: asking again doesn't help.
    pub fn is_denial(&self) -> bool {
        match self {
            Self::Error(ObjectError::PermissionDenied { .. } | ObjectError::Unauthenticated { .. }) => true,
            // The library has no error of its own for a listing that is refused.
            Self::Error(error @ ObjectError::Generic { .. }) => Said::of(error).is_denial(),
            _ => false,
        }
    }

    /// Nothing that we can do changes the answer.
    pub fn is_final(&self) -> bool {
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

    /// What the lock table said, when this is about it.
    fn of_table(&self) -> Option<&TableError> {
        match self {
            Self::Error(ObjectError::Generic { source, .. }) => source.downcast_ref(),
            _ => None,
        }
    }

    /// Nobody is there to be asked. That may pass too, but not for as long as a slow answer.
    pub fn is_nobody(&self) -> bool {
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
        let seen = match self {
            Self::Error(ObjectError::Generic { source, store }) => match source.downcast::<TableError>() {
                Ok(error) => return error.into_store_error(place),
                Err(source) => Self::Error(ObjectError::Generic { source, store }),
            },
            other => other,
        };
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

    /// The line broke, as opposed to an answer that says no.
    fn is_broken_line(&self) -> bool {
        match self {
            Self::Error(error) => http_error(error).is_some(),
            Self::Silence(_) => true,
        }
    }
}

/// Whether a write was refused for sure: it won't come through later. A service that is too busy (503) says so
/// before it begins; other failures of its own may come at any moment.
#[cfg(feature = "s3")]
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

/// What the line did, when that is what an error is about.
fn http_error(error: &ObjectError) -> Option<&HttpError> {
    chain(error).find_map(|cause| cause.downcast_ref())
}

/// Something of the service's, or of what is stored, that isn't as it must be.
pub(super) fn backend(
    action: &'static str,
    place: &str,
    source: impl Into<Box<dyn Error + Send + Sync>>,
) -> StoreError {
    StoreError::Backend { action, place: place.to_owned(), source: source.into() }
}
