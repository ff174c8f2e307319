//! Names: a VM's name is goloo's, a machine keeps the one that its provider knows it by.

use super::Record;
use super::name_change::NameChange;
use crate::name::VmName;

impl Record {
    /// The name that the provider knows the machine by.
    pub fn machine_name(&self) -> &VmName {
        self.machine_name.as_ref().unwrap_or(&self.name)
    }

    /// The name that the machine calls itself: that of the VM that it is to replace, or its own.
    pub fn guest_name(&self) -> &VmName {
        self.replacing.as_ref().map_or(&self.name, |replacing| &replacing.name)
    }

    /// Sets the name that the provider knows the machine by.
    pub fn set_machine_name(&mut self, name: VmName) {
        self.machine_name = (name != self.name).then_some(name);
    }

    /// The record of the same VM under another name. Its machine keeps the name that it has.
    pub fn with_name(&self, name: &VmName) -> Self {
        let machine_name = self.machine_name().clone();
        let mut renamed = Self { name: name.clone(), ..self.clone() };
        renamed.set_machine_name(machine_name);
        renamed
    }

    /// The unfinished change of its name, if there is one.
    pub fn name_change(&self) -> Option<&NameChange> {
        let operation = self.operation.as_ref().filter(|operation| operation.kind.renames())?;
        operation.rename.as_ref()
    }

    /// The name under which the VM may still be stored too, because the change to this one isn't finished.
    pub fn renamed_from(&self) -> Option<&VmName> {
        self.name_change().map(|change| &change.from).filter(|from| **from != self.name)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::record::{from_json, to_json};

    fn name(text: &str) -> VmName {
        VmName::parse(text).unwrap()
    }

    fn web() -> Record {
        let id = "01JHN3W1T3K9Q2Z8F6B4C7D5E0";
        let json = serde_json::json!({
            "schema": 2, "id": id, "serial": 1, "name": "web", "stack": "web", "provider": "qemu",
            "phase": "ready", "createdAt": "2025-01-15T10:30:00Z", "updatedAt": "2025-01-15T10:30:00Z",
            "createdBy": {"user": "ann", "host": "laptop", "hostId": "h", "goloo": "0.1.0"}, "operation": null,
        });
        from_json(json.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_machine_keeps_its_name_through_any_number_of_renames() {
        let record = web();
        assert_eq!((record.machine_name(), &record.machine_name), (&name("web"), &None));
        let twice = record.with_name(&name("shop")).with_name(&name("store"));
        assert_eq!((&twice.name, twice.machine_name()), (&name("store"), &name("web")));
        assert_eq!(from_json(&to_json(&twice)).unwrap(), twice);
        assert_eq!(twice.with_name(&name("web")), record);
    }
}
