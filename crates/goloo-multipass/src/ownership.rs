//! The owner of an instance, determined by unique content of its user-data.

use goloo_cloudinit::KEY_FOLDER;
use goloo_model::record::Record;

use crate::context::MultipassProvider;
use crate::json::{Instance, State};
use crate::settings::Mark;

/// Where cloud-init keeps the user-data the instance was created with; only root can read it.
const USER_DATA: &str = "/var/lib/cloud/instance/user-data.txt";

/// What an instance reveals about its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// Its user-data contains the machine's own host key.
    Ours,
    /// Its user-data, if any, doesn't contain the key.
    Foreign,
    /// Unknown: it is off, or we have no access. The check never starts an instance.
    Untold,
}

impl MultipassProvider {
    /// Whether the instance was created with this public host key.
    pub(crate) async fn ownership(&self, instance: &Instance, host_key: &str) -> Ownership {
        // Only the key itself, without its type, in case Multipass reformats the surrounding text.
        let key = host_key.split_whitespace().nth(1).unwrap_or(host_key);
        match self.user_data(instance).await {
            Some(user_data) if !key.is_empty() && user_data.contains(key) => Ownership::Ours,
            Some(_) => Ownership::Foreign,
            None => Ownership::Untold,
        }
    }

    /// Like [`Self::ownership`], for an untrusted record: this state folder must have created the instance, under the
    /// VM's own name. Another name may belong to another VM created here.
    pub(crate) async fn ownership_by_mark(&self, record: &Record, instance: &Instance) -> Ownership {
        if instance.name == record.name.as_str() { self.mark(instance).await } else { Ownership::Foreign }
    }

    /// Whether this state folder created the instance, according to its user-data.
    async fn mark(&self, instance: &Instance) -> Ownership {
        let mark = match &self.settings().mark {
            Mark::Key(key) => key.split_whitespace().nth(1).unwrap_or(key),
            Mark::AnyGoloo => KEY_FOLDER,
            Mark::Nothing => return Ownership::Foreign,
        };
        match self.user_data(instance).await {
            Some(user_data) if user_data.contains(mark) => Ownership::Ours,
            Some(_) => Ownership::Foreign,
            None => Ownership::Untold,
        }
    }

    /// Whether this state folder created the instance: the daemon serves all users of the computer.
    pub(crate) async fn has_mark(&self, instance: &Instance) -> bool {
        self.mark(instance).await == Ownership::Ours
    }

    async fn user_data(&self, instance: &Instance) -> Option<String> {
        // `exec` would start an instance in any other state.
        if instance.state != State::Running {
            return None;
        }
        let command = ["-n", &instance.name, "--", "sudo", "-n", "cat", USER_DATA];
        let said = self.cli().run("exec", command, self.limits().answer).await.ok()?;
        (said.status == Some(0)).then(|| String::from_utf8_lossy(&said.stdout).into_owned())
    }
}
