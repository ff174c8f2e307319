//! What is said of each bad `cloud-init.yaml`, word by word, and where; and what isn't touched.
#![allow(clippy::unwrap_used)]

mod common;

use common::{KEY, composed, lines, resolved, said_of};
use goloo_core::record::ProviderKind;
use goloo_core::spec::ResolvedStack;
use proptest::prelude::*;
use serde_json::json;

fn stack(document: &str) -> ResolvedStack {
    let config = json!({
        "vm": {"users": [{"username": "ann", "ssh_keys": [KEY, KEY.replace("ann@laptop", "ann@home")]}, {"username": "deploy-bot"}]},
        "dns": {"domain": "example.com"},
        "cloud_init": {"packages": ["git"], "vars": {"color": "red"}},
    });
    let mut stack = resolved(&config.to_string()).stack;
    stack.cloud_init = Some(document.as_bytes().to_vec());
    stack
}

/// Each document with what is said of it.
fn table(documents: &[&str]) -> String {
    said_of(documents, |document| composed(&stack(document), ProviderKind::Qemu))
}

#[test]
fn first_lines_that_cloud_init_does_not_know() {
    let text = table(&[
        "packages: [a]\n",
        "\n#cloud-config\n",
        "# cloud-config\n",
        "#cloud_config\n",
        "#Cloud-Config\n",
        "## template: mako\n#cloud-config\n",
        "## template: goloo\nhello\n",
        "## template: goloo\n",
        "{}\n",
        "\u{feff}#cloud-config\n",
        "#cloud-config\n",
        "#cloud-config-archive\n[]\n",
        "#include\nhttps://example.com\n",
    ]);
    insta::assert_snapshot!(text);
}

#[test]
fn yaml_that_is_none() {
    let text = table(&[
        "#cloud-config\nruncmd:\n  - a\n bad: [\n",
        "#cloud-config\n\tpackages: [a]\n",
        "#cloud-config\n- a\n",
        "#cloud-config\njust text\n",
        "#cloud-config\na: \"b\nc: d\n",
        "#cloud-config\na: {{ name }}\n  b: c\n",
        "#cloud-config\na: *missing\n",
        "#cloud-config\na:\tb\n",
        "#cloud-config\na: [b,\n\tc]\n",
        "#cloud-config\na: |\n  \ttabs are\tfine here\nb: 'x\ty'\n",
        "#cloud-config\nkeys:\n  - ${SSH_PUBLIC_KEY}\nbad: [\n",
        "## template: goloo\n#cloud-config\na: [{{ name }}\nb: c\n",
    ]);
    insta::assert_snapshot!(text);
}

#[test]
fn yaml_that_only_pyyaml_does_not_take() {
    let text = table(&[
        "#cloud-config\na: é [b]\nc: [é, !d, e]\n",
        "#cloud-config\na: [[curl, http://é/?b=c]]\n",
        "#cloud-config\na: &é\nb: &x c\nd: é &x\ne: &x f\n",
        "#cloud-config\na: &x b\nc: [é, &x d]\n",
        "#cloud-config\na: b\n---\nc: d\n",
        "#cloud-config\na: é\u{7}\n",
        "#cloud-config\na: é \t# b\n",
        "#cloud-config\na: |# é\n  b\n",
        "#cloud-config\na: |\n \tfirst\n\tb: c\n",
        "#cloud-config\n \tb: c\n",
        "#cloud-config\na: [é,\nb: c",
    ]);
    insta::assert_snapshot!(text);
}

#[test]
fn placeholders_that_stand_for_nothing() {
    let text = table(&[
        "#cloud-config\na:\n  - ${SSH_PUBLIC_KEY_BOB}\n  - é ${SSH_PUBLIC_KEYS}\n",
        "#cloud-config\na: ${SSH_PUBLIC_KEY}\n",
        "#cloud-config\na: ${SSH_PUBLIC_KEY_DEPLOY_BOT}\n",
        "## template: goloo\n#cloud-config\na: ${SSH_PUBLIC_KEY_BOB}\n",
    ]);
    insta::assert_snapshot!(text);
}

#[test]
fn templates_that_can_not_be_rendered() {
    let head = "## template: goloo\n#cloud-config\n";
    let documents = [
        "a: {{ nmae }}\nb: {{ vars.colour }}\n",
        "a: {{ vars.color.shade.x }}\n",
        "a: {{ .Name }}\n",
        "a: {{ name\n",
        "{% for user in users %}\n",
        "a: {{ name | nope }}\n",
        "a: {{ users[9].username }}\n",
        "a: {{ user.name }}\n",
    ]
    .map(|body| format!("{head}{body}"));
    let text = table(&documents.iter().map(String::as_str).collect::<Vec<_>>());
    insta::assert_snapshot!(text);
}

#[test]
fn what_is_taken_with_a_warning_or_refused_for_goloo_s_sake() {
    let text = table(&[
        "#cloud-config\nfqdn: {{ .FQDN }}\n# {{.InstanceType}}\n",
        "#cloud-config\na: docker ps --format '{{.Names}} {{.Status}}'\n",
        "## template: jinja\n#cloud-config\na: {{ v1.region }}\n",
        "#cloud-config\nssh_keys:\n  ed25519_private: x\n",
        "#cloud-config\nssh_keys: {rsa_private: x}\n",
    ]);
    insta::assert_snapshot!(text);
}

/// The document as it stands in the user-data, where it has no characters that need wrapping.
fn rendered(document: &str) -> String {
    let composed = composed(&stack(document), ProviderKind::Qemu)
        .unwrap_or_else(|problems| panic!("{}", lines(&problems)));
    let text = String::from_utf8(composed.user_data).unwrap();
    text[text.find("#cloud-config").unwrap()..].split("\n--goloo-").next().unwrap().to_owned()
}

#[test]
fn templates_see_the_stack() {
    let names = [
        "name",
        "cpus",
        "memory",
        "disk",
        "image",
        "instance_type",
        "os",
        "region",
        "hostname",
        "domain",
        "fqdn",
        "ttl",
        "is_apex_domain",
        "cname_aliases",
        "packages",
        "working_dir",
        "vars.color",
        "provider",
        "users[1].username",
        "users[0].github_username",
        "users | length",
    ];
    let body: String = names.iter().map(|name| format!("# {name}={{{{ {name} }}}}\n")).collect();
    let text = rendered(&format!("## template: goloo\n#cloud-config\n{body}"));
    insta::assert_snapshot!(text);
}

#[test]
fn whom_goloo_logs_in_as() {
    let login = |config: &str, document: Option<&str>| {
        let mut stack = resolved(config).stack;
        stack.cloud_init = document.map(|document| document.as_bytes().to_vec());
        composed(&stack, ProviderKind::Qemu).unwrap().login_user
    };
    assert_eq!(
        login(r#"{"vm": {"users": [{"username": "ann"}]}}"#, Some("#cloud-config\nusers: [{name: bob}]\n")),
        "ann"
    );
    assert_eq!(login("{}", None), "ubuntu");
    assert_eq!(login(r#"{"vm": {"image": "debian-12"}}"#, Some("#!/bin/sh\n")), "debian");
    assert_eq!(login("{}", Some("#cloud-config\nusers: [{name: bob}, {name: eve}]\n")), "bob");
    assert_eq!(login("{}", Some("#cloud-config\nusers: [default, {name: bob}]\n")), "ubuntu");
    assert_eq!(login("{}", Some("## template: goloo\n#cloud-config\nusers: [{name: {{ name }}}]\n")), "web");
    assert_eq!(login(r#"{"vm": {"image": "./own.qcow2"}}"#, None), "goloo");
}

proptest! {
    #[test]
    fn a_document_without_placeholders_arrives_byte_for_byte(comment in "[ -~]{0,60}", end in "\n{0,3}") {
        prop_assume!(!comment.contains("${SSH_PUBLIC_KEY") && !comment.contains("#cloud-config"));
        let document = format!("#cloud-config\n# {comment}{end}");
        prop_assert_eq!(rendered(&document), document);
    }
}
