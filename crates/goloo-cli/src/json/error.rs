//! Errors, and problems in the user's files.

use goloo_model::spec;
use schemars::JsonSchema;
use serde::Serialize;

use crate::error::CliError;
use crate::output::hint;

/// A command that failed. The exit code says which kind of failure it is.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ErrorReport<'a> {
    pub error: ErrorBody<'a>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct ErrorBody<'a> {
    /// A stable word
    pub code: &'a str,
    pub message: &'a str,
    /// Why, outermost first
    pub causes: &'a [String],
    /// What to do
    pub hint: &'a str,
    /// The problems in the user's files
    pub problems: Vec<Diagnostic<'a>>,
    /// A record as JSON text that could not be saved anywhere
    pub unsaved: Option<&'a str>,
}

impl<'a> From<&'a CliError> for ErrorBody<'a> {
    fn from(error: &'a CliError) -> Self {
        Self {
            code: error.kind,
            message: &error.message,
            causes: &error.causes,
            hint: &error.hint,
            problems: problems(&error.problems),
            unsaved: error.unsaved.as_deref(),
        }
    }
}

/// A problem in a file of the user.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Diagnostic<'a> {
    file: &'a str,
    /// The place as a JSON pointer; may be empty
    pointer: &'a str,
    line: usize,
    column: usize,
    message: &'a str,
    hint: String,
}

impl<'a> From<&'a spec::Diagnostic> for Diagnostic<'a> {
    fn from(problem: &'a spec::Diagnostic) -> Self {
        let spec::Diagnostic { file, pointer, line, column, message, hint } = problem;
        Self { file, pointer, line: *line, column: *column, message, hint: hint::text(hint) }
    }
}

/// Several problems.
pub fn problems(problems: &[spec::Diagnostic]) -> Vec<Diagnostic<'_>> {
    problems.iter().map(Diagnostic::from).collect()
}
