//! Contexts of the command `docker`. goloo's own are recognized by their description, so that no other is changed.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use goloo_command::{Limits, find_program};
use goloo_model::name::{VmId, VmName};

use crate::error::DockerError;
use crate::program;

/// The command `docker`.
pub struct Docker {
    program: PathBuf,
}

/// The owner of a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContextOwner {
    /// This VM.
    Vm,
    /// Another VM that goloo created a context for.
    OtherVm,
    /// Someone else.
    Foreign,
}

const LIMITS: Limits = Limits { time: Duration::from_secs(30), stdout: 1 << 20, stderr: 4 << 10 };

/// What the description of goloo's contexts begins with; the VM's id follows.
const DESCRIPTION: &str = "VM of goloo, id ";

/// The name of a VM's context.
pub fn context_of(vm: &VmName) -> String {
    format!("goloo-{vm}")
}

impl Docker {
    /// The installed one.
    ///
    /// # Errors
    /// [`DockerError::NotInstalled`].
    pub fn find() -> Result<Self, DockerError> {
        let program = find_program(OsStr::new("docker")).ok_or(DockerError::NotInstalled)?;
        Ok(Self { program })
    }

    /// Who owns the context; `None` if there is none.
    pub fn owner(&self, context: &str, vm: &VmId) -> Result<Option<ContextOwner>, DockerError> {
        let found = self.contexts()?.into_iter().find(|(name, _)| name == context);
        Ok(found.map(|(_, description)| owner(&description, vm)))
    }

    /// The names of a VM's contexts: of an interrupted rename there may be two.
    pub fn contexts_of(&self, vm: &VmId) -> Result<Vec<String>, DockerError> {
        let own = self.contexts()?.into_iter().filter(|(_, text)| owner(text, vm) == ContextOwner::Vm);
        Ok(own.map(|(name, _)| name).collect())
    }

    /// The name and the description of each context.
    fn contexts(&self) -> Result<Vec<(String, String)>, DockerError> {
        let listed = self.run("list its contexts", &["ls", "--format", "{{.Name}}\t{{.Description}}"])?;
        let parts = listed.lines().filter_map(|line| line.split_once('\t'));
        Ok(parts.map(|(name, description)| (name.trim().to_owned(), description.trim().to_owned())).collect())
    }

    /// Creates a context for the daemon in a VM, which `docker` reaches with `ssh` by the VM's name.
    pub fn create(&self, context: &str, name: &VmName, vm: &VmId) -> Result<(), DockerError> {
        let (description, host) = (format!("{DESCRIPTION}{vm}"), format!("host=ssh://{name}"));
        let words = ["create", "--description", &description, "--docker", &host, context];
        self.run("create a context", &words).map(drop)
    }

    /// Removes a context, even if it is the current one.
    pub fn remove(&self, context: &str) -> Result<(), DockerError> {
        self.run("remove a context", &["rm", "--force", context]).map(drop)
    }

    fn run(&self, action: &'static str, words: &[&str]) -> Result<String, DockerError> {
        let mut docker = Command::new(&self.program);
        docker.arg("context").args(words);
        let stdout = program::run(docker, LIMITS).map_err(|reason| DockerError::Failed { action, reason })?;
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }
}

fn owner(description: &str, vm: &VmId) -> ContextOwner {
    match description.strip_prefix(DESCRIPTION) {
        Some(id) if id == vm.as_str() => ContextOwner::Vm,
        Some(_) => ContextOwner::OtherVm,
        None => ContextOwner::Foreign,
    }
}
