//! PyYAML, with which cloud-init reads, judges which documents goloo must take and which not
//! (`scripts/yaml-referee.py`).
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/documents.rs"]
mod documents;

use std::path::Path;

use common::{composed, judged_by, lines, own_stacks, resolved};
use goloo_core::record::ProviderKind;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

/// What goloo says against a document.
fn refusal(document: &str) -> Option<String> {
    let mut stack = resolved("{}").stack;
    stack.cloud_init = Some(document.as_bytes().to_vec());
    let problems = composed(&stack, ProviderKind::Qemu).err()?;
    // These are none of reading.
    let is_other =
        |message: &str| message.contains("goloo must add to it") || message.contains("Ed25519 host key");
    (!problems.iter().all(|problem| is_other(&problem.message))).then(|| lines(&problems))
}

/// Documents that PyYAML takes and goloo doesn't: what goloo says, what they have in them, an example. Nobody
/// writes them on purpose, and the parser takes none of them.
const STRICTER: [(&str, &str, &str); 5] = [
    ("found unexpected ':'", ":", "a: {b:, c: d}"),
    ("expected ',' or ']'", "?", "a: [?, b]"),
    ("while scanning a tag", "!", "a: !!s[r 1"),
    ("unknown directive", "%", "%FOO bar\n---\na: b"),
    ("YAML document", "%", "%YAML 1.3\n---\na: b"),
];

fn is_stricter(refusal: &str, document: &str) -> bool {
    STRICTER.iter().any(|(said, piece, _)| refusal.contains(said) && document.contains(piece))
}

/// The verdicts on documents that differ.
fn differences(documents: &[String]) -> Vec<String> {
    let verdicts = judged_by("yaml-referee.py", &serde_json::to_vec(documents).unwrap());
    let verdicts = verdicts.as_array().unwrap();
    assert_eq!(verdicts.len(), documents.len());
    std::iter::zip(documents, verdicts)
        .filter_map(|(document, verdict)| match (refusal(document), verdict.as_str()) {
            (None, Some(error)) => Some(format!("PyYAML doesn't take {document:?}: {error}")),
            (Some(refusal), None) if !is_stricter(&refusal, document) => {
                Some(format!("PyYAML takes {document:?}: {refusal}"))
            }
            _ => None,
        })
        .collect()
}

fn assert_same(documents: &[String]) {
    let differences = differences(documents);
    assert!(
        differences.is_empty(),
        "{} of {}:\n{}",
        differences.len(),
        documents.len(),
        differences.join("\n")
    );
}

/// The documents of `merge_corpus` and of goloo's own stacks.
fn known() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/merge_corpus");
    let corpus = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let own = own_stacks().into_iter().map(|folder| folder.join("cloud-init.yaml"));
    let texts = corpus.chain(own).filter_map(|path| std::fs::read_to_string(path).ok());
    let texts = texts.filter(|text| text.starts_with("#cloud-config"));
    texts.map(|text| text.replace("${SSH_PUBLIC_KEY", "${KEY")).collect()
}

/// Valid, by PyYAML.
const ODD: [&str; 35] = [
    "runcmd: [su, -, bob]",
    "runcmd: [-, -, -]",
    "runcmd: [-]",
    "a: {b: -, c: -}",
    "runcmd: [\n  ls\n]",
    "runcmd: [\nls\n,\nid]\nb: {\nc: d\n}",
    "{\nruncmd: [\n]\n}",
    "a: \"b\nc\"",
    "a: 'b\n\nc'",
    "a: \"b\"#c",
    "a: [x:y, a:b:c]",
    "a: [b: c]",
    "a: {b, c: d}",
    "a: {\"b\":c}",
    "a: |\n  \ttab first\n  b",
    "a: >-\n\n   \ttab first\n   b\nc: |2\n  d",
    "a: |\n  b\n  \ttab later",
    "a: |+",
    "a: |\n  cut off",
    "a: |+\n  cut off\n  ",
    "a: 'x\ty'\nb: \"\\\t\" # \t",
    "# \t\na: b\n#\tc",
    "? a\n: b",
    "? - a\n: - b",
    "a:\n- b\n-\n- - c",
    "a: &x b\nc: *x",
    "a: !<tag:yaml.org,2002:str> b\nc: [!!str , !!null ]",
    "a: hi!, there\nb: [hi !a!,c, \"!a,\"]\n# !a,",
    "a: ! b",
    "--- # c\na: b\n...\n# d",
    "%YAML 1.1\n---\na: b",
    "a: \u{e9}\u{1f600}\u{a0}b",
    "a: b?c\nd: [e, ? f, 'g?', ?h]",
    "null",
    "",
];

/// Not valid, by PyYAML.
const WRONG: [&str; 36] = [
    "runcmd: [su, - , bob]",
    "runcmd: [ - a]",
    "a: [\n- b\n]",
    "a: [b",
    "a: {b: c",
    "a: \"b",
    "a: b: c",
    "a: b\n  c: d",
    "a: b\n c: d",
    "a: *b",
    "a: &x b\nc: &x d",
    "a: b\n---\nc: d",
    "a: b\n...\n---\n",
    "a: @b",
    "a: `b`",
    "a: %b",
    "a:\tb",
    "a: b\tc",
    "a: b \t",
    "a: b\t# c",
    "\ta: b",
    " \ta: b",
    "a:\n \tb: c",
    "a: |\n\tb",
    "a: |\t\n  b",
    "a:\n  b: |\n \tc",
    "a: [b,\tc]",
    "a: \u{7}",
    "a: [!b, c]",
    "a: [!, c]",
    "a: [!!str, c]",
    "a: \"\\q\"",
    "runcmd: [[curl, http://a/?b=c]]",
    "a: |# b\n  c",
    "- a",
    "{{ name }}: b\n  c: d",
];

fn headed(body: &&str) -> String {
    format!("#cloud-config\n{body}")
}

#[test]
fn odd_documents_that_pyyaml_takes_are_taken() {
    let documents: Vec<String> = ODD.iter().map(headed).collect();
    for document in &documents {
        assert_eq!(refusal(document), None, "{document:?}");
    }
    assert_same(&documents);
    assert_same(&documents.iter().map(|document| format!("{document}\n")).collect::<Vec<_>>());
    assert_same(&documents.iter().map(|document| document.replace('\n', "\r\n")).collect::<Vec<_>>());
}

#[test]
fn documents_that_pyyaml_does_not_take_are_refused() {
    let documents: Vec<String> = WRONG.iter().map(headed).collect();
    for document in &documents {
        assert!(refusal(document).is_some(), "{document:?}");
    }
    assert_same(&documents);
}

#[test]
fn the_known_documents_are_taken() {
    let documents = known();
    assert!(documents.len() >= 85, "{}", documents.len());
    for document in &documents {
        assert_eq!(refusal(document), None, "{document:?}");
    }
    assert_same(&documents);
}

/// What is left out of the comparison is still there: else it must go from the list.
#[test]
fn what_goloo_is_stricter_in_is_known() {
    let documents = STRICTER.map(|(_, _, body)| headed(&body));
    for document in &documents {
        assert!(is_stricter(&refusal(document).unwrap_or_default(), document), "{document:?}");
    }
    let verdicts = judged_by("yaml-referee.py", &serde_json::to_vec(&documents).unwrap());
    assert_eq!(verdicts, serde_json::json!([null, null, null, null, null]));
}

/// A document with some characters more or less.
fn marred(document: &str, changes: &[(usize, u8, u8)]) -> String {
    const PIECES: [&str; 32] = [
        " ", "\n", "\t", ":", "-", "[", "]", "{", "}", ",", "#", "&x ", "*x ", "!", "|", ">", "'", "\"", "%",
        "@", "`", "?", "~", "a", "é", "\n  ", "- ", ": ", "\n- ", "!!str ", "---\n", "\\",
    ];
    let mut characters: Vec<String> = document.chars().map(String::from).collect();
    for (place, kind, piece) in changes {
        let head = "#cloud-config\n".len().min(characters.len());
        let at = head + place % (characters.len() + 1 - head);
        let piece = PIECES[usize::from(*piece) % PIECES.len()].to_owned();
        match kind % 3 {
            0 if at < characters.len() => drop(characters.remove(at)),
            1 if at < characters.len() => characters[at] = piece,
            _ => characters.insert(at, piece),
        }
    }
    characters.concat()
}

#[test]
fn random_and_marred_documents_are_taken_or_refused_as_by_pyyaml() {
    // What fails, fails for everybody.
    let mut runner = TestRunner::deterministic();
    let known = known();
    let changes = prop::collection::vec((any::<usize>(), any::<u8>(), any::<u8>()), 1..3);
    let mut any = |index: usize| {
        let random = documents::document().new_tree(&mut runner).unwrap().current();
        let changes = changes.new_tree(&mut runner).unwrap().current();
        let of_known = marred(&known[index % known.len()], &changes);
        let of_random = marred(&random.replace("\r\n", "\n"), &changes);
        [random, of_known, of_random]
    };
    let documents: Vec<String> = (0..500).flat_map(&mut any).collect();
    assert_same(&documents);
}
