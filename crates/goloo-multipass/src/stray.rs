//! Instances that goloo has no record of.

use std::collections::BTreeSet;

use goloo_core::provider::{Adopted, ProviderError, Stray};
use goloo_core::record::Record;

use crate::address::Address;
use crate::create::in_trash;
use crate::json::State;
use crate::provider::{MultipassProvider, RESOURCE, instance_name};

/// The instances that no record leads to, by name, without the trash: the user has thrown that away. Ours
/// are told by looking into those that run.
pub(crate) async fn find(
    provider: &MultipassProvider,
    known: &[&Record],
) -> Result<Vec<Stray>, ProviderError> {
    let known: BTreeSet<&str> = known.iter().map(|record| instance_name(record)).collect();
    let mut strays = Vec::new();
    for instance in provider.instances().await? {
        if known.contains(instance.name.as_str()) || instance.state == State::Deleted {
            continue;
        }
        let ours = provider.has_mark(&instance).await;
        let (state, _) = instance.state.live(&instance.name);
        strays.push(Stray { id: instance.name.clone(), name: instance.name, state, ours });
    }
    strays.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(strays)
}

/// The instance of this name.
pub(crate) async fn adopt(provider: &MultipassProvider, name: &str) -> Result<Adopted, ProviderError> {
    let instance = provider.info(name).await?.ok_or_else(|| {
        ProviderError::failed(
            format!("Multipass has no instance {name}"),
            "multipass list shows them; --id NAME picks one that is called otherwise",
        )
    })?;
    if instance.state == State::Deleted {
        return Err(in_trash(name, "the same command again"));
    }
    let made = match instance.state {
        State::Running => match provider.address(name, None).await? {
            Address::Own(ip) => Some(provider.made(ip)),
            Address::NotYet | Address::GuestSilent => None,
        },
        _ => None,
    };
    Ok(Adopted { id: None, resources: vec![(RESOURCE.to_owned(), name.to_owned())], made })
}
