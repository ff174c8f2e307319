//! What a service said, in the store's words.

use std::error::Error;
use std::time::Duration;

use goloo_core::store::StoreError;
use object_store::Error as ObjectError;
use object_store::client::HttpError;

/// A request: the word for it, and the permission that it takes on S3.
#[derive(Debug, Clone, Copy)]
pub(super) struct Action {
    verb: &'static str,
    permission: &'static str,
}

pub(super) const READ: Action = Action { verb: "read", permission: "s3:GetObject" };
pub(super) const LIST: Action = Action { verb: "list", permission: "s3:ListBucket" };
pub(super) const WRITE: Action = Action { verb: "write", permission: "s3:PutObject" };
pub(super) const DELETE: Action = Action { verb: "delete", permission: "s3:DeleteObject" };

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
struct NoAnswer(Duration);

impl Seen {
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Error(ObjectError::NotFound { .. }))
    }

    /// The service refused us, or we have nothing to show it: asking again doesn't help.
    pub fn is_denial(&self) -> bool {
        matches!(
            self,
            Self::Error(ObjectError::PermissionDenied { .. } | ObjectError::Unauthenticated { .. })
        )
    }

    /// Whether the same request may succeed a moment later.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Silence(_) | Self::Error(ObjectError::Generic { .. }))
    }

    pub fn into_error(self, action: Action, place: &str) -> StoreError {
        let place = place.to_owned();
        match self {
            Self::Silence(limit) => StoreError::Unreachable { place, source: Box::new(NoAnswer(limit)) },
            seen if seen.is_denial() => StoreError::Denied {
                place,
                action: format!("{} ({})", action.verb, action.permission),
                source: seen.into_source(),
            },
            seen if seen.is_broken_line() => StoreError::Unreachable { place, source: seen.into_source() },
            seen => StoreError::Backend { action: action.verb, place, source: seen.into_source() },
        }
    }

    fn into_source(self) -> Box<dyn Error + Send + Sync> {
        match self {
            Self::Error(error) => Box::new(error),
            Self::Silence(limit) => Box::new(NoAnswer(limit)),
        }
    }

    /// The line broke, as opposed to an answer that says no.
    fn is_broken_line(&self) -> bool {
        let Self::Error(error) = self else { return true };
        let mut cause: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(error) = cause {
            if error.is::<HttpError>() {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

/// Something of the service's, or of what is stored, that isn't as it must be.
pub(super) fn backend(
    action: &'static str,
    place: &str,
    source: impl Into<Box<dyn Error + Send + Sync>>,
) -> StoreError {
    StoreError::Backend { action, place: place.to_owned(), source: source.into() }
}
