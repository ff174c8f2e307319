//! Which HTTP redirects goloo follows: the single rule for everything that it fetches.
//!
//! A response can be trusted only if nobody in between can modify it. So https never redirects to
//! http, and http, which is allowed for this host only, is only redirected to this host or to https.

use crate::printable::is_printable_text;
use crate::spec::is_safe_url;

/// The maximum number of redirects per request.
pub const REDIRECTS_MAX: usize = 5;

/// The hosts whose response is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hosts {
    /// Only the original host: the response is trusted because of it, as with users' keys.
    Same,
    /// Any host: the response is verified with a digest, or is public anyway.
    Any,
}

/// Why a redirect isn't followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedirectError {
    /// It has no target.
    #[error("it redirects without a valid address")]
    NoTarget,
    /// Its target is insecure, or less secure than the original address.
    #[error("it redirects to {to}, which is insecure")]
    Downgrade {
        /// The target.
        to: String,
    },
    /// It points to another host, but only the original one is accepted.
    #[error("it redirects to another host: {to}")]
    OtherHost {
        /// The target.
        to: String,
    },
    /// More than [`REDIRECTS_MAX`].
    #[error("it redirects more than {REDIRECTS_MAX} times")]
    TooMany,
}

/// Whether a response with this HTTP status is a redirect (RFC 9110, section 15.4).
pub const fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// The next URL if `from` responded with a redirect to `location`, which may be relative.
///
/// # Errors
/// [`RedirectError`] if the redirect isn't followed.
pub fn target(from: &str, location: &str, hosts: Hosts) -> Result<String, RedirectError> {
    let to = resolve(from, location).ok_or(RedirectError::NoTarget)?;
    if !is_safe_url(&to) || is_https(from) && !is_https(&to) {
        return Err(RedirectError::Downgrade { to });
    }
    if hosts == Hosts::Same && !is_same_host(from, &to) {
        return Err(RedirectError::OtherHost { to });
    }
    Ok(to)
}

/// RFC 3986, section 5.2, except for dot segments in paths: servers handle those.
fn resolve(from: &str, location: &str) -> Option<String> {
    let location = location.split('#').next().filter(|text| !text.is_empty())?;
    if location.contains([' ', '\\']) || !is_printable_text(location) {
        return None;
    }
    let (scheme, rest) = from.split_once("://")?;
    let authority = authority(from)?;
    let path = rest[authority.len()..].split(['?', '#']).next()?;
    if location.starts_with("//") {
        return Some(format!("{scheme}:{location}"));
    }
    if location.starts_with('/') {
        return Some(format!("{scheme}://{authority}{location}"));
    }
    if location.starts_with('?') {
        return Some(format!("{scheme}://{authority}{path}{location}"));
    }
    match location.split_once(':') {
        Some((other, rest)) if !other.contains(['/', '?']) => {
            Some(format!("{}:{rest}", other.to_ascii_lowercase()))
        }
        _ => {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            Some(format!("{scheme}://{authority}{folder}/{location}"))
        }
    }
}

fn is_https(url: &str) -> bool {
    url.starts_with("https://")
}

fn authority(url: &str) -> Option<&str> {
    url.split_once("://")?.1.split(['/', '?', '#']).next()
}

/// Requires the same port too, unless http becomes https.
fn is_same_host(from: &str, to: &str) -> bool {
    let (Some(asked), Some(named)) = (authority(from), authority(to)) else { return false };
    if is_https(from) == is_https(to) {
        return asked.eq_ignore_ascii_case(named);
    }
    fn host(authority: &str) -> &str {
        authority.rsplit_once(':').map_or(authority, |(host, _)| host)
    }
    host(asked).eq_ignore_ascii_case(host(named))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ASKED: &str = "https://a.example/dir/file?x=1";

    #[test]
    fn a_redirect_location_is_resolved_against_the_request_url() {
        for (location, to) in [
            ("https://b.example/y", "https://b.example/y"),
            ("HTTPS://b.example/y#part", "https://b.example/y"),
            ("//b.example/y", "https://b.example/y"),
            ("/y", "https://a.example/y"),
            ("y", "https://a.example/dir/y"),
            ("?z", "https://a.example/dir/file?z"),
        ] {
            assert_eq!(target(ASKED, location, Hosts::Any), Ok(to.to_owned()), "{location}");
        }
        for location in ["", "#x", "https://b.example/a b", "/\u{1b}[2J", "https://a.example\\@b.example/"] {
            assert_eq!(target(ASKED, location, Hosts::Any), Err(RedirectError::NoTarget), "{location:?}");
        }
    }

    #[test]
    fn a_redirect_from_https_to_an_insecure_url_is_refused() {
        for location in [
            "http://a.example/",
            "http://127.0.0.1/",
            "http://localhost/x",
            "ftp://a.example/",
            "file:///etc/passwd",
            "data:,x",
            "javascript:x",
        ] {
            let refused = target(ASKED, location, Hosts::Any);
            assert!(matches!(refused, Err(RedirectError::Downgrade { .. })), "{location}: {refused:?}");
        }
        let here = "http://127.0.0.1:80/x";
        assert!(target(here, "http://10.0.0.1/x", Hosts::Any).is_err());
        assert!(target(here, "//evil.example/x", Hosts::Any).is_err());
        assert!(target(here, "https://a.example/x", Hosts::Any).is_ok());
    }

    #[test]
    fn a_redirect_to_another_host_is_refused_when_the_host_must_stay() {
        assert!(target(ASKED, "/y", Hosts::Same).is_ok());
        assert!(target(ASKED, "https://A.example/y", Hosts::Same).is_ok());
        for location in [
            "https://b.example/",
            "https://a.example:444/",
            "https://x@a.example/",
            "https://a.example@b.example/",
        ] {
            assert!(
                matches!(target(ASKED, location, Hosts::Same), Err(RedirectError::OtherHost { .. })),
                "{location}"
            );
        }
        assert!(target("http://localhost:1/x", "https://localhost:2/x", Hosts::Same).is_ok());
    }

    proptest! {
        #[test]
        fn any_redirect_from_https_stays_on_https(location in any::<String>()) {
            if let Ok(to) = target(ASKED, &location, Hosts::Any) {
                prop_assert!(to.starts_with("https://") && is_printable_text(&to));
            }
        }
    }
}
