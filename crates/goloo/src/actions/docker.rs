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
    /// Fails if the command `docker` isn't installed.
    ///
    /// # Errors
    /// [`DockerError::NotInstalled`].
    pub fn expect_docker(&self) -> Result<(), Error> {
        Ok(Docker::find().map(drop)?)
    }

    /// Creates a Docker context for the daemon in a VM. `docker` reaches it by the name in `~/.ssh/config`. One that goloo
    /// created for an earlier VM of this name is replaced.
    ///
    /// # Errors
    /// [`DockerError`]; as [`Self::expect_host_block`].
    pub fn create_docker_context(&self, vm: &VmName) -> Result<DockerContext, Error> {
        let record = self.record(vm)?;
        let is_new = self.put_docker_context(&Docker::find()?, &record)?;
        Ok(DockerContext { name: context_of(vm), is_new })
    }

    /// Removes the Docker context that goloo created for a VM; returns whether there was one.
    ///
    /// # Errors
    /// [`DockerError`]; errors of the store.
    pub fn remove_docker_context(&self, vm: &VmName) -> Result<bool, Error> {
        let record = self.record(vm)?;
        let was_there = remove_own(&Docker::find()?, &record.id)?;
        self.unmark_docker_context(&record)?;
        Ok(was_there)
    }

    /// Removes the Docker context of a VM that no longer exists. A failure is only a warning.
    pub(crate) fn forget_docker_context(&self, record: &Record) {
        if !self.docker_mark(&record.id).exists() {
            return;
        }
        let removed = Docker::find().map_err(Error::from);
        let removed = removed.and_then(|docker| remove_own(&docker, &record.id));
        if let Err(error) = removed.and_then(|_| self.unmark_docker_context(record)) {
            let context = context_of(&record.name);
            self.warn(format!("the Docker context \"{context}\" was not removed: {}", error.in_one_line()));
        }
    }

    /// Replaces the Docker context of a VM that has another name now. A failure is only a warning.
    pub(crate) fn rename_docker_context(&self, record: &Record) {
        if !self.docker_mark(&record.id).exists() {
            return;
        }
        let renamed = Docker::find().map_err(Error::from).and_then(|docker| {
            remove_own(&docker, &record.id)?;
            self.put_docker_context(&docker, record)
        });
        if let Err(error) = renamed {
            let context = context_of(&record.name);
            self.warn(format!("the Docker context \"{context}\" was not created: {}", error.in_one_line()));
        }
    }

    /// Creates a VM's context, in place of one of an earlier VM; `false` if it exists.
    fn put_docker_context(&self, docker: &Docker, record: &Record) -> Result<bool, Error> {
        let context = context_of(&record.name);
        match docker.owner(&context, &record.id)? {
            Some(ContextOwner::Vm) => return Ok(false),
            Some(ContextOwner::Foreign) => return Err(DockerError::Foreign { context }.into()),
            Some(ContextOwner::OtherVm) => docker.remove(&context)?,
            None => {}
        }
        // Before the context: a delete looks for it only if there is a mark.
        self.mark_docker_context(record)?;
        docker.create(&context, &record.name, &record.id)?;
        Ok(true)
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

/// Removes a VM's contexts, also those with an earlier name of it; returns whether there were any.
fn remove_own(docker: &Docker, id: &VmId) -> Result<bool, Error> {
    let own = docker.contexts_of(id)?;
    own.iter().try_for_each(|context| docker.remove(context))?;
    Ok(!own.is_empty())
}
