//! What is said of a cloud-config document before a machine is made.

use super::construct::{self, Repeated};
use super::document::Kind;
use super::schema;
use super::tree::{Document, problem_at};
use crate::spec::Problem;

/// What is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checks {
    /// Whether cloud-init can load it.
    Loading,
    /// And whether its values have the shape that cloud-init demands.
    All,
}

/// Checks the document as it reaches the machine. What comes back are warnings; `origins` are the lines of
/// the file that its lines come from.
pub(super) fn check(
    text: &str,
    kind: Kind,
    checks: Checks,
    origins: Option<&[usize]>,
) -> Result<Vec<Problem>, Vec<Problem>> {
    // The others are templates of cloud-init's own, of which only the machine knows what they become, and
    // no YAML.
    if kind != Kind::CloudConfig {
        return Ok(Vec::new());
    }
    let document = Document::read(text).map_err(|problem| vec![problem])?;
    let found = construct::findings(text, &document);
    if !found.problems.is_empty() {
        return Err(sorted(found.problems));
    }
    let shape = match checks {
        Checks::Loading => schema::Findings::default(),
        Checks::All => schema::findings(text, &document),
    };
    if !shape.problems.is_empty() {
        return Err(sorted(shape.problems));
    }
    let twice = found.repeated.iter().map(|repeated| written_twice(text, repeated, origins));
    Ok(sorted(twice.chain(shape.warnings).collect()))
}

/// In the order of the file.
fn sorted(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by_key(|problem| (problem.line, problem.column));
    problems
}

fn written_twice(text: &str, repeated: &Repeated, origins: Option<&[usize]>) -> Problem {
    let [first, again] = repeated.places;
    let line = text[..first].matches('\n').count() + 1;
    let line = origins.and_then(|origins| origins.get(line - 1).copied()).unwrap_or(line);
    let key = &repeated.key;
    let message =
        format!("the key {key} is written twice, and cloud-init ignores what it says in line {line}");
    let problem = problem_at(text, again, message, "make one of the two");
    Problem { pointer: repeated.pointer.clone(), ..problem }
}
