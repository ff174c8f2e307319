//! The provider's settings.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use goloo_model::provider::ProviderError;
use goloo_model::record::Trust;

/// Timeouts. A hung daemon must never block goloo.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For a query: `list`, `info`, `version`, reading a file in a guest.
    pub answer: Duration,
    /// For a busy daemon: it waits up to five minutes for a guest to power off and does nothing else.
    pub busy: Duration,
    /// For a launch including the image's download, the boot and cloud-init.
    pub launch: Duration,
    /// For the end of a launch whose instance exists: Multipass waits five minutes for SSH and five for cloud-init.
    pub launched: Duration,
    /// For an instance to settle when no launch is in progress anymore.
    pub settle: Duration,
    /// For a start: Multipass itself gives up after five minutes.
    pub start: Duration,
    /// For the guest to power off when asked.
    pub power_down: Duration,
    /// For quick actions: forcing power off, suspending, deleting.
    pub act: Duration,
    /// For copying a disk or setting up a mount, which may install a package in the guest.
    pub copy: Duration,
    /// Between two polls of an instance in transition.
    pub poll: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(20),
            busy: Duration::from_secs(5 * 60 + 30),
            launch: Duration::from_secs(60 * 60),
            launched: Duration::from_secs(10 * 60 + 30),
            settle: Duration::from_secs(5 * 60),
            start: Duration::from_secs(5 * 60 + 30),
            power_down: Duration::from_secs(90),
            act: Duration::from_secs(2 * 60),
            copy: Duration::from_secs(10 * 60),
            poll: Duration::from_millis(500),
        }
    }
}

/// The provider's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The command, by path or by its name in the search path.
    pub program: OsString,
    /// The folder for user-data during a launch: `STATE/multipass`, absolute.
    pub folder: PathBuf,
    /// The SSH port of instances.
    pub ssh_port: u16,
    /// What identifies an instance without a record as created by this state folder.
    pub mark: Mark,
    /// Which records are trusted even if the instance can't be inspected.
    pub trust: Trust,
    /// Timeouts.
    pub limits: Limits,
}

/// What the user-data of an instance created by this state folder contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// This public client key, in OpenSSH's format. Other users of the daemon have different keys.
    Key(String),
    /// Anything created by goloo matches.
    AnyGoloo,
    /// The folder has no key yet, so it has created no instance.
    Nothing,
}

impl Settings {
    /// Settings for this state folder.
    pub fn new(state: &Path) -> Self {
        Self {
            program: "multipass".into(),
            folder: state.join("multipass"),
            ssh_port: 22,
            mark: Mark::AnyGoloo,
            trust: Trust::default(),
            limits: Limits::default(),
        }
    }

    /// Like [`Self::new`], with overrides from the environment: `GOLOO_MULTIPASS` is an alternative to `multipass`,
    /// `GOLOO_MULTIPASS_SSH_PORT` the SSH port of its instances.
    pub fn from_env(state: &Path) -> Result<Self, ProviderError> {
        let mut settings = Self::new(state);
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(program) = set("GOLOO_MULTIPASS") {
            settings.program = program;
        }
        if let Some(word) = set("GOLOO_MULTIPASS_SSH_PORT") {
            let port = word.to_str().and_then(|word| word.parse().ok()).filter(|port| *port > 0);
            settings.ssh_port = port.ok_or_else(|| ProviderError::Unsupported {
                what: format!("GOLOO_MULTIPASS_SSH_PORT is invalid: \"{}\"", word.to_string_lossy()),
                hint: "write a port, or unset it for 22".into(),
            })?;
        }
        Ok(settings)
    }
}
