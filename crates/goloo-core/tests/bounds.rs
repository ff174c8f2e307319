//! Configs, documents and templates that are made to take time, memory or the stack: all are refused or taken soon.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::{composed, lines, resolved, sources};
use goloo_core::record::ProviderKind;
use goloo_core::spec::{Problem, resolve};

/// Bytes of one input; a stack's file may be as large.
const SIZE: usize = 1 << 20;
/// For a build without optimization, on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);
/// The most that is said of one problem, in characters.
const SAID_MAX: usize = 2000;

#[track_caller]
fn soon(what: &str, work: impl FnOnce() -> Result<(), Vec<Problem>>) {
    let begin = Instant::now();
    let problems = work().err().unwrap_or_default();
    let took = begin.elapsed();
    assert!(took < LIMIT, "{what} took {took:?}");
    for problem in problems {
        assert!(lines(std::slice::from_ref(&problem)).chars().count() < SAID_MAX, "{what}: {}", problem.line);
    }
}

/// Repeats a piece up to the size of a file, with its number in the place of `#`.
fn numbered(piece: &str) -> String {
    (0..SIZE / (piece.len() + 5)).map(|number| piece.replace('#', &number.to_string())).collect()
}

fn repeated(piece: &str) -> String {
    piece.repeat(SIZE / piece.len())
}

#[test]
fn no_config_takes_long() {
    let unclosed = "[".repeat(100_000);
    let list = |piece: &str| format!("[{}{piece}]", repeated(&format!("{piece},")));
    for (what, config) in [
        ("brackets", unclosed.clone()),
        ("closed brackets", format!("{unclosed}{}", "]".repeat(100_000))),
        ("objects", repeated("{\"a\":")),
        ("a variable", format!("{{\"cloud_init\": {{\"vars\": {{\"a\": {unclosed}")),
        ("unknown keys", format!("{{{}\"z\": 1}}", numbered("\"k#\": 1,"))),
        ("one key often", format!("{{{}\"k\": 1}}", repeated("\"k\": 1,"))),
        ("a long key", format!("{{\"{}\": {}}}", "k".repeat(SIZE / 2), list("1"))),
        ("a long unknown key", format!("{{\"vm\": {{\"{}\": 1}}}}", "n".repeat(SIZE))),
        ("large numbers", format!("{{\"vm\": {{\"ports\": {}}}}}", list("1e999"))),
        ("nulls", format!("{{\"vm\": {{\"users\": {}}}}}", list("null"))),
        ("users", format!("{{\"vm\": {{\"users\": {}}}}}", list("{\"username\":\"u\"}"))),
        ("a long name", format!("{{\"vm\": {{\"name\": \"{}\"}}}}", "a".repeat(SIZE))),
        ("escapes", format!("{{\"vm\": {{\"name\": \"{}\"}}}}", repeated("\\u0041"))),
    ] {
        soon(what, || resolve(&sources(&config)).map(drop));
    }
}

fn document(what: &str, text: &str) {
    let mut stack = resolved("{}").stack;
    stack.cloud_init = Some(text.as_bytes().to_vec());
    for provider in [ProviderKind::Qemu, ProviderKind::Multipass] {
        soon(what, || composed(&stack, provider).map(drop));
    }
}

#[test]
fn no_document_takes_long() {
    let aliases =
        |level: usize| format!("a{level}: &a{level} [{}]\n", format!("*a{}, ", level - 1).repeat(10));
    let merges =
        |level: usize| format!("a{level}: &a{level} {{<<: [{}]}}\n", format!("*a{}, ", level - 1).repeat(8));
    for (what, text) in [
        ("brackets", format!("a: {}", "[".repeat(100_000))),
        ("braces", format!("a: {}", "{a: ".repeat(100_000))),
        ("dashes", format!("a:\n {}", "- ".repeat(100_000))),
        ("explicit keys", repeated("? ")),
        ("tags before commas", format!("a: [{}]", repeated("!x, "))),
        ("texts like tags", format!("a: [{}]", repeated("\"!x,y\", "))),
        ("lines like tags", numbered("b#: x !x,y\n")),
        ("one alias often", format!("a: &a 1\nruncmd: [{}]\n", repeated("*a, "))),
        ("anchors", format!("{}runcmd: [{}]\n", numbered("a#: &a# x\n"), numbered("*a#, "))),
        ("merges", format!("a: &a {{x: 1}}\nb: {{<<: [{}]}}\n", repeated("*a, "))),
        ("merges of merges", format!("a0: &a0 {{x: 1}}\n{}", (1..100).map(merges).collect::<String>())),
        (
            "billion laughs",
            format!("a0: &a0 [x]\n{}runcmd: *a11\n", (1..12).map(aliases).collect::<String>()),
        ),
        ("tabs", numbered("a#: |\n \tx\n")),
        ("keys", numbered("a#: 1\n")),
        ("one key often", repeated("a: 1\n")),
        ("commands that are none", format!("runcmd: [{}]\n", repeated("1, "))),
        ("users that are none", format!("users: [{}]\n", repeated("{nam: x}, "))),
        ("days that are none", format!("a: [{}]\n", repeated("2001-99-99, "))),
        ("a long key", format!("\"{}\": [{}]\n", "k".repeat(SIZE / 2), "1, ".repeat(SIZE / 6))),
        ("a long explicit key", format!("? \"{}\"\n: [{}]\n", "k".repeat(SIZE / 2), "1, ".repeat(3000))),
        ("placeholders", format!("a: \"{}\"\n", repeated("${SSH_PUBLIC_KEY}"))),
        ("unknown placeholders", format!("a: \"{}\"\n", repeated("${SSH_PUBLIC_KEY_X}"))),
        ("old templates", format!("a: \"{}\"\n", repeated("{{ .Name }}"))),
        ("open braces", format!("a: \"{}\"\n", repeated("{{"))),
        ("comments", format!("{}a: 1\n", repeated("# x\n"))),
        ("indentation", (0..1300).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect()),
    ] {
        document(what, &format!("#cloud-config\n{text}"));
    }
}

#[test]
fn no_template_takes_long_or_more_than_its_share_of_memory() {
    for (what, text) in [
        ("unknown names", numbered("a: {{ x# }}\n")),
        (
            "a text that doubles",
            format!("{{% set a = \"x\" * 1000 %}}{}a: {{{{ a }}}}\n", "{% set a = a ~ a %}".repeat(40)),
        ),
        (
            "loops in loops",
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}a: 1\n".to_owned(),
        ),
        ("output", "a: \"{% for i in range(99999) %}{{ \"x\" * 100000 }}{% endfor %}\"\n".to_owned()),
        ("large output", "a: \"{{ \"x\" * 2000000 }}\"\n".to_owned()),
        ("recursion", "{% macro f(n) %}{{ f(n) }}{% endmacro %}a: {{ f(1) }}\n".to_owned()),
        ("parentheses", format!("a: {{{{ {}1{} }}}}\n", "(".repeat(100_000), ")".repeat(100_000))),
        ("blocks", "{% if 1 %}".repeat(50_000)),
        ("lists", format!("a: {{{{ {} }}}}\n", "[".repeat(100_000))),
        ("nots", format!("a: {{{{ {}1 }}}}\n", "not ".repeat(100_000))),
        ("filters", format!("a: {{{{ 1{} }}}}\n", "|int".repeat(100_000))),
        ("sums", format!("a: {{{{ 1{} }}}}\n", "+1".repeat(100_000))),
        ("conditions", format!("a: {{{{ {}1 }}}}\n", "1 if 1 else ".repeat(50_000))),
        ("signs", format!("a: {{{{ {}1 }}}}\n", "-".repeat(100_000))),
        ("powers", format!("a: {{{{ {}9 }}}}\n", "9**".repeat(10_000))),
        ("short signs", format!("a: {{{{ {}1 }}}}\n", "-".repeat(4000))),
        ("short nots", format!("a: {{{{ {}1 }}}}\n", "not ".repeat(1000))),
        ("short filters", format!("a: {{{{ 1{} }}}}\n", "|int".repeat(1000))),
    ] {
        document(what, &format!("## template: goloo\n#cloud-config\n{text}"));
    }
}

/// An ordinary template is far from the limits.
#[test]
fn a_template_of_a_thousand_lines_is_rendered() {
    let text = "## template: goloo\n#cloud-config\nruncmd:\n{% for i in range(1000) %}\n  - echo {{ i }} {{ name }}\n{% endfor %}\n";
    let mut stack = resolved("{}").stack;
    stack.cloud_init = Some(text.as_bytes().to_vec());
    composed(&stack, ProviderKind::Qemu).unwrap();
}
