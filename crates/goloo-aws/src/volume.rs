//! Root volumes are grown by EC2, outside the stack: CloudFormation would replace the instance for a larger volume.
//! <https://docs.aws.amazon.com/ebs/latest/userguide/ebs-modify-volume.html>

use std::time::Duration;

use aws_sdk_ec2::types::VolumeModificationState;
use goloo_model::hint::NextStep;
use goloo_model::name::VmName;
use goloo_model::provider::{ProviderError, Work};

use crate::error::AwsError;
use crate::retry::{PATIENCE, pause, tolerate_transient};
use crate::session::Clients;
use crate::settings::PollIntervals;

/// The new size takes seconds, for a volume of terabytes minutes.
const LIMIT: Duration = Duration::from_secs(1800);

const MODIFICATIONS: &str = "ec2:DescribeVolumesModifications";

/// A volume that is to have at least this size.
#[derive(Debug, Clone, Copy)]
pub struct VolumeGrowth<'a> {
    /// The VM.
    pub vm: &'a VmName,
    /// The volume's id.
    pub volume: &'a str,
    /// In GiB.
    pub gib: i32,
}

/// The last modification of a volume.
struct Modification {
    state: Option<VolumeModificationState>,
    target_gib: i32,
    message: Option<String>,
}

impl VolumeGrowth<'_> {
    /// Grows the volume and waits until the machine can use its new size; a volume of that size is left as it is.
    pub async fn carry_out(
        &self,
        clients: &Clients,
        pace: PollIntervals,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        let limit = work.time_left(LIMIT);
        match tokio::time::timeout(limit, self.grow(clients, pace, work)).await {
            Ok(done) => done,
            Err(_) => Err(ProviderError::Unfinished {
                what: format!("AWS is still growing the volume {}", self.volume),
                hint: NextStep::Resume(self.vm.clone()).text(" continues to wait"),
            }),
        }
    }

    async fn grow(
        &self,
        clients: &Clients,
        pace: PollIntervals,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        let (mut is_asked, mut patience) = (false, PATIENCE);
        loop {
            match self.step(clients, &mut is_asked, work).await {
                Ok(true) => return Ok(()),
                Ok(false) => patience = PATIENCE,
                Err(error) => tolerate_transient(&mut patience, error, work)?,
            }
            pause(pace.then, work).await?;
        }
    }

    /// Whether the volume has its size.
    async fn step(
        &self,
        clients: &Clients,
        is_asked: &mut bool,
        work: &mut dyn Work,
    ) -> Result<bool, AwsError> {
        let last = self.last_modification(clients).await?;
        match last.as_ref().and_then(|last| last.state.as_ref()) {
            Some(VolumeModificationState::Modifying) => return Ok(false),
            Some(VolumeModificationState::Failed) if *is_asked => return Err(self.failed(last)),
            Some(VolumeModificationState::Optimizing | VolumeModificationState::Completed)
                if last.as_ref().is_some_and(|last| last.target_gib >= self.gib) =>
            {
                return Ok(true);
            }
            // EC2 doesn't show the requested modification yet.
            _ if *is_asked => return Ok(false),
            _ => {}
        }
        if self.size(clients).await? >= self.gib {
            return Ok(true);
        }
        work.step(&format!("growing the disk to {}G", self.gib));
        let request = clients.ec2.modify_volume().volume_id(self.volume).size(self.gib);
        match request.send().await.map_err(|error| AwsError::of("ec2:ModifyVolume", &error)) {
            Ok(_) => *is_asked = true,
            // If the SDK retries after a lost response, the modification conflicts with itself.
            Err(error) if is_conflict(&error) && self.is_under_way(clients).await? => *is_asked = true,
            Err(error) => return Err(error),
        }
        Ok(false)
    }

    async fn is_under_way(&self, clients: &Clients) -> Result<bool, AwsError> {
        let last = self.last_modification(clients).await?;
        Ok(last.is_some_and(|last| last.target_gib >= self.gib))
    }

    async fn last_modification(&self, clients: &Clients) -> Result<Option<Modification>, AwsError> {
        let request = clients.ec2.describe_volumes_modifications().volume_ids(self.volume);
        let answer = match request.send().await.map_err(|error| AwsError::of(MODIFICATIONS, &error)) {
            // Of a volume that was never modified.
            Err(error) if error.code() == Some("InvalidVolumeModification.NotFound") => return Ok(None),
            answer => answer?,
        };
        let all = answer.volumes_modifications().iter();
        let last = all.max_by_key(|modification| modification.start_time().map(|time| time.secs()));
        Ok(last.map(|last| Modification {
            state: last.modification_state().cloned(),
            target_gib: last.target_size().unwrap_or_default(),
            message: last.status_message().map(str::to_owned),
        }))
    }

    async fn size(&self, clients: &Clients) -> Result<i32, AwsError> {
        let request = clients.ec2.describe_volumes().volume_ids(self.volume);
        let answer = request.send().await.map_err(|error| AwsError::of("ec2:DescribeVolumes", &error))?;
        Ok(answer.volumes().first().and_then(|volume| volume.size()).unwrap_or_default())
    }

    fn failed(&self, last: Option<Modification>) -> AwsError {
        let message = last.and_then(|last| last.message);
        AwsError::Service {
            action: "ec2:ModifyVolume",
            code: "failed".to_owned(),
            message: message.unwrap_or_else(|| format!("the volume {} keeps its size", self.volume)),
        }
    }
}

fn is_conflict(error: &AwsError) -> bool {
    matches!(error.code(), Some("IncorrectModificationState" | "VolumeModificationRateExceeded"))
}
