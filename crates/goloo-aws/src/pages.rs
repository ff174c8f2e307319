//! Lists that AWS gives in pages.

use std::collections::BTreeSet;

use crate::error::AwsError;

/// More pages than any list of goloo's has: at some hundred entries each.
const PAGES_MAX: usize = 1000;

/// Where the next page begins. A server that gives one page again and again isn't AWS, and would be asked for ever.
#[derive(Debug)]
pub struct Pages {
    action: &'static str,
    seen: BTreeSet<String>,
}

impl Pages {
    /// Of the answers to this call, as IAM policies name it.
    pub fn of(action: &'static str) -> Self {
        Self { action, seen: BTreeSet::new() }
    }

    /// Takes an answer's token: of the next page, or `None` after the last one.
    ///
    /// # Errors
    /// Of a token that led to an earlier page already, and of more pages than there can be.
    pub fn next(&mut self, token: Option<&str>) -> Result<Option<String>, AwsError> {
        let Some(token) = token.filter(|token| !token.is_empty()) else { return Ok(None) };
        if self.seen.len() >= PAGES_MAX || !self.seen.insert(token.to_owned()) {
            return Err(AwsError::Service {
                action: self.action,
                code: "InvalidNextToken".to_owned(),
                message: "the server that answers for AWS gives pages without end".to_owned(),
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
    fn a_list_ends_with_the_token_and_never_goes_in_circles() {
        let mut pages = Pages::of("ec2:DescribeInstances");
        assert_eq!(pages.next(Some("a")).unwrap().as_deref(), Some("a"));
        assert_eq!(pages.next(Some("b")).unwrap().as_deref(), Some("b"));
        assert!(pages.next(Some("a")).unwrap_err().to_string().contains("pages without end"));
        assert_eq!((pages.next(None).unwrap(), pages.next(Some("")).unwrap()), (None, None));
        let mut pages = Pages::of("ec2:DescribeInstances");
        let ends = (0..2 * PAGES_MAX).position(|page| pages.next(Some(&page.to_string())).is_err());
        assert_eq!(ends, Some(PAGES_MAX));
    }
}
