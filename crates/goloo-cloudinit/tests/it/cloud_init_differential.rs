//! cloud-init itself judges what goloo makes for it: its own code takes the user-data apart, merges it,
//! and checks it against its schema. `scripts/cloud-init-differential.sh` brings it; a test fails without it.

use crate::common;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use goloo_cloudinit::Composed;
use goloo_model::host_key::HostKey;
use goloo_model::provider_info::ProviderInfo;
use goloo_model::spec::{Diagnostic, ResolvedStack};
use serde_json::Value;

use crate::common::{
    KEY, composed_any_shape as composed_with, judged_by, own_stacks, providers, read_stack, resolved, said_of,
};

/// What goloo adds must be right in documents of any shape.
fn composed(stack: &ResolvedStack, provider: &ProviderInfo) -> Result<Composed, Vec<Diagnostic>> {
    composed_with(stack, provider, &HostKey::generate())
}

/// cloud-init's interpretation of user-data.
fn judged(user_data: &[u8]) -> Value {
    judged_by("cloud-init-differential.py", user_data)
}

fn stack(config: &str, document: &str) -> ResolvedStack {
    let mut stack = resolved(config).stack;
    stack.cloud_init = Some(document.as_bytes().to_vec());
    stack
}

fn verdict(stack: &ResolvedStack) -> Value {
    let composed = composed(stack, &providers::QEMU).unwrap_or_else(|diagnostics| panic!("{diagnostics:?}"));
    judged(&composed.user_data)
}

/// The bytes of the user's document as they reach cloud-init's handlers: after goloo's boothook, and after
/// its part handler if there is one.
fn document(verdict: &Value) -> Vec<u8> {
    let parts = verdict["parts"].as_array().unwrap();
    let own = ["text/cloud-boothook", "text/part-handler"];
    let part = parts.iter().find(|part| !own.contains(&part["type"].as_str().unwrap())).unwrap();
    STANDARD.decode(part["content"].as_str().unwrap()).unwrap()
}

/// The content of goloo's boothook.
fn boothook(verdict: &Value) -> &str {
    verdict["boothooks"][0].as_str().unwrap()
}

/// The content that the boothook writes to this file.
fn file(verdict: &Value, path: &str) -> String {
    let script = boothook(verdict);
    let (_, rest) = script.split_once(&format!(" {path} <<'GOLOO'\n")).unwrap_or_else(|| panic!("no {path}"));
    rest.split("GOLOO\n").next().unwrap().to_owned()
}

fn names(verdict: &Value) -> Vec<String> {
    let users = verdict["config"]["users"].as_array().into_iter().flatten();
    users.map(|user| user["name"].as_str().or(user.as_str()).unwrap().to_owned()).collect()
}

const HOST_KEY: &str = "/etc/ssh/goloo_host_ed25519_key";

const WITH_ANN: &str = r#"{"vm": {"users": [{"username": "ann"}, {"username": "bob"}]}}"#;

#[test]
fn every_bundled_stack_conforms_to_the_cloud_init_schema() {
    let stacks = own_stacks();
    assert!(stacks.len() >= 12, "{stacks:?}");
    for folder in stacks {
        let resolved = read_stack(&folder);
        assert_eq!(resolved.warnings, [], "{}", folder.display());
        let verdict = verdict(&resolved.stack);
        assert_eq!(verdict["errors"], serde_json::json!([]), "{}", folder.display());
        assert!(file(&verdict, HOST_KEY).contains("PRIVATE KEY"), "{}", folder.display());
    }
}

/// That it is equivalent to the one for qemu is tested in `merge.rs` with PyYAML.
#[test]
fn every_bundled_stack_conforms_to_the_schema_when_merged_for_multipass() {
    for folder in own_stacks() {
        let mut stack = read_stack(&folder).stack;
        // So that each of goloo's lists is present.
        stack.ttl = Some(60);
        stack.configure.get_or_insert_with(|| b"#!/bin/sh\n".to_vec());
        let composed =
            composed(&stack, &providers::MULTIPASS).unwrap_or_else(|diagnostics| panic!("{diagnostics:?}"));
        let verdict = judged(&composed.user_data);
        assert_eq!(verdict["errors"], serde_json::json!([]), "{}", folder.display());
        assert_eq!(verdict["parts"].as_array().unwrap().len(), 1, "{}", folder.display());
        let first = &verdict["config"]["bootcmd"][0];
        let script = first[2].as_str().unwrap();
        assert!(
            script.contains("/opt/goloo/configure.sh") && script.contains("/etc/ssh/goloo_keys/goloo"),
            "{first}"
        );
        assert_eq!(verdict["config"]["merge_how"], Value::Null);
    }
}

#[test]
fn the_user_document_is_delivered_byte_for_byte() {
    for document in [
        "#cloud-config\npackages: [a]",
        "#cloud-config\n# é → 😀\nwrite_files:\n- {path: /é, content: \"ü\"}\n\n\n",
        "#cloud-config\r\npackages: [a]\r\n",
        "#!/bin/sh\necho 'ä'\n",
        "#cloud-config\n# --goloo-00000000\nx: \"a\\tb\"\n\tx\n",
        &format!("#cloud-config\n# {}\n", "long ".repeat(500)),
    ] {
        if document.contains("\n\tx") {
            continue;
        }
        let verdict = verdict(&stack("{}", document));
        assert_eq!(String::from_utf8(self::document(&verdict)).unwrap(), document);
    }
}

#[test]
fn configure_sh_runs_after_the_user_commands_whatever_their_status() {
    let mut stack =
        stack("{}", "#cloud-config\nruncmd: [one, exit 0]\nwrite_files: [{path: /a, content: x}]\n");
    stack.configure = Some(b"#!/bin/sh\nexit 3\n\xff".to_vec());
    let verdict = verdict(&stack);
    assert_eq!(verdict["config"]["runcmd"], serde_json::json!(["one", "exit 0"]));
    assert_eq!(verdict["config"]["write_files"].as_array().unwrap().len(), 1);
    // cloud-init runs the scripts in this folder separately, in the order of their names; one of them is "runcmd".
    assert!(boothook(&verdict).contains("put 0755 /var/lib/cloud/instance/scripts/zz-goloo-configure"));
    let (_, encoded) = boothook(&verdict).split_once("| put 0755 /opt/goloo/configure.sh\n").unwrap();
    let encoded = encoded.split("\nGOLOO").next().unwrap().replace('\n', "");
    assert_eq!(STANDARD.decode(encoded).unwrap(), *stack.configure.as_ref().unwrap());
}

#[test]
fn keys_set_by_the_user_document_are_kept() {
    let document = "#cloud-config\nssh_deletekeys: false\nssh_keys: {rsa_private: r, rsa_public: p}\nusers: [{name: ann, shell: /bin/zsh, ssh_authorized_keys: [mine]}]\n";
    let verdict = verdict(&stack(WITH_ANN, document));
    let config = &verdict["config"];
    assert_eq!(config["ssh_deletekeys"], false);
    assert_eq!(config["ssh_keys"], serde_json::json!({"rsa_private": "r", "rsa_public": "p"}));
    assert_eq!(
        config["users"][0],
        serde_json::json!({"name": "ann", "shell": "/bin/zsh", "ssh_authorized_keys": ["mine"]})
    );
}

/// A stack for which goloo adds to every possible list and mapping.
fn full_stack(document: &str) -> ResolvedStack {
    let config = r#"{"vm": {"ttl": "8h", "users": [{"username": "ann"}, {"username": "bob"}],
        "mounts": [{"source": ".", "target": "/srv/code"}]}}"#;
    ResolvedStack { configure: Some(b"#!/bin/sh\n".to_vec()), ..stack(config, document) }
}

const TARGETS: [&str; 3] = ["runcmd", "users", "ssh_genkeytypes"];

/// The configuration that results from a full stack with this document, always with the same host key.
fn config(document: &str) -> Value {
    static HOST_KEY: OnceLock<HostKey> = OnceLock::new();
    let host_key = HOST_KEY.get_or_init(HostKey::generate);
    let composed = composed_with(&full_stack(document), &providers::QEMU, host_key)
        .unwrap_or_else(|diagnostics| panic!("{document}: {diagnostics:?}"));
    let mut verdict = judged(&composed.user_data);
    assert_eq!(verdict["errors"].as_array().unwrap().len(), 0, "{document}: {}", verdict["errors"]);
    verdict["config"].take()
}

/// When merging an empty value and a list, cloud-init alone keeps the empty value.
#[test]
fn an_empty_key_is_treated_as_absent() {
    let own = "packages: [git]\nchpasswd: {expire: false}\nfinal_message: hello\n";
    let without = config(&format!("#cloud-config\n{own}"));
    assert!(TARGETS.iter().all(|key| without.get(key).is_some()), "{without}");
    for nothing in ["", "~", "null", "&x", "!!null", "!!null ''", "# nothing", "&y ~"] {
        let line = |key: &&str| format!("{key}: {nothing}\n").replace('&', &format!("&{key}_"));
        let empty: String = TARGETS.iter().map(line).collect();
        assert_eq!(config(&format!("#cloud-config\n{empty}{own}")), without, "{nothing}");
    }
    let aliased: String = TARGETS.iter().map(|key| format!("{key}: *x\n")).collect();
    let list = "packages: [git]\nntp: &x\n";
    assert_eq!(config(&format!("#cloud-config\n{list}{aliased}")), config(&format!("#cloud-config\n{list}")));
    let merged: String = TARGETS.iter().map(|key| format!("{key}: , ")).collect();
    assert_eq!(config(&format!("#cloud-config\n<<: {{{merged}}}\n{own}")), without);
}

#[test]
fn only_empty_keys_that_goloo_adds_to_are_removed() {
    let document = "#cloud-config\nruncmd:\nbootcmd: [early]\npackages:\nntp:\nssh_genkeytypes: [rsa]\n";
    let composed = composed(&full_stack(document), &providers::QEMU).unwrap();
    let config = &judged(&composed.user_data)["config"];
    assert_eq!(config["bootcmd"], serde_json::json!(["early"]));
    assert_eq!(config["ssh_genkeytypes"], serde_json::json!(["rsa", "ed25519"]));
    let keys = config.as_object().unwrap();
    assert_eq!([&keys["packages"], &keys["ntp"]], [&Value::Null; 2]);
    assert_eq!(config["runcmd"], serde_json::json!(["/opt/goloo/mounts.sh || exit 1"]));
    // A value that goloo doesn't add to remains the user's.
    let verdict = verdict(&stack("{}", "#cloud-config\nruncmd:\nusers: ~\nbootcmd: text\n"));
    assert_eq!(verdict["config"]["runcmd"], Value::Null);
    assert_eq!(verdict["config"]["bootcmd"], "text");
}

/// Which values of a template are empty is known only if nothing is rendered there.
#[test]
fn values_of_a_jinja_document_are_kept_whatever_they_render_to() {
    let head = "## template: jinja\n#cloud-config\n";
    let verdict = |body: &str| verdict(&full_stack(&format!("{head}{body}")));
    let empty = verdict("final_message: {{ v1.local_hostname }}\nruncmd:\nssh_genkeytypes: ~\n");
    assert_eq!(empty["config"]["runcmd"].as_array().unwrap().len(), 1);
    assert_eq!(empty["config"]["ssh_genkeytypes"].as_array().unwrap().len(), 1);
    assert_eq!(empty["config"]["final_message"], "reference");
    for (body, first) in [
        ("runcmd: #{{ '\\n  - mine' }}\n", "mine"),
        ("runcmd:\n#{{ '\\n- mine' }}\nbootcmd: [a]\n", "mine"),
        ("#{% if false %} x\nruncmd:\nbootcmd: [a]\n#{% endif %} x\n", "/opt/goloo/mounts.sh || exit 1"),
        ("#{% if true %} x\nruncmd: [mine]\n#{% else %} x\nruncmd:\nbootcmd: [a]\n#{% endif %} x\n", "mine"),
    ] {
        let commands = &verdict(body)["config"]["runcmd"];
        assert!(commands.as_array().unwrap().iter().any(|command| command == first), "{body}: {commands}");
    }
}

/// When merging such a value and goloo's part, cloud-init keeps the value, as the last case shows.
#[test]
fn a_value_that_cannot_be_extended_is_refused() {
    let refused = [
        "runcmd: echo\n",
        "runcmd: {a: b}\nwrite_files: x\nssh_genkeytypes: {a: b}\nusers: ann, bob\n",
        "runcmd: \"\"\n",
        "runcmd: !!str\n",
        "ssh_genkeytypes: !!set {a}\n",
        ".x: &x hello\nruncmd: *x\n",
        "<<: {runcmd: hello}\n",
        "runcmd: [a]\nruncmd: b\n",
        "keys:\n  - ${SSH_PUBLIC_KEY_ANN}\n  - a\nruncmd: b\n",
    ]
    .map(|body| format!("#cloud-config\n{body}"));
    let refused: Vec<_> = refused.iter().map(String::as_str).collect();
    let with_key = |document: &str| {
        let mut stack = full_stack(document);
        let key = |name: &str| goloo_model::spec::KeySource::Inline(format!("{KEY}{name}"));
        stack.users[0].keys = vec![key("1"), key("2")];
        composed(&stack, &providers::QEMU)
    };
    insta::assert_snapshot!(said_of(&refused, with_key));
    let jinja = full_stack("## template: jinja\n#cloud-config\nruncmd: {{ v1.local_hostname }}\n");
    assert_eq!(verdict(&jinja)["config"]["runcmd"], "reference");
}

#[test]
fn users_are_created_once_and_the_default_user_stays_unless_dropped() {
    for (document, users) in [
        ("#cloud-config\npackages: [a]\n", vec!["default", "ann", "bob"]),
        ("#cloud-config\nusers: [default, {name: ann}]\n", vec!["default", "ann", "bob"]),
        ("#cloud-config\nusers: [{name: ann}]\n", vec!["ann", "bob"]),
        ("#cloud-config\nusers: &all [{name: ann}, {name: bob}]\nx: *all\n", vec!["ann", "bob"]),
        ("#!/bin/sh\n", vec!["default", "ann", "bob"]),
    ] {
        assert_eq!(names(&verdict(&stack(WITH_ANN, document))), users, "{document}");
    }
    assert_eq!(names(&verdict(&resolved("{}").stack)), [""; 0]);
}

#[test]
fn only_the_login_user_may_become_root() {
    for (document, root) in
        [("#cloud-config\npackages: [a]\n", vec!["ann"]), ("#cloud-config\nusers: [{name: ann}]\n", vec![])]
    {
        let verdict = verdict(&stack(WITH_ANN, document));
        let users = verdict["config"]["users"].as_array().unwrap();
        let may: Vec<&str> = users
            .iter()
            .filter(|user| user.get("sudo").is_some())
            .filter_map(|user| user["name"].as_str())
            .collect();
        assert_eq!(may, root, "{document}");
    }
}

#[test]
fn the_client_key_is_in_the_file_that_sshd_reads() {
    let mut with_keys = stack(WITH_ANN, "#cloud-config\nusers: [{name: ann, ssh_authorized_keys: [x]}]\n");
    with_keys.users[0].keys.push(goloo_model::spec::KeySource::Inline(KEY.to_owned()));
    let verdict = verdict(&with_keys);
    let keys = file(&verdict, "/etc/ssh/goloo_keys/ann");
    assert_eq!(keys, format!("{KEY}\n{}\n", common::CLIENT_KEY));
    assert_eq!(file(&verdict, "/etc/ssh/goloo_keys/goloo"), format!("{}\n", common::CLIENT_KEY));
    assert!(file(&verdict, "/opt/goloo/before-sshd").contains("/etc/ssh/goloo_keys/%u"));
}

#[test]
fn a_jinja_document_is_rendered_by_cloud_init_and_merged() {
    let document = "## template: jinja\n#cloud-config\nruncmd: [\"echo {{ v1.local_hostname }}\"]\n";
    let config = r#"{"vm": {"mounts": [{"source": ".", "target": "/srv/code"}]}}"#;
    let verdict = verdict(&stack(config, document));
    assert_eq!(verdict["config"]["runcmd"][1], "echo reference");
    assert_eq!(verdict["config"]["runcmd"].as_array().unwrap().len(), 2);
    assert_eq!(self::document(&verdict), document.as_bytes());
}

#[test]
fn a_shell_script_is_run_in_addition_to_the_generated_part() {
    let verdict = verdict(&stack("{}", "#!/bin/sh\necho hello\n"));
    let scripts = verdict["scripts"].as_object().unwrap();
    assert_eq!(scripts.values().next().unwrap(), "#!/bin/sh\necho hello\n");
    assert!(file(&verdict, HOST_KEY).contains("PRIVATE KEY"));
}

#[test]
fn a_multipart_message_keeps_all_its_documents() {
    let document = "Content-Type: multipart/mixed; boundary=\"own\"\nMIME-Version: 1.0\n\n--own\nContent-Type: text/cloud-config\n\n#cloud-config\npackages: [a]\n--own\nContent-Type: text/x-shellscript\n\n#!/bin/sh\necho x\n--own--\n";
    let verdict = verdict(&stack("{}", document));
    assert_eq!(verdict["config"]["packages"], serde_json::json!(["a"]));
    assert_eq!(verdict["scripts"].as_object().unwrap().len(), 1);
    assert_eq!(self::document(&verdict), document.as_bytes());
}

/// cloud-init splits such documents before anything runs, and stops if it can't: therefore goloo's part handler does
/// it after the boothook.
#[test]
fn a_document_that_cloud_init_cannot_split_does_not_affect_other_parts() {
    let gzip = "Content-Type: multipart/mixed; boundary=\"b\"\nMIME-Version: 1.0\n\n--b\nContent-Type: application/gzip\n\nnonsense\n--b--\n";
    for document in [
        "#include\nfile:///nowhere\n",
        "#include-once\nfile:///nowhere\n",
        "#cloud-config-archive\n- {type: nonsense, content: x}\n",
        gzip,
    ] {
        let verdict = verdict(&stack("{}", document));
        assert_eq!(self::document(&verdict), document.as_bytes());
        assert!(file(&verdict, HOST_KEY).contains("PRIVATE KEY"));
        assert_eq!(verdict["config"]["ssh_genkeytypes"], serde_json::json!(["ed25519"]), "{document}");
    }
    let archive = "#cloud-config-archive\n- {type: text/cloud-config, content: \"packages: [a]\"}\n- \"#!/bin/sh\\necho\"\n";
    let verdict = verdict(&stack("{}", archive));
    assert_eq!(verdict["config"]["packages"], serde_json::json!(["a"]));
    assert_eq!(verdict["scripts"].as_object().unwrap().len(), 1);
}

#[test]
fn mounts_are_set_up_after_the_users_and_before_the_user_commands() {
    let config = r#"{"vm": {"mounts": [{"source": ".", "target": "/home/ubuntu/code"},
        {"source": ".", "target": "/srv/ro", "readonly": true}]}}"#;
    let verdict = verdict(&stack(config, "#cloud-config\nbootcmd: [early]\nruncmd: [mine]\n"));
    let commands = verdict["config"]["runcmd"].as_array().unwrap();
    assert!(commands[0].to_string().contains("/opt/goloo/mounts.sh"), "{commands:?}");
    assert_eq!(commands[1], "mine");
    assert_eq!(verdict["config"]["bootcmd"], serde_json::json!(["early"]));
    let script = file(&verdict, "/opt/goloo/mounts.sh");
    assert!(script.contains("add goloo0 '/home/ubuntu/code' rw\nadd goloo1 '/srv/ro' ro\n"), "{script}");
    assert!(script.contains("check '/home/ubuntu/code' rw\ncheck '/srv/ro' ro\n"), "{script}");
    assert!(script.contains("\nown_shares ubuntu\n"), "{script}");
}

#[test]
fn the_ttl_is_set_even_if_a_boot_command_fails() {
    let verdict = verdict(&stack(r#"{"vm": {"ttl": "8h"}}"#, "#cloud-config\nbootcmd: [exit 1]\n"));
    assert_eq!(verdict["config"]["bootcmd"], serde_json::json!(["exit 1"]));
    assert!(boothook(&verdict).contains("\nset_end 28800\n"));
}

#[test]
fn the_reference_refuses_what_is_wrong() {
    let verdict = verdict(&stack("{}", "#cloud-config\nruncmd: {a: b}\npackages: 5\n"));
    assert_ne!(verdict["errors"], serde_json::json!([]));
}

/// The document in a message, which cloud-init extracts.
const IN_MESSAGE: &str = "--b\nContent-Type: text/cloud-config\n\n#cloud-config\nruncmd: [x]\n--b--\n";

#[test]
fn goloo_and_cloud_init_recognize_the_same_headers() {
    let messages = [
        "Subject: x\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"b\"\n\n",
        "From nobody Sat Apr  1 00:00:00 2023\nContent-Type: multipart/mixed; boundary=\"b\"\nMIME-Version: 1.0\n\n",
        "content-type: multipart/mixed;\n boundary=b\nX-A: y\nmime-version: 1.0\n\n",
    ]
    .map(|head| format!("{head}{IN_MESSAGE}"));
    let documents = [
        "\n\n#cloud-config\nruncmd: [x]\n",
        "  #cloud-config\nruncmd: [x]\n",
        "#Cloud-Config\nruncmd: [x]\n",
    ];
    for document in documents.into_iter().chain(messages.iter().map(String::as_str)) {
        let verdict = verdict(&stack("{}", document));
        assert_eq!(verdict["config"]["runcmd"][0], "x", "{document}");
    }
    for document in documents {
        assert_eq!(String::from_utf8(self::document(&verdict(&stack("{}", document)))).unwrap(), document);
        let merged = composed(&stack("{}", document), &providers::MULTIPASS).unwrap().user_data;
        let merged = String::from_utf8(merged).unwrap();
        assert!(merged.trim_start().to_lowercase().starts_with("#cloud-config"), "{merged}");
    }
}
