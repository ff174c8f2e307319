//! Values as users write them: sizes, durations, addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::resolved::{Size, SshSource};

/// Parses `512M`, `2G`, `1.5GiB`, `20GB`; `None` if the text isn't a size with a unit.
pub(super) fn size(text: &str) -> Option<Size> {
    let lower = text.trim().to_ascii_lowercase();
    let digits_end = lower.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = lower.split_at(digits_end);
    let shift = match unit.trim_start().trim_end_matches('b').trim_end_matches('i') {
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    if !is_well_formed_unit(unit.trim_start()) {
        return None;
    }
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().ok()?;
    let bytes = whole.checked_mul(1 << shift)?;
    Some(Size::bytes(bytes.checked_add(fraction_of(fraction, shift)?)?))
}

/// One letter, an optional `i`, an optional `b`.
fn is_well_formed_unit(unit: &str) -> bool {
    matches!(&unit[1..], "" | "b" | "i" | "ib")
}

/// The fraction in bytes, rounded down.
fn fraction_of(digits: &str, shift: u32) -> Option<u64> {
    if digits.is_empty() {
        return Some(0);
    }
    let scale = 10_u128.checked_pow(u32::try_from(digits.len()).ok()?)?;
    let value = digits.parse::<u128>().ok()?.checked_shl(shift)? / scale;
    u64::try_from(value).ok()
}

/// The maximum duration, in seconds: 100 years. Times computed with it remain representable.
pub const DURATION_MAX_SECONDS: u64 = 36_500 * 86_400;

/// Parses `90s`, `15m`, `8h`, `2d` as seconds, up to [`DURATION_MAX_SECONDS`].
pub fn duration_seconds(text: &str) -> Option<u64> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let factor = match unit.trim() {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor).filter(|seconds| *seconds <= DURATION_MAX_SECONDS)
}

/// Parses a CIDR block, or `me`. Host bits are cleared, as EC2 does; otherwise it would refuse two rules that are the
/// same afterwards.
pub fn ssh_source(text: &str) -> Option<SshSource> {
    if text == "me" {
        return Some(SshSource::Me);
    }
    let (address, length) = text.split_once('/')?;
    let length = length.parse::<u8>().ok().filter(|_| length.bytes().all(|byte| byte.is_ascii_digit()))?;
    let kept = |bits: u8| bits.checked_sub(length).map(u32::from);
    let network = match address.parse::<IpAddr>().ok()? {
        IpAddr::V4(four) => {
            let mask = u32::MAX.checked_shl(kept(32)?).unwrap_or_default();
            IpAddr::from(Ipv4Addr::from_bits(four.to_bits() & mask))
        }
        IpAddr::V6(six) => {
            let mask = u128::MAX.checked_shl(kept(128)?).unwrap_or_default();
            IpAddr::from(Ipv6Addr::from_bits(six.to_bits() & mask))
        }
    };
    Some(SshSource::Cidr(format!("{network}/{length}")))
}

/// Whether a text is a login name: `^[a-z_][a-z0-9_-]{0,31}$`.
pub(super) fn is_username(text: &str) -> bool {
    let first = |c: u8| c.is_ascii_lowercase() || c == b'_';
    let rest = |c: u8| first(c) || c.is_ascii_digit() || c == b'-';
    let bytes = text.as_bytes();
    bytes.len() <= 32 && bytes.first().copied().is_some_and(first) && bytes.iter().copied().all(rest)
}

/// Whether a text is a valid GitHub user name: letters, digits and single hyphens within, at most 39.
pub fn is_github_user(text: &str) -> bool {
    let sound = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
    !text.is_empty()
        && text.len() <= 39
        && text.bytes().all(sound)
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--")
}

/// The name of an instance profile, which may also be given by its ARN.
/// <https://docs.aws.amazon.com/IAM/latest/APIReference/API_InstanceProfile.html>
pub(super) fn instance_profile(text: &str) -> Option<&str> {
    let name = match text.strip_prefix("arn:") {
        Some(arn) => {
            let (_, path) = arn.split_once(":iam::")?;
            let (account, path) = path.split_once(":instance-profile/")?;
            let is_account = account.len() == 12 && account.bytes().all(|c| c.is_ascii_digit());
            is_account.then(|| path.rsplit('/').next()).flatten()?
        }
        None => text,
    };
    let is_allowed = |c: u8| c.is_ascii_alphanumeric() || b"_+=,.@-".contains(&c);
    ((1..=128).contains(&name.len()) && name.bytes().all(is_allowed)).then_some(name)
}

/// Whether content from this URL is protected in transit: https, or http from this host itself.
pub fn is_safe_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // The part before an @ is a user's name, not a host.
    let host = host.rsplit('@').next().unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    match scheme {
        "https" => !host.is_empty(),
        "http" => matches!(name, "localhost" | "127.0.0.1" | "[::1]"),
        _ => false,
    }
}

/// Whether a text is a DNS name; a trailing dot is allowed.
pub fn is_domain(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    !name.is_empty() && name.len() <= 253 && name.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let sound = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    !label.is_empty()
        && label.len() <= 63
        && (label == "*" || label.bytes().all(sound))
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// A mount's target: absolute, below the root, and free of characters special to a shell or a mount table.
pub fn is_mount_target(text: &str) -> bool {
    let sound = |c: char| c.is_alphanumeric() || "/-_.+@".contains(c);
    let parts = || text.trim_end_matches('/').split('/').skip(1);
    text.starts_with('/')
        && parts().count() > 0
        && parts().all(|part| !part.is_empty() && part != "." && part != "..")
        && text.chars().all(sound)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_powers_of_1024_with_any_unit_suffix() {
        for text in ["2G", "2GB", "2GiB", "2g", "2 GiB", "2.0G", "2048M"] {
            assert_eq!(size(text), Some(Size::gib(2)), "{text}");
        }
        assert_eq!(size("1.5GiB"), Some(Size::bytes(3 << 29)));
        for text in ["", "2", "G", "2X", "2GG", "2iG", "-2G", "1.2.3G", "2G x", "99999999999999T", "2.G G"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn durations_require_a_unit() {
        assert_eq!(duration_seconds("8h"), Some(28_800));
        assert_eq!(duration_seconds("90d"), Some(7_776_000));
        assert_eq!(duration_seconds("36500d"), Some(DURATION_MAX_SECONDS));
        for text in ["", "8", "h", "8 hours", "-1h", "1.5h"] {
            assert_eq!(duration_seconds(text), None, "{text}");
        }
    }

    #[test]
    fn user_names_domains_and_cidr_blocks_are_validated() {
        assert!(is_username("_svc-1") && !is_username("1a") && !is_username("Ann") && !is_username(""));
        assert!(is_github_user("a-b1") && !is_github_user("a--b") && !is_github_user("-a"));
        let block = |text: &str| ssh_source(text).map(|source| source.to_string());
        for (text, read) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("198.51.100.7/32", "198.51.100.7/32"),
            ("198.51.100.7/0", "0.0.0.0/0"),
            ("::1/0", "::/0"),
            ("2001:db8:1::5/33", "2001:db8::/33"),
        ] {
            assert_eq!(block(text).as_deref(), Some(read), "{text}");
        }
        assert_eq!(ssh_source("me"), Some(SshSource::Me));
        for text in ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/+8", "::/129", "you", "Me", "", "10.0.0.0/8 "] {
            assert_eq!(block(text), None, "{text}");
        }
        assert!(
            is_domain("example.com.")
                && is_domain("*.example.com")
                && !is_domain("exa mple.com")
                && !is_domain("-a.b")
        );
    }

    #[test]
    fn an_instance_profile_is_a_name_or_its_arn() {
        for text in ["web_1", "arn:aws:iam::123456789012:instance-profile/web_1"] {
            assert_eq!(instance_profile(text), Some("web_1"), "{text}");
        }
        let in_path = "arn:aws-cn:iam::123456789012:instance-profile/team/blue/web=1@x";
        assert_eq!(instance_profile(in_path), Some("web=1@x"));
        for text in [
            "",
            "my profile",
            "a/b",
            "arn:aws:iam::123456789012:role/web",
            "arn:aws:iam::12:instance-profile/web",
            "arn:aws:iam::123456789012:instance-profile/",
            "arn:aws:ec2:eu-west-1:123456789012:instance-profile/web",
        ] {
            assert_eq!(instance_profile(text), None, "{text}");
        }
        assert_eq!(instance_profile(&"a".repeat(129)), None);
    }

    #[test]
    fn plain_http_is_allowed_only_for_the_loopback_address() {
        for url in ["https://github.example", "http://127.0.0.1:80", "http://localhost/x", "http://[::1]:1"] {
            assert!(is_safe_url(url), "{url}");
        }
        for url in [
            "http://github.com",
            "http://127.0.0.1.evil.example",
            "http://127.0.0.1:80@evil.example",
            "ftp://x",
            "github.com",
            "https://",
            "https:///path",
        ] {
            assert!(!is_safe_url(url), "{url}");
        }
    }

    proptest! {
        #[test]
        fn a_size_survives_a_round_trip(mib in 1_u64..1 << 30) {
            let written = Size::bytes(mib << 20);
            prop_assert_eq!(size(&written.to_string()), Some(written));
        }

        #[test]
        fn parsers_do_not_panic_on_any_text(text in "\\PC{0,20}") {
            let _ = (size(&text), duration_seconds(&text), ssh_source(&text), is_domain(&text), is_safe_url(&text), instance_profile(&text));
        }
    }
}
