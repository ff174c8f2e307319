//! Checks this computer, the store, and all records with their machines.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use goloo_model::check::{Check, CheckLevel};
use goloo_model::name::VmName;
use goloo_model::provider_id::ProviderId;
use goloo_model::record::{OperationKind, Owner};
use goloo_model::store::{Broken, Summary};
use rustix::fs::Access;

use super::refresh::RefreshReport;
use super::watch::{self, OperationState, WatchedOperation};
use crate::error::Error;
use crate::session::Session;
use crate::{identity, observe, state_id};

/// The result of one check.
pub enum Diagnosis {
    /// What was checked, and what to do if something is wrong.
    Check(Check),
    /// A check that can't run; the other results are still useful.
    Failed(Error),
    /// An operation on a VM is in progress.
    InProgress {
        /// The VM.
        name: VmName,
        /// What is done to it.
        kind: OperationKind,
        /// The process that does it, if known.
        owner: Option<Owner>,
    },
    /// An operation on a VM was interrupted.
    Interrupted {
        /// The VM.
        name: VmName,
        /// What was done to it.
        kind: OperationKind,
    },
    /// The records and the machines.
    Machines(Box<RefreshReport>),
    /// A broken record whose previous copy is used.
    Recovered {
        /// The VM.
        name: VmName,
        /// What is broken.
        broken: Broken,
    },
}

impl Session {
    /// Runs all checks.
    pub fn diagnose(&self) -> Vec<Diagnosis> {
        let mut results = or_failed(self.check_tools());
        results.extend(or_failed(self.check_providers(false).map(as_findings)));
        results.push(Diagnosis::Check(self.check_state_folder()));
        results.extend(state_id::read(&self.paths.state).err().map(Diagnosis::Failed));
        results.extend(state_id::read_key(&self.paths.state).err().map(Diagnosis::Failed));
        results.extend(or_failed(self.check_store()));
        results.extend(or_failed(self.check_records()));
        results
    }

    /// What providers need on this computer, and the SSH client.
    fn check_tools(&self) -> Result<Vec<Diagnosis>, Error> {
        let mut findings = self.check_providers(true)?;
        findings.push(match Command::new("ssh").arg("-V").output() {
            Ok(output) => Check::ok(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Check::failed(
                format!("ssh can't be run: {error}"),
                goloo_command::shortage_hint(&error)
                    .unwrap_or("install the OpenSSH client (Debian: apt-get install openssh-client)"),
            ),
        });
        Ok(as_findings(findings))
    }

    /// The checks of the providers whose machines belong to one host, or of the others.
    fn check_providers(&self, host_bound: bool) -> Result<Vec<Check>, Error> {
        let context = self.context();
        let mut checks = Vec::new();
        for factory in self.providers.iter().filter(|one| one.info().is_host_bound() == host_bound) {
            let found = self.wait_for(factory.doctor(&context))??;
            let is_absent = found.iter().all(|check| check.level == CheckLevel::Absent);
            match is_absent && self.needs_provider(factory.info().id) {
                true => checks.extend(found.into_iter().map(Check::needed)),
                false => checks.extend(found),
            }
        }
        Ok(checks)
    }

    /// Whether local VMs are created with this provider, or some that were created here have their machines there.
    fn needs_provider(&self, id: ProviderId) -> bool {
        let host_id = identity::host_id();
        let is_here = |vm: &Summary| vm.provider == id && vm.host_bound && *vm.created_by.host_id == *host_id;
        let has_vms =
            || self.local(self.store.list()).is_ok_and(|listing| listing.entries.iter().any(is_here));
        self.local_provider().is_ok_and(|local| local == id) || has_vms()
    }

    fn check_state_folder(&self) -> Check {
        let state = &self.paths.state;
        let shown = state.display();
        match std::fs::metadata(state) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Check::ok(format!("state will be stored in {shown}, which is created on first use"))
            }
            Err(error) => Check::failed(
                format!("{shown} can't be read: {error}"),
                format!("check who owns it: ls -ld {shown}"),
            ),
            Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => Check::failed(
                format!("{shown} can be read by other users, and cloud-init files contain secrets"),
                format!("chmod 700 {shown}"),
            ),
            Ok(_) => match rustix::fs::access(state, Access::WRITE_OK | Access::EXEC_OK) {
                Ok(()) => Check::ok(format!("state is stored in {shown}")),
                Err(error) => Check::failed(
                    format!("{shown} can't be written, so VMs can only be listed: {error}"),
                    format!("check who owns it: ls -ld {shown}; or set GOLOO_STATE_DIR to another folder"),
                ),
            },
        }
    }

    /// Checks of the store when it isn't the state folder.
    fn check_store(&self) -> Result<Vec<Diagnosis>, Error> {
        let (home, paths) = (&self.paths.home, &self.paths);
        let (backend, seal) = (self.settings.backend(home)?, self.settings.seal(home)?);
        Ok(as_findings(self.wait_for(backend.examine(paths, seal))??))
    }

    fn check_records(&self) -> Result<Vec<Diagnosis>, Error> {
        let listing = observe::records(self)?;
        let count = Check::ok(format!("VM records: {}", listing.entries.len()));
        let mut results = vec![Diagnosis::Check(count)];
        let operations = self.local(watch::operations(self, &listing.entries))?;
        let names: Vec<VmName> = listing.entries.iter().map(|vm| vm.name.clone()).collect();
        let mut report = self.compare(listing);
        // What a machine lacks while it is created or deleted is nothing to fix.
        report.observed.retain(|vm| {
            !operations.iter().any(|(name, one)| *name == vm.record.name && one.is_in_progress())
        });
        results.extend(operations.into_iter().map(|(name, operation)| operation_result(name, operation)));
        results.push(Diagnosis::Machines(Box::new(report)));
        for name in names {
            let loaded = self.local(self.store.load(&name))?;
            if let Some(broken) = loaded.and_then(|loaded| loaded.recovered) {
                results.push(Diagnosis::Recovered { name, broken });
            }
        }
        Ok(results)
    }
}

fn operation_result(name: VmName, operation: WatchedOperation) -> Diagnosis {
    let WatchedOperation { kind, state } = operation;
    match state {
        OperationState::InProgress(owner) => Diagnosis::InProgress { name, kind, owner },
        OperationState::Interrupted => Diagnosis::Interrupted { name, kind },
    }
}

fn as_findings(findings: Vec<Check>) -> Vec<Diagnosis> {
    findings.into_iter().map(Diagnosis::Check).collect()
}

fn or_failed(results: Result<Vec<Diagnosis>, Error>) -> Vec<Diagnosis> {
    results.unwrap_or_else(|error| vec![Diagnosis::Failed(error)])
}
