//! The errors of the library. [`MigrateError`] is here, since it contains an [`Error`].

mod address;
mod autostart;
pub mod codes;
mod docker;
pub(crate) mod environment;
pub(crate) mod keys;
mod library;
mod request;
mod settings;
mod ssh;
mod stack;
mod state_file;
mod transfer;
mod unreachable;
mod vm_file;

use std::io;
use std::path::{Path, PathBuf};

use goloo_engine::EngineError;
use goloo_engine::plan::PlanError;
use goloo_images::ImageError;
use goloo_model::name::{ArchiveIdError, LabelError, NameError, VmName};
use goloo_model::provider::ProviderError;
use goloo_model::provider_id::ProviderId;
use goloo_model::spec::Diagnostic;
use goloo_model::spec::old_state::{ConfigLocation, V0Vm};
use goloo_model::store::StoreError;
use goloo_sys::error_chain;
use goloo_sys::private::Exposed;

pub use address::AddressError;
pub use autostart::AutostartError;
pub use docker::DockerError;
pub use environment::{EnvironmentError, MemberRefusal};
pub use keys::{AnswerError, KeysError};
pub use library::LibraryError;
pub use request::RequestError;
pub use settings::SettingsError;
pub use ssh::SshError;
pub use stack::{LastFolder, StackError, problem_count};
pub use state_file::{StateFile, StateFileError};
pub use transfer::TransferError;
pub use unreachable::UnreachableError;
pub use vm_file::VmFileError;

/// An error of the library. It has no hints: the program adds them, since it knows its own commands.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An invalid VM name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// An invalid snapshot label.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// An invalid archive id.
    #[error(transparent)]
    ArchiveId(#[from] ArchiveIdError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A provider.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// An operation.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Planning a VM.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// An image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A file or folder that other users could change.
    #[error(transparent)]
    Exposed(#[from] Exposed),
    /// Users' keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// A stack.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// The library of stacks.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// A stack can't be imported into the library because of problems in its files.
    #[error("{source}")]
    StackImport {
        /// What is wrong.
        source: Box<Error>,
        /// The source folder.
        folder: PathBuf,
    },
    /// settings.json.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The files that `ssh` needs.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// A machine that can't be connected to.
    #[error(transparent)]
    Unreachable(#[from] UnreachableError),
    /// Starting VMs at login.
    #[error(transparent)]
    Autostart(#[from] AutostartError),
    /// A Docker context.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// An environment.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// A request that can't be met.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Moving, exporting or importing records.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// A file of an exported VM.
    #[error(transparent)]
    VmFile(#[from] VmFileError),
    /// A small file in the state folder.
    #[error(transparent)]
    StateFile(#[from] StateFileError),
    /// The address of a store.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A VM of goloo v0 that could not be imported.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// An error of the operating system.
    #[error("can't {action} {}", path.display())]
    Io {
        /// The attempted action, as a phrase before the path: "write", "read the keys in".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// `HOME` isn't set.
    #[error("HOME is not set, so goloo has no place for its files")]
    NoHome,
    /// The system can't create an event queue.
    #[error("the system can't create an event queue")]
    NoEventQueue(#[source] io::Error),
    /// The program doesn't have the provider.
    #[error("this build of goloo does not include the provider \"{id}\"")]
    NoProvider {
        /// The provider.
        id: ProviderId,
        /// Those that it has.
        known: Vec<ProviderId>,
    },
    /// The program has no provider for local VMs.
    #[error("this build of goloo has no provider for VMs on this computer")]
    NoLocalProvider,
    /// The program was built without encryption, which the settings ask for.
    #[error("this build of goloo does not include encryption, which settings.json requires")]
    NoEncryption,
}

impl Error {
    /// An error of the operating system: `action` is "write", "read", "lock".
    pub fn cannot(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }

    /// The stable error code, for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Name(_) | Self::Label(_) | Self::ArchiveId(_) => "usage",
            Self::Store(error) => codes::of_store(error),
            Self::Provider(error) => codes::of_provider(error),
            Self::Engine(error) => codes::of_engine(error),
            Self::Plan(error) => codes::of_plan(error),
            Self::Image(_) | Self::NoHome | Self::NoEventQueue(_) => "failed",
            Self::Exposed(_) => "exposed",
            Self::Keys(error) => error.code(),
            Self::Stack(error) => error.code(),
            Self::Library(error) => error.code(),
            Self::StackImport { source, .. } => source.code(),
            Self::Settings(error) => error.code(),
            Self::Ssh(error) => error.code(),
            Self::Unreachable(error) => error.code(),
            Self::Autostart(error) => error.code(),
            Self::Docker(error) => error.code(),
            Self::Environment(error) => error.code(),
            Self::Request(error) => error.code(),
            Self::Transfer(error) => error.code(),
            Self::VmFile(error) => error.code(),
            Self::StateFile(error) => error.code(),
            Self::Address(error) => error.code(),
            Self::Migrate(error) => error.code(),
            Self::Io { source, .. } => codes::of_io(source),
            Self::NoProvider { .. } | Self::NoLocalProvider | Self::NoEncryption => "unsupported",
        }
    }

    /// Whether this error left an operation that [`Session::resume`](crate::Session::resume) can continue.
    pub fn is_resumable(&self) -> bool {
        matches!(
            self,
            Self::Engine(
                EngineError::Midway { .. } | EngineError::Unfinished { .. } | EngineError::NotAwaited { .. }
            )
        )
    }

    /// The problems in the user's files.
    pub fn problems(&self) -> &[Diagnostic] {
        match self {
            Self::Stack(StackError::Invalid { problems, .. })
            | Self::Environment(EnvironmentError::Invalid { problems, .. })
            | Self::Settings(SettingsError::Invalid { problems, .. })
            | Self::Plan(PlanError::CloudInit(problems)) => problems,
            Self::StackImport { source, .. } => source.problems(),
            _ => &[],
        }
    }

    /// The message and its sources on one line.
    pub fn in_one_line(&self) -> String {
        error_chain::in_one_line(self)
    }
}
/// Why a requested import failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// The path isn't a folder.
    #[error("{} is not a folder", path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// The VM can't be imported.
    #[error("{}: {failure}", failure.location())]
    NotMigrated {
        /// Why; it is part of the message, so it isn't a source.
        failure: Box<ImportFailure>,
    },
}

impl MigrateError {
    /// The stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAFolder { .. } => "not-found",
            Self::NotMigrated { .. } => "not-migrated",
        }
    }
}

/// Why a VM of a v0 config isn't imported. The message doesn't name the place in the config.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportFailure {
    /// The config can't be used.
    #[error("{}", .0.message)]
    Invalid(Diagnostic),
    /// A file of its stack can't be read.
    #[error("{}", error.in_one_line())]
    Unreadable {
        /// The VM's place in the config.
        place: ConfigLocation,
        /// Why; it is part of the message, so it isn't a source.
        error: Box<Error>,
    },
    /// Another config was imported as this machine.
    #[error("two configs claim the machine \"{name}\": {recorded_from} and {}", place.file)]
    ClaimedTwice {
        /// The VM's place in the config.
        place: ConfigLocation,
        /// The name of the machine's record.
        name: VmName,
        /// The path of the config that was imported.
        recorded_from: String,
    },
    /// Another VM has its name.
    #[error(
        "{} claims the name \"{}\", which belongs to another {provider} VM{}",
        vm.place.file,
        vm.name,
        imported_from(recorded_from.as_deref())
    )]
    NameTaken {
        /// The VM, as the config describes it.
        vm: Box<V0Vm>,
        /// The other VM's provider.
        provider: ProviderId,
        /// The path of the config that the other VM was imported from.
        recorded_from: Option<String>,
    },
    /// Its record can't be compared or written.
    #[error("\"{name}\" can't be imported: {}", error.in_one_line())]
    Failed {
        /// The VM's place in the config.
        place: ConfigLocation,
        /// The VM.
        name: VmName,
        /// Why; it is part of the message, so it isn't a source.
        error: Box<Error>,
    },
}

fn imported_from(config: Option<&str>) -> String {
    config.map_or_else(String::new, |config| format!(", imported from {config}"))
}

impl ImportFailure {
    /// The place in the config.
    pub fn place(&self) -> ConfigLocation {
        match self {
            Self::Invalid(Diagnostic { file, pointer, line, column, .. }) => {
                ConfigLocation { file: file.clone(), pointer: pointer.clone(), line: *line, column: *column }
            }
            Self::NameTaken { vm, .. } => vm.place.clone(),
            Self::Unreadable { place, .. }
            | Self::ClaimedTwice { place, .. }
            | Self::Failed { place, .. } => place.clone(),
        }
    }

    /// The place in the config, as `FILE:LINE:COLUMN`.
    pub fn location(&self) -> String {
        let ConfigLocation { file, line, column, .. } = self.place();
        format!("{file}:{line}:{column}")
    }
}
