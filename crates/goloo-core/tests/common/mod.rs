//! What the tests of stacks have in common.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use goloo_core::cloud_init::{ComposeInput, Composed, HostKey, compose};
use goloo_core::record::{ProviderKind, UserKeys};
use goloo_core::spec::{KeySource, Problem, Resolved, ResolvedStack, Sources, resolve};

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
    let users = keys(stack);
    let host_key = HostKey::generate();
    compose(&ComposeInput { stack, users: &users, client_key: CLIENT_KEY, host_key: &host_key, provider })
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
