//! VMs and models for the tests.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use goloo::actions::{WatchUpdate, WatchedMachine, WatchedVm};
use goloo_model::provider::{LiveState, Observation};
use goloo_model::provider_id::ProviderId;
use goloo_model::record::{Extra, Membership, Record};
use goloo_model::usage::MachineUsage;
use goloo_testkit::samples::{name, ready};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::keys;
use super::model::{Effect, Message, Model};

pub const GIB: u64 = 1 << 30;

pub fn vm(record: Record) -> WatchedVm {
    WatchedVm { record: Arc::new(record), elsewhere: None, operation: None }
}

/// A VM of QEMU with 2 GiB of memory and 20 GiB of disk.
pub fn record(text: &str) -> Record {
    let stack =
        serde_json::json!({"cpus": 2, "memory": 2 * GIB, "disk": 20 * GIB, "image": "debian-12", "os": ""});
    Record { resolved: Some(serde_json::from_value(stack).unwrap()), ..ready(&name(text)) }
}

/// A VM of a machine of an environment.
pub fn member(text: &str, environment: &str, machine: &str) -> Record {
    let membership = Membership {
        environment: name(environment),
        machine: name(machine),
        number: None,
        network: None,
        environment_id: None,
        extra: Extra::new(),
    };
    Record { membership: Some(membership), ..record(text) }
}

pub fn machine(vm: &WatchedVm, state: LiveState) -> WatchedMachine {
    let is_running = state == LiveState::Running;
    WatchedMachine {
        vm: vm.record.id.clone(),
        live: Observation::of(state),
        usage: MachineUsage {
            cpu: None,
            memory: is_running.then_some(GIB / 2),
            disk: (state != LiveState::Missing).then_some(3 * GIB),
        },
        cpus: is_running.then_some(0.5),
    }
}

/// A model with these VMs, and their states where they are known.
pub fn model(vms: Vec<(WatchedVm, Option<WatchedMachine>)>) -> (Model, Instant) {
    let now = Instant::now();
    let mut model = Model::new(now);
    let (vms, machines): (Vec<_>, Vec<_>) = vms.into_iter().unzip();
    model.receive(Message::Watch(WatchUpdate::Listed { vms, broken: 0 }), now);
    observe(&mut model, machines.into_iter().flatten().collect());
    model.set_page(10);
    (model, now)
}

pub fn observe(model: &mut Model, machines: Vec<WatchedMachine>) {
    let provider = ProviderId::known("qemu");
    model.receive(Message::Watch(WatchUpdate::Observed { provider, machines }), Instant::now());
}

/// Running VMs of these names.
pub fn running(names: &[&str]) -> Vec<(WatchedVm, Option<WatchedMachine>)> {
    let running = |text: &&str| {
        let vm = vm(record(text));
        let machine = machine(&vm, LiveState::Running);
        (vm, Some(machine))
    };
    names.iter().map(running).collect()
}

/// `vm-000` and so on; every third is stopped.
pub fn many(count: usize) -> Vec<(WatchedVm, Option<WatchedMachine>)> {
    let each = |number: usize| {
        let vm = vm(record(&format!("vm-{number:03}")));
        let state = if number.is_multiple_of(3) { LiveState::Stopped } else { LiveState::Running };
        let machine = WatchedMachine { cpus: Some(number as f64 / 100.0), ..machine(&vm, state) };
        (vm, Some(machine))
    };
    (0..count).map(each).collect()
}

/// Types keys; returns the last one's effect. `\n` is Enter and `\u{1b}` Esc.
pub fn press(model: &mut Model, keys: &str, now: Instant) -> Option<Effect> {
    let code = |character| match character {
        '\n' => KeyCode::Enter,
        '\u{1b}' => KeyCode::Esc,
        character => KeyCode::Char(character),
    };
    let mut effect = None;
    for character in keys.chars() {
        let key = KeyEvent::new(code(character), KeyModifiers::NONE);
        effect = keys::action(model.key_context(), &key).and_then(|action| model.act(action, now));
    }
    effect
}

pub fn selected(model: &Model) -> String {
    model.selected().map(|row| row.vm.record.name.to_string()).unwrap_or_default()
}

pub fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
