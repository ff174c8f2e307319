//! Other user-written JSON files than `config.json`: the same checks, into any type.

use schemars::{JsonSchema, SchemaGenerator};
use serde::de::DeserializeOwned;

use super::diagnostic::Diagnostic;
use super::json::Json;
use super::shape;

/// A value of the right type that isn't valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidValue {
    /// Its location, as a JSON pointer.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// Reads a file into its type. The diagnostics are all that is wrong with its shape and, by `invalid_values`, with
/// the values of the right type, each with its place; `file` is what they call it.
pub fn read_json<T: JsonSchema + DeserializeOwned>(
    file: &str,
    bytes: &[u8],
    invalid_values: impl FnOnce(&T) -> Vec<InvalidValue>,
) -> Result<T, Vec<Diagnostic>> {
    let json = Json::parse(file, bytes).map_err(|diagnostic| vec![diagnostic])?;
    let schema = SchemaGenerator::default().into_root_schema_for::<T>().to_value();
    let mut checked = shape::check(&json, &schema, &[], |_, _| false);
    let mut diagnostics = std::mem::take(&mut checked.diagnostics);
    match serde_json::from_value(std::mem::take(&mut checked.value)) {
        Ok(value) => {
            let invalid_values =
                invalid_values(&value).into_iter().filter(|invalid| !checked.follows(&invalid.pointer));
            diagnostics.extend(
                invalid_values.map(|invalid| json.at(&invalid.pointer, invalid.message, invalid.hint)),
            );
            if diagnostics.is_empty() { Ok(value) } else { Err(diagnostics) }
        }
        Err(error) => {
            diagnostics.push(json.at("", error.to_string(), "fix the value, or remove it"));
            Err(diagnostics)
        }
    }
}
