//! What the provider reads from others: its section of `config.json`, and its section of a record.

use goloo_model::provider::ProviderError;
use goloo_model::spec::ResolvedStack;
use goloo_model::text::{LABEL_MAX, is_label};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

goloo_model::field_rules! {
    note(optional) -> Option<String>: "a note of one line", |text| is_label(text, LABEL_MAX);
}

/// The section `null` of `config.json`. The doc comments are the descriptions in its schema.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A line of text that the record keeps
    #[serde(deserialize_with = "note")]
    pub note: Option<String>,
}

impl Config {
    /// Of a stack.
    pub fn of(stack: &ResolvedStack) -> Result<Self, ProviderError> {
        let Some(section) = stack.sections.get(&crate::INFO.id) else { return Ok(Self::default()) };
        serde_json::from_value(section.clone()).map_err(|error| ProviderError::Unsupported {
            what: format!("the section \"null\" of config.json can't be used: {error}"),
            hint: "write {\"null\": {\"note\": \"a line of text\"}}".into(),
        })
    }
}

/// The section `null` of a record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// The note.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "note")]
    pub note: Option<String>,
}
