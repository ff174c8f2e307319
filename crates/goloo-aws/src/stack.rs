//! CloudFormation stacks: created at most once, watched and deleted; never touches stacks that aren't goloo's.

use std::collections::BTreeMap;

use aws_sdk_cloudformation::types::{self, OnFailure, Parameter, Tag};
use goloo_model::provider::{ProviderError, Work};

use crate::arn::StackArn;
use crate::error::{AwsError, of_event};
use crate::events::{EventLog, Failure};
use crate::pages::Pages;
use crate::retry::{PATIENCE, pause, tolerate_transient};
use crate::session::Clients;
use crate::settings::PollIntervals;
use crate::stage::Stage;
use crate::tags::{self, Tags};
use crate::template::output;
use crate::user_data::HiddenUserData;

/// The resource kind under which a VM's stack is recorded.
pub const RESOURCE: &str = "cloudformation-stack";

/// How often creating a stack is attempted if its name is taken by a failed one or there is no response.
const TRIES: u32 = 3;

/// A stack as described by CloudFormation.
#[derive(Debug, Clone)]
pub struct Stack {
    /// Its full ARN.
    pub arn: StackArn,
    /// Its stage.
    pub stage: Stage,
    /// CloudFormation's own word for that.
    pub status: String,
    /// The reason, if CloudFormation reports one.
    pub reason: Option<String>,
    /// Its tags.
    pub tags: Tags,
    /// Its outputs.
    pub outputs: BTreeMap<String, String>,
}

impl Stack {
    /// The DNS names the stack was created with, in the form used in records.
    pub fn dns_notes(&self) -> impl Iterator<Item = &String> {
        (1..).map_while(|number| self.outputs.get(&output::name(number)))
    }

    fn of(stack: &types::Stack) -> Option<Self> {
        let tag = |tag: &Tag| Some((tag.key()?.to_owned(), tag.value()?.to_owned()));
        let output = |output: &types::Output| {
            Some((output.output_key()?.to_owned(), output.output_value()?.to_owned()))
        };
        Some(Self {
            arn: StackArn::parse(stack.stack_id()?)?,
            stage: Stage::of(stack.stack_status()?.as_str()),
            status: stack.stack_status()?.as_str().to_owned(),
            reason: stack.stack_status_reason().map(str::to_owned),
            tags: stack.tags().iter().filter_map(tag).collect(),
            outputs: stack.outputs().iter().filter_map(output).collect(),
        })
    }

    /// Whether the stack has this tag with this value.
    pub fn has_tag(&self, key: &str, value: &str) -> bool {
        tags::value(&self.tags, key) == Some(value)
    }
}

/// A request to create a stack.
#[derive(Debug)]
pub struct StackOrder<'a> {
    /// Its planned ARN: name, region and account.
    pub planned: &'a StackArn,
    /// The template.
    pub body: String,
    /// The template's parameters.
    pub parameters: Vec<(String, String)>,
    /// Additional parameters that must stay hidden.
    pub user_data: Option<&'a HiddenUserData>,
    /// The last stack known to have been created for this order. It may have been deleted.
    pub earlier: Option<StackArn>,
    /// The stack's tags.
    pub tags: Tags,
    /// The tag that identifies a stack of this name as the requested one.
    pub mark: (&'static str, &'a str),
    /// The operation's id.
    pub token: &'a str,
    /// Whether to keep a failed stack for inspection.
    pub keep_failed: bool,
}

impl StackOrder<'_> {
    /// CloudFormation's client token for the stack created after `earlier`: the token of a deleted stack must not be
    /// reused, even by a new process.
    fn token_after(&self, earlier: Option<&StackArn>) -> String {
        match earlier.and_then(|arn| arn.unique.as_ref()) {
            Some(unique) => format!("{}-{unique}", self.token),
            None => self.token.to_owned(),
        }
    }
}

/// The result of creating a stack.
#[derive(Debug)]
pub enum Making {
    /// It exists and is complete.
    Done(Stack),
    /// A resource failed; the remains still hold the stack's name.
    Failed {
        /// The remains.
        stack: Stack,
        /// What failed first.
        failure: Failure,
    },
}

impl Making {
    /// Returns the stack, or the failure as an error.
    pub fn into_stack(self) -> Result<Stack, ProviderError> {
        match self {
            Self::Done(stack) => Ok(stack),
            Self::Failed { failure, .. } => Err(of_event(failure.what)),
        }
    }
}

/// The stacks of a region.
#[derive(Debug, Clone, Copy)]
pub struct Stacks<'a> {
    /// The region's clients.
    pub clients: &'a Clients,
    /// The polling intervals.
    pub pace: PollIntervals,
}

impl Stacks<'_> {
    /// Finds the stack with this ARN or name. A deleted stack can be found only by its ARN.
    pub async fn find(&self, to_ask: &str) -> Result<Option<Stack>, AwsError> {
        let request = self.clients.cloudformation.describe_stacks().stack_name(to_ask);
        let answer =
            request.send().await.map_err(|error| AwsError::of("cloudformation:DescribeStacks", &error));
        match answer {
            Ok(answer) => Ok(answer.stacks().iter().find_map(Stack::of)),
            Err(error) if error.is_no_such_stack() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All stacks that aren't deleted.
    pub async fn all(&self) -> Result<Vec<Stack>, AwsError> {
        let mut stacks = Vec::new();
        let (mut next, mut pages) = (None, Pages::of("cloudformation:DescribeStacks"));
        loop {
            let request = self.clients.cloudformation.describe_stacks().set_next_token(next);
            let answer = request
                .send()
                .await
                .map_err(|error| AwsError::of("cloudformation:DescribeStacks", &error))?;
            stacks.extend(answer.stacks().iter().filter_map(Stack::of));
            next = pages.next(answer.next_token())?;
            if next.is_none() {
                return Ok(stacks);
            }
        }
    }

    /// Creates the stack unless it exists or is being created. After a crash or a lost response, another call finds the
    /// first stack by its name and its mark.
    pub async fn ensure(
        &self,
        order: &StackOrder<'_>,
        work: &mut dyn Work,
    ) -> Result<StackArn, ProviderError> {
        let mut token = order.token_after(order.earlier.as_ref());
        let mut last = None;
        for _ in 0..TRIES {
            if work.interrupted() {
                return Err(ProviderError::Interrupted);
            }
            let refused = match self.send(order, &token).await {
                Ok(arn) => return Ok(arn),
                Err(error) if is_taken(&error) || error.is_transient() => error,
                Err(error) => return Err(error.into()),
            };
            match self.find(&order.planned.name).await? {
                Some(stack) if !stack.has_tag(order.mark.0, order.mark.1) => return Err(not_ours(&stack)),
                Some(stack) if matches!(stack.stage, Stage::Creating | Stage::Created) => {
                    return Ok(stack.arn);
                }
                Some(stack) => {
                    work.step("removing the resources of an earlier attempt from AWS");
                    self.remove(&stack, None, work).await?;
                    token = order.token_after(Some(&stack.arn));
                }
                // It disappeared between the two calls, or the request never arrived. If the request is still in
                // transit, either it or the next attempt finds the name or token taken.
                None => {
                    // It was created and deleted before that could be recorded.
                    if is_token_taken(&refused) {
                        token.push_str("-2");
                    }
                    last = Some(refused);
                }
            }
        }
        Err(last.map_or_else(|| comes_and_goes(order.planned), ProviderError::from))
    }

    async fn send(&self, order: &StackOrder<'_>, token: &str) -> Result<StackArn, AwsError> {
        const ACTION: &str = "cloudformation:CreateStack";
        let parameter =
            |key: &str, value: &str| Parameter::builder().parameter_key(key).parameter_value(value).build();
        let shown = order.parameters.iter().map(|(key, value)| parameter(key, value));
        let hidden = order.user_data.into_iter().flat_map(HiddenUserData::parameters);
        let parameters = shown.chain(hidden.map(|(key, value)| parameter(&key, value)));
        let tag = |(key, value): &(String, String)| Tag::builder().key(key).value(value).build();
        let on_failure = if order.keep_failed { OnFailure::DoNothing } else { OnFailure::Rollback };
        let request = self
            .clients
            .cloudformation
            .create_stack()
            .stack_name(&order.planned.name)
            .template_body(&order.body)
            .set_parameters(Some(parameters.collect()))
            .set_tags(Some(order.tags.iter().map(tag).collect()))
            .client_request_token(token)
            .on_failure(on_failure);
        let answer = request.send().await.map_err(|error| AwsError::of(ACTION, &error))?;
        answer.stack_id().and_then(StackArn::parse).ok_or_else(|| AwsError::NoAnswer {
            action: ACTION,
            detail: "the response contains no stack ARN".to_owned(),
        })
    }

    /// Waits until the stack is settled, reporting CloudFormation's progress. If several resources fail, the first
    /// failure is reported.
    pub async fn wait_created(&self, arn: &StackArn, work: &mut dyn Work) -> Result<Making, ProviderError> {
        let mut log = EventLog::default();
        let stack = self.watch(arn, &mut log, work).await?;
        match stack {
            Some(stack) if stack.stage == Stage::Created => Ok(Making::Done(stack)),
            Some(stack) if stack.stage == Stage::Failed => {
                let failure = log.first_failure().unwrap_or_else(|| {
                    let reason = stack.reason.clone();
                    let what = reason.unwrap_or_else(|| format!("the stack {} failed", arn.name));
                    Failure { what, is_of_the_zone: false }
                });
                Ok(Making::Failed { stack, failure })
            }
            _ => Err(ProviderError::failed(
                format!("the stack {} was deleted while it was being created", arn.name),
                format!("check what else changes it: aws cloudformation list-stacks --region {}", arn.region),
            )),
        }
    }

    /// Waits until the stack is settled. Its own events tell when that is, so each poll is one call; the stack itself
    /// is described only at the end.
    async fn watch(
        &self,
        arn: &StackArn,
        log: &mut EventLog,
        work: &mut dyn Work,
    ) -> Result<Option<Stack>, ProviderError> {
        let (mut wait, mut patience) = (self.pace.first, PATIENCE);
        loop {
            pause(wait, work).await?;
            wait = self.pace.then;
            match self.look(arn, log, work).await {
                Ok(Some(stack)) if stack.stage.is_under_way() => patience = PATIENCE,
                Ok(Some(stack)) => return Ok(Some(stack)),
                Ok(None) => patience = PATIENCE,
                Err(error) if error.is_no_such_stack() => return Ok(None),
                Err(error) => tolerate_transient(&mut patience, error, work)?,
            }
        }
    }

    async fn look(
        &self,
        arn: &StackArn,
        log: &mut EventLog,
        work: &mut dyn Work,
    ) -> Result<Option<Stack>, AwsError> {
        let stage = log.read(&self.clients.cloudformation, arn, work).await?;
        if stage.is_none_or(Stage::is_under_way) {
            return Ok(None);
        }
        self.find(&arn.to_string()).await
    }

    /// Deletes a stack and waits until it no longer exists. `token` is the operation's client token.
    pub async fn remove(
        &self,
        stack: &Stack,
        token: Option<&str>,
        work: &mut dyn Work,
    ) -> Result<(), ProviderError> {
        if stack.stage == Stage::Gone {
            return Ok(());
        }
        let arn = stack.arn.to_string();
        let request = self.clients.cloudformation.delete_stack().stack_name(&arn);
        let request = request.set_client_request_token(token.map(str::to_owned));
        match request.send().await.map_err(|error| AwsError::of("cloudformation:DeleteStack", &error)) {
            Ok(_) => {}
            Err(error) if error.is_no_such_stack() => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let (mut wait, mut patience) = (self.pace.first, PATIENCE);
        loop {
            pause(wait, work).await?;
            wait = self.pace.then;
            match self.find(&arn).await {
                Ok(None) => return Ok(()),
                Ok(Some(now)) if now.stage == Stage::Gone => return Ok(()),
                Ok(Some(now)) if now.stage == Stage::DeleteFailed => return Err(self.stuck(&now).await),
                Ok(Some(_)) => patience = PATIENCE,
                Err(error) => tolerate_transient(&mut patience, error, work)?,
            }
        }
    }

    /// Why a stack can't be deleted. The events name the resources; without them, the stack's own reason is used.
    async fn stuck(&self, stack: &Stack) -> ProviderError {
        let failures = EventLog::delete_failures(&self.clients.cloudformation, &stack.arn).await;
        let mut what = match failures {
            Ok(failures) if !failures.is_empty() => failures.join("; "),
            _ => stack.reason.clone().unwrap_or_default(),
        };
        what = format!("CloudFormation can't delete the stack {}: {what}", stack.arn.name);
        ProviderError::failed(what, "remove what prevents its deletion in AWS")
    }
}

fn is_taken(error: &AwsError) -> bool {
    error.code().is_some_and(|code| code.contains("AlreadyExists"))
}

fn is_token_taken(error: &AwsError) -> bool {
    error.code().is_some_and(|code| code.contains("TokenAlreadyExists"))
}

fn comes_and_goes(arn: &StackArn) -> ProviderError {
    ProviderError::failed(
        format!("the stack {} is being created and deleted concurrently", arn.name),
        format!("check what else changes it: aws cloudformation list-stacks --region {}", arn.region),
    )
}

fn not_ours(stack: &Stack) -> ProviderError {
    let whose = match tags::value(&stack.tags, tags::ID) {
        Some(id) => format!("it belongs to the VM with the id {id}"),
        None => "it wasn't created by goloo".to_owned(),
    };
    let (name, region) = (&stack.arn.name, &stack.arn.region);
    ProviderError::failed(
        format!("the stack {name} already exists in {region}, and {whose}"),
        "use another name with --as",
    )
}
