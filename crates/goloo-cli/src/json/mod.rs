//! What `--json` prints: a type for each document, with its schema in `docs/reference/json/`. Fields are only added.
//!
//! The types borrow from the library's results. None can contain a private key, which is not serializable.

mod apply;
mod bake;
mod disks;
mod dns;
mod environment;
mod error;
mod machine;
mod refresh;
mod stacks;
mod store;
mod vm;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde::Serialize;

pub use apply::{AppliedChanges, ApplyPlanned};
pub use bake::{BakedImageShown, KeptImageList};
pub use disks::{DeletedSnapshot, Exported, Restored, SnapshotList, TakenSnapshot};
pub use dns::{DnsChanged, DnsNames};
pub use environment::{BroughtUp, EnvironmentPlanned, TakenDown};
pub use error::ErrorReport;
pub use machine::{Diagnosis, ImageList, MigrationReport, SettingList};
pub use refresh::Refreshed;
pub use stacks::{StackChanges, StackList, StackProblems};
pub use store::{LockList, StoreShown};
pub use vm::{
    ArchiveList, ArchivedRecord, ChangedVm, ChangedVms, CreatePlanned, Deleted, History, RenamedVm, Resumed,
    VmDetails, VmFailure, VmList,
};

// A document as it is printed. Doc comments of these types are the descriptions in the schemas.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Printed<'d, T> {
    /// The version of the format
    #[schemars(extend("const" = 1))]
    schema: u32,
    #[serde(flatten)]
    body: &'d T,
}

impl<'d, T> Printed<'d, T> {
    /// Adds the version.
    pub fn new(body: &'d T) -> Self {
        Self { schema: 1, body }
    }
}

/// The schema of the JSON output of some commands.
#[derive(Debug)]
pub struct OutputSchema {
    /// The name of its file, without `.schema.json`.
    pub name: &'static str,
    /// The commands, without `goloo` and `--json`.
    pub commands: &'static [&'static str],
    /// The schema.
    pub schema: Schema,
}

fn of<T: JsonSchema + 'static>(name: &'static str, commands: &'static [&'static str]) -> OutputSchema {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = generator.into_root_schema_for::<Printed<'static, T>>();
    schema.insert("title".to_owned(), format!("JSON output of {}", listed(commands)).into());
    OutputSchema { name, commands, schema }
}

fn listed(commands: &[&str]) -> String {
    commands.iter().map(|command| format!("goloo {command}")).collect::<Vec<_>>().join(", ")
}

/// The schemas of all JSON output, in the order of the reference.
pub fn schemas() -> Vec<OutputSchema> {
    vec![
        of::<ChangedVm>(
            "vm",
            &[
                "create",
                "recreate",
                "start",
                "stop",
                "restart",
                "wait",
                "clone",
                "import",
                "adopt",
                "protect",
                "unprotect",
                "autostart",
                "tag",
                "resume (of a create, clone or import)",
            ],
        ),
        of::<ChangedVms>(
            "vms",
            &[
                "create A B",
                "start A B",
                "autostart --start",
                "stop A B",
                "restart A B",
                "start --all",
                "stop --all",
                "restart --all",
            ],
        ),
        of::<CreatePlanned>("create-plan", &["create --dry-run", "recreate --dry-run"]),
        of::<EnvironmentPlanned>("up-plan", &["up --dry-run"]),
        of::<BroughtUp>("up", &["up"]),
        of::<TakenDown>("down", &["down"]),
        of::<ApplyPlanned>("apply-plan", &["apply --dry-run"]),
        of::<AppliedChanges>("apply", &["apply", "set", "resume (of an apply)"]),
        of::<Exported>("export", &["export"]),
        of::<RenamedVm>("rename", &["rename", "resume (of a rename)"]),
        of::<BakedImageShown>("bake", &["bake", "resume (of a bake)"]),
        of::<Resumed>("resume", &["resume"]),
        of::<Deleted>("delete", &["delete"]),
        of::<VmList>("list", &["list"]),
        of::<VmDetails>("status", &["status"]),
        of::<History>("history", &["history"]),
        of::<Refreshed>("refresh", &["refresh"]),
        of::<StackChanges>("diff", &["diff"]),
        of::<TakenSnapshot>("snapshot", &["snapshot"]),
        of::<SnapshotList>("snapshot-list", &["snapshot --list"]),
        of::<DeletedSnapshot>("snapshot-delete", &["snapshot --delete"]),
        of::<Restored>("restore", &["restore"]),
        of::<DnsNames>("dns-show", &["dns show"]),
        of::<DnsChanged>("dns-change", &["dns swap", "dns rollback", "resume (of a move of DNS names)"]),
        of::<ArchiveList>("archive-list", &["archive list"]),
        of::<ArchivedRecord>("archive-show", &["archive show"]),
        of::<StackList>("config-list", &["config list"]),
        of::<StackProblems>("config-validate", &["config validate"]),
        of::<StoreShown>("state-show", &["state show"]),
        of::<LockList>("state-locks", &["state locks"]),
        of::<SettingList>("settings-show", &["settings show"]),
        of::<ImageList>("image-list", &["image list"]),
        of::<KeptImageList>("image-list-kept", &["image list --aws", "image list --provider P"]),
        of::<MigrationReport>("migrate", &["migrate"]),
        of::<Diagnosis>("doctor", &["doctor"]),
        of::<ErrorReport>("error", &["COMMAND that fails"]),
    ]
}

#[cfg(test)]
mod tests {
    use goloo_engine::DnsReport;
    use goloo_model::dns::{DnsChange, Holder, NameStatus, Previous, RecordSet, VmRef};
    use goloo_model::name::VmId;
    use goloo_model::provider::{LiveState, Observation};
    use goloo_testkit::samples::{name, time};
    use serde_json::{Value, json};

    use super::*;

    fn printed(body: &(impl Serialize + JsonSchema)) -> Value {
        serde_json::to_value(Printed::new(body)).expect("it has only string keys")
    }

    fn assert_valid(schema: &str, document: &Value) {
        let schemas = schemas();
        let output = schemas.iter().find(|output| output.name == schema).expect("the schema is known");
        let result = jsonschema::draft202012::validate(&output.schema.clone().to_value(), document);
        assert!(result.is_ok(), "{result:?}\n{document:#}");
    }

    fn record(value: &str) -> RecordSet {
        RecordSet { name: "web.example.com".into(), kind: "A".into(), values: vec![value.into()], ttl: 60 }
    }

    #[test]
    fn dns_names_are_printed_with_their_owners() {
        let of_other = Holder::Vm(name("db"));
        let report = DnsReport {
            names: vec![NameStatus {
                name: "web.example.com".to_owned(),
                live: vec![(record("198.51.100.7"), Holder::This), (record("198.51.100.8"), of_other)],
                withdrawn: false,
            }],
            previous: Some(Previous {
                vm: None,
                at: time("2025-01-15T10:30:00Z"),
                records: vec![record("198.51.100.9")],
                foreign: Vec::new(),
            }),
            live: Observation::of(LiveState::Running),
        };
        let document = printed(&DnsNames::from(&report));
        let owners = json!([
            {"type": "A", "ttl": 60, "values": ["198.51.100.7"], "whose": "this", "vm": null},
            {"type": "A", "ttl": 60, "values": ["198.51.100.8"], "whose": "vm", "vm": "db"},
        ]);
        assert_eq!(document["names"][0]["live"], owners);
        assert_eq!((&document["schema"], &document["previous"]["vm"]), (&json!(1), &Value::Null));
        assert_valid("dns-show", &document);
    }

    #[test]
    fn moved_dns_names_are_printed_with_both_vms() {
        let change = DnsChange {
            zone: "Z1".to_owned(),
            taker: Some(VmRef { name: name("web"), id: VmId::generate() }),
            giver: None,
            before: Vec::new(),
            taken: Vec::new(),
            foreign: Vec::new(),
            give: vec![record("198.51.100.7")],
            restore: Vec::new(),
            force: false,
        };
        let document = printed(&DnsChanged::from(&change));
        assert_eq!((&document["to"], &document["from"]), (&json!("web"), &Value::Null));
        assert_valid("dns-change", &document);
    }
}
