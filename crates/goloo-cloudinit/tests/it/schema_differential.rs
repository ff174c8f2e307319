//! cloud-init's own schema judges which values goloo must take and which not (`scripts/schema-differential.py`).

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;
use std::sync::LazyLock;

use crate::common::{composed_with, judged_by, own_stacks, providers, reference, repository, resolved};
use goloo_model::host_key::HostKey;
use goloo_model::spec::ResolvedStack;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};

/// A document with all keys whose values are checked, each with everything that it may contain.
fn every_key() -> Map<String, Value> {
    serde_json::from_str(include_str!("every_key.json")).unwrap()
}

fn first(pointer: &str) -> String {
    pointer.split('/').nth(1).unwrap_or_default().to_owned()
}

/// The keys whose values goloo rejects; for empty ones it only warns.
fn refused(document: &str) -> BTreeSet<String> {
    static STACK: LazyLock<ResolvedStack> = LazyLock::new(|| resolved("{}").stack);
    let mut stack = STACK.clone();
    stack.cloud_init = Some(document.as_bytes().to_vec());
    static HOST_KEY: LazyLock<HostKey> = LazyLock::new(HostKey::generate);
    match composed_with(&stack, &providers::QEMU, &HOST_KEY) {
        Ok(composed) => {
            let empty = composed.diagnostics.iter().filter(|diagnostic| {
                ["not empty", "not 0", "is empty"].iter().any(|end| diagnostic.message.ends_with(end))
            });
            empty.map(|diagnostic| first(&diagnostic.pointer)).collect()
        }
        Err(diagnostics) => diagnostics
            .iter()
            // The other problems have no pointer.
            .filter(|diagnostic| !diagnostic.pointer.is_empty())
            .map(|diagnostic| first(&diagnostic.pointer))
            .collect(),
    }
}

/// The differences between goloo and the schema.
fn differences(documents: &[String]) -> Vec<String> {
    let known: BTreeSet<String> = every_key().keys().cloned().collect();
    let verdicts = judged_by("schema-differential.py", &serde_json::to_vec(documents).unwrap());
    let verdicts = verdicts.as_array().unwrap();
    assert_eq!(verdicts.len(), documents.len());
    let judged = std::iter::zip(documents, verdicts).filter(|(_, verdict)| !verdict.is_null());
    let differences = judged.flat_map(|(document, verdict)| {
        let refused = refused(document);
        let errors = verdict.as_array().unwrap().iter();
        let errors = errors.map(|error| (error[0].as_str().unwrap(), error[1].as_str().unwrap()));
        let said: Vec<(&str, &str)> = errors.filter(|(key, _)| known.contains(*key)).collect();
        let too_strict = refused.iter().filter(|key| !said.iter().any(|(wrong, _)| wrong == key));
        let too_strict = too_strict.map(|key| format!("{key} is refused\n{document}\n")).collect::<Vec<_>>();
        // Warnings aren't reported in addition to problems.
        let is_said = |key: &str, message: &str| {
            let is_of_nothing = ["None is not", "[] ", "{} "].iter().any(|start| message.starts_with(start));
            refused.contains(key) || (!refused.is_empty() && is_of_nothing)
        };
        let too_lenient = said.iter().filter(|(key, message)| !is_said(key, message));
        let too_lenient =
            too_lenient.map(|(key, message)| format!("{key} is taken: {message}\n{document}\n"));
        too_strict.into_iter().chain(too_lenient).collect::<Vec<_>>()
    });
    differences.collect()
}

fn assert_same(documents: &[String]) {
    let differences = differences(documents);
    let shown = differences.iter().take(20).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(differences.is_empty(), "{} differences of {}:\n{shown}", differences.len(), documents.len());
}

fn cloud_config(keys: &Map<String, Value>) -> String {
    let text = serde_json::to_string(keys).unwrap();
    // JSON can't represent these values.
    let text = text.replace("\"@date\"", "2024-01-01").replace("\"@bytes\"", "!!binary aGk=");
    format!("#cloud-config\n{}\n", text.replace("\"@5\":", "5: ").replace("\":", "\": "))
}

/// Replacement values.
fn others() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(5),
        json!(-1),
        json!(1.5),
        json!("text"),
        json!(""),
        json!("auto"),
        json!("5"),
        json!("+5"),
        json!("2G"),
        json!("a:b"),
        json!("off"),
        json!("@date"),
        json!("@bytes"),
        json!("2030-02-30"),
        json!([]),
        json!(["a"]),
        json!(["a", "a"]),
        json!([1]),
        json!([null]),
        json!([["a"]]),
        json!([["a", "b"]]),
        json!([{"a": "b"}]),
        json!([true]),
        json!({}),
        json!({"a": "b"}),
        json!({"a": null}),
        json!({"a": 1}),
        json!({"name": "a"}),
        json!({"@5": "a"}),
        json!({"": "a"}),
        json!({"0": ["a"]}),
    ]
}

/// The number of nodes in a value.
fn places(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(places).sum::<usize>(),
        Value::Object(keys) => keys.values().map(places).sum(),
        _ => 0,
    }
}

/// Changes the value at an index, counted from the root.
fn change(value: &mut Value, place: &mut usize, change_it: &mut dyn FnMut(&mut Value)) {
    if *place == 0 {
        change_it(value);
        *place = usize::MAX;
        return;
    }
    *place -= 1;
    let children: Vec<&mut Value> = match value {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(keys) => keys.values_mut().collect(),
        _ => Vec::new(),
    };
    for child in children {
        if *place == usize::MAX {
            return;
        }
        change(child, place, change_it);
    }
}

/// A value with something removed, added or renamed.
fn reshaped(value: &mut Value, choice: usize) {
    match value {
        Value::Object(keys) if choice.is_multiple_of(3) => drop(keys.insert("extra".to_owned(), json!("x"))),
        Value::Object(keys) => {
            let names: Vec<String> = keys.keys().cloned().collect();
            let Some(name) = names.get(choice % names.len().max(1)) else { return };
            let taken = keys.remove(name).unwrap();
            if choice % 3 == 1 {
                keys.insert(name.replace('_', "-") + if choice.is_multiple_of(2) { "x" } else { "" }, taken);
            }
        }
        Value::Array(items) => match items.first().cloned() {
            Some(first) if choice.is_multiple_of(3) => items.push(first),
            Some(_) if choice % 3 == 1 => drop(items.remove(0)),
            _ => items.push(json!({"a": 1})),
        },
        Value::String(text) => text.push_str([" ", "x", "\n", ":"][choice % 4]),
        _ => *value = json!([value.clone()]),
    }
}

#[test]
fn every_key_is_accepted_alone_and_with_all_others() {
    let all = every_key();
    let single =
        all.iter().map(|(key, value)| [(key.clone(), value.clone())].into_iter().collect::<Map<_, _>>());
    let documents: Vec<String> = single.chain([all.clone()]).map(|keys| cloud_config(&keys)).collect();
    for document in &documents {
        // goloo's additions affect some of these, and it sets the host key.
        assert_eq!(refused(document), BTreeSet::new(), "{document}");
    }
    assert_same(&documents);
}

#[test]
fn each_key_with_each_kind_of_value_gets_the_verdict_of_the_schema() {
    let documents: Vec<String> = every_key()
        .keys()
        .flat_map(|key| {
            others().into_iter().map(|value| cloud_config(&[(key.clone(), value)].into_iter().collect()))
        })
        .collect();
    assert_same(&documents);
}

#[test]
fn documents_with_one_changed_value_get_the_verdict_of_the_schema() {
    let others = others();
    let documents: Vec<String> = every_key()
        .into_iter()
        .flat_map(|(key, value)| {
            let all = others.len() + 6;
            (1..places(&value))
                .flat_map(|place| (0..all).map(move |choice| (place, choice)))
                .map({
                    let others = others.clone();
                    move |(place, choice)| {
                        let mut value = value.clone();
                        let mut change_it = |value: &mut Value| match others.get(choice) {
                            Some(other) => *value = other.clone(),
                            None => reshaped(value, choice - others.len()),
                        };
                        change(&mut value, &mut { place }, &mut change_it);
                        cloud_config(&[(key.clone(), value)].into_iter().collect())
                    }
                })
                .collect::<Vec<_>>()
        })
        // Only every third: each takes a tenth of a second.
        .step_by(3)
        .collect();
    assert!(documents.len() > 280, "{}", documents.len());
    assert_same(&documents);
}

/// Real documents: the corpus, goloo's own, cloud-init's examples.
fn real() -> Vec<String> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/merge_corpus");
    let examples = reference().join("unpacked/usr/share/doc/cloud-init/examples");
    let files = [corpus, examples].into_iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let files = files.map(|entry| entry.unwrap().path());
    let own = own_stacks().into_iter().map(|folder| folder.join("cloud-init.yaml"));
    let mut files: Vec<_> = files.chain(own).collect();
    files.sort();
    let texts = files.iter().filter_map(|path| {
        let bytes = std::fs::read(path).ok()?;
        let mut text = String::new();
        if path.extension().is_some_and(|extension| extension == "gz") {
            flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).ok()?;
        } else {
            text = String::from_utf8(bytes).ok()?;
        }
        Some(text)
    });
    let documents = texts.filter(|text| text.starts_with("#cloud-config\n"));
    documents.map(|text| text.replace("${SSH_PUBLIC_KEY", "${KEY")).collect()
}

#[test]
fn real_documents_get_the_verdict_of_the_schema() {
    let documents = real();
    assert!(documents.len() > 110, "{}", documents.len());
    assert_same(&documents);
}

/// A document in which the value on one line is replaced.
fn with_other_value(document: &str, line: usize, other: usize) -> Option<String> {
    const OTHERS: [&str; 14] = [
        "",
        "5",
        "yes",
        "text",
        "'quoted'",
        "[a, b]",
        "[]",
        "{a: b}",
        "2024-01-01",
        "~",
        "[1]",
        "a: b",
        "!!binary aGk=",
        "[{a: b}]",
    ];
    let lines: Vec<&str> = document.lines().collect();
    let with_values: Vec<usize> = (1..lines.len())
        .filter(|index| lines[*index].contains(": ") || lines[*index].trim_start().starts_with("- "))
        .collect();
    let index = *with_values.get(line % with_values.len().max(1))?;
    let (before, _) = lines[index].split_once(": ").or_else(|| lines[index].split_once("- "))?;
    let mark = if lines[index].contains(": ") { ": " } else { "- " };
    let changed = format!("{before}{mark}{}", OTHERS[other % OTHERS.len()]);
    let lines = lines.iter().enumerate().map(|(at, line)| if at == index { changed.as_str() } else { line });
    Some(lines.collect::<Vec<_>>().join("\n") + "\n")
}

#[test]
fn real_documents_with_a_changed_value_get_the_verdict_of_the_schema() {
    // What fails, fails for everybody.
    let mut runner = TestRunner::deterministic();
    let choice = (any::<usize>(), any::<usize>());
    let real = real();
    let documents: Vec<String> = (0..1_000)
        .filter_map(|index| {
            let (line, other) = choice.new_tree(&mut runner).unwrap().current();
            with_other_value(&real[index % real.len()], line, other)
        })
        .collect();
    assert!(documents.len() > 900, "{}", documents.len());
    assert_same(&documents);
}

#[test]
fn the_key_list_matches_the_document_with_every_key() {
    let source =
        std::fs::read_to_string(repository().join("crates/goloo-cloudinit/src/schema/keys.rs")).unwrap();
    let list = source.split("const KEYS").nth(1).unwrap().split("];").next().unwrap();
    let keys: Vec<&str> =
        list.lines().filter_map(|line| line.trim().strip_prefix("(\"")?.split('"').next()).collect();
    assert_eq!(keys, every_key().keys().map(String::as_str).collect::<Vec<_>>());
}
