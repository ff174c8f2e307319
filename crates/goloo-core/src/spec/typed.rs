//! JSON files beside `config.json` that a person writes: the same care, into any type.

use schemars::{JsonSchema, SchemaGenerator};
use serde::de::DeserializeOwned;

use super::json::Json;
use super::problem::Problem;
use super::shape;

/// Reads a file into its type. The problems are all that is wrong with its shape, each with its place;
/// `file` is what they call it.
pub fn read_json<T: JsonSchema + DeserializeOwned>(file: &str, bytes: &[u8]) -> Result<T, Vec<Problem>> {
    let json = Json::parse(file, bytes).map_err(|problem| vec![problem])?;
    let schema = SchemaGenerator::default().into_root_schema_for::<T>().to_value();
    let checked = shape::check(&json, &schema, |_, _| false);
    if !checked.problems.is_empty() {
        return Err(checked.problems);
    }
    serde_json::from_value(checked.value)
        .map_err(|error| vec![json.at("", error.to_string(), "mend the value, or remove it")])
}
