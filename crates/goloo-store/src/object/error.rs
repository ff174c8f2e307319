//! What a service said, in the store's words.

use std::error::Error;
use std::time::Duration;

use goloo_core::store::StoreError;
use object_store::Error as ObjectError;
use object_store::client::{HttpError, HttpErrorKind};

use super::table_error::TableError;

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

/// An error's last cause, which is what the service or the system said; those around it repeat it.
fn last_words(error: &ObjectError) -> String {
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// The same without the XML around it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Said(String);

impl Said {
    fn of(error: &ObjectError) -> Self {
        let text = last_words(error);
        let element = |name: &str| {
            let (_, rest) = text.split_once(&format!("<{name}>"))?;
            Some(rest.split_once('<')?.0)
        };
        match (element("Code"), element("Message")) {
            (Some(code), Some(message)) => Self(format!("{code}: {message}")),
            _ => Self(text),
        }
    }
}

/// What S3, Azure and Google Cloud Storage say where there is no bucket; of an object that isn't there they say
/// something else.
const NO_BUCKET: [&str; 3] = ["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"];

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

    /// The service refused us, or we have nothing to show it: asking again doesn't help.
    pub fn is_denial(&self) -> bool {
        match self {
            Self::Error(ObjectError::PermissionDenied { .. } | ObjectError::Unauthenticated { .. }) => true,
            // The library has no error of its own for a listing that is refused.
            Self::Error(error @ ObjectError::Generic { .. }) => {
                let said = last_words(error);
                ["status code: 401", "status code: 403"].iter().any(|status| said.contains(status))
            }
            _ => false,
        }
    }

    /// Nothing that we can do changes the answer.
    pub fn is_final(&self) -> bool {
        self.is_denial() || self.lacks_bucket() || self.of_table().is_some_and(|error| !error.may_pass())
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
        matches!(self, Self::Silence(_) | Self::Error(ObjectError::Generic { .. }))
            && !self.lacks_bucket()
            && !self.is_denial()
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
            let said = last_words(error);
            let unsent = http_error(error).is_some_and(|error| error.kind() == HttpErrorKind::Connect);
            unsent || ["status code: 4", "status code: 503"].iter().any(|status| said.contains(status))
        }
        _ => false,
    }
}

/// What the line did, when that is what an error is about.
fn http_error(error: &ObjectError) -> Option<&HttpError> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(http) = error.downcast_ref() {
            return Some(http);
        }
        cause = error.source();
    }
    None
}

/// Something of the service's, or of what is stored, that isn't as it must be.
pub(super) fn backend(
    action: &'static str,
    place: &str,
    source: impl Into<Box<dyn Error + Send + Sync>>,
) -> StoreError {
    StoreError::Backend { action, place: place.to_owned(), source: source.into() }
}
