//! What Multipass gets: goloo's part in the user's document. PyYAML, with which cloud-init reads, judges
//! that the user's part means what it meant (`scripts/merge-differential.py`).

use crate::common::documents;
use std::path::Path;

use crate::common::{
    KEY, composed_any_shape as composed_with, judged_by, lines, own_stacks, providers, read_stack, resolved,
    said_of,
};
use goloo_cloudinit::Composed;
use goloo_model::host_key::HostKey;
use goloo_model::provider_info::ProviderInfo;
use goloo_model::spec::{Diagnostic, ResolvedStack};
use libyaml_safer::{EventData, Parser, ScalarStyle};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};

/// What goloo adds must be right in documents of any structure.
fn composed(stack: &ResolvedStack, provider: &ProviderInfo) -> Result<Composed, Vec<Diagnostic>> {
    composed_with(stack, provider, &HostKey::generate())
}

/// A stack for which goloo adds to every possible list.
fn stack(document: &str) -> ResolvedStack {
    let config =
        json!({"vm": {"ttl": "8h", "users": [{"username": "ann", "ssh_keys": [KEY]}, {"username": "bob"}]}});
    let mut stack = resolved(&config.to_string()).stack;
    stack.cloud_init = Some(document.as_bytes().to_vec());
    stack.configure = Some(b"#!/bin/sh\necho 'done'\n".to_vec());
    stack
}

/// What other providers get next to the document: the last part of the message, and the boothook, which is the
/// first command here.
fn additions(stack: &ResolvedStack, host_key: &HostKey) -> Map<String, Value> {
    let composed = composed_with(stack, &providers::QEMU, host_key).unwrap();
    let message = String::from_utf8(composed.user_data).unwrap();
    let part = message.rsplit("#cloud-config\n").next().unwrap().split("\n--goloo-").next().unwrap();
    let mut config: Map<String, Value> = serde_json::from_str(part).unwrap();
    config.remove("merge_how").unwrap();
    let script = message.split("#cloud-boothook\n").nth(1).unwrap().split("\n--goloo-").next().unwrap();
    config.insert("bootcmd".to_owned(), json!([["sh", "-c", script]]));
    config
}

/// A document before and after, with the additions.
fn case(document: &str) -> Value {
    let (stack, host_key) = (stack(document), HostKey::generate());
    let after = composed_with(&stack, &providers::MULTIPASS, &host_key)
        .unwrap_or_else(|diagnostics| panic!("{}\n{document}", lines(&diagnostics)));
    let after = String::from_utf8(after.user_data).unwrap();
    json!({"before": document, "after": after, "additions": additions(&stack, &host_key)})
}

/// Verifies the cases with PyYAML, in one run.
fn assert_right(cases: &[(String, Value)]) {
    let input: Vec<&Value> = cases.iter().map(|(_, case)| case).collect();
    let verdicts = judged_by("merge-differential.py", &serde_json::to_vec(&input).unwrap());
    let verdicts = verdicts.as_array().unwrap();
    assert_eq!(verdicts.len(), cases.len());
    let wrong: Vec<String> = std::iter::zip(cases, verdicts)
        .filter(|(_, verdict)| !verdict.is_null())
        .map(|((name, case), verdict)| format!("{name}: {verdict}\n{}\n", case["after"].as_str().unwrap()))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.concat());
}

/// The documents of `merge_corpus`, by name.
fn corpus() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/merge_corpus");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut corpus: Vec<_> = files
        .map(|path| {
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(path).unwrap())
        })
        .collect();
    corpus.sort();
    corpus
}

#[test]
fn merged_corpus_documents_mean_the_same_to_pyyaml() {
    let corpus = corpus();
    assert!(corpus.len() >= 60, "{}", corpus.len());
    let cases: Vec<_> = corpus.iter().map(|(name, document)| (name.clone(), case(document))).collect();
    assert_right(&cases);
}

#[test]
fn added_lines_use_the_line_endings_of_the_document() {
    let is_crlf = |document: &String| document.starts_with("#cloud-config\r\n");
    let documents: Vec<_> = corpus().into_iter().filter(|(_, document)| is_crlf(document)).collect();
    assert!(documents.len() >= 4, "{}", documents.len());
    for (name, document) in documents {
        let composed = composed(&stack(&document), &providers::MULTIPASS).unwrap();
        let text = String::from_utf8(composed.user_data).unwrap();
        assert!(!text.replace("\r\n", "").contains('\n'), "{name}: {text:?}");
    }
}

#[test]
fn bundled_stacks_mean_the_same_with_multipass_and_qemu() {
    let host_key = HostKey::generate();
    let cases = own_stacks().into_iter().filter_map(|folder| {
        let mut stack = read_stack(&folder).stack;
        // Multipass mounts folders itself.
        stack.mounts.clear();
        let after = composed_with(&stack, &providers::MULTIPASS, &host_key).unwrap();
        let name = folder.display().to_string();
        // Templates know the provider; their outputs differ only in its name.
        let after = String::from_utf8(after.user_data).unwrap().replace("multipass", "qemu");
        let before = document_for_qemu(&stack, &host_key)?;
        Some((name, json!({"before": before, "after": after, "additions": additions(&stack, &host_key)})))
    });
    let cases: Vec<_> = cases.collect();
    assert!(cases.len() >= 8, "{}", cases.len());
    assert_right(&cases);
}

/// The user's document as in the user-data for qemu; `None` if the stack has none, or if it is
/// encoded.
fn document_for_qemu(stack: &ResolvedStack, host_key: &HostKey) -> Option<String> {
    let composed = composed_with(stack, &providers::QEMU, host_key).unwrap();
    let message = String::from_utf8(composed.user_data).unwrap();
    let (begin, _) =
        stack.cloud_init.as_ref().and_then(|_| message.match_indices("#cloud-config\n").next())?;
    Some(message[begin..].split("\n--goloo-").next().unwrap().to_owned())
}

#[test]
fn the_reference_finds_what_is_wrong() {
    let right = case("#cloud-config\nbootcmd: [0644, yes]\nruncmd: [a]\n");
    let after = right["after"].as_str().unwrap();
    let wrong = [
        after.replace("0644", "\"0644\""),
        after.replace("yes", "1"),
        after.replace("0644, yes", "yes, 0644"),
        after.replace("bootcmd: [", "bootcmd: [more, "),
        after.replace("runcmd: [", "runcmd: [more, "),
        after.replace("ssh_deletekeys: true", "ssh_deletekeys: 1"),
        after.replace("users:", "user:"),
        format!("{after}more: true\n"),
        format!("{after}runcmd: [\n"),
    ];
    let cases = wrong
        .map(|after| json!({"before": right["before"], "after": after, "additions": right["additions"]}));
    let verdicts = judged_by("merge-differential.py", &serde_json::to_vec(&cases).unwrap());
    for (case, verdict) in std::iter::zip(&cases, verdicts.as_array().unwrap()) {
        assert!(verdict.is_string(), "{case}");
    }
    assert_right(&[("right".to_owned(), right)]);
}

/// Each document with its messages for Multipass.
fn table(documents: &[&str]) -> String {
    said_of(documents, |document| composed(&stack(document), &providers::MULTIPASS))
}

#[test]
fn document_kinds_unsupported_by_multipass_are_refused() {
    let text = table(&[
        "## template: jinja\n#cloud-config\nhostname: {{ v1.region }}\n",
        "#!/bin/sh\necho\n",
        "Content-Type: multipart/mixed; boundary=x\n\n--x\n\nb\n--x--\n",
        "#cloud-config-archive\n- a\n",
        "#include\nhttps://example.com\n",
        "#cloud-boothook\necho\n",
        "## template: goloo\n#!/bin/sh\necho {{ name }}\n",
        "## template: goloo\n#cloud-config\nhostname: {{ name }}\n",
    ]);
    insta::assert_snapshot!(text);
}

#[test]
fn values_that_cannot_be_extended_are_refused() {
    let text = table(&[
        "#cloud-config\nbootcmd: echo\n",
        "#cloud-config\nbootcmd: {a: b}\nssh_genkeytypes: x\nusers: ann, bob\n",
        "#cloud-config\nbootcmd: \"\"\n",
        "#cloud-config\n.x: &x [a]\nbootcmd: *x\n",
        "#cloud-config\nbootcmd: &x [a]\nusers: *x\n",
        "#cloud-config\nbootcmd: &x\nother: *x\n",
        "#cloud-config\nbootcmd: !!seq [a]\n",
        "#cloud-config\nbootcmd: !own\n  - a\n",
        "#cloud-config\nssh_genkeytypes: !!null\n",
        "#cloud-config\n!!str bootcmd: [a]\n",
        "#cloud-config\nbootcmd: [a]\npackages: [b]\nbootcmd: [c]\n",
        "#cloud-config\nbootcmd: [a]\n\"bootcmd\": [c]\n",
        "#cloud-config\n.k: &k bootcmd\n*k : [a]\nbootcmd: [b]\n",
        "#cloud-config\n.x: &x {bootcmd: [a]}\n<<: *x\n",
        "#cloud-config\n.y: &y {users: []}\n.x: &x {<<: *y}\n<<: [{a: b}, *x]\n",
        "#cloud-config\n<<: {users: [default]}\n",
        "#cloud-config\nssh_keys:\n  ed25519_private: x\n",
        "#cloud-config\n.x: &x {ed25519_private: a}\nssh_keys: {<<: *x}\n",
        "#cloud-config\n--- &root\na: *root\n",
        "#cloud-config\n--- !!map\na: b\n",
        "#cloud-config\na: b\n---\nc: d\n",
        "#cloud-config\na: b\n...\n---\n",
        "#cloud-config\n--- ~\n",
        "#cloud-config\na: \"b\u{2028}c\"\n",
        "#cloud-config\n# a\u{85}b\n",
    ]);
    insta::assert_snapshot!(text);
}

#[test]
fn notations_that_cannot_be_extended_are_refused() {
    let text = table(&[
        "#cloud-config\nusers:\n  - |\n    echo",
        "#cloud-config\nusers:\n  - |+\n    echo",
        "#cloud-config\nusers:\n  - a\n  - {b: c}\n  - d: >\n      echo",
        "#cloud-config\n? bootcmd\n: - a\n  - b\n",
        "#cloud-config\n? bootcmd\n? users\n",
        "#cloud-config\n{bootcmd, a: b}\n",
        "#cloud-config\nbootcmd: &x\n",
        "#cloud-config\nbootcmd: &x ~\n",
        "#cloud-config\nkeys:\n  - ${SSH_PUBLIC_KEY}\nbootcmd: a\n",
        "## template: goloo\n#cloud-config\nbootcmd: {{ name }}\n",
    ]);
    insta::assert_snapshot!(text);
}

#[test]
fn a_users_list_without_the_default_user_causes_a_warning() {
    let text = table(&[
        "#cloud-config\nusers: [{name: ann}]\n",
        "#cloud-config\nusers: []\n",
        "#cloud-config\nusers: [default]\n",
        "#cloud-config\nusers:\n",
        "#cloud-config\n",
    ]);
    insta::assert_snapshot!(text);
}

#[test]
fn the_generated_part_is_the_document_when_the_user_has_none() {
    let host_key = HostKey::generate();
    let with = |document: Option<&str>| {
        let mut stack = stack("");
        stack.cloud_init = document.map(|document| document.as_bytes().to_vec());
        composed_with(&stack, &providers::MULTIPASS, &host_key).unwrap().user_data
    };
    assert_eq!(with(None), with(Some("#cloud-config\n")));
    let text = String::from_utf8(with(None)).unwrap();
    assert!(text.starts_with("#cloud-config\n# from goloo:\n"), "{text}");
    assert!(text.contains("\nbootcmd:\n  - [\"sh\", \"-c\", \"#!/bin/sh"), "{text}");
    assert!(text.contains("\nusers:\n  - \"default\"\n  - {name: \"ann\""), "{text}");
}

/// Multipass mounts folders itself, so the part contains none of qemu's mounts.
#[test]
fn mounts_are_not_part_of_the_document() {
    let mut stack = stack("#cloud-config\n");
    let config = r#"{"vm": {"mounts": [{"source": ".", "target": "/home/ubuntu/code"}]}}"#;
    stack.mounts = resolved(config).stack.mounts;
    assert_eq!(stack.mounts.len(), 1);
    let composed = composed(&stack, &providers::MULTIPASS).unwrap();
    let text = String::from_utf8(composed.user_data).unwrap();
    assert!(!text.contains("/home/ubuntu/code") && !text.contains("trans=virtio"), "{text}");
}

/// The only refusal that is allowed for random documents: a block scalar cut off by the end of the file.
fn is_cut_off(diagnostics: &[Diagnostic]) -> bool {
    diagnostics
        .iter()
        .all(|diagnostic| diagnostic.message.starts_with("the file's last line has no line ending"))
}

#[test]
fn merged_random_documents_mean_the_same_to_pyyaml() {
    let mut runner = TestRunner::default();
    let documents = std::iter::repeat_with(|| documents::document().new_tree(&mut runner).unwrap().current());
    let is_merged = |document: &String| match composed(&stack(document), &providers::MULTIPASS) {
        Ok(_) => true,
        Err(diagnostics) => {
            assert!(is_cut_off(&diagnostics), "{}\n{document}", lines(&diagnostics));
            false
        }
    };
    let cases =
        documents.filter(is_merged).take(150).map(|document| (format!("{document:?}"), case(&document)));
    assert_right(&cases.collect::<Vec<_>>());
}

/// A text's values and the events around them, in order, except for null values.
fn read(text: &str) -> Vec<String> {
    let nothing = ["", "~", "null"];
    let mut parser = Parser::new();
    // The parser doesn't accept a block scalar that is cut off by the end.
    let line_end = if text.ends_with('\n') { "" } else { "\n" };
    let text = format!("{text}{line_end}");
    parser.set_input(text.as_bytes());
    parser
        .map(|event| event.unwrap().data)
        .filter_map(|event| match event {
            EventData::Scalar { value, style: ScalarStyle::Plain, .. } if nothing.contains(&&*value) => None,
            EventData::Scalar { value, style, .. } => Some(format!("{style:?} {value}")),
            EventData::Alias { anchor } => Some(format!("*{anchor}")),
            EventData::SequenceStart { .. } => Some("[".to_owned()),
            EventData::SequenceEnd => Some("]".to_owned()),
            EventData::MappingStart { .. } => Some("{".to_owned()),
            EventData::MappingEnd => Some("}".to_owned()),
            _ => None,
        })
        .collect()
}

proptest! {
    #[test]
    fn merging_neither_loses_nor_moves_values(document in documents::document()) {
        let merged = match composed(&stack(&document), &providers::MULTIPASS) {
            Ok(composed) => String::from_utf8(composed.user_data).unwrap(),
            Err(diagnostics) => {
                prop_assert!(is_cut_off(&diagnostics), "{}", lines(&diagnostics));
                return Ok(());
            }
        };
        let merged = read(&merged);
        let mut rest = merged.iter();
        for value in read(&document) {
            prop_assert!(rest.any(|other| *other == value), "{value:?} isn't where it was in {merged:#?}");
        }
    }
}
