//! Shared code of the document tests.
#![allow(dead_code, clippy::unwrap_used)]

pub mod documents;
#[path = "../../../../goloo-model/tests/common/mod.rs"]
pub mod stacks;

// The testkit's, without the stores and emulators that it needs.
#[path = "../../../../goloo-testkit/src/providers.rs"]
pub mod providers;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use goloo_cloudinit::{ComposeInput, Composed, InProcessRenderer, compose, compose_any_shape};
use goloo_model::host_key::HostKey;
use goloo_model::provider_info::ProviderInfo;
use goloo_model::record::UserKeys;
use goloo_model::spec::{Diagnostic, KeySource, Resolved, ResolvedStack, Sources, resolve};
use serde_json::Value;

pub use stacks::{KEY, lines, repository, resolved};

pub const CLIENT_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakY0xYcs0pqkq7OC8hVTCKu5UGvyZdwRPBMqtDbTmE goloo";

/// The users of a stack with the keys in its config; one key for each GitHub user.
pub fn keys(stack: &ResolvedStack) -> Vec<UserKeys> {
    let key = |source: &KeySource| match source {
        KeySource::Inline(key) => key.clone(),
        KeySource::GitHub(_) | KeySource::File(_) => KEY.to_owned(),
    };
    let user = |user: &goloo_model::spec::User| UserKeys {
        username: user.username.clone(),
        github_username: None,
        keys: user.keys.iter().map(key).collect(),
    };
    stack.users.iter().map(user).collect()
}

pub fn composed(stack: &ResolvedStack, provider: &ProviderInfo) -> Result<Composed, Vec<Diagnostic>> {
    composed_with(stack, provider, &HostKey::generate())
}

fn input<'a>(
    stack: &'a ResolvedStack,
    users: &'a [UserKeys],
    host_key: &'a HostKey,
    provider: &'a ProviderInfo,
) -> ComposeInput<'a> {
    let host_key = Some(host_key);
    ComposeInput {
        stack,
        users,
        client_key: CLIENT_KEY,
        host_key,
        provider,
        network: None,
        renderer: &InProcessRenderer,
    }
}

pub fn composed_with(
    stack: &ResolvedStack,
    provider: &ProviderInfo,
    host_key: &HostKey,
) -> Result<Composed, Vec<Diagnostic>> {
    let users = keys(stack);
    compose(&input(stack, &users, host_key, provider))
}

/// The same, for a document whose values may have any structure.
pub fn composed_any_shape(
    stack: &ResolvedStack,
    provider: &ProviderInfo,
    host_key: &HostKey,
) -> Result<Composed, Vec<Diagnostic>> {
    let users = keys(stack);
    compose_any_shape(&input(stack, &users, host_key, provider))
}

/// Each document with its messages.
pub fn said_of(documents: &[&str], composed: impl Fn(&str) -> Result<Composed, Vec<Diagnostic>>) -> String {
    let said = |document: &&str| {
        let said = match composed(document) {
            Ok(composed) => {
                let diagnostics = lines(&composed.diagnostics);
                let said: Vec<&str> =
                    composed.warnings.iter().map(String::as_str).chain(diagnostics.lines()).collect();
                if said.is_empty() {
                    "(taken)".to_owned()
                } else {
                    format!("warning: {}", said.join("\n  warning: "))
                }
            }
            Err(diagnostics) => lines(&diagnostics).trim_end().replace('\n', "\n  "),
        };
        format!("{document:?}\n  {said}\n")
    };
    documents.iter().map(said).collect()
}

/// The folder with cloud-init and a Python that has its dependencies.
pub fn reference() -> &'static PathBuf {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let output = Command::new(repository().join("scripts/cloud-init-differential.sh")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
    })
}

/// What a reference implementation, a Python program in `scripts/` that uses cloud-init and PyYAML, reports about the
/// input.
pub fn judged_by(script: &str, input: &[u8]) -> Value {
    let mut child = Command::new(reference().join("venv/bin/python"))
        .arg(repository().join("scripts").join(script))
        .env("PYTHONPATH", reference().join("unpacked/usr/lib/python3/dist-packages"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}\n{}", String::from_utf8_lossy(input));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Every stack that goloo ships: starter stacks and examples.
pub fn own_stacks() -> Vec<PathBuf> {
    let folders = ["crates/goloo-cli/templates", "examples"].map(|folder| repository().join(folder));
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let mut stacks: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("config.json").is_file())
        .collect();
    stacks.sort();
    stacks
}

/// A stack's files, resolved.
pub fn read_stack(folder: &Path) -> Resolved {
    let file = |name: &str| std::fs::read(folder.join(name)).ok();
    let (config, cloud_init, configure) =
        (file("config.json").unwrap(), file("cloud-init.yaml"), file("configure.sh"));
    let name = folder.file_name().unwrap().to_str().unwrap();
    let sources = Sources {
        given: name,
        as_name: None,
        stack: name,
        folder,
        config: &config,
        cloud_init: cloud_init.as_deref(),
        configure: configure.as_deref(),
        home: Path::new("/home/ann"),
        auto_ports: false,
        sections: &[],
    };
    resolve(&sources).unwrap_or_else(|diagnostics| panic!("{}: {}", folder.display(), lines(&diagnostics)))
}
