//! Why a call of `multipass` came to nothing. Multipass has one exit status for nearly all failures; what
//! it means is in the words, and this is the only place where words are matched.

use std::io;
use std::time::Duration;

use goloo_core::provider::ProviderError;

/// A call that came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There is no such program.
    #[error("Multipass isn't installed: there is no {program}")]
    NotInstalled {
        /// What was to be run.
        program: String,
    },
    /// It is there and can't be run.
    #[error("{program} can't be run")]
    CannotRun {
        /// What was to be run.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It gave no answer; the process that asked was ended.
    #[error("`multipass {command}` gave no answer within {} s", .limit.as_secs_f32())]
    NoAnswer {
        /// The subcommand.
        command: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// It said no.
    #[error("`multipass {command}` failed: {refusal}")]
    Refused {
        /// The subcommand.
        command: &'static str,
        /// Why.
        refusal: Refusal,
    },
    /// Its JSON isn't what goloo knows.
    #[error("goloo can't read the answer of `multipass {command}`")]
    Unreadable {
        /// The subcommand.
        command: &'static str,
        /// Where it broke off.
        #[source]
        source: serde_json::Error,
    },
}

/// Why Multipass said no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The client can't reach the daemon.
    #[error("its daemon isn't running, or may not be spoken to")]
    DaemonDown,
    /// The daemon doesn't know this user.
    #[error("this user isn't authenticated with Multipass")]
    NotAuthenticated,
    /// There is no such instance.
    #[error("there is no such instance")]
    Missing,
    /// The instance is in the trash.
    #[error("the instance is in Multipass's trash")]
    InTrash,
    /// An instance has the name, perhaps in the trash.
    #[error("an instance of this name is there already")]
    Exists,
    /// An instance of the name is being made right now.
    #[error("an instance of this name is being prepared")]
    BeingPrepared,
    /// The name breaks Multipass's rule.
    #[error("Multipass doesn't take this name: {said}")]
    InvalidName {
        /// Its words.
        said: String,
    },
    /// Memory or disk is below the least.
    #[error("{said}")]
    InvalidSize {
        /// Its words.
        said: String,
    },
    /// No image has this name.
    #[error("{said}")]
    UnknownImage {
        /// Its words.
        said: String,
    },
    /// The user-data isn't YAML as Multipass reads it.
    #[error("the cloud-init document can't be read: {said}")]
    BadCloudInit {
        /// The parser's words, with the place.
        said: String,
    },
    /// The client may not read the file with the user-data.
    #[error("Multipass may not read the cloud-init document: {said}")]
    CloudInitUnreadable {
        /// Its words.
        said: String,
    },
    /// The instance was started, and SSH never answered; it is kept.
    #[error("SSH in the instance hasn't answered within Multipass's limit")]
    NoSsh,
    /// The instance runs, and its cloud-init was not done within five minutes; it is kept.
    #[error("cloud-init wasn't done within Multipass's limit")]
    NotInitialized,
    /// The client's own limit (`--timeout`) is over; the daemon goes on.
    #[error("the client's time limit is over; the daemon goes on")]
    ClientTimeout,
    /// What wants a stopped instance met another.
    #[error("it wants a stopped instance")]
    NotStopped,
    /// A suspended instance can only be started, or powered off.
    #[error("the instance is suspended")]
    Suspended,
    /// The instance is on its way up or down.
    #[error("the instance is on its way up or down")]
    Busy,
    /// A snapshot of this name is there.
    #[error("a snapshot of this name is there already")]
    SnapshotExists,
    /// There is no such snapshot.
    #[error("there is no such snapshot")]
    NoSuchSnapshot,
    /// Mounts are turned off.
    #[error("mounts are disabled on this installation of Multipass")]
    MountsDisabled,
    /// The client couldn't log in to the instance.
    #[error("it couldn't log in to the instance: {said}")]
    SshFailed {
        /// Its words.
        said: String,
    },
    /// This Multipass doesn't know the command line.
    #[error("this Multipass doesn't know the command: {said}")]
    BadCommandLine {
        /// Its words.
        said: String,
    },
    /// The client was ended by a signal.
    #[error("it was ended by a signal")]
    Killed,
    /// Something else.
    #[error("{said}")]
    Other {
        /// Its words.
        said: String,
    },
}

const COMMAND_LINE: i32 = 1;
const CLIENT_TIMEOUT: i32 = 5;
const SSH_FAILED: i32 = 255;

impl Refusal {
    /// What a client meant that ended with this status (`None`: by a signal) and these words.
    pub fn of(status: Option<i32>, stdout: &str, stderr: &str) -> Self {
        let said = words(stderr).or_else(|| words(stdout)).unwrap_or_else(|| "without a word".to_owned());
        match status {
            None => Self::Killed,
            Some(CLIENT_TIMEOUT) => Self::ClientTimeout,
            Some(SSH_FAILED) => Self::SshFailed { said },
            Some(status) => Self::by_words(&said).unwrap_or(match status {
                COMMAND_LINE => Self::BadCommandLine { said },
                _ => Self::Other { said },
            }),
        }
    }

    fn by_words(said: &str) -> Option<Self> {
        let has = |part: &str| said.contains(part);
        let owned = || said.to_owned();
        let rest = |mark: &str| said.split_once(mark).map_or(said, |(_, rest)| rest).to_owned();
        const CLOUD_INIT: &str = "Could not load cloud-init configuration: ";
        Some(match () {
            // First what brings words of the user's along, which might hold any of the others.
            () if has(CLOUD_INIT) && has("bad file") => Self::CloudInitUnreadable { said: rest(CLOUD_INIT) },
            () if has(CLOUD_INIT) => Self::BadCloudInit { said: rest(CLOUD_INIT) },
            () if has("cannot connect to the multipass socket") => Self::DaemonDown,
            () if has("not authenticated with the Multipass service") => Self::NotAuthenticated,
            () if has("Unable to find an image matching") => Self::UnknownImage { said: owned() },
            () if has("Invalid instance name supplied") => Self::InvalidName { said: owned() },
            () if has("size value supplied") => Self::InvalidSize { said: owned() },
            () if has("timed out waiting for response") => Self::NoSsh,
            () if has("timed out waiting for initialization") => Self::NotInitialized,
            () if has("Snapshot already exists") => Self::SnapshotExists,
            () if has("No such snapshot") => Self::NoSuchSnapshot,
            () if has("is being prepared") => Self::BeingPrepared,
            () if has("already exists") => Self::Exists,
            () if has("does not exist") || has("No such instance") => Self::Missing,
            () if has("is deleted") => Self::InTrash,
            () if has("of stopped instances") || has("clone stopped instances") => Self::NotStopped,
            () if has("Cannot shut down suspended instance") => Self::Suspended,
            () if has("Cannot shut down instance") || has("Cannot start the instance") => Self::Busy,
            () if has("Mounts are disabled") => Self::MountsDisabled,
            () => return None,
        })
    }

    /// Whether a launch that ended so had been taken up by the daemon, so that an instance of its name
    /// is the one that it made: the daemon looks at the name first.
    pub fn after_acceptance(&self) -> bool {
        matches!(self, Self::NoSsh | Self::NotInitialized | Self::Other { .. })
    }
}

/// Without the spinner's escape codes, the `launch failed: ` in front, and line ends.
fn words(text: &str) -> Option<String> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c.is_control());
    let said = match text.split_once(" failed: ") {
        Some((command, rest)) if !command.contains([' ', '\n']) => rest,
        _ => text,
    };
    let lines: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && *line != "The following errors occurred:")
        .collect();
    (!lines.is_empty()).then(|| lines.join("; "))
}

impl CallError {
    /// What Multipass said, where it said something.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal),
            _ => None,
        }
    }

    /// Whether Multipass as a whole is out of reach, whatever it was asked.
    pub fn out_of_reach(&self) -> bool {
        match self {
            Self::NotInstalled { .. } | Self::CannotRun { .. } | Self::NoAnswer { .. } => true,
            _ => self.refusal() == Some(&Refusal::DaemonDown),
        }
    }

    /// What to do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotInstalled { .. } => INSTALL,
            Self::CannotRun { .. } => "look at GOLOO_MULTIPASS and at the installation of Multipass",
            Self::NoAnswer { .. } => HUNG,
            Self::Unreadable { .. } => "goloo knows Multipass 1.13 to 1.17: multipass version",
            Self::Refused { refusal, .. } => refusal.hint(),
        }
    }

    /// In one sentence, with all causes and the hint.
    pub fn in_full(&self) -> String {
        let cause = std::error::Error::source(self).map_or_else(String::new, |cause| format!(": {cause}"));
        format!("{self}{cause} ({})", self.hint())
    }
}

const INSTALL: &str = if cfg!(target_os = "macos") {
    "brew install --cask multipass, or take another provider: --provider qemu"
} else {
    "sudo snap install multipass, or take another provider: --provider qemu"
};

const RESTART: &str = if cfg!(target_os = "macos") {
    "sudo launchctl kickstart -k system/com.canonical.multipassd"
} else {
    "sudo snap restart multipass"
};

const HUNG: &str = if cfg!(target_os = "macos") {
    "multipass list shows whether its daemon hangs; sudo launchctl kickstart -k system/com.canonical.multipassd"
} else {
    "multipass list shows whether its daemon hangs; sudo snap restart multipass"
};

impl Refusal {
    /// What to do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::DaemonDown => RESTART,
            Self::NotAuthenticated => "multipass authenticate, or run it as a user who may use Multipass",
            Self::Missing | Self::Other { .. } | Self::Killed => "multipass list",
            Self::InTrash => "multipass recover brings it back, by its name",
            Self::Exists => "multipass list shows it; take another name with --as, or goloo adopt it",
            Self::BeingPrepared | Self::Busy => "wait a little, then run the same command again",
            Self::InvalidName { .. } => "take another name with --as",
            Self::InvalidSize { .. } => "write at least \"memory\": \"512M\" and \"disk\": \"1G\"",
            Self::UnknownImage { .. } => "multipass find lists the images",
            Self::BadCloudInit { .. } | Self::CloudInitUnreadable { .. } => {
                "goloo create NAME --provider multipass --dry-run --json shows the document"
            }
            Self::NoSsh => "multipass info shows how far it came; multipass stop --force and start try again",
            Self::NotInitialized | Self::ClientTimeout => "multipass info shows how far it came",
            Self::NotStopped => "goloo stop, then the same command again",
            Self::Suspended => "goloo start, or goloo stop --force, which loses what was in its memory",
            Self::SnapshotExists => "take another label, or remove that snapshot",
            Self::NoSuchSnapshot => "multipass list --snapshots",
            Self::MountsDisabled => "multipass set local.privileged-mounts=true",
            Self::SshFailed { .. } => "multipass info shows whether it runs",
            Self::BadCommandLine { .. } => "multipass version: snapshots came with 1.13, clones with 1.15",
        }
    }
}

impl From<CallError> for ProviderError {
    fn from(error: CallError) -> Self {
        let hint = error.hint().to_owned();
        if error.out_of_reach() {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            return Self::Unavailable { what: format!("{error}{}", cause.unwrap_or_default()), hint };
        }
        match error.refusal() {
            Some(Refusal::NotAuthenticated) => Self::Permission { what: error.to_string(), hint },
            Some(
                Refusal::UnknownImage { .. } | Refusal::InvalidName { .. } | Refusal::InvalidSize { .. },
            ) => Self::Unsupported { what: error.to_string(), hint },
            _ => Self::Failed {
                what: error.to_string(),
                hint,
                source: std::error::Error::source(&error).map(|source| source.to_string().into()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_multipass_says_without_its_trimmings() {
        let text =
            "\u{1b}[2Klaunch failed: The following errors occurred:\nx: timed out waiting for response\n";
        assert_eq!(Refusal::of(Some(2), "", text), Refusal::NoSsh);
        let odd = Refusal::of(Some(2), "", "launch failed: the hypervisor is tired\n");
        assert_eq!(odd, Refusal::Other { said: "the hypervisor is tired".to_owned() });
        assert_eq!(odd.to_string(), "the hypervisor is tired");
        assert_eq!(
            Refusal::of(Some(2), "", ""),
            Refusal::Other { said: "without a word".to_owned() },
            "silence has a text too"
        );
    }

    #[test]
    fn the_status_decides_where_it_can() {
        assert_eq!(Refusal::of(Some(5), "", "x already exists"), Refusal::ClientTimeout);
        assert_eq!(Refusal::of(None, "", "x already exists"), Refusal::Killed);
        assert!(matches!(Refusal::of(Some(255), "", "exec failed: no"), Refusal::SshFailed { .. }));
        let unknown = Refusal::of(Some(1), "Error: Unknown command 'clone' (try \"multipass help\")\n", "");
        assert!(matches!(unknown, Refusal::BadCommandLine { said } if said.contains("Unknown command")));
    }

    #[test]
    fn a_document_s_own_words_are_not_taken_for_multipass_s() {
        let said =
            "Could not load cloud-init configuration: yaml-cpp: error at line 5, column 26: already exists";
        assert!(
            matches!(Refusal::of(Some(1), "", said), Refusal::BadCloudInit { said } if said.starts_with("yaml-cpp"))
        );
    }
}
