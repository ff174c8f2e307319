//! Values that `goloo set` puts over a stack's config.json, for one VM. The config itself is never written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// The largest number of overrides.
const COUNT_MAX: usize = 100;
/// The longest key, in bytes.
const KEY_MAX: usize = 200;
/// The parts of config.json whose keys can stand without them.
const USUAL_PART: &str = "vm";
const PARTS: [&str; 3] = ["vm", "dns", "cloud_init"];

/// The overrides of one VM: values by the path of their key in config.json, as in `vm.cpus`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Overrides(BTreeMap<String, Value>);

/// Why a text isn't an override.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverrideError {
    /// It has no `=`.
    #[error("\"{0}\" has no value")]
    NoValue(String),
    /// It isn't the path of a key.
    #[error("\"{0}\" isn't a key of config.json")]
    NotAKey(String),
    /// There are too many of them.
    #[error("a VM has at most {COUNT_MAX} overrides")]
    TooMany,
}

impl Overrides {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys with their values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Adds `KEY=VALUE`, and returns the key. A value that isn't JSON is a text: `memory=4G`.
    ///
    /// # Errors
    /// [`OverrideError`]; nothing is changed.
    pub fn add(&mut self, text: &str) -> Result<String, OverrideError> {
        let (key, value) = text.split_once('=').ok_or_else(|| OverrideError::NoValue(text.to_owned()))?;
        let key = Self::full_key(key)?;
        self.put(&key, serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned())))?;
        Ok(key)
    }

    /// Adds a value by the whole path of its key.
    ///
    /// # Errors
    /// [`OverrideError`]; nothing is changed.
    pub fn put(&mut self, key: &str, value: Value) -> Result<(), OverrideError> {
        if !is_key(key) {
            return Err(OverrideError::NotAKey(key.to_owned()));
        }
        if self.0.len() >= COUNT_MAX && !self.0.contains_key(key) {
            return Err(OverrideError::TooMany);
        }
        self.0.insert(key.to_owned(), value);
        Ok(())
    }

    /// Removes one; `false` if there is none with this key.
    ///
    /// # Errors
    /// [`OverrideError::NotAKey`].
    pub fn remove(&mut self, key: &str) -> Result<bool, OverrideError> {
        Ok(self.0.remove(&Self::full_key(key)?).is_some())
    }

    /// The path of a key, to which `vm.` may be missing.
    fn full_key(key: &str) -> Result<String, OverrideError> {
        let first = key.split('.').next().unwrap_or_default();
        let full = if PARTS.contains(&first) && key.contains('.') {
            key.to_owned()
        } else {
            format!("{USUAL_PART}.{key}")
        };
        if is_key(&full) { Ok(full) } else { Err(OverrideError::NotAKey(key.to_owned())) }
    }

    /// Puts the values into a config. What stands in the way of a path is replaced.
    pub fn apply_to(&self, config: &mut Value) {
        for (key, value) in &self.0 {
            let mut place = &mut *config;
            for part in key.split('.') {
                if !place.is_object() {
                    *place = Value::Object(Map::new());
                }
                place = place.as_object_mut().expect("it is one now").entry(part).or_insert(Value::Null);
            }
            *place = value.clone();
        }
    }
}

fn is_key(key: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    };
    key.len() <= KEY_MAX && key.split('.').all(is_part)
}

impl<'de> Deserialize<'de> for Overrides {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = BTreeMap::<String, Value>::deserialize(deserializer)?;
        if values.len() > COUNT_MAX {
            return Err(D::Error::custom(OverrideError::TooMany));
        }
        match values.keys().find(|key| !is_key(key)) {
            Some(key) => Err(D::Error::custom(format_args!("{key:?} isn't a key of config.json"))),
            None => Ok(Self(values)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_put_over_a_config_by_the_paths_of_their_keys() {
        let mut overrides = Overrides::default();
        for text in
            ["cpus=4", "memory=4G", "vm.ports=[80,\"53:53/udp\"]", "dns.ttl=60", "cloud_init.vars.a=x=y"]
        {
            overrides.add(text).unwrap();
        }
        let mut config = json!({"vm": {"cpus": 2, "disk": "5G"}, "cloud_init": 7});
        overrides.apply_to(&mut config);
        assert_eq!(
            config,
            json!({"vm": {"cpus": 4, "disk": "5G", "memory": "4G", "ports": [80, "53:53/udp"]},
                   "dns": {"ttl": 60}, "cloud_init": {"vars": {"a": "x=y"}}})
        );
        assert!(overrides.remove("vm.cpus").unwrap() && !overrides.remove("cpus").unwrap());
    }

    #[test]
    fn what_is_no_key_or_has_no_value_is_refused() {
        let mut overrides = Overrides::default();
        assert_eq!(overrides.add("cpus"), Err(OverrideError::NoValue("cpus".to_owned())));
        for text in ["=4", "a b=4", ".=1", "vm..cpus=1", "vm.=1", "a\n=1", "ä=1"] {
            assert!(matches!(overrides.add(text), Err(OverrideError::NotAKey(_))), "{text:?}");
        }
        assert!(overrides.is_empty());
        assert!(serde_json::from_value::<Overrides>(json!({"vm.a b": 1})).is_err());
    }
}
