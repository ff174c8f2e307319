//! Instances without a goloo record.

use std::collections::BTreeSet;

use goloo_model::name::VmName;
use goloo_model::provider::{Adopted, Orphan, ProviderError};
use goloo_model::record::Record;

use crate::address::Address;
use crate::context::{MultipassProvider, RESOURCE, instance_name};
use crate::create::in_trash;
use crate::json::State;

/// The instances without a record, by name. Omits the trash: the user has deleted those. Running instances are
/// inspected to find out whether they are ours.
pub(crate) async fn find(
    provider: &MultipassProvider,
    known: &[&Record],
) -> Result<Vec<Orphan>, ProviderError> {
    let known: BTreeSet<&str> = known.iter().map(|record| instance_name(record)).collect();
    let mut orphans = Vec::new();
    for instance in provider.instances().await? {
        if known.contains(instance.name.as_str()) || instance.state == State::Deleted {
            continue;
        }
        let ours = provider.has_mark(&instance).await;
        let (state, _) = instance.state.live(&instance.name);
        orphans.push(Orphan { id: instance.name.clone(), name: instance.name, state, ours });
    }
    orphans.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(orphans)
}

/// Adopts the instance with this name.
pub(crate) async fn adopt(provider: &MultipassProvider, name: &str) -> Result<Adopted, ProviderError> {
    let instance = provider.info(name).await?.ok_or_else(|| {
        ProviderError::failed(
            format!("Multipass has no instance \"{name}\""),
            "multipass list shows the instances; use --id NAME if the instance has another name",
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
    Ok(Adopted {
        id: None,
        name: VmName::parse(name).ok(),
        resources: vec![(RESOURCE.to_owned(), name.to_owned())],
        endpoints: made,
    })
}
