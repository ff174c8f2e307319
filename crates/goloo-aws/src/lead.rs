//! Where in AWS a record leads to.

use goloo_core::record::Record;

use crate::arn::StackArn;
use crate::details::Details;
use crate::stack;

/// The kind under which an instance is noted that has no stack of goloo's.
pub const INSTANCE: &str = "ec2-instance";

/// What a record says of its VM's place. A record that names neither a stack nor an instance leads
/// nowhere: nothing is made before it is noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lead {
    /// Its stack, as exactly as it is known.
    pub stack: Option<StackArn>,
    /// Its instance.
    pub instance: Option<String>,
    /// The region, where it is known.
    pub region: Option<String>,
}

impl Lead {
    /// Of a record.
    pub fn of(record: &Record) -> Self {
        let aws = record.aws.as_ref();
        let noted = record.resources.iter().filter(|resource| resource.kind == stack::RESOURCE);
        let noted = noted.map(|resource| resource.id.as_str());
        let in_section = aws.and_then(|aws| aws.stack_id.as_deref());
        let mut stacks: Vec<StackArn> =
            in_section.into_iter().chain(noted).filter_map(StackArn::parse).collect();
        // A whole ARN says more than a name, and a later one more than an earlier.
        stacks.sort_by_key(|arn| arn.unique.is_some());
        let stack = stacks.pop();
        let instances = record.resources.iter().filter(|resource| resource.kind == INSTANCE);
        let noted_instance = instances.map(|resource| resource.id.clone()).next_back();
        let region = aws.and_then(|aws| Details::of(aws).region);
        Self {
            region: stack.as_ref().map(|arn| arn.region.clone()).or(region),
            instance: aws.and_then(|aws| aws.instance_id.clone()).or(noted_instance),
            stack,
        }
    }

    /// Whether there is anything to be found.
    pub fn leads_somewhere(&self) -> bool {
        self.stack.is_some() || self.instance.is_some()
    }

    /// The account, where it is known.
    pub fn account(&self) -> Option<&str> {
        self.stack.as_ref().map(|arn| arn.account.as_str())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use goloo_core::name::OperationId;
    use goloo_core::provider::resource;
    use goloo_testkit::samples;

    use super::*;

    const PLANNED: &str = "arn:aws:cloudformation:eu-west-1:123456789012:stack/goloo-web";

    #[test]
    fn the_whole_arn_counts_before_the_planned_name() {
        let mut record = samples::creating(&samples::name("web"));
        assert!(!Lead::of(&record).leads_somewhere());
        let operation = OperationId::generate();
        record.resources.push(resource(stack::RESOURCE, PLANNED, &operation));
        let lead = Lead::of(&record);
        assert_eq!(lead.stack.as_ref().unwrap().to_ask(), "goloo-web");
        assert_eq!((lead.region.as_deref(), lead.account()), (Some("eu-west-1"), Some("123456789012")));
        record.resources.insert(0, resource(stack::RESOURCE, &format!("{PLANNED}/1"), &operation));
        assert_eq!(Lead::of(&record).stack.unwrap().to_ask(), format!("{PLANNED}/1"));
    }
}
