//! JSON files beside `config.json` that a person writes: the same care, into any type.

use schemars::{JsonSchema, SchemaGenerator};
use serde::de::DeserializeOwned;

use super::json::Json;
use super::problem::Problem;
use super::shape;

/// Something whose shape is right and whose value isn't.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// Where it is, as a JSON pointer.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// Reads a file into its type. The problems are all that is wrong with its shape and, by `misfits`, with
/// the values that have the right shape, each with its place; `file` is what they call it.
pub fn read_json<T: JsonSchema + DeserializeOwned>(
    file: &str,
    bytes: &[u8],
    misfits: impl FnOnce(&T) -> Vec<Misfit>,
) -> Result<T, Vec<Problem>> {
    let json = Json::parse(file, bytes).map_err(|problem| vec![problem])?;
    let schema = SchemaGenerator::default().into_root_schema_for::<T>().to_value();
    let checked = shape::check(&json, &schema, |_, _| false);
    let mut problems = checked.problems;
    match serde_json::from_value(checked.value) {
        Ok(value) => {
            let misfits = misfits(&value).into_iter();
            problems.extend(misfits.map(|misfit| json.at(&misfit.pointer, misfit.message, misfit.hint)));
            if problems.is_empty() { Ok(value) } else { Err(problems) }
        }
        Err(error) => {
            problems.push(json.at("", error.to_string(), "mend the value, or remove it"));
            Err(problems)
        }
    }
}
