//! The name that a provider knows a new machine by.

use std::collections::BTreeSet;

use goloo_model::name::{VmId, VmName};
use goloo_model::store::{Store, StoreError};

/// The name, unless the machine of another VM has it: that VM was renamed, or is to be replaced by this one. Then one
/// that begins with it. Broken records are skipped: `list` reports them, and the provider refuses a name that is in use.
///
/// # Errors
/// Errors of the store.
pub async fn free_machine_name(store: &dyn Store, name: &VmName, id: &VmId) -> Result<VmName, StoreError> {
    let records = store.records().await?.entries;
    let used: BTreeSet<&VmName> = records
        .iter()
        .filter(|loaded| loaded.record.id != *id)
        .map(|loaded| loaded.record.machine_name())
        .collect();
    Ok(choose(name, id, &used))
}

fn choose(name: &VmName, id: &VmId, used: &BTreeSet<&VmName>) -> VmName {
    if !used.contains(name) {
        return name.clone();
    }
    let with_id = |id: &str| name.with_ending(&format!("-{id}"));
    let short = with_id(&id.short());
    if used.contains(&short) { with_id(&id.as_str().to_ascii_lowercase()) } else { short }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use goloo_model::name::NAME_MAX;

    use super::*;

    fn name(text: &str) -> VmName {
        VmName::parse(text).unwrap()
    }

    #[test]
    fn a_name_that_is_in_use_gets_a_part_of_the_id_as_suffix() {
        let id = VmId::parse("01JHN3W1T3K9Q2Z8F6B4C7D5E0").unwrap();
        let (web, long) = (name("web"), name(&"w".repeat(NAME_MAX)));
        assert_eq!(choose(&web, &id, &BTreeSet::new()), web);
        assert_eq!(choose(&web, &id, &[&web].into()), name("web-d5e0"));
        assert_eq!(
            choose(&web, &id, &[&web, &name("web-d5e0")].into()),
            name("web-01jhn3w1t3k9q2z8f6b4c7d5e0")
        );
        let shortened = choose(&long, &id, &[&long].into());
        assert_eq!(shortened, name(&format!("{}-d5e0", "w".repeat(NAME_MAX - 5))));
    }
}
