//! What the tests of stacks have in common.
#![allow(dead_code, clippy::unwrap_used)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use goloo_core::cloud_init::{ComposeInput, Composed, HostKey, compose, compose_any_shape};
use goloo_core::record::{ProviderKind, UserKeys};
use goloo_core::spec::{KeySource, Problem, Resolved, ResolvedStack, Sources, resolve};
use serde_json::Value;

pub const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakY0xYcs0pqkq7OC8hVTCKu5UGvyZdwRPBMqtDbTmE ann@laptop";
pub const CLIENT_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakY0xYcs0pqkq7OC8hVTCKu5UGvyZdwRPBMqtDbTmE goloo";

/// The repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Sources of a stack "web" with this config alone.
pub fn sources(config: &str) -> Sources<'_> {
    Sources {
        given: "web",
        as_name: None,
        stack: "web",
        folder: Path::new("/stacks/web"),
        config: config.as_bytes(),
        cloud_init: None,
        configure: None,
        home: Path::new("/home/ann"),
    }
}

pub fn resolved(config: &str) -> Resolved {
    resolve(&sources(config)).unwrap_or_else(|problems| panic!("{}", lines(&problems)))
}

/// The problems, one a line.
pub fn lines(problems: &[Problem]) -> String {
    let line = |problem: &Problem| {
        assert!(!problem.hint.is_empty() && !problem.message.is_empty(), "{problem:?}");
        format!(
            "{}:{}:{}: {}: {} ({})\n",
            problem.file, problem.line, problem.column, problem.pointer, problem.message, problem.hint
        )
    };
    problems.iter().map(line).collect()
}

/// What is wrong with a config.
pub fn refused(config: &str) -> String {
    match resolve(&sources(config)) {
        Ok(_) => "(taken)\n".to_owned(),
        Err(problems) => lines(&problems),
    }
}

/// The users of a stack with the keys that are in its config; one key for each GitHub user.
pub fn keys(stack: &ResolvedStack) -> Vec<UserKeys> {
    let key = |source: &KeySource| match source {
        KeySource::Inline(key) => key.clone(),
        KeySource::GitHub(_) | KeySource::File(_) => KEY.to_owned(),
    };
    let user = |user: &goloo_core::spec::User| UserKeys {
        username: user.username.clone(),
        github_username: None,
        keys: user.keys.iter().map(key).collect(),
    };
    stack.users.iter().map(user).collect()
}

pub fn composed(stack: &ResolvedStack, provider: ProviderKind) -> Result<Composed, Vec<Problem>> {
    composed_with(stack, provider, &HostKey::generate())
}

pub fn composed_with(
    stack: &ResolvedStack,
    provider: ProviderKind,
    host_key: &HostKey,
) -> Result<Composed, Vec<Problem>> {
    let users = keys(stack);
    compose(&ComposeInput { stack, users: &users, client_key: CLIENT_KEY, host_key, provider })
}

/// The same, whatever shape the document's values have.
pub fn composed_any_shape(
    stack: &ResolvedStack,
    provider: ProviderKind,
    host_key: &HostKey,
) -> Result<Composed, Vec<Problem>> {
    let users = keys(stack);
    compose_any_shape(&ComposeInput { stack, users: &users, client_key: CLIENT_KEY, host_key, provider })
}

/// Each document with what is said of it.
pub fn said_of(documents: &[&str], composed: impl Fn(&str) -> Result<Composed, Vec<Problem>>) -> String {
    let said = |document: &&str| {
        let said = match composed(document) {
            Ok(composed) => {
                let findings = lines(&composed.findings);
                let said: Vec<&str> =
                    composed.warnings.iter().map(String::as_str).chain(findings.lines()).collect();
                if said.is_empty() {
                    "(taken)".to_owned()
                } else {
                    format!("warning: {}", said.join("\n  warning: "))
                }
            }
            Err(problems) => lines(&problems).trim_end().replace('\n', "\n  "),
        };
        format!("{document:?}\n  {said}\n")
    };
    documents.iter().map(said).collect()
}

/// The folder with cloud-init and a Python that has what it needs.
pub fn referee() -> &'static PathBuf {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let output = Command::new(repository().join("scripts/cloud-init-referee.sh")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
    })
}

/// What a referee, a Python program of `scripts/` that has cloud-init and PyYAML, says of its input.
pub fn judged_by(script: &str, input: &[u8]) -> Value {
    let mut child = Command::new(referee().join("venv/bin/python"))
        .arg(repository().join("scripts").join(script))
        .env("PYTHONPATH", referee().join("unpacked/usr/lib/python3/dist-packages"))
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

/// Every stack that goloo brings: starter stacks and examples.
pub fn own_stacks() -> Vec<PathBuf> {
    let folders = ["crates/goloo/templates", "examples"].map(|folder| repository().join(folder));
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let mut stacks: Vec<PathBuf> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
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
    };
    resolve(&sources).unwrap_or_else(|problems| panic!("{}: {}", folder.display(), lines(&problems)))
}
