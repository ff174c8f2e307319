//! Hints for stacks that can't be used.

use goloo::stack::{LastFolder, StackError};
use goloo_model::name::VmName;
use goloo_sys::private::in_shell;

use super::missing::Missing;
use crate::exit;

/// The exit code and the hint.
pub(super) fn explain(error: &StackError) -> (u8, String) {
    match error {
        StackError::Invalid { folder, .. } => (exit::USAGE, format!("fix the files in {}", folder.display())),
        StackError::NotFound { name, last, .. } => (exit::NOT_FOUND, how_to_find(name, last.as_ref())),
        StackError::Exposed { folder, .. } => {
            (exit::PERMISSION, format!("if you trust it, name it with -f {}", in_shell(folder)))
        }
        StackError::TooLarge { .. } => {
            (exit::USAGE, "download large files in cloud-init instead of embedding them".to_owned())
        }
        StackError::NewerRegistry { .. } => (exit::FAILED, "update goloo".to_owned()),
        _ => (exit::FAILED, "goloo doctor".to_owned()),
    }
}

fn how_to_find(name: &str, last: Option<&LastFolder>) -> String {
    if VmName::parse(name).is_err() {
        return format!(
            "check the path; `goloo init {}` writes a new stack",
            VmName::similar(name).as_ref().map_or("web", VmName::as_str)
        );
    }
    match last {
        Some(LastFolder::OfOthers(folder)) => format!(
            "check the folder in the record, {}, which someone else may have set; if you trust it, run `goloo create {name} -f PATH`",
            folder.display()
        ),
        Some(LastFolder::Known(_)) => {
            format!("run `goloo config relocate {name} DIR` to set its new folder, or use -f PATH")
        }
        None => format!(
            "run `goloo init {name}` to write it to ./stacks/{name}, or name its folder: `goloo create ./PATH`"
        ),
    }
}

/// The stack that nothing is known about: its name may have been mistyped.
pub(super) fn missing(error: &StackError) -> Option<Missing> {
    match error {
        StackError::NotFound { name, last: None, .. } => VmName::parse(name).ok().map(Missing::Stack),
        _ => None,
    }
}

/// The places that were searched.
pub(super) fn causes(error: &StackError) -> Vec<String> {
    let StackError::NotFound { tried, .. } = error else { return Vec::new() };
    tried.iter().map(|place| format!("{} does not exist", place.display())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn not_found(name: &str, last: Option<LastFolder>) -> StackError {
        StackError::NotFound { name: name.to_owned(), tried: vec!["/a/stacks/web/config.json".into()], last }
    }

    #[test]
    fn every_searched_path_is_a_cause() {
        let error = not_found("web", None);
        assert_eq!(causes(&error), ["/a/stacks/web/config.json does not exist"]);
        assert_eq!(explain(&error).0, exit::NOT_FOUND);
    }

    #[test]
    fn the_hint_shows_a_stack_folder_named_by_another_users_record() {
        let (_, hint) = explain(&not_found("web", Some(LastFolder::OfOthers("/srv/theirs/web".into()))));
        assert!(hint.contains("/srv/theirs/web") && hint.contains("-f PATH"), "{hint}");
    }

    #[test]
    fn the_hint_for_an_invalid_name_proposes_a_valid_one() {
        let (_, hint) = explain(&not_found("My_Web", Some(LastFolder::Known("/a/web".into()))));
        assert_eq!(hint, "check the path; `goloo init my-web` writes a new stack");
    }
}
