//! Libraries don't word commands: they propose a `NextStep`, and the command line words it. All texts are ASCII: where the
//! locale isn't UTF-8, other characters aren't readable.

use std::path::{Path, PathBuf};

use crate::source::targets;

/// Whether a line of source words a command of goloo. Comments may name commands.
fn words_a_command(line: &str) -> bool {
    let code = line.trim_start();
    !code.starts_with("//") && (code.contains("\"goloo ") || code.contains("`goloo "))
}

/// The Rust files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a source folder can be read");
    let paths = entries.map(|entry| entry.expect("an entry can be read").path());
    let files = paths.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] });
    files.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

#[test]
fn only_the_command_line_words_commands() {
    let crates =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").join("crates");
    let folders = std::fs::read_dir(&crates).expect("the crates can be read");
    let libraries = folders
        .map(|entry| entry.expect("an entry can be read").path())
        .filter(|folder| !folder.ends_with("goloo-cli"));
    let mut found = Vec::new();
    for file in libraries.flat_map(|folder| sources(&folder.join("src"))) {
        let text = std::fs::read_to_string(&file).expect("a source file can be read");
        let lines = text.lines().enumerate().filter(|(_, line)| words_a_command(line));
        found.extend(lines.map(|(at, line)| format!("{}:{}: {}", file.display(), at + 1, line.trim())));
    }
    assert!(found.is_empty(), "use goloo_model::hint::NextStep instead of a command:\n{}", found.join("\n"));
}

/// The files with other characters: each has an ASCII form for them.
const WITH_ASCII_FORMS: [&str; 2] =
    ["crates/goloo-cli/src/output/charset.rs", "crates/goloo-cli/src/output/mark.rs"];

#[test]
fn texts_are_ascii() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace");
    let targets = targets(root);
    let covered = targets.iter().filter(|target| target.package != "goloo-testkit");
    let mut found = Vec::new();
    let mut with_forms = 0;
    for file in covered.flat_map(|target| &target.files) {
        match WITH_ASCII_FORMS.iter().any(|path| file.path == Path::new(path)) {
            true => with_forms += usize::from(!file.foreign_literals.is_empty()),
            false => found.extend(file.foreign_literals.iter().map(|text| (&file.path, text))),
        }
    }
    assert!(found.is_empty(), "write these in ASCII, or give them an ASCII form: {found:#?}");
    assert_eq!(with_forms, WITH_ASCII_FORMS.len(), "a file has no such characters any more");
}
