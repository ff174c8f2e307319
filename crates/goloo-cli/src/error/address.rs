//! Hints for invalid store addresses.

use goloo::backend::{AddressError, Service};

use crate::exit;

/// The exit code and the hint.
pub(super) fn explain(error: &AddressError) -> (u8, String) {
    let hint = match error {
        AddressError::Bucket { service, .. } => {
            format!("write it like {}, where everything after PREFIX is optional", example(*service))
        }
        _ => "write it like dir:PATH, sqlite:PATH, s3://BUCKET/PREFIX?region=REGION, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX?account=ACCOUNT".to_owned(),
    };
    (exit::USAGE, hint)
}

/// What is wrong with the values in it.
pub(super) fn causes(error: &AddressError) -> Vec<String> {
    match error {
        AddressError::Bucket { problems, .. } => problems.clone(),
        _ => Vec::new(),
    }
}

fn example(service: Service) -> &'static str {
    match service {
        Service::S3 => {
            "s3://BUCKET/PREFIX?region=REGION&endpoint=URL&addressingStyle=virtual&lockTable=TABLE"
        }
        Service::Gcs => "gs://BUCKET/PREFIX?endpoint=URL",
        Service::Azure => "az://CONTAINER/PREFIX?account=ACCOUNT&endpoint=URL",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use goloo::backend::Backend;

    use super::*;

    #[test]
    fn an_invalid_address_is_refused_with_an_example() {
        for odd in ["", "dir:", "ftp://x", "s3:x", "s3://te", "az://state", "gs://team?region=x"] {
            let (code, hint) = explain(&Backend::parse(odd).unwrap_err());
            assert_eq!(code, exit::USAGE, "{odd}");
            assert!(hint.starts_with("write it like"), "{odd}: {hint}");
        }
    }

    #[test]
    fn invalid_values_in_an_address_are_listed_as_causes() {
        assert_eq!(causes(&Backend::parse("s3://te").unwrap_err()).len(), 1);
        assert_eq!(causes(&Backend::parse("ftp://x").unwrap_err()), [""; 0]);
    }
}
