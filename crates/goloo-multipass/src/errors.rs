//! Why a call of `multipass` failed. Multipass uses one exit status for nearly all failures; their meaning is in the
//! message, and messages are matched only here.

use std::io;
use std::time::Duration;

use goloo_model::guest::excerpt;
use goloo_model::hint::{Hint, NextStep};
use goloo_model::provider::ProviderError;

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The program doesn't exist.
    #[error("Multipass isn't installed: there is no {program}")]
    NotInstalled {
        /// The program.
        program: String,
    },
    /// The program exists but can't be run.
    #[error("{program} can't be run")]
    CannotRun {
        /// The program.
        program: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// There was no response; the client process was killed.
    #[error("`multipass {command}` gave no answer within {} s", .limit.as_secs_f32())]
    NoAnswer {
        /// The subcommand.
        command: &'static str,
        /// How long goloo waited.
        limit: Duration,
    },
    /// The response was too long; the client process was killed.
    #[error("`multipass {command}` answered with more than {limit} bytes")]
    TooMuch {
        /// The subcommand.
        command: &'static str,
        /// The limit in bytes.
        limit: u64,
    },
    /// Multipass refused the request.
    #[error("`multipass {command}` failed: {refusal}")]
    Refused {
        /// The subcommand.
        command: &'static str,
        /// The reason.
        refusal: Refusal,
    },
    /// The JSON output doesn't have the expected form.
    #[error("can't parse the output of `multipass {command}`")]
    Unreadable {
        /// The subcommand.
        command: &'static str,
        /// The parse error.
        #[source]
        source: serde_json::Error,
    },
}

/// Why Multipass refused a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The client can't reach the daemon, or the daemon has never run on this machine.
    #[error("its daemon isn't running")]
    DaemonDown,
    /// This user may not open the daemon's socket.
    #[error("this user has no permission to use Multipass's socket")]
    AccessDenied,
    /// The daemon doesn't know this user.
    #[error("this user isn't authenticated with Multipass")]
    NotAuthenticated,
    /// The instance doesn't exist.
    #[error("the instance doesn't exist")]
    Missing,
    /// The instance is in the trash.
    #[error("the instance is in Multipass's trash")]
    InTrash,
    /// An instance with this name exists, perhaps in the trash.
    #[error("an instance with this name already exists")]
    Exists,
    /// An instance with this name is being created.
    #[error("an instance with this name is being prepared")]
    BeingPrepared,
    /// The name is invalid for Multipass.
    #[error("Multipass doesn't accept this name: {said}")]
    InvalidName {
        /// Multipass's message.
        said: String,
    },
    /// The memory or disk size is below the minimum.
    #[error("{said}")]
    InvalidSize {
        /// Multipass's message.
        said: String,
    },
    /// The disk is smaller than its image.
    #[error("{said}")]
    DiskTooSmall {
        /// Multipass's message, with both sizes.
        said: String,
    },
    /// No image has this name, or no file exists at this path.
    #[error("{said}")]
    UnknownImage {
        /// Multipass's message.
        said: String,
    },
    /// The image servers can't be reached.
    #[error("Multipass can't reach its image servers")]
    ImagesUnreachable,
    /// Multipass can't parse the user-data as YAML.
    #[error("the cloud-init document can't be read: {said}")]
    BadCloudInit {
        /// The parser's message, with the position.
        said: String,
    },
    /// The client isn't allowed to read the file with the user-data.
    #[error("Multipass isn't allowed to read the cloud-init document: {said}")]
    CloudInitUnreadable {
        /// Multipass's message.
        said: String,
    },
    /// The instance was started, but SSH didn't respond; the instance is kept.
    #[error("SSH in the instance hasn't answered within Multipass's limit")]
    NoSsh,
    /// The hypervisor exited while the instance was starting; the instance is kept in state Unknown.
    #[error("the virtual machine powered off while it was starting")]
    EndedWhileStarting,
    /// The instance is running, but cloud-init didn't finish within five minutes; the instance is kept.
    #[error("cloud-init didn't finish within Multipass's limit")]
    NotInitialized,
    /// The client's own timeout (`--timeout`) expired; the daemon continues.
    #[error("the client's time limit was reached; the daemon continues")]
    ClientTimeout,
    /// The operation requires a stopped instance.
    #[error("the instance must be stopped")]
    NotStopped,
    /// A suspended instance can only be started or powered off.
    #[error("the instance is suspended")]
    Suspended,
    /// The instance is starting or stopping.
    #[error("the instance is starting or stopping")]
    Busy,
    /// A start found an instance that is on but has no address known to Multipass: it is booting, or failed to boot.
    #[error("the instance is running, but Multipass can't reach it")]
    AlreadyOn,
    /// A snapshot with this name exists.
    #[error("a snapshot with this name already exists")]
    SnapshotExists,
    /// The snapshot doesn't exist.
    #[error("the snapshot doesn't exist")]
    NoSuchSnapshot,
    /// Mounts are disabled.
    #[error("mounts are disabled on this installation of Multipass")]
    MountsDisabled,
    /// The client couldn't log in to the instance.
    #[error("it couldn't log in to the instance: {said}")]
    SshFailed {
        /// Multipass's message.
        said: String,
    },
    /// This version of Multipass doesn't support the command line.
    #[error("this version of Multipass doesn't know the command: {said}")]
    BadCommandLine {
        /// Multipass's message.
        said: String,
    },
    /// The client was killed by a signal.
    #[error("it was killed by a signal")]
    Killed,
    /// Any other reason.
    #[error("{said}")]
    Other {
        /// Multipass's message.
        said: String,
    },
}

const CLIENT_TIMEOUT: i32 = 5;

impl Refusal {
    /// Interprets a client's exit status (`None`: killed by a signal) and output.
    pub fn of(status: Option<i32>, stdout: &str, stderr: &str) -> Self {
        let said =
            words(stderr).or_else(|| words(stdout)).unwrap_or_else(|| "it printed no message".to_owned());
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
            // First the cases whose messages quote user input, which might contain any of the other messages.
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
            // The client derives its own certificate from the daemon's, which is created on the daemon's first start.
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

    /// Whether a launch with this result was accepted by the daemon, so that an instance with its name is the one it
    /// created. Arguments and images are checked before the name: a launch that failed for any other reason may not
    /// have got as far as checking whether the name was taken.
    pub fn after_acceptance(&self) -> bool {
        matches!(self, Self::NoSsh | Self::NotInitialized | Self::EndedWhileStarting)
    }

    /// Whether a launch or start with this result has given up on the instance, so that its state won't change.
    pub(crate) fn gave_up(&self) -> bool {
        matches!(self, Self::NoSsh | Self::EndedWhileStarting)
    }
}

/// Prefixes of a client's messages when it rejects its command line. The exit status, 1, isn't enough: a client with an
/// internal error also exits with it.
const BAD_COMMAND_LINE: [&str; 7] = [
    "Unknown option",
    "Error: Unknown command",
    "Wrong number of arguments",
    "Not enough arguments",
    "Too many arguments",
    "Missing value after",
    "Unexpected value after",
];

/// Whether the message is about an instance: `instance "x" does not exist`, `Instance 'x' is deleted`. Files and other
/// things can be missing too.
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

/// Strips the spinner's escape codes, preceding log lines, the prefix `launch failed: `, and line ends.
fn words(text: &str) -> Option<String> {
    let text = without_codes(text);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let (logged, plain): (Vec<&str>, Vec<&str>) = lines.partition(|line| log_text(line).is_some());
    // A client with an internal error reports it only in its log.
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

/// Strips escape sequences (`ESC [ … letter`) and control characters other than line ends.
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

/// The message of a log line: `[TIME] [error] [client] Caught an unhandled exception: …`, with or without its time;
/// `None` for any other line.
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
    /// Multipass's refusal, if there was one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal),
            _ => None,
        }
    }

    /// Whether Multipass as a whole is unreachable, whatever was requested.
    pub fn out_of_reach(&self) -> bool {
        match self {
            Self::NotInstalled { .. } | Self::CannotRun { .. } | Self::NoAnswer { .. } => true,
            _ => self.refusal() == Some(&Refusal::DaemonDown),
        }
    }

    /// Whether Multipass refuses this user, whatever was requested.
    pub fn permission(&self) -> bool {
        matches!(self.refusal(), Some(Refusal::AccessDenied | Refusal::NotAuthenticated))
    }

    /// What to do.
    pub fn hint(&self) -> Hint {
        let words = match self {
            Self::NotInstalled { .. } => INSTALL,
            Self::CannotRun { source, .. } => goloo_command::shortage_hint(source)
                .unwrap_or("check GOLOO_MULTIPASS and the installation of Multipass"),
            Self::NoAnswer { .. } => HUNG,
            Self::TooMuch { .. } => "run the same multipass command manually to see its output",
            Self::Unreadable { .. } => "check multipass version: goloo supports Multipass 1.13 to 1.17",
            Self::Refused { refusal, .. } => return refusal.hint(),
        };
        words.into()
    }

    /// In one sentence, with all causes.
    pub fn in_full(&self) -> String {
        let cause = std::error::Error::source(self).map_or_else(String::new, |cause| format!(": {cause}"));
        format!("{self}{cause}")
    }
}

const INSTALL: &str = if cfg!(target_os = "macos") {
    "brew install --cask multipass, or use another provider: --provider qemu"
} else {
    "sudo snap install multipass, or use another provider: --provider qemu"
};

const RESTART: &str = if cfg!(target_os = "macos") {
    "sudo launchctl kickstart -k system/com.canonical.multipassd"
} else {
    "sudo snap restart multipass"
};

/// A daemon that waits for a guest to power off or respond does nothing else.
const HUNG: &str = if cfg!(target_os = "macos") {
    "wait 5 minutes, since Multipass may be waiting for a guest to power off; if it still doesn't answer, run sudo launchctl kickstart -k system/com.canonical.multipassd"
} else {
    "wait 5 minutes, since Multipass may be waiting for a guest to power off; if it still doesn't answer, run sudo snap restart multipass"
};

const SOCKET_OWNER: &str = if cfg!(target_os = "macos") {
    "run goloo as an administrator, or as a user who has run multipass authenticate"
} else {
    "run goloo as a user in the group that ls -l /var/snap/multipass/common/multipass_socket shows, or run multipass authenticate"
};

impl Refusal {
    /// What to do.
    pub fn hint(&self) -> Hint {
        let words = match self {
            Self::DaemonDown => RESTART,
            Self::AccessDenied => SOCKET_OWNER,
            Self::NotAuthenticated => {
                "run multipass authenticate, or run goloo as a user who may use Multipass"
            }
            Self::Missing | Self::Other { .. } | Self::Killed => "multipass list",
            Self::InTrash => "multipass recover NAME restores it",
            Self::Exists => "use another name with --as, or adopt it; multipass list shows it",
            Self::BeingPrepared | Self::Busy => "wait a moment, then run the same command again",
            Self::AlreadyOn | Self::NoSsh | Self::EndedWhileStarting => {
                "multipass stop --force NAME, then multipass start NAME"
            }
            Self::InvalidName { .. } => "use another name with --as",
            Self::InvalidSize { .. } => {
                "write at least \"memory\": \"512M\" and \"disk\": \"1G\", which every version accepts"
            }
            Self::DiskTooSmall { .. } => "set a larger \"disk\"",
            Self::ImagesUnreachable => "check the network, then run the same command again",
            Self::UnknownImage { .. } => "multipass find lists the images",
            Self::BadCloudInit { .. } | Self::CloudInitUnreadable { .. } => {
                return NextStep::CreateDryRun(crate::info::INFO.id).text(" shows the document");
            }
            Self::NotInitialized | Self::ClientTimeout => "multipass info shows its state",
            Self::NotStopped => "stop the VM, then run the same command again",
            Self::Suspended => "start the VM, or stop it with --force, which discards its memory",
            Self::SnapshotExists => "use another label, or remove that snapshot",
            Self::NoSuchSnapshot => "multipass list --snapshots",
            Self::MountsDisabled => "multipass set local.privileged-mounts=true",
            Self::SshFailed { .. } => "multipass info --no-runtime-information shows whether it is running",
            Self::BadCommandLine { .. } => "check multipass version: snapshots need 1.13, clones need 1.15",
        };
        words.into()
    }
}

impl From<CallError> for ProviderError {
    fn from(error: CallError) -> Self {
        let hint = error.hint();
        if error.out_of_reach() {
            return Self::Unavailable { what: error.in_full(), hint };
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
    fn an_unknown_refusal_keeps_the_message_without_its_prefix() {
        let text =
            "\u{1b}[2Klaunch failed: The following errors occurred:\nx: timed out waiting for response\n";
        assert_eq!(Refusal::of(Some(2), "", text), Refusal::NoSsh);
        let odd = Refusal::of(Some(2), "", "launch failed: the hypervisor is tired\n");
        assert_eq!(odd, Refusal::Other { said: "the hypervisor is tired".to_owned() });
        assert_eq!(odd.to_string(), "the hypervisor is tired");
        assert_eq!(
            Refusal::of(Some(2), "", ""),
            Refusal::Other { said: "it printed no message".to_owned() },
            "silence has a text too"
        );
    }

    #[test]
    fn the_exit_status_takes_precedence_over_the_message() {
        assert_eq!(Refusal::of(Some(5), "", "instance \"x\" already exists"), Refusal::ClientTimeout);
        assert_eq!(Refusal::of(None, "", "instance \"x\" already exists"), Refusal::Killed);
    }

    #[test]
    fn a_bad_command_line_is_recognized_by_its_message_only() {
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
    fn log_lines_before_a_refusal_are_ignored() {
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
    fn a_missing_root_certificate_means_that_the_daemon_is_down() {
        let text = "[error] [client] Caught an unhandled exception: failed to open file '/var/lib/multipassd/multipass_root_cert.pem': No such file or directory(2)";
        assert_eq!(Refusal::of(Some(1), "", text), Refusal::DaemonDown);
    }

    #[test]
    fn a_missing_image_or_folder_is_not_a_missing_instance() {
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
    fn only_refusals_after_the_name_check_prove_ownership_of_an_instance() {
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
    fn quoted_text_of_a_document_is_not_mistaken_for_a_multipass_message() {
        let said =
            "Could not load cloud-init configuration: yaml-cpp: error at line 5, column 26: already exists";
        assert!(
            matches!(Refusal::of(Some(1), "", said), Refusal::BadCloudInit { said } if said.starts_with("yaml-cpp"))
        );
    }
}
