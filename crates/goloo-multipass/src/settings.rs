//! What the provider works with.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use goloo_core::provider::ProviderError;
use goloo_core::record::Trust;

/// How long is waited for what. A hung daemon must never hang goloo.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For an answer to a question: `list`, `info`, `version`, a look into a guest.
    pub answer: Duration,
    /// For the daemon to have time again: for a guest to power off it waits five minutes, and does nothing else.
    pub busy: Duration,
    /// For a launch with all that belongs to it: the image's download, the boot, cloud-init.
    pub launch: Duration,
    /// For the end of a launch whose instance is there: Multipass waits five minutes for SSH and five for cloud-init.
    pub launched: Duration,
    /// For an instance on its way to become what it is to be, when no launch is under way any more.
    pub settle: Duration,
    /// For a start: Multipass itself gives up after five minutes.
    pub start: Duration,
    /// For the guest to power off when asked.
    pub power_down: Duration,
    /// For what takes a moment: cutting the power, suspending, deleting.
    pub act: Duration,
    /// For what copies a disk, or sets a mount up: it may install a package in the guest.
    pub copy: Duration,
    /// Between two looks at an instance on its way.
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

/// What the provider works with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The command, by path or by its name in the search path.
    pub program: OsString,
    /// Where user-data lies on its way to a launch: `STATE/multipass`, absolute.
    pub folder: PathBuf,
    /// Where SSH answers in an instance.
    pub ssh_port: u16,
    /// By what an instance is known as one of this state folder's, whose record was lost.
    pub mark: Mark,
    /// Which records are followed to an instance that can't be looked into.
    pub trust: Trust,
    /// Limits.
    pub limits: Limits,
}

/// What the user-data of an instance holds that this state folder made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// This public client key, in OpenSSH's form. Other users of the daemon have others.
    Key(String),
    /// Whatever goloo made it.
    AnyGoloo,
    /// The folder has no key yet, so it has made none.
    Nothing,
}

impl Settings {
    /// For this state folder.
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

    /// The same, as the environment says: `GOLOO_MULTIPASS` is another `multipass`,
    /// `GOLOO_MULTIPASS_SSH_PORT` the port where SSH answers in its instances.
    pub fn from_env(state: &Path) -> Result<Self, ProviderError> {
        let mut settings = Self::new(state);
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(program) = set("GOLOO_MULTIPASS") {
            settings.program = program;
        }
        if let Some(word) = set("GOLOO_MULTIPASS_SSH_PORT") {
            let port = word.to_str().and_then(|word| word.parse().ok()).filter(|port| *port > 0);
            settings.ssh_port = port.ok_or_else(|| ProviderError::Unsupported {
                what: format!("GOLOO_MULTIPASS_SSH_PORT is \"{}\"", word.to_string_lossy()),
                hint: "write a port, or leave it away for 22".to_owned(),
            })?;
        }
        Ok(settings)
    }
}
