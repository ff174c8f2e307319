//! Paginated AWS lists.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::error::AwsError;

/// More pages than any of goloo's lists can have, at a few hundred entries each.
const PAGES_MAX: usize = 1000;

/// More time than AWS needs for them.
const TIME_MAX: Duration = Duration::from_secs(600);

/// Tracks page tokens. A server that repeats a page isn't AWS and would cause an endless loop.
#[derive(Debug)]
pub struct Pages {
    action: &'static str,
    seen: BTreeSet<String>,
    begun: Instant,
}

impl Pages {
    /// For responses to this call, named as in IAM policies.
    pub fn of(action: &'static str) -> Self {
        Self { action, seen: BTreeSet::new(), begun: Instant::now() }
    }

    /// Accepts a response's token for the next page, or `None` after the last one.
    ///
    /// # Errors
    /// If the token was seen before, or if there are more pages than possible.
    pub fn next(&mut self, token: Option<&str>) -> Result<Option<String>, AwsError> {
        let Some(token) = token.filter(|token| !token.is_empty()) else { return Ok(None) };
        let is_late = self.begun.elapsed() > TIME_MAX;
        if is_late || self.seen.len() >= PAGES_MAX || !self.seen.insert(token.to_owned()) {
            return Err(AwsError::Service {
                action: self.action,
                code: "InvalidNextToken".to_owned(),
                message: "the AWS endpoint returns an endless list of pages".to_owned(),
            });
        }
        Ok(Some(token.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paging_ends_without_a_token_and_rejects_repeated_tokens() {
        let mut pages = Pages::of("ec2:DescribeInstances");
        assert_eq!(pages.next(Some("a")).unwrap().as_deref(), Some("a"));
        assert_eq!(pages.next(Some("b")).unwrap().as_deref(), Some("b"));
        assert!(pages.next(Some("a")).unwrap_err().to_string().contains("an endless list of pages"));
        assert_eq!((pages.next(None).unwrap(), pages.next(Some("")).unwrap()), (None, None));
        let begun = Instant::now().checked_sub(2 * TIME_MAX);
        let mut late = Pages { begun: begun.unwrap(), ..Pages::of("ec2:DescribeInstances") };
        assert!(late.next(Some("a")).is_err());
        let mut pages = Pages::of("ec2:DescribeInstances");
        let ends = (0..2 * PAGES_MAX).position(|page| pages.next(Some(&page.to_string())).is_err());
        assert_eq!(ends, Some(PAGES_MAX));
    }
}
