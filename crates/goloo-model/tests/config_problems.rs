//! The messages for invalid `config.json` files, word for word, and their positions.
#![allow(clippy::unwrap_used)]

mod common;

use std::fmt::Write;

use common::{KEY, lines, refused, resolved, sources};
use goloo_model::name::VmName;
use goloo_model::spec::{ImageRef, KeySource, Sources, SshSource, resolve, with_github_users};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Each config with its problems.
fn table(configs: &[&str]) -> String {
    let mut text = String::new();
    for config in configs {
        write!(text, "{config}\n  {}\n", refused(config).trim_end().replace('\n', "\n  ")).unwrap();
    }
    text
}

/// Values of one key of `vm`.
fn values(key: &str, values: &[Value]) -> String {
    let configs: Vec<String> = values.iter().map(|value| json!({"vm": {key: value}}).to_string()).collect();
    table(&configs.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn invalid_json_is_reported() {
    let text = table(&[
        "",
        " ",
        "{",
        "{\"vm\": {}",
        "[]",
        "5",
        "null",
        "{\"vm\": {},}",
        "{\"vm\": {}} {}",
        "// hello\n{}",
        "{\n  'vm': {}\n}",
        "{vm: {}}",
        "{\"vm\": {\"cpus\": 01}}",
        "{\"vm\": {\"cpus\": .5}}",
        "{\"vm\": {\"cpus\": NaN}}",
        "{\"vm\": {\"name\": \"\\ud800\"}}",
        "{\"a\": \"\n\"}",
        "{\"vm\": {\"cpus\": 1 \"memory\": \"2G\"}}",
    ]);
    insta::assert_snapshot!(text);
}

#[test]
fn invalid_utf_8_is_reported_with_its_position() {
    let mut sources = sources("");
    sources.config = b"{\n\"vm\": \xff}";
    insta::assert_snapshot!(lines(&resolve(&sources).unwrap_err()), @"config.json:2:7: : the file isn't UTF-8 (save it as UTF-8)");
}

#[test]
fn unknown_and_duplicate_keys_are_reported() {
    let text = table(&[
        r#"{"VM": {}, "schema": "x", "nonsense": 1}"#,
        r#"{"vm": {"memroy": "2G", "Cpus": 2, "flavour": "x"}}"#,
        r#"{"vm": {"users": [{"user": "ann"}], "mounts": [{"from": "."}]}}"#,
        r#"{"dns": {"zone": "Z1"}, "cloud_init": {"package": []}}"#,
        "{\"vm\": {\"cpus\": 1,\n \"cpus\": 2}, \"vm\": {}}",
        r#"{"a/b~c": 1}"#,
        r#"{"vm": {"cpu": 2, "cpus": 0}}"#,
    ]);
    insta::assert_snapshot!(text);
}

#[test]
fn values_of_a_wrong_type_are_reported() {
    let text = table(&[
        r#"{"vm": []}"#,
        r#"{"vm": {"cpus": "2", "memory": 2, "users": {}, "ports": 80, "name": true}}"#,
        r#"{"vm": {"cpus": 2.5}}"#,
        r#"{"vm": {"cpus": -1}}"#,
        r#"{"vm": {"cpus": 99999999999999999999}}"#,
        r#"{"vm": {"users": ["ann", {"username": 5}, {"username": "ok"}, null], "ports": [true, "x:y", null]}}"#,
        r#"{"dns": {"domain": 5, "hostname": "a", "is_apex_domain": "true", "cname_aliases": [1]}}"#,
        r#"{"cloud_init": {"packages": "git", "vars": [], "working_dir": 1}}"#,
        r#"{"local": 1, "aws": []}"#,
    ]);
    insta::assert_snapshot!(text);
}

#[test]
fn invalid_single_values_are_reported() {
    let mut text = String::new();
    text += &values("name", &[json!(""), json!("DevBox"), json!("1a"), json!("a_b"), json!("a".repeat(64))]);
    text += &values("cpus", &[json!(0), json!(257)]);
    text +=
        &values("memory", &[json!(""), json!("2"), json!("2X"), json!("127M"), json!("99T"), json!("1..5G")]);
    text += &values("disk", &[json!("511M"), json!("65T"), json!("big")]);
    text += &values(
        "image",
        &[
            json!(""),
            json!("24.4"),
            json!("ubunut-24.04"),
            json!("windows"),
            json!("http://example.com/x.img"),
            json!("http://localhost:80@example.com/x.img"),
            json!("ftp://x/y"),
            json!("https://"),
        ],
    );
    text += &values("image_sha256", &[json!("abc"), json!("g".repeat(64))]);
    text += &values("os", &[json!("ubuntu-24.4"), json!("ami-1"), json!("beos")]);
    text += &values("region", &[json!(""), json!("eu west 1")]);
    text += &values("ttl", &[json!(""), json!("8"), json!("1m"), json!("1.5h"), json!("400d")]);
    text += &values(
        "ssh_cidr",
        &[
            json!(""),
            json!("10.0.0.0"),
            json!("10.0.0.0/33"),
            json!("You"),
            json!([]),
            json!(["me", "10.0.0.0/8", "::1", "x"]),
            json!(["me", 8, null]),
            json!(8),
        ],
    );
    text += &values(
        "iam_instance_profile",
        &[json!(""), json!("my profile"), json!("arn:aws:iam::123456789012:role/web")],
    );
    text += &values("spot", &[json!("yes")]);
    text += &values("auto_ports", &[json!("yes")]);
    text += &values("bake", &[json!("disc"), json!(true)]);
    insta::assert_snapshot!(text);
}

#[test]
fn invalid_users_mounts_and_ports_are_reported() {
    let mut text = values(
        "users",
        &[
            json!([{"username": "Ann"}, {"username": "1a"}, {"username": "ann"}, {"username": "ann"}, {}]),
            json!([{"username": "ann", "github_username": "a--b"}]),
            json!([{"username": "ann", "github_username": "../x"}]),
            json!([{"username": "ann", "ssh_keys": ["-----BEGIN OPENSSH PRIVATE KEY-----\nx", "AAAA", "ssh-ed25519 %%%", ""]}]),
            json!([{"username": "ann", "ssh_key_files": [""]}]),
        ],
    );
    text += &values(
        "mounts",
        &[
            json!([{"source": "."}, {"target": "/x"}, {"source": "", "target": "/x"}]),
            json!([{"source": ".", "target": "x"}, {"source": ".", "target": "/"}, {"source": ".", "target": "/a/../b"}]),
            json!([{"source": ".", "target": "/a'b"}, {"source": ".", "target": "/x"}, {"source": "a", "target": "/x/"}]),
        ],
    );
    text += &values(
        "ports",
        &[
            json!([0, 65536, "80:", ":80", "a", "1:2:3", "8080:80/udp"]),
            json!([80, "80:8080", "81:80", 80]),
            json!([22, "2222:22", "20-30", "22/udp"]),
            json!(["8000-8010", "8005:80", "0.0.0.0:8006:80", "8000-8010/udp", "127.0.0.2:8000:80"]),
            json!(["8010-8000", "1-3:1-2", "[::1]:80:80", "localhost:80:80", "80/sctp", "1000-1256"]),
        ],
    );
    insta::assert_snapshot!(text);
}

#[test]
fn an_element_of_a_wrong_type_does_not_hide_other_problems() {
    let mut users: Vec<Value> = (0..11).map(|index| json!({"username": format!("u{index}")})).collect();
    (users[1], users[10]) = (json!("u1"), json!({"username": "U10"}));
    let said = refused(&json!({"vm": {"users": users}}).to_string());
    assert!(said.contains("/vm/users/1: ") && said.contains("/vm/users/10/username: "), "{said}");
    assert_eq!(said.lines().count(), 2, "{said}");
}

#[test]
fn invalid_dns_settings_are_reported() {
    let text = table(&[
        r#"{"dns": {"hostname": "web"}}"#,
        r#"{"dns": {"domain": "exa mple.com", "hostname": "-a", "cname_aliases": ["a..b"], "ttl": 4294967295, "zone_id": ""}}"#,
    ]);
    insta::assert_snapshot!(text);
}

#[test]
fn the_message_for_an_invalid_name_depends_on_its_origin() {
    let mut sources = sources("{}");
    sources.stack = "Web Site";
    insta::assert_snapshot!(lines(&resolve(&sources).unwrap_err()), @r#"config.json:1:1: : the folder's name, which is the VM's name if vm.name is absent: "Web Site" is not a valid name: names are lower-case letters, digits and "-", begin with a letter and end with a letter or digit (use a name like "web-site")"#);
    let blue = VmName::parse("blue").unwrap();
    sources.as_name = Some(&blue);
    assert_eq!(resolve(&sources).unwrap().stack.name, blue);
}

#[test]
fn all_problems_are_reported_at_once_in_file_order() {
    let config = "{\n  \"vm\": {\n    \"memroy\": \"2G\",\n    \"cpus\": 0,\n    \"disk\": 5\n  },\n  \"dns\": {\"hostname\": \"a\"}\n}";
    let text = refused(config);
    insta::assert_snapshot!(text);
}

#[test]
fn an_empty_config_resolves_to_the_defaults() {
    for config in ["{}", r#"{"$schema": "./x.json", "vm": {"cpus": null, "users": null}, "dns": {}}"#] {
        let stack = resolved(config).stack;
        assert_eq!(
            (stack.cpus, stack.memory.to_string(), stack.disk.to_string()),
            (2, "2G".into(), "20G".into())
        );
        assert_eq!(stack.image, ImageRef::Alias("ubuntu-24.04".into()));
        assert_eq!(
            (stack.os.as_str(), &stack.ssh_cidr[..], stack.dns),
            ("ubuntu-24.04", &[SshSource::Me][..], None)
        );
    }
}

#[test]
fn ssh_cidr_accepts_one_block_several_blocks_or_me() {
    let sources = |value: Value| resolved(&json!({"vm": {"ssh_cidr": value}}).to_string()).stack.ssh_cidr;
    let block = |text: &str| SshSource::Cidr(text.to_owned());
    assert_eq!(sources(json!("198.51.100.0/24")), [block("198.51.100.0/24")]);
    assert_eq!(sources(json!("me")), [SshSource::Me]);
    let several = json!(["me", "10.1.2.3/8", "10.0.0.0/8", "2001:db8::/32", "me"]);
    assert_eq!(sources(several), [SshSource::Me, block("10.0.0.0/8"), block("2001:db8::/32")]);
    assert!(block("0.0.0.0/0").is_everyone() && block("::/0").is_everyone());
    assert!(!block("0.0.0.0/1").is_everyone() && !SshSource::Me.is_everyone());
}

#[test]
fn an_instance_profile_arn_is_reduced_to_its_name() {
    assert_eq!((resolved("{}").stack.iam_instance_profile, resolved("{}").stack.spot), (None, false));
    let arn = "arn:aws:iam::123456789012:instance-profile/team/web";
    let stack = resolved(&json!({"vm": {"iam_instance_profile": arn, "spot": true}}).to_string()).stack;
    assert_eq!((stack.iam_instance_profile.as_deref(), stack.spot), (Some("web"), true));
}

#[test]
fn a_stack_overrides_the_user_s_default_of_auto_ports() {
    for default in [false, true] {
        let auto_ports = |config: &str| {
            resolve(&Sources { auto_ports: default, ..sources(config) }).unwrap().stack.auto_ports
        };
        assert_eq!(auto_ports("{}"), default);
        assert!(auto_ports(r#"{"vm": {"auto_ports": true}}"#));
        assert!(!auto_ports(r#"{"vm": {"auto_ports": false}}"#));
    }
}

#[test]
fn an_image_is_an_alias_a_path_or_a_url() {
    let image = |text: &str| resolved(&json!({"vm": {"image": text}}).to_string()).stack.image;
    let path = |text: &str| ImageRef::Path(text.into());
    for name in ["24.04", "noble", "ubuntu-24.04"] {
        assert_eq!(image(name), ImageRef::Alias("ubuntu-24.04".into()));
    }
    assert_eq!(image("bookworm"), ImageRef::Alias("debian-12".into()));
    assert_eq!(image("./x.qcow2"), path("/stacks/web/x.qcow2"));
    assert_eq!(image("../x.img"), path("/stacks/x.img"));
    assert_eq!(image("/i/x"), path("/i/x"));
    assert_eq!(image("~/x.img"), path("/home/ann/x.img"));
    assert_eq!(image("file:///i/x.img"), path("/i/x.img"));
    for url in ["https://example.com/x.img", "http://127.0.0.1:8080/x.img", "http://localhost/x"] {
        assert_eq!(image(url), ImageRef::Url(url.into()));
    }
}

#[test]
fn v0_state_in_a_config_is_accepted_with_one_warning() {
    let config = r#"{"vm": {"public_ip": "1.2.3.4", "instance_id": "i-0", "stack_id": "x"}, "local": {"ip": "x"}, "aws": {}}"#;
    let warnings = resolved(config).warnings;
    insta::assert_snapshot!(lines(&warnings), @"config.json:1:9: /vm/public_ip: state of goloo v0 (vm.public_ip, vm.instance_id, vm.stack_id, local, aws) is ignored here (Migrate imports its VM)");
}

#[test]
fn an_invalid_ssh_key_is_skipped_with_a_warning_if_another_is_valid() {
    let config = json!({"vm": {"users": [{"username": "a", "ssh_keys": [KEY, "ssh-ed25519 AAAAC3Nz x"]}]}})
        .to_string();
    let resolved = resolved(&config);
    assert_eq!(resolved.stack.users[0].keys, [goloo_model::spec::KeySource::Inline(KEY.to_owned())]);
    assert_eq!(resolved.warnings.len(), 1);
    assert!(
        resolved.warnings[0].message.starts_with("this SSH key is skipped: ")
            && resolved.warnings[0].pointer == "/vm/users/0/ssh_keys/1",
        "{:?}",
        resolved.warnings
    );
}

#[test]
fn a_note_reports_a_vm_name_that_differs_from_the_folder() {
    assert_eq!(resolved("{}").notes, [""; 0]);
    assert_eq!(resolved(r#"{"vm": {"name": "web"}}"#).notes, [""; 0]);
    assert_eq!(resolved(r#"{"vm": {"name": "blue"}}"#).notes, ["the VM is named \"blue\", as in its stack"]);
    let mut sources = sources(r#"{"vm": {"name": "blue"}}"#);
    let green = VmName::parse("green").unwrap();
    sources.as_name = Some(&green);
    let resolved = resolve(&sources).unwrap();
    assert_eq!((resolved.stack.name.as_str(), resolved.notes.len()), ("green", 0));
}

#[test]
fn github_users_from_the_command_line_are_added_to_configured_users() {
    let gh = |name: &str| vec![KeySource::GitHub(name.to_owned())];
    let given = ["Octo-Cat".to_owned(), "0day".to_owned(), "bob".to_owned()];
    let stack = with_github_users(resolved("{}").stack, &given);
    let users: Vec<_> = stack.users.iter().map(|user| (user.username.as_str(), user.keys.clone())).collect();
    assert_eq!(users, [("ubuntu", gh("Octo-Cat")), ("_0day", gh("0day")), ("bob", gh("bob"))]);
    let config = json!({"vm": {"users": [{"username": "ann", "ssh_keys": [KEY]}]}}).to_string();
    let stack = with_github_users(resolved(&config).stack, &given[..1]);
    assert_eq!(
        (stack.users.len(), stack.users[0].username.as_str(), &stack.users[0].keys),
        (1, "ann", &gh("Octo-Cat"))
    );
    let none = resolved(&config).stack;
    assert_eq!(with_github_users(none.clone(), &[]), none);
}

#[test]
fn an_empty_file_is_treated_as_absent() {
    let mut sources = sources("{}");
    sources.cloud_init = Some(b" \n");
    sources.configure = Some(b"\n");
    let stack = resolve(&sources).unwrap().stack;
    assert_eq!((stack.cloud_init, stack.configure), (None, None));
}

#[test]
fn every_key_of_the_schema_has_a_description() {
    fn look(schema: &Value, path: &str, missing: &mut Vec<String>) {
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}/{key}");
            if property.get("description").is_none() && property.get("$ref").is_none() {
                missing.push(path.clone());
            }
            look(property, &path, missing);
        }
        for (name, definition) in schema["$defs"].as_object().into_iter().flatten() {
            look(definition, &format!("{path}/{name}"), missing);
        }
    }
    let mut missing = Vec::new();
    look(&goloo_model::spec::json_schema(), "", &mut missing);
    assert_eq!(missing, [""; 0]);
}

proptest! {
    #[test]
    fn exactly_the_configs_that_are_invalid_json_are_reported_as_such(text in r#"[\[\]{}",:0-9.eE+\-truefalsn\\u \n]{0,12}"#) {
        let config = format!("{{\"cloud_init\": {{\"vars\": {{\"x\": {text}}}}}}}");
        let is_json = serde_json::from_str::<Value>(&config).is_ok();
        let said = refused(&config);
        prop_assert_eq!(is_json, !said.contains("invalid JSON"), "{}", said);
    }

    #[test]
    fn an_unknown_key_is_reported_at_its_position(before in "[ \n\té→]{0,20}", key in "[k-z]{9,12}") {
        // Blanks may occur anywhere; other characters only inside the preceding string.
        let blanks: String = before.chars().filter(|c| c.is_ascii_whitespace()).collect();
        let text: String = before.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let config = format!("{{\"$schema\": \"{text}\",{blanks}\"{key}\": 1}}");
        let offset = config.find(&format!("\"{key}\"")).unwrap();
        let line = config[..offset].matches('\n').count() + 1;
        let column = config[..offset].rsplit('\n').next().unwrap().chars().count() + 1;
        let said = refused(&config);
        prop_assert!(said.starts_with(&format!("config.json:{line}:{column}: /{key}: unknown key")), "{}", said);
    }
}

#[test]
fn oversized_numbers_are_refused_at_any_position() {
    let text = [
        r#"{"vm": {"cpus": 1e400}}"#,
        r#"{"vm": {"ports": [80, -1e999]}, "cloud_init": {"vars": {"a": [1e400]}}}"#,
        r#"{"dns": {"domain": 1e400, "ttl": 5}}"#,
    ];
    let said: String = text.map(refused).concat();
    insta::assert_snapshot!(said);
}

#[test]
fn an_alias_cannot_be_the_domain_itself() {
    let text = refused(
        r#"{"dns": {"domain": "example.com", "cname_aliases": ["www", "Example.com.", "web.example.com"]}}"#,
    );
    insta::assert_snapshot!(text, @r#"config.json:1:60: /dns/cname_aliases/1: the alias "Example.com." is the domain itself, which can't have a CNAME record (remove it; "is_apex_domain": true points the domain to the machine)"#);
}
