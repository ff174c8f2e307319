//! Documents for machines, good and broken, each with the verdict of a human who has read cloud-init's log. The
//! verdicts are in `expected.txt`.

mod broken;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A document and its expected verdicts.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its source: `cases/…`, `corpus/…`, `examples/…`, `templates/…`, `broken/…`.
    pub name: String,
    /// The user's document.
    pub document: Vec<u8>,
    /// The verdicts on 22.4 and on 25.1: `done`, `done-with-warnings`, `failed`, `dropped`, `ended`. There is no
    /// network, so anything that downloads fails.
    pub expected: [String; 2],
}

/// Documents written only for their YAML: on a machine they would never finish (`yes 5`).
const ENDLESS: [&str; 1] = ["corpus/tags_inside"];

/// All documents.
pub fn rows() -> Vec<Row> {
    let mut documents = Vec::new();
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let crates = tests.join("../..");
    let folders = [
        ("cases", tests.join("it/documents/cases")),
        ("corpus", crates.join("goloo-cloudinit/tests/merge_corpus")),
        ("examples", crates.join("../examples")),
        ("templates", crates.join("goloo-cli/templates")),
    ];
    for (group, folder) in folders {
        for path in files_below(&folder) {
            let name = path.strip_prefix(&folder).unwrap_or(&path).display().to_string();
            let name = name.trim_end_matches(".yaml").trim_end_matches("/cloud-init");
            let document = fs::read(&path).expect("a document can be read");
            let name = format!("{group}/{name}");
            if is_plain(&document) && !ENDLESS.contains(&name.as_str()) {
                documents.push((name, document));
            }
        }
    }
    let broken = broken::documents().into_iter();
    documents.extend(broken.map(|(name, document)| (format!("broken/{name}"), document)));
    let mut expected = expected(&tests.join("it/documents/expected.txt"));
    let row = |(name, document): (String, Vec<u8>)| {
        let expected =
            expected.remove(&name).unwrap_or_else(|| panic!("expected.txt has no line for {name}"));
        Row { name, document, expected }
    };
    let rows: Vec<Row> = documents.into_iter().map(row).collect();
    assert!(expected.is_empty(), "expected.txt has lines for no document: {:?}", expected.keys());
    rows
}

/// Whether goloo passes the document to the machine unchanged.
fn is_plain(document: &[u8]) -> bool {
    !document.starts_with(b"## template: goloo")
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Parses lines of `NAME VERDICT`, or `NAME VERDICT VERDICT` if 25.1 differs from 22.4.
fn expected(path: &Path) -> BTreeMap<String, [String; 2]> {
    let text = fs::read_to_string(path).expect("the verdicts can be read");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [name, first, rest @ ..] = words.as_slice() else {
                panic!("a line without a verdict: {line}")
            };
            let second = rest.first().unwrap_or(first);
            ((*name).to_owned(), [(*first).to_owned(), (*second).to_owned()])
        })
        .collect()
}
