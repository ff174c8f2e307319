//! `start`, `stop`, `suspend`.

use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use crate::launch::never_up;
use crate::{Call, errors, fail, spin};

impl Call<'_> {
    pub(crate) fn start(&self, name: &str) {
        spin(&format!("Starting {name}"));
        {
            let mut world = self.daemon.world();
            match world.state(name).as_deref() {
                None if name == "primary" => {
                    world.launch(name, json!({"image": "lts", "cpus": "1", "userData": ""}));
                }
                None => fail("start", "instance(s) missing", &format!("Instance '{name}' does not exist.")),
                Some("Deleted") => {
                    let use_ = "Use 'recover' to recover it or 'purge' to permanently delete it.";
                    fail("start", "instance(s) missing", &format!("Instance '{name}' is deleted. {use_}"));
                }
                Some("Unknown") => errors(
                    "start",
                    &format!(
                        "Instance '{name}' is already running, but in an unknown state.\nTry to stop it first."
                    ),
                ),
                Some("Running") => return,
                Some("Starting") => {}
                Some(_) => {
                    world.touch("start", name);
                    world.start(name);
                }
            }
        }
        for () in self.moments() {
            let mut world = self.daemon.world();
            match (world.state(name).as_deref(), world.failure(name)) {
                (Some("Running"), _) => return world.know_mounts(name),
                (Some("Unknown"), Some(failure)) => errors("start", &never_up(name, failure)),
                (Some("Starting"), Some(_)) => {
                    errors("start", "timed out waiting for initialization to complete")
                }
                (Some("Starting" | "Unknown"), None) => {}
                (None, _) if world.is_preparing(name) => {}
                // Another client has powered it off or purged it.
                _ => errors("start", &never_up(name, "ends-while-starting")),
            }
        }
    }

    pub(crate) fn stop(&self) {
        let (name, force) = (self.line.word(0), self.line.has("--force"));
        spin(&format!("Stopping {name}"));
        let (mut world, state) = self.operative(name);
        let refused = |why: &str| fail("stop", why, "Use --force to power it off.");
        match state.as_str() {
            "Stopped" => return,
            "Suspended" if !force => refused(&format!("Cannot shut down suspended instance {name}.")),
            "Starting" if !force => refused(&format!("Cannot shut down instance {name} while starting.")),
            _ => {}
        }
        world.touch("stop", name);
        if !force {
            world.know_mounts(name);
        }
        if !force && (self.fault("deaf") || self.daemon.is_frozen(name)) {
            let limit = self.daemon.wait_for_power_off(name);
            drop(world);
            sleep(Duration::from_millis(limit));
            let why =
                format!("The QEMU process did not finish within {limit} milliseconds after being shutdown");
            fail("stop", &why, "");
        }
        world.power_off(name, "Stopped");
    }

    pub(crate) fn suspend(&self) {
        let name = self.line.word(0);
        spin(&format!("Suspending {name}"));
        let (mut world, state) = self.operative(name);
        world.touch("suspend", name);
        if state == "Running" {
            world.power_off(name, "Suspended");
        }
    }
}
