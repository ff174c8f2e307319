//! Delete: purges the instance that goloo made, and no other.

use std::time::Instant;

use goloo_core::events::Event;
use goloo_core::provider::{ProviderError, Work};
use goloo_core::record::Record;

use crate::create::{being_prepared, hint_to_check_ownership, state_word};
use crate::errors::Refusal;
use crate::evidence::Evidence;
use crate::handover::Handover;
use crate::json::{Instance, State};
use crate::look::Seen;
use crate::provider::{MultipassProvider, RESOURCE, instance_name, is_in_doubt};

impl MultipassProvider {
    pub(crate) async fn remove(&self, record: &Record, work: &mut dyn Work) -> Result<(), ProviderError> {
        if record.resource(RESOURCE).is_some() {
            if let Some(instance) = self.info_when_free(instance_name(record), work).await? {
                self.remove_known(record, &instance, work).await?;
            }
        } else if is_in_doubt(record) {
            self.remove_doubtful(record, work).await?;
        }
        Handover::of(&self.settings().folder, &record.id).remove();
        Ok(())
    }

    /// An instance that was seen to be ours. Its name may have been used again since.
    async fn remove_known(
        &self,
        record: &Record,
        instance: &Instance,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        match self.evidence_of(record, instance).await {
            Evidence::Foreign => leave(instance, work),
            Evidence::Untold if !self.settings().trust.is_proven(record) => return Err(untold(instance)),
            Evidence::Ours | Evidence::Untold => self.purge(&instance.name, work).await?,
        }
        Ok(())
    }

    /// An instance was about to be asked for; what came of that isn't known.
    async fn remove_doubtful(&self, record: &Record, work: &mut dyn Work) -> Result<(), ProviderError> {
        let name = instance_name(record);
        work.step("looking what came of the launch");
        let end = Instant::now() + self.limits().launch;
        let instance = match self.settled(name, &record.id, end, work).await? {
            Seen::Absent => return Ok(()),
            Seen::UnderWay => return Err(being_prepared(name)),
            Seen::There(instance) => instance,
        };
        match self.evidence_while_launched(record, &instance, end, work).await? {
            Evidence::Ours => self.purge(name, work).await,
            Evidence::Foreign => {
                leave(&instance, work);
                Ok(())
            }
            Evidence::Untold => Err(untold(&instance)),
        }
    }

    /// Whose the instance is. What can't be told yet is asked again as long as a client of ours waits for the instance:
    /// its guest answers before cloud-init has written the user-data.
    async fn evidence_while_launched(
        &self,
        record: &Record,
        instance: &Instance,
        end: Instant,
        work: &mut dyn Work,
    ) -> Result<Evidence, ProviderError> {
        loop {
            let may_change = instance.state == State::Running && self.launch_client_lives(&record.id)?;
            let evidence = self.evidence_of(record, instance).await;
            if evidence == Evidence::Ours || !may_change || Instant::now() >= end {
                return Ok(evidence);
            }
            self.pause(work).await?;
        }
    }

    /// Whose the instance is. A record that anybody may have written doesn't say by which key that is told: there it
    /// must be an instance that was made with this state folder.
    async fn evidence_of(&self, record: &Record, instance: &Instance) -> Evidence {
        match &record.ssh {
            _ if !self.settings().trust.is_trusted(record) => self.evidence_by_mark(record, instance).await,
            Some(ssh) => self.evidence(instance, &ssh.host_key).await,
            None => Evidence::Untold,
        }
    }

    /// Refuses to act on an instance that somebody else's record may have named.
    pub(crate) async fn expect_ours(&self, record: &Record) -> Result<(), ProviderError> {
        if self.settings().trust.is_trusted(record) {
            return Ok(());
        }
        let Some(instance) = self.info(instance_name(record)).await? else { return Ok(()) };
        match self.evidence_by_mark(record, &instance).await {
            Evidence::Ours => Ok(()),
            Evidence::Foreign => Err(ProviderError::failed(
                format!("the instance {} at Multipass wasn't made with this state folder", instance.name),
                format!("goloo status {0} tells who made the record; goloo delete --forget {0}", record.name),
            )),
            Evidence::Untold => Err(untold(&instance)),
        }
    }

    /// Removes this instance with its disk and its snapshots; `purge` would remove everybody's trash.
    async fn purge(&self, name: &str, work: &mut dyn Work) -> Result<(), ProviderError> {
        work.step("deleting the instance");
        let deleted = self.cli().call("delete", ["--purge", name], self.limits().act).await;
        match deleted {
            Ok(_) => Ok(()),
            Err(error) if error.refusal() == Some(&Refusal::Missing) => Ok(()),
            // Was only the answer lost?
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
            "an instance {name} is there ({}), and it can't be told whether goloo made it",
            state_word(&instance.state)
        ),
        format!(
            "{}; or, if it is yours to delete, multipass delete --purge {name}",
            hint_to_check_ownership(instance)
        ),
    )
}

fn leave(instance: &Instance, work: &mut dyn Work) {
    let name = &instance.name;
    work.events().event(Event::Warning(format!(
        "the instance {name} at Multipass isn't the one that goloo made; it is left alone"
    )));
}
