//! This computer: images, settings, checks, and configs of goloo v0.

use goloo::migrate::{Migrated, Skipped};
use goloo::settings::Shown;
use goloo_images::{ImageEntry, ListedImage};
use goloo_model::check::Check;
use goloo_model::provider_id::ProviderId;
use goloo_model::spec;
use goloo_model::time::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::error::{Diagnostic, problems};
use crate::output::hint;

/// The cached images.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ImageList<'a> {
    images: Vec<Image<'a>>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Image<'a> {
    name: &'a str,
    arch: String,
    origin: &'a str,
    sha256: &'a str,
    /// The size of its file in bytes
    bytes: u64,
    /// The size of its disk in bytes
    virtual_size: u64,
    taken_at: Timestamp,
    /// Whether a VM uses it
    in_use: bool,
    /// What is known of a baked image; null for others
    baked: Option<CachedBake<'a>>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct CachedBake<'a> {
    /// The stack that it was made of
    stack: &'a str,
    /// When a VM was last made from it; null if none was
    last_used: Option<Timestamp>,
    /// Whether a new VM of the stack can't be made from it, since the stack has changed; null if that can't be told
    stack_changed: Option<bool>,
}

impl<'a> ImageList<'a> {
    /// `changed` tells whether the stack of a baked image has changed.
    pub fn of(images: &'a [ListedImage], changed: impl Fn(&ImageEntry) -> Option<bool>) -> Self {
        let baked = |entry: &'a ImageEntry, last_used| {
            let stack = entry.baked_stack()?;
            Some(CachedBake { stack, last_used, stack_changed: changed(entry) })
        };
        let image = |ListedImage { entry, in_use, last_used }: &'a ListedImage| Image {
            baked: baked(entry, *last_used),
            name: &entry.name,
            arch: entry.arch.as_str().to_owned(),
            origin: entry.origin.as_str(),
            sha256: &entry.sha256,
            bytes: entry.bytes,
            virtual_size: entry.virtual_size,
            taken_at: entry.taken_at,
            in_use: *in_use,
        };
        Self { images: images.iter().map(image).collect() }
    }
}

/// The effective value of each setting.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SettingList<'a> {
    settings: Vec<Setting<'a>>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Setting<'a> {
    key: &'a str,
    value: &'a Value,
    /// An environment variable, "file" or "default"
    from: String,
}

impl<'a> From<&'a [Shown]> for SettingList<'a> {
    fn from(shown: &'a [Shown]) -> Self {
        let setting =
            |one: &'a Shown| Setting { key: one.key, value: &one.value, from: one.from.to_string() };
        Self { settings: shown.iter().map(setting).collect() }
    }
}

/// The results of all checks.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Diagnosis<'a> {
    findings: Vec<CheckResult<'a>>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct CheckResult<'a> {
    /// False if something has to be fixed
    ok: bool,
    /// "good", "absent" (it isn't there, and isn't needed), "notice" (worth knowing) or "wrong"
    level: &'static str,
    /// What was found
    what: &'a str,
    /// What to do; may be empty when ok
    hint: String,
}

impl<'a> From<&'a [Check]> for Diagnosis<'a> {
    fn from(findings: &'a [Check]) -> Self {
        let check = |check: &'a Check| CheckResult {
            ok: check.is_ok(),
            level: check.level.as_str(),
            what: &check.what,
            hint: hint::text(&check.hint),
        };
        Self { findings: findings.iter().map(check).collect() }
    }
}

/// VMs of goloo v0 that were imported.
#[derive(Debug, Serialize, JsonSchema)]
pub struct MigrationReport<'a> {
    migrated: Vec<ImportedVm<'a>>,
    skipped: Vec<SkippedVm<'a>>,
    problems: Vec<Diagnostic<'a>>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ImportedVm<'a> {
    name: &'a str,
    provider: ProviderId,
    /// The path of the config
    from: &'a str,
    /// Whether its provider confirmed that the machine exists
    checked: bool,
    live: &'a str,
    /// Why it was not checked
    reason: Option<&'a str>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct SkippedVm<'a> {
    from: &'a str,
    reason: &'a str,
}

impl<'a> MigrationReport<'a> {
    pub fn new(migrated: &'a [Migrated], skipped: &'a [Skipped], found: &'a [spec::Diagnostic]) -> Self {
        let imported = |migrated: &'a Migrated| ImportedVm {
            name: migrated.record.name.as_str(),
            provider: migrated.record.provider,
            from: migrated.from(),
            checked: migrated.unchecked().is_none(),
            live: migrated.live.state.as_str(),
            reason: migrated.unchecked(),
        };
        let skip = |Skipped { from, reason }: &'a Skipped| SkippedVm { from, reason };
        Self {
            migrated: migrated.iter().map(imported).collect(),
            skipped: skipped.iter().map(skip).collect(),
            problems: problems(found),
        }
    }
}
