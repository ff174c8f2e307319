//! Machines whose record was lost: their folders are still there.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use goloo_core::name::{VmId, VmName};
use goloo_core::provider::{Adopted, LiveState, Made, ProviderError, Stray};
use goloo_core::record::{Local, Record};

use crate::machine::{self, MachineFile};
use crate::provider::RESOURCE;

/// The machines in `vms` that no record leads to, by name.
pub(crate) fn find(vms: &Path, known: &[&Record]) -> Result<Vec<Stray>, ProviderError> {
    let known: BTreeSet<&VmId> = known.iter().map(|record| &record.id).collect();
    let ids = ids(vms).map_err(|error| unreadable(vms, error))?;
    let mut strays: Vec<Stray> =
        ids.into_iter().filter(|id| !known.contains(id)).map(|id| stray(vms, &id)).collect();
    strays.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    Ok(strays)
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

fn stray(vms: &Path, id: &VmId) -> Stray {
    let files = machine::folder_of(vms, id);
    let (name, state) = match MachineFile::load(&files) {
        Ok(Some(machine)) => {
            let state = match machine::running(&files, &machine) {
                Ok(Some(_)) => LiveState::Running,
                Ok(None) => LiveState::Stopped,
                Err(_) => LiveState::Unknown,
            };
            (machine.name, state)
        }
        // Its create died before it was described.
        Ok(None) => (id.to_string(), LiveState::Stopped),
        Err(_) => (id.to_string(), LiveState::Unknown),
    };
    Stray { name, id: id.to_string(), state, ours: true }
}

/// The machine of this id, or the only one of this name.
pub(crate) fn adopt(vms: &Path, name: &VmName, id: Option<&str>) -> Result<Adopted, ProviderError> {
    let strays = find(vms, &[])?;
    let wanted = |stray: &&Stray| id.map_or(stray.name == name.as_str(), |id| stray.id == id);
    let found: Vec<&Stray> = strays.iter().filter(wanted).collect();
    let [stray] = found[..] else {
        let what = match (found.len(), id) {
            (0, Some(id)) => format!("there is no machine {id} in {}", vms.display()),
            (0, None) => format!("there is no machine \"{name}\" in {}", vms.display()),
            (count, _) => format!("{count} machines in {} are called \"{name}\"", vms.display()),
        };
        return Err(ProviderError::failed(what, "goloo doctor lists them; --id ID picks one"));
    };
    let id = VmId::parse(&stray.id).map_err(|error| unreadable(vms, io::Error::other(error)))?;
    let files = machine::folder_of(vms, &id);
    let machine = MachineFile::load(&files).map_err(|error| unreadable(files.folder(), error))?;
    let machine = machine.filter(|machine| machine.made).ok_or_else(|| {
        ProviderError::failed(
            format!("the machine in {} was never finished", files.folder().display()),
            format!("rm -r {}, when you are sure that no goloo is at work on it", files.folder().display()),
        )
    })?;
    let address = |ssh_port: u16| Made::Local(Local::loopback(ssh_port));
    Ok(Adopted {
        resources: vec![(RESOURCE.to_owned(), files.folder().display().to_string())],
        made: machine.ssh_port.map(address),
        id: Some(id),
    })
}

fn unreadable(path: &Path, error: io::Error) -> ProviderError {
    ProviderError::caused(format!("{} can't be read", path.display()), "look at its permissions", error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::arch::Arch;

    fn machine(vms: &Path, name: &str, made: bool) -> String {
        let id = VmId::generate();
        let files = machine::folder_of(vms, &id);
        fs::create_dir_all(files.folder()).unwrap();
        let noted = MachineFile {
            schema: machine::SCHEMA,
            id: id.clone(),
            name: name.to_owned(),
            arch: Arch::host(),
            cpus: 1,
            memory_mib: 512,
            ports: Vec::new(),
            mounts: Vec::new(),
            firmware: None,
            ssh_port: Some(20_022),
            made,
            accel: None,
            process: None,
        };
        noted.save(&files).unwrap();
        id.to_string()
    }

    fn refusal(vms: &Path, name: &str, id: Option<&str>) -> (String, String) {
        match adopt(vms, &VmName::parse(name).unwrap(), id) {
            Err(ProviderError::Failed { what, hint, .. }) => (what, hint),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn of_two_machines_with_one_name_only_an_id_picks_one() {
        let folder = tempfile::tempdir().unwrap();
        let vms = folder.path();
        let (one, two) = (machine(vms, "twin", true), machine(vms, "twin", true));
        let (what, hint) = refusal(vms, "twin", None);
        assert!(what.starts_with("2 machines in ") && hint.contains("--id"), "{what}, {hint}");
        for id in [one, two] {
            // Whatever it was called: the record may get another name.
            let adopted = adopt(vms, &VmName::parse("other").unwrap(), Some(&id)).unwrap();
            assert_eq!(adopted.id.unwrap().as_str(), id);
            assert!(matches!(adopted.made, Some(Made::Local(local)) if local.ssh_port == 20_022));
        }
    }

    #[test]
    fn a_machine_that_was_never_finished_is_found_and_not_adopted() {
        let folder = tempfile::tempdir().unwrap();
        let vms = folder.path();
        let (half, empty) = (machine(vms, "half", false), VmId::generate().to_string());
        fs::create_dir(vms.join(&empty)).unwrap();
        let broken = machine(vms, "broken", true);
        fs::write(vms.join(&broken).join("machine.json"), "{").unwrap();
        fs::create_dir(vms.join("not-goloo-s")).unwrap();
        let strays = find(vms, &[]).unwrap();
        let mut found: Vec<_> = strays.iter().map(|stray| (stray.id.clone(), stray.state)).collect();
        let mut expected = vec![
            (half, LiveState::Stopped),
            (empty.clone(), LiveState::Stopped),
            (broken.clone(), LiveState::Unknown),
        ];
        found.sort_by(|a, b| a.0.cmp(&b.0));
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(found, expected);
        for (name, id, says) in [
            ("half", None, "was never finished"),
            ("empty", Some(empty.as_str()), "was never finished"),
            ("broken", Some(broken.as_str()), "can't be read"),
            ("nobody", None, "there is no machine \"nobody\""),
        ] {
            assert!(refusal(vms, name, id).0.contains(says), "{name}");
        }
    }
}
