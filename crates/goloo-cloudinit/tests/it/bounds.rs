//! Configs, documents and templates designed to exhaust time, memory or the stack: all are handled or refused quickly.

use std::time::{Duration, Instant};

use crate::common::{composed, lines, providers, resolved, stacks::sources};
use goloo_model::spec::{Diagnostic, resolve};

/// The size of one input in bytes; a stack's file may be this large.
const SIZE: usize = 1 << 20;
/// For a build without optimization, on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
/// The maximum length of one problem's message, in characters.
const SAID_MAX: usize = 2000;

#[track_caller]
fn soon(what: &str, work: impl FnOnce() -> Result<(), Vec<Diagnostic>>) {
    let begin = Instant::now();
    let diagnostics = work().err().unwrap_or_default();
    let took = begin.elapsed();
    assert!(took < LIMIT, "{what} took {took:?}");
    for diagnostic in diagnostics {
        assert!(
            lines(std::slice::from_ref(&diagnostic)).chars().count() < SAID_MAX,
            "{what}: {}",
            diagnostic.line
        );
    }
}

/// Repeats a piece up to the size of a file, with `#` replaced by its number.
fn numbered(piece: &str) -> String {
    (0..SIZE / (piece.len() + 5)).map(|number| piece.replace('#', &number.to_string())).collect()
}

fn repeated(piece: &str) -> String {
    piece.repeat(SIZE / piece.len())
}

#[test]
fn every_config_is_resolved_within_the_time_limit() {
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
    for provider in [&providers::QEMU, &providers::MULTIPASS] {
        soon(what, || composed(&stack, provider).map(drop));
    }
}

#[test]
fn every_document_is_processed_within_the_time_limit() {
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
        (
            "late commands that are none",
            format!("{}runcmd: [{}]\n", "# x\n".repeat(250_000), "1, ".repeat(9_900)),
        ),
        (
            "late keys",
            format!(
                "{}{}",
                "# x\n".repeat(220_000),
                (0..4900).map(|n| format!("a{n}: 1\na{n}: 1\n")).collect::<String>()
            ),
        ),
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
fn every_template_is_rendered_within_time_and_memory_limits() {
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
    composed(&stack, &providers::QEMU).unwrap();
}
