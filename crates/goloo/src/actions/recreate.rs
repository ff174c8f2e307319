//! Creates a VM again from its recorded files.

use goloo_model::name::{ArchiveId, VmName};
use goloo_model::record::{AppliedSettings, Membership, Overrides, Record};
use goloo_model::spec::with_github_users;
use goloo_model::store::Snapshot;

use super::archive::ArchivedFiles;
use crate::error::{Error, RequestError};
use crate::providers::Providers;
use crate::session::Session;
use crate::stack::Found;

/// A VM that can be created again.
pub struct Recreation {
    /// The record of the VM that was created from the files.
    pub record: Record,
    /// The files.
    pub stack: Found,
    /// Whether it is proven that the VM was created with this state folder from these files. Otherwise somebody else may
    /// have written them, and the user should agree to what the new VM gets (see [`grants`](crate::grants)).
    pub is_ours: bool,
    /// What `apply` and `set` have changed since.
    pub applied: Option<AppliedSettings>,
    /// Which machine of an environment it was, if no VM is that one now.
    membership: Option<Membership>,
}

impl Recreation {
    /// The VM's overrides, unless somebody else may have written them.
    pub fn overrides(&self) -> Overrides {
        if self.is_ours { self.record.overrides.clone() } else { Overrides::default() }
    }

    /// Which machine of an environment a new VM of this name is: the same as before, unless somebody else may have
    /// written it. With another name, it is a VM of its own. Its place in the network is to be renewed.
    pub fn membership_as(&self, name: &str) -> Option<Membership> {
        self.membership.clone().filter(|_| self.is_ours && name == self.record.name.as_str())
    }

    /// The addresses that could connect to port 22 of the VM, by its record; none where its provider doesn't decide
    /// that.
    pub fn ssh_sources(&self, providers: &Providers) -> Vec<String> {
        let factory = providers.get(self.record.provider);
        factory.map(|factory| factory.ssh_blocks(&self.record)).unwrap_or_default()
    }
}

impl Session {
    /// The VM that is to be created again: `what` is an id in the archive, or the name of an active VM, else of the
    /// newest archived one.
    ///
    /// # Errors
    /// [`RequestError`] when there is no such VM or goloo has no files of it; errors of the store.
    pub fn recreation(&self, what: &str) -> Result<Recreation, Error> {
        let (record, snapshot) = self.recorded_files(what)?;
        if snapshot.files.is_empty() {
            return Err(RequestError::NoRecordedFiles { name: record.name }.into());
        }
        let is_ours = self.here().created_from(&record, &snapshot);
        let stack = Found::of_record(snapshot, &record);
        // What is wrong with the files is reported when they are used.
        let files = stack.resolved_silently(self, &record.stack, Some(record.guest_name())).ok();
        let applied = files.zip(record.resolved.as_deref()).map(|(files, vm)| {
            AppliedSettings::between(&with_github_users(files.stack, &record.github_users), vm)
        });
        let membership = self.free_membership(&record)?;
        Ok(Recreation { stack, record, is_ours, applied, membership })
    }

    fn recorded_files(&self, what: &str) -> Result<(Record, Snapshot), Error> {
        if let Ok(id) = ArchiveId::parse(what) {
            let ArchivedFiles { archived, snapshot } = self.archived_files(&id)?;
            return Ok((archived.record, snapshot));
        }
        let name = VmName::parse(what)?;
        if self.local(self.store.load(&name))?.is_some() {
            return Ok((self.record(&name)?, self.local(self.store.snapshot(&name))?));
        }
        let newest = self.local(self.store.archive_of(&name))?.entries.into_iter().next();
        let newest = newest.ok_or(RequestError::NoVm { name })?;
        Ok((newest.record, self.local(self.store.archive_snapshot(&newest.id))?))
    }
}
