//! The forms of AWS's identifiers, for all that reads them from files of others: none of them can be an option, a host
//! or a second line.

/// Whether a text is an id of AWS with this beginning, such as `i-`.
pub fn is_id(text: &str, prefix: &str) -> bool {
    let rest = text.strip_prefix(prefix).unwrap_or_default();
    (1..=64).contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Whether a text is a region. Its name decides which host is asked, so it is no more than words and a number: `us-gov-west-1`.
pub fn is_region(text: &str) -> bool {
    let words: Vec<&str> = text.split('-').collect();
    let Some((number, names)) = words.split_last() else { return false };
    let is_name =
        |name: &&str| (2..=12).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_lowercase());
    (2..=4).contains(&names.len())
        && names.iter().all(is_name)
        && (1..=2).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a text is the name of a CloudFormation stack.
pub fn is_stack_name(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Whether a text is the ARN of a stack: `arn:PARTITION:cloudformation:REGION:ACCOUNT:stack/NAME/UNIQUE`; the last part may be missing.
pub fn is_stack_arn(text: &str) -> bool {
    let fields: Vec<&str> = text.split(':').collect();
    let ["arn", partition, "cloudformation", region, account, stack] = fields[..] else { return false };
    let Some(path) = stack.strip_prefix("stack/") else { return false };
    let (name, unique) = path.split_once('/').unwrap_or((path, "1"));
    let is_partition = partition.starts_with("aws")
        && partition.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    let is_unique = |text: &str| {
        (1..=128).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let is_account = (1..=12).contains(&account.len()) && account.bytes().all(|byte| byte.is_ascii_digit());
    is_partition && is_region(region) && is_account && is_stack_name(name) && is_unique(unique)
}

/// Whether a text is an instance type of EC2.
pub fn is_instance_type(text: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    text.len() <= 64 && text.split_once('.').is_some_and(|(family, size)| is_word(family) && is_word(size))
}

/// Whether a text is the id of a hosted zone.
pub fn is_zone(text: &str) -> bool {
    let id = text.trim_start_matches('/').strip_prefix("hostedzone/").unwrap_or(text);
    (1..=32).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_consists_of_words_and_a_number() {
        for good in
            ["us-east-1", "us-gov-west-1", "ap-southeast-12", "us-isob-east-1", "cn-north-1", "il-central-1"]
        {
            assert!(is_region(good), "{good}");
        }
        for bad in [
            "",
            "us",
            "us-east",
            "us-east-1.evil.example",
            "us-east-1/x",
            "evil.example#",
            "US-EAST-1",
            "us--1",
            "1-us-1",
            "us-east-1\n",
        ] {
            assert!(!is_region(bad), "{bad:?}");
        }
    }
}
