//! Which VMs a command means where none is named.

use std::path::Path;

use goloo_model::name::VmName;
use goloo_model::record::{LocalContext, Record};
use goloo_model::store::Summary;

use crate::error::Error;
use crate::session::Session;
use crate::stack::absolute;

/// The VM that a command means where none is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DefaultVm {
    /// The only VM that was created from the stack in this folder.
    OfFolder(VmName),
    /// The only VM in the store.
    Only(VmName),
    /// There are no VMs.
    None,
    /// There are several: their names.
    Several(Vec<VmName>),
}

impl Session {
    /// The VM that a command in `folder` means where none is named. Nothing is written.
    ///
    /// # Errors
    /// Errors of the store.
    pub fn default_vm(&self, folder: &Path) -> Result<DefaultVm, Error> {
        let listing = self.local(self.store.list())?;
        // A VM whose record can't be read may be the one that is meant.
        Ok(choose(&listing.entries, listing.broken.is_empty(), &absolute(folder)))
    }

    /// The names of the VMs whose machines are on this computer and belong to this state folder, in the order of the
    /// store.
    ///
    /// # Errors
    /// Errors of the store.
    pub fn vms_here(&self) -> Result<Vec<VmName>, Error> {
        Ok(self.records_here(&self.here())?.map(|record| record.name).collect())
    }

    /// The records of those VMs.
    pub(super) fn records_here(&self, here: &LocalContext) -> Result<impl Iterator<Item = Record>, Error> {
        let records = self.local(self.store.records())?.entries.into_iter().map(|loaded| loaded.record);
        Ok(records.filter(|record| record.host_bound && record.elsewhere(here).is_none()))
    }
}

fn choose(vms: &[Summary], are_all_known: bool, folder: &Path) -> DefaultVm {
    let mut of_folder = vms.iter().filter(|vm| vm.source_config_path.as_deref() == Some(folder));
    if let (Some(vm), None) = (of_folder.next(), of_folder.next()) {
        return DefaultVm::OfFolder(vm.name.clone());
    }
    match vms {
        [] if are_all_known => DefaultVm::None,
        [vm] if are_all_known => DefaultVm::Only(vm.name.clone()),
        _ => DefaultVm::Several(vms.iter().map(|vm| vm.name.clone()).collect()),
    }
}

#[cfg(test)]
mod tests {
    use goloo_testkit::samples::{creating, name};

    use super::*;

    fn vm(called: &str, folder: &str) -> Summary {
        Summary { source_config_path: Some(folder.into()), ..Summary::from(&creating(&name(called))) }
    }

    #[test]
    fn the_only_vm_of_the_folder_comes_before_the_only_vm() {
        let (web, db, two) = (vm("web", "/s/web"), vm("db", "/s/db"), vm("web2", "/s/web"));
        let chosen = |vms: &[&Summary], are_all_known: bool, folder: &str| {
            let vms: Vec<_> = vms.iter().map(|vm| (*vm).clone()).collect();
            choose(&vms, are_all_known, Path::new(folder))
        };
        assert_eq!(chosen(&[], true, "/s/web"), DefaultVm::None);
        assert_eq!(chosen(&[&web], true, "/elsewhere"), DefaultVm::Only(name("web")));
        assert_eq!(chosen(&[&web, &db], true, "/s/db"), DefaultVm::OfFolder(name("db")));
        assert_eq!(chosen(&[&web, &db], true, "/s"), DefaultVm::Several(vec![name("web"), name("db")]));
        assert_eq!(
            chosen(&[&web, &two], true, "/s/web"),
            DefaultVm::Several(vec![name("web"), name("web2")])
        );
        // The VM that is meant may be the one whose record is broken.
        assert_eq!(chosen(&[&web], false, "/elsewhere"), DefaultVm::Several(vec![name("web")]));
        assert_eq!(chosen(&[], false, "/s"), DefaultVm::Several(Vec::new()));
    }
}
