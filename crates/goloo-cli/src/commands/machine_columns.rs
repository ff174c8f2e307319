//! What a machine was given, as columns of `goloo list -v`.

use goloo_model::provider_info::{ImageKey, MachinePlace, ProviderInfo};
use goloo_model::record::{Record, RecordedMount, RecordedStack};

use crate::output::{Column, bytes, forwards};
use crate::providers;

pub const COLUMNS: [Column; 7] = [
    Column::whole("CPUS", 3).figure(),
    Column::whole("MEMORY", 3).figure(),
    Column::whole("DISK", 3).figure(),
    Column::text("IMAGE", 1),
    Column::text("PORTS", 1),
    Column::text("MOUNTS", 0),
    Column::text("OVERRIDES", 0),
];

/// The cells of a VM; empty for one that has no record, or an old one.
pub fn cells(record: Option<&Record>) -> [String; 7] {
    let Some(record) = record else { return Default::default() };
    let of_stack = |text: fn(&Record, &RecordedStack) -> String| {
        record.resolved.as_deref().map_or_else(String::new, |stack| text(record, stack))
    };
    [
        of_stack(|_, stack| stack.cpus.to_string()),
        of_stack(|_, stack| bytes(stack.memory)),
        of_stack(|_, stack| bytes(stack.disk)),
        of_stack(image),
        of_stack(|record, stack| ports(record, stack).join(", ")),
        of_stack(|record, stack| mounts(record, stack).join(", ")),
        overrides(record),
    ]
}

/// The image, by the key of config.json that its provider reads.
pub fn image(record: &Record, stack: &RecordedStack) -> String {
    match providers::all().info(record.provider).map_or(ImageKey::Image, |info| info.image_key) {
        ImageKey::Os => stack.os.to_string(),
        ImageKey::Image => stack.image.to_string(),
    }
}

/// The forwarded or open ports.
pub fn ports(record: &Record, stack: &RecordedStack) -> Vec<String> {
    let info = providers::all().info(record.provider);
    forwards::of_vm(record, stack, info.is_some_and(|info| info.place == MachinePlace::Loopback))
}

/// The mounted folders. Machines elsewhere have none, whatever their stack says.
pub fn mounts(record: &Record, stack: &RecordedStack) -> Vec<String> {
    let mount = |mount: &RecordedMount| {
        let readonly = if mount.readonly { ", read-only" } else { "" };
        format!("{} at {}{readonly}", mount.source, mount.target)
    };
    let has_mounts = providers::all().info(record.provider).is_none_or(ProviderInfo::is_host_bound);
    stack.mounts.iter().filter(|_| has_mounts).map(mount).collect()
}

/// What `goloo set` changed for this VM.
pub fn overrides(record: &Record) -> String {
    let overrides = record.overrides.iter().map(|(key, value)| format!("{key}={value}"));
    overrides.collect::<Vec<_>>().join(", ")
}
