//! What every command works with: folders, settings, store, providers, and the engine put together.

use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use goloo_core::engine::{Engine, Interrupt, refuse_elsewhere};
use goloo_core::guest;
use goloo_core::name::VmName;
use goloo_core::provider::Provider;
use goloo_core::record::{Creator, Here, Owner, ProviderKind, Record, Sight, Trust};
use goloo_core::store::{Loaded, Store, StoreError};
use goloo_multipass::MultipassProvider;
use goloo_qemu::QemuProvider;

use crate::error::CliError;
use crate::hosts::HostsFile;
use crate::output::Ui;
use crate::paths::{self, Paths};
use crate::rescue::Folders;
use crate::settings::Settings;
use crate::ssh::{KeyFolder, SshGuest};
use crate::{exit, identity, imported, migrate, open_operations, signals, state_id};

/// The program's surroundings, looked at once.
pub struct App {
    pub ui: Ui,
    pub paths: Paths,
    pub settings: Settings,
    pub store: Box<dyn Store>,
    pub keys: KeyFolder,
    /// Whether the records lie in the state folder, where nobody else writes.
    is_private: bool,
    watch: EndWatch,
}

/// Whether anything on this computer speaks of AWS.
pub fn aws_is_set_up() -> bool {
    #[cfg(feature = "aws")]
    return goloo_aws::is_set_up();
    #[cfg(not(feature = "aws"))]
    false
}

/// What `--local` means: what the settings say, else Multipass where it is installed, else QEMU.
/// Whether Multipass works isn't asked: its daemon may take its time to answer.
pub fn local_provider(settings: &Settings, paths: &Paths) -> ProviderKind {
    settings.local_provider().unwrap_or_else(|| {
        let program = goloo_multipass::Settings::from_env(&paths.state).map(|settings| settings.program);
        match program.ok().and_then(|program| goloo_qemu::find_program(&program)) {
            Some(_) => ProviderKind::Multipass,
            None => ProviderKind::Qemu,
        }
    })
}

impl App {
    pub fn new(ui: Ui) -> Result<Self, CliError> {
        Self::with(ui, true)
    }

    /// The same for a command that is run as root in a user's home and gives all that it makes to that user.
    pub fn for_root(ui: Ui) -> Result<Self, CliError> {
        Self::with(ui, false)
    }

    fn with(ui: Ui, must_be_private: bool) -> Result<Self, CliError> {
        let home = paths::home()?;
        let config = Paths::config_dir(&home);
        if must_be_private {
            Paths::check_config(&config)?;
        }
        let settings = Settings::read(&config)?;
        let paths = Paths::resolve(home.clone(), settings.state_dir(&home));
        if must_be_private {
            paths.check_private()?;
        }
        let backend = settings.backend(&home)?;
        let is_private = backend.is_in(&paths);
        let store = backend.open(&paths, settings.seal(&home)?, ui.wait_notice())?;
        let keys = KeyFolder::new(&paths.state);
        Ok(Self { watch: EndWatch::new(ui.clone()), is_private, ui, paths, settings, store, keys })
    }

    /// Runs what only waits for the local disk: no runtime is built.
    pub fn local<T>(&self, future: impl Future<Output = Result<T, StoreError>>) -> Result<T, CliError> {
        Ok(pollster::block_on(future)?)
    }

    /// Runs what waits for processes and the network.
    pub fn wait_for<T>(&self, future: impl Future<Output = T>) -> T {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(future),
            Err(error) => self.give_up(&error),
        }
    }

    /// Without an event queue there is nothing to wait with, here or elsewhere. [`headroom`](goloo_os::headroom) finds
    /// nearly all that it is missing for before a command begins.
    fn give_up(&self, error: &std::io::Error) -> ! {
        let hint = goloo_command::shortage_hint(error).unwrap_or("run the command again");
        self.ui.finish();
        self.ui.error(&CliError::failed("the system gives no event queue", hint).because(error));
        std::process::exit(i32::from(exit::FAILED))
    }

    /// The record of an active VM, with a warning where it had to be recovered. One of the first
    /// goloo's is migrated first.
    pub fn record(&self, name: &VmName) -> Result<Record, CliError> {
        if let Some(record) = self.recorded(name)? {
            return Ok(record);
        }
        migrate::on_demand(self, name)?;
        Ok(self.recorded(name)?.ok_or_else(|| StoreError::NotFound { name: name.clone() })?)
    }

    /// The same, without migrating: `None` where there is no record.
    pub fn recorded(&self, name: &VmName) -> Result<Option<Record>, StoreError> {
        let Some(Loaded { record, recovered }) = pollster::block_on(self.store.load(name))? else {
            return Ok(None);
        };
        if let Some(broken) = recovered {
            let text = format!("{} is broken ({}); its previous copy is used", broken.path, broken.error);
            self.ui.warning(&text);
        }
        Ok(Some(record))
    }

    /// A place that was moved away from is read as it was then: that must not be taken for today's.
    ///
    /// # Errors
    /// Of a store that isn't to be had at all: whoever asked it again would wait as long again.
    pub fn warn_of_move(&self) -> Result<(), CliError> {
        use StoreError::{Denied, NoBucket, Unreachable};
        match pollster::block_on(self.store.moved_to()) {
            Ok(None) => {}
            Ok(Some(to)) => {
                let error = CliError::from(StoreError::Moved { place: self.store.location(), to });
                self.ui.warning(&format!("{}, and may be out of date; {}", error.message, error.hint));
            }
            Err(error @ (Unreachable { .. } | Denied { .. } | NoBucket { .. })) => return Err(error.into()),
            Err(error) => self.ui.warning(&CliError::from(error).in_one_line()),
        }
        Ok(())
    }

    /// Where local VMs belong that are this state folder's.
    pub fn here(&self) -> Here {
        let (vms, keys) = (self.paths.state.join("vms"), self.keys.clone());
        Here {
            host_id: identity::host_id().into(),
            user: identity::user().into(),
            // A damaged one is nobody's: doctor says so, and so does whatever makes a VM.
            state_id: state_id::read(&self.paths.state).unwrap_or_default(),
            trust: self.trust(),
            operations: Arc::new(open_operations::Folder { path: self.paths.state.join("operations") }),
            sight: Arc::new(move |record| match record.provider {
                ProviderKind::Qemu => goloo_qemu::sight(&vms, record),
                // Multipass keeps its machines for all users; whoever logged in to one has its host key.
                _ if keys.pinned(&guest::alias(&record.id)).is_some() => Sight::Place,
                _ => Sight::NoPlace,
            }),
        }
    }

    /// The stack's folder that a record names, to be read. Anyone else who writes to a shared store can name any
    /// folder of this computer.
    pub fn trusted_source<'r>(&self, record: &'r Record) -> Option<&'r Path> {
        let folder = record.source_config_path.as_deref()?;
        let here = self.here();
        let is_claimed = self.is_private && record.claims_to_be_from(&here);
        let is_own = here.created(record) || (is_claimed && here.trust.is_trusted(record));
        is_own.then_some(folder)
    }

    /// Whether others write records here too. Nothing that a record names is deleted unasked then.
    pub fn is_shared(&self) -> bool {
        !self.is_private
    }

    /// Who makes a VM here. The state folder gets its id and its key, where it has none.
    pub fn creator(&self) -> Result<Creator, CliError> {
        state_id::ensure_key(&self.paths.state)?;
        Ok(identity::creator(Some(state_id::ensure(&self.paths.state)?)))
    }

    /// The provider that made a VM, to do something with its machine. What belongs elsewhere is refused before
    /// anything is looked at; the engine decides again under the lock.
    pub fn provider_of(&self, record: &Record) -> Result<Box<dyn Provider>, CliError> {
        self.expect_here([record])?;
        self.provider(record.provider)
    }

    /// Refuses VMs that belong to another host or state folder.
    pub fn expect_here<'r>(&self, records: impl IntoIterator<Item = &'r Record>) -> Result<(), CliError> {
        let here = self.here();
        Ok(records.into_iter().try_for_each(|record| refuse_elsewhere(record, &here))?)
    }

    /// The provider that made a VM, or is asked to.
    pub fn provider(&self, kind: ProviderKind) -> Result<Box<dyn Provider>, CliError> {
        match kind {
            ProviderKind::Qemu => Ok(Box::new(QemuProvider::new(self.qemu_settings()?))),
            ProviderKind::Multipass => Ok(Box::new(MultipassProvider::new(self.multipass_settings()?))),
            ProviderKind::Aws => self.aws_provider(),
        }
    }

    #[cfg(feature = "aws")]
    fn aws_provider(&self) -> Result<Box<dyn Provider>, CliError> {
        let settings = self.wait_for(goloo_aws::Settings::from_env());
        let settings = goloo_aws::Settings { trust: self.trust(), ..settings };
        Ok(Box::new(goloo_aws::AwsProvider::new(settings)))
    }

    #[cfg(not(feature = "aws"))]
    fn aws_provider(&self) -> Result<Box<dyn Provider>, CliError> {
        Err(CliError::new(
            exit::USAGE,
            "unsupported",
            "this goloo was built without AWS",
            "install one with it (cargo install goloo), or use --local",
        ))
    }

    /// How the QEMU provider is set up here.
    pub fn qemu_settings(&self) -> Result<goloo_qemu::Settings, CliError> {
        Ok(goloo_qemu::Settings::from_env(&self.paths.state, &self.paths.cache.join("images"))?)
    }

    /// How the Multipass provider is set up here.
    pub fn multipass_settings(&self) -> Result<goloo_multipass::Settings, CliError> {
        let settings = goloo_multipass::Settings::from_env(&self.paths.state)?;
        let mark = match self.keys.known_client_key() {
            Some(key) => goloo_multipass::Mark::Key(key.0),
            None => goloo_multipass::Mark::Nothing,
        };
        Ok(goloo_multipass::Settings { mark, trust: self.trust(), ..settings })
    }

    /// Which records providers may follow.
    fn trust(&self) -> Trust {
        let imported = imported::read(&self.paths.state);
        Trust {
            key: state_id::read_key(&self.paths.state).unwrap_or_default(),
            store_is_private: self.is_private && imported.is_some(),
            imported: imported.unwrap_or_default(),
        }
    }

    /// What `--local` means here.
    pub fn local_provider(&self) -> ProviderKind {
        local_provider(&self.settings, &self.paths)
    }

    /// The way into machines.
    pub fn guest(&self) -> SshGuest {
        SshGuest { keys: self.keys.clone() }
    }

    /// What this computer calls its VMs.
    pub fn hosts_file(&self) -> HostsFile {
        HostsFile::from_env(self.ui.clone())
    }

    /// Does an operation with signals watched.
    pub fn operate<T, F: AsyncFnOnce(Engine<'_>) -> T>(
        &self,
        provider: &dyn Provider,
        limit: Duration,
        what_may_be_left: &str,
        operation: F,
    ) -> Result<T, CliError> {
        let interrupt = self.watch_signals(what_may_be_left)?;
        if let Ok(None) = state_id::read_key(&self.paths.state) {
            // Without a key nothing is proven, and resume asks: a folder that can't be written is no reason to refuse.
            let _ = state_id::ensure_key(&self.paths.state);
        }
        let (guest, rescue) = (self.guest(), Folders { home: self.paths.home.clone() });
        let host_names = self.hosts_file();
        let (owner, here): (Owner, Here) = (identity::owner(), self.here());
        let engine = Engine {
            store: &*self.store,
            provider,
            guest: &guest,
            host_names: &host_names,
            events: &self.ui,
            interrupt,
            rescue: &rescue,
            owner: &owner,
            here: &here,
            limit,
            follow_log: self.ui.verbose() > 0,
        };
        let result = self.wait_for(operation(engine));
        self.ui.finish();
        Ok(result)
    }
}

/// The user's wish to stop. First signal: stop after the call under way. Second: leave at once.
struct EndWatch {
    ui: Ui,
    interrupt: Interrupt,
    what_may_be_left: Arc<Mutex<String>>,
}

impl EndWatch {
    fn new(ui: Ui) -> Self {
        Self { ui, interrupt: Interrupt::default(), what_may_be_left: Arc::default() }
    }
}

impl App {
    /// Watches for Ctrl-C, SIGTERM and SIGHUP from now on. `what_may_be_left` is said when the user leaves at once.
    pub fn watch_signals(&self, what_may_be_left: &str) -> Result<&Interrupt, CliError> {
        let watch = &self.watch;
        *lock(&watch.what_may_be_left) = what_may_be_left.to_owned();
        let (ui, interrupt, left) =
            (watch.ui.clone(), watch.interrupt.clone(), Arc::clone(&watch.what_may_be_left));
        signals::watch(move |signal| {
            let (ui, is_first) = (ui.clone(), interrupt.raise());
            if is_first {
                let signal = signal.name();
                let text =
                    format!("{signal}: stopping after the call under way; Ctrl-C again to leave at once");
                signals::tell(move || ui.note(&text));
                return;
            }
            let left = lock(&left).clone();
            signals::tell(move || {
                ui.finish();
                ui.warning(&left);
            });
            signals::leave(exit::INTERRUPTED);
        })
        .map_err(|error| {
            CliError::failed("can't watch for signals", "run the command again").because(&error)
        })?;
        Ok(&watch.interrupt)
    }
}

fn lock(text: &Mutex<String>) -> std::sync::MutexGuard<'_, String> {
    text.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
