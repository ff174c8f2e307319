//! Errors as a person or a script sees them: what, why, and what to do.

use std::error::Error;
use std::io::ErrorKind;
use std::path::Path;

use goloo_core::engine::EngineError;
use goloo_core::host_names::HostNamesError;
use goloo_core::name::{ArchiveIdError, LabelError, NameError, VmName};
use goloo_core::plan::PlanError;
use goloo_core::provider::ProviderError;
use goloo_core::record::{Elsewhere, OperationKind};
use goloo_core::spec::Problem;
use goloo_core::store::{ServiceProblem, StoreError, safe_writes_hint};
use goloo_core::time::Timestamp;
use goloo_qemu::image::ImageError;
use goloo_store::sqlite::{Damaged, Untrusted};

use crate::backend::Backend;
use crate::exit;
use crate::transfer::UNFINISHED;

/// How many problems of one stack are shown.
const PROBLEMS_MAX: usize = 100;

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
    /// A record in JSON that could be saved nowhere: printed is all that is left of it.
    pub unsaved: Option<String>,
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
            unsaved: None,
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
    pub fn invalid(mut problems: Vec<Problem>, hint: impl Into<String>) -> Self {
        let message = match problems.len() {
            1 => "the stack has a problem".to_owned(),
            count if count > PROBLEMS_MAX => {
                format!("the stack has {count} problems, of which these are the first {PROBLEMS_MAX}")
            }
            count => format!("the stack has {count} problems"),
        };
        problems.truncate(PROBLEMS_MAX);
        Self { problems, ..Self::new(exit::USAGE, "invalid", message, hint) }
    }

    /// The operating system didn't let us: `action` is "write", "read", "lock".
    pub fn cannot(action: &str, path: &Path, error: &std::io::Error) -> Self {
        let (code, kind) = io_code(error);
        Self::new(code, kind, format!("can't {action} {}", path.display()), io_hint(error, path))
            .because(error)
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
            StoreError::Locked { name, lease_end, .. } => {
                (exit::LOCKED, "locked", locked_hint(name, *lease_end))
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
                let hint = match move_command(to) {
                    Some(command) if to.ends_with(UNFINISHED) => format!(
                        "finish the move: {command}{}; or stay: goloo state move with the address that goloo state show names",
                        sends_credentials(to)
                    ),
                    Some(command) => format!("use the new one: {command}{}", sends_credentials(to)),
                    None => "ask whoever moved it where the records are now".to_owned(),
                };
                (exit::FAILED, "moved", hint)
            }
            StoreError::NotMoved { .. } => {
                (exit::FAILED, "not-moved", "run the move again; goloo state show says where the records are".to_owned())
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
            StoreError::Misconfigured { hint, .. } => (exit::USAGE, "misconfigured", hint.clone()),
            StoreError::Service { problem, .. } => {
                let (code, kind) = of_service(problem);
                (code, kind, problem.hint())
            }
            StoreError::UnsafeWrites { lock_table, .. } => {
                (exit::FAILED, "unsafe-writes", safe_writes_hint(*lock_table).to_owned())
            }
            StoreError::Backend { source, .. } => of_backend(source.as_ref()),
            StoreError::Io { source, path, .. } => {
                let (code, kind) = io_code(source);
                (code, kind, io_hint(source, path))
            }
        };
        let causes = causes(&error);
        Self { causes, ..Self::new(code, kind, error.to_string(), hint) }
    }
}

fn locked_hint(name: &VmName, lease_end: Option<Timestamp>) -> String {
    let wait = format!("wait until it is done; goloo status {name} shows what it does");
    match lease_end {
        Some(end) => format!(
            "{wait}; if its holder is gone, the lock ends at {end}, or at once with goloo state unlock {name}"
        ),
        None => wait,
    }
}

/// The command that uses the place of a mark. Whoever may write to the store writes marks, so it is taken apart and put
/// together again, as one word for a shell.
fn move_command(mark: &str) -> Option<String> {
    let place = marked_place(mark)?.to_string();
    Some(format!("goloo state move {}", shlex::try_quote(&place).ok()?))
}

fn marked_place(mark: &str) -> Option<Backend> {
    Backend::parse(mark.strip_suffix(UNFINISHED).unwrap_or(mark)).ok()
}

/// What following a mark would do, where it names a service of its own.
fn sends_credentials(mark: &str) -> String {
    match marked_place(mark).as_ref().and_then(Backend::endpoint) {
        Some(endpoint) => format!(
            "; whoever writes to this store can have put that there, and credentials are sent to {endpoint}: ask a colleague first"
        ),
        None => String::new(),
    }
}

/// What to do before an operation can go on whose record couldn't be saved: by the store's kind and what it
/// said.
fn until_it_saves(name: &VmName, error: &StoreError) -> String {
    match error {
        StoreError::LockLost { .. } | StoreError::Stale { .. } | StoreError::Locked { .. } => {
            format!("goloo status {name} shows what the other one does; when that is over")
        }
        StoreError::Moved { to, .. } => match move_command(to) {
            Some(command) => format!("{command} uses the new place; then"),
            None => "when you use the place that the records were moved to,".to_owned(),
        },
        StoreError::Io { source, path, .. } if source.kind() == ErrorKind::StorageFull => {
            format!("make room for {}; then", path.display())
        }
        StoreError::Io { path, .. } => format!("mend {}; then", path.display()),
        StoreError::Unreachable { place, .. } => format!("when {place} can be reached again,"),
        StoreError::Denied { place, action, .. } => format!("when the credentials may {action} in {place},"),
        _ => "goloo doctor looks at the store; then".to_owned(),
    }
}

/// How a command ends whose store's service serves nothing.
fn of_service(problem: &ServiceProblem) -> (u8, &'static str) {
    match problem {
        ServiceProblem::ClockSkew => (exit::PERMISSION, "clock-skew"),
        ServiceProblem::SsoSession { .. } => (exit::PERMISSION, "sso-expired"),
        ServiceProblem::UnknownAuthority => (exit::FAILED, "unknown-authority"),
        ServiceProblem::WrongRegion { .. } => (exit::FAILED, "wrong-region"),
    }
}

/// What to do about what a store's database, service or lock table said.
fn of_backend(source: &(dyn Error + 'static)) -> (u8, &'static str, String) {
    if let Some(damaged) = source.downcast_ref::<Damaged>() {
        return (exit::FAILED, "damaged", damaged.way_out());
    }
    if let Some(untrusted) = source.downcast_ref::<Untrusted>() {
        return (exit::FAILED, "untrusted", untrusted.hint().to_owned());
    }
    #[cfg(feature = "object")]
    if let Some(error) = source.downcast_ref::<goloo_store::object::TableError>() {
        let (code, kind) =
            if error.is_busy() { (exit::LOCKED, "locked") } else { (exit::FAILED, "lock-table") };
        return (code, kind, error.way_out());
    }
    (exit::FAILED, "store", "goloo doctor".to_owned())
}

/// How a command ends that the operating system refused something: the exit code and its word.
fn io_code(error: &std::io::Error) -> (u8, &'static str) {
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => (exit::PERMISSION, "permission"),
        _ => (exit::FAILED, "io"),
    }
}

/// What to do about what the operating system said.
fn io_hint(error: &std::io::Error, path: &Path) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied => {
            format!("check who owns it: ls -ld {}; goloo doctor checks the rest", path.display())
        }
        ErrorKind::StorageFull => {
            "free some room: goloo image prune removes images that no VM uses".to_owned()
        }
        ErrorKind::ReadOnlyFilesystem => {
            format!("{} is mounted read-only; GOLOO_STATE_DIR names another place for state", path.display())
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
            EngineError::Elsewhere { name, place } => {
                let forget = format!("goloo delete {name} --forget archives the record");
                let (kind, hint) = match place {
                    Elsewhere::Host { host } => {
                        ("other-host", format!("run the command on {host}; where that is lost, {forget}"))
                    }
                    Elsewhere::StateFolder { user, .. } => (
                        "other-state-folder",
                        format!(
                            "run the command as {user}, with the state folder that it was made in; where that is lost, {forget}"
                        ),
                    ),
                    Elsewhere::OtherVm => ("other-vm", forget),
                    Elsewhere::Unproven => (
                        "unproven-record",
                        format!(
                            "goloo delete --forget {name} archives the record; goloo adopt {name} imports a machine that is here"
                        ),
                    ),
                };
                with(exit::FAILED, kind, hint)
            }
            EngineError::CreateFailed { source, .. } => {
                let beneath = Self::from(source);
                with(beneath.code, beneath.kind, beneath.hint)
            }
            EngineError::Provider { name, kind, source } => {
                let goes_on = goes_on(&name, kind);
                let beneath = Self::from(source);
                // A start or stop that failed is over; a delete is still to be finished. Who lacks a permission is
                // told so by the code, as everywhere.
                match kind {
                    OperationKind::Delete => {
                        let code = if beneath.code == exit::PERMISSION { beneath.code } else { exit::MIDWAY };
                        with(code, beneath.kind, format!("{}; then {goes_on}", beneath.hint))
                    }
                    _ => with(beneath.code, beneath.kind, beneath.hint),
                }
            }
            EngineError::Midway { name, kind, source } => {
                let goes_on = goes_on(&name, kind);
                let hint = match source {
                    ProviderError::Unfinished { hint, .. } => format!("{hint}; {goes_on} goes on"),
                    ProviderError::Record(error) => {
                        format!("{} {goes_on} goes on", until_it_saves(&name, &error))
                    }
                    _ => format!("{goes_on} goes on"),
                };
                with(exit::MIDWAY, "midway", hint)
            }
            EngineError::NotSaved { name, rescued, json, source } => {
                let goes_on = format!("{} goloo resume {name} goes on", until_it_saves(&name, &source));
                let (kept, unsaved) = match &rescued {
                    Some(path) => (format!("what could not be saved is in {}", path.display()), None),
                    None => ("keep what could not be saved, it is nowhere else:".to_owned(), Some(json)),
                };
                Self { unsaved, ..with(exit::NOT_SAVED, "not-saved", format!("{goes_on}; {kept}")) }
            }
            EngineError::HostName { name, source } => {
                let hint = format!("{}; then goloo delete {name}", source.hint());
                match source {
                    HostNamesError::Denied { .. } => with(exit::PERMISSION, "permission", hint),
                    _ => with(exit::MIDWAY, "midway", hint),
                }
            }
            EngineError::NotAwaited { name } => {
                with(exit::MIDWAY, "interrupted", format!("goloo wait {name}"))
            }
            EngineError::NoAnswer { name, .. } => with(
                exit::DEGRADED,
                "no-answer",
                format!("run `goloo status {name}`, then `goloo wait {name}` to continue waiting"),
            ),
            EngineError::Snapshot { name, taken, .. } => {
                let word = if taken { "name-taken" } else { "not-found" };
                with(exit::NOT_FOUND, word, format!("goloo snapshot {name} --list shows them all"))
            }
            EngineError::Refused { hint, .. } => with(exit::FAILED, "refused", hint),
        }
    }
}

fn goes_on(name: &VmName, kind: OperationKind) -> String {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io;

    use goloo_core::engine::EngineError;
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
    fn the_way_out_after_a_lost_save_fits_the_store_and_what_it_said() {
        let place = "s3://team/goloo".to_owned();
        let source = || Box::new(io::Error::from(ErrorKind::TimedOut));
        let cases = [
            (
                io_error(ErrorKind::StorageFull, "/srv/goloo/active/web/state.json"),
                "make room for /srv/goloo/active/web/state.json; then",
            ),
            (io_error(ErrorKind::PermissionDenied, "/srv/goloo.db"), "mend /srv/goloo.db; then"),
            (
                StoreError::Unreachable { place: place.clone(), source: source() },
                "when s3://team/goloo can be reached again,",
            ),
            (
                StoreError::Denied { place, action: "write (s3:PutObject)".to_owned(), source: source() },
                "when the credentials may write (s3:PutObject) in s3://team/goloo,",
            ),
            (
                StoreError::LockLost { name: name("web"), by: None },
                "goloo status web shows what the other one does; when that is over",
            ),
        ];
        for (error, way) in cases {
            let told = not_saved(error);
            let hint = format!(
                "{way} goloo resume web goes on; what could not be saved is in /home/ann/rescue.json"
            );
            assert_eq!((told.code, told.hint), (exit::NOT_SAVED, hint));
        }
    }

    #[test]
    fn a_mark_of_somebody_else_is_one_word_of_the_command_in_the_hint() {
        let moved = |to: &str| {
            let (place, to) = ("/srv/goloo.db".to_owned(), to.to_owned());
            CliError::from(StoreError::Moved { place, to }).hint
        };
        assert_eq!(moved("sqlite:/srv/new.db"), "use the new one: goloo state move sqlite:/srv/new.db");
        assert_eq!(
            moved("dir:/tmp/x;touch $HOME/y (unfinished)"),
            "finish the move: goloo state move 'dir:/tmp/x;touch $HOME/y'; or stay: goloo state move with the address that goloo state show names"
        );
        for nonsense in ["$(id)", "--help", "", "s3://"] {
            assert!(!moved(nonsense).contains("goloo state move"), "{}", moved(nonsense));
        }
    }

    #[test]
    fn a_lock_that_is_a_lease_says_when_it_ends_and_what_ends_it_at_once() {
        let locked = |lease_end| {
            CliError::from(StoreError::Locked { name: name("web"), holder: None, lease_end }).hint
        };
        let hint = locked(Some(goloo_testkit::samples::time("2025-01-15T10:31:30Z")));
        assert!(hint.contains("ends at 2025-01-15T10:31:30Z"), "{hint}");
        assert!(hint.contains("goloo state unlock web"), "{hint}");
        // One that ends with its process can't be broken.
        assert!(!locked(None).contains("unlock"));
    }
}
