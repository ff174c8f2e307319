//! Validation of bucket addresses. An address is checked when it is written to the settings, and again with the values
//! from the environment: an S3 client panics on a region with a space.

/// Why a value is invalid, and the correct form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressError {
    /// A sentence about the value.
    pub message: String,
    /// How to write it.
    pub hint: String,
}

fn refused(message: String, hint: &str) -> AddressError {
    AddressError { message, hint: hint.to_owned() }
}

/// Checks the URL of a service: `https://HOST[:PORT][/PATH]`, or `http://`.
///
/// # Errors
/// If it has another form.
pub fn check_endpoint(url: &str) -> Result<(), AddressError> {
    let wrong = |what: &str| {
        Err(refused(
            format!("\"{url}\" {what}"),
            "use an address like https://s3.example.com or http://127.0.0.1:9000",
        ))
    };
    let Some(rest) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")) else {
        return wrong("doesn't begin with https:// or http://");
    };
    if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return wrong("has a space or a character that isn't allowed in URLs");
    }
    if rest.contains(['?', '#', '@', '\\']) {
        return wrong("has more than a host, a port and a path");
    }
    let authority = rest.split('/').next().unwrap_or_default();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    if port.is_some_and(|port| !is_port(port)) {
        return wrong("has a port that isn't a number up to 65535");
    }
    // An S3 client parses it again, and panics on errors.
    if !is_host(host) || url::Url::parse(url).is_err() {
        return wrong("has no host");
    }
    let path = &rest[authority.len()..];
    if !path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~%+=,:;&$!'()".contains(&byte)) {
        return wrong("has a character in its path that must be written as % and two digits");
    }
    Ok(())
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !host.is_empty() && host.split('.').all(|part| !part.is_empty() && part.bytes().all(is_part))
}

/// The endpoint with the bucket as part of the host name.
pub fn with_bucket(endpoint: &str, bucket: &str) -> String {
    match endpoint.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://{bucket}.{rest}"),
        None => endpoint.to_owned(),
    }
}

/// Checks the name of a region: AWS's, or another service's own.
///
/// # Errors
/// If it has characters that no region has.
pub fn check_region(region: &str) -> Result<(), AddressError> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if (1..=64).contains(&region.len()) && region.bytes().all(is_part) {
        return Ok(());
    }
    Err(refused(format!("\"{region}\" is not a region"), "use a name like eu-central-1"))
}

/// Checks the name of a bucket in S3 or Google Cloud Storage, including old ones and those of other services.
///
/// # Errors
/// If no service can have such a bucket.
pub fn check_bucket(bucket: &str) -> Result<(), AddressError> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = bucket.as_bytes();
    let edges = edge(bytes.first()) && edge(bytes.last());
    if (3..=255).contains(&bytes.len())
        && edges
        && bytes.iter().all(|byte| is_part(*byte))
        && !bucket.contains("..")
    {
        return Ok(());
    }
    Err(refused(
        format!("\"{bucket}\" is not a valid bucket name"),
        "use 3 to 63 lower-case letters, digits, hyphens and dots, as in team-state",
    ))
}

/// Checks the name of a container in Azure.
///
/// # Errors
/// If Azure can't have such a container.
pub fn check_container(container: &str) -> Result<(), AddressError> {
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let hyphens = container.starts_with('-') || container.ends_with('-') || container.contains("--");
    if (3..=63).contains(&container.len()) && container.bytes().all(is_part) && !hyphens {
        return Ok(());
    }
    Err(refused(
        format!("\"{container}\" is not a valid container name"),
        "use 3 to 63 lower-case letters, digits and hyphens, as in team-state",
    ))
}

/// Checks the name of a storage account in Azure.
///
/// # Errors
/// If Azure can't have such an account.
pub fn check_account(account: &str) -> Result<(), AddressError> {
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if (3..=24).contains(&account.len()) && account.bytes().all(is_part) {
        return Ok(());
    }
    Err(refused(
        format!("\"{account}\" is not a valid storage account name"),
        "use 3 to 24 lower-case letters and digits",
    ))
}

/// Checks the name of a table in DynamoDB.
///
/// # Errors
/// If DynamoDB can't have such a table.
pub fn check_table(table: &str) -> Result<(), AddressError> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if (3..=255).contains(&table.len()) && table.bytes().all(is_part) {
        return Ok(());
    }
    Err(refused(
        format!("\"{table}\" is not a valid table name"),
        "use 3 to 255 letters, digits, hyphens, underscores and dots",
    ))
}

/// Characters that the object store client encodes as `%XX` in keys.
const ENCODED: &str = "\\{^}`]\">[~<#|*?";

/// Checks the common prefix of all keys: it must be stored as shown, or other tools wouldn't find it.
///
/// # Errors
/// If it would be stored differently.
pub fn check_prefix(prefix: &str) -> Result<(), AddressError> {
    let prefix = prefix.trim_matches('/');
    let odd = prefix.chars().find(|char| char.is_control() || !char.is_ascii() || ENCODED.contains(*char));
    let what = match odd {
        Some(char) => {
            format!("has the character {char:?}, which is stored in a different form than displayed")
        }
        None if prefix.is_empty() => return Ok(()),
        None if prefix.split('/').any(|part| matches!(part, "" | "." | "..")) => {
            "has an empty part, or a part that is \".\" or \"..\"".to_owned()
        }
        None => return Ok(()),
    };
    Err(refused(
        format!("the prefix \"{}\" {what}", prefix.escape_debug()),
        "use letters, digits, spaces and - _ . between slashes, as in team/goloo; earlier versions \
         stored such a character as % and two digits; to keep using that prefix, write it that way",
    ))
}

/// The domain of AWS's services in a region.
/// <https://docs.aws.amazon.com/general/latest/gr/rande.html>, and the SDKs' `partitions.json` for partitions that
/// are not public.
pub fn aws_domain(region: &str) -> &'static str {
    const DOMAINS: [(&str, &str); 6] = [
        ("cn-", "amazonaws.com.cn"),
        ("eusc-", "amazonaws.eu"),
        ("us-isob-", "sc2s.sgov.gov"),
        ("us-isof-", "csp.hci.ic.gov"),
        ("us-iso-", "c2s.ic.gov"),
        ("eu-isoe-", "cloud.adc-e.uk"),
    ];
    let domain = DOMAINS.iter().find(|(prefix, _)| region.starts_with(prefix));
    domain.map_or("amazonaws.com", |(_, domain)| domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_must_be_a_url_with_only_a_host() {
        for url in [
            "https://s3.example.com",
            "http://127.0.0.1:9000",
            "https://[::1]:9000/",
            "https://project.supabase.co/storage/v1/s3",
            "http://minio_1:9000",
        ] {
            assert_eq!(check_endpoint(url), Ok(()), "{url}");
        }
        for url in [
            "",
            "127.0.0.1:9103",
            "127.0.0.1%3A9103",
            "ftp://x",
            "http://",
            "https://:9000",
            "http://a b",
            "http://x:99999",
            "http://x:port",
            "http://user@x",
            "http://x?y=z",
            "http://x#y",
            "http://x%20y",
            "https://[::1",
            "https://[x]",
            "http://a..b",
            "http://x\n",
            "http://\u{e4}.de",
            "HTTP://x",
            "http://999.1.1.1:9",
            "http://xn--:9",
            "http://127.0.0.1:+9",
            "http://x/a^b",
            "http://x/a|b",
            "http://x/a`b",
            "http://x/a<b",
            "http://team.127.0.0.1:9",
            "http://team.[::1]:9",
        ] {
            let refused = check_endpoint(url).expect_err(url);
            assert!(refused.hint.starts_with("use an address like"), "{url}");
        }
    }

    #[test]
    fn invalid_regions_buckets_and_prefixes_are_refused() {
        for (check, good, bad) in [
            (
                check_region as fn(&str) -> Result<(), AddressError>,
                vec!["eu-central-1", "auto", "us-east-005", "RegionOne"],
                vec!["eu west", "", "eu-west-1\n", "a/b", "\u{e4}"],
            ),
            (
                check_bucket,
                vec!["team-state", "a.b.c", "Old_Bucket", "123"],
                vec!["", "ab", "-team", "team/", "a..b", "team state", "t\u{e4}am", "team?x"],
            ),
            (check_container, vec!["team-state"], vec!["Team", "a--b", "-ab", "ab-", "ab"]),
            (check_account, vec!["ann123"], vec!["an", "Ann", "ann-1"]),
            (check_table, vec!["locks", "my_locks.v2"], vec!["ab", "a b c", "l\u{f6}cks"]),
            (
                check_prefix,
                vec!["", "goloo", "team/goloo v2", "/a/", "it's (new)!", "a%7Eb"],
                vec!["a~b", "a//b", "a/../b", ".", "\u{e4}", "a#b", "a\nb", "[x]"],
            ),
        ] {
            for value in good {
                assert_eq!(check(value), Ok(()), "{value}");
            }
            for value in bad {
                assert!(check(value).is_err(), "{value:?} passed");
            }
        }
    }

    #[test]
    fn china_and_isolated_partitions_have_their_own_aws_domain() {
        assert_eq!(aws_domain("cn-north-1"), "amazonaws.com.cn");
        assert_eq!(aws_domain("us-isob-east-1"), "sc2s.sgov.gov");
        assert_eq!(aws_domain("us-gov-west-1"), "amazonaws.com");
        assert_eq!(aws_domain("eu-central-1"), "amazonaws.com");
    }

    #[cfg(feature = "object")]
    #[test]
    fn an_accepted_prefix_is_stored_unchanged() {
        use object_store::path::Path;
        for char in (0..0x250_u32).filter_map(char::from_u32) {
            let prefix = format!("a{char}b");
            if check_prefix(&prefix).is_ok() {
                assert_eq!(Path::parse(&prefix).expect("a path").as_ref(), prefix);
            } else {
                assert_ne!(Path::from(prefix.as_str()).as_ref(), prefix, "refused for nothing");
            }
        }
    }
}
