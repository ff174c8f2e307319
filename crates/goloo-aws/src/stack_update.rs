//! Updates of a VM's stack, through a change set: CloudFormation says in advance what it would do, and nothing that
//! replaces or removes a resource is executed.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_cloudformation::types::{
    ChangeAction, ChangeSetStatus, ChangeSetType, EvaluationType, Parameter, Replacement, RequiresRecreation,
    ResourceChange, ResourceChangeDetail,
};
use goloo_model::hint::{Hint, NextStep};
use goloo_model::name::VmName;
use goloo_model::provider::{ProviderError, Work};

use crate::arn::StackArn;
use crate::deployed::{DeployedTemplate, TemplateChange};
use crate::error::{AwsError, of_event};
use crate::events::{EventLog, INSTANCE, UpdateFailures};
use crate::pages::Pages;
use crate::retry::{PATIENCE, pause, tolerate_transient};
use crate::stack::{Stack, Stacks};
use crate::stage::UpdateState;
use crate::template::parameter;

/// The name of all of goloo's change sets. A stack has at most one: what an interrupted update has left is found and
/// replaced, and CloudFormation deletes it when another one is executed.
const CHANGE_SET: &str = "goloo-apply";

/// How long an update may take if the operation has no limit.
const LIMIT: Duration = Duration::from_secs(3600);

/// How often the whole update is attempted: something else may change the stack or its change sets meanwhile.
const TRIES: u32 = 3;

const DESCRIBE: &str = "cloudformation:DescribeChangeSet";

/// A VM's stack, and what it is to be.
#[derive(Debug)]
pub struct StackUpdate<'a> {
    /// The VM.
    pub vm: &'a VmName,
    /// Its stack.
    pub arn: &'a StackArn,
    /// What is to be different.
    pub change: &'a TemplateChange,
    /// The AMI that the instance was created from.
    pub ami: &'a str,
    /// The operation's id.
    pub token: &'a str,
}

/// What CloudFormation says of a change set.
enum ChangeSet {
    /// It can be executed, and does this.
    Ready(Vec<ResourceChange>),
    /// There is nothing to change.
    Empty,
    /// It can't be executed, with CloudFormation's reason.
    Failed(String),
}

impl StackUpdate<'_> {
    /// Updates the stack and waits until CloudFormation is done. Does nothing if it is already as wanted.
    pub async fn carry_out(&self, stacks: Stacks<'_>, work: &mut dyn Work) -> Result<(), ProviderError> {
        let limit = work.time_left(LIMIT);
        match tokio::time::timeout(limit, self.update(stacks, work)).await {
            Ok(done) => done,
            Err(_) => Err(ProviderError::Unfinished {
                what: format!("CloudFormation is still updating the stack {}", self.arn.name),
                hint: NextStep::Resume(self.vm.clone()).text(" continues to wait"),
            }),
        }
    }

    async fn update(&self, stacks: Stacks<'_>, work: &mut dyn Work) -> Result<(), ProviderError> {
        for attempt in 0..TRIES {
            self.settled(stacks, work).await?;
            let deployed = self.deployed(stacks).await?;
            let wanted = deployed.with(self.change);
            if wanted == deployed {
                // An interrupted update to something else may have left one.
                return if attempt == 0 { self.remove(stacks, CHANGE_SET).await } else { Ok(()) };
            }
            work.step(&format!("updating the stack {}", self.arn.name));
            let wanted = wanted.with_fixed_image();
            let Some(id) = self.create(stacks, &wanted).await? else {
                pause(stacks.pace.then, work).await?;
                continue;
            };
            match self.described(stacks, &id, work).await? {
                ChangeSet::Empty => return self.remove(stacks, &id).await,
                ChangeSet::Failed(reason) => {
                    self.remove(stacks, &id).await?;
                    return Err(self.refused(&reason));
                }
                ChangeSet::Ready(changes) => {
                    let lost = replaced(&changes);
                    if !lost.is_empty() {
                        self.remove(stacks, &id).await?;
                        return Err(self.would_replace(&lost));
                    }
                }
            }
            if work.interrupted() {
                return Err(ProviderError::Interrupted);
            }
            if self.execute(stacks, &id).await? {
                pause(stacks.pace.first, work).await?;
                if self.settled(stacks, work).await? == UpdateState::RolledBack {
                    return Err(self.rolled_back(stacks).await);
                }
            }
        }
        Err(ProviderError::failed(
            format!("something else changes the stack {} at the same time", self.arn.name),
            format!(
                "aws cloudformation describe-stack-events --region {} --stack-name {} shows what; then run the same command again",
                self.arn.region, self.arn.name
            ),
        ))
    }

    /// Waits until CloudFormation isn't changing the stack.
    async fn settled(&self, stacks: Stacks<'_>, work: &mut dyn Work) -> Result<UpdateState, ProviderError> {
        let (mut wait, mut patience) = (stacks.pace.first, PATIENCE);
        loop {
            match stacks.find(&self.arn.to_string()).await {
                Ok(Some(stack)) => match UpdateState::of(&stack.status) {
                    UpdateState::UnderWay => patience = PATIENCE,
                    UpdateState::Stuck => return Err(self.stuck(stacks).await),
                    UpdateState::Unusable => return Err(self.unusable(&stack)),
                    ready => return Ok(ready),
                },
                Ok(None) => return Err(self.no_stack()),
                Err(error) => tolerate_transient(&mut patience, error, work)?,
            }
            pause(wait, work).await?;
            wait = stacks.pace.then;
        }
    }

    async fn deployed(&self, stacks: Stacks<'_>) -> Result<DeployedTemplate, ProviderError> {
        let request = stacks.clients.cloudformation.get_template().stack_name(self.arn.to_string());
        let answer = request.send().await;
        let answer = answer.map_err(|error| AwsError::of("cloudformation:GetTemplate", &error))?;
        DeployedTemplate::parse(answer.template_body().unwrap_or_default(), self.arn)
    }

    /// Creates the change set and returns its ARN; `None` if an earlier one had its name, which is removed.
    async fn create(
        &self,
        stacks: Stacks<'_>,
        wanted: &DeployedTemplate,
    ) -> Result<Option<String>, ProviderError> {
        const ACTION: &str = "cloudformation:CreateChangeSet";
        let request = stacks
            .clients
            .cloudformation
            .create_change_set()
            .stack_name(self.arn.to_string())
            .change_set_name(CHANGE_SET)
            .change_set_type(ChangeSetType::Update)
            .template_body(wanted.body()?)
            .set_parameters(Some(self.parameters(wanted)));
        match request.send().await.map_err(|error| AwsError::of(ACTION, &error)) {
            Ok(answer) => match answer.id() {
                Some(id) => Ok(Some(id.to_owned())),
                None => Err(AwsError::NoAnswer {
                    action: ACTION,
                    detail: "the response contains no ARN".to_owned(),
                }
                .into()),
            },
            // Of an interrupted update, or of this one, if the SDK retries after a lost response.
            Err(error) if error.code() == Some("AlreadyExistsException") => {
                self.remove(stacks, CHANGE_SET).await?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The user-data and the network stay as they are: nobody has to know them.
    fn parameters(&self, wanted: &DeployedTemplate) -> Vec<Parameter> {
        let parameter = |key: &String| {
            let parameter = Parameter::builder().parameter_key(key);
            match key.as_str() {
                parameter::IMAGE => parameter.parameter_value(self.ami).build(),
                _ => parameter.use_previous_value(true).build(),
            }
        };
        wanted.parameters().map(parameter).collect()
    }

    /// Waits until CloudFormation has compared the templates.
    async fn described(
        &self,
        stacks: Stacks<'_>,
        id: &str,
        work: &mut dyn Work,
    ) -> Result<ChangeSet, ProviderError> {
        let mut patience = PATIENCE;
        loop {
            match self.describe(stacks, id).await {
                Ok(Some(change_set)) => return Ok(change_set),
                Ok(None) => patience = PATIENCE,
                Err(error) => tolerate_transient(&mut patience, error, work)?,
            }
            pause(stacks.pace.then, work).await?;
        }
    }

    async fn describe(&self, stacks: Stacks<'_>, id: &str) -> Result<Option<ChangeSet>, AwsError> {
        let mut changes = Vec::new();
        let (mut next, mut pages) = (None, Pages::of(DESCRIBE));
        loop {
            let request =
                stacks.clients.cloudformation.describe_change_set().stack_name(self.arn.to_string());
            let request = request.change_set_name(id).set_next_token(next);
            let answer = request.send().await.map_err(|error| AwsError::of(DESCRIBE, &error))?;
            match answer.status() {
                Some(ChangeSetStatus::CreateComplete) => {}
                Some(ChangeSetStatus::CreatePending | ChangeSetStatus::CreateInProgress) => return Ok(None),
                status => {
                    let reason = answer.status_reason().unwrap_or("AWS gave no reason").to_owned();
                    let is_empty = status == Some(&ChangeSetStatus::Failed) && says_no_changes(&reason);
                    return Ok(Some(if is_empty { ChangeSet::Empty } else { ChangeSet::Failed(reason) }));
                }
            }
            let page = answer.changes().iter();
            changes.extend(page.filter_map(|change| change.resource_change().cloned()));
            next = pages.next(answer.next_token())?;
            if next.is_none() {
                return Ok(Some(ChangeSet::Ready(changes)));
            }
        }
    }

    /// Whether CloudFormation has accepted that. Otherwise the change set is being executed already, if the SDK retries
    /// after a lost response, or something else has removed it: the stack's template tells.
    async fn execute(&self, stacks: Stacks<'_>, id: &str) -> Result<bool, ProviderError> {
        let request = stacks.clients.cloudformation.execute_change_set().change_set_name(id);
        let request = request.stack_name(self.arn.to_string()).client_request_token(self.token);
        match request.send().await.map_err(|error| AwsError::of("cloudformation:ExecuteChangeSet", &error)) {
            Ok(_) => Ok(true),
            Err(error) if is_gone(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn remove(&self, stacks: Stacks<'_>, id: &str) -> Result<(), ProviderError> {
        let request = stacks.clients.cloudformation.delete_change_set().change_set_name(id);
        let request = request.stack_name(self.arn.to_string());
        match request.send().await.map_err(|error| AwsError::of("cloudformation:DeleteChangeSet", &error)) {
            Ok(_) => Ok(()),
            Err(error) if is_gone(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The errors of an update, in words that say what is true of the VM.
impl StackUpdate<'_> {
    async fn failures(&self, stacks: Stacks<'_>) -> UpdateFailures {
        EventLog::update_failures(&stacks.clients.cloudformation, self.arn).await.unwrap_or_default()
    }

    /// CloudFormation's reason for an update that it undid.
    async fn rolled_back(&self, stacks: Stacks<'_>) -> ProviderError {
        let reason = self.failures(stacks).await.update.unwrap_or_else(|| "AWS gave no reason".to_owned());
        let what =
            format!("AWS undid the update of the stack {}, and the VM is as before: {reason}", self.arn.name);
        match of_event(reason) {
            ProviderError::Permission { hint, .. } => ProviderError::Permission { what, hint },
            _ => ProviderError::failed(
                what,
                "fix the problem that AWS reports, or choose another value, then run the same command again",
            ),
        }
    }

    /// CloudFormation refuses any further update of such a stack.
    async fn stuck(&self, stacks: Stacks<'_>) -> ProviderError {
        let UpdateFailures { update, rollback } = self.failures(stacks).await;
        let reason = rollback.or(update).unwrap_or_else(|| "AWS gave no reason".to_owned());
        let (name, region) = (&self.arn.name, &self.arn.region);
        ProviderError::failed(
            format!(
                "AWS could neither update the stack {name} nor undo the update (UPDATE_ROLLBACK_FAILED), so the VM may be changed in part: {reason}"
            ),
            format!(
                "fix the problem that AWS reports, run `aws cloudformation continue-update-rollback --region {region} --stack-name {name}`, then the same command again"
            ),
        )
    }

    fn unusable(&self, stack: &Stack) -> ProviderError {
        ProviderError::failed(
            format!("the stack {} can't be updated: it is {}", self.arn.name, stack.status),
            NextStep::Delete(self.vm.clone()).text(" removes the VM and what remains of its stack"),
        )
    }

    fn no_stack(&self) -> ProviderError {
        ProviderError::failed(
            format!("the stack {} no longer exists", self.arn.name),
            NextStep::Delete(self.vm.clone()).text(" removes what remains of the VM"),
        )
    }

    fn refused(&self, reason: &str) -> ProviderError {
        ProviderError::failed(
            format!("CloudFormation refuses the update of the stack {}: {reason}", self.arn.name),
            "nothing was changed: fix the problem that AWS reports, then run the same command again",
        )
    }

    fn would_replace(&self, lost: &[String]) -> ProviderError {
        ProviderError::Unsupported {
            what: format!(
                "AWS would delete the following and create it again, so the stack {} wasn't updated: {}",
                self.arn.name,
                lost.join(", ")
            ),
            hint: Hint::from("leave these properties as they are, or ")
                .step(NextStep::Delete(self.vm.clone()))
                .text(" the VM and create it again"),
        }
    }
}

/// CloudFormation has no status for that: the change set fails, for one of these reasons.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/troubleshooting.html>
fn says_no_changes(reason: &str) -> bool {
    ["didn't contain changes", "No updates are to be performed"].iter().any(|words| reason.contains(words))
}

/// Whether the change set was removed, or is being executed.
fn is_gone(error: &AwsError) -> bool {
    matches!(
        error.code(),
        Some("ChangeSetNotFound" | "ChangeSetNotFoundException" | "InvalidChangeSetStatus")
    )
}

/// The resources that a change set would replace or remove, with the properties that cause it.
fn replaced(changes: &[ResourceChange]) -> Vec<String> {
    let is_kept = |change: &&ResourceChange| change.replacement() == Some(&Replacement::False);
    let kept: BTreeSet<&str> =
        changes.iter().filter(is_kept).filter_map(ResourceChange::logical_resource_id).collect();
    changes.iter().filter_map(|change| loss(change, &kept)).collect()
}

fn loss(change: &ResourceChange, kept: &BTreeSet<&str>) -> Option<String> {
    let name = change.logical_resource_id().unwrap_or_default();
    match (change.action(), change.replacement()) {
        (Some(ChangeAction::Add), _) | (Some(ChangeAction::Modify), None | Some(Replacement::False)) => {
            return None;
        }
        (Some(ChangeAction::Modify), _) => {}
        _ => return Some(name.to_owned()),
    }
    let causes = change.details().iter().filter(|detail| is_cause(detail, change, kept));
    let causes: Vec<&str> = causes.filter_map(|detail| detail.target()?.name()).collect();
    // Of a conditional replacement all causes are known.
    let is_certain = change.replacement() != Some(&Replacement::Conditional);
    match causes.is_empty() {
        true if is_certain || change.details().is_empty() => Some(name.to_owned()),
        true => None,
        false => Some(format!("{name} ({})", causes.join(", "))),
    }
}

/// Whether a changed property may cause the replacement of its resource.
fn is_cause(detail: &ResourceChangeDetail, change: &ResourceChange, kept: &BTreeSet<&str>) -> bool {
    let Some(target) = detail.target() else { return true };
    match target.requires_recreation() {
        Some(RequiresRecreation::Never) => return false,
        // Only an instance without EBS is replaced for another type; a VM's root volume is always on EBS.
        // <https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-ec2-instance.html>
        Some(RequiresRecreation::Conditionally)
            if change.resource_type() == Some(INSTANCE) && target.name() == Some("InstanceType") =>
        {
            return false;
        }
        _ => {}
    }
    // CloudFormation doesn't know in advance that a resource which it only modifies keeps its id.
    let cause = detail.causing_entity().and_then(|entity| entity.split_once('.'));
    let keeps_id =
        cause.is_some_and(|(resource, attribute)| attribute == "GroupId" && kept.contains(resource));
    !(detail.evaluation() == Some(&EvaluationType::Dynamic) && keeps_id)
}

#[cfg(test)]
mod tests {
    use aws_sdk_cloudformation::types::{ResourceAttribute, ResourceTargetDefinition};

    use super::*;

    fn detail(property: &str, recreation: RequiresRecreation, cause: Option<&str>) -> ResourceChangeDetail {
        let target = ResourceTargetDefinition::builder()
            .attribute(ResourceAttribute::Properties)
            .name(property)
            .requires_recreation(recreation)
            .build();
        let evaluation = if cause.is_some() { EvaluationType::Dynamic } else { EvaluationType::Static };
        let detail = ResourceChangeDetail::builder().target(target).evaluation(evaluation);
        detail.set_causing_entity(cause.map(str::to_owned)).build()
    }

    fn change(
        (name, kind): (&str, &str),
        replacement: Replacement,
        details: Vec<ResourceChangeDetail>,
    ) -> ResourceChange {
        let change = ResourceChange::builder().action(ChangeAction::Modify).logical_resource_id(name);
        change.resource_type(kind).replacement(replacement).set_details(Some(details)).build()
    }

    fn instance(replacement: Replacement, details: Vec<ResourceChangeDetail>) -> ResourceChange {
        change(("Instance", INSTANCE), replacement, details)
    }

    fn group(replacement: Replacement) -> ResourceChange {
        let details = vec![detail("SecurityGroupIngress", RequiresRecreation::Never, None)];
        change(("SecurityGroup", "AWS::EC2::SecurityGroup"), replacement, details)
    }

    #[test]
    fn an_instance_that_may_only_seem_to_be_replaced_is_updated() {
        let interfaces =
            || detail("NetworkInterfaces", RequiresRecreation::Always, Some("SecurityGroup.GroupId"));
        let type_change = || detail("InstanceType", RequiresRecreation::Conditionally, None);
        let both = vec![interfaces(), type_change()];
        let changes = [group(Replacement::False), instance(Replacement::Conditional, both)];
        assert_eq!(replaced(&changes), [""; 0]);
        assert_eq!(replaced(&[instance(Replacement::Conditional, vec![type_change()])]), [""; 0]);
        // The group may get another id, or isn't what CloudFormation waits for.
        let lost = ["Instance (NetworkInterfaces)"];
        let of_group = || instance(Replacement::Conditional, vec![interfaces()]);
        let conditional = change(("SecurityGroup", "x"), Replacement::Conditional, vec![type_change()]);
        assert_eq!(replaced(&[conditional, of_group()]), ["SecurityGroup (InstanceType)", lost[0]]);
        assert_eq!(replaced(&[of_group()]), lost);
    }

    #[test]
    fn a_replacement_or_removal_is_found_with_its_properties() {
        let always = |name: &str| detail(name, RequiresRecreation::Always, None);
        let tags = detail("Tags", RequiresRecreation::Never, None);
        let details = vec![always("ImageId"), tags, always("SubnetId")];
        assert_eq!(replaced(&[instance(Replacement::True, details)]), ["Instance (ImageId, SubnetId)"]);
        assert_eq!(replaced(&[instance(Replacement::True, vec![])]), ["Instance"]);
        assert_eq!(replaced(&[instance(Replacement::Conditional, vec![])]), ["Instance"]);
        let removed = ResourceChange::builder().action(ChangeAction::Remove).logical_resource_id("Instance");
        assert_eq!(replaced(&[removed.build()]), ["Instance"]);
        let added = ResourceChange::builder().action(ChangeAction::Add).logical_resource_id("Address");
        assert_eq!(replaced(&[added.build(), group(Replacement::False)]), [""; 0]);
    }
}
