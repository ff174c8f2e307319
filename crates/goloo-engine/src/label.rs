//! Changes what a record says about a VM and its machine doesn't know: tags, and protection.

use std::collections::BTreeMap;

use goloo_model::name::VmName;
use goloo_model::record::{HistoryAction, LocalContext, Owner, Record};
use goloo_model::store::{Store, StoreError};
use goloo_model::tags;

use crate::error::EngineError;

/// Adds tags to a VM, which replace those with the same key, and removes those with the keys in `remove`. Nothing is
/// written if they are already so.
///
/// # Errors
/// [`EngineError::Refused`] for a key that isn't there and for too many tags; errors of the store.
pub async fn change_tags(
    store: &dyn Store,
    owner: &Owner,
    here: &LocalContext,
    name: &VmName,
    add: &[(String, String)],
    remove: &[String],
) -> Result<Record, EngineError> {
    change_record(store, owner, here, name, HistoryAction::Tag, |record| {
        record.tags = changed(&record.tags, add, remove).map_err(|what| EngineError::Refused {
            what: format!("the tags of \"{name}\" can't be changed: {what}"),
            hint: goloo_model::hint::NextStep::Tags(name.clone()).text(" shows its tags"),
        })?;
        Ok(())
    })
    .await
}

fn changed(
    before: &BTreeMap<String, String>,
    add: &[(String, String)],
    remove: &[String],
) -> Result<BTreeMap<String, String>, String> {
    let mut after = before.clone();
    for key in remove {
        if after.remove(key).is_none() {
            return Err(format!("it has no tag \"{key}\""));
        }
    }
    after.extend(add.iter().cloned());
    tags::check_count(after.len()).map_err(|error| error.to_string())?;
    Ok(after)
}

/// Changes a record under its lock, and adds the action to its history; saves nothing where nothing changes. A record
/// that proved that its VM was created here proves it again: the proof covers tags, for example.
pub(crate) async fn change_record(
    store: &dyn Store,
    owner: &Owner,
    here: &LocalContext,
    name: &VmName,
    action: HistoryAction,
    change: impl FnOnce(&mut Record) -> Result<(), EngineError>,
) -> Result<Record, EngineError> {
    let mut lock = store.lock(name, owner).await?;
    let record = crate::engine::record_under(&mut *lock).await?;
    let before = record.ok_or_else(|| StoreError::NotFound { name: name.clone() })?;
    crate::engine::refuse_full(&before)?;
    crate::engine::refuse_half_renamed(&before)?;
    let mut record = before.clone();
    change(&mut record)?;
    if record == before {
        return Ok(before);
    }
    if here.created(&before) {
        record.prove_again(here);
    }
    if let Some(former) = lock.taken_over() {
        record.history.note_takeover(owner, former);
    }
    record.history.note(action, owner);
    lock.save(&mut record).await?;
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn tags_are_added_replaced_and_removed() {
        let before = tags(&[("team", "web"), ("env", "test")]);
        let add: Vec<_> = tags(&[("team", "db"), ("a", "")]).into_iter().collect();
        let after = changed(&before, &add, &["env".to_owned()]).expect("valid");
        assert_eq!(after, tags(&[("team", "db"), ("a", "")]));
        assert_eq!(changed(&before, &[], &["Env".to_owned()]), Err("it has no tag \"Env\"".to_owned()));
    }

    #[test]
    fn a_vm_has_at_most_100_tags() {
        let many = |count: usize| (0..count).map(|n| (format!("k{n}"), String::new())).collect::<Vec<_>>();
        assert_eq!(changed(&BTreeMap::new(), &many(100), &[]).expect("valid").len(), 100);
        assert!(changed(&BTreeMap::new(), &many(101), &[]).is_err());
    }
}
