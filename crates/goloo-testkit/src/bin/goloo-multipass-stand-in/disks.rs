//! Commands on instances' disks: `delete`, `recover`, `purge`, `snapshot`, `restore`, `clone`.

use std::process::exit;

use serde_json::json;

use crate::daemon::now;
use crate::launch::is_name;
use crate::{COMMAND_LINE, Call, errors, exception, fail, spin};

impl Call<'_> {
    pub(crate) fn delete(&self) {
        let (what, purge) = (self.line.word(0), self.line.has("--purge"));
        let (name, label) = what.split_once('.').map_or((what, None), |(name, label)| (name, Some(label)));
        let mut world = self.daemon.world();
        if world.state(name).is_none() {
            errors("delete", &format!("instance \"{name}\" does not exist"));
        }
        match (label, purge) {
            (None, true) => world.purge(name),
            (None, false) => {
                world.touch("delete", name);
                let instance = world.instances.get_mut(name).unwrap();
                instance["deleted"] = json!(true);
                world.power_off(name, "Stopped");
            }
            (Some(label), true) => {
                world.touch("delete a snapshot of", name);
                let snapshots = world.instances.get_mut(name).unwrap()["snapshots"].as_array_mut().unwrap();
                let count = snapshots.len();
                snapshots.retain(|snapshot| snapshot["label"] != label);
                if snapshots.len() == count {
                    fail("delete", &format!("No such snapshot: {name}.{label}"), "");
                }
                world.save();
            }
            (Some(_), false) => exception(
                "Snapshots can only be purged (after deletion, they cannot be recovered). Unable to query client for \
                    confirmation. Please use the `--purge` flag if that is what you want.",
            ),
        }
    }

    pub(crate) fn recover(&self) {
        let name = self.line.word(0);
        let mut world = self.daemon.world();
        if world.state(name).is_none() {
            errors("recover", &format!("instance \"{name}\" does not exist"));
        }
        world.touch("recover", name);
        world.instances.get_mut(name).unwrap()["deleted"] = json!(false);
        world.save();
    }

    /// Empties the trash of all users.
    pub(crate) fn purge(&self) {
        self.daemon.append("violations", "purge of everybody's trash");
        let mut world = self.daemon.world();
        world.instances.retain(|_, instance| instance["deleted"] != true);
        world.save();
    }

    pub(crate) fn snapshot(&self) {
        let name = self.line.word(0);
        spin("Taking snapshot");
        let (mut world, state) = self.single(name);
        if state != "Stopped" {
            fail("snapshot", "Multipass can only take snapshots of stopped instances.", "");
        }
        let label = self.line.option("--name").unwrap_or("snapshot1");
        if !is_name(label) {
            fail("snapshot", &format!("Invalid snapshot name: \"{label}\"."), "");
        }
        world.touch("snapshot", name);
        let snapshots = world.instances.get_mut(name).unwrap()["snapshots"].as_array_mut().unwrap();
        if snapshots.iter().any(|snapshot| snapshot["label"] == label) {
            fail("snapshot", &format!("Snapshot already exists: {name}.{label}"), "");
        }
        let parent = snapshots.last().map_or(json!(""), |last| last["label"].clone());
        // Later snapshots are a second apart, without tests having to wait.
        let created = now() + i64::try_from(snapshots.len()).unwrap();
        snapshots.push(json!({"label": label, "parent": parent, "created": created}));
        world.save();
        println!("Snapshot taken: {name}.{label}");
    }

    pub(crate) fn restore(&self) {
        let what = self.line.word(0);
        let (name, label) = what.split_once('.').unwrap_or_else(|| {
            eprintln!("Invalid format. Please specify the instance to restore and snapshot to use in the form <instance>.<snapshot>.");
            exit(COMMAND_LINE)
        });
        let (world, state) = self.single(name);
        let snapshots = world.instances[name]["snapshots"].as_array().unwrap();
        if !snapshots.iter().any(|snapshot| snapshot["label"] == label) {
            fail("restore", &format!("No such snapshot: {name}.{label}"), "");
        }
        if state != "Stopped" {
            fail("restore", "Multipass can only restore snapshots of stopped instances.", "");
        }
        if !self.line.has("--destructive") {
            exception(
                "Unable to query client for confirmation. Use '--destructive' to automatically discard current machine state.",
            );
        }
        spin("Restoring snapshot");
        if world.instances[name]["mountsKnown"] != true {
            self.daemon.die(&format!("restore of {name}, whose mounts it has no table of"));
            fail("restore", "cannot connect to the multipass socket", "");
        }
        world.touch("restore", name);
        println!("Snapshot restored: {name}.{label}");
    }

    pub(crate) fn clone_instance(&self) {
        let name = self.line.word(0);
        spin(&format!("Cloning {name}"));
        let (mut world, state) = self.single(name);
        if state != "Stopped" {
            fail("clone", "Multipass can only clone stopped instances.", "");
        }
        let copy = self.line.option("--name").unwrap_or("clone1");
        if world.instances.contains_key(copy) {
            fail("clone", &format!("instance \"{copy}\" already exists"), "");
        }
        world.copy(name, copy);
        if self.fault("client-dies") {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
        }
        println!("Cloned from {name} to {copy}.");
    }
}
