//! Stacks.

use std::borrow::Cow;
use std::path::Path;

use goloo::actions::{ListedStack, StackDiff};
use goloo_model::spec;
use goloo_model::time::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::error::{Diagnostic, problems};

/// All stacks.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StackList<'a> {
    stacks: Vec<Stack<'a>>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Stack<'a> {
    name: &'a str,
    path: Cow<'a, str>,
    /// Where `goloo create` finds it: "stacks", "library", "GOLOO_STACK_FOLDER"; "registry" when it doesn't
    place: &'a str,
    /// "new", "unchanged", "changed", "moved", "elsewhere" or "gone"
    state: &'a str,
    last_created_at: Option<Timestamp>,
    last_folder: Option<Cow<'a, str>>,
    /// The folder of a stack with the same files
    seems_at: Option<Cow<'a, str>>,
}

/// A path may not be UTF-8, but JSON must be.
fn text(path: &Path) -> Cow<'_, str> {
    path.to_string_lossy()
}

impl<'a> From<&'a [ListedStack]> for StackList<'a> {
    fn from(stacks: &'a [ListedStack]) -> Self {
        let stack = |stack: &'a ListedStack| Stack {
            name: &stack.name,
            path: text(&stack.folder),
            place: stack.place_word(),
            state: stack.state.as_str(),
            last_created_at: stack.known.as_ref().map(|known| known.created_at),
            last_folder: stack.known.as_ref().map(|known| text(&known.folder)),
            seems_at: stack.seems_at.as_deref().map(text),
        };
        Self { stacks: stacks.iter().map(stack).collect() }
    }
}

/// The problems of a stack; without problems it is valid.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StackProblems<'a> {
    problems: Vec<Diagnostic<'a>>,
    warnings: Vec<Diagnostic<'a>>,
}

impl<'a> StackProblems<'a> {
    pub fn new(found: &'a [spec::Diagnostic], warnings: &'a [spec::Diagnostic]) -> Self {
        Self { problems: problems(found), warnings: problems(warnings) }
    }
}

/// How a stack differs from the files that a VM was created from.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StackChanges<'a> {
    /// "none" or "changed"
    drift: &'a str,
    /// The files that differ
    files: Vec<&'a str>,
    /// The differences as a unified diff
    diff: &'a str,
}

impl<'a> StackChanges<'a> {
    pub fn new(diff: &'a StackDiff, unified: &'a str) -> Self {
        let files = diff.drift.changes().iter().map(|change| change.file);
        Self { drift: diff.drift.as_str(), files: files.collect(), diff: unified }
    }
}
