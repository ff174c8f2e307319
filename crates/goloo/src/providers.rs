//! The registry of providers. A program that has others adds them to [`providers`] with [`Providers::with`]; all other
//! code asks the registry, and never which provider it is.

use std::sync::Arc;

use goloo_model::provider::{ProviderContext, ProviderFactory};
use goloo_model::provider_id::ProviderId;
use goloo_model::provider_info::{LocalChoice, MachinePlace, ProviderInfo};
use goloo_model::record::Record;
use goloo_model::spec::ConfigSection;
use goloo_model::store::Summary;

/// The providers of goloo itself.
pub fn providers() -> Providers {
    let providers = Providers::default().with(goloo_qemu::provider()).with(goloo_multipass::provider());
    #[cfg(feature = "aws")]
    let providers = providers.with(goloo_aws::provider());
    providers
}

/// The providers of a program, in the order in which they are named to people.
#[derive(Clone, Default)]
pub struct Providers(Vec<Arc<dyn ProviderFactory>>);

impl std::fmt::Debug for Providers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Providers").field(&self.ids()).finish()
    }
}

impl Providers {
    /// With one more. One of the same id is replaced.
    #[must_use]
    pub fn with(mut self, factory: impl ProviderFactory + 'static) -> Self {
        self.0.retain(|known| known.info().id != factory.info().id);
        self.0.push(Arc::new(factory));
        self
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &dyn ProviderFactory> {
        self.0.iter().map(|factory| &**factory)
    }

    /// Their ids.
    pub fn ids(&self) -> Vec<ProviderId> {
        self.iter().map(|factory| factory.info().id).collect()
    }

    /// The one with this id.
    pub fn get(&self, id: ProviderId) -> Option<&dyn ProviderFactory> {
        self.iter().find(|factory| factory.info().id == id)
    }

    /// What the one with this id is.
    pub fn info(&self, id: ProviderId) -> Option<&'static ProviderInfo> {
        self.get(id).map(ProviderFactory::info)
    }

    /// The sections of `config.json` that they own.
    pub fn config_sections(&self) -> Vec<ConfigSection> {
        let section = |factory: &dyn ProviderFactory| {
            Some(ConfigSection { provider: factory.info().id, schema: factory.config_schema()? })
        };
        self.iter().filter_map(section).collect()
    }

    /// The provider of local VMs where nobody has named one: the first that is installed of those that want to be, else
    /// the first of the others.
    pub(crate) fn of_local_vms(&self, context: &ProviderContext) -> Option<ProviderId> {
        let choice = |wanted: LocalChoice| self.iter().filter(move |one| one.info().local_choice == wanted);
        let installed = choice(LocalChoice::IfInstalled).find(|factory| factory.is_installed(context));
        installed.or_else(|| choice(LocalChoice::Otherwise).next()).map(|factory| factory.info().id)
    }

    /// Checks what others may have written into a record for its provider. Records of providers that this program
    /// doesn't have are only shown.
    ///
    /// # Errors
    /// The first field that breaks its rule, and the rule.
    pub(crate) fn check(&self, record: &Record) -> Result<(), String> {
        self.check_address(record.provider, record.ip())?;
        let Some(factory) = self.get(record.provider) else { return Ok(()) };
        factory.check_details(&record.details).map_err(|error| format!("{}.{error}", record.provider))
    }

    /// Corrects whether a record's machine belongs to one host. The provider decides that if the program has it: anyone
    /// who can write to the store can write that a machine belongs to no host.
    pub(crate) fn correct_place(&self, id: ProviderId, host_bound: &mut bool) {
        if let Some(info) = self.info(id) {
            *host_bound = info.is_host_bound();
        }
    }

    /// The same for what a list shows of it.
    pub(crate) fn check_summary(&self, summary: &Summary) -> Result<(), String> {
        self.check_address(summary.provider, summary.ip.as_deref())
    }

    /// What is reached on a forwarded port of this computer is at no address that a record could choose.
    fn check_address(&self, id: ProviderId, address: Option<&str>) -> Result<(), String> {
        let is_here = self.info(id).is_some_and(|info| info.place == MachinePlace::Loopback);
        let is_loopback =
            |ip: &str| ip.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        match address.filter(|ip| is_here && !is_loopback(ip)) {
            Some(ip) => Err(format!(
                "endpoint.address: {ip:?} is not a loopback address, but machines of {id} are only reachable there"
            )),
            None => Ok(()),
        }
    }
}

/// Ids for people: "qemu, multipass and aws".
pub fn listed(ids: &[ProviderId]) -> String {
    let words: Vec<&str> = ids.iter().map(ProviderId::as_str).collect();
    match words.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, first)) => format!("{} and {last}", first.join(", ")),
        None => "none".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use goloo_model::record::Endpoint;
    use goloo_testkit::samples::{in_aws, name, ready};

    use super::*;

    #[test]
    fn the_testkit_knows_what_the_providers_are() {
        assert_eq!(goloo_qemu::INFO, goloo_testkit::providers::QEMU);
        assert_eq!(goloo_multipass::INFO, goloo_testkit::providers::MULTIPASS);
        #[cfg(feature = "aws")]
        assert_eq!(goloo_aws::INFO, goloo_testkit::providers::AWS);
    }

    #[test]
    fn ids_are_listed_as_a_person_would() {
        assert_eq!(listed(&providers().ids()[..2]), "qemu and multipass");
        assert_eq!((listed(&providers().ids()[..1]), listed(&[])), ("qemu".to_owned(), "none".to_owned()));
    }

    /// Such a machine is reached on a forwarded port of this host, never at an address chosen by a record.
    #[test]
    fn a_qemu_machine_must_have_a_loopback_address() {
        let checked = |provider: ProviderId, ip: &str| {
            let endpoint = Endpoint::new(ip.parse().unwrap(), 22);
            let record = Record { provider, endpoint, ..ready(&name("web")) };
            let check = providers().check(&record);
            assert_eq!(check, providers().check_summary(&Summary::from(&record)));
            check
        };
        for (provider, ip) in [
            (goloo_qemu::INFO.id, "127.0.0.1"),
            (goloo_qemu::INFO.id, "127.3.2.1"),
            (goloo_qemu::INFO.id, "::1"),
            (goloo_multipass::INFO.id, "10.0.0.2"),
            (ProviderId::known("unknown"), "10.0.0.2"),
        ] {
            checked(provider, ip).unwrap();
        }
        for ip in ["10.0.0.2", "192.0.2.1", "0.0.0.0", "2001:db8::1", "localhost", "evil.example"] {
            let error = checked(goloo_qemu::INFO.id, ip).unwrap_err();
            assert!(error.starts_with("endpoint.address: ") && error.contains("loopback"), "{ip}: {error}");
        }
    }

    #[cfg(feature = "aws")]
    #[test]
    fn a_provider_checks_its_section_of_records() {
        let mut record = in_aws(&name("web"));
        providers().check(&record).unwrap();
        record.details.insert("region".into(), "us-east-1.evil.example".into());
        assert!(providers().check(&record).unwrap_err().starts_with("aws.region: "));
        record.provider = ProviderId::known("unknown");
        providers().check(&record).unwrap();
    }
}
