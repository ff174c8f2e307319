//! CloudFormation's events for a stack while it works on it.

use std::collections::BTreeSet;

use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::types::StackEvent;
use goloo_model::provider::Work;

use crate::arn::StackArn;
use crate::capacity::is_lack_of_the_zone;
use crate::error::AwsError;
use crate::pages::Pages;
use crate::stage::Stage;

const ACTION: &str = "cloudformation:DescribeStackEvents";
pub(crate) const INSTANCE: &str = "AWS::EC2::Instance";

/// A failure in a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The resource and AWS's reason.
    pub what: String,
    /// Whether it is an instance that another zone may have capacity for.
    pub is_of_the_zone: bool,
}

impl Failure {
    fn of(event: &StackEvent) -> Self {
        let is_instance = event.resource_type() == Some(INSTANCE);
        let reason = event.resource_status_reason().unwrap_or_default();
        Self { what: failure(event), is_of_the_zone: is_instance && is_lack_of_the_zone(reason) }
    }
}

/// Why an update didn't succeed, each with AWS's reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpdateFailures {
    /// The first failure of the update.
    pub update: Option<String>,
    /// The first failure of its rollback.
    pub rollback: Option<String>,
}

/// The events of one stack read so far.
#[derive(Debug, Default)]
pub struct EventLog {
    seen: BTreeSet<String>,
    first_failure: Option<Failure>,
    stage: Option<Stage>,
}

impl EventLog {
    /// Reads and reports new events. Returns the stack's last stage among them.
    pub async fn read(
        &mut self,
        client: &Client,
        arn: &StackArn,
        work: &mut dyn Work,
    ) -> Result<Option<Stage>, AwsError> {
        for event in self.news(client, arn).await? {
            match stage_of(&event, arn) {
                Some(stage) => self.stage = Some(stage),
                None => self.take(&event, work),
            }
            self.seen.extend(event.event_id().map(str::to_owned));
        }
        Ok(self.stage)
    }

    /// The unread events, oldest first. AWS returns the newest first, in pages.
    async fn news(&self, client: &Client, arn: &StackArn) -> Result<Vec<StackEvent>, AwsError> {
        let mut news = Vec::new();
        let (mut next, mut pages) = (None, Pages::of(ACTION));
        loop {
            let request = client.describe_stack_events().stack_name(arn.to_string()).set_next_token(next);
            let answer = request.send().await.map_err(|error| AwsError::of(ACTION, &error))?;
            next = pages.next(answer.next_token())?;
            for event in answer.stack_events.unwrap_or_default() {
                if event.event_id().is_some_and(|id| self.seen.contains(id)) {
                    next = None;
                    break;
                }
                news.push(event);
            }
            if next.is_none() {
                news.reverse();
                return Ok(news);
            }
        }
    }

    fn take(&mut self, event: &StackEvent, work: &mut dyn Work) {
        let status = event.resource_status().map_or("", |status| status.as_str());
        let subject = subject(event);
        match status {
            "CREATE_IN_PROGRESS" if event.resource_status_reason().is_none() => {
                work.step(&format!("AWS is creating {subject}"));
            }
            "DELETE_IN_PROGRESS" => work.step(&format!("AWS is deleting {subject}")),
            status if status.ends_with("_FAILED") && !is_consequence(event) => {
                self.first_failure.get_or_insert_with(|| Failure::of(event));
            }
            _ => {}
        }
    }

    /// The first failure: later ones are its consequences.
    pub fn first_failure(self) -> Option<Failure> {
        self.first_failure
    }

    /// What failed first in the last update, and what failed first when CloudFormation undid it.
    pub async fn update_failures(client: &Client, arn: &StackArn) -> Result<UpdateFailures, AwsError> {
        let mut failures = UpdateFailures::default();
        let mut is_undone = false;
        for event in Self::default().news(client, arn).await? {
            let status = event.resource_status().map_or("", |status| status.as_str());
            match status {
                "UPDATE_IN_PROGRESS" if stage_of(&event, arn).is_some() => {
                    (failures, is_undone) = (UpdateFailures::default(), false);
                }
                "UPDATE_ROLLBACK_IN_PROGRESS" if stage_of(&event, arn).is_some() => is_undone = true,
                status
                    if status.ends_with("_FAILED")
                        && stage_of(&event, arn).is_none()
                        && !is_consequence(&event) =>
                {
                    let first = if is_undone { &mut failures.rollback } else { &mut failures.update };
                    first.get_or_insert_with(|| failure(&event));
                }
                _ => {}
            }
        }
        Ok(failures)
    }

    /// What blocks a delete, each with AWS's reason.
    pub async fn delete_failures(client: &Client, arn: &StackArn) -> Result<Vec<String>, AwsError> {
        let mut log = Vec::new();
        for event in Self::default().news(client, arn).await? {
            let status = event.resource_status().map_or("", |status| status.as_str());
            match status {
                // Only the last attempt is relevant.
                "DELETE_IN_PROGRESS" if stage_of(&event, arn).is_some() => log.clear(),
                "DELETE_FAILED" if stage_of(&event, arn).is_none() => log.push(failure(&event)),
                _ => {}
            }
        }
        Ok(log)
    }
}

/// The stage an event reports for the stack itself.
fn stage_of(event: &StackEvent, arn: &StackArn) -> Option<Stage> {
    let is_stack = event.resource_type() == Some("AWS::CloudFormation::Stack")
        && event.logical_resource_id() == Some(arn.name.as_str());
    is_stack.then(|| Stage::of(event.resource_status().map_or("", |status| status.as_str())))
}

/// When one resource fails, CloudFormation cancels the others.
fn is_consequence(event: &StackEvent) -> bool {
    event.resource_status_reason().is_some_and(|reason| reason.contains("cancelled"))
}

fn failure(event: &StackEvent) -> String {
    let id = event.physical_resource_id().filter(|id| !id.is_empty());
    let id = id.map_or_else(String::new, |id| format!(" ({id})"));
    let reason = event.resource_status_reason().unwrap_or("AWS gave no reason");
    format!("{}{id}: {reason}", subject(event))
}

/// A resource's name for users.
fn subject(event: &StackEvent) -> String {
    match event.resource_type().unwrap_or_default() {
        INSTANCE => "the instance".to_owned(),
        "AWS::EC2::SecurityGroup" => "the security group".to_owned(),
        "AWS::EC2::VPC" => "the VPC".to_owned(),
        "AWS::EC2::Subnet" => "the subnet".to_owned(),
        "AWS::EC2::InternetGateway" => "the internet gateway".to_owned(),
        other => format!("{} ({other})", event.logical_resource_id().unwrap_or_default()),
    }
}
