//! goloo's parsers for untrusted input, under mutation: records, configs, documents, keys, old state.

use std::path::{Path, PathBuf};

use goloo_cloudinit::{ComposeInput, InProcessRenderer, compose};
use goloo_engine::GuestReport;
use goloo_model::authorized_key::parse_list;
use goloo_model::guest::Output;
use goloo_model::host_key::HostKey;
use goloo_model::record::{self, UserKeys};
use goloo_model::spec::old_state::{self, V0Config};
use goloo_model::spec::{self, ResolvedStack, Sources};
use goloo_testkit::samples::{creating, in_aws, name, ready};
use goloo_testkit::{mutate, providers};

fn corpus(folder: &str) -> Vec<Vec<u8>> {
    mutate::corpus(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder))
}

fn resolve(config: &[u8], document: Option<&[u8]>) -> Option<ResolvedStack> {
    let (folder, home) = (Path::new("/srv/stacks/web"), Path::new("/home/ann"));
    let (given, as_name, configure) = ("web", None, Some(&b"#!/bin/sh\ntrue\n"[..]));
    let sources = Sources {
        given,
        as_name,
        stack: given,
        folder,
        config,
        cloud_init: document,
        configure,
        home,
        auto_ports: false,
        sections: &[],
    };
    spec::resolve(&sources).ok().map(|resolved| resolved.stack)
}

#[test]
fn mutation_of_records() {
    let samples = [creating, ready, in_aws].map(|sample| record::to_json(&sample(&name("web"))));
    let corpus = [corpus("records"), samples.to_vec()].concat();
    mutate::run(&corpus, |input| {
        let Ok(read) = record::from_json(input) else { return };
        // What is accepted once is accepted again.
        let again = record::from_json(&record::to_json(&read)).unwrap();
        assert_eq!(again, read);
    });
}

#[test]
fn mutation_of_configs() {
    mutate::run(&corpus("configs"), |input| drop(resolve(input, None)));
}

#[test]
fn mutation_of_v0_configs() {
    mutate::run(&corpus("old_configs"), |input| {
        if old_state::may_hold_state(input) {
            let config = V0Config { path: "web/config.json", bytes: input };
            old_state::read("web", Some(config), &[config]);
        }
    });
}

#[test]
fn mutation_of_documents() {
    let host_key = HostKey::generate();
    let client_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPBHrXZ9PWAMdVINEoBgGDkAopbgCSdE5t/5DKRVYBBa";
    let users = [UserKeys {
        username: "ann".to_owned(),
        github_username: None,
        keys: vec![client_key.to_owned(), client_key.to_owned()],
    }];
    mutate::run(&corpus("documents"), |input| {
        let Some(stack) = resolve(b"{\"cloud_init\": {\"vars\": {\"a\": {\"b\": [1]}}}}", Some(input)) else {
            return;
        };
        for provider in [&providers::QEMU, &providers::MULTIPASS] {
            let (stack, users, host_key) = (&stack, &users[..], Some(&host_key));
            let renderer = &InProcessRenderer;
            drop(compose(&ComposeInput {
                stack,
                users,
                client_key,
                host_key,
                provider,
                network: None,
                renderer,
            }));
        }
    });
}

#[test]
fn mutation_of_keys() {
    mutate::run(&corpus("keys"), |input| {
        for key in parse_list(&String::from_utf8_lossy(input)).keys {
            assert!(!key.to_string().contains(char::is_control), "{key}");
        }
    });
}

/// A guest's report about itself, and how its command ended.
#[test]
fn mutation_of_reports() {
    mutate::run(&corpus("reports"), |input| {
        let mut report = GuestReport::default();
        let text = String::from_utf8_lossy(input);
        for line in text.lines() {
            report.take(line);
        }
        let output = Output { status: 0, stdout: String::new(), stderr: text.chars().take(200).collect() };
        let verdict = report.verdict(&output).provisioning();
        let size: usize = verdict.errors.iter().map(String::len).sum();
        assert!(size < 200 << 10, "{size} bytes would go into the record");
    });
}
