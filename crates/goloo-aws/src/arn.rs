//! ARNs of CloudFormation stacks, including their region and account.

use std::fmt;

/// `arn:aws:cloudformation:REGION:ACCOUNT:stack/NAME/UNIQUE`. Without the unique part it is a planned name, which is
/// known before the stack exists and is enough to find it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackArn {
    /// `aws`, `aws-cn`, `aws-us-gov`.
    pub partition: String,
    /// The region.
    pub region: String,
    /// The account id (12 digits).
    pub account: String,
    /// The stack's name.
    pub name: String,
    /// What distinguishes it from earlier and later stacks of the same name.
    pub unique: Option<String>,
}

impl StackArn {
    /// Parses the text form.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.splitn(6, ':');
        let mut field = || fields.next().filter(|field| !field.is_empty()).map(str::to_owned);
        if field()? != "arn" {
            return None;
        }
        let partition = field()?;
        if field()? != "cloudformation" {
            return None;
        }
        let (region, account) = (field()?, field()?);
        let path = field()?;
        let mut path = path.strip_prefix("stack/")?.splitn(2, '/');
        let name = path.next().filter(|name| !name.is_empty())?.to_owned();
        Some(Self { partition, region, account, name, unique: path.next().map(str::to_owned) })
    }

    /// The identifier for CloudFormation requests: the full ARN if known, so that it never refers to another stack with
    /// the same name.
    pub fn to_ask(&self) -> String {
        if self.unique.is_some() { self.to_string() } else { self.name.clone() }
    }
}

impl fmt::Display for StackArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, region, account, name, unique } = self;
        write!(f, "arn:{partition}:cloudformation:{region}:{account}:stack/{name}")?;
        match unique {
            Some(unique) => write!(f, "/{unique}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_stack_arn_survives_a_round_trip() {
        for text in [
            "arn:aws:cloudformation:eu-west-1:123456789012:stack/goloo-web/5a1f-22",
            "arn:aws-cn:cloudformation:cn-north-1:123456789012:stack/goloo-web",
        ] {
            assert_eq!(StackArn::parse(text).unwrap().to_string(), text);
        }
        let planned =
            StackArn::parse("arn:aws:cloudformation:eu-west-1:123456789012:stack/goloo-web").unwrap();
        assert_eq!(planned.to_ask(), "goloo-web");
    }

    #[test]
    fn text_that_is_not_a_stack_arn_is_refused() {
        for text in [
            "",
            "goloo-web",
            "arn:aws:ec2:eu-west-1:123456789012:instance/i-1",
            "arn:aws:cloudformation:::stack/x",
        ] {
            assert_eq!(StackArn::parse(text), None, "{text}");
        }
    }
}
