//! CloudFormation with zones that lack capacity for an instance, which no emulator supports. The proxy plays the stacks
//! that fail there, from creation to deletion; the emulator handles all other stacks.
#![allow(clippy::unwrap_used, reason = "a test double: a panic is its error message")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use crate::aws_answers::{self, Reply, Stack, StackEvent};
use crate::fault_proxy::{FaultProxy, Request};

/// CloudFormation's message for a zone that doesn't offer the instance type:
/// <https://github.com/aws-cloudformation/aws-cloudformation-resource-providers-awsutilities-commandrunner/issues/37>.
pub const UNSUPPORTED: &str = "Your requested instance type (t3.nano) is not supported in your requested Availability Zone (us-east-1e). Please retry your request by not specifying an Availability Zone or choosing us-east-1a, us-east-1b. (Service: AmazonEC2; Status Code: 400; Error Code: Unsupported; Request ID: b9b4b068; Proxy: null)";

/// The message for a zone that offers the type but has no capacity:
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/troubleshooting-launch.html#troubleshooting-launch-capacity>.
pub const NO_CAPACITY: &str = "Resource handler returned message: \"We currently do not have sufficient t3.nano capacity in the Availability Zone you requested (us-east-1a). Our system will be working on provisioning additional capacity. You can currently get t3.nano capacity by not specifying an Availability Zone in your request or choosing us-east-1b. (Service: Ec2, Status Code: 500, Request ID: b9b4b068)\" (RequestToken: 1f2e, HandlerErrorCode: GeneralServiceException)";

/// The stage of a failed stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Failed,
    Deleting,
    Gone,
}

#[derive(Debug, Default)]
struct Stacks {
    /// The subnets whose zones were found to be full.
    full: BTreeSet<String>,
    /// The failed stacks, the last of which may still hold the name.
    failed: Vec<(Stack, Stage)>,
}

/// Full zones for stacks with one name. A clone is another handle on them.
#[derive(Debug, Clone)]
pub struct FullZones {
    name: String,
    /// AWS's reasons, one for each of the first subnets that are tried, whose zones are full.
    reasons: Vec<&'static str>,
    stacks: Arc<Mutex<Stacks>>,
}

impl FullZones {
    /// Makes the zones of the first subnets requested by stacks with this name full, for these reasons.
    pub fn new(name: &str, reasons: &[&'static str]) -> Self {
        Self { name: name.to_owned(), reasons: reasons.to_owned(), stacks: Arc::default() }
    }

    /// Makes a proxy play them; must be repeated after its reset.
    pub fn play(&self, proxy: &FaultProxy) {
        let on = |action: &'static str, play: fn(&Self, &Request) -> Option<Reply>| {
            let zones = self.clone();
            proxy.answer(action, move |request| play(&zones, request));
        };
        on("CreateStack", Self::create);
        on("DescribeStackEvents", Self::events);
        on("DescribeStacks", Self::describe);
        on("DeleteStack", Self::delete);
    }

    /// The failed stacks that still exist.
    pub fn left(&self) -> Vec<String> {
        let stacks = self.stacks.lock().unwrap();
        let left = stacks.failed.iter().filter(|(_, stage)| *stage != Stage::Gone);
        left.map(|(stack, _)| stack.id.clone()).collect()
    }

    /// How many stacks have failed.
    pub fn failures(&self) -> usize {
        self.stacks.lock().unwrap().failed.len()
    }

    fn create(&self, request: &Request) -> Option<Reply> {
        if request.parameter("StackName")? != self.name {
            return None;
        }
        let mut stacks = self.stacks.lock().unwrap();
        if stacks.failed.iter().any(|(_, stage)| *stage != Stage::Gone) {
            let message = format!("Stack [{}] already exists", self.name);
            return Some(aws_answers::error("cloudformation", 400, "AlreadyExistsException", &message));
        }
        let subnet = subnet(request)?;
        if !stacks.full.contains(&subnet) && stacks.full.len() >= self.reasons.len() {
            return None;
        }
        stacks.full.insert(subnet);
        let mut stack = Stack::new(&self.name, "ROLLBACK_COMPLETE");
        stack.id = format!("{}-{}", stack.id, stacks.failed.len() + 1);
        stack.tags = members(request, "Tags", "Key", "Value");
        stack.reason = Some(self.reasons[stacks.full.len() - 1].to_owned());
        let made = aws_answers::create_stack(&stack.id);
        stacks.failed.push((stack, Stage::Failed));
        Some(made)
    }

    fn events(&self, request: &Request) -> Option<Reply> {
        let named = request.parameter("StackName")?;
        let stacks = self.stacks.lock().unwrap();
        let (stack, _) = stacks.failed.iter().find(|(stack, _)| stack.id == named)?;
        let (this, instance) =
            ((self.name.as_str(), "AWS::CloudFormation::Stack"), ("Instance", "AWS::EC2::Instance"));
        let event = |number, resource, status| StackEvent::new(&self.name, number, resource, status);
        let reason = stack.reason.clone();
        let events = [
            event(4, this, "ROLLBACK_COMPLETE"),
            event(3, this, "ROLLBACK_IN_PROGRESS"),
            StackEvent { reason, ..event(2, instance, "CREATE_FAILED") },
            event(1, this, "CREATE_IN_PROGRESS"),
        ];
        Some(aws_answers::describe_stack_events(&events, None))
    }

    /// A deleted stack is described if queried by its id, as AWS does for 90 days.
    fn describe(&self, request: &Request) -> Option<Reply> {
        let named = request.parameter("StackName")?;
        let mut stacks = self.stacks.lock().unwrap();
        let is_meant = |(stack, stage): &&mut (Stack, Stage)| {
            stack.id == named || (stack.name == named && *stage != Stage::Gone)
        };
        let (stack, stage) = stacks.failed.iter_mut().rev().find(is_meant)?;
        stack.status = match stage {
            Stage::Failed => "ROLLBACK_COMPLETE",
            Stage::Deleting => "DELETE_IN_PROGRESS",
            Stage::Gone => "DELETE_COMPLETE",
        }
        .to_owned();
        if *stage == Stage::Deleting {
            *stage = Stage::Gone;
        }
        Some(aws_answers::describe_stacks(std::slice::from_ref(stack)))
    }

    fn delete(&self, request: &Request) -> Option<Reply> {
        let named = request.parameter("StackName")?;
        let mut stacks = self.stacks.lock().unwrap();
        let (_, stage) =
            stacks.failed.iter_mut().rev().find(|(stack, _)| stack.id == named || stack.name == named)?;
        if *stage == Stage::Failed {
            *stage = Stage::Deleting;
        }
        Some(aws_answers::delete_stack())
    }
}

fn subnet(request: &Request) -> Option<String> {
    let parameters = members(request, "Parameters", "ParameterKey", "ParameterValue");
    parameters.into_iter().find(|(key, _)| key == "SubnetId").map(|(_, value)| value)
}

/// A list of pairs in the Query protocol: `Tags.member.1.Key`, `Tags.member.1.Value`.
pub fn members(request: &Request, list: &str, key: &str, value: &str) -> Vec<(String, String)> {
    let part = |number: usize, part: &str| request.parameter(&format!("{list}.member.{number}.{part}"));
    (1..).map_while(|number| Some((part(number, key)?, part(number, value)?))).collect()
}
