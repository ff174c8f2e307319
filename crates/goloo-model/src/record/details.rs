//! What a provider keeps in its VMs' records, in a section under its own id.
//!
//! The model bounds a section and knows nothing of its fields: their types and rules are the provider's, which reads
//! them with [`read_details`] and nowhere else.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Extra;

/// The largest section, in bytes of keys and texts; a thousand times what AWS's has.
const BYTES_MAX: usize = 256 << 10;
/// How deep the section may be nested.
const DEPTH_MAX: usize = 16;

/// A field of a section that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct DetailsError {
    /// Where it is in the section, as `dnsRecords[0].name`.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Reads a section into the type of its provider.
///
/// # Errors
/// [`DetailsError`] names the first field that breaks its rule.
pub fn read_details<T: DeserializeOwned>(details: &Extra) -> Result<T, DetailsError> {
    let section = Value::Object(details.clone());
    serde_path_to_error::deserialize(&section)
        .map_err(|error| DetailsError { path: error.path().to_string(), reason: error.inner().to_string() })
}

/// Why a section is too large, where it is.
pub(super) fn beyond(details: &Extra) -> Option<String> {
    let mut left = BYTES_MAX;
    match details.iter().all(|(key, value)| spend(key, value, DEPTH_MAX, &mut left)) {
        true => None,
        false if left == 0 => Some(format!("it is larger than {} KiB", BYTES_MAX >> 10)),
        false => Some(format!("it is nested more than {DEPTH_MAX} levels deep")),
    }
}

/// Takes the size of a value from what is left; `false` where that or the depth isn't enough.
fn spend(key: &str, value: &Value, depth: usize, left: &mut usize) -> bool {
    let text = if let Value::String(text) = value { text.len() } else { 0 };
    let Some(rest) = left.checked_sub(key.len() + text + 1) else {
        *left = 0;
        return false;
    };
    *left = rest;
    let within = |depth: usize| depth.checked_sub(1);
    match value {
        Value::Array(items) => {
            within(depth).is_some_and(|depth| items.iter().all(|item| spend("", item, depth, left)))
        }
        Value::Object(fields) => within(depth)
            .is_some_and(|depth| fields.iter().all(|(key, value)| spend(key, value, depth, left))),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn section(value: Value) -> Option<String> {
        beyond(&[("a".to_owned(), value)].into_iter().collect())
    }

    #[test]
    fn a_section_has_limits_to_its_size_and_depth() {
        let nested = |depth| (0..depth).fold(json!(1), |inner, _| json!([inner]));
        assert_eq!(section(nested(DEPTH_MAX)), None);
        assert!(section(nested(DEPTH_MAX + 1)).is_some_and(|why| why.contains("nested")));
        assert_eq!(section(json!("x".repeat(BYTES_MAX - 2))), None);
        for large in
            [json!("x".repeat(BYTES_MAX)), json!(vec![0; BYTES_MAX]), json!({"k".repeat(BYTES_MAX): 1})]
        {
            assert!(section(large).is_some_and(|why| why.contains("KiB")));
        }
    }
}
