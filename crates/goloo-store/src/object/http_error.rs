//! What the HTTP client refuses to hand on, for the library of object stores to carry as its cause.

/// The maximum number of pages of a listing; services return 1000 objects per page.
pub(super) const PAGES_MAX: usize = 200;

/// The region of a bucket, as named in S3's redirect.
#[derive(Debug, thiserror::Error)]
#[error("the bucket is in {0}")]
pub(super) struct OtherRegion(pub String);

/// A listing with too many pages, possibly because they are cyclic.
#[derive(Debug, thiserror::Error)]
#[error("the list has more than {PAGES_MAX} pages")]
pub(super) struct EndlessList;
