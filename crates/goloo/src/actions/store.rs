//! The store of the records: what is in it, its locks, and transfers from and to it.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use goloo_engine::Interrupt;
use goloo_model::name::VmName;
use goloo_model::record::OperationKind;
use goloo_model::store::{Broken, HeldLock, Store};
use goloo_model::time::Timestamp;

use crate::backend::Backend;
use crate::error::Error;
use crate::session::Session;
use crate::transfer::bundle::{BackupBundle, ClientKey};
use crate::transfer::{self, Conflict, Move, StoreContents, TransferError, UNFINISHED, document};
use crate::{files, identity, imported, settings};

/// What is in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreStatus {
    /// The kind of store: `dir`, `sqlite`, …
    pub backend: &'static str,
    /// Its address, as in the settings.
    pub address: String,
    /// Where it is, for people.
    pub location: String,
    /// How many active VMs it has.
    pub vms: usize,
    /// How many of them have an unfinished operation.
    pub unfinished: usize,
    /// How many deleted VMs it has.
    pub archived: usize,
    /// The paths of records that can't be read.
    pub broken: Vec<String>,
    /// The VMs that are locked.
    pub locks: Vec<VmName>,
    /// The store that the records were moved to.
    pub moved_to: Option<String>,
    /// The size of its files in bytes; `None` where it has none on this computer.
    pub bytes: Option<u64>,
}

/// A VM's lock, and the operation that may still be running at its provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockStatus {
    /// The lock.
    pub held: HeldLock,
    /// The VM's unfinished operation.
    pub operation: Option<OperationKind>,
}

/// Everything in a store.
pub struct Export {
    /// The readable records.
    pub contents: StoreContents,
    /// Records that can't be read, and those whose previous copy is in `contents`.
    pub broken: Vec<Broken>,
}

impl Export {
    /// Whether the contents have the previous copy of a broken record.
    pub fn has_recovered(&self, broken: &Broken) -> bool {
        self.contents.vms.iter().any(|vm| vm.record.name.as_str() == broken.name)
    }

    /// As one JSON document.
    pub fn to_json(&self) -> Vec<u8> {
        document::to_json(&self.contents)
    }
}

/// A backup that was made.
pub struct Backup {
    /// The records.
    pub export: Export,
    /// Why it doesn't have goloo's client key, if there is a file that should have been one.
    pub invalid_key: Option<(PathBuf, String)>,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// A backup that can be restored.
pub struct PlannedRestore {
    bundle: BackupBundle,
    there: StoreContents,
    /// The records that aren't in the store yet.
    pub missing: Vec<String>,
    /// What happens with the backup's client key.
    pub key: KeyRestore,
}

/// What a restore does with the client key of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRestore {
    /// There is none, or it is the key that is here.
    Nothing,
    /// It is installed, since there is none here. The user should agree: the key of somebody else would give them access
    /// to each VM that is created from now on.
    Install(ClientKey),
    /// The key that is here is kept.
    Keep {
        /// The file of the key that is here.
        path: PathBuf,
        /// The fingerprint of the backup's key.
        fingerprint: String,
    },
}

/// A move of the records to another store that has not begun.
pub struct PlannedMove {
    backend: Backend,
    target: Box<dyn Store>,
    /// Whether the address is that of the store in use. Then [`Session::move_store`] isn't to be called, but a mark that
    /// is left from an unfinished move can be removed.
    pub is_current: bool,
    /// The service that the records and the user's credentials would be sent to, where it isn't the one of the store in
    /// use. The address may come from a mark, and anyone who can write to the store can write marks.
    pub new_endpoint: Option<String>,
}

/// A move that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// How many records were moved.
    pub count: String,
    /// Where they are now.
    pub location: String,
    /// The address of that store.
    pub address: String,
    /// The variable that names the store in use: the settings were not changed.
    pub variable: Option<&'static str>,
}

impl Session {
    /// What is in the store.
    ///
    /// # Errors
    /// As the store's.
    pub fn store_status(&self) -> Result<StoreStatus, Error> {
        let backend = self.settings.backend(&self.paths.home)?;
        let files = backend.files(&self.paths);
        let (list, archive, locks, moved_to) = self.wait_for(async {
            let list = self.store.list().await?;
            let archive = self.store.archive_list().await?;
            Ok::<_, Error>((list, archive, self.store.locks().await?, self.store.moved_to().await?))
        })??;
        Ok(StoreStatus {
            backend: backend.kind(),
            address: backend.to_string(),
            location: self.store.location(),
            vms: list.entries.len(),
            unfinished: list.entries.iter().filter(|vm| vm.operation).count(),
            archived: archive.entries.len(),
            broken: list.broken.into_iter().chain(archive.broken).map(|broken| broken.path).collect(),
            locks: locks.into_iter().map(|held| held.name).collect(),
            moved_to,
            bytes: (!files.is_empty()).then(|| files.iter().map(|path| size(path)).sum()),
        })
    }

    /// The VMs that are locked.
    ///
    /// # Errors
    /// As the store's.
    pub fn locks(&self) -> Result<Vec<HeldLock>, Error> {
        Ok(self.wait_for(self.store.locks())??)
    }

    /// A VM's lock; `None` when it isn't locked.
    ///
    /// # Errors
    /// As the store's.
    pub fn lock_status(&self, name: &VmName) -> Result<Option<LockStatus>, Error> {
        let Some(held) = self.locks()?.into_iter().find(|held| held.name == *name) else { return Ok(None) };
        let loaded = self.wait_for(self.store.load(name))?.ok().flatten();
        let operation = loaded.and_then(|loaded| loaded.record.operation).map(|operation| operation.kind);
        Ok(Some(LockStatus { held, operation }))
    }

    /// Breaks a VM's lock: its holder can no longer save changes.
    ///
    /// # Errors
    /// [`StoreError::Unbreakable`](goloo_model::store::StoreError::Unbreakable) for one without a lease.
    pub fn break_lock(&self, name: &VmName) -> Result<(), Error> {
        self.wait_for(self.store.break_lock(name))??;
        Ok(())
    }

    /// All records and the archive.
    ///
    /// # Errors
    /// As the store's. Broken records are no error.
    pub fn export(&self) -> Result<Export, Error> {
        let (contents, broken) = self.wait_for(transfer::read(&*self.store))??;
        Ok(Export { contents, broken })
    }

    /// A backup of the records, the archive and goloo's client key.
    ///
    /// # Errors
    /// As the store's, and when the key's file can't be read.
    pub fn backup(&self) -> Result<Backup, Error> {
        let export = self.export()?;
        let path = self.keys.identity();
        let key = files::read_own(&path).map_err(|error| Error::cannot("read", &path, error))?;
        let (client_key, invalid_key) = match key.map(|key| ClientKey::parse(&key)).transpose() {
            Ok(key) => (key, None),
            Err(reason) => (None, Some((path, reason))),
        };
        let bundle = BackupBundle {
            created_at: Timestamp::now(),
            from: self.store.location(),
            contents: export.contents,
            client_key,
        };
        let bytes = bundle.to_bytes().map_err(|reason| TransferError::NoBackup { reason })?;
        Ok(Backup { export: Export { contents: bundle.contents, broken: export.broken }, invalid_key, bytes })
    }

    /// Checks what a restore of a backup would do. Nothing is written.
    ///
    /// # Errors
    /// [`TransferError::BackupConflicts`]; errors of the store.
    pub fn plan_restore(&self, bundle: BackupBundle) -> Result<PlannedRestore, Error> {
        let (there, _) = self.wait_for(transfer::read(&*self.store))??;
        let mut conflicts = transfer::conflicts(&bundle.contents, &there);
        conflicts.extend(self.not_importable(&bundle.contents, &there));
        if !conflicts.is_empty() {
            return Err(TransferError::BackupConflicts { conflicts }.into());
        }
        let missing = transfer::missing(&bundle.contents, &there);
        let key = self.key_restore(bundle.client_key.as_ref())?;
        Ok(PlannedRestore { bundle, there, missing, key })
    }

    /// A backup's client key is installed when there is none here; an existing key is kept.
    fn key_restore(&self, key: Option<&ClientKey>) -> Result<KeyRestore, Error> {
        let Some(key) = key else { return Ok(KeyRestore::Nothing) };
        let path = self.keys.identity();
        let known = files::read_own(&path).map_err(|error| Error::cannot("read", &path, error))?;
        Ok(match known {
            None => KeyRestore::Install(key.clone()),
            Some(known) if known == key.private.expose().as_bytes() => KeyRestore::Nothing,
            Some(_) => KeyRestore::Keep { path, fingerprint: key.fingerprint.clone() },
        })
    }

    /// Writes the records of a backup, and its client key when it is to be installed. Returns how many records the
    /// backup has.
    ///
    /// # Errors
    /// As the store's, and when a file can't be written.
    pub fn restore(&self, planned: &PlannedRestore) -> Result<String, Error> {
        if let KeyRestore::Install(key) = &planned.key {
            let path = self.keys.identity();
            files::write_new(&path, key.private.expose().as_bytes())
                .map_err(|error| Error::cannot("write", &path, error))?;
        }
        let contents = &planned.bundle.contents;
        self.note_imported(contents)?;
        let owner = identity::owner();
        self.wait_for(transfer::write(contents, &planned.there, &*self.store, &owner))??;
        Ok(contents.count())
    }

    /// Writes the records of a document into the store. `force` overwrites newer records of the same VMs. Returns how
    /// many records the document has.
    ///
    /// # Errors
    /// [`TransferError::DocumentConflicts`]; errors of the store.
    pub fn import(&self, mut contents: StoreContents, force: bool) -> Result<String, Error> {
        let (there, _) = self.wait_for(transfer::read(&*self.store))??;
        let mut conflicts = transfer::conflicts(&contents, &there);
        conflicts.extend(self.not_importable(&contents, &there));
        let newer: Vec<_> = conflicts.extract_if(.., |conflict| force && conflict.is_newer()).collect();
        if !conflicts.is_empty() {
            return Err(TransferError::DocumentConflicts { conflicts }.into());
        }
        let count = contents.count();
        self.note_imported(&contents)?;
        self.wait_for(async {
            force_older(&mut contents, &newer, &*self.store).await?;
            // Records that are the same there need no lock.
            let vms = contents.without(&there).vms;
            let contents = StoreContents { vms, ..contents };
            Ok::<_, Error>(transfer::write(&contents, &there, &*self.store, &identity::owner()).await?)
        })??;
        Ok(count)
    }

    /// The records of this state folder's VMs that an import would replace or archive without proof that it may, and
    /// those that their providers refuse.
    fn not_importable(&self, contents: &StoreContents, there: &StoreContents) -> Vec<Conflict> {
        let here = self.here();
        let mut conflicts = transfer::displaced(contents, there, |record| here.created(record));
        conflicts.extend(transfer::refused_by_providers(contents, &self.providers));
        conflicts
    }

    fn note_imported(&self, contents: &StoreContents) -> Result<(), Error> {
        imported::note(&self.paths.state, &self.here(), &*self.events, contents.records())
    }

    /// Opens the store at this address, to move the records there. Nothing is written.
    ///
    /// # Errors
    /// When it is no address, or the store can't be opened.
    pub fn plan_move(&self, address: &str) -> Result<PlannedMove, Error> {
        let (home, paths) = (&self.paths.home, &self.paths);
        let backend = Backend::parse(address)?;
        let target = backend.open(paths, self.store_options(self.settings.seal(home)?))?;
        let current = self.settings.backend(home)?;
        let endpoint = backend.endpoint().filter(|endpoint| current.endpoint() != Some(*endpoint));
        let new_endpoint = endpoint.map(ToString::to_string);
        let is_current = backend.clone().with_paths(paths) == current.clone().with_paths(paths);
        Ok(PlannedMove { backend, target, is_current, new_endpoint })
    }

    /// Whether the store in use is marked as moved to that place. A store that is unavailable reports so when it is
    /// moved.
    pub fn is_marked_as(&self, planned: &PlannedMove) -> bool {
        let mark = self.mark().ok().flatten();
        let named = mark.and_then(|mark| Backend::parse(mark.trim_end_matches(UNFINISHED)).ok());
        named.is_some_and(|named| {
            named.with_paths(&self.paths) == planned.backend.clone().with_paths(&self.paths)
        })
    }

    /// The mark of the store in use: the address that it was moved to.
    ///
    /// # Errors
    /// As the store's.
    pub fn mark(&self) -> Result<Option<String>, Error> {
        Ok(self.wait_for(self.store.moved_to())??)
    }

    /// Removes this mark from the store in use, after a move that is not to be finished.
    ///
    /// # Errors
    /// As the store's.
    pub fn remove_mark(&self, mark: &str) -> Result<(), Error> {
        Ok(self.wait_for(self.store.set_moved(Some(mark), None))??)
    }

    /// Moves all records, and names the new store in the settings, unless the environment names the store in use.
    ///
    /// # Errors
    /// [`TransferError`]; errors of the stores, and when the settings can't be written.
    pub fn move_store(&self, planned: &PlannedMove, interrupt: &Interrupt) -> Result<Moved, Error> {
        let variable = settings::place_variable();
        // A store that the environment names is not written to the settings.
        let _one_at_a_time =
            lock_moves(if variable.is_some() { &self.paths.state } else { &self.paths.config })?;
        let moving = Move {
            events: &*self.events,
            source: &*self.store,
            target: &*planned.target,
            interrupt,
            note: &|left| match self.is_shared() {
                // Others wrote there, too: in a private store their records could no longer be told apart.
                true => self.note_imported(left),
                false => Ok(()),
            },
            address: planned.backend.to_string(),
            owner: identity::owner(),
        };
        let count = self.wait_for(moving.run())??;
        if variable.is_none() {
            settings::set_state_backend(&*self.events, &self.paths.config, &planned.backend)?;
        }
        let (location, address) = (planned.target.location(), planned.backend.to_string());
        Ok(Moved { count, location, address, variable })
    }
}

/// Writes the forced records; newer ones in the archive are kept. Removes both from the remaining records.
async fn force_older(
    contents: &mut StoreContents,
    newer: &[Conflict],
    store: &dyn Store,
) -> Result<(), Error> {
    let named = |text: &str| newer.iter().any(|c| matches!(c, Conflict::Newer { name, .. } if name == text));
    for vm in contents.vms.extract_if(.., |vm| named(vm.record.name.as_str())) {
        transfer::overwrite(&vm.record, store, &identity::owner()).await?;
    }
    contents.archive.retain(|gone| !named(gone.archived.id.as_str()));
    Ok(())
}

/// Excludes other moves on this computer: each would take the other's copy for someone else's.
fn lock_moves(folder: &Path) -> Result<File, Error> {
    let path = folder.join(".state-move.lock");
    let failed = |error: io::Error| Error::cannot("lock", &path, error);
    files::ensure_folder(folder).map_err(failed)?;
    let file = goloo_sys::lock::open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(TransferError::AnotherMove.into()),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// The size of the files below a path, in bytes; unreadable ones count as 0.
fn size(path: &Path) -> u64 {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return 0 };
    if !metadata.is_dir() {
        return metadata.len();
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| size(&entry.path())).sum()
}
