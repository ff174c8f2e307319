//! Machines whose record was lost but whose folders still exist.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use goloo_model::hint::NextStep;
use goloo_model::name::{VmId, VmName};
use goloo_model::provider::{Adopted, LiveState, Orphan, ProviderError};
use goloo_model::record::Record;

use crate::machine::{self, MachineFile, RESOURCE};

/// The machines in `vms` without a record, by name.
pub(crate) fn find(vms: &Path, known: &[&Record]) -> Result<Vec<Orphan>, ProviderError> {
    let known: BTreeSet<&VmId> = known.iter().map(|record| &record.id).collect();
    let ids = ids(vms).map_err(|error| unreadable(vms, error))?;
    let mut orphans: Vec<Orphan> =
        ids.into_iter().filter(|id| !known.contains(id)).map(|id| orphan(vms, &id)).collect();
    orphans.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    Ok(orphans)
}

fn ids(vms: &Path) -> io::Result<Vec<VmId>> {
    let entries = match fs::read_dir(vms) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut ids = Vec::new();
    for entry in entries {
        ids.extend(entry?.file_name().to_str().and_then(|name| VmId::parse(name).ok()));
    }
    Ok(ids)
}

fn orphan(vms: &Path, id: &VmId) -> Orphan {
    let files = machine::folder_of(vms, id);
    let (name, state) = match MachineFile::load(&files) {
        Ok(Some(machine)) => {
            let state = match machine::running(&files, &machine) {
                Ok(Some(_)) => LiveState::Running,
                Ok(None) => machine.resting_state(),
                Err(_) => LiveState::Unknown,
            };
            (machine.name, state)
        }
        // Its create died before it wrote a description.
        Ok(None) => (id.to_string(), LiveState::Stopped),
        Err(_) => (id.to_string(), LiveState::Unknown),
    };
    Orphan { name, id: id.to_string(), state, ours: true }
}

/// The machine with this id, or the only one with this name.
pub(crate) fn adopt(vms: &Path, name: &VmName, id: Option<&str>) -> Result<Adopted, ProviderError> {
    let orphans = find(vms, &[])?;
    let wanted = |orphan: &&Orphan| id.map_or(orphan.name == name.as_str(), |id| orphan.id == id);
    let found: Vec<&Orphan> = orphans.iter().filter(wanted).collect();
    let [orphan] = found[..] else {
        let what = match (found.len(), id) {
            (0, Some(id)) => format!("there is no machine {id} in {}", vms.display()),
            (0, None) => format!("there is no machine \"{name}\" in {}", vms.display()),
            (count, _) => format!("{count} machines in {} are called \"{name}\"", vms.display()),
        };
        return Err(ProviderError::failed(
            what,
            NextStep::Doctor.text(" lists them; choose one with --id ID"),
        ));
    };
    let id = VmId::parse(&orphan.id).map_err(|error| unreadable(vms, io::Error::other(error)))?;
    let files = machine::folder_of(vms, &id);
    let machine = MachineFile::load(&files).map_err(|error| unreadable(files.folder(), error))?;
    let machine = machine.filter(|machine| machine.made).ok_or_else(|| {
        ProviderError::failed(
            format!("the machine in {} was never completely created", files.folder().display()),
            format!("rm -r {}, if you are sure that no goloo process is using it", files.folder().display()),
        )
    })?;
    Ok(Adopted {
        name: VmName::parse(&machine.name).ok(),
        resources: vec![(RESOURCE.to_owned(), files.folder().display().to_string())],
        endpoints: machine.ssh_port.map(|port| machine.endpoint(port).into()),
        id: Some(id),
    })
}

fn unreadable(path: &Path, error: io::Error) -> ProviderError {
    ProviderError::caused(format!("{} can't be read", path.display()), "check its permissions", error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use goloo_model::hint::Hint;

    use super::*;

    fn machine(vms: &Path, name: &str, made: bool) -> String {
        let id = VmId::generate();
        let files = machine::folder_of(vms, &id);
        fs::create_dir_all(files.folder()).unwrap();
        machine::sample(&id, name, made).save(&files).unwrap();
        id.to_string()
    }

    fn refusal(vms: &Path, name: &str, id: Option<&str>) -> (String, Hint) {
        match adopt(vms, &VmName::parse(name).unwrap(), id) {
            Err(ProviderError::Failed { what, hint, .. }) => (what, hint),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_ambiguous_machine_name_requires_an_id() {
        let folder = tempfile::tempdir().unwrap();
        let vms = folder.path();
        let (one, two) = (machine(vms, "twin", true), machine(vms, "twin", true));
        let (what, hint) = refusal(vms, "twin", None);
        assert!(what.starts_with("2 machines in ") && hint.debug_text().contains("--id"), "{what}, {hint:?}");
        for id in [one, two] {
            // The old name doesn't matter: the record may get another one.
            let adopted = adopt(vms, &VmName::parse("other").unwrap(), Some(&id)).unwrap();
            assert_eq!(adopted.id.unwrap().as_str(), id);
            assert_eq!(adopted.name.unwrap().as_str(), "twin");
            assert!(matches!(adopted.endpoints, Some(found) if found.endpoint.ssh_port == Some(20_022)));
        }
    }

    #[test]
    fn an_unfinished_machine_is_found_but_not_adopted() {
        let folder = tempfile::tempdir().unwrap();
        let vms = folder.path();
        let (half, empty) = (machine(vms, "half", false), VmId::generate().to_string());
        fs::create_dir(vms.join(&empty)).unwrap();
        let broken = machine(vms, "broken", true);
        fs::write(vms.join(&broken).join("machine.json"), "{").unwrap();
        fs::create_dir(vms.join("not-goloo-s")).unwrap();
        let orphans = find(vms, &[]).unwrap();
        let mut found: Vec<_> = orphans.iter().map(|orphan| (orphan.id.clone(), orphan.state)).collect();
        let mut expected = vec![
            (half, LiveState::Stopped),
            (empty.clone(), LiveState::Stopped),
            (broken.clone(), LiveState::Unknown),
        ];
        found.sort_by(|a, b| a.0.cmp(&b.0));
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(found, expected);
        for (name, id, says) in [
            ("half", None, "was never completely created"),
            ("empty", Some(empty.as_str()), "was never completely created"),
            ("broken", Some(broken.as_str()), "can't be read"),
            ("nobody", None, "there is no machine \"nobody\""),
        ] {
            assert!(refusal(vms, name, id).0.contains(says), "{name}");
        }
    }
}
