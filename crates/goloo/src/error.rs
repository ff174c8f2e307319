//! Errors as a person or a script sees them: what, why, and what to do.

use std::error::Error;

use goloo_core::engine::EngineError;
use goloo_core::host_names::HostNamesError;
use goloo_core::name::{ArchiveIdError, LabelError, NameError};
use goloo_core::plan::PlanError;
use goloo_core::provider::ProviderError;
use goloo_core::record::OperationKind;
use goloo_core::spec::Problem;
use goloo_core::store::StoreError;
use goloo_qemu::image::ImageError;
use goloo_store::sqlite::Damaged;

use crate::exit;

/// An error at the edge of the program.
#[derive(Debug)]
pub struct CliError {
    /// The exit code, one of [`crate::exit`].
    pub code: u8,
    /// A word for scripts: `not-found`, `locked`, …
    pub kind: &'static str,
    /// What happened.
    pub message: String,
    /// Why, outermost first.
    pub causes: Vec<String>,
    /// What to do: a command to run, or an action.
    pub hint: String,
    /// What is wrong with the user's files, when that is the matter.
    pub problems: Vec<Problem>,
}

impl CliError {
    /// An error with its code and word.
    pub fn new(code: u8, kind: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            code,
            kind,
            message: message.into(),
            causes: Vec::new(),
            hint: hint.into(),
            problems: Vec::new(),
        }
    }

    /// It failed.
    pub fn failed(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(exit::FAILED, "failed", message, hint)
    }

    /// The command line is wrong.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(exit::USAGE, "usage", message, hint)
    }

    /// Something that was named isn't there.
    pub fn not_found(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(exit::NOT_FOUND, "not-found", message, hint)
    }

    /// The user's files don't validate.
    pub fn invalid(problems: Vec<Problem>, hint: impl Into<String>) -> Self {
        let message = match problems.len() {
            1 => "the stack has a problem".to_owned(),
            count => format!("the stack has {count} problems"),
        };
        Self { problems, ..Self::new(exit::USAGE, "invalid", message, hint) }
    }

    /// Adds what lies beneath.
    pub fn because(mut self, error: &dyn Error) -> Self {
        self.causes.push(error.to_string());
        self.causes.extend(causes(error));
        self
    }

    /// What happened and why, where there is room for one line.
    pub fn in_one_line(&self) -> String {
        std::iter::once(&self.message).chain(&self.causes).map(String::as_str).collect::<Vec<_>>().join(": ")
    }
}

/// All that lies beneath an error, outermost first; a cause that repeats its effect is left out.
fn causes(error: &dyn Error) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if texts.last() != Some(&text) {
            texts.push(text);
        }
        next = cause.source();
    }
    texts
}

impl From<NameError> for CliError {
    fn from(error: NameError) -> Self {
        let hint = match &error {
            NameError::UpperCase { lower, .. } => format!("use {lower}"),
            _ => "goloo list shows the names in use".to_owned(),
        };
        Self::usage(error.to_string(), hint)
    }
}

impl From<LabelError> for CliError {
    fn from(error: LabelError) -> Self {
        Self::usage(error.to_string(), "write it like before-upgrade")
    }
}

impl From<ArchiveIdError> for CliError {
    fn from(error: ArchiveIdError) -> Self {
        Self::usage(error.to_string(), "goloo archive list")
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        let (code, kind, hint) = match &error {
            StoreError::NameTaken { name } => {
                (exit::NOT_FOUND, "name-taken", format!("goloo status {name}, or another name with --as"))
            }
            StoreError::NotFound { .. } => (exit::NOT_FOUND, "not-found", "goloo list --all".to_owned()),
            StoreError::NotArchived { .. } => {
                (exit::NOT_FOUND, "not-found", "goloo archive list".to_owned())
            }
            StoreError::Locked { name, .. } => {
                (exit::LOCKED, "locked", format!("wait until it is done; goloo status {name} shows what it does"))
            }
            StoreError::Stale { name, .. } => {
                (exit::LOCKED, "stale", format!("goloo status {name}, then run the command again"))
            }
            StoreError::Broken(_) => (exit::FAILED, "broken", "goloo doctor".to_owned()),
            StoreError::Newer { .. } => (exit::FAILED, "newer", "update goloo".to_owned()),
            StoreError::Unsuitable { .. } => (
                exit::FAILED,
                "unsuitable",
                "set GOLOO_STATE_DIR to a folder on a local disk, or GOLOO_ALLOW_NETWORK_FS=1 at your own risk"
                    .to_owned(),
            ),
            StoreError::Moved { to, .. } => {
                let to = to.strip_suffix(crate::transfer::UNFINISHED).unwrap_or(to);
                (exit::FAILED, "moved", format!("use the new one: goloo state move {to}"))
            }
            StoreError::LockLost { name, .. } => {
                (exit::LOCKED, "lock-lost", format!("goloo status {name} shows what the other one does"))
            }
            StoreError::Unbreakable { name, .. } => {
                (exit::LOCKED, "locked", format!("end that process, then run the command again for {name}"))
            }
            StoreError::NoBucket { .. } => (
                exit::FAILED,
                "no-bucket",
                "make the bucket, or mend its name: goloo settings show says where it is from".to_owned(),
            ),
            StoreError::Unreachable { .. } => {
                (exit::FAILED, "unreachable", "look at the network, then run the command again".to_owned())
            }
            StoreError::Denied { .. } => {
                (exit::PERMISSION, "denied", "look at the credentials and what they may do: docs/state.md".to_owned())
            }
            StoreError::Backend { source, .. } => match source.downcast_ref::<Damaged>() {
                Some(damaged) => (exit::FAILED, "damaged", damaged.way_out()),
                None => (exit::FAILED, "store", "goloo doctor".to_owned()),
            },
            StoreError::Io { source, path, .. } => {
                let (code, kind) = io_code(source);
                (code, kind, io_hint(source, path))
            }
        };
        let causes = causes(&error);
        Self { causes, ..Self::new(code, kind, error.to_string(), hint) }
    }
}

/// How a command ends that the operating system refused something: the exit code and its word.
fn io_code(error: &std::io::Error) -> (u8, &'static str) {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => (exit::PERMISSION, "permission"),
        _ => (exit::FAILED, "io"),
    }
}

/// What to do about what the operating system said.
pub fn io_hint(error: &std::io::Error, path: &std::path::Path) -> String {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            format!("check who owns it: ls -ld {}; goloo doctor checks the rest", path.display())
        }
        std::io::ErrorKind::StorageFull => {
            "free some room: goloo image prune removes images that no VM uses".to_owned()
        }
        std::io::ErrorKind::ReadOnlyFilesystem => {
            "set GOLOO_STATE_DIR to a folder that can be written".to_owned()
        }
        _ => "goloo doctor".to_owned(),
    }
}

impl From<ProviderError> for CliError {
    fn from(error: ProviderError) -> Self {
        let (code, kind, hint) = match &error {
            ProviderError::Unavailable { hint, .. } => (exit::FAILED, "unavailable", hint.clone()),
            ProviderError::Unsupported { hint, .. } => (exit::USAGE, "unsupported", hint.clone()),
            ProviderError::Permission { hint, .. } => (exit::PERMISSION, "permission", hint.clone()),
            ProviderError::Failed { hint, .. } => (exit::FAILED, "failed", hint.clone()),
            ProviderError::Unfinished { hint, .. } => (exit::MIDWAY, "unfinished", hint.clone()),
            ProviderError::Interrupted => {
                (exit::INTERRUPTED, "interrupted", "run the command again".to_owned())
            }
            ProviderError::Record(_) => (exit::FAILED, "io", "goloo doctor".to_owned()),
        };
        let causes = causes(&error);
        Self { causes, ..Self::new(code, kind, error.to_string(), hint) }
    }
}

impl From<ImageError> for CliError {
    fn from(error: ImageError) -> Self {
        let causes = causes(&error);
        Self { causes, ..Self::failed(error.to_string(), error.hint()) }
    }
}

impl From<PlanError> for CliError {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Provider(error) => error.into(),
            PlanError::CloudInit(problems) => {
                Self::invalid(problems, "mend the file and run the command again")
            }
        }
    }
}

impl From<EngineError> for CliError {
    fn from(error: EngineError) -> Self {
        let message = error.to_string();
        let causes = causes(&error);
        let with = |code, kind, hint: String| Self { causes, ..Self::new(code, kind, message, hint) };
        match error {
            EngineError::Store(error) => error.into(),
            EngineError::Unrecorded(error) => error.into(),
            EngineError::NameTaken { name, .. } => with(
                exit::NOT_FOUND,
                "name-taken",
                format!("goloo status {name} shows it; take another name, as create does with --as {name}-2"),
            ),
            EngineError::Unfinished { name, kind } => {
                let other = if matches!(kind, OperationKind::Create | OperationKind::Clone) {
                    format!(", or goloo delete {name} to remove what there is")
                } else {
                    String::new()
                };
                with(exit::MIDWAY, "unfinished", format!("goloo resume {name} to finish it{other}"))
            }
            EngineError::OtherHost { name, host } => with(
                exit::FAILED,
                "other-host",
                format!(
                    "run the command on {host}; where that is lost, goloo delete {name} --forget archives the record"
                ),
            ),
            EngineError::CreateFailed { source, .. } => {
                let beneath = Self::from(source);
                with(beneath.code, beneath.kind, beneath.hint)
            }
            EngineError::Provider { name, kind, source } => {
                let goes_on = goes_on(&name, kind);
                let beneath = Self::from(source);
                // A start or stop that failed is over; a delete is still to be finished.
                match kind {
                    OperationKind::Delete => {
                        with(exit::MIDWAY, beneath.kind, format!("{}; then {goes_on}", beneath.hint))
                    }
                    _ => with(beneath.code, beneath.kind, beneath.hint),
                }
            }
            EngineError::Midway { name, kind, source } => {
                let goes_on = goes_on(&name, kind);
                let hint = match source {
                    ProviderError::Unfinished { hint, .. } => format!("{hint}; {goes_on} goes on"),
                    _ => format!("{goes_on} goes on"),
                };
                with(exit::MIDWAY, "midway", hint)
            }
            EngineError::NotSaved { name, rescued, json, .. } => {
                let hint = match &rescued {
                    Some(path) => format!(
                        "the record is safe in {}: make room or mend the folder, then copy it to the record's state.json; goloo status {name} shows where that is",
                        path.display()
                    ),
                    None => format!("keep this record, it is nowhere else:\n{json}"),
                };
                with(exit::NOT_SAVED, "not-saved", hint)
            }
            EngineError::HostName { name, source } => {
                let hint = format!("{}; then goloo delete {name}", source.hint());
                match source {
                    HostNamesError::Denied { .. } => with(exit::PERMISSION, "permission", hint),
                    _ => with(exit::MIDWAY, "midway", hint),
                }
            }
            EngineError::NoAnswer { name, .. } => with(
                exit::DEGRADED,
                "no-answer",
                format!("goloo logs {name} --console shows how far it came"),
            ),
            EngineError::Snapshot { name, taken, .. } => {
                let word = if taken { "name-taken" } else { "not-found" };
                with(exit::NOT_FOUND, word, format!("goloo snapshot {name} --list shows them all"))
            }
            EngineError::Refused { hint, .. } => with(exit::FAILED, "refused", hint),
        }
    }
}

fn goes_on(name: &goloo_core::name::VmName, kind: OperationKind) -> String {
    match kind {
        OperationKind::Create | OperationKind::Clone => {
            format!("goloo resume {name} (or goloo delete {name})")
        }
        OperationKind::Delete
        | OperationKind::Start
        | OperationKind::Stop
        | OperationKind::Restart
        | OperationKind::Suspend
        | OperationKind::DnsSwap
        | OperationKind::DnsRollback => format!("goloo resume {name}"),
    }
}
