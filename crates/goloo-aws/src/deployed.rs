//! The template of an existing stack, edited in place: all that isn't to be changed stays as CloudFormation has it, so
//! that no update replaces the instance. Pure.

use goloo_model::provider::ProviderError;
use goloo_model::spec::PortForward;
use serde_json::{Map, Value, json};

use crate::arn::StackArn;
use crate::template::{self, output, parameter, rule};

/// Where the template has the properties of the two resources that are changed.
const INSTANCE: &str = "/Resources/Instance/Properties";
const RULES: &str = "/Resources/SecurityGroup/Properties/SecurityGroupIngress";

/// A template that CloudFormation has, or is to have.
#[derive(Debug, Clone, PartialEq)]
pub struct DeployedTemplate(Value);

/// What is to be different in a template; `None` is left as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TemplateChange {
    /// The CIDR blocks that may reach port 22.
    pub ssh_cidr: Option<Vec<String>>,
    /// The ports that are open to everyone.
    pub ports: Option<Vec<PortForward>>,
    /// The instance type.
    pub instance_type: Option<String>,
    /// The DNS names, in the form used in records.
    pub names: Option<Vec<String>>,
    /// Whether a shutdown from within terminates the instance.
    pub shutdown_terminates: Option<bool>,
}

impl TemplateChange {
    /// Whether nothing is to be different.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl DeployedTemplate {
    /// Of a VM's stack.
    ///
    /// # Errors
    /// When it isn't built as goloo's are, for example after it was replaced manually.
    pub fn parse(text: &str, arn: &StackArn) -> Result<Self, ProviderError> {
        let value = serde_json::from_str::<Value>(text).unwrap_or_default();
        let has = |pointer: &str, is_it: fn(&Value) -> bool| value.pointer(pointer).is_some_and(is_it);
        let is_ours = has(RULES, Value::is_array)
            && has(INSTANCE, Value::is_object)
            && has("/Parameters", Value::is_object)
            && has("/Outputs", Value::is_object);
        if is_ours {
            return Ok(Self(value));
        }
        let (name, region) = (&arn.name, &arn.region);
        Err(ProviderError::Unsupported {
            what: format!(
                "the template of the stack {name} isn't one of this version of goloo's, so it can't be changed"
            ),
            hint: format!("aws cloudformation get-template --region {region} --stack-name {name} shows it")
                .into(),
        })
    }

    /// The template after a change.
    pub fn with(&self, change: &TemplateChange) -> Self {
        let mut edited = self.clone();
        if let Some(blocks) = &change.ssh_cidr {
            edited.replace_rules(rule::SSH, template::ssh_rules(blocks));
        }
        if let Some(ports) = &change.ports {
            edited.replace_rules(rule::PORT, template::port_rules(ports));
        }
        if let Some(instance_type) = &change.instance_type {
            edited.set_instance_type(instance_type);
        }
        if let Some(terminates) = change.shutdown_terminates {
            let properties = edited.object(INSTANCE);
            properties.remove(template::SHUTDOWN);
            properties.extend(template::on_shutdown(terminates));
        }
        if let Some(names) = &change.names {
            let outputs = edited.object("/Outputs");
            outputs.retain(|key, _| !output::is_name(key));
            outputs.extend(template::name_outputs(names));
        }
        edited
    }

    /// Rules that were added to the template manually have another description, and stay.
    fn replace_rules(&mut self, description: &str, rules: Vec<Value>) {
        let Some(all) = self.0.pointer_mut(RULES).and_then(Value::as_array_mut) else { return };
        all.retain(|rule| rule["Description"] != description);
        all.extend(rules);
        // In the order of a new template, so that the same rules are the same template.
        all.sort_by_key(|rule| match rule["Description"].as_str() {
            Some(rule::SSH) => 0,
            Some(rule::PORT) => 1,
            _ => 2,
        });
    }

    fn set_instance_type(&mut self, instance_type: &str) {
        let properties = self.object(INSTANCE);
        properties.insert("InstanceType".to_owned(), json!(instance_type));
        match template::credit_specification(instance_type) {
            Some(credits) => properties.insert("CreditSpecification".to_owned(), credits),
            None => properties.remove("CreditSpecification"),
        };
    }

    /// The same template, with the AMI as an id: CloudFormation resolves the name of a public parameter again at each
    /// update, and would replace the instance as soon as there is a newer AMI.
    pub fn with_fixed_image(&self) -> Self {
        let mut edited = self.clone();
        let declaration = json!({"Type": "AWS::EC2::Image::Id"});
        edited.object("/Parameters").insert(parameter::IMAGE.to_owned(), declaration);
        edited
    }

    /// The names of its parameters.
    pub fn parameters(&self) -> impl Iterator<Item = &String> {
        self.0["Parameters"].as_object().into_iter().flat_map(Map::keys)
    }

    /// In the form that CloudFormation takes.
    ///
    /// # Errors
    /// When it is too long.
    pub fn body(&self) -> Result<String, ProviderError> {
        template::body(&self.0)
    }

    fn object(&mut self, pointer: &str) -> &mut Map<String, Value> {
        let object = self.0.pointer_mut(pointer).and_then(Value::as_object_mut);
        object.expect("it was there when the template was parsed")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use goloo_model::spec::ImageRef;
    use goloo_testkit::samples::forwards;

    use super::*;
    use crate::ami::Ami;
    use crate::template::{Placement, VmTemplate};

    /// The template of a new VM with these ports, SSH addresses and instance type.
    fn template(ports: &[&str], ssh_cidr: &[&str], instance_type: &str, names: &[&str]) -> DeployedTemplate {
        let image = ImageRef::Alias("ubuntu-24.04".into());
        let mut machine = goloo_testkit::provider_suite::machine("web", image, b"#cloud-config\n");
        machine.id = goloo_model::name::VmId::parse("01JHN3W1T3K9Q2Z8F6B4C7D5E0").unwrap();
        machine.token = goloo_model::name::OperationId::parse("01JHN3W1T3K9Q2Z8F6B4C7D5E1").unwrap();
        machine.stack.ports = forwards(ports);
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let parameter = "/aws/service/canonical/ubuntu".to_owned();
        let value = VmTemplate {
            machine: &machine,
            ami: &Ami::Newest { os: "ubuntu-24.04", parameter, root_device: "/dev/sda1" },
            root_device: "/dev/sda1",
            instance_type,
            ssh_cidr: &texts(ssh_cidr),
            place: Placement::Subnet { public: true },
            names: &texts(names),
        };
        DeployedTemplate(value.value())
    }

    #[test]
    fn a_changed_template_equals_that_of_a_new_vm_with_the_same_values() {
        let old = template(&["80"], &["198.51.100.0/24"], "t3.nano", &["Z1/A/web.example.com"]);
        let change = TemplateChange {
            ssh_cidr: Some(vec!["203.0.113.7/32".to_owned()]),
            ports: Some(forwards(&["443", "53:53/udp"])),
            instance_type: Some("m7i.large".to_owned()),
            names: Some(vec!["Z1/A/a.example.com".to_owned(), "Z1/A/b.example.com".to_owned()]),
            shutdown_terminates: Some(true),
        };
        let names = ["Z1/A/a.example.com", "Z1/A/b.example.com"];
        let mut new = template(&["443", "53:53/udp"], &["203.0.113.7/32"], "m7i.large", &names);
        new.object(INSTANCE).extend(template::on_shutdown(true));
        assert_eq!(old.with(&change), new);
        assert!(old.0.pointer("/Resources/Instance/Properties/CreditSpecification").is_some());
        assert_eq!(old.with(&TemplateChange::default()), old);
        let back = TemplateChange {
            ssh_cidr: Some(vec!["198.51.100.0/24".to_owned()]),
            ports: Some(forwards(&["80"])),
            instance_type: Some("t3.nano".to_owned()),
            names: Some(vec!["Z1/A/web.example.com".to_owned()]),
            shutdown_terminates: Some(false),
        };
        assert_eq!(new.with(&back), old);
    }

    #[test]
    fn only_the_properties_that_are_to_change_are_touched() {
        let old = template(&["80"], &["198.51.100.0/24"], "t3.nano", &[]);
        let mut new = old.with(&TemplateChange { ports: Some(Vec::new()), ..TemplateChange::default() });
        let rules = new.0.pointer_mut(RULES).unwrap();
        assert_eq!(rules.as_array().unwrap().len(), 1);
        *rules = old.0.pointer(RULES).unwrap().clone();
        assert_eq!(new, old);
    }

    #[test]
    fn a_rule_that_was_added_manually_is_kept() {
        let mut old = template(&["80"], &["198.51.100.0/24"], "t3.nano", &[]);
        let own = json!({"IpProtocol": "icmp", "FromPort": -1, "ToPort": -1, "CidrIp": "0.0.0.0/0"});
        old.0.pointer_mut(RULES).unwrap().as_array_mut().unwrap().push(own.clone());
        let new = old.with(&TemplateChange { ports: Some(forwards(&["443"])), ..TemplateChange::default() });
        let rules = new.0.pointer(RULES).unwrap().as_array().unwrap();
        assert_eq!((rules.len(), rules.last()), (3, Some(&own)));
    }

    #[test]
    fn the_image_is_fixed_as_an_id() {
        let fixed = template(&[], &[], "t3.nano", &[]).with_fixed_image();
        assert_eq!(fixed.0["Parameters"]["ImageId"], json!({"Type": "AWS::EC2::Image::Id"}));
        assert_eq!(fixed.with_fixed_image(), fixed);
    }

    #[test]
    fn a_template_of_another_form_is_refused() {
        let arn = StackArn::parse("arn:aws:cloudformation:us-east-1:123456789012:stack/goloo-web/1").unwrap();
        for text in ["", "Resources:\n  Instance: {}", "{}", r#"{"Resources": {"Instance": {}}}"#] {
            let error = DeployedTemplate::parse(text, &arn).unwrap_err();
            assert!(matches!(error, ProviderError::Unsupported { .. }), "{error:?}");
        }
        let ours = template(&[], &[], "t3.nano", &[]);
        assert_eq!(DeployedTemplate::parse(&ours.body().unwrap(), &arn).unwrap(), ours);
    }
}
