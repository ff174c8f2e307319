//! The session: folders, settings, store, providers, and the engine.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use goloo_engine::refuse_elsewhere;
use goloo_model::events::{Event, Events};
use goloo_model::guest;
use goloo_model::name::VmName;
use goloo_model::provider::{Provider, ProviderContext, ProviderFactory};
use goloo_model::provider_id::ProviderId;
use goloo_model::provider_info::ProviderInfo;
use goloo_model::record::{Creator, LocalContext, MachineLocation, Record, Trust};
use goloo_model::store::{Loaded, Store, StoreError};
use goloo_store::{Options, RecordCheck, Seal, WaitNotice};
use tokio::runtime::Runtime;

use crate::backend::Backend;
use crate::checked_store::{CheckedStore, RecordChanges};
use crate::error::Error;
use crate::hosts::HostsFile;
use crate::paths::{self, Paths};
use crate::providers::Providers;
use crate::settings::Settings;
use crate::ssh::{KeptConnections, KeyFolder, SshError, SshGuest};
use crate::{identity, imported, open_operations, state_id};

/// A user's session: opened once, then used for any number of actions, one after the other.
pub struct Session {
    /// The folders for state, settings and cache.
    pub paths: Paths,
    /// `settings.json`.
    pub settings: Settings,
    /// A provider of machines.
    pub providers: Providers,
    /// The records.
    pub store: Box<dyn Store>,
    /// goloo's own SSH keys.
    pub keys: KeyFolder,
    /// SSH connections that are kept for the next command.
    pub connections: KeptConnections,
    /// The receiver of notes, warnings and progress.
    pub events: Arc<dyn Events>,
    /// Whether this session changed records.
    pub(crate) changes: RecordChanges,
    /// Whether the records are in the state folder, which only this user can write.
    is_private: bool,
    runtime: OnceLock<Runtime>,
}

/// Whether the folders have to belong to this user alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Privacy {
    Checked,
    /// For a command that runs as root in a user's home and gives every file it creates to that user.
    Unchecked,
}

/// Reports as events when the store waits for a lock.
pub fn wait_notice(events: &Arc<dyn Events>) -> WaitNotice {
    let events = Arc::clone(events);
    WaitNotice::new(move |lock| events.event(Event::WaitingForLock { path: lock.to_owned() }))
}

/// How a store is opened here: what waits is reported as an event, and providers check the records.
fn store_options(seal: Seal, events: &Arc<dyn Events>, providers: &Providers) -> Options {
    let providers = providers.clone();
    let record_check = RecordCheck::new(move |record| providers.check(record));
    Options { seal, on_wait: wait_notice(events), record_check, ..Options::default() }
}

impl Session {
    /// Opens what the environment and `settings.json` name, with these providers. Nothing is written.
    ///
    /// # Errors
    /// When a folder isn't private, the settings can't be used, or the store can't be opened.
    pub fn open(events: Arc<dyn Events>, providers: Providers) -> Result<Self, Error> {
        Self::open_with(events, providers, Privacy::Checked)
    }

    /// Like [`Self::open`], but for a program that runs as root in a user's home and gives its files to that user:
    /// folder owners are not checked.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_for_root(events: Arc<dyn Events>, providers: Providers) -> Result<Self, Error> {
        Self::open_with(events, providers, Privacy::Unchecked)
    }

    fn open_with(events: Arc<dyn Events>, providers: Providers, privacy: Privacy) -> Result<Self, Error> {
        let home = paths::home()?;
        let config = Paths::config_dir(&home);
        if privacy == Privacy::Checked {
            Paths::check_config(&config)?;
        }
        let settings = Settings::read(&config)?;
        let paths = Paths::resolve(home.clone(), settings.state_dir(&home));
        if privacy == Privacy::Checked {
            paths.check_private()?;
        }
        let backend = settings.backend(&home)?;
        let is_private = backend.is_private(&paths);
        let open = match privacy {
            Privacy::Checked => Backend::open,
            Privacy::Unchecked => Backend::open_unchecked,
        };
        let options = store_options(settings.seal(&home)?, &events, &providers);
        let store = open(&backend, &paths, options)?;
        let changes = RecordChanges::default();
        let store = Box::new(CheckedStore::new(store, providers.clone(), changes.clone()));
        let keys = KeyFolder::new(&paths.state);
        Ok(Self {
            paths,
            settings,
            providers,
            store,
            keys,
            connections: KeptConnections::from_env(),
            events,
            changes,
            is_private,
            runtime: OnceLock::new(),
        })
    }

    pub(crate) fn store_options(&self, seal: Seal) -> Options {
        store_options(seal, &self.events, &self.providers)
    }

    /// With these parts, in this folder.
    #[cfg(test)]
    pub(crate) fn for_test(folder: &Path, providers: Providers, store: Box<dyn Store>) -> Self {
        let at = |name: &str| folder.join(name);
        let paths = Paths { state: at("state"), config: at("config"), cache: at("cache"), home: at("home") };
        Self {
            keys: KeyFolder::new(&paths.state),
            connections: KeptConnections::in_folder(at("connections")),
            paths,
            settings: Settings::default(),
            providers,
            store,
            events: Arc::new(goloo_model::events::NoEvents),
            changes: RecordChanges::default(),
            is_private: true,
            runtime: OnceLock::new(),
        }
    }

    /// Reports a note.
    pub fn note(&self, text: impl Into<String>) {
        self.events.event(Event::Note(text.into()));
    }

    /// Reports a warning.
    pub fn warn(&self, text: impl Into<String>) {
        self.events.event(Event::Warning(text.into()));
    }

    /// Runs a future that only waits for the local disk: no runtime is built.
    ///
    /// # Errors
    /// Errors of the store.
    pub fn local<T>(&self, future: impl Future<Output = Result<T, StoreError>>) -> Result<T, Error> {
        Ok(pollster::block_on(future)?)
    }

    /// Runs a future that waits for processes and the network, on the runtime of this session.
    ///
    /// # Errors
    /// [`Error::NoEventQueue`]. [`headroom`](goloo_sys::headroom) detects nearly all of its causes beforehand.
    pub fn wait_for<T>(&self, future: impl Future<Output = T>) -> Result<T, Error> {
        if self.runtime.get().is_none() {
            let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let _ = self.runtime.set(built.map_err(Error::NoEventQueue)?);
        }
        Ok(self.runtime.get().expect("it was set above").block_on(future))
    }

    /// The record of an active VM, with a warning where it had to be recovered; `None` where there is none.
    ///
    /// # Errors
    /// Errors of the store.
    pub fn recorded(&self, name: &VmName) -> Result<Option<Record>, StoreError> {
        let Some(Loaded { record, recovered }) = pollster::block_on(self.store.load(name))? else {
            return Ok(None);
        };
        if let Some(broken) = recovered {
            self.warn(format!("{} is broken ({}); its previous copy is used", broken.path, broken.error));
        }
        Ok(Some(record))
    }

    /// The store that the records were moved to, when this one is marked as moved.
    ///
    /// # Errors
    /// When the store is unavailable. All other errors are reported as warnings.
    pub fn moved_to(&self) -> Result<Option<String>, Error> {
        use StoreError::{Denied, Misconfigured, NoBucket, NotInBuild, Unreachable};
        match pollster::block_on(self.store.moved_to()) {
            Ok(to) => Ok(to),
            Err(
                error @ (Unreachable { .. }
                | Denied { .. }
                | NoBucket { .. }
                | Misconfigured { .. }
                | NotInBuild { .. }),
            ) => Err(error.into()),
            Err(error) => {
                self.warn(Error::from(error).in_one_line());
                Ok(None)
            }
        }
    }

    /// Refuses a record whose VM isn't the one previously reached under this name, unless that one was deleted or renamed: anyone
    /// with write access to the store can replace the id together with the address and the host key.
    ///
    /// # Errors
    /// [`SshError::OtherVm`].
    pub fn expect_same_vm(&self, record: &Record) -> Result<(), Error> {
        if self.trust().is_trusted(record) {
            return Ok(());
        }
        let own = guest::alias(&record.id);
        let mut known = self.keys.pinned_for(&record.name);
        known.retain(|alias| *alias != own);
        if known.is_empty() {
            return Ok(());
        }
        let archive = self.local(self.store.archive_list())?;
        let mut former: BTreeSet<String> =
            archive.entries.iter().map(|archived| guest::alias(&archived.record.id)).collect();
        let renamed = self.local(self.store.list())?.entries.into_iter().filter(|vm| vm.name != record.name);
        former.extend(renamed.map(|vm| guest::alias(&vm.id)));
        match known.iter().find(|alias| !former.contains(*alias)) {
            Some(alias) => {
                Err(SshError::OtherVm { name: record.name.clone(), path: self.keys.known_hosts(alias) }
                    .into())
            }
            None => Ok(()),
        }
    }

    /// The host and the state folder that local VMs are compared with, to decide whether they belong here.
    pub fn here(&self) -> LocalContext {
        let (context, providers, keys) =
            (self.context_without_key(), self.providers.clone(), self.keys.clone());
        let is_pinned = move |record: &Record| keys.pinned(&guest::alias(&record.id)).is_some();
        LocalContext {
            host_id: identity::host_id().into(),
            user: identity::user().into(),
            // A damaged id counts as none: `doctor` and every create report it.
            state_id: state_id::read(&self.paths.state).unwrap_or_default(),
            trust: context.trust.clone(),
            operations: Arc::new(open_operations::Folder { path: self.paths.state.join("operations") }),
            locate: Arc::new(move |record| {
                let own = providers.get(record.provider).and_then(|factory| factory.locate(&context, record));
                own.unwrap_or_else(|| {
                    // Such machines are for all users; a user who logged in to one has its host key.
                    if is_pinned(record) { MachineLocation::Place } else { MachineLocation::NoPlace }
                })
            }),
        }
    }

    /// The stack folder that a record names, if it may be read. In a shared store, others can name any folder of this
    /// computer.
    pub fn trusted_source<'r>(&self, record: &'r Record) -> Option<&'r Path> {
        let folder = record.source_config_path.as_deref()?;
        let here = self.here();
        let is_claimed = self.is_private && record.claims_to_be_from(&here);
        let is_own = here.created(record) || (is_claimed && here.trust.is_trusted(record));
        is_own.then_some(folder)
    }

    /// Whether others write to this store too. If so, nothing that a record names is deleted without confirmation.
    pub fn is_shared(&self) -> bool {
        !self.is_private
    }

    /// The creator for new VMs. Creates the state folder's id and key when there are none.
    ///
    /// # Errors
    /// When they can't be read or written.
    pub fn creator(&self) -> Result<Creator, Error> {
        state_id::ensure_key(&self.paths.state)?;
        Ok(identity::creator(Some(state_id::ensure(&self.paths.state)?)))
    }

    /// The provider of a VM, for an action on its machine. VMs that belong elsewhere are refused before the provider is
    /// queried; the engine checks again under the lock.
    ///
    /// # Errors
    /// As [`Self::expect_here`] and [`Self::provider`].
    pub fn provider_of(&self, record: &Record) -> Result<Box<dyn Provider>, Error> {
        self.expect_here([record])?;
        self.provider(record.provider)
    }

    /// Refuses VMs that belong to another host or state folder.
    ///
    /// # Errors
    /// [`EngineError::Elsewhere`](goloo_engine::EngineError::Elsewhere).
    pub fn expect_here<'r>(&self, records: impl IntoIterator<Item = &'r Record>) -> Result<(), Error> {
        let here = self.here();
        Ok(records.into_iter().try_for_each(|record| refuse_elsewhere(record, &here))?)
    }

    /// The provider of an existing or a new VM.
    ///
    /// # Errors
    /// When its settings are wrong, or this goloo was built without it.
    pub fn provider(&self, id: ProviderId) -> Result<Box<dyn Provider>, Error> {
        self.wait_for(self.open_provider(id))?
    }

    /// The same for code that runs on this session's runtime.
    pub(crate) async fn open_provider(&self, id: ProviderId) -> Result<Box<dyn Provider>, Error> {
        Ok(self.factory(id)?.open(&self.context()).await?)
    }

    /// What the provider is.
    ///
    /// # Errors
    /// [`Error::NoProvider`].
    pub fn provider_info(&self, id: ProviderId) -> Result<&'static ProviderInfo, Error> {
        Ok(self.factory(id)?.info())
    }

    fn factory(&self, id: ProviderId) -> Result<&dyn ProviderFactory, Error> {
        self.providers.get(id).ok_or_else(|| Error::NoProvider { id, known: self.providers.ids() })
    }

    /// What providers are opened with.
    pub fn context(&self) -> ProviderContext {
        let client_key = self.keys.known_client_key().map(|key| key.0);
        ProviderContext { client_key, ..self.context_without_key() }
    }

    /// The same where nothing is asked of machines; reading the key takes time.
    fn context_without_key(&self) -> ProviderContext {
        ProviderContext { trust: self.trust(), ..self.paths.context() }
    }

    /// The settings of the QEMU provider, whose cache of images other commands work with, too.
    ///
    /// # Errors
    /// When a variable of the environment can't be used.
    pub fn qemu_settings(&self) -> Result<goloo_qemu::Settings, Error> {
        Ok(goloo_qemu::Settings::in_context(&self.context())?)
    }

    /// Which records providers may trust.
    fn trust(&self) -> Trust {
        let imported = imported::read(&self.paths.state);
        Trust {
            key: state_id::read_key(&self.paths.state).unwrap_or_default(),
            store_is_private: self.is_private && imported.is_some(),
            imported: imported.unwrap_or_default(),
        }
    }

    /// The provider of local VMs here: from the settings, else the one that the providers themselves agree on.
    ///
    /// # Errors
    /// [`Error::NoLocalProvider`] when this program has none.
    pub fn local_provider(&self) -> Result<ProviderId, Error> {
        self.settings.local_provider_of(&self.providers, &self.paths)
    }

    /// SSH access to machines.
    pub fn guest(&self) -> SshGuest {
        SshGuest { keys: self.keys.clone(), connections: self.connections.clone() }
    }

    /// This computer's hosts file.
    pub fn hosts_file(&self) -> HostsFile {
        HostsFile::from_env(Arc::clone(&self.events))
    }
}
