//! Delete: purges only the instance goloo created.

use std::time::Instant;

use goloo_model::events::Event;
use goloo_model::hint::NextStep;
use goloo_model::provider::{ProviderError, Work};
use goloo_model::record::Record;

use crate::context::{MultipassProvider, RESOURCE, instance_name, is_in_doubt};
use crate::create::{being_prepared, hint_to_check_ownership, state_word};
use crate::errors::Refusal;
use crate::inspect::Observed;
use crate::json::{Instance, State};
use crate::ownership::Ownership;
use crate::user_data_file::UserDataFile;

impl MultipassProvider {
    pub(crate) async fn remove(&self, record: &Record, work: &mut dyn Work) -> Result<(), ProviderError> {
        if record.resource(RESOURCE).is_some() {
            if let Some(instance) = self.info_when_free(instance_name(record), work).await? {
                self.remove_known(record, &instance, work).await?;
            }
        } else if is_in_doubt(record) {
            self.remove_doubtful(record, work).await?;
        }
        UserDataFile::of(&self.settings().folder, &record.id).remove();
        Ok(())
    }

    /// Removes an instance known to be ours. Its name may have been reused since.
    async fn remove_known(
        &self,
        record: &Record,
        instance: &Instance,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        match self.evidence_of(record, instance).await {
            Ownership::Foreign => leave(instance, work),
            Ownership::Untold if !self.settings().trust.is_proven(record) => return Err(untold(instance)),
            Ownership::Ours | Ownership::Untold => self.purge(&instance.name, work).await?,
        }
        Ok(())
    }

    /// Handles an instance that was about to be requested; the result is unknown.
    async fn remove_doubtful(&self, record: &Record, work: &mut dyn Work) -> Result<(), ProviderError> {
        let name = instance_name(record);
        work.step("checking the result of the launch");
        let end = Instant::now() + self.limits().launch;
        let instance = match self.settled(name, &record.id, end, work).await? {
            Observed::Absent => return Ok(()),
            Observed::Preparing => return Err(being_prepared(name)),
            Observed::There(instance) => instance,
        };
        match self.evidence_while_launched(record, &instance, end, work).await? {
            Ownership::Ours => self.purge(name, work).await,
            Ownership::Foreign => {
                leave(&instance, work);
                Ok(())
            }
            Ownership::Untold => Err(untold(&instance)),
        }
    }

    /// The owner of the instance. While it is unknown, the check is repeated as long as our client waits for the
    /// instance: the guest responds before cloud-init has written the user-data.
    async fn evidence_while_launched(
        &self,
        record: &Record,
        instance: &Instance,
        end: Instant,
        work: &mut dyn Work,
    ) -> Result<Ownership, ProviderError> {
        loop {
            let may_change = instance.state == State::Running && self.launch_client_lives(&record.id)?;
            let ownership = self.evidence_of(record, instance).await;
            if ownership == Ownership::Ours || !may_change || Instant::now() >= end {
                return Ok(ownership);
            }
            self.pause(work).await?;
        }
    }

    /// The owner of the instance. An untrusted record can't say which key proves ownership: its instance must have been
    /// created with this state folder.
    async fn evidence_of(&self, record: &Record, instance: &Instance) -> Ownership {
        match &record.ssh {
            _ if !self.settings().trust.is_trusted(record) => self.ownership_by_mark(record, instance).await,
            Some(ssh) => self.ownership(instance, &ssh.host_key).await,
            None => Ownership::Untold,
        }
    }

    /// Refuses to act on an instance that someone else's record may refer to.
    pub(crate) async fn expect_ours(&self, record: &Record) -> Result<(), ProviderError> {
        if self.settings().trust.is_trusted(record) {
            return Ok(());
        }
        let Some(instance) = self.info(instance_name(record)).await? else { return Ok(()) };
        match self.ownership_by_mark(record, &instance).await {
            Ownership::Ours => Ok(()),
            Ownership::Foreign => Err(ProviderError::failed(
                format!("the instance {} at Multipass wasn't created with this state folder", instance.name),
                NextStep::Status(record.name.clone())
                    .text(" shows who created the record; ")
                    .step(NextStep::DeleteForget(record.name.clone()))
                    .text(" removes it"),
            )),
            Ownership::Untold => Err(untold(&instance)),
        }
    }

    /// Removes this instance with its disk and snapshots; `purge` without a name would empty the trash of all users.
    async fn purge(&self, name: &str, work: &mut dyn Work) -> Result<(), ProviderError> {
        work.step("deleting the instance");
        let deleted = self.cli().call("delete", ["--purge", name], self.limits().act).await;
        match deleted {
            Ok(_) => Ok(()),
            Err(error) if error.refusal() == Some(&Refusal::Missing) => Ok(()),
            // Only the response may have been lost.
            Err(error) => match self.info(name).await {
                Ok(None) => Ok(()),
                _ => Err(error.into()),
            },
        }
    }
}

fn untold(instance: &Instance) -> ProviderError {
    let name = &instance.name;
    ProviderError::failed(
        format!(
            "the instance {name} exists ({}), but it's unknown whether goloo created it",
            state_word(&instance.state)
        ),
        format!(
            "{}; or, if you may delete it, multipass delete --purge {name}",
            hint_to_check_ownership(instance)
        ),
    )
}

fn leave(instance: &Instance, work: &mut dyn Work) {
    let name = &instance.name;
    work.events().event(Event::Warning(format!(
        "the instance {name} at Multipass isn't the one that goloo created; it is left unchanged"
    )));
}
