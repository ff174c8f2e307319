//! PyYAML, with which cloud-init reads, judges which documents goloo must take and which not
//! (`scripts/yaml-differential.py`).

use crate::common::documents;
use std::path::Path;

use crate::common::{composed, judged_by, lines, own_stacks, providers, resolved};
use goloo_model::spec::Diagnostic;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

/// goloo's problems with a document.
fn refusal(document: &str) -> Option<String> {
    let mut stack = resolved("{}").stack;
    stack.cloud_init = Some(document.as_bytes().to_vec());
    let diagnostics = composed(&stack, &providers::QEMU).err()?;
    // These problems don't concern parsing.
    let is_other = |diagnostic: &Diagnostic| {
        let said = &diagnostic.message;
        let is_of_loading = said.contains("YAML") || said.contains("can't load this");
        !is_of_loading && !diagnostic.pointer.is_empty()
            || ["goloo must add to it", "Ed25519 host key"].iter().any(|words| said.contains(words))
    };
    (!diagnostics.iter().all(is_other)).then(|| lines(&diagnostics))
}

/// Documents that PyYAML accepts and goloo rejects: goloo's message, what they contain, an example. They don't
/// occur in practice, and the parser accepts none of them.
const STRICTER: [(&str, &str, &str); 4] = [
    ("found unexpected ':'", ":", "a: {b:, c: d}"),
    ("expected ',' or ']'", "?", "a: [?, b]"),
    ("unknown directive", "%", "%FOO bar\n---\na: b"),
    ("YAML document", "%", "%YAML 1.3\n---\na: b"),
];

fn is_stricter(refusal: &str, document: &str) -> bool {
    STRICTER.iter().any(|(said, piece, _)| refusal.contains(said) && document.contains(piece))
}

/// The documents with different results.
fn differences(documents: &[String]) -> Vec<String> {
    let verdicts = judged_by("yaml-differential.py", &serde_json::to_vec(documents).unwrap());
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

/// The documents in `merge_corpus` and in goloo's own stacks.
fn known() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/merge_corpus");
    let corpus = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let own = own_stacks().into_iter().map(|folder| folder.join("cloud-init.yaml"));
    let texts = corpus.chain(own).filter_map(|path| std::fs::read_to_string(path).ok());
    let texts = texts.filter(|text| text.starts_with("#cloud-config"));
    texts.map(|text| text.replace("${SSH_PUBLIC_KEY", "${KEY")).collect()
}

/// Valid according to PyYAML.
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
    "? |\n  a\n: - b",
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

/// Invalid according to PyYAML.
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
fn odd_documents_accepted_by_pyyaml_are_accepted() {
    let documents: Vec<String> = ODD.iter().map(headed).collect();
    for document in &documents {
        assert_eq!(refusal(document), None, "{document:?}");
    }
    assert_same(&documents);
    assert_same(&documents.iter().map(|document| format!("{document}\n")).collect::<Vec<_>>());
    assert_same(&documents.iter().map(|document| document.replace('\n', "\r\n")).collect::<Vec<_>>());
}

#[test]
fn documents_rejected_by_pyyaml_are_refused() {
    let documents: Vec<String> = WRONG.iter().map(headed).collect();
    for document in &documents {
        assert!(refusal(document).is_some(), "{document:?}");
    }
    assert_same(&documents);
}

/// Values that PyYAML can construct.
const MADE: [&str; 37] = [
    "a: !!int \"12\"\nb: !!int '0o17'\nc: !!int \" 5 \"\nd: !!int --5\ne: !!int 0b0b1",
    "a: 0b1_0\nb: 0x_f\nc: 0_\nd: 017\ne: 08\nf: 1_\ng: 190:20:30\nh: 1:60",
    "a: !!float 1e5\nb: !!float inf\nc: !!float 5\nd: 1e5\ne: 1.e+5\nf: 1:2.5\ng: .5\nh: ._5\ni: -.inf",
    "a: !!bool YES\nb: !!bool trUe\nc: oN\nd: y",
    "a: 2024-02-29\nb: 2024-1-1\nc: 2024-01-01 1:00:00.5 +5:30\nd: 2024-01-01T10:00:00Z\ne: 2024-13-45x",
    "a: '2024-13-45'\nb: \"0x_\"\nc: !!str 2023-02-30\nd: !!str <<\ne: '='",
    "a: !!timestamp 2024-1-1\nb: !!timestamp \"2024-01-01t1:02:03.\"",
    "a: !!binary aGk=\nb: !!binary \"a G-k\\n=\"\nc: !!binary ''\nd: !!binary aGk==x\ne: !!binary aGk=a=Gk",
    "a: !!null x\nb: !!null ''\nc: ! ~\nd: ! \"12\"",
    "a: !!set {b, c}\nd: !!set {? e, f: g}",
    "a: !!omap [b: c, d: e]\nf: !!pairs [{g: h}, {g: h}]\ni: !!omap []\nj: !!omap [[a]: b]",
    "a: !!map {b: c}\nd: !!seq [e]\nf: !!map {}\ng: !!seq []",
    "a: &a {b: c}\nd: {<<: *a, e: f}\ng: {<<: [*a, {h: i}]}\nj: {<<: {k: l}}",
    "a: &a {<<: *a}",
    "a: {<<: !x {b: c}}",
    "a: {!!merge m: {b: c}}",
    "a: {'<<': b}",
    "a: {=: b}\n=: c",
    "a: !!str {=: b, c: d}",
    "a: {!!str {=: b}: c}",
    "a: !!int {b: c, =: 5}",
    "? 2024-01-01\n: a\n? 1.5\n: b\n? ~\n: c\n? !!binary aGk=\n: d",
    "a: &a b\n*a : c",
    "!!map {a: b}",
    "!!null x",
    "a: !<tag:yaml.org,2002:int> 5",
    "%TAG !y! tag:yaml.org,2002:\n---\na: !y!int 5",
    "a: .nan\nb: .NaN\nc: -.INF\nd: .Nan",
    "a: 2024-01-01 24:00:00x\nb: 2024-01-0",
    "a: 0001-01-01\nb: 9999-12-31",
    "a: 2024-01-01 10:00:00 +23:59",
    "a: \"{{ name }}\"\nb: x {{ name }}",
    "a: &a [b]\nc: [*a, *a]\nd: {e: *a}",
    "a: ! b\nc: ! [d]\ne: ! {f: g}",
    "a: 99999999999999999999999999999999999999999999",
    "a: {? b, ? c}",
    "a: [~, null, Null, NULL, nuLL]",
];

/// Values that PyYAML can't construct.
const NOT_MADE: [&str; 62] = [
    "a: !vault |\n  b",
    "a: !Ref b",
    "a: [!x []]",
    "!x {a: b}",
    "a: !!foo b",
    "a: !!python/object:os.system b",
    "a: !<x> b",
    "hostname: {{ name }}",
    "a: [{{ name }}, b]",
    "a: {{ .Name }}",
    "{{ name }}: b",
    "? [a, b]\n: c",
    "? {a: b}\n: c",
    "? - a\n: b",
    "a: {[b]: c}",
    "a: &a [b]\n*a : c",
    "a: {!!set {b}: c}",
    "a: {!!omap [b: c]: d}",
    "a: {!!set [b]: c}",
    "a: 2024-13-45",
    "a: 2023-02-29",
    "a: 0000-01-01",
    "a: 2024-1-32 10:00:00",
    "a: 2024-01-01 24:00:00",
    "a: 2024-01-01 10:60:00",
    "a: 2024-01-01 10:00:60",
    "a: 2024-01-01 10:00:00 +24",
    "a: 2024-01-01 10:00:00 -23:60",
    "? 2024-02-30\n: b",
    "a: !!timestamp b",
    "a: !!timestamp \"2024-01-01 \"",
    "a: !!timestamp 2024",
    "a: 0b_",
    "a: 0x_",
    "a: -0x__",
    "a: !!int b",
    "a: !!int ''",
    "a: !!int 08",
    "a: !!int 1.5",
    "a: !!int 0:30",
    "a: !!int 1::2",
    "a: !!float b",
    "a: !!float ''",
    "a: !!float .",
    "a: !!float 1:b",
    "a: !!bool 1",
    "a: !!bool y",
    "a: !!binary b",
    "a: !!binary abcde",
    "a: !!binary é",
    "a: !!null [b]",
    "a: !!str [b]",
    "a: !!int {b: c}",
    "a: !!seq {b: c}",
    "a: !!map [b]",
    "a: !!set [b]",
    "a: !!omap {b: c}",
    "a: !!pairs [b]\nc: !!omap [{d: e, f: g}]",
    "a: <<",
    "a: [=]",
    "a: {<<: b}\nc: {<<: [d]}",
    "!!set {a: b}",
];

#[test]
fn values_that_pyyaml_can_construct_are_accepted() {
    let documents: Vec<String> = MADE.iter().map(headed).collect();
    for document in &documents {
        assert_eq!(refusal(document), None, "{document:?}");
    }
    assert_same(&documents);
}

#[test]
fn values_that_pyyaml_cannot_construct_are_refused() {
    let own = ["a: &a [*a]".to_owned(), "a: &a {b: {c: *a}}".to_owned(), format!("a: {}", "1".repeat(4301))];
    let documents: Vec<String> =
        NOT_MADE.iter().map(headed).chain(own.iter().map(|body| headed(&body.as_str()))).collect();
    for document in &documents {
        assert!(refusal(document).is_some(), "{document:?}");
    }
    assert_same(&documents);
}

/// Random scalars composed of the characters in dates and numbers.
#[test]
fn numbers_and_dates_get_the_same_verdict_as_from_pyyaml() {
    let mut runner = TestRunner::deterministic();
    let piece = prop::sample::select(vec![
        "0", "1", "5", "6", "9", "_", ".", ":", "-", "+", "e", "E", "x", "b", "o", "2024-", "-13", "-02",
        "-30", " 10:00", ":59", ":60", "T", "Z", " +", "inf", ".nan", "0x", "0b", "1:2", "a", "true", "~",
        "=", "<<",
    ]);
    let tag = prop::sample::select(vec![
        "",
        "",
        "",
        "!!int ",
        "!!float ",
        "!!bool ",
        "!!timestamp ",
        "!!binary ",
        "!!str ",
        "! ",
        "!!null ",
    ]);
    let scalar =
        (tag, prop::collection::vec(piece, 1..6), any::<bool>()).prop_map(|(tag, pieces, is_quoted)| {
            let text = pieces.concat();
            if is_quoted { format!("a: {tag}'{text}'") } else { format!("a: {tag}{text}") }
        });
    let documents: Vec<String> =
        (0..4000).map(|_| headed(&scalar.new_tree(&mut runner).unwrap().current().as_str())).collect();
    assert_same(&documents);
}

#[test]
fn known_documents_are_accepted() {
    let documents = known();
    assert!(documents.len() >= 85, "{}", documents.len());
    for document in &documents {
        assert_eq!(refusal(document), None, "{document:?}");
    }
    assert_same(&documents);
}

/// Exceptions from the comparison that no longer apply must be removed.
#[test]
fn documents_refused_more_strictly_than_by_pyyaml_are_listed() {
    let documents = STRICTER.map(|(_, _, body)| headed(&body));
    for document in &documents {
        assert!(is_stricter(&refusal(document).unwrap_or_default(), document), "{document:?}");
    }
    let verdicts = judged_by("yaml-differential.py", &serde_json::to_vec(&documents).unwrap());
    assert_eq!(verdicts, serde_json::json!([null, null, null, null]));
}

/// A document with some characters inserted or removed.
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
fn random_and_mutated_documents_get_the_same_verdict_as_from_pyyaml() {
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
