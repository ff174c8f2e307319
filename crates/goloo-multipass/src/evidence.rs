//! Whose instance is it? The user-data in it tells: it holds what no other machine has.

use goloo_core::cloud_init::KEY_FOLDER;
use goloo_core::record::Record;

use crate::json::{Instance, State};
use crate::provider::MultipassProvider;
use crate::settings::Mark;

/// Where cloud-init keeps the user-data that the instance was made with; root alone reads it.
const USER_DATA: &str = "/var/lib/cloud/instance/user-data.txt";

/// What an instance shows of its origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// The machine's own host key is in its user-data.
    Ours,
    /// It has user-data, or none at all, and the key isn't in it.
    Foreign,
    /// It can't be looked into: it is off, or doesn't let us in. Looking never starts it.
    Untold,
}

impl MultipassProvider {
    /// Whether the instance was made with this public host key.
    pub(crate) async fn evidence(&self, instance: &Instance, host_key: &str) -> Evidence {
        // The key itself, without the word for its type: whatever Multipass does with the text around.
        let key = host_key.split_whitespace().nth(1).unwrap_or(host_key);
        match self.user_data(instance).await {
            Some(user_data) if !key.is_empty() && user_data.contains(key) => Evidence::Ours,
            Some(_) => Evidence::Foreign,
            None => Evidence::Untold,
        }
    }

    /// The same for an untrusted record: this state folder must have made the instance, under the VM's own name. Another
    /// name may be that of another VM made here.
    pub(crate) async fn evidence_by_mark(&self, record: &Record, instance: &Instance) -> Evidence {
        if instance.name == record.name.as_str() { self.mark(instance).await } else { Evidence::Foreign }
    }

    /// Whether this state folder made the instance, as its user-data shows.
    async fn mark(&self, instance: &Instance) -> Evidence {
        let mark = match &self.settings().mark {
            Mark::Key(key) => key.split_whitespace().nth(1).unwrap_or(key),
            Mark::AnyGoloo => KEY_FOLDER,
            Mark::Nothing => return Evidence::Foreign,
        };
        match self.user_data(instance).await {
            Some(user_data) if user_data.contains(mark) => Evidence::Ours,
            Some(_) => Evidence::Foreign,
            None => Evidence::Untold,
        }
    }

    /// Whether this state folder made the instance: the daemon has those of all users of the computer.
    pub(crate) async fn has_mark(&self, instance: &Instance) -> bool {
        self.mark(instance).await == Evidence::Ours
    }

    async fn user_data(&self, instance: &Instance) -> Option<String> {
        // `exec` would start any other.
        if instance.state != State::Running {
            return None;
        }
        let command = ["-n", &instance.name, "--", "sudo", "-n", "cat", USER_DATA];
        let said = self.cli().run("exec", command, self.limits().answer).await.ok()?;
        (said.status == Some(0)).then(|| String::from_utf8_lossy(&said.stdout).into_owned())
    }
}
