//! CloudFormation stacks: made at most once, watched, and taken down; only ever goloo's own.

use std::collections::BTreeMap;

use aws_sdk_cloudformation::types::{self, OnFailure, Parameter, Tag};
use goloo_core::events::Event;
use goloo_core::provider::{ProviderError, Work};

use crate::arn::StackArn;
use crate::error::{AwsError, of_event};
use crate::events::{EventLog, Failure};
use crate::pages::Pages;
use crate::session::Clients;
use crate::settings::Pace;
use crate::tags::{self, Tags};
use crate::template::output;
use crate::user_data::HiddenUserData;

/// The kind under which a VM's stack is noted in the record.
pub const RESOURCE: &str = "cloudformation-stack";

/// So often a stack's making is tried, where its name is taken by a failed one or no answer comes.
const TRIES: u32 = 3;

/// So many questions in a row may fail while something is waited for: AWS goes on without goloo.
pub(crate) const PATIENCE: u32 = 12;

/// How far a stack is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Being made.
    Creating,
    /// There, whole.
    Created,
    /// Being taken back, because something in it failed.
    Failing,
    /// Something in it failed; it holds the name, and perhaps resources.
    Failed,
    /// Being taken down.
    Deleting,
    /// CloudFormation couldn't take it down.
    DeleteFailed,
    /// Gone.
    Gone,
}

impl Stage {
    /// Of CloudFormation's word for a stack's status.
    pub fn of(status: &str) -> Self {
        match status {
            "CREATE_IN_PROGRESS" | "REVIEW_IN_PROGRESS" => Self::Creating,
            "ROLLBACK_IN_PROGRESS" => Self::Failing,
            "CREATE_FAILED" | "ROLLBACK_COMPLETE" | "ROLLBACK_FAILED" => Self::Failed,
            "DELETE_IN_PROGRESS" => Self::Deleting,
            "DELETE_FAILED" => Self::DeleteFailed,
            "DELETE_COMPLETE" => Self::Gone,
            // Someone updates it by hand: it was whole before, and is after.
            _ => Self::Created,
        }
    }

    fn is_under_way(self) -> bool {
        matches!(self, Self::Creating | Self::Failing | Self::Deleting)
    }
}

/// A stack as CloudFormation describes it.
#[derive(Debug, Clone)]
pub struct Stack {
    /// Its whole name.
    pub arn: StackArn,
    /// How far it is.
    pub stage: Stage,
    /// Why, where CloudFormation says so.
    pub reason: Option<String>,
    /// Its tags.
    pub tags: Tags,
    /// Its outputs.
    pub outputs: BTreeMap<String, String>,
}

impl Stack {
    /// The DNS names that the stack was created with, as records note them.
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
            reason: stack.stack_status_reason().map(str::to_owned),
            tags: stack.tags().iter().filter_map(tag).collect(),
            outputs: stack.outputs().iter().filter_map(output).collect(),
        })
    }

    /// Whether it carries this tag with this value.
    pub fn has_tag(&self, key: &str, value: &str) -> bool {
        tags::value(&self.tags, key) == Some(value)
    }
}

/// A stack that is to be.
#[derive(Debug)]
pub struct Order<'a> {
    /// Its name, region and account.
    pub planned: &'a StackArn,
    /// The template.
    pub body: String,
    /// The template's parameters.
    pub parameters: Vec<(String, String)>,
    /// More of them, which nobody may see.
    pub user_data: Option<&'a HiddenUserData>,
    /// The last stack of this order that is known to have been made. It may be gone.
    pub earlier: Option<StackArn>,
    /// Tags of the stack.
    pub tags: Tags,
    /// The tag that tells that a stack of this name is the one that is wanted.
    pub mark: (&'static str, &'a str),
    /// The operation's id.
    pub token: &'a str,
    /// Whether what failed stays, to be looked at.
    pub keep_failed: bool,
}

impl Order<'_> {
    /// CloudFormation's token for the stack that comes after this one: the token of a stack that was removed may
    /// not stand for the next one, also where a new process makes that.
    fn token_after(&self, earlier: Option<&StackArn>) -> String {
        match earlier.and_then(|arn| arn.unique.as_ref()) {
            Some(unique) => format!("{}-{unique}", self.token),
            None => self.token.to_owned(),
        }
    }
}

/// How the making of a stack ended.
#[derive(Debug)]
pub enum Making {
    /// It is there, whole.
    Done(Stack),
    /// Something in it failed; what is left of it holds its name.
    Failed {
        /// What is left.
        stack: Stack,
        /// What failed first.
        failure: Failure,
    },
}

impl Making {
    /// The stack, or what failed.
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
    /// How often is asked.
    pub pace: Pace,
}

impl Stacks<'_> {
    /// The stack of this ARN or name; one that is gone may be found by its ARN.
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

    /// All stacks that aren't gone.
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

    /// Has the stack made, unless it is there or on its way. Called again after a crash or a lost reply
    /// it finds the first one, by its name and its mark.
    pub async fn ensure(&self, order: &Order<'_>, work: &mut dyn Work) -> Result<StackArn, ProviderError> {
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
                    work.step("removing what an earlier try left in AWS");
                    self.remove(&stack, None, work).await?;
                    token = order.token_after(Some(&stack.arn));
                }
                // It went between the two calls, or the call never came through. One that is still on its
                // way finds its own name or token taken by the next try, and the other way round.
                None => {
                    // It was made, came and went before anyone could note it.
                    if is_token_taken(&refused) {
                        token.push_str("-2");
                    }
                    last = Some(refused);
                }
            }
        }
        Err(last.map_or_else(|| comes_and_goes(&order.planned.name), ProviderError::from))
    }

    async fn send(&self, order: &Order<'_>, token: &str) -> Result<StackArn, AwsError> {
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
            detail: "the answer has no stack's ARN".to_owned(),
        })
    }

    /// Waits until nothing moves in the stack any more, telling what CloudFormation does. Where something fails,
    /// what failed first counts.
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
                format!("the stack {} was deleted while it was being made", arn.name),
                "see who else works on it: aws cloudformation list-stacks",
            )),
        }
    }

    /// Waits until nothing moves any more. The stack's own events tell when, so a poll is one call; the
    /// stack itself is asked for then.
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
                Err(error) => bear(&mut patience, error, work)?,
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

    /// Takes a stack down and waits until it is gone. `token` is the operation's.
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
                Err(error) => bear(&mut patience, error, work)?,
            }
        }
    }

    /// Why a stack can't be taken down. The events name the resources; without them the stack's own
    /// reason has to do.
    async fn stuck(&self, stack: &Stack) -> ProviderError {
        let failures = EventLog::delete_failures(&self.clients.cloudformation, &stack.arn).await;
        let mut what = match failures {
            Ok(failures) if !failures.is_empty() => failures.join("; "),
            _ => stack.reason.clone().unwrap_or_default(),
        };
        what = format!("CloudFormation can't delete the stack {}: {what}", stack.arn.name);
        ProviderError::failed(what, "remove what holds it in AWS")
    }
}

/// Waits, unless the user wants to stop.
pub(crate) async fn pause(wait: std::time::Duration, work: &mut dyn Work) -> Result<(), ProviderError> {
    tokio::select! {
        () = work.interruption() => Err(ProviderError::Interrupted),
        () = tokio::time::sleep(wait) => Ok(()),
    }
}

/// Lets a failed question pass while it may be the network's or AWS's mood.
pub(crate) fn bear(patience: &mut u32, error: AwsError, work: &mut dyn Work) -> Result<(), ProviderError> {
    if !error.is_transient() || *patience == 0 {
        return Err(error.into());
    }
    if *patience == PATIENCE {
        work.events().event(Event::Warning(format!("{error}; AWS is asked again")));
    }
    *patience -= 1;
    Ok(())
}

fn is_taken(error: &AwsError) -> bool {
    error.code().is_some_and(|code| code.contains("AlreadyExists"))
}

fn is_token_taken(error: &AwsError) -> bool {
    error.code().is_some_and(|code| code.contains("TokenAlreadyExists"))
}

fn comes_and_goes(name: &str) -> ProviderError {
    ProviderError::failed(
        format!("the stack {name} is there and gone by turns"),
        "see who else works on it: aws cloudformation list-stacks",
    )
}

fn not_ours(stack: &Stack) -> ProviderError {
    let whose = match tags::value(&stack.tags, tags::ID) {
        Some(id) => format!("it belongs to the VM with the id {id}"),
        None => "goloo didn't make it".to_owned(),
    };
    let (name, region) = (&stack.arn.name, &stack.arn.region);
    ProviderError::failed(
        format!("there is a stack {name} in {region} already, and {whose}"),
        "take another name with --as",
    )
}
