//! Checks this computer, the store, and all records with their machines.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use goloo_model::check::Check;
use goloo_model::name::VmName;
use goloo_model::record::Phase;
use goloo_model::store::Broken;
use rustix::fs::Access;

use super::refresh::RefreshReport;
use crate::error::Error;
use crate::session::Session;
use crate::{observe, state_id};

/// The result of one check.
pub enum Diagnosis {
    /// What was checked, and what to do if something is wrong.
    Check(Check),
    /// A check that can't run; the other results are still useful.
    Failed(Error),
    /// An operation on a VM is in progress or was interrupted.
    Unfinished {
        /// The VM.
        name: VmName,
        /// Its phase.
        phase: Phase,
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
            checks.extend(self.wait_for(factory.doctor(&context))??);
        }
        Ok(checks)
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
        let unfinished = listing.entries.iter().filter(|vm| vm.operation.is_some());
        results.extend(unfinished.map(|vm| Diagnosis::Unfinished { name: vm.name.clone(), phase: vm.phase }));
        let names: Vec<VmName> = listing.entries.iter().map(|vm| vm.name.clone()).collect();
        results.push(Diagnosis::Machines(Box::new(self.compare(listing))));
        for name in names {
            let loaded = self.local(self.store.load(&name))?;
            if let Some(broken) = loaded.and_then(|loaded| loaded.recovered) {
                results.push(Diagnosis::Recovered { name, broken });
            }
        }
        Ok(results)
    }
}

fn as_findings(findings: Vec<Check>) -> Vec<Diagnosis> {
    findings.into_iter().map(Diagnosis::Check).collect()
}

fn or_failed(results: Result<Vec<Diagnosis>, Error>) -> Vec<Diagnosis> {
    results.unwrap_or_else(|error| vec![Diagnosis::Failed(error)])
}
