//! Errors as the program prints them: message, causes and hint.

mod address;
mod autostart;
mod database;
mod docker;
mod environment;
mod keys;
mod library;
mod migrate;
mod missing;
mod request;
mod settings;
mod ssh;
mod stack;
mod state_file;
mod transfer;
mod unreachable;
mod vm_file;

use std::collections::BTreeSet;
use std::error::Error;
use std::io::ErrorKind;
use std::path::Path;

use goloo::error::codes;
use goloo::providers::listed;
use goloo::stack::StackError;
use goloo_engine::EngineError;
use goloo_engine::plan::PlanError;
use goloo_images::ImageError;
use goloo_model::hint::{Hint, NextStep};
use goloo_model::host_names::HostNamesError;
use goloo_model::name::{ArchiveIdError, LabelError, NameError, VmName};
use goloo_model::provider::ProviderError;
use goloo_model::record::{ForeignOwner, OperationKind, Phase};
use goloo_model::spec::{DIAGNOSTICS_MAX, Diagnostic};
use goloo_model::store::{ServiceProblem, StoreError, safe_writes_hint};
use goloo_model::time::Timestamp;
use goloo_sys::error_chain::causes;
use goloo_sys::private::{Exposed, in_shell};

pub use missing::Missing;
pub use unreachable::without_ssh;

use crate::exit;
use crate::output::hint;
use goloo::backend::Backend;
use goloo::transfer::UNFINISHED;

/// The error code after a question was answered with no.
const DECLINED: &str = "declined";

/// An error as reported to the user.
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
    /// What to do: a command, or a sentence that starts with a verb.
    pub hint: String,
    /// The problems in the user's files.
    pub problems: Vec<Diagnostic>,
    /// A record in JSON that could not be saved anywhere: the printed text is the only copy.
    pub unsaved: Option<String>,
    /// What was named and doesn't exist.
    pub missing: Option<Missing>,
}

impl CliError {
    /// The same error; where something doesn't exist, with what may be meant instead.
    pub fn suggesting(
        mut self,
        vms: impl FnOnce() -> Vec<String>,
        stacks: impl FnOnce() -> BTreeSet<VmName>,
    ) -> Self {
        if let Some(hint) = self.missing.as_ref().and_then(|missing| missing.hint(vms, stacks)) {
            self.hint = hint;
        }
        self
    }

    /// The user answered no: `message` says what was therefore not done, `again` is the command that doesn't ask.
    pub fn declined(message: impl Into<String>, again: impl Into<String>) -> Self {
        Self::new(exit::INTERRUPTED, DECLINED, message, again)
    }

    /// Whether it is the user's own answer, which needs neither the word "error" nor a hint.
    pub fn is_declined(&self) -> bool {
        self.kind == DECLINED
    }

    /// An error with this exit code and error code.
    pub fn new(code: u8, kind: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            code,
            kind,
            message: message.into(),
            causes: Vec::new(),
            hint: hint.into(),
            problems: Vec::new(),
            unsaved: None,
            missing: None,
        }
    }

    /// A failure without a more specific code.
    pub fn failed(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(exit::FAILED, "failed", message, hint)
    }

    /// An invalid command line.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(exit::USAGE, "usage", message, hint)
    }

    /// A named item that doesn't exist.
    pub fn not_found(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(exit::NOT_FOUND, "not-found", message, hint)
    }

    /// Invalid files of the user.
    pub fn invalid(mut problems: Vec<Diagnostic>, hint: impl Into<String>) -> Self {
        let message = goloo::stack::problem_count(&problems);
        problems.truncate(DIAGNOSTICS_MAX);
        Self { problems, ..Self::new(exit::USAGE, "invalid", message, hint) }
    }

    /// An error of the operating system: `action` is "write", "read", "lock".
    pub fn cannot(action: &str, path: &Path, error: &std::io::Error) -> Self {
        let message = format!("can't {action} {}", path.display());
        let hint = match error.kind() {
            ErrorKind::NotFound if action == "read" => "check the file's name".to_owned(),
            _ => io_hint(error, path),
        };
        Self::new(io_exit(error), codes::of_io(error), message, hint).because(error)
    }

    /// A typed error of the library, with its exit code and its hint.
    fn explained(error: &dyn Error, kind: &'static str, (code, hint): (u8, String)) -> Self {
        Self { causes: causes(error), ..Self::new(code, kind, error.to_string(), hint) }
    }

    /// Adds causes that are not in the chain of sources.
    fn with_causes(mut self, causes: Vec<String>) -> Self {
        self.causes.extend(causes);
        self
    }

    /// Adds an error and its sources as causes.
    pub fn because(mut self, error: &dyn Error) -> Self {
        self.causes.push(error.to_string());
        self.causes.extend(causes(error));
        self
    }

    /// The message and the causes on one line.
    pub fn in_one_line(&self) -> String {
        std::iter::once(&self.message).chain(&self.causes).map(String::as_str).collect::<Vec<_>>().join(": ")
    }
}

impl From<goloo::Error> for CliError {
    fn from(error: goloo::Error) -> Self {
        use goloo::Error as E;
        match error {
            E::Name(error) => error.into(),
            E::Label(error) => error.into(),
            E::ArchiveId(error) => error.into(),
            E::Store(error) => error.into(),
            E::Provider(error) => error.into(),
            E::Engine(error) => error.into(),
            E::Plan(error) => error.into(),
            E::Image(error) => error.into(),
            E::Exposed(error) => error.into(),
            E::Io { action, path, source } => Self::cannot(action, &path, &source),
            E::NoHome => Self::failed(error.to_string(), "set HOME and try again"),
            E::NoEventQueue(ref source) => {
                let hint = goloo_command::shortage_hint(source).unwrap_or("run the command again");
                Self::failed(error.to_string(), hint).because(source)
            }
            E::NoProvider { ref known, .. } => {
                let hint = format!(
                    "install a build that includes it, as with `cargo install --path crates/goloo-cli`; this one has {}",
                    listed(known)
                );
                Self::new(exit::USAGE, error.code(), error.to_string(), hint)
            }
            E::NoLocalProvider => {
                let hint = "name another provider with --provider";
                Self::new(exit::USAGE, error.code(), error.to_string(), hint)
            }
            E::NoEncryption => {
                let hint = "install a build with the feature encryption, as with `cargo install --path crates/goloo-cli`; \
                            without it, encrypted records can't be read";
                Self::new(exit::USAGE, error.code(), error.to_string(), hint)
            }
            E::Address(ref inner) => Self::explained(inner, inner.code(), address::explain(inner))
                .with_causes(address::causes(inner)),
            E::Keys(ref inner) => {
                Self::explained(inner, inner.code(), keys::explain(inner)).with_causes(keys::causes(inner))
            }
            E::StackImport { source, folder } => {
                Self { hint: format!("fix the files in {}", folder.display()), ..Self::from(*source) }
            }
            E::Library(ref inner) => Self::explained(inner, inner.code(), library::explain(inner)),
            E::Migrate(error) => error.into(),
            E::Settings(ref inner) => Self {
                problems: error.problems().to_vec(),
                ..Self::explained(inner, inner.code(), settings::explain(inner))
                    .with_causes(settings::causes(inner))
            },
            E::Ssh(ref inner) => Self::explained(inner, inner.code(), ssh::explain(inner)),
            E::Stack(StackError::Invalid { problems, folder }) => {
                Self::invalid(problems, format!("fix the files in {}", folder.display()))
            }
            E::Stack(ref inner) => {
                let error = Self::explained(inner, inner.code(), stack::explain(inner));
                Self { missing: stack::missing(inner), ..error.with_causes(stack::causes(inner)) }
            }
            E::Unreachable(ref inner) => Self::explained(inner, inner.code(), unreachable::explain(inner)),
            E::Autostart(ref inner) => Self::explained(inner, inner.code(), autostart::explain(inner)),
            E::Environment(ref inner) => Self {
                problems: shown(error.problems()),
                ..Self::explained(inner, inner.code(), environment::explain(inner))
            },
            E::Docker(ref inner) => Self::explained(inner, inner.code(), docker::explain(inner)),
            E::Request(ref inner) => Self::explained(inner, inner.code(), request::explain(inner)),
            E::VmFile(ref inner) => Self::explained(inner, inner.code(), vm_file::explain(inner)),
            E::Transfer(ref inner) => Self::explained(inner, inner.code(), transfer::explain(inner))
                .with_causes(transfer::causes(inner)),
            E::StateFile(ref inner) => Self::explained(inner, inner.code(), state_file::explain(inner)),
            _ => Self::failed(error.to_string(), "goloo doctor"),
        }
    }
}

/// As many problems as are shown.
fn shown(problems: &[Diagnostic]) -> Vec<Diagnostic> {
    problems.iter().take(DIAGNOSTICS_MAX).cloned().collect()
}

impl From<Exposed> for CliError {
    fn from(exposed: Exposed) -> Self {
        Self::new(exit::PERMISSION, "exposed", exposed.to_string(), exposed.hint())
    }
}

impl From<NameError> for CliError {
    fn from(error: NameError) -> Self {
        let hint = match &error {
            NameError::UpperCase { lower, .. } => format!("use {lower}"),
            NameError::Malformed { name } | NameError::TooLong { name, .. } => for_malformed(name),
            NameError::Empty => "run `goloo list` to see the names in use".to_owned(),
        };
        Self::usage(error.to_string(), hint)
    }
}

/// The hint for a text that isn't a name.
fn for_malformed(text: &str) -> String {
    let is_path = text.contains('/') || text == "." || text == "..";
    let last = Path::new(text).file_name().map(|name| name.to_string_lossy().into_owned());
    let similar = VmName::similar(if is_path { last.as_deref().unwrap_or_default() } else { text });
    match similar {
        Some(name) if is_path => format!(
            "write the name of a VM, such as {name}, in place of a path; `goloo list` shows the names in use"
        ),
        Some(name) => format!("use a name like {name}; `goloo list` shows the names in use"),
        None => "run `goloo list` to see the names in use".to_owned(),
    }
}

impl From<LabelError> for CliError {
    fn from(error: LabelError) -> Self {
        Self::usage(error.to_string(), "write a label like before-upgrade")
    }
}

impl From<ArchiveIdError> for CliError {
    fn from(error: ArchiveIdError) -> Self {
        Self::usage(error.to_string(), "goloo archive list")
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        let (code, hint) = match &error {
            StoreError::NameTaken { name } => {
                (exit::NOT_FOUND, format!("use another name with --as, or run `goloo status {name}` to see the VM"))
            }
            StoreError::NotFound { .. } => (exit::NOT_FOUND, "goloo list --all".to_owned()),
            StoreError::NotArchived { .. } => {
                (exit::NOT_FOUND, "goloo archive list".to_owned())
            }
            StoreError::Locked { name, lease_end, .. } => {
                (exit::LOCKED, locked_hint(name, *lease_end))
            }
            StoreError::Stale { name, .. } => {
                (exit::LOCKED, format!("check `goloo status {name}`, then run the command again"))
            }
            StoreError::Broken(_) => (exit::FAILED, "goloo doctor".to_owned()),
            StoreError::Newer { .. } => (exit::FAILED, "update goloo".to_owned()),
            StoreError::Unsuitable { .. } => (
                exit::FAILED,
                "set GOLOO_STATE_DIR to a folder on a local disk, or set GOLOO_ALLOW_NETWORK_FS=1 at your own risk"
                    .to_owned(),
            ),
            StoreError::Moved { to, .. } => {
                let hint = match move_command(to) {
                    Some(command) if to.ends_with(UNFINISHED) => format!(
                        "run `{command}` to finish the move{}; or run `goloo state move` with the address in `goloo state show` to cancel it",
                        sends_credentials(to)
                    ),
                    Some(command) => format!("run `{command}` to use the new store{}", sends_credentials(to)),
                    None => "ask the person who moved the store where the records are now".to_owned(),
                };
                (exit::FAILED, hint)
            }
            StoreError::NotMoved { .. } => {
                (exit::FAILED, "run the move again; `goloo state show` prints where the records are".to_owned())
            }
            StoreError::LockLost { name, .. } => {
                (exit::LOCKED, format!("run `goloo status {name}` to see who is working on it"))
            }
            StoreError::Unbreakable { name, .. } => {
                (exit::LOCKED, format!("end that process, then run the command for {name} again"))
            }
            StoreError::NoBucket { .. } => (
                exit::FAILED,
                "create the bucket, or correct its name: `goloo settings show` prints where it is set".to_owned(),
            ),
            StoreError::Unreachable { .. } => {
                (exit::FAILED, "check the network, then run the command again".to_owned())
            }
            StoreError::Denied { .. } => {
                (exit::PERMISSION, "check the credentials and their permissions: docs/state.md".to_owned())
            }
            StoreError::Misconfigured { hint, .. } => (exit::USAGE, hint::text(hint)),
            StoreError::Service { problem, .. } => {
                (of_service(problem), hint::text(&problem.hint()))
            }
            StoreError::UnsafeWrites { lock_table, .. } => {
                (exit::FAILED, hint::text(&safe_writes_hint(*lock_table)))
            }
            StoreError::NotInBuild { feature, .. } => (
                exit::USAGE,
                format!("install a build with the feature {feature}: cargo install --path crates/goloo-cli --features {feature}"),
            ),
            StoreError::Damaged { source, .. } => (exit::FAILED, hint::text(&source.hint())),
            StoreError::Untrusted { file, source, .. } => (exit::FAILED, database::hint(file, source)),
            StoreError::LockTable { source, .. } => {
                (if source.is_busy() { exit::LOCKED } else { exit::FAILED }, hint::text(&source.hint()))
            }
            StoreError::Backend { .. } => (exit::FAILED, "goloo doctor".to_owned()),
            StoreError::Io { source, path, .. } => {
                (io_exit(source), io_hint(source, path))
            }
        };
        let missing = match &error {
            StoreError::NotFound { name } => Some(Missing::Vm(name.clone())),
            _ => None,
        };
        let causes = causes(&error);
        Self { causes, missing, ..Self::new(code, codes::of_store(&error), error.to_string(), hint) }
    }
}

fn locked_hint(name: &VmName, lease_end: Option<Timestamp>) -> String {
    let wait = format!("wait until it has finished; `goloo status {name}` shows its progress");
    match lease_end {
        Some(end) => format!(
            "{wait}; if its holder is no longer running, the lock expires at {end}, or run `goloo state unlock {name}`"
        ),
        None => wait,
    }
}

/// The command that switches to the store that a mark names. Anyone who can write to the store can write marks, so the
/// address is parsed, formatted again, and quoted as one word for a shell.
fn move_command(mark: &str) -> Option<String> {
    let place = marked_place(mark)?.to_string();
    Some(format!("goloo state move {}", shlex::try_quote(&place).ok()?))
}

fn marked_place(mark: &str) -> Option<Backend> {
    Backend::parse(mark.strip_suffix(UNFINISHED).unwrap_or(mark)).ok()
}

/// A warning for a mark that names its own endpoint.
fn sends_credentials(mark: &str) -> String {
    match marked_place(mark).as_ref().and_then(Backend::endpoint) {
        Some(endpoint) => format!(
            "; anyone who can write to this store may have set this address, and your credentials would be sent to {endpoint}: ask a colleague first"
        ),
        None => String::new(),
    }
}

/// What to do before an operation whose record couldn't be saved can continue. Starts a sentence that ends with the
/// command to run.
fn until_it_saves(name: &VmName, error: &StoreError) -> String {
    match error {
        StoreError::LockLost { .. } | StoreError::Stale { .. } | StoreError::Locked { .. } => {
            format!("wait until the other process has finished (`goloo status {name}` shows it), then")
        }
        StoreError::Moved { to, .. } => match move_command(to) {
            Some(command) => format!("run `{command}` to use the new store, then"),
            None => "switch to the store that the records were moved to, then".to_owned(),
        },
        StoreError::Io { source, path, .. } if source.kind() == ErrorKind::StorageFull => {
            format!("free disk space for {}, then", path.display())
        }
        StoreError::Io { path, .. } => format!("make {} writable, then", path.display()),
        StoreError::Unreachable { place, .. } => format!("check the connection to {place}, then"),
        StoreError::Denied { place, action, .. } => {
            format!("use credentials that may {action} in {place}, then")
        }
        _ => "run `goloo doctor` to check the store, then".to_owned(),
    }
}

/// The exit code for a problem with the store's service.
fn of_service(problem: &ServiceProblem) -> u8 {
    match problem {
        ServiceProblem::ClockSkew | ServiceProblem::SsoSession { .. } => exit::PERMISSION,
        ServiceProblem::UnknownAuthority | ServiceProblem::WrongRegion { .. } => exit::FAILED,
    }
}

/// The exit code for an error of the operating system.
fn io_exit(error: &std::io::Error) -> u8 {
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => exit::PERMISSION,
        _ => exit::FAILED,
    }
}

/// The hint for an error of the operating system.
fn io_hint(error: &std::io::Error, path: &Path) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied => {
            format!("check who owns it: ls -ld {}; then run `goloo doctor`", path.display())
        }
        ErrorKind::StorageFull => {
            "free disk space: `goloo image prune` removes images that no VM uses".to_owned()
        }
        ErrorKind::ReadOnlyFilesystem => {
            format!("set GOLOO_STATE_DIR to another folder: {} is mounted read-only", path.display())
        }
        _ => "goloo doctor".to_owned(),
    }
}

impl From<ProviderError> for CliError {
    fn from(error: ProviderError) -> Self {
        let code = match &error {
            ProviderError::Unavailable { .. } | ProviderError::Failed { .. } | ProviderError::Record(_) => {
                exit::FAILED
            }
            ProviderError::Unsupported { .. } => exit::USAGE,
            ProviderError::Permission { .. } => exit::PERMISSION,
            ProviderError::Unfinished { .. } => exit::MIDWAY,
            ProviderError::Interrupted => exit::INTERRUPTED,
        };
        let (causes, hint) = (causes(&error), hint::text(&hint_of(&error)));
        Self { causes, ..Self::new(code, codes::of_provider(&error), error.to_string(), hint) }
    }
}

fn hint_of(error: &ProviderError) -> Hint {
    match error {
        ProviderError::Interrupted => "run the command again".into(),
        ProviderError::Record(_) => NextStep::Doctor.into(),
        error => error.hint().cloned().unwrap_or_default(),
    }
}

impl From<ImageError> for CliError {
    fn from(error: ImageError) -> Self {
        let causes = causes(&error);
        Self { causes, ..Self::failed(error.to_string(), hint::text(&error.hint())) }
    }
}

impl From<PlanError> for CliError {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Provider(error) => error.into(),
            PlanError::CloudInit(problems) => {
                Self::invalid(problems, "fix the file and run the command again")
            }
        }
    }
}

impl From<EngineError> for CliError {
    fn from(error: EngineError) -> Self {
        let message = error.to_string();
        let (causes, kind) = (causes(&error), codes::of_engine(&error));
        let with = |code, hint: String| Self { causes, ..Self::new(code, kind, message, hint) };
        match error {
            EngineError::Store(error) => error.into(),
            EngineError::Unrecorded(error) => error.into(),
            EngineError::NameTaken { name, .. } => with(
                exit::NOT_FOUND,
                format!(
                    "use another name, for example with `create --as {name}-2`; `goloo status {name}` shows the existing VM"
                ),
            ),
            EngineError::Unfinished { name, kind } => {
                let other =
                    if matches!(kind, OperationKind::Create | OperationKind::Clone | OperationKind::Import) {
                        format!(", or `goloo delete {name}` to remove it")
                    } else {
                        String::new()
                    };
                with(exit::MIDWAY, format!("run `goloo resume {name}` to continue{other}"))
            }
            EngineError::ReplacementExists { new, phase, .. } => {
                let first = match phase {
                    Phase::Degraded => format!("run `goloo logs {new}` to see why it isn't ready"),
                    _ => format!("run `goloo resume {new}` to continue"),
                };
                with(exit::MIDWAY, format!("{first}, or `goloo delete {new}` to give it up"))
            }
            EngineError::Elsewhere { name, place } => {
                let forget = format!("`goloo delete {name} --forget` archives the record");
                let hint = match place {
                    ForeignOwner::Host { host } => format!(
                        "run the command on {}; if that host is lost, {forget}",
                        in_shell(host.as_str())
                    ),
                    ForeignOwner::StateFolder { user, .. } => format!(
                        "run the command as {}, with the state folder that the VM was created with; if that is lost, {forget}",
                        in_shell(user.as_str())
                    ),
                    ForeignOwner::OtherVm => forget,
                    ForeignOwner::Unproven => format!(
                        "run `goloo delete --forget {name}` to archive the record, or `goloo adopt {name}` to import a machine on this computer"
                    ),
                };
                with(exit::FAILED, hint)
            }
            EngineError::CreateFailed { source, .. } => {
                let beneath = Self::from(source);
                with(beneath.code, beneath.hint)
            }
            EngineError::Provider { name, kind, source } => {
                let goes_on = goes_on(&name, kind);
                let first = hint::in_sentence(&hint_of(&source));
                let beneath = Self::from(source);
                // A failed start or stop has ended; a delete is still to be finished. A missing permission has its own
                // exit code, as everywhere.
                match kind {
                    OperationKind::Delete => {
                        let code = if beneath.code == exit::PERMISSION { beneath.code } else { exit::MIDWAY };
                        with(code, format!("{first}; then run {goes_on}"))
                    }
                    _ => with(beneath.code, beneath.hint),
                }
            }
            EngineError::Midway { name, kind, source } => {
                let goes_on = goes_on(&name, kind);
                let hint = match source {
                    ProviderError::Unfinished { hint, .. } => {
                        format!("{}; then run {goes_on}", hint::in_sentence(&hint))
                    }
                    ProviderError::Record(error) => {
                        format!("{} run {goes_on}", until_it_saves(&name, &error))
                    }
                    _ => format!("run {goes_on}"),
                };
                with(exit::MIDWAY, hint)
            }
            EngineError::NotSaved { name, rescued, json, source } => {
                let goes_on =
                    format!("{} run `goloo resume {name}` to continue", until_it_saves(&name, &source));
                let (kept, unsaved) = match &rescued {
                    Some(path) => (format!("the unsaved record is in {}", path.display()), None),
                    None => ("keep the unsaved record below, which is the only copy:".to_owned(), Some(json)),
                };
                Self { unsaved, ..with(exit::NOT_SAVED, format!("{goes_on}; {kept}")) }
            }
            EngineError::HostName { name, source } => {
                let hint = format!("{}; then run `goloo delete {name}`", source.hint());
                match source {
                    HostNamesError::Denied { .. } => with(exit::PERMISSION, hint),
                    _ => with(exit::MIDWAY, hint),
                }
            }
            EngineError::NotAwaited { name } => {
                with(exit::MIDWAY, format!("run `goloo wait {name}` to continue waiting"))
            }
            EngineError::NoAnswer { name, .. } => with(
                exit::DEGRADED,
                format!("run `goloo status {name}`, then `goloo wait {name}` to continue waiting"),
            ),
            EngineError::Snapshot { name, .. } => {
                with(exit::NOT_FOUND, format!("run `goloo snapshot {name} --list` to see all snapshots"))
            }
            EngineError::Refused { hint, .. } => with(exit::FAILED, hint::text(&hint)),
        }
    }
}

fn goes_on(name: &VmName, kind: OperationKind) -> String {
    match kind {
        OperationKind::Create | OperationKind::Clone | OperationKind::Import | OperationKind::Bake => {
            format!("`goloo resume {name}` to continue, or `goloo delete {name}`")
        }
        OperationKind::Delete
        | OperationKind::Start
        | OperationKind::Stop
        | OperationKind::Restart
        | OperationKind::Suspend
        | OperationKind::Apply
        | OperationKind::DnsSwap
        | OperationKind::DnsRollback
        | OperationKind::Rename
        | OperationKind::Replace => format!("`goloo resume {name}` to continue"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io;

    use goloo_engine::EngineError;
    use goloo_model::lock_table_error::{LockTableError, TableName};
    use goloo_testkit::samples::name;

    use super::*;

    fn not_saved(source: StoreError) -> CliError {
        let (name, rescued) = (name("web"), Some("/home/ann/rescue.json".into()));
        EngineError::NotSaved { name, rescued, json: "{}".to_owned(), source }.into()
    }

    fn io_error(kind: ErrorKind, path: &str) -> StoreError {
        StoreError::Io { action: "write", path: path.into(), source: io::Error::from(kind) }
    }

    #[test]
    fn the_hint_after_a_failed_save_matches_the_store_error() {
        let place = "s3://team/goloo".to_owned();
        let source = || Box::new(io::Error::from(ErrorKind::TimedOut));
        let cases = [
            (
                io_error(ErrorKind::StorageFull, "/srv/goloo/active/web/state.json"),
                "free disk space for /srv/goloo/active/web/state.json, then",
            ),
            (io_error(ErrorKind::PermissionDenied, "/srv/goloo.db"), "make /srv/goloo.db writable, then"),
            (
                StoreError::Unreachable { place: place.clone(), source: source() },
                "check the connection to s3://team/goloo, then",
            ),
            (
                StoreError::Denied { place, action: "write (s3:PutObject)".to_owned(), source: source() },
                "use credentials that may write (s3:PutObject) in s3://team/goloo, then",
            ),
            (
                StoreError::LockLost { name: name("web"), by: None },
                "wait until the other process has finished (`goloo status web` shows it), then",
            ),
        ];
        for (error, way) in cases {
            let told = not_saved(error);
            let hint = format!(
                "{way} run `goloo resume web` to continue; the unsaved record is in /home/ann/rescue.json"
            );
            assert_eq!((told.code, told.hint), (exit::NOT_SAVED, hint));
        }
    }

    #[test]
    fn a_store_address_from_a_mark_is_shell_quoted_in_the_hint() {
        let moved = |to: &str| {
            let (place, to) = ("/srv/goloo.db".to_owned(), to.to_owned());
            CliError::from(StoreError::Moved { place, to }).hint
        };
        assert_eq!(
            moved("sqlite:/srv/new.db"),
            "run `goloo state move sqlite:/srv/new.db` to use the new store"
        );
        assert_eq!(
            moved("dir:/tmp/x;touch $HOME/y (unfinished)"),
            "run `goloo state move 'dir:/tmp/x;touch $HOME/y'` to finish the move; or run `goloo state move` with the address in `goloo state show` to cancel it"
        );
        for nonsense in ["$(id)", "--help", "", "s3://"] {
            assert!(!moved(nonsense).contains("goloo state move"), "{}", moved(nonsense));
        }
    }

    #[test]
    fn what_a_build_lacks_is_named_with_the_feature_that_has_it() {
        let told =
            CliError::from(StoreError::NotInBuild { what: "lock tables".into(), feature: "lock-table" });
        assert_eq!((told.code, told.kind), (exit::USAGE, "unsupported"));
        assert_eq!(told.message, "this build of goloo does not include lock tables");
        assert!(
            told.hint.ends_with("cargo install --path crates/goloo-cli --features lock-table"),
            "{}",
            told.hint
        );
        let told = CliError::from(goloo::Error::NoEncryption);
        assert_eq!((told.code, told.kind), (exit::USAGE, "unsupported"));
        assert!(told.hint.contains("the feature encryption"), "{}", told.hint);
    }

    #[test]
    fn a_row_of_a_lock_table_that_another_process_has_is_a_lock() {
        let table = TableName { name: "locks".to_owned(), region: "eu-central-1".to_owned() };
        let told = |source| {
            let error = StoreError::LockTable { action: "write", place: "s3://team".to_owned(), source };
            let told = CliError::from(error);
            assert_eq!(told.message, "can't write in s3://team");
            (told.code, told.kind, told.hint)
        };
        let busy = LockTableError::Busy { table: table.clone(), key: "web".to_owned(), seconds: 7 };
        assert_eq!(told(busy), (exit::LOCKED, "locked", "run the command again in 7 s".to_owned()));
        let (code, kind, hint) = told(LockTableError::Missing(table));
        assert_eq!((code, kind), (exit::FAILED, "lock-table"));
        assert!(hint.starts_with("aws dynamodb create-table --region eu-central-1"), "{hint}");
    }

    #[test]
    fn the_hint_for_a_lease_shows_its_end_and_the_unlock_command() {
        let locked = |lease_end| {
            CliError::from(StoreError::Locked { name: name("web"), holder: None, lease_end }).hint
        };
        let hint = locked(Some(goloo_testkit::samples::time("2025-01-15T10:31:30Z")));
        assert!(hint.contains("expires at 2025-01-15T10:31:30Z"), "{hint}");
        assert!(hint.contains("goloo state unlock web"), "{hint}");
        // A lock without a lease can't be broken.
        assert!(!locked(None).contains("unlock"));
    }
}
