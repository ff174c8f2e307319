//! Why a call of `multipass` came to nothing. Multipass has one exit status for nearly all failures; what
//! it means is in the words, and this is the only place where words are matched.

use std::io;
use std::time::Duration;

use goloo_core::guest::excerpt;
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
    /// It answers without end; the process that asked was ended.
    #[error("`multipass {command}` answered with more than {limit} bytes")]
    TooMuch {
        /// The subcommand.
        command: &'static str,
        /// How much was read, in bytes.
        limit: u64,
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
    /// The client can't reach the daemon, or it has never run on this machine.
    #[error("its daemon isn't running")]
    DaemonDown,
    /// This user may not open the daemon's socket.
    #[error("this user may not use Multipass's socket")]
    AccessDenied,
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
    /// The disk is smaller than the image that it is to hold.
    #[error("{said}")]
    DiskTooSmall {
        /// Its words, with both sizes.
        said: String,
    },
    /// No image has this name, or there is no file at this path.
    #[error("{said}")]
    UnknownImage {
        /// Its words.
        said: String,
    },
    /// The servers that list and hold the images can't be reached.
    #[error("Multipass can't reach its image servers")]
    ImagesUnreachable,
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
    /// The hypervisor ended while the instance was starting; it is kept, in state Unknown.
    #[error("the virtual machine ended while it was starting")]
    EndedWhileStarting,
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
    /// A start met an instance that is on and that Multipass has no address of: it boots, or has failed to.
    #[error("the instance is on, and Multipass can't reach it")]
    AlreadyOn,
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

const CLIENT_TIMEOUT: i32 = 5;

impl Refusal {
    /// What a client meant that ended with this status (`None`: by a signal) and these words.
    pub fn of(status: Option<i32>, stdout: &str, stderr: &str) -> Self {
        let said = words(stderr).or_else(|| words(stdout)).unwrap_or_else(|| "without a word".to_owned());
        match status {
            None => Self::Killed,
            Some(CLIENT_TIMEOUT) => Self::ClientTimeout,
            Some(_) => Self::by_words(&said).unwrap_or(Self::Other { said }),
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
            () if has("Custom image `") || has("Unable to find an image matching") => {
                Self::UnknownImage { said: owned() }
            }
            () if has("Invalid instance name supplied") => Self::InvalidName { said: owned() },
            () if has("size value supplied") => Self::InvalidSize { said: owned() },
            () if BAD_COMMAND_LINE.iter().any(|words| said.starts_with(words)) => {
                Self::BadCommandLine { said: owned() }
            }
            // The client makes its own certificate from the daemon's, which the daemon's first start makes.
            () if has("cannot connect to the multipass socket") || has("multipass_root_cert.pem") => {
                Self::DaemonDown
            }
            () if has("multipass socket access denied") => Self::AccessDenied,
            () if has("not authenticated with the Multipass service") => Self::NotAuthenticated,
            () if has("is unknown or unreachable") => Self::ImagesUnreachable,
            () if has("below minimum for this image") => Self::DiskTooSmall { said: owned() },
            () if has("timed out waiting for response") => Self::NoSsh,
            () if has("timed out waiting for initialization") => Self::NotInitialized,
            () if has("shutdown called while starting") => Self::EndedWhileStarting,
            () if has("already running, but in an unknown state") => Self::AlreadyOn,
            () if has("Snapshot already exists") => Self::SnapshotExists,
            () if has("No such snapshot") => Self::NoSuchSnapshot,
            () if is_said_of_instance(said, "is being prepared") => Self::BeingPrepared,
            () if has("reason: instance is being prepared") => Self::BeingPrepared,
            () if is_said_of_instance(said, "already exists") => Self::Exists,
            () if is_said_of_instance(said, "does not exist") || has("reason: No such instance") => {
                Self::Missing
            }
            () if is_said_of_instance(said, "is deleted") => Self::InTrash,
            () if has("of stopped instances") || has("clone stopped instances") => Self::NotStopped,
            () if has("Cannot shut down suspended instance") => Self::Suspended,
            () if has("Cannot shut down instance") || has("Cannot start the instance") => Self::Busy,
            () if has("Mounts are disabled") => Self::MountsDisabled,
            () if has("ssh connection failed") => Self::SshFailed { said: owned() },
            () => return None,
        })
    }

    /// Whether a launch that ended so had been taken up by the daemon, so that an instance of its name
    /// is the one that it made. Arguments and images are checked before the name: a launch that failed for
    /// any other reason may never have come as far as to see that the name was someone else's.
    pub fn after_acceptance(&self) -> bool {
        matches!(self, Self::NoSsh | Self::NotInitialized | Self::EndedWhileStarting)
    }

    /// Whether a launch or start that ended so has given the instance up: its state stays as it is.
    pub(crate) fn gave_up(&self) -> bool {
        matches!(self, Self::NoSsh | Self::EndedWhileStarting)
    }
}

/// How the message of a client begins that doesn't take its command line. The exit status, 1, isn't enough: a
/// client that meets an error of its own ends with it too.
const BAD_COMMAND_LINE: [&str; 7] = [
    "Unknown option",
    "Error: Unknown command",
    "Wrong number of arguments",
    "Not enough arguments",
    "Too many arguments",
    "Missing value after",
    "Unexpected value after",
];

/// Whether it says this of an instance: `instance "x" does not exist`, `Instance 'x' is deleted`. Files and
/// other things can be missing too.
fn is_said_of_instance(said: &str, what: &str) -> bool {
    said.match_indices("nstance ").any(|(at, word)| {
        let rest = &said[at + word.len()..];
        let Some(quote) = rest.chars().next().filter(|c| matches!(c, '"' | '\'')) else { return false };
        let name = rest[1..].split(quote).next().unwrap_or_default();
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let after = rest.get(name.len() + 2..).unwrap_or_default();
        is_name && after.trim_start().starts_with(what)
    })
}

/// Without the spinner's escape codes, what was logged before, the `launch failed: ` in front, and line ends.
fn words(text: &str) -> Option<String> {
    let text = without_codes(text);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let (logged, plain): (Vec<&str>, Vec<&str>) = lines.partition(|line| log_text(line).is_some());
    // A client that meets an error of its own says that in its log alone.
    let said = if plain.is_empty() { logged.into_iter().filter_map(log_text).collect() } else { plain };
    let without_command = |line: &'_ str| match line.split_once(" failed: ") {
        Some((command, rest)) if !command.contains(' ') => rest.to_owned(),
        _ => line.to_owned(),
    };
    let mut said = said.into_iter();
    let first = said.next().map(without_command);
    let lines: Vec<String> = first
        .into_iter()
        .chain(said.map(str::to_owned))
        .filter(|line| line != "The following errors occurred:")
        .collect();
    (!lines.is_empty()).then(|| excerpt(&lines.join("; ")))
}

/// Without escape sequences (`ESC [ … letter`) and other control characters, but with line ends.
fn without_codes(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| c.is_ascii_alphabetic()).map_or(part.len(), |at| at + 1);
        kept.push_str(&part[end..]);
    }
    kept.retain(|c| c == '\n' || !c.is_control());
    kept
}

/// What a line of the log says: `[TIME] [error] [client] Caught an unhandled exception: …`, with or without its
/// time; `None` for any other line.
fn log_text(line: &str) -> Option<&str> {
    const LEVELS: [&str; 5] = ["[error]", "[warning]", "[info]", "[debug]", "[trace]"];
    let mut rest = line;
    let mut has_level = false;
    while let Some((group, after)) = rest.starts_with('[').then(|| rest.split_once("] ")).flatten() {
        has_level |= LEVELS.iter().any(|level| level.trim_end_matches(']') == group);
        rest = after;
    }
    has_level.then(|| rest.trim_start_matches("Caught an unhandled exception: "))
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

    /// Whether Multipass refuses this user, whatever it was asked.
    pub fn permission(&self) -> bool {
        matches!(self.refusal(), Some(Refusal::AccessDenied | Refusal::NotAuthenticated))
    }

    /// What to do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotInstalled { .. } => INSTALL,
            Self::CannotRun { source, .. } => goloo_command::shortage_hint(source)
                .unwrap_or("look at GOLOO_MULTIPASS and at the installation of Multipass"),
            Self::NoAnswer { .. } => HUNG,
            Self::TooMuch { .. } => "run the same command of multipass by hand to see what it answers",
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

/// A daemon that waits for a guest to power off, or to answer, does nothing else.
const HUNG: &str = if cfg!(target_os = "macos") {
    "wait 5 minutes, since Multipass may be waiting for a guest to power off; if it gives no answer then, sudo launchctl kickstart -k system/com.canonical.multipassd"
} else {
    "wait 5 minutes, since Multipass may be waiting for a guest to power off; if it gives no answer then, sudo snap restart multipass"
};

const SOCKET_OWNER: &str = if cfg!(target_os = "macos") {
    "run it as an administrator, or as a user who has run multipass authenticate"
} else {
    "run it as a user of the group that ls -l /var/snap/multipass/common/multipass_socket shows, or use multipass authenticate"
};

impl Refusal {
    /// What to do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::DaemonDown => RESTART,
            Self::AccessDenied => SOCKET_OWNER,
            Self::NotAuthenticated => "multipass authenticate, or run it as a user who may use Multipass",
            Self::Missing | Self::Other { .. } | Self::Killed => "multipass list",
            Self::InTrash => "multipass recover brings it back, by its name",
            Self::Exists => "multipass list shows it; take another name with --as, or goloo adopt it",
            Self::BeingPrepared | Self::Busy => "wait a little, then run the same command again",
            Self::AlreadyOn | Self::NoSsh | Self::EndedWhileStarting => {
                "multipass stop --force, then multipass start"
            }
            Self::InvalidName { .. } => "take another name with --as",
            Self::InvalidSize { .. } => {
                "write at least \"memory\": \"512M\" and \"disk\": \"1G\", which every version takes"
            }
            Self::DiskTooSmall { .. } => "write a larger \"disk\"",
            Self::ImagesUnreachable => "check the network, then run the same command again",
            Self::UnknownImage { .. } => "multipass find lists the images",
            Self::BadCloudInit { .. } | Self::CloudInitUnreadable { .. } => {
                "goloo create NAME --provider multipass --dry-run --json shows the document"
            }
            Self::NotInitialized | Self::ClientTimeout => "multipass info shows how far it came",
            Self::NotStopped => "goloo stop, then the same command again",
            Self::Suspended => "goloo start, or goloo stop --force, which loses what was in its memory",
            Self::SnapshotExists => "take another label, or remove that snapshot",
            Self::NoSuchSnapshot => "multipass list --snapshots",
            Self::MountsDisabled => "multipass set local.privileged-mounts=true",
            Self::SshFailed { .. } => "multipass info --no-runtime-information shows whether it is running",
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
            _ if error.permission() => Self::Permission { what: error.to_string(), hint },
            Some(
                Refusal::UnknownImage { .. }
                | Refusal::InvalidName { .. }
                | Refusal::InvalidSize { .. }
                | Refusal::DiskTooSmall { .. },
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
        assert_eq!(Refusal::of(Some(5), "", "instance \"x\" already exists"), Refusal::ClientTimeout);
        assert_eq!(Refusal::of(None, "", "instance \"x\" already exists"), Refusal::Killed);
    }

    #[test]
    fn a_bad_command_line_is_told_by_its_words_alone() {
        let of = |stdout: &str, stderr: &str| Refusal::of(Some(1), stdout, stderr);
        let unknown = of(
            "Error: Unknown command or alias 'clone' (try \"multipass help\" or \"multipass aliases\")\n",
            "",
        );
        assert!(matches!(unknown, Refusal::BadCommandLine { said } if said.contains("Unknown command")));
        assert!(matches!(of("", "Unknown option 'nosuch'."), Refusal::BadCommandLine { .. }));
        let logged = "[2026-11-28T19:51:35.021] [error] [client] Caught an unhandled exception: 1T is not a valid memory size";
        assert_eq!(of("", logged), Refusal::Other { said: "1T is not a valid memory size".to_owned() });
    }

    #[test]
    fn what_is_logged_before_a_refusal_is_no_part_of_it() {
        let text = "[2026-11-28T19:51:35.021] [error] [url downloader] Failed to get https://a: instance \"x\" does not exist\n\
            [2026-11-28T19:51:35.022] [error] [blueprint provider] Error fetching Blueprints\n\
            launch failed: Remote \"\" is unknown or unreachable.\n";
        assert_eq!(Refusal::of(Some(2), "", text), Refusal::ImagesUnreachable);
        let odd = "[12:00] [warning] [rpc] slow\nstop failed: the hypervisor is tired\n";
        assert_eq!(
            Refusal::of(Some(2), "", odd),
            Refusal::Other { said: "the hypervisor is tired".to_owned() }
        );
        let plain = "list failed: [sda] is tired";
        assert_eq!(Refusal::of(Some(2), "", plain), Refusal::Other { said: "[sda] is tired".to_owned() });
    }

    #[test]
    fn a_daemon_that_never_ran_isn_t_running() {
        let text = "[error] [client] Caught an unhandled exception: failed to open file '/var/lib/multipassd/multipass_root_cert.pem': No such file or directory(2)";
        assert_eq!(Refusal::of(Some(1), "", text), Refusal::DaemonDown);
    }

    #[test]
    fn only_an_instance_can_be_a_missing_instance() {
        for text in [
            "info failed: The following errors occurred:\ninstance \"x\" does not exist",
            "mount failed: The following errors occurred:\ninstance 'x' does not exist",
            "start failed: instance(s) missing\nInstance 'x' does not exist.",
            "get failed: Cannot access snapshot settings; instance: x; reason: No such instance",
        ] {
            assert_eq!(Refusal::of(Some(2), "", text), Refusal::Missing, "{text}");
        }
        for text in [
            "launch failed: Custom image `/no/such.img` does not exist.",
            "launch failed: Custom image `/no/instance \"x\" does not exist` does not exist.",
        ] {
            assert!(matches!(Refusal::of(Some(2), "", text), Refusal::UnknownImage { .. }), "{text}");
        }
        let folder = "Source path \"/no/such\" does not exist";
        assert_eq!(Refusal::of(Some(1), "", folder), Refusal::Other { said: folder.to_owned() });
    }

    #[test]
    fn only_what_follows_the_check_of_the_name_proves_whose_an_instance_is() {
        let proves = |text: &str| Refusal::of(Some(2), "", text).after_acceptance();
        assert!(proves("launch failed: The following errors occurred:\nx: timed out waiting for response"));
        assert!(proves("launch failed: The following errors occurred:\nx: shutdown called while starting"));
        assert!(proves(
            "launch failed: The following errors occurred:\ntimed out waiting for initialization to complete"
        ));
        for text in [
            "launch failed: Remote \"\" is unknown or unreachable.",
            "launch failed: Custom image `/x` does not exist.",
            "launch failed: Requested disk (1073741824 bytes) below minimum for this image (2147483648 bytes)",
            "launch failed: the hypervisor is tired",
        ] {
            assert!(!proves(text), "{text}");
        }
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
