//! The messages for invalid `cloud-init.yaml` files, word for word, and their positions; and what is left unchanged.

use crate::common::{KEY, composed, lines, providers, resolved, said_of};
use goloo_model::spec::ResolvedStack;
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

/// Each document with its messages.
fn table(documents: &[&str]) -> String {
    said_of(documents, |document| composed(&stack(document), &providers::QEMU))
}

#[test]
fn first_lines_unknown_to_cloud_init_are_reported() {
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
        "  #cloud-config\nruncmd: [x]\n",
        "\n#!/bin/sh\n",
        "#Cloud-Boothook\n#!/bin/sh\n",
        " #include https://example.com\n",
        "\n## template: goloo\n#cloud-config\n",
        "\n## template: jinja\n#cloud-config\n",
        "\nMIME-Version: 1.0\nContent-Type: text/cloud-config\n\n#cloud-config\n",
        "Subject: x\nMIME-Version: 1.0\nContent-Type: text/cloud-config\n\n#cloud-config\n",
    ]);
    insta::assert_snapshot!(text);
}

#[test]
fn values_that_cloud_init_cannot_load_are_reported() {
    let text = table(&[
        "#cloud-config\nhostname: {{ name }}\n",
        "#cloud-config\nfqdn: é {{ name }}\nhostname: {{ .Name }}\n",
        "#cloud-config\npassword: !vault |\n  abc\n? [a, b]\n: c\n",
        "#cloud-config\nfinal_message: 2024-13-45\ntimezone: !!int UTC\nlocale: [=, <<]\n",
        "#cloud-config\nssh_authorized_keys:\n  - ${SSH_PUBLIC_KEY}\nusers: {<<: ann}\nntp: &x {pools: *x}\n",
        "## template: goloo\n#cloud-config\nhostname: !x {{ name }}\n",
    ]);
    insta::assert_snapshot!(text);
}

#[test]
fn duplicate_keys_are_reported() {
    let text = table(&[
        "#cloud-config\nruncmd:\n  - a\npackages: [git]\nruncmd:\n  - b\n",
        "#cloud-config\nssh_authorized_keys:\n  - ${SSH_PUBLIC_KEY}\nfqdn: a\nfqdn: b\n",
        "#cloud-config\nusers:\n  - name: a\n    shell: b\n    shell: c\n  - {name: d, name: e}\n",
        "#cloud-config\nx-a: {1: a, 0x1: b, 'yes': c, yes: d, on: e, ~: f, null: g}\n",
        "#cloud-config\nntp: {<<: &a {enabled: true}, enabled: false}\nsnap: {commands: {<<: *a, <<: *a}}\n",
        "## template: goloo\n#cloud-config\nfqdn: {{ name }}\nfqdn: b\n",
    ]);
    insta::assert_snapshot!(text);
}

#[test]
fn values_that_violate_the_cloud_init_schema_are_reported() {
    let text = table(&[
        "#cloud-config\npackages: git\nruncmd: echo\nhostname: 123\npackage_update: 'yes'\n",
        "#cloud-config\nbootcmd:\n  - echo started: now\n  - [echo, 1]\nruncmd: []\n",
        "#cloud-config\nwrite_files:\n  - content: x\n    permissions: 0644\n    pth: /a\n  - path\n",
        "#cloud-config\nusers:\n  - default\n  - name: ann\n    expiredate: 2030-12-31\n    lock_password: true\n    ssh_authorized_keys: key\n",
        "#cloud-config\nusers:\n  - gecos: Ann\n  - {name: ann, snapuser: b}\n",
        "#cloud-config\npower_state: {mode: restart, delay: soon}\nresize_rootfs: maybe\nswap: {size: 2 GB}\n",
        "#cloud-config\nchpasswd: {list: [ann], users: [{name: ann, type: text}]}\nssh_keys: {rsa: x, 5: y}\n",
        "#cloud-config\nmounts: [[/dev/vdb, /srv, auto, defaults, 0, 2]]\nmount_default_fields: [a]\nntp: {pools: [a, a]}\napt: {}\n",
        "#cloud-config\nx-users: &u [{name: ann, uid: [5]}]\nusers: *u\n",
        "#cloud-config\nssh_authorized_keys:\n  - ${SSH_PUBLIC_KEY}\ntimezone: 5\n",
    ]);
    insta::assert_snapshot!(text);
}

#[test]
fn suspicious_documents_are_accepted_with_a_warning() {
    let text = table(&[
        "#cloud-config\npacakges: [git]\nfoo: 5\n'a: b': c\n5: d\n",
        "#cloud-config\nusers: [default, {name: ann, sudo: true}, {name: bob, sudo: false}]\n",
        "#cloud-config\npackages:\nhostname: ~\n",
        "#cloud-config\nx-own: a\n.own: b\nshared: &a [c]\nruncmd: *a\nmerge_how: list()\nautoinstall: {}\n",
        "## template: jinja\n#cloud-config\npackages: {{ x }}\npacakges: 5\n",
        "#cloud-config-archive\n- pacakges\n",
    ]);
    insta::assert_snapshot!(text);
}

#[test]
fn invalid_yaml_is_reported() {
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
fn yaml_that_only_pyyaml_rejects_is_reported() {
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
fn placeholders_without_a_key_are_reported() {
    let text = table(&[
        "#cloud-config\na:\n  - ${SSH_PUBLIC_KEY_BOB}\n  - é ${SSH_PUBLIC_KEYS}\n  - $${SSH_PUBLIC_KEY_BOB}\n",
        "#cloud-config\na: ${SSH_PUBLIC_KEY}\n",
        "#cloud-config\na: ${SSH_PUBLIC_KEY_DEPLOY_BOT}\n",
        "## template: goloo\n#cloud-config\na: ${SSH_PUBLIC_KEY_BOB}\n",
    ]);
    insta::assert_snapshot!(text);
}

#[test]
fn templates_that_cannot_be_rendered_are_reported() {
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
fn conflicts_with_goloo_features_are_warned_of_or_refused() {
    let text = table(&[
        "#cloud-config\nfqdn: {{ .FQDN }}\n# {{.InstanceType}}\n",
        "#cloud-config\na: docker ps --format '{{.Names}} {{.Status}}'\n",
        "## template: jinja\n#cloud-config\na: {{ v1.region }}\n",
        "#cloud-config\nssh_keys:\n  ed25519_private: x\n",
        "#cloud-config\nssh_keys: {rsa_private: x}\n",
    ]);
    insta::assert_snapshot!(text);
}

/// The document as contained in the user-data, if it has no characters that require encoding.
fn rendered(document: &str) -> String {
    let composed = composed(&stack(document), &providers::QEMU)
        .unwrap_or_else(|diagnostics| panic!("{}", lines(&diagnostics)));
    let text = String::from_utf8(composed.user_data).unwrap();
    text[text.find("#cloud-config").unwrap()..].split("\n--goloo-").next().unwrap().to_owned()
}

#[test]
fn templates_can_access_the_stack() {
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
fn the_login_user_is_chosen_from_config_document_and_image() {
    let login = |config: &str, document: Option<&str>| {
        let mut stack = resolved(config).stack;
        stack.cloud_init = document.map(|document| document.as_bytes().to_vec());
        composed(&stack, &providers::QEMU).unwrap().login_user
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
    fn a_document_without_placeholders_is_delivered_byte_for_byte(comment in "[ -~]{0,60}", end in "\n{0,3}") {
        prop_assume!(!comment.contains("${SSH_PUBLIC_KEY") && !comment.contains("#cloud-config"));
        let document = format!("#cloud-config\n# {comment}{end}");
        prop_assert_eq!(rendered(&document), document);
    }
}
