//! Where in AWS a record's VM is.

use goloo_model::provider::ProviderError;
use goloo_model::record::Record;

use crate::arn::StackArn;
use crate::details::Details;
use crate::stack;

/// The resource kind under which an instance without a goloo stack is recorded.
pub const INSTANCE: &str = "ec2-instance";

/// The location of a record's VM. If it names neither a stack nor an instance, nothing exists: resources are recorded
/// before they are created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceRef {
    /// Its stack, as precisely as it is known.
    pub stack: Option<StackArn>,
    /// Its instance.
    pub instance: Option<String>,
    /// The region, if known.
    pub region: Option<String>,
}

impl ResourceRef {
    /// Extracts it from a record.
    pub fn of(record: &Record) -> Result<Self, ProviderError> {
        let Details { stack_id, instance_id, region, .. } = Details::of(record)?;
        let noted = record.resources.iter().filter(|resource| resource.kind == stack::RESOURCE);
        let noted = noted.map(|resource| resource.id.as_str());
        let mut stacks: Vec<StackArn> =
            stack_id.as_deref().into_iter().chain(noted).filter_map(StackArn::parse).collect();
        // A full ARN takes precedence over a name, and a later ARN over an earlier one.
        stacks.sort_by_key(|arn| arn.unique.is_some());
        let stack = stacks.pop();
        let instances = record.resources.iter().filter(|resource| resource.kind == INSTANCE);
        let noted_instance = instances.map(|resource| resource.id.clone()).next_back();
        Ok(Self {
            region: stack.as_ref().map(|arn| arn.region.clone()).or(region),
            instance: instance_id.or(noted_instance),
            stack,
        })
    }

    /// Of a VM of which nothing is known.
    pub fn unknown() -> Self {
        Self { stack: None, instance: None, region: None }
    }

    /// Whether it names any resource.
    pub fn is_known(&self) -> bool {
        self.stack.is_some() || self.instance.is_some()
    }

    /// The account, if known.
    pub fn account(&self) -> Option<&str> {
        self.stack.as_ref().map(|arn| arn.account.as_str())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use goloo_model::name::OperationId;
    use goloo_model::provider::resource;
    use goloo_testkit::samples;

    use super::*;

    const PLANNED: &str = "arn:aws:cloudformation:eu-west-1:123456789012:stack/goloo-web";

    #[test]
    fn the_full_arn_takes_precedence_over_the_planned_name() {
        let mut record = samples::creating(&samples::name("web"));
        assert!(!ResourceRef::of(&record).unwrap().is_known());
        let operation = OperationId::generate();
        record.resources.push(resource(stack::RESOURCE, PLANNED, &operation));
        let resource_ref = ResourceRef::of(&record).unwrap();
        assert_eq!(resource_ref.stack.as_ref().unwrap().to_ask(), "goloo-web");
        assert_eq!(
            (resource_ref.region.as_deref(), resource_ref.account()),
            (Some("eu-west-1"), Some("123456789012"))
        );
        record.resources.insert(0, resource(stack::RESOURCE, &format!("{PLANNED}/1"), &operation));
        assert_eq!(ResourceRef::of(&record).unwrap().stack.unwrap().to_ask(), format!("{PLANNED}/1"));
    }
}
