//! Docker contexts of VMs.

use std::path::PathBuf;

use goloo_model::name::{VmId, VmName};
use goloo_model::record::Record;
use goloo_sys::{durable, private};

use crate::docker::{ContextOwner, Docker, context_of};
use crate::error::{DockerError, Error};
use crate::session::Session;

/// The Docker context of a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerContext {
    /// Its name.
    pub name: String,
    /// Whether it was created now.
    pub is_new: bool,
}

impl Session {
    /// Creates a Docker context for the daemon in a VM. `docker` reaches it by the name in `~/.ssh/config`. One that goloo
    /// created for an earlier VM of this name is replaced.
    ///
    /// # Errors
    /// [`DockerError`]; as [`Self::expect_host_block`].
    pub fn create_docker_context(&self, vm: &VmName) -> Result<DockerContext, Error> {
        let record = self.record(vm)?;
        let (docker, name) = (Docker::find()?, context_of(vm));
        match docker.owner(&name, &record.id)? {
            Some(ContextOwner::Vm) => return Ok(DockerContext { name, is_new: false }),
            Some(ContextOwner::Foreign) => return Err(DockerError::Foreign { context: name }.into()),
            Some(ContextOwner::OtherVm) => docker.remove(&name)?,
            None => {}
        }
        // Before the context: a delete looks for it only if there is a mark.
        self.mark_docker_context(&record)?;
        docker.create(&name, vm, &record.id)?;
        Ok(DockerContext { name, is_new: true })
    }

    /// Removes the Docker context that goloo created for a VM; returns whether there was one.
    ///
    /// # Errors
    /// [`DockerError`]; errors of the store.
    pub fn remove_docker_context(&self, vm: &VmName) -> Result<bool, Error> {
        let record = self.record(vm)?;
        let was_there = remove_own(vm, &record.id)?;
        self.unmark_docker_context(&record)?;
        Ok(was_there)
    }

    /// Removes the Docker context of a VM that no longer exists. A failure is only a warning.
    pub(crate) fn forget_docker_context(&self, record: &Record) {
        if !self.docker_mark(&record.id).exists() {
            return;
        }
        let removed = remove_own(&record.name, &record.id).and_then(|_| self.unmark_docker_context(record));
        if let Err(error) = removed {
            let context = context_of(&record.name);
            self.warn(format!("the Docker context \"{context}\" was not removed: {}", error.in_one_line()));
        }
    }

    fn docker_mark(&self, id: &VmId) -> PathBuf {
        self.paths.state.join("docker-contexts").join(id.as_str())
    }

    fn mark_docker_context(&self, record: &Record) -> Result<(), Error> {
        let mark = self.docker_mark(&record.id);
        let folder = mark.parent().expect("it is in a folder");
        let marked = private::create_folders(folder).and_then(|()| durable::write(&mark, b""));
        marked.map_err(|error| Error::cannot("write", &mark, error))
    }

    fn unmark_docker_context(&self, record: &Record) -> Result<(), Error> {
        let mark = self.docker_mark(&record.id);
        durable::remove_if_there(&mark).map_err(|error| Error::cannot("remove", &mark, error))
    }
}

/// Removes the context if it is this VM's; one with the same name that isn't stays.
fn remove_own(vm: &VmName, id: &VmId) -> Result<bool, Error> {
    let (docker, context) = (Docker::find()?, context_of(vm));
    let is_own = docker.owner(&context, id)? == Some(ContextOwner::Vm);
    if is_own {
        docker.remove(&context)?;
    }
    Ok(is_own)
}
